import json

import numpy as np
import pytest
import torch

from feeders import TRANSFORMS, Feeder, StoreWriter, TrainBatches, build_feeder
from feeders.mixing import RebalancedPartial

TEST = [{"center": {"joint": 1}}, "min_max", {"linspace_frames": {"length": 52}}]
TRAIN = [
    "center", "view_rotation", {"random_scale": {"low": 0.5, "high": 1.5, "per_axis": False}}, "min_max",
    {"random_frames": {"length": 52}},
]  # fmt: skip


def test_the_releases_test_input(reference, tmp_path):
    """CTR-GCN's NW-UCLA feeder, four clips, four modalities."""
    golden = np.load(reference("golden/ucla_test_input.npz"))
    names = sorted({key.split("/")[1] for key in golden})
    source = reference("datasets/nw-ucla/all_sqe")
    with StoreWriter(tmp_path / "x.h5", "ucla", ["any"], "test") as writer:
        for name in names:
            skeleton = json.loads((source / f"{name}.json").read_text())["skeletons"]
            writer.add(name, 0, np.asarray(skeleton, np.float32)[:, None], "test")
    for theirs, ours in (
        ("joint", "joint"),
        ("bone", "bone"),
        ("motion", "joint-motion"),
        ("bone_motion", "bone-motion"),
    ):
        x, _ = build_feeder(tmp_path / "x.h5", "test", ours, TEST).batch(range(len(names)))
        for i, name in enumerate(names):
            np.testing.assert_allclose(x[i], golden[f"{theirs}/{name}"], atol=1e-5)


def test_shapes_labels_and_names(tiny_store):
    feeder = build_feeder(tiny_store, split="test", modality="joint", transforms=TEST)
    x, y = feeder.batch([0, 1, 5], epoch=0, step=0)
    assert (
        x.shape == (3, 3, 52, 20, 1) and x.dtype == torch.float32 and y.tolist() == [0, 0, 2] and y.dtype == torch.int64
    )
    assert feeder.names[:2] == ["test_0_0", "test_0_1"] and len(feeder) == 8 and feeder.shape == (3, 52, 20, 1)
    assert build_feeder(tiny_store, "train", transforms=TEST).class_count.tolist() == [8, 4, 2, 1]
    assert torch.cat(list(feeder.batches(3))).shape == (8, 3, 52, 20, 1)


def test_a_batch_is_a_function_of_seed_epoch_and_step(tiny_store):
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN, seed=3)
    again = build_feeder(tiny_store, "train", transforms=TRAIN, seed=3)
    x = feeder.batch([0, 1, 2], epoch=4, step=5)[0]
    feeder.batch([3], epoch=9)
    assert torch.equal(x, feeder.batch([0, 1, 2], epoch=4, step=5)[0])
    assert torch.equal(x, again.batch([0, 1, 2], epoch=4, step=5)[0])
    for other in (feeder.batch([0, 1, 2], 4, 6), feeder.batch([0, 1, 2], 5, 5),
                  build_feeder(tiny_store, "train", transforms=TRAIN, seed=4).batch([0, 1, 2], 4, 5)):  # fmt: skip
        assert not torch.equal(x, other[0])


def test_a_repeated_clip_draws_its_own_frames(tiny_store):
    feeder = build_feeder(tiny_store, "train", transforms=[{"uniform_frames": {"length": 8}}])
    x, _ = feeder.batch([0, 0])
    assert not torch.equal(x[0], x[1])


def test_clips_of_one_frame(tiny_store):
    for transforms in (TEST, TRAIN, ["align", {"uniform_frames": {"length": 64}}], [{"crop_resize": {"length": 64}}]):
        for modality in ("joint", "skip-motion"):
            feeder = build_feeder(tiny_store, "train", modality, transforms)
            i = feeder.names.index("train_1_0")
            x, _ = feeder.batch([i, 0])
            assert torch.isfinite(x).all()


def test_persons_are_padded_with_zeros_or_cut(tiny_store):
    x, _ = build_feeder(tiny_store, "test", transforms=TEST, num_person=2).batch([0])
    assert x.shape[-1] == 2 and (x[..., 1] == 0).all() and x[..., 0].any()


def test_several_clips_a_sample(tiny_store):
    feeder = build_feeder(
        tiny_store, "test", transforms=[{"uniform_frames": {"length": 16, "num_clips": 10, "seed": 255}}]
    )
    x, y = feeder.batch([2, 3])
    assert feeder.num_clips == 10 and x.shape == (20, 3, 16, 20, 1) and len(y) == 2


