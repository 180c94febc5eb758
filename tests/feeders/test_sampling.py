from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from feeders.clips import Clips
from feeders.sampling import crop_resize, linspace_frames, random_frames, uniform_frames


def numbered(*lengths):
    """Clips whose coordinates are the frame's number in its clip."""
    frames = torch.cat([torch.arange(n, dtype=torch.float32) for n in lengths])[:, None, None, None]
    length = torch.tensor(lengths)
    return Clips(frames, length.cumsum(0) - length, length, SimpleNamespace(), torch.device("cpu"))


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def sampled(clips):
    return clips.x[:, :, 0, 0, 0]


@pytest.mark.parametrize("n", [1, 2, 7, 51, 52, 53, 201])
def test_linspace_is_numpys(n):
    clips = numbered(3, n)
    linspace_frames(clips, None, length=52)
    assert sampled(clips)[1].tolist() == np.linspace(0, n - 1, 52).astype(int).tolist()


def test_random_frames_are_sorted_inside_and_cover_the_clip():
    clips = numbered(1, 5, 300)
    random_frames(clips, rng(), length=2000)
    x = sampled(clips)
    assert (x[:, 1:] >= x[:, :-1]).all()
    assert x[0].unique().tolist() == [0] and x[1].unique().tolist() == [0, 1, 2, 3, 4]
    assert x[2].min() >= 0 and x[2].max() <= 299 and len(x[2].unique()) > 280


def test_uniform_frames_take_one_frame_of_each_segment():
    clips = numbered(130, 1000)
    uniform_frames(clips, rng(), length=64)
    for n, row in zip((130, 1000), sampled(clips), strict=True):
        bounds = torch.arange(65) * n // 64
        assert (row >= bounds[:-1]).all() and (row < bounds[1:]).all()


def test_uniform_frames_of_a_clip_shorter_than_twice_the_length_skip_single_frames():
    clips = numbered(100, 64)
    uniform_frames(clips, rng(), length=64)
    gaps = sampled(clips).diff(dim=1)
    assert set(gaps[0].tolist()) == {1.0, 2.0} and sampled(clips)[0].max() <= 99
    assert sampled(clips)[1].tolist() == list(range(64))


def test_uniform_frames_of_a_short_clip_go_round():
    clips = numbered(10, 1)
    uniform_frames(clips, rng(3), length=64)
    row = sampled(clips)[0]
    assert ((row[1:] - row[:-1]) % 10 == 1).all() and (sampled(clips)[1] == 0).all()


def test_uniform_test_clips_do_not_depend_on_the_batch():
    together, alone = numbered(40, 90, 500), numbered(90)
    for clips in (together, alone):
        uniform_frames(clips, rng(), length=32, num_clips=10, seed=255)
    assert sampled(together).shape == (30, 32)
    assert torch.equal(sampled(together)[10:20], sampled(alone))
    assert len(sampled(alone).unique(dim=0)) > 5


def test_samples_of_a_clip_shorter_than_their_number_start_at_every_frame():
    clips = numbered(5)
    uniform_frames(clips, rng(), length=8, num_clips=10, seed=0)
    assert sampled(clips)[:, 0].tolist() == [i % 5 for i in range(10)]


def test_a_seed_that_is_none():
    for seed in (-1, 2**63):
        with pytest.raises(ValueError, match="uniform_frames: seed must be a whole number from 0"):
            uniform_frames(numbered(5), rng(), length=8, seed=seed)


def test_training_draws_differ_from_clip_to_clip():
    clips = numbered(500, 500)
    uniform_frames(clips, rng(), length=64)
    assert not torch.equal(*sampled(clips))


@pytest.mark.parametrize("p_interval", [[1.5], [0.0], [-0.5, 1], [0.9, 0.5], [0.5, 0.7, 1], [], ["a"]])
def test_crops_outside_the_clip_are_refused(p_interval):
    with pytest.raises(ValueError, match="p_interval takes one or two shares over 0 and up to 1"):
        crop_resize(numbered(10), rng(), 4, p_interval)


@pytest.mark.parametrize("n", [10, 63, 64, 100, 300])
def test_centre_crop_and_resize_is_torchs_interpolation(n):
    """CTR-GCN: int((1 - p) n / 2) frames go at either end, the rest is resized bilinearly."""
    clips = numbered(5, n)
    crop_resize(clips, None, length=64, p_interval=[0.95])
    cut = int((1 - 0.95) * n / 2)
    kept = torch.arange(n, dtype=torch.float32)[cut : n - cut][None, None]
    expected = F.interpolate(kept, size=64, mode="linear", align_corners=False)[0, 0]
    torch.testing.assert_close(sampled(clips)[1], expected, atol=1e-4, rtol=0)


def test_random_crops_keep_at_least_the_length_and_stay_inside():
    clips = numbered(*[200] * 500, *[40] * 20)
    crop_resize(clips, rng(), length=64, p_interval=[0.5, 1.0])
    x = sampled(clips)
    span = x[:500, -1] - x[:500, 0]
    assert span.min() > 95 and span.max() < 200 and span.max() - span.min() > 80
    assert x.min() >= 0 and x[:500].max() <= 199
    assert (x[500:, 0] < 1).all() and (x[500:, -1] > 38).all()  # short clips are not cropped


def test_sampling_after_the_frames_were_fetched_gives_the_same():
    early, late = numbered(5, 80), numbered(5, 80)
    assert late.x.shape[1] == 80  # fetches all frames, padded with each clip's last
    assert late.x[0, :, 0, 0, 0].tolist() == [0, 1, 2, 3, *[4] * 76]
    for clips in (early, late):
        uniform_frames(clips, rng(), length=32, num_clips=2)
    assert torch.equal(early.x, late.x) and len(early) == len(late) == 4
