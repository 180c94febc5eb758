"""What is in a store, and what is wrong with it."""

import numpy as np

from data import draw
from feeders.store import Store


def add_arguments(parser):
    parser.add_argument("store")
    parser.add_argument("--plot", metavar="PNG", help="draw a clip of each class, of at most ten")


def run(arguments):
    """What is in a store; what is wrong with it."""
    store = Store(arguments.store)
    describe(store)
    findings = []
    for i, name in enumerate(store.name):
        clip = store.clip(i)
        if not np.isfinite(clip).all():
            findings.append(f"clip {name}: coordinates that are not finite numbers")
        elif not clip.any():
            findings.append(f"clip {name}: all coordinates are 0")
    for train in (split for split in store.splits if "train" in split):
        test = train.rpartition("train")[0] + "test"
        shared = np.intersect1d(store.splits[train], store.splits.get(test, []))
        if len(shared):
            findings.append(f"{len(shared)} clips are in {train} and in {test}: {store.name[int(shared[0])]}, …")
    for finding in findings:
        print(finding)
    if arguments.plot:
        present = np.unique(store.label)
        picked = present[np.linspace(0, len(present) - 1, min(10, len(present))).astype(int)]
        draw.draw_clips(store, [np.flatnonzero(store.label == label)[0] for label in picked], arguments.plot)
    print("no faults found" if not findings else f"{len(findings)} faults")
    return 1 if findings else 0


def describe(store):
    """Print what is in a store."""
    F, M, V, C = store.keypoint.shape
    length = store.length
    print(f"{store.path}: {store.source}; {store.path.stat().st_size / 2**20:.1f} MB")
    print(
        f"  {len(length)} clips, {len(store.classes)} classes, {F} frames ({length.min()} to {length.max()} a clip, "
        f"mean {length.mean():.1f}), layout {store.layout.name}: {M} persons, {V} joints, channels {store.channels}"
    )
    for name, index in store.splits.items():
        counts = np.bincount(store.label[index], minlength=len(store.classes))
        print(f"  split {name}: {len(index)} clips, per class {summary(counts)}")


def summary(counts):
    return " ".join(map(str, counts)) if len(counts) <= 20 else f"{counts.min()} to {counts.max()}"
