from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders import StoreWriter, TrainBatches, build_feeder
from feeders import heat_map as module
from feeders.clips import Clips
from feeders.heat_map import HeatMaps
from feeders.mixing import RebalancedPartial
from feeders.transforms import compact, flip, random_resized_crop
from graph import build_graph

COCO = build_graph("coco")


# ---- PYSKL's GeneratePoseTarget, a pixel at a time


def ends(low, high, size, sigma):
    """First pixel drawn and the one after the last."""
    return max(int(low - 3 * sigma), 0), min(int(high + 3 * sigma) + 1, size)


def draw_point(image, place, height, sigma):
    size = len(image)
    left, right = ends(place[0], place[0], size, sigma)
    top, bottom = ends(place[1], place[1], size, sigma)
    for i in range(top, bottom):
        for j in range(left, right):
            square = (j - place[0]) ** 2 + (i - place[1]) ** 2
            image[i, j] = max(image[i, j], height * np.exp(-square / (2 * sigma**2)))


def draw_limb(image, a, b, heights, sigma):
    size, height = len(image), min(heights)
    if height < 1e-3:
        return
    left, right = ends(min(a[0], b[0]), max(a[0], b[0]), size, sigma)
    top, bottom = ends(min(a[1], b[1]), max(a[1], b[1]), size, sigma)
    length = ((b - a) ** 2).sum()
    if length < 1:
        if left < right and top < bottom:
            draw_point(image, a, heights[0], sigma)
        return
    for i in range(top, bottom):
        for j in range(left, right):
            p = np.array([j, i])
            share = (((p - a) ** 2).sum() - ((p - b) ** 2).sum() + length) / 2 / length
            nearest = a if share <= 0 else b if share >= 1 else a + share * (b - a)
            image[i, j] = max(image[i, j], height * np.exp(-((p - nearest) ** 2).sum() / (2 * sigma**2)))


def volume(places, scores, size, sigma, limbs=None):
    """places (M, T, V, 2) in pixels, scores (M, T, V) -> (V or L, T, size, size)."""
    M, T, V, _ = places.shape
    maps = np.zeros((len(limbs) if limbs else V, T, size, size))
    for t in range(T):
        for m in range(M):
            for c in range(len(maps)):
                if limbs:
                    a, b = limbs[c]
                    draw_limb(maps[c, t], places[m, t, a], places[m, t, b], scores[m, t, [a, b]], sigma)
                elif scores[m, t, c] >= 1e-3:
                    draw_point(maps[c, t], places[m, t, c], scores[m, t, c], sigma)
    return maps


def poses(N=2, T=2, M=2, V=17, size=20, seed=0):
    """Places in pixels, some outside, some close to each other, and scores, some next to nothing."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-0.2, 1.2, (N, M, T, V, 2)) * size
    places[:, :, :, 7] = places[:, :, :, 5] + rng.normal(size=(N, M, T, 2)) * 0.6
    scores = rng.uniform(0, 1, (N, M, T, V))
    scores[scores < 0.2] *= 0.01
    return places, scores


def as_clips(places, scores, size):
    """(N, M, T, V, …) -> the feeder's (N, 3, T, V, M)."""
    x = np.concatenate([places / size * 2 - 1, scores[..., None]], axis=-1)
    return torch.from_numpy(x).float().permute(0, 4, 2, 3, 1)


@pytest.mark.parametrize("limb", [False, True])
@pytest.mark.parametrize(("size", "sigma"), [(20, 0.6), (17, 1.5)])
def test_maps_are_the_releases(limb, size, sigma, monkeypatch):
    places, scores = poses(size=size)
    expected = [volume(p, s, size, sigma, COCO.limbs if limb else None) for p, s in zip(places, scores, strict=True)]
    for block in (1, 1 << 20):  # a clip at a time, all at once
        monkeypatch.setattr(module, "BLOCK", block)
        maps = HeatMaps(COCO, size, sigma, limb)(as_clips(places, scores, size))
        np.testing.assert_allclose(maps, expected, atol=1e-5)
    assert maps.shape == (2, 17, 2, size, size) and maps.dtype == torch.float32 and maps.max() > 0.8


