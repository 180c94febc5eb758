"""Shared fixtures: a tiny store, published networks with synthetic weights, and the real data where it is there."""

import json
import os
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from feeders import StoreWriter

torch.set_num_threads(1)  # the networks of the tests are small: several threads would wait for each other


@pytest.fixture(autouse=True)
def seeded():
    """Weights and clips of a test do not depend on the tests before it."""
    torch.manual_seed(0)


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


@pytest.fixture
def change_split():
    """change_split(store, name, clips): as a conversion of another version of the source would."""

    def change(path, name, index):
        with h5py.File(path, "r+") as file:
            del file[f"split/{name}"]
            file[f"split/{name}"] = np.asarray(index)

    return change


def synthetic_weights(meta, kept):
    """The state dict of a golden file: every value is a function of its key's name."""
    state = {}
    for key, shape in meta["keys"]:
        r = np.asarray(np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape), dtype=np.float32)
        if key in meta["kept"]:
            value = kept[f"kept/{key}"]
        elif key.endswith("num_batches_tracked"):
            value = np.zeros((), np.int64)
        elif key.endswith("running_mean"):
            value = 0.1 * r
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(r)
        elif len(shape) >= 2:
            value = meta["gain"] * r / np.sqrt(np.prod(shape[1:]))
        else:
            value = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
        state[key] = torch.from_numpy(np.asarray(value))
    return state


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> (state dict of the release, input N C T V M, logits of the release, meta)."""

    def load(name):
        file = np.load(Path(__file__).parent / "golden" / f"{name}.npz")
        meta = json.loads(str(file["meta"]))
        x = np.random.RandomState(meta["input_seed"]).standard_normal(meta["input_shape"]).astype(np.float32)
        x = torch.from_numpy(x)
        if meta["layout_of_input"] == "N M T V C":
            x = x.permute(0, 4, 2, 3, 1)
        return synthetic_weights(meta, file), x, torch.from_numpy(file["output"]), meta

    return load
