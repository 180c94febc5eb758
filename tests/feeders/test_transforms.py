import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from feeders.clips import Clips
from feeders.modality import MODALITIES, to_modality
from feeders.sampling import linspace_frames
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

UCLA = build_graph("ucla")


def make(x, length=None):
    """Clips of frames x (N, T, M, V, C), shorter ones padded with their last frame as Clips does."""
    N, T = x.shape[:2]
    graph = UCLA
    joints = SimpleNamespace(
        score=None,
        parent=torch.tensor([p for _, p in graph.bones]), grandparent=torch.tensor([g for _, g in graph.skip]),
        mirror=torch.tensor(graph.mirror), spine=graph.layout.spine, shoulders=graph.layout.shoulders,
        parts=torch.tensor([[v in part for v in range(20)] for part in graph.parts]),
    )  # fmt: skip
    length = torch.full((N,), T) if length is None else torch.tensor(length)
    return Clips(x.flatten(0, 1), torch.arange(N) * T, length, joints, torch.device("cpu"))


def random_clips(N=3, T=6, M=1, C=3, seed=0):
    return torch.randn(N, T, M, 20, C, generator=torch.Generator().manual_seed(seed))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def test_center():
    x = random_clips(M=2)
    clips = make(x)
    center(clips, None, joint=1)
    torch.testing.assert_close(clips.x, x - x[:, :1, :1, 1:2])
    with pytest.raises(ValueError, match="no joint 20"):
        center(make(x), None, joint=20)


def test_absent_bodies_stay_zero_and_the_first_frame_is_the_first_with_a_body():
    x = random_clips(M=2, T=4)
    x[:, 0, 0] = 0
    x[:, :, 1] = 0
    for transform in (center, min_max):
        clips = make(x)
        transform(clips, rng())
        assert (clips.x[:, 0, 0] == 0).all() and (clips.x[:, :, 1] == 0).all() and clips.x[:, 1:, 0].any()
        if transform is not min_max:
            torch.testing.assert_close(clips.x[:, 1, 0, 1], torch.zeros(3, 3), atol=1e-6, rtol=0)


def test_min_max_scales_each_axis_over_the_clip():
    clips = make(random_clips())
    min_max(clips, None)
    torch.testing.assert_close(clips.x.amin(dim=(1, 2, 3)), torch.full((3, 3), -1.0))
    torch.testing.assert_close(clips.x.amax(dim=(1, 2, 3)), torch.full((3, 3), 1.0))


def test_min_max_does_not_look_at_the_padding():
    x = random_clips(N=2)
    short = make(x, length=[2, 6])
    min_max(short, None)
    alone = make(x[:1, :2])
    min_max(alone, None)
    assert torch.equal(short.x[:1, :2], alone.x)


def test_min_max_of_a_flat_axis_is_zero():
    x = random_clips(N=1, T=1)
    x[..., 2] = 3.5
    clips = make(x)
    min_max(clips, None)
    assert (clips.x[..., 2] == 0).all() and clips.x[..., 0].max() == pytest.approx(1)


def release_turn(x, y):
    """By what CTR-GCN's release multiplies row vectors, Ry Rx, for angles in degrees."""
    x, y = math.radians(x), math.radians(y)
    Rx = np.array([[1, 0, 0], [0, math.cos(x), math.sin(x)], [0, -math.sin(x), math.cos(x)]])
    Ry = np.array([[math.cos(y), 0, -math.sin(y)], [0, 1, 0], [math.sin(y), 0, math.cos(y)]])
    return Ry @ Rx


def test_view_rotation_is_the_releases():
    """The angles are recovered here from the same draws."""
    x = random_clips()
    clips = make(x)
    view_rotation(clips, rng(5), x=60, y=40)
    for n, (ax, ay, _) in enumerate((2 * torch.rand(3, 3, generator=rng(5)) - 1).numpy()):
        np.testing.assert_allclose(clips.x[n], x[n].numpy() @ release_turn(60 * ax, 40 * ay), atol=1e-5)


def test_view_rotation_angles_fill_their_range():
    x = torch.zeros(2000, 1, 1, 20, 3)
    x[..., 2] = 1  # about y alone: x = -sin(angle), z = cos(angle)
    clips = make(x)
    view_rotation(clips, rng(), x=0, y=60)
    angles = torch.atan2(clips.x[:, 0, 0, 0, 0], clips.x[:, 0, 0, 0, 2]) * 180 / math.pi
    assert 58 < angles.max() <= 60.01 and -60.01 <= angles.min() < -58 and abs(angles.mean()) < 3


