"""Shared fixtures: a tiny store, and where the real data is, if it is there."""

import os
from pathlib import Path

import numpy as np
import pytest

from feeders import StoreWriter

# Real clips and reference outputs are no part of the repository; tests that need them are skipped without them.
REFERENCE = Path(os.environ.get("REFERENCE_DATA", Path(__file__).parents[2] / "shared"))


@pytest.fixture(scope="session")
def reference():
    """path("datasets/…"): a file or directory of real data; the test is skipped where it is absent."""

    def path(name):
        if not (REFERENCE / name).exists():
            pytest.skip(f"needs {REFERENCE / name} (set REFERENCE_DATA)")
        return REFERENCE / name

    return path


COUNTS = (8, 4, 2, 1)  # training clips of each class in the tiny store


def tiny_clip(rng, label, length, joints=20, persons=1):
    """A clip that a small network can tell by its class: one limb swings with a frequency of its own."""
    pose = np.random.default_rng(0).normal(size=(joints, 3))
    clip = np.broadcast_to(pose, (length, persons, joints, 3)).copy()
    time = np.arange(length)[:, None]
    clip[:, :, 4 * label : 4 * label + 4, 1] += np.sin((label + 1) * time / 3 + rng.uniform(0, 6))[:, None]
    return (clip + rng.normal(size=clip.shape) * 0.02).astype(np.float32)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory):
    """A store of 4 classes, layout ucla: split train (8, 4, 2, 1 clips), split test (2 each); some have one frame."""
    path = tmp_path_factory.mktemp("stores") / "tiny.h5"
    rng = np.random.default_rng(1)
    with StoreWriter(path, "ucla", ["wave", "kick", "nod", "jump"], source="test") as writer:
        for label, count in enumerate(COUNTS):
            for i in range(count):
                length = 1 if (label, i) == (1, 0) else int(rng.integers(5, 40))
                writer.add(f"train_{label}_{i}", label, tiny_clip(rng, label, length), "train", camera=1)
        for label in range(4):
            for i in range(2):
                length = 1 if (label, i) == (0, 0) else 20
                writer.add(f"test_{label}_{i}", label, tiny_clip(rng, label, length), "test", camera=3)
    return path
