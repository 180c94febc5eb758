"""A store of the size of NTU RGB+D 60: opening, and memory."""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from feeders import StoreWriter

from . import ROOT


def make_store(path, clips=56880, mean_length=84, seed=0):
    """A generated store of 25 joints; a fifth of the clips have a second body."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(400, 2, 25, 3)).astype(np.float32)
    with StoreWriter(path, "ntu", [f"class {i}" for i in range(60)], "generated", num_person=2) as writer:
        for i in range(clips):
            clip = noise[: int(rng.integers(mean_length // 2, 2 * mean_length - mean_length // 2 + 1))].copy()
            clip[:, 1] *= i % 5 == 0
            writer.add(f"clip {i}", i % 60, clip, "train" if i % 3 else "test")


OPEN = """
import os, sys, time
import torch
from feeders import build_feeder
def resident():
    fields = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(fields["VmRSS"].split()[0]) / 1024
before, start = resident(), time.perf_counter()
recipe = [{"crop_resize": {"length": 64}}, {"random_rotation": {"theta": 0.3}}]
feeder = build_feeder(sys.argv[1], "train", transforms=recipe)
feeder.batch(range(0, len(feeder), len(feeder) // 64))
opened = time.perf_counter() - start
first = resident() - before
order = torch.randperm(len(feeder))
for begin in range(0, len(order) // 4, 64):
    feeder.batch(order[begin : begin + 64])
quarter = resident() - before
others = [build_feeder(sys.argv[1], "train", modality, recipe) for modality in ("bone", "joint-motion", "bone-motion")]
for other in others:
    other.batch(range(64))
print(opened, first, quarter, resident() - before - quarter)
"""


def rows():
    """Yield rows (what, measured, goal)."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "ntu60.h5"
        make_store(path)
        size = path.stat().st_size / 2**20
        printed = subprocess.run(
            [sys.executable, "-c", OPEN, path], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
        opened, first, quarter, streams = map(float, printed.split())
    name = f"56,880 clips, {size / 1024:.1f} GB"
    yield f"{name}: opening and the first batch", f"{opened:.2f} s", "2 s"
    yield f"{name}: memory of a feeder, first batch", f"{first:.0f} MB", "500 MB"
    yield f"{name}: the same after a quarter of an epoch", f"{quarter:.0f} MB", "500 MB"
    yield f"{name}: three more streams of it", f"{streams:.0f} MB more", "no copy"
