import numpy as np
import pytest
import torch
from torch.nn import functional as F

from feeders import Target
from model.loss import build_loss
from model.loss.weights import action_aware

UCLA_LT = [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
WEIGHTS = [0.222, 0.316, 0.426, 0.548, 0.711, 0.907, 1.146, 1.478, 1.939, 2.307]  # BRL on NW-UCLA-LT


def batch(N=16, K=10):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, K, generator=generator),
        torch.randint(K, (2, N), generator=generator),
        torch.rand(N, generator=generator),
    )


def test_action_aware_weights_of_nw_ucla_lt():
    np.testing.assert_allclose(action_aware(UCLA_LT), WEIGHTS, atol=5e-4)
    np.testing.assert_allclose(action_aware(UCLA_LT[::-1]), WEIGHTS[::-1], atol=5e-4)


def test_action_aware_weights_of_equal_counts_are_one():
    assert action_aware([7, 7, 7]).tolist() == [1, 1, 1]


def test_a_class_without_clips_is_named():
    with pytest.raises(ValueError, match="class 1 has no training clips"):
        action_aware([3, 0, 5])


@pytest.mark.parametrize("name", ["cross-entropy", "action-aware"])
def test_plain_labels_as_torch_does(name):
    logits, (y, _), _ = batch()
    weight = None if name == "cross-entropy" else torch.tensor(action_aware(UCLA_LT), dtype=torch.float32)
    loss = build_loss(name, UCLA_LT)(logits, Target(y))
    torch.testing.assert_close(loss, F.cross_entropy(logits, y, weight))


def test_weights_do_not_change_from_call_to_call():
    """The released loss alternates between its weights and uniform ones."""
    logits, (y, _), _ = batch()
    loss = build_loss("action-aware", UCLA_LT)
    first = loss(logits, Target(y))
    assert all(torch.equal(loss(logits, Target(y)), first) for _ in range(3))


def test_mixed_labels_clip_by_clip():
    logits, (y, other), share = batch()
    w = torch.tensor(action_aware(UCLA_LT), dtype=torch.float32)
    total = norm = 0
    for n in range(16):
        for label, part in ((y[n], share[n]), (other[n], 1 - share[n])):
            total += part * w[label] * F.cross_entropy(logits[n : n + 1], label[None])
            norm += part * w[label]
    torch.testing.assert_close(build_loss("action-aware", UCLA_LT)(logits, Target(y, other, share)), total / norm)


def test_a_share_of_one_is_the_plain_label():
    logits, (y, other), share = batch()
    loss = build_loss("action-aware", UCLA_LT)
    torch.testing.assert_close(loss(logits, Target(y, other, torch.ones_like(share))), loss(logits, Target(y)))
    torch.testing.assert_close(loss(logits, Target(y, other, torch.zeros_like(share))), loss(logits, Target(other)))


def test_unknown_loss():
    with pytest.raises(ValueError, match="there are cross-entropy, action-aware"):
        build_loss("focus", UCLA_LT)
