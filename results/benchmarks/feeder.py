"""Clips a second that one CPU core makes for training, against a feeder that makes them one by one with NumPy."""

import random
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from feeders import Store, StoreWriter, TrainBatches, build_feeder
from graph import build_graph
from torchlight.config import read_yaml
from torchlight.device import one_thread

from . import ROOT, in_turns

CLIPS, REPEAT = 1020, 5


def make_store(path, layout, lengths, persons):
    """A generated store with clips of so many frames, least and most; a second person is in every fifth of them."""
    rng = np.random.default_rng(0)
    joints = build_graph(layout).num_point
    with StoreWriter(path, layout, [f"class {k}" for k in range(10)], "generated", num_person=persons) as writer:
        for i in range(CLIPS):
            clip = rng.normal(size=(rng.integers(lengths[0], lengths[1] + 1), persons, joints, 3)) + (0, 0, 3)
            clip[:, 1:] *= i % 5 == 0
            writer.add(f"clip {i}", i % 10, clip, "train")


class OneByOne(Dataset):
    """The clips of a store, each made by itself, for a DataLoader to stack: the manner of CTR-GCN's feeders."""

    def __init__(self, path):
        store = Store(path)
        self.clips, self.label = [self.load(store.clip(i)) for i in range(CLIPS)], store.label

    def __len__(self):
        return CLIPS * REPEAT

    def __getitem__(self, index):
        return self.make(self.clips[index % CLIPS]), self.label[index % CLIPS], index


class Ucla(OneByOne):
    """Centred, turned, scaled, fitted into a cube, 52 frames drawn: NW-UCLA's recipe."""

    def load(self, clip):
        return clip[:, 0].astype(np.float64)

    def make(self, clip):
        a, b = np.radians(random.uniform(-60, 60)), np.radians(random.uniform(-60, 60))
        about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
        scale = np.eye(3) * random.uniform(0.5, 1.5)
        points = (clip - clip[0, 1]).reshape(-1, 3) @ (about_y @ about_x @ scale)
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        frames = ((points - low) / (high - low) * 2 - 1).reshape(clip.shape)
        chosen = sorted(random.sample(list(np.arange(len(clip))) * 100, 52))
        made = np.zeros((52, *clip.shape[1:]))
        made[:] = frames[chosen]
        return made.transpose(2, 0, 1)[..., None]


class Ntu(OneByOne):
    """Cropped, resized to 64 frames, turned: the recipe of NTU RGB+D. Clips are padded to 300 frames."""

    def load(self, clip):
        return np.pad(clip, [(0, 300 - len(clip)), (0, 0), (0, 0), (0, 0)]).transpose(3, 0, 2, 1)  # C, T, V, M

    def make(self, clip):
        C, _, V, M = clip.shape
        length = int(clip.any(axis=(0, 2, 3)).sum())
        size = min(max(int(length * random.uniform(0.5, 1)), 64), length)
        start = random.randint(0, length - size)
        frames = torch.from_numpy(clip[:, start : start + size]).permute(0, 2, 3, 1).reshape(1, 1, C * V * M, size)
        frames = F.interpolate(frames, size=(C * V * M, 64), mode="bilinear", align_corners=False)
        a, b, c = np.random.uniform(-0.3, 0.3, size=3)
        about_x = np.array([[1, 0, 0], [0, np.cos(a), np.sin(a)], [0, -np.sin(a), np.cos(a)]])
        about_y = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
        about_z = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
        turned = (about_z @ about_y @ about_x).astype(np.float32) @ frames.view(C, -1).numpy()
        return turned.reshape(C, V, M, 64).transpose(0, 3, 1, 2)


def go_through(begin, what):
    for _ in begin(what):
        pass


BENCHMARKS = {  # config, its yardstick, layout, lengths, persons
    "NW-UCLA": ("nw-ucla", Ucla, "ucla", (10, 68), 1),
    "NTU RGB+D": ("ntu60-xsub", Ntu, "ntu", (32, 136), 2),
}


def rows():
    """Yield rows (what, measured, goal)."""
    for name, (config, yardstick, layout, lengths, persons) in BENCHMARKS.items():
        options = read_yaml(ROOT / "config" / config / "ce.yaml")
        size, transforms = options["batch_size"], options["train_feeder_args"]["transforms"]
        with tempfile.TemporaryDirectory() as directory, one_thread():
            path = Path(directory) / "x.h5"
            make_store(path, layout, lengths, persons)
            batches = TrainBatches(build_feeder(path, "train", transforms=transforms), size, repeat=REPEAT)
            loader = DataLoader(yardstick(path), size, shuffle=True, drop_last=True)
            assert next(iter(loader))[0].shape == next(batches.epoch(0))[0].shape
            ours, theirs = in_turns([partial(go_through, batches.epoch, 0), partial(go_through, iter, loader)])
        clips = len(batches) * size
        text = f"{theirs / ours:.1f} x ({clips / ours:,.0f} against {clips / theirs:,.0f} clips/s)"
        yield f"feeder, {name}, batches of {size}, one core, against one by one", text, "10 x"
