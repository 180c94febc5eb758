"""Fusing six streams of the size of NTU RGB+D 120."""

import pickle
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from ensemble import STREAMS
from torchlight.files import write_json

from . import ROOT, in_turns

CLIPS, CLASSES = 50922, 120  # the test clips of the cross-subject protocol

LOAD = """
import pickle, sys
for path in sys.argv[1:]:
    with open(path, "rb") as file:
        pickle.load(file)
"""


def make_run(directory, seed):
    """What a test leaves in a run directory, of generated scores."""
    rng = np.random.default_rng(seed)
    score, label = rng.normal(size=(CLIPS, CLASSES)).astype(np.float32), np.arange(CLIPS) % CLASSES
    score[np.arange(CLIPS), label] += 3
    names = [f"S{i // 3600 + 1:03d}C{i % 3 + 1:03d}P{i // 1200:03d}R{i % 2 + 1:03d}A{i:05d}" for i in range(CLIPS)]
    facts = {"count": [500] * CLASSES, "shots": [20, 100], "classes": [f"class {k}" for k in range(CLASSES)]}
    write_json(directory / "test_label.json", dict(zip(names, label.tolist(), strict=True)))
    write_json(directory / "test_metrics.json", facts)
    with open(directory / "test_score.pkl", "wb") as file:
        pickle.dump(dict(zip(names, score, strict=True)), file)


def rows():
    """Yield rows (what, measured, goal)."""
    with tempfile.TemporaryDirectory() as directory:
        runs = [Path(directory, stream) for stream in STREAMS]
        for seed, run in enumerate(runs):
            run.mkdir()
            make_run(run, seed)
        words = [word for run in runs for word in (f"--{run.name}-dir", str(run))]
        fuse = [sys.executable, "ensemble.py", "--preset", "six", *words]
        load = [sys.executable, "-c", LOAD, *(str(run / "test_score.pkl") for run in runs)]
        commands = load, fuse, [*fuse, "--out", f"{directory}/fused"]
        times = in_turns([lambda c=c: subprocess.run(c, cwd=ROOT, check=True, capture_output=True) for c in commands])
    name = f"six streams of {CLIPS:,} clips, {CLASSES} classes"
    text = f"{times[1]:.1f} s, {times[1] / times[0]:.1f} x what pickle takes to load them"
    yield f"`ensemble.py`, {name}: accuracies", text, "3 s"
    text = f"{times[2]:.1f} s"
    yield "the same with `--out`: files and the picture of the confusion matrix", text, "-"
