"""Transforms that wait and are done together, against the plain formulas, one after the other."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders.clips import PIECE, Clips, bodies
from feeders.modality import to_modality
from feeders.sampling import crop_resize, linspace_frames, random_frames, uniform_frames
from feeders.transforms import (
    align,
    center,
    flip,
    min_max,
    part_drop,
    random_rotation,
    random_scale,
    view_rotation,
    views,
)  # fmt: skip
from graph import build_graph

GRAPH = build_graph("ucla")
LENGTHS = [1, PIECE, 5, 3 * PIECE + 1, 2]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def make(channels="xyz"):
    """Clips of two persons, with absent bodies, and the same as a list of float64 arrays (T, M, V, C)."""
    score = 2 if channels == "xys" else None
    x = torch.randn(sum(LENGTHS), 2, 20, 3, generator=rng(1)) + torch.tensor([0.5, -1, 3])
    if score:
        x[..., 2] = torch.rand(x.shape[:-1], generator=rng(2))
    x[1 : 1 + PIECE // 2, 0] = 0  # the second clip begins without its first body
    x[20:40, 1] = 0
    x[17:22, 0] = 0  # the third clip is without it all the time
    x[-1, 0, :, 0] = 0  # one of whose numbers are some 0
    length = torch.tensor(LENGTHS)
    joints = SimpleNamespace(
        score=score,
        mirror=torch.tensor(GRAPH.mirror),
        parts=torch.tensor([[v in part for v in range(20)] for part in GRAPH.parts]),
    )
    clips = Clips(x, length.cumsum(0) - length, length, joints, torch.device("cpu"))
    return clips, [clip.double().numpy() for clip in x.split(LENGTHS)]


def there(x):
    return (x != 0).any(axis=(2, 3), keepdims=True)


def plain_center(x, axes, _):
    frames = np.flatnonzero(there(x)[:, 0])
    origin = x[frames[0] if len(frames) else 0, 0, 1, :axes].copy()
    x[..., :axes] = (x[..., :axes] - origin) * there(x)


def plain_view_rotation(x, axes, draw):
    a, b = np.radians(60) * (2 * draw[:2] - 1)
    Rx = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
    Ry = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
    x[:] = x @ Ry @ Rx


def plain_random_rotation(x, axes, draw):
    a = 0.3 * (2 * draw[2] - 1)
    R = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    x[..., :2] = x[..., :2] @ R.T


def plain_random_scale(x, axes, draw):
    x[..., :axes] *= 0.9 + 0.2 * draw


def plain_min_max(x, axes, _):
    points = x[there(x)[..., 0, 0], :, :axes].reshape(-1, axes)
    if len(points):
        low, size = points.min(axis=0), np.ptp(points, axis=0)
        scaled = (x[..., :axes] - low) / np.where(size > 0, size, 1) * 2 - 1
        x[..., :axes] = np.where(there(x) & (size > 0), scaled, 0)


def plain_flip(x, axes, draw):
    if draw < np.float32(0.5):
        x[:] = x[:, :, GRAPH.mirror]
        x[..., 0] *= -1


def plain_linspace(x, axes, _):
    return x[np.linspace(0, len(x) - 1, 7).astype(int)]


def plain_crop_resize(x, axes, _):
    position = np.clip((np.arange(7) + 0.5) * len(x) / 7 - 0.5, 0, None)
    below = position.astype(int)
    weight = (position - below)[:, None, None, None]
    return (1 - weight) * x[below] + weight * x[np.minimum(below + 1, len(x) - 1)]


STEPS = {  # name: (transform, the plain one, the shape of a clip's draws)
    "center": (center, plain_center, None),
    "view_rotation": (view_rotation, plain_view_rotation, (3,)),
    "random_rotation": (random_rotation, plain_random_rotation, (3,)),
    "random_scale": (random_scale, plain_random_scale, "axes"),
    "min_max": (min_max, plain_min_max, None),
    "flip": (flip, plain_flip, ()),
    "linspace_frames": (partial(linspace_frames, length=7), plain_linspace, None),
    "crop_resize": (partial(crop_resize, length=7, p_interval=[1.0]), plain_crop_resize, None),
}


def orders(sampler, turn, count):
    """Some orders of the transforms; the sampler of frames is at any place."""
    names = ["center", turn, "random_scale", "min_max", "flip", sampler]
    return [[names[i] for i in torch.randperm(len(names), generator=rng(seed))] for seed in range(count)]


@pytest.mark.parametrize("sampler", ["linspace_frames", "crop_resize"])
@pytest.mark.parametrize(("channels", "turn"), [("xyz", "view_rotation"), ("xys", "random_rotation")])
def test_any_order_is_the_plain_formulas_one_after_the_other(channels, turn, sampler):
    for order in orders(sampler, turn, 20):
        clips, expected = make(channels)
        ours, theirs = rng(7), rng(7)
        for name in order:
            transform, plain, shape = STEPS[name]
            transform(clips, ours)
            shape = (clips.axes,) if shape == "axes" else shape
            draws = torch.zeros(5) if shape is None else torch.rand(5, *shape, generator=theirs)
            results = [plain(x, clips.axes, draw) for x, draw in zip(expected, draws.numpy(), strict=True)]
            if name == sampler:
                expected = results
        np.testing.assert_allclose(clips.x, np.stack(expected), atol=2e-6, err_msg=" ".join(order))
        assert (clips.x[2, :, 0] == 0).all(), order  # absent from first to last


def test_parts_drop_out_of_what_has_been_done_before():
    clips, _ = make()
    other, _ = make()
    for transform in (center, view_rotation, min_max):
        transform(clips, rng(3))
        transform(other, rng(3))
    x = other.x.clone()
    part_drop(clips, rng(4), p=1.0)
    dropped = (clips.x == 0) & (x != 0)
    assert torch.equal(clips.x, x.masked_fill(dropped, 0)) and dropped.any(dim=-1).any(dim=2).sum() > 0
    center(clips, rng())  # a dropped joint is at the origin, and moves with its body
    moved = clips.x[0, 0, 0][dropped[0, 0, 0].all(dim=-1)]
    assert len(moved) and (moved == moved[0]).all()


def test_frames_are_fetched_once_they_are_chosen():
    """The chosen ones, or, where a transform asks for all frames of a clip, pieces of it; never the longest of all."""
    sizes = []
    for transforms in ([center, view_rotation, flip], [center, min_max]):
        clips, _ = make()
        fetch = clips._fetch
        clips._fetch = lambda rows, fetch=fetch: sizes.append(rows.shape) or fetch(rows)
        for transform in transforms:
            transform(clips, rng())
        linspace_frames(clips, None, length=7)
        assert clips.x.shape[:2] == (5, 7)
    pieces = (1 + 1 + 1 + 4 + 1, PIECE)
    assert set(sizes) == {(5, 1), pieces, (5, 7)}


@pytest.mark.parametrize("turned", [False, True])
def test_the_body_that_is_in_most_frames_leads(turned):
    """PreNormalize3D of PYSKL and BRL, clip by clip; a clip without any body stays."""
    clips, plain = make()
    clips._frames[-2:] = 0  # the last clip
    plain[-1][:] = 0
    clips._frames[60:63, 0] = 0  # three frames of the clip before it, in which the other body is rarer
    plain[3][38:41, 0] = 0
    if turned:
        flip(clips, rng(), p=1.0, mirror=True)
        plain = [clip[:, :, GRAPH.mirror] * [-1, 1, 1] for clip in plain]
    clips.lead()
    changed = []
    for n, clip in enumerate(plain):
        there = (clip != 0).any(axis=(2, 3)).sum(axis=0)
        exchanged = clip[:, ::-1] if there[1] > there[0] else clip
        kept = exchanged[(exchanged[:, 0] != 0).any(axis=(1, 2))] if there.any() else clip
        changed.append((there[1] > there[0], len(kept) < len(clip)))
        assert clips.length[n] == len(kept)
        np.testing.assert_allclose(clips.x[n, : len(kept)], kept, atol=1e-6)
        np.testing.assert_allclose(clips.x[n, len(kept) :], np.broadcast_to(kept[-1], clips.x[n, len(kept) :].shape))
    assert {(True, False), (False, True), (False, False)} <= set(changed)


def test_bodies():
    x = make()[0]._frames[:, None]  # F, 1, M, V, C
    expected = (x != 0).flatten(3).any(dim=3)
    assert torch.equal(bodies(x), expected) and not expected.all()
    assert bodies(x[expected[:, 0].all(dim=1)]) is None


@pytest.mark.parametrize(
    "transforms",
    [
        [center, view_rotation, random_scale, min_max, flip, random_frames, to_modality],
        [align, random_rotation, part_drop, uniform_frames, partial(to_modality, name="bone-motion")],
        [crop_resize, center, random_rotation, min_max],
        [center, views, random_frames, min_max],
        [partial(linspace_frames, length=9), partial(uniform_frames, num_clips=3), min_max, center],
    ],
)
def test_a_gpu_is_never_waited_for(transforms):
    """Tensors of the device meta have no values: to ask for one is an error."""
    device, length, joints = torch.device("meta"), torch.tensor(LENGTHS), torch.empty(20, dtype=int, device="meta")
    layout = SimpleNamespace(
        score=None, mirror=joints, parent=joints, grandparent=joints, spine=(0, 1), shoulders=(4, 8),
        parts=torch.empty(5, 20, dtype=bool, device=device),
    )  # fmt: skip
    frames = torch.empty(sum(LENGTHS), 2, 20, 3, device=device)
    clips = Clips(frames, length.cumsum(0) - length, length, layout, device)
    for transform in transforms:
        transform(clips, None)
    assert clips.x.device == device and clips.x.shape[2:] == (2, 20, 3)