def test_views_are_rows_of_their_own_turned_as_the_training_turns():
    x = random_clips(T=8)
    lengths = [3, 8, 5]
    clips = make(x, lengths)
    center(clips, None)
    views(clips, None, x=[0, 30], y=[-40, 0, 20])
    min_max(clips, None)
    linspace_frames(clips, None, length=4)
    assert clips.x.shape == (18, 4, 1, 20, 3) and clips.rows == 6
    angles = [(i, j) for i in (0, 30) for j in (-40, 0, 20)]
    for row, turned in enumerate(clips.x):
        n = row // 6
        clip = x[n, : lengths[n]].numpy().astype(np.float64)
        clip = (clip - clip[0, 0, 1]) @ release_turn(*angles[row % 6])
        low, high = clip.min(axis=(0, 1, 2)), clip.max(axis=(0, 1, 2))
        clip = (2 * clip - low - high) / (high - low)
        clip = clip[np.linspace(0, len(clip) - 1, 4).astype(int)]
        np.testing.assert_allclose(turned, clip, atol=1e-5)


def test_views_straight_on_change_nothing():
    x = random_clips()
    clips = make(x)
    views(clips, None, x=[0], y=[0])
    assert torch.equal(clips.x, x)


@pytest.mark.parametrize("angles", [[], ["left"], [0, None]])
def test_views_without_angles(angles):
    with pytest.raises(ValueError, match="views: y takes angles in degrees"):
        views(make(random_clips()), None, y=angles)


@pytest.mark.parametrize("C", [2, 3])
def test_random_rotation_keeps_distances(C):
    x = random_clips(C=C)
    clips = make(x)
    random_rotation(clips, rng(), theta=0.3)
    torch.testing.assert_close(clips.x.norm(dim=-1), x.norm(dim=-1))
    assert not torch.allclose(clips.x, x) and (clips.x - x).abs().max() < 0.3 * 3 * x.norm(dim=-1).max()


def test_random_rotation_is_the_releases():
    """They multiply columns by Rz Ry Rx, each clockwise; the angles are recovered here from the same draws."""
    x = random_clips()
    clips = make(x)
    random_rotation(clips, rng(5), theta=0.8)
    for n, angles in enumerate(0.8 * (2 * torch.rand(3, 3, generator=rng(5)).double().numpy() - 1)):
        Rx, Ry, Rz = (rotation_of_the_release(axis, -angle) for axis, angle in zip(np.eye(3), angles, strict=True))
        np.testing.assert_allclose(clips.x[n], x[n].numpy() @ (Rz @ Ry @ Rx).T, atol=1e-5)


def test_turning_in_space_needs_three_channels():
    with pytest.raises(ValueError, match="cannot be turned in space"):
        view_rotation(make(random_clips(C=2)), rng())


@pytest.mark.parametrize("per_axis", [True, False])
def test_random_scale(per_axis):
    x = random_clips(N=200)
    clips = make(x)
    random_scale(clips, rng(), low=0.5, high=1.5, per_axis=per_axis)
    factor = (clips.x / x).mean(dim=(1, 2, 3))  # N, 3
    assert 0.5 <= factor.min() < 0.55 and 1.45 < factor.max() <= 1.5
    assert torch.allclose(factor[:, 0], factor[:, 1], atol=1e-4) != per_axis
    assert (clips.x / x).std(dim=(1, 2, 3)).max() < 1e-4


def test_flip():
    x = random_clips(N=400)
    clips = make(x)
    flip(clips, rng(), p=0.5)
    mirrored = x[..., UCLA.mirror, :] * torch.tensor([-1.0, 1, 1])
    flipped = (clips.x == mirrored).flatten(1).all(dim=1)
    assert (clips.x[~flipped] == x[~flipped]).all() and 150 < flipped.sum() < 250
    clips = make(x)
    flip(clips, rng(), p=1.0, mirror=False)
    assert torch.equal(clips.x, x[..., UCLA.mirror, :])


def test_part_drop():
    x = random_clips(N=400)
    clips = make(x)
    part_drop(clips, rng(), p=0.5)
    zero = (clips.x == 0).all(dim=4).flatten(1, 2).all(dim=1)  # N, V
    dropped = [sorted(row.nonzero()[:, 0].tolist()) for row in zero]
    assert {tuple(row) for row in dropped} == {(), *(tuple(sorted(part)) for part in UCLA.parts)}
    assert 150 < sum(map(bool, dropped)) < 250 and torch.equal(clips.x[~zero.any(dim=1)], x[~zero.any(dim=1)])


