import numpy as np
import torch

from feeders.balance import epoch_order, hold_out, reverse, tail_classes

UCLA_LT = [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]


def test_tail_is_decided_by_count_not_by_index():
    assert np.flatnonzero(tail_classes(np.array(UCLA_LT))).tolist() == [6, 7, 8, 9]
    assert np.flatnonzero(tail_classes(np.array(UCLA_LT[::-1]))).tolist() == [0, 1, 2, 3]
    assert np.flatnonzero(tail_classes(np.array([5, 1, 9]))).tolist() == [1]
    assert [tail_classes(np.arange(K)).sum() for K in (8, 10, 11)] == [4, 4, 5]  # K - 2 * (K // 3)
    assert tail_classes(np.arange(60)).sum() == 20 and np.flatnonzero(tail_classes(np.ones(6))).tolist() == [4, 5]


def test_reverse_sampling_of_nw_ucla_lt():
    label = np.repeat(np.arange(10), UCLA_LT)
    order = epoch_order(label, 10, "reverse", 5, torch.Generator().manual_seed(0))
    seen = np.bincount(label[order], minlength=10)
    # round(100 / n_c) = 5, 6, 8, 10 times for 21, 16, 12, 10 clips
    assert (seen / 5).tolist() == [100, 77, 59, 46, 35, 27, 105, 96, 96, 100]
    assert set(np.bincount(order)[label == 9]) == {50} and set(np.bincount(order)[label == 0]) == {5}


def test_reverse_sampling_of_ntu60_lt():
    count = [int(600 * 0.01 ** (c / 59)) for c in range(60)]
    label = np.repeat(np.arange(60), count)
    assert len(label) == 7892 and 19000 < reverse(np.array(count)).sum() < 20200


def test_class_balanced_and_square_root_sampling():
    label = np.repeat(np.arange(10), UCLA_LT)
    order = epoch_order(label, 10, "class-balanced", 1, torch.Generator().manual_seed(0))
    assert np.bincount(label[order]).tolist() == [40] * 10
    times = np.bincount(order, minlength=403)
    assert set(times[label == 0]) == {0, 1} and set(times[label == 9]) == {4}  # 40 of 100; 10 clips 4 times
    assert set(times[label == 7]) == {2, 3}  # 40 draws of 16 clips
    other = epoch_order(label, 10, "class-balanced", 1, torch.Generator().manual_seed(1))
    assert not np.array_equal(np.bincount(other, minlength=403), times)  # the remainder is drawn anew
    order = epoch_order(label, 10, "square-root", 5, torch.Generator().manual_seed(0))
    root = np.sqrt(UCLA_LT)
    np.testing.assert_allclose(np.bincount(label[order]) / 5, 403 * root / root.sum(), atol=0.5)


def test_classes_without_clips_are_not_sampled():
    for sampler in ("uniform", "reverse", "class-balanced", "square-root"):
        order = epoch_order(np.array([0, 0, 2]), 4, sampler, 2, torch.Generator().manual_seed(0))
        assert set(order.tolist()) == {0, 1, 2}


def test_uniform_order_is_shuffled_and_counted():
    label = np.zeros(50, dtype=int)
    one, same = (epoch_order(label, 1, "uniform", 2, torch.Generator().manual_seed(1)) for _ in range(2))
    other = epoch_order(label, 1, "uniform", 2, torch.Generator().manual_seed(2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert np.bincount(one).tolist() == [2] * 50


def test_hold_out_leaves_every_class_a_clip_on_either_side():
    label = np.repeat([0, 1, 2, 3], [40, 10, 2, 1])
    rest, held = hold_out(label, 0.1, torch.Generator().manual_seed(0))
    assert sorted([*rest, *held]) == list(range(53))
    assert np.bincount(label[held], minlength=4).tolist() == [4, 1, 1, 0]