def test_the_place_of_the_modality_counts(tiny_store):
    """PYSKL takes motion between neighbouring frames and then samples; CTR-GCN samples first."""
    late, early = (
        build_feeder(tiny_store, "test", "joint-motion", transforms).batch([1])[0]
        for transforms in ([{"linspace_frames": {"length": 5}}], ["modality", {"linspace_frames": {"length": 5}}])
    )
    clip = torch.from_numpy(build_feeder(tiny_store, "test", transforms=TEST).store.clip(16)[:, 0])  # T, V, C: test_0_1
    picked = torch.tensor([0, 4, 9, 14, 19])
    torch.testing.assert_close(early[0, :, :4, :, 0], (clip[picked[:4] + 1] - clip[picked[:4]]).permute(2, 0, 1))
    torch.testing.assert_close(late[0, :, :4, :, 0], (clip[picked[1:]] - clip[picked[:4]]).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ([{"centre": {}}, "linspace_frames"], r"unknown transform 'centre' \(nearest: center\)"),
        ([{"center": {"jiont": 1}}, "linspace_frames"], r"center: unknown key jiont \(nearest: joint\)"),
        ([{"linspace_frames": {"length": "many"}}], "length must be of type int, not 'many'"),
        ([{"linspace_frames": {"length": 0}}], "length must be at least 1"),
        (["center"], "exactly one must sample frames"),
        (["linspace_frames", "random_frames"], "exactly one must sample frames"),
        ("center", "must be a list"),
        ([{"center": {}, "min_max": {}}], "unknown transform"),
        ([{"center": {"joint": 99}}, "linspace_frames"], "no joint 99; the clips have 20"),
        (["modality", "modality", "linspace_frames"], "modality is there twice"),
        ([{"uniform_frames": {"seed": "abc"}}], "uniform_frames: seed must be of type int"),
        ([{"flip": {"p": 5}}, "linspace_frames"], "transforms: flip: p must be a probability, not 5"),
        ([{"part_drop": {"p": -1}}, "linspace_frames"], "transforms: part_drop: p must be a probability, not -1"),
        ([{"random_scale": {"low": -1}}, "linspace_frames"], "random_scale: low must be above 0, not -1"),
        ([{"random_scale": {"high": 0.5}}, "linspace_frames"], "random_scale: high must be at least low, 0.9, not 0.5"),
    ],
)
def test_wrong_transforms(tiny_store, transforms, message):
    with pytest.raises(ValueError, match=message):
        build_feeder(tiny_store, "test", transforms=transforms)


def test_wrong_numbers_of_persons(tiny_store):
    for number in (0, -1):
        with pytest.raises(ValueError, match="num_person must be at least 1"):
            build_feeder(tiny_store, transforms=TEST, num_person=number)


def test_random_transforms_are_known(tiny_store):
    assert build_feeder(tiny_store, transforms=TEST).random == []
    assert build_feeder(tiny_store, transforms=TRAIN).random == ["view_rotation", "random_scale", "random_frames"]
    for name, arguments, random in (
        ("uniform_frames", {}, True), ("uniform_frames", {"seed": 0}, False), ("crop_resize", {}, True),
        ("crop_resize", {"p_interval": [0.95]}, False),
    ):  # fmt: skip
        assert build_feeder(tiny_store, transforms=[{name: arguments}]).random == ([name] if random else [])


@pytest.mark.gpu
def test_gpu_makes_the_cpus_test_batches(tiny_store):
    for transforms in (
        TEST,
        ["align", {"crop_resize": {"length": 16, "p_interval": [0.95]}}],
        [{"uniform_frames": {"length": 16, "num_clips": 3, "seed": 255}}],
    ):
        cpu, gpu = (
            build_feeder(tiny_store, "test", "bone-motion", transforms, device=device).batch(range(8))[0].cpu()
            for device in ("cpu", "cuda")
        )
        torch.testing.assert_close(cpu, gpu, atol=1e-5, rtol=1e-5)


def test_unknown_names(tiny_store):
    with pytest.raises(ValueError, match="unknown modality 'bones'"):
        build_feeder(tiny_store, "test", "bones", TEST)
    with pytest.raises(ValueError, match="unknown feeder"):
        build_feeder(tiny_store, feeder="image")


