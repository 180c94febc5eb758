"""What is in a store, and what is wrong with it."""

import hashlib
from collections import Counter

import numpy as np

from feeders.balance import class_count
from feeders.store import Store
from torchlight.errors import expect
from torchlight.files import output

TRAIN, TEST = 1, 2
FAR = 100  # times as large as the coordinates of most clips: an error of the recording


def add_arguments(parser):
    parser.add_argument("store")
    parser.add_argument("--plot", metavar="PNG", help="draw three random clips")
    parser.add_argument(
        "--each-class", action="store_true", help="with --plot: a clip of each class instead, up to ten"
    )
    parser.add_argument("--seed", type=int, help="with --plot: other random clips [0]")


def run(arguments):
    """What is in a store, and what is wrong with it: exit status 1 where there are faults."""
    if arguments.plot:
        arguments.plot = output(arguments.plot, ".png", "--plot")
    elif arguments.each_class or arguments.seed is not None:
        raise ValueError("--each-class and --seed choose what --plot draws: it is missing")
    if arguments.each_class and arguments.seed is not None:
        raise ValueError("--each-class draws no random clips: it takes no --seed")
    seed = arguments.seed or 0
    expect(seed >= 0, "--seed", "at least 0", seed)
    try:
        store = Store(arguments.store)
    except ValueError as error:
        print(error)
        print("1 fault: the store cannot be opened")
        return 1
    describe(store)
    finite, faults = inspect_frames(store)
    faults += [f"split {name} has no clips" for name, index in store.splits.items() if not len(index)]
    faults += shared_clips(store) + half_labelled(store)
    for fault in faults:
        print(fault)
    if arguments.plot:
        from data import draw  # matplotlib takes longer to load than most commands of prepare.py need

        chosen = choose(store, np.flatnonzero(finite), arguments.each_class, seed)
        draw.draw_clips(store, chosen, arguments.plot)
    print(f"{len(faults) or 'no'} fault{'s' * (len(faults) != 1)}")
    return 1 if faults else 0


def inspect_frames(store):
    """Read every clip; print lengths, bodies, empty frames, twins. Returns (N,) bool: finite; and faults, as text."""
    finite, faults, first, twins = np.ones(len(store.name), bool), [], {}, []
    size = np.zeros(len(store.name))
    bodies, empty_frames, with_empty = Counter(), 0, 0
    side = split_sides(store)
    for i, name in enumerate(store.name):
        clip = store.clip(i)
        size[i] = np.abs(clip[..., :2]).max()
        finite[i] = np.isfinite(clip).all()
        present = clip.any(axis=(2, 3))  # T, M
        bodies[int(present.any(axis=0).sum())] += 1
        empty = int((~present.any(axis=1)).sum())
        empty_frames, with_empty = empty_frames + empty, with_empty + (empty > 0)
        if not finite[i]:
            faults.append(f"clip {name}: coordinates that are not finite numbers")
        elif empty == len(clip):
            faults.append(f"clip {name}: all coordinates are 0")
        else:
            other = first.setdefault(hashlib.blake2b(np.ascontiguousarray(clip), digest_size=16).digest(), i)
            if side[other] | side[i] == TRAIN | TEST:
                twins.append((store.name[other], name))
    typical = np.median(size[finite]) if finite.any() else 0
    faults += [
        f"clip {name}: coordinates up to {most:g}, where half of the clips stay within {typical:g}"
        for name, most in zip(store.name, size, strict=True)
        if np.isfinite(most) and most > FAR * typical > 0
    ]
    print("  bodies a clip: " + ", ".join(f"{n} in {c}" for n, c in sorted(bodies.items())))
    print(f"  frames without a body: {empty_frames}, in {with_empty} clips")
    print("  frames a clip:")
    for line in histogram(store.length):
        print(f"    {line}")
    if twins:
        print(f"  note: {len(twins)} clips of training and test have the same frames: {' and '.join(twins[0])}, …")
    return finite, faults


def split_sides(store):
    """(N,): TRAIN or TEST for clips that are in such splits alone, 0 for those in both (two protocols) or in none."""
    train, test = (np.zeros(len(store.name), bool) for _ in range(2))
    for name, index in store.splits.items():
        side = train if "train" in name else test if "test" in name else None
        if side is not None:
            side[index] = True
    return np.where(train & ~test, TRAIN, np.where(test & ~train, TEST, 0))


def shared_clips(store):
    """Clips that are in a training split and in the test or validation split beside it, as text."""
    faults = []
    for train in (split for split in store.splits if "train" in split):
        for other in ("test", "val"):
            test = train.rpartition("train")[0] + other
            shared = np.intersect1d(store.splits[train], store.splits.get(test, []))
            if len(shared):
                faults.append(f"{len(shared)} clips are in {train} and in {test}: {store.name[int(shared[0])]}, …")
    return faults


def half_labelled(store):
    """Splits in which some clips have a label and some have none, as text."""
    faults = []
    for split, index in store.splits.items():
        unknown = index[store.label[index] < 0]
        if 0 < len(unknown) < len(index):
            faults.append(f"{len(unknown)} of {len(index)} clips of {split} have no label: {store.name[unknown[0]]}, …")
    return faults


def histogram(length, bins=10, width=40):
    """Lines of text: how many clips have how many frames."""
    edges = np.unique(np.linspace(length.min(), length.max() + 1, bins + 1).astype(int))
    counts, _ = np.histogram(length, edges)
    for low, high, count in zip(edges, edges[1:] - 1, counts, strict=False):
        yield f"{low:5d} to {high:5d} {'#' * -(-width * count // counts.max())} {count}"


def choose(store, candidates, each_class, seed):
    """Clips to draw: three random ones, or the first of each class, of at most ten classes, if any has a label."""
    if not each_class:
        return np.sort(np.random.default_rng(seed).permutation(candidates)[:3])
    labelled = candidates[store.label[candidates] >= 0]
    candidates = labelled if len(labelled) else candidates
    present, first = np.unique(store.label[candidates], return_index=True)
    return candidates[first[np.linspace(0, len(present) - 1, min(10, len(present))).astype(int)]]


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
        counts, unknown = class_count(store.label[index], len(store.classes)), int((store.label[index] < 0).sum())
        more = f", {unknown} without a label" if unknown else ""
        print(f"  split {name}: {len(index)} clips, per class {summary(counts)}{more}")


def summary(counts):
    return " ".join(map(str, counts)) if len(counts) <= 20 else f"{counts.min()} to {counts.max()}"
