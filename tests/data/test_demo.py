"""The demo data set: what it holds, that it can be made again, and that it shows people."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data import prepare
from data.demo import CLASSES, demo_clips

ROOT = Path(__file__).parents[2]

TRAIN_COUNTS = [100, 69, 48, 34, 23, 16, 11, 8, 5, 4]
PELVIS, HEAD, ANKLES = 0, 3, (14, 18)
LONG_BONES = [(0, 1), (1, 20), (4, 5), (5, 6), (8, 9), (9, 10), (12, 13), (13, 14), (16, 17), (17, 18)]


@pytest.fixture(scope="module")
def clips():
    return list(demo_clips())


def test_generation_is_deterministic(clips):
    for first, second in zip(clips, demo_clips(), strict=True):
        assert first[:2] == second[:2] and first[3:] == second[3:]
        np.testing.assert_array_equal(first[2], second[2])


def test_another_seed_gives_other_clips_of_the_same_names(clips):
    for first, second in zip(clips, demo_clips(seed=1), strict=True):
        assert first[0] == second[0]
        assert first[2].shape != second[2].shape or not np.allclose(first[2], second[2])


def test_train_is_long_tailed_and_test_is_balanced(clips):
    counts = Counter((split, label) for _, label, _, _, split in clips)
    assert len(CLASSES) == 10
    assert [counts["train", label] for label in range(10)] == TRAIN_COUNTS
    assert [counts["test", label] for label in range(10)] == [25] * 10
    assert len(counts) == 20


def test_names_are_unique_and_tell_label_and_actor(clips):
    assert len({name for name, *_ in clips}) == len(clips)
    for name, label, _, actor, _ in clips:
        assert name.startswith(f"demo_a{label:02}_p{actor:02}_r")


def test_actors_of_train_and_test_are_different_people(clips):
    train, test = ({actor for *_, actor, split in clips if split == part} for part in ("train", "test"))
    assert len(train) >= 20 and len(test) >= 10 and not train & test


def test_keypoints_are_finite_metres_in_front_of_the_sensor(clips):
    for _, _, keypoint, _, _ in clips:
        assert keypoint.dtype == np.float32
        assert keypoint.shape[1:] == (1, 25, 3) and 30 <= len(keypoint) <= 90
        assert np.isfinite(keypoint).all()
        assert keypoint[..., 2].min() > 1 and keypoint[..., 2].max() < 6
        assert np.abs(keypoint[..., :2]).max() < 3
    assert len({len(keypoint) for _, _, keypoint, _, _ in clips}) > 20


def test_bones_keep_their_length(clips):
    a, b = np.transpose(LONG_BONES)
    for _, _, keypoint, _, _ in clips:
        length = np.linalg.norm(keypoint[:, 0, a] - keypoint[:, 0, b], axis=-1)
        typical = np.median(length, axis=0)
        assert (typical > 0.15).all() and (typical < 0.6).all()
        assert np.median(np.abs(length - typical)) < 0.015  # a few frames may lose a limb, the others only tremble


def test_people_stand_upright(clips):
    for _, _, keypoint, _, _ in clips:
        height = keypoint[:, 0, :, 1].mean(axis=0)
        assert height[HEAD] > height[PELVIS] + 0.3
        assert height[PELVIS] > height[list(ANKLES)].max() + 0.3


def test_people_do_not_float(clips):
    """The lower ankle is near the same height in most frames; the floor slopes a little in a tilted camera."""
    for _, _, keypoint, _, _ in clips:
        low = keypoint[:, 0, ANKLES, 1].min(axis=1)
        assert np.median(np.abs(low - np.median(low))) < 0.1


HELD = """
import runpy, sys, time
from feeders.store import StoreWriter

def hold(self, temporary):
    temporary.touch()
    print("all but written", flush=True)
    time.sleep(600)

StoreWriter._finish = hold
sys.argv = ["prepare.py", "demo", "--out", sys.argv[1]]
runpy.run_path("data/prepare.py", run_name="__main__")
"""


def test_a_stopped_command_leaves_nothing_behind(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HELD, tmp_path / "x.h5"], cwd=ROOT, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"all but written\n"
    assert len(list(tmp_path.iterdir())) == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 128 + signal.SIGTERM
    assert list(tmp_path.iterdir()) == []


def test_a_seed_below_zero(tmp_path):
    with pytest.raises(ValueError, match="--seed must be at least 0, not -1"):
        prepare.main(["demo", "--out", str(tmp_path / "x.h5"), "--seed", "-1"])