def test_joints_that_were_not_seen_are_not_drawn():
    x = torch.zeros(1, 3, 1, 17, 2)
    x[0, :, 0, 3, 0] = torch.tensor([0.5, 0.25, 1.0])
    x[0, 2, 0, 4] = 1.0  # a score without a place
    maps = HeatMaps(COCO, size=8)(x)
    assert maps[0, 3, 0, 5, 6] == 1 and maps[0, [c for c in range(17) if c != 3]].abs().max() == 0
    assert torch.equal(HeatMaps(COCO, size=8)(x[:, :2]), maps)  # a store without scores
    x[0, 2, 0, 3, 0] = 0.25
    assert HeatMaps(COCO, size=8)(x).max() == 0.25
    assert torch.equal(HeatMaps(COCO, size=8, use_score=False)(x), maps)


@pytest.mark.parametrize("limb", [False, True])
def test_doubled_maps_are_mirrored(limb):
    places, scores = poses()
    maps = HeatMaps(COCO, 20, limb=limb, double=True)(as_clips(places, scores, 20))
    assert maps.shape == (4, 17, 2, 20, 20)
    assert torch.equal(maps[::2], HeatMaps(COCO, 20, limb=limb)(as_clips(places, scores, 20)))
    mirrored, swapped = places.copy(), [COCO.mirror[v] for v in range(17)]
    mirrored[..., 0] = 19 - mirrored[..., 0]
    expected = HeatMaps(COCO, 20, 0.6, limb)(as_clips(mirrored[..., swapped, :], scores[..., swapped], 20))
    ours = maps[1::2]
    both = (ours > 0) & (expected > 0)  # the edge of what is drawn is not symmetric, nor which end of a short limb is
    different = ((ours - expected).abs() > 1e-5) & both
    assert both.float().mean() > 0.01 and different.sum() <= (0 if not limb else 0.05 * both.sum())


def test_limbs_of_another_layout_are_its_bones():
    graph = build_graph("openpose")
    assert HeatMaps(graph, 8, limb=True)(torch.zeros(1, 3, 2, 18, 1)).shape == (1, 17, 2, 8, 8)
    assert HeatMaps(graph, 8)(torch.zeros(1, 3, 2, 18, 1)).shape == (1, 18, 2, 8, 8)


def test_wrong_sizes():
    for wrong in ({"size": 0}, {"sigma": 0.0}, {"sigma": float("nan")}):
        with pytest.raises(ValueError, match="size must be at least 1|sigma must be above 0"):
            HeatMaps(COCO, **wrong)


# ---- the box around a clip, and a random one in it