def test_align_puts_the_spine_on_z_and_the_shoulders_on_x():
    clips = make(random_clips(M=2))
    before = clips.x.clone()
    align(clips, None, center=1)
    first = clips.x[:, 0, 0]
    torch.testing.assert_close(first[:, 1], torch.zeros(3, 3), atol=1e-6, rtol=0)
    across = first[:, 8] - first[:, 4]
    torch.testing.assert_close(across[:, 1:], torch.zeros(3, 2), atol=1e-5, rtol=0)
    assert (across[:, 0] > 0).all()
    distance = (before - before[:, :1, :1, 1:2]).norm(dim=-1)
    torch.testing.assert_close(clips.x.norm(dim=-1), distance, atol=1e-5, rtol=1e-5)


def rotation_of_the_release(axis, angle):
    """2s-AGCN's and PYSKL's rotation_matrix: counterclockwise about an axis, by Euler-Rodrigues parameters."""
    if np.abs(axis).sum() < 1e-6 or abs(angle) < 1e-6:
        return np.eye(3)
    b, c, d = -axis / np.sqrt(axis @ axis) * np.sin(angle / 2)
    a = np.cos(angle / 2)
    return np.array([
        [a * a + b * b - c * c - d * d, 2 * (b * c + a * d), 2 * (b * d - a * c)],
        [2 * (b * c - a * d), a * a + c * c - b * b - d * d, 2 * (c * d + a * b)],
        [2 * (b * d + a * c), 2 * (c * d - a * b), a * a + d * d - b * b - c * c],
    ])  # fmt: skip


@pytest.mark.parametrize("tilt", [None, 1e-1, 1e-2, 1e-3, 3e-4])
def test_align_is_the_releases(tilt):
    """PreNormalize3D in float64; tilt: spines that far (rad) from pointing exactly the wrong way."""
    x = random_clips(N=20, T=2, seed=3)
    if tilt:
        x[:, 0, 0, 1] = x[:, 0, 0, 0] + torch.tensor([math.sin(tilt), 0, -math.cos(tilt)])
    clips = make(x)
    align(clips, None, center=1)
    for n in range(20):
        skeleton = x[n, :, 0].double().numpy()
        skeleton = skeleton - skeleton[0, 1]
        for (start, end), goal in (((0, 1), [0, 0, 1]), ((4, 8), [1, 0, 0])):
            vector = skeleton[0, end] - skeleton[0, start]
            angle = np.arccos(np.clip(vector @ goal / np.linalg.norm(vector), -1, 1))
            skeleton = skeleton @ rotation_of_the_release(np.cross(vector, goal), angle).T
        np.testing.assert_allclose(clips.x[n, :, 0], skeleton, atol=2e-3 if tilt else 1e-5)


def test_align_first_turns_the_spine_upright():
    x = random_clips(N=1)
    x[..., 8, :] = x[..., 4, :]  # without shoulders there is no second turn
    clips = make(x)
    align(clips, None)
    spine = clips.x[0, 0, 0, 1] - clips.x[0, 0, 0, 0]
    torch.testing.assert_close(spine / spine.norm(), torch.tensor([0.0, 0, 1]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", MODALITIES)
def test_modalities_by_hand(name):
    x = random_clips(N=2)
    clips = make(x)
    to_modality(clips, None, name)
    stream, _, motion = name.partition("-")
    expected = x.clone()
    for v in range(20):
        if stream == "bone":
            expected[..., v, :] -= x[..., dict(UCLA.bones)[v], :]
        if stream == "skip":
            expected[..., v, :] -= x[..., dict(UCLA.skip)[v], :]
    if motion:
        still = expected.clone()
        for t in range(5):
            expected[:, t] = still[:, t + 1] - still[:, t]
        expected[:, 5] = 0
    torch.testing.assert_close(clips.x, expected)


def test_the_motion_of_a_score_ends_with_its_own_clip():
    """Whatever longer clips are in the batch: behind the last frame nothing moves, and no score is seen."""
    x = random_clips(N=2)
    x[0, 3:] = x[0, 2]  # goes on with its last frame
    clips = make(x, [3, 6])
    clips.joints.score = clips.axes = 2
    to_modality(clips, None, "joint-motion")
    assert (clips.x[0, 2:] == 0).all() and (clips.x[1, 5] == 0).all()
    torch.testing.assert_close(clips.x[0, :2, ..., :2], (x[0, 1:3] - x[0, :2])[..., :2])
    torch.testing.assert_close(clips.x[0, :2, ..., 2], (x[0, 1:3] + x[0, :2])[..., 2] / 2)
