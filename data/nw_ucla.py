"""NW-UCLA Multiview Action 3D (Wang et al., CVPR 2014), as the JSON files of its public archive `all_sqe`.

A file a01_s02_e03_v01.json holds action 1 by subject 2, take 3, seen by camera 1: {"skeletons": T x 20 x 3}, in metres.
"""

import json
import re
from pathlib import Path

import numpy as np

from data.bad import BadClips
from data.check import describe
from feeders.store import Store, StoreWriter

CLASSES = {  # number in the file name: name; the labels are the places in this dict, 0 to 9
    1: "pick up with one hand", 2: "pick up with two hands", 3: "drop trash", 4: "walk around", 5: "sit down",
    6: "stand up", 8: "donning", 9: "doffing", 11: "throw", 12: "carry",
}  # fmt: skip
LABELS = {number: label for label, number in enumerate(CLASSES)}
NAME = re.compile(r"a(\d\d)_s(\d\d)_e(\d\d)_v(0[123])$")


def add_arguments(parser):
    parser.add_argument("--source", required=True, help="the directory all_sqe")
    parser.add_argument("--out", default="data/nw-ucla.h5", help="the store to write [%(default)s]")
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable clips, naming them")


def run(arguments):
    """NW-UCLA's JSON files to a store."""
    source = Path(arguments.source)
    if not source.is_dir():
        raise NotADirectoryError(20, "not a directory", str(source))
    bad = BadClips(arguments.skip_bad)
    with StoreWriter(arguments.out, "ucla", list(CLASSES.values()), source="NW-UCLA all_sqe") as writer:
        read(source, writer, bad)
    describe(Store(arguments.out))
    bad.report()


def parse_name(name):
    """'a01_s02_e03_v01' -> dict of label, subject, take, camera. Raises ValueError for another name."""
    match = NAME.match(name)
    if not match or int(match[1]) not in LABELS:
        raise ValueError("the name is not of the form a01_s01_e01_v01 with an action and a camera of NW-UCLA")
    action, subject, take, camera = map(int, match.groups())
    return {"label": LABELS[action], "subject": subject, "take": take, "camera": camera}


def read_clip(path):
    """The frames of a JSON clip, (T, 1, 20, 3) float32. Raises ValueError saying what is wrong with it."""
    try:
        frames = json.loads(Path(path).read_text(encoding="utf-8"))["skeletons"]
        with np.errstate(over="ignore"):  # a number too large becomes infinite, and is found below
            skeleton = np.asarray(frames, dtype=np.float64).astype(np.float32)
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"not a readable clip ({type(error).__name__}: {' '.join(str(error).split())[:100]})"
        ) from None
    if not len(skeleton):
        raise ValueError("no frames")
    if skeleton.ndim != 3 or skeleton.shape[1:] != (20, 3):
        raise ValueError(f"shape {skeleton.shape} instead of (T, 20, 3)")
    if not np.isfinite(skeleton).all():
        frame = int(np.flatnonzero(~np.isfinite(skeleton).all(axis=(1, 2)))[0])
        raise ValueError(f"a coordinate of frame {frame} is not a finite number")
    return skeleton[:, None]


def read(source, writer, bad):
    """Add every clip below the directory `source` to a StoreWriter: cameras 1 and 2 train, camera 3 test.

    bad: a BadClips. Raises ValueError where there is no clip at all.
    """
    paths = sorted(Path(source).rglob("*.json"))
    if not paths:
        raise ValueError(f"{source}: no JSON files; expected are those of NW-UCLA's all_sqe, like a01_s01_e00_v01.json")
    for path in paths:
        try:
            facts = parse_name(path.stem)
            label, split = facts.pop("label"), "test" if facts["camera"] == 3 else "train"
            writer.add(path.stem, label, read_clip(path), split, **facts)
        except ValueError as error:
            bad(path, error)