def clips_of(pixels, width, height, rows=1):
    """Clips of poses (N, T, M, V, 2) in pixels, as a store has them; (0, 0) is a joint that was not seen."""
    N, T = pixels.shape[:2]
    half = np.array([width / 2, height / 2], np.float32)
    x = np.where((pixels != 0).any(axis=-1, keepdims=True), (pixels.astype(np.float32) - half) / half, 0)
    joints = SimpleNamespace(score=None, mirror=torch.tensor(COCO.mirror))
    picture = torch.tensor([[width, height]], dtype=torch.float64).expand(N, 2)
    frames = torch.from_numpy(x).float().flatten(0, 1)
    clips = Clips(frames, torch.arange(N) * T, torch.full((N,), T), joints, torch.device("cpu"), picture)
    if rows > 1:
        clips.take(torch.arange(T).view(1, rows, T // rows).expand(N, rows, T // rows))
    return clips


def test_compact_is_the_releases():
    """PoseCompact(hw_ratio=1, allow_imgpad=True) on poses in half precision, as PYSKL's files have them."""
    rng = np.random.default_rng(0)
    for trial in range(30):
        width, height = ((1920, 1080), (320, 240), (406, 720))[trial % 3]
        spread = rng.uniform(0.02, 0.3) if trial % 5 else 0.003
        pixels = (rng.normal(size=(1, 4, 2, 17, 2)) * spread + rng.uniform(0.2, 0.8, 2)) * [width, height]
        pixels = pixels.astype(np.float16)
        pixels[:, 1, 1] = 0
        seen = pixels.astype(np.float64).reshape(-1, 2)
        seen = seen[(seen != 0).any(axis=1)]
        low, high = seen.min(axis=0), seen.max(axis=0)
        if (high - low).min() >= 10:
            half = (high - low).max() / 2 * 1.25
            first, last = (np.array([int(e) for e in (low + high) / 2 + sign * half]) for sign in (-1, 1))
        else:
            first, last = np.zeros(2), np.array([width, height])
        clips = clips_of(pixels, width, height)
        compact(clips, None)
        assert clips.picture[0].tolist() == (last - first).tolist()
        expected = np.where(pixels == 0, 0, (pixels - first) / (last - first) * 2 - 1)
        np.testing.assert_allclose(clips.x, expected, atol=1e-5)


def test_samples_of_one_clip_share_a_square():
    pixels = np.random.default_rng(0).uniform(50, 200, (3, 8, 1, 17, 2))
    whole, parts = clips_of(pixels, 320, 240), clips_of(pixels, 320, 240, rows=4)
    compact(whole, None)
    compact(parts, None)
    assert torch.equal(parts.x.reshape(whole.x.shape), whole.x) and len(parts) == 12
    assert torch.equal(parts.picture, whole.picture.repeat_interleave(4, dim=0))


def test_a_joint_in_the_middle_is_still_seen():
    pixels = np.zeros((1, 1, 1, 17, 2))
    pixels[0, 0, 0, :3] = [[100, 100], [140, 140], [120, 120]]  # the square goes from 95 to 145
    clips = clips_of(pixels, 320, 240)
    compact(clips, None)
    assert (clips.x[0, 0, 0, :3] != 0).all() and (clips.x[0, 0, 0, 3:] == 0).all()
    assert clips.x[0, 0, 0, 2].abs().max() < 1e-6


def test_a_clip_without_joints_stays():
    clips = clips_of(np.zeros((1, 3, 2, 17, 2)), 320, 240)
    compact(clips, None)
    random_resized_crop(clips, torch.Generator())
    assert (clips.x == 0).all()


def test_random_boxes():
    N = 4000
    pixels = np.broadcast_to(np.array([[0.0, 0.0], [640, 1140]]), (N, 1, 1, 2, 2)) + 1e-3  # two corners
    clips = clips_of(pixels, 640, 1140)
    random_resized_crop(clips, torch.Generator().manual_seed(0), size=64)
    box = clips.picture  # in pixels of 64 x 114
    area, ratio = box.prod(dim=1) / (64 * 114), box[:, 0] / box[:, 1]
    assert (box == box.round()).all() and (box[:, 0] <= 64).all() and (box[:, 1] <= 114).all()
    assert 0.55 < area.min() < 0.6 and 0.74 < ratio.min() < 0.77
    corner = clips.x[:, 0, 0].double()  # N, 2 corners, 2: where the picture's corners are in the box
    first = (-1 - corner[:, 0]) / 2 * box
    last = first + box
    np.testing.assert_allclose(first, first.round(), atol=1e-3)
    assert first.min() > -1e-3 and (last[:, 0].max() < 64.001) and (last[:, 1].max() < 114.001)
    free = first[:, 1] / (114 - box[:, 1])  # of the places that there are each is taken as often
    assert 0.47 < free.mean() < 0.53 and (free < 1e-4).any() and (free > 1 - 1e-4).any()


def test_where_no_box_fits_it_is_the_square_in_the_middle():
    clips = clips_of(np.full((2, 1, 1, 17, 2), 320.0), 640, 640)
    random_resized_crop(clips, torch.Generator().manual_seed(0), size=64, area=(1.0, 1.0), ratio=(1.5, 2.0))
    assert clips.picture.tolist() == [[64, 64], [64, 64]] and clips.x.abs().max() < 1e-6


@pytest.mark.parametrize(
    "wrong", [{"area": (0.0, 1.0)}, {"area": (0.5, 1.5)}, {"area": (0.5,)}, {"ratio": (2.0, 1.0)}, {"ratio": ("a", 1)}]
)
def test_wrong_boxes(wrong):
    with pytest.raises(ValueError, match=f"random_resized_crop: {next(iter(wrong))} takes two numbers over 0"):
        random_resized_crop(clips_of(np.ones((1, 1, 1, 17, 2)), 64, 64), torch.Generator(), **wrong)


# ---- the feeder


SAMPLE = {"uniform_frames": {"length": 4}}
TRAIN = [SAMPLE, "compact", {"random_resized_crop": {"size": 18}}, {"flip": {"p": 0.5}}, {"heat_map": {"size": 16}}]
SAMPLES = {"uniform_frames": {"length": 4, "num_clips": 3, "seed": 255}}
TEST = [SAMPLES, "compact", {"heat_map": {"size": 18, "double": True}}]


@pytest.fixture(scope="module")
def planar_store(tmp_path_factory):
    """planar_store(channels, **meta): eight clips of two classes, poses of two persons in pictures; split train."""

    def make(channels="xys", **meta):
        path = tmp_path_factory.mktemp("planar") / "x.h5"
        rng = np.random.default_rng(0)
        with StoreWriter(path, "coco", ["a", "b"], "test", 2, channels) as writer:
            for i in range(8):
                clip = rng.uniform(-0.9, 0.9, (int(rng.integers(1, 12)), 2, 17, 3))
                clip[..., 2] = rng.uniform(0.1, 1, clip.shape[:3])
                writer.add(f"clip {i}", i % 2, clip[..., : len(channels)], ["train", "test"], **meta)
        return path

    return make


@pytest.fixture(scope="module")
def hd(planar_store):
    return planar_store(height=1080, width=1920)


def test_shapes(hd):
    feeder = build_feeder(hd, "train", transforms=TRAIN)
    assert feeder.shape == (17, 4, 16, 16) and feeder.axes == "V, T, H, W" and feeder.num_clips == 1
    x, y = feeder.batch([0, 1, 5])
    assert x.shape == (3, 17, 4, 16, 16) and x.dtype == torch.float32 and y.tolist() == [0, 1, 1]
    assert feeder.random == ["uniform_frames", "random_resized_crop", "flip"]
    test = build_feeder(hd, "test", transforms=TEST)
    assert test.num_clips == 6 and test.shape == (17, 4, 18, 18) and test.random == [] and test.form == feeder.form
    assert test.batch([0, 3])[0].shape == (12, 17, 4, 18, 18)
    assert torch.cat(list(test.batches(3))).shape == (48, 17, 4, 18, 18)
    skeletons = build_feeder(hd, "train", transforms=[SAMPLE])
    assert skeletons.axes == "C, T, V, M" and skeletons.form == (3, 17, 2) and skeletons.heat_maps is None


def test_rows_of_a_clip_are_its_samples_each_followed_by_its_mirror(hd):
    test = build_feeder(hd, "test", transforms=TEST)
    single = build_feeder(hd, "test", transforms=[*TEST[:2], {"heat_map": {"size": 18}}])
    x, plain = test.batch([2, 4])[0], single.batch([2, 4])[0]
    assert torch.equal(x[::2], plain) and torch.equal(x[1::2], plain[:, COCO.mirror].flip(-1))


def test_the_modality_bone_draws_limbs(hd):
    limbs = build_feeder(hd, "test", "bone", TEST)
    argument = build_feeder(
        hd, "test", transforms=[*TEST[:2], {"heat_map": {"size": 18, "double": True, "limb": True}}]
    )
    assert torch.equal(limbs.batch([1])[0], argument.batch([1])[0])
    assert not torch.equal(limbs.batch([1])[0], build_feeder(hd, "test", transforms=TEST).batch([1])[0])
    skeletons, _ = limbs.skeletons([1])  # still joints, not differences of them
    assert torch.equal(skeletons, build_feeder(hd, "test", transforms=TEST).skeletons([1])[0])


def test_flipping_the_skeleton_mirrors_the_picture(hd):
    straight, flipped = (
        build_feeder(hd, transforms=[{"linspace_frames": {"length": 3}}, "compact", {"flip": {"p": p}}]).batch([0])[0]
        for p in (0.0, 1.0)
    )
    sign = torch.tensor([-1.0, 1, 1]).view(3, 1, 1, 1)
    assert torch.equal(flipped[0], straight[0][:, :, COCO.mirror] * sign)


def test_mixing_acts_on_skeletons(hd):
    """The mixed clip shows the lower joints of another clip, drawn as it would be alone."""
    transforms = [{"linspace_frames": {"length": 4}}, "compact", {"heat_map": {"size": 16}}]
    feeder = build_feeder(hd, "train", transforms=transforms)
    mixing = RebalancedPartial(feeder.graph, feeder.class_count, ratio=0.5)
    x, target, _ = next(TrainBatches(feeder, 8, mixing=mixing).epoch(0))
    plain, same, _ = next(TrainBatches(feeder, 8).epoch(0))
    assert x.shape == (8, 17, 4, 16, 16) and torch.equal(target.label, same.label)
    assert torch.equal(x[:, COCO.upper], plain[:, COCO.upper])
    lender = [[i for i in range(8) if torch.equal(x[n, COCO.lower], plain[i, COCO.lower])] for n in range(8)]
    assert all(len(found) == 1 for found in lender)
    mixed = [n for n in range(8) if lender[n] != [n]]
    assert len(mixed) == 4 and [target.other[n] for n in mixed] == [same.label[lender[n][0]] for n in mixed]
    # limbs between the halves are drawn from joint to joint: they are in neither of the two clips
    limbs = build_feeder(hd, "train", "bone", transforms)
    y = next(TrainBatches(limbs, 8, mixing=mixing).epoch(0))[0]
    bare = next(TrainBatches(limbs, 8).epoch(0))[0]
    across = COCO.limbs.index((5, 11))
    for n in mixed:
        assert not any(torch.equal(y[n, across], bare[i, across]) for i in (n, lender[n][0]))


def test_a_batch_is_a_function_of_seed_epoch_and_step(hd):
    feeder = build_feeder(hd, "train", transforms=TRAIN, seed=3)
    x = feeder.batch([0, 1, 2], epoch=4, step=5)[0]
    assert torch.equal(x, feeder.batch([0, 1, 2], epoch=4, step=5)[0])
    assert not torch.equal(x, feeder.batch([0, 1, 2], epoch=4, step=6)[0])


def test_pictures_of_unknown_size(planar_store):
    path = planar_store("xy")
    for transforms in (TRAIN, [SAMPLE, "random_resized_crop", "heat_map"]):
        with pytest.raises(ValueError, match=r"the store does not say how large its pictures are; compact: \{picture"):
            build_feeder(path, "train", transforms=transforms)
    sized = [SAMPLE, {"compact": {"picture": [1920, 1080]}}, *TRAIN[2:]]
    x = build_feeder(path, "train", transforms=sized).batch([0, 1])[0]
    assert x.shape == (2, 17, 4, 16, 16) and x.max() > 0.5
    known = build_feeder(planar_store("xy", width=1920, height=1080), "train", transforms=TRAIN)
    assert torch.equal(x, known.batch([0, 1])[0])
    with pytest.raises(ValueError, match="compact: picture takes a width and a height"):
        build_feeder(path, "train", transforms=[SAMPLE, {"compact": {"picture": [1920]}}])


@pytest.mark.parametrize(
    ("transforms", "modality", "message"),
    [
        (["heat_map", SAMPLE], "joint", "heat_map must be the last"),
        ([SAMPLE, "heat_map", "modality"], "joint", "heat_map must be the last"),
        (
            [SAMPLE, "heat_map"],
            "joint-motion",
            "heat_map draws joints, or limbs for the modality bone, not joint-motion",
        ),
        ([SAMPLE, "heat_map"], "skip", "not skip"),
        ([SAMPLE, {"heat_map": {"limb": False}}], "bone", "not bone"),
        ([SAMPLE, {"heat_map": {"size": 0}}], "joint", "size must be at least 1"),
        ([SAMPLE, {"heat_map": {"sgima": 0.6}}], "joint", r"heat_map: unknown key sgima \(nearest: sigma\)"),
        ([SAMPLE, {"heat_map": {"limb": "no"}}], "joint", "limb must be of type bool"),
        ([SAMPLE, {"heat_map": {"graph": "coco"}}], "joint", "heat_map: unknown key graph"),
        (["heat_map"], "joint", "exactly one must sample frames"),
    ],
)
def test_wrong_settings(hd, transforms, modality, message):
    with pytest.raises(ValueError, match=message):
        build_feeder(hd, "train", modality, transforms)


def test_clips_in_space_have_no_heat_maps(tiny_store):
    for transforms, message in (
        ([SAMPLE, "heat_map"], "heat_map draws poses in pictures, but the channels of .* are xyz"),
        ([SAMPLE, "compact"], r"compact is for poses in pictures \(channels xy or xys\), not in space"),
        ([SAMPLE, "random_resized_crop"], "random_resized_crop is for poses in pictures"),
    ):
        with pytest.raises(ValueError, match=message):
            build_feeder(tiny_store, "train", transforms=transforms)


def test_flip_leaves_joints_that_were_not_seen():
    clips = clips_of(np.zeros((1, 1, 1, 17, 2)), 64, 64)
    flip(clips, torch.Generator(), p=1.0)
    assert (clips.x == 0).all()


@pytest.mark.gpu
def test_gpu_draws_what_the_cpu_draws(hd):
    for modality in ("joint", "bone"):
        cpu, gpu = (
            build_feeder(hd, "test", modality, TEST, device=device).batch(range(8))[0].cpu()
            for device in ("cpu", "cuda")
        )
        assert ((cpu - gpu).abs() > 1e-4).float().mean() < 1e-5  # a pixel at the edge of a Gaussian may fall either way