def test_epochs(tiny_store):
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN)
    batches = TrainBatches(feeder, 4, repeat=2)
    assert batches.clips == 30 and len(batches) == 7
    first = [(x.clone(), target.label, names()) for x, target, names in batches.epoch(0)]
    assert len(first) == 7 and [x.shape[0] for x, _, _ in first] == [4] * 7
    for _, label, names in first:
        assert [feeder.label[feeder.names.index(name)] for name in names] == label.tolist()
    # from the middle: the same batches
    for (whole, label, _), (late, target, _) in zip(first[3:], batches.epoch(0, start=3), strict=True):
        assert torch.equal(whole, late) and torch.equal(label, target.label)
    assert not torch.equal(first[0][0], next(batches.epoch(1))[0])


def test_chunks_are_the_same_from_any_start(tiny_store, monkeypatch):
    monkeypatch.setattr("feeders.feeder.CHUNK", 8)
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN)
    batches = TrainBatches(feeder, 3, repeat=2, mixing=RebalancedPartial(feeder.graph, feeder.class_count))
    assert batches.chunk == 2 and len(batches) == 10
    whole = [(x.clone(), target, names()) for x, target, names in batches.epoch(1)]
    for start in (1, 2, 9):
        late = list(batches.epoch(1, start))
        assert len(late) == 10 - start
        for (x, target, names), (again, same, same_names) in zip(whole[start:], late, strict=True):
            assert torch.equal(x, again) and names == same_names() and torch.equal(target.share, same.share)


def test_chunks_of_long_clips_are_small(tiny_store, monkeypatch):
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN)
    assert TrainBatches(feeder, 16).chunk == 32 and TrainBatches(feeder, 1000).chunk == 1
    assert feeder.clip_bytes == 4 * 52 * 60
    feeder.clip_bytes = 1 << 20
    assert TrainBatches(feeder, 2).chunk == 8
    feeder.clip_bytes = 1 << 30
    assert TrainBatches(feeder, 16).chunk == 1


def test_batches_made_in_advance_are_the_same(tiny_store, monkeypatch):
    monkeypatch.setattr("feeders.feeder.CHUNK", 4)
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN)
    here = [x for x, _, _ in TrainBatches(feeder, 4).epoch(0)]
    test = list(feeder.batches(4))
    monkeypatch.setattr(Feeder, "in_advance", True)
    assert all(map(torch.equal, list(feeder.batches(4)), test))
    assert all(map(torch.equal, [x for x, _, _ in TrainBatches(feeder, 4).epoch(0)], here))
    monkeypatch.setattr(feeder, "skeletons", lambda *request: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        next(TrainBatches(feeder, 4).epoch(0))


def test_batches_are_made_by_one_thread_and_others_find_theirs(tiny_store, monkeypatch):
    seen, number = [], torch.get_num_threads()
    monkeypatch.setitem(TRANSFORMS, "flip", lambda clips, rng: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        build_feeder(tiny_store, transforms=["flip", *TEST])
        assert seen == [1] and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(number)


def test_fewer_clips_than_a_batch(tiny_store):
    batches = TrainBatches(build_feeder(tiny_store, "train", transforms=TRAIN), 64)
    assert len(batches) == 1 and next(batches.epoch(0))[0].shape[0] == 15


def test_mixing_in_batches(tiny_store):
    feeder = build_feeder(tiny_store, "train", transforms=TRAIN)
    batches = TrainBatches(feeder, 8, "reverse", 1, RebalancedPartial(feeder.graph, feeder.class_count))
    x, target, names = next(batches.epoch(0))
    again, _, _ = next(batches.epoch(0))
    plain, _, _ = next(TrainBatches(feeder, 8, "reverse").epoch(0))
    assert torch.equal(x, again) and target.label.tolist() == [feeder.label[feeder.names.index(n)] for n in names()]
    assert (x != plain).flatten(1).any(dim=1).sum() == 1  # one clip of eight is mixed


def test_a_mixing_gets_to_know_the_mean_training_clip(tiny_store):
    class Mixing:
        def begin(self, *told):
            self.model, self.render, self.mean, self.logit_scale = told

    feeder = build_feeder(tiny_store, "train", transforms=["center", {"linspace_frames": {"length": 8}}])
    mixing, model = Mixing(), object()
    TrainBatches(feeder, 4, mixing=mixing).begin(model, 30.0)
    expected = feeder.batch(range(15))[0].mean(dim=0)
    assert torch.allclose(mixing.mean, expected, atol=1e-6) and expected.abs().max() > 0.1
    assert mixing.model is model and mixing.logit_scale == 30
