"""Kinetics-Skeleton: OpenPose on the videos of Kinetics-400, as released with ST-GCN (Yan et al., AAAI 2018).

A clip kinetics_train/ID.json or kinetics_val/ID.json is {"data": [{"frame_index": 1, "skeleton": [{"pose": [x, y, ...],
"score": [...]}, ...]}, ...], "label_index": 0}: 18 joints, x and y from 0 to 1 from the left to the right and from the
top to the bottom of the picture. kinetics_train_label.json and kinetics_val_label.json: {ID: {"has_skeleton": true,
"label": "abseiling", "label_index": 0}, ...}.

The store holds (x - 0.5) * 2 and (y - 0.5) * 2, both 0 where the score is 0. That is twice the numbers of ST-GCN's
feeder, which go from -0.5 to 0.5; a data batch norm follows in every model.
"""

import json
import os
from itertools import chain
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.bad import BadClips
from data.check import describe
from data.parallel import check_workers, ordered_map
from feeders.store import Store, StoreWriter
from torchlight.files import read_json

FOLDERS = {"kinetics_train": "train", "kinetics_val": "test"}  # and the split that each becomes
CLASSES = 400
JOINTS = 18
LONGEST = 100_000  # frames; those of the release have 300
LARGEST = 64 << 20  # bytes of a file


def add_arguments(parser):
    parser.add_argument("--source", required=True, help="the directory with kinetics_train and its label file")
    parser.add_argument("--out", default="data/kinetics-skeleton.h5", help="the store to write [%(default)s]")
    parser.add_argument("--num-person", type=int, default=2, help="persons of a frame, by their scores [%(default)s]")
    parser.add_argument("--workers", type=int, help="processes that read [one a core]")
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable clips, naming them")


def run(arguments):
    """Kinetics-Skeleton's JSON files to a store. Stopped or killed, it goes on where it was when it is run again."""
    if arguments.num_person < 1:
        raise ValueError(f"--num-person must be at least 1, not {arguments.num_person}")
    check_workers(arguments.workers)
    labels = read_labels(arguments.source)
    bad = BadClips(arguments.skip_bad)
    clips, empty = find_clips(arguments.source, labels, bad)
    with StoreWriter(
        arguments.out, "openpose", class_names(labels), "Kinetics-Skeleton", arguments.num_person, "xys", resume=clips
    ) as writer:
        empty += read(clips, writer, bad, arguments.num_person, arguments.workers)
    describe(Store(arguments.out))
    if empty:
        print(f"{empty} clips have no skeleton in any frame and were left out")
    bad.report()


# ---- labels


def read_labels(source):
    """{folder: {clip: its entry in the label file}} of the folders that are there. Raises ValueError or OSError."""
    source, labels = Path(source), {}
    if not source.is_dir():
        raise NotADirectoryError(20, "not a directory", str(source))
    for folder in FOLDERS:
        if (source / folder).is_dir():
            path = source / f"{folder}_label.json"
            labels[folder] = read_json(path)
            if not isinstance(labels[folder], dict):
                raise ValueError(f"{path}: a mapping of clips to their labels was expected")
    if not labels:
        raise ValueError(f"{source}: none of the directories {', '.join(FOLDERS)} is there")
    return labels


def parse_entry(entry):
    """An entry of a label file: (label, whether there is a skeleton). Raises ValueError."""
    label = entry.get("label_index") if isinstance(entry, dict) else None
    if not isinstance(label, int) or isinstance(label, bool) or not 0 <= label < CLASSES:
        raise ValueError(f"its entry in the label file has no label_index from 0 to {CLASSES - 1}")
    return label, entry.get("has_skeleton") is not False


def class_names(labels):
    """The 400 names of the label files, `class i` where there is none. Raises ValueError for two names of a class."""
    names = {}
    for folder, entries in labels.items():
        for clip, entry in entries.items():
            try:
                label, _ = parse_entry(entry)
            except ValueError:
                continue  # is found again when the clip is read
            name = entry.get("label")
            if isinstance(name, str) and names.setdefault(label, name) != name:
                raise ValueError(f"{folder}_label.json: class {label} is {name!r} for {clip}, {names[label]!r} before")
    return [names.get(label, f"class {label}") for label in range(CLASSES)]


# ---- clips


def read(clips, writer, bad, num_person, workers=None):
    """Add the clips to a StoreWriter.

    clips: see find_clips; bad: a BadClips. Clips that the writer has are not read again. Returns how many clips have no
    skeleton; they are not added.
    """
    clips, empty = [clip for clip in clips if clip[1] not in writer], 0
    found = ordered_map(load_clip, ((path, label, num_person) for path, _, label, _ in clips), workers)
    progress = tqdm(zip(clips, found, strict=True), total=len(clips), disable=None, unit=" clips")
    for (path, name, label, split), (clip, error) in progress:
        if error is None and not clip.any():
            empty += 1  # the release says has_skeleton of some that have none
            continue
        try:
            if error is not None:
                raise ValueError(error)
            writer.add(name, label, clip, split)
        except ValueError as problem:
            bad(path, problem)
    return empty


def find_clips(source, labels, bad):
    """([(path, name, label, split)] of the clips to read, how many there are without a skeleton). Those of
    kinetics_train are split train, of kinetics_val test.

    labels: see read_labels; bad: a BadClips. Prints how many clips of the label files have no file.
    """
    clips, names, empty = [], set(), 0
    for folder, entries in labels.items():
        directory, absent = os.path.join(source, folder), 0
        files = {name.removesuffix(".json") for name in os.listdir(directory) if name.endswith(".json")}
        for name in sorted(files | set(entries)):
            path = os.path.join(directory, f"{name}.json")
            try:
                if name not in entries:
                    raise ValueError(f"{folder}_label.json has no entry for it")
                label, has_skeleton = parse_entry(entries[name])
                if name in names:
                    raise ValueError("there is a clip of this name in kinetics_train")
            except ValueError as error:
                bad(path, error)
                continue
            names.add(name)
            if not has_skeleton:
                empty += 1
            elif name not in files:
                absent += 1
            else:
                clips.append((path, name, label, FOLDERS[folder]))
        if absent:
            print(f"note: {absent} clips of {folder}_label.json have no file in {directory}")
    return clips, empty


def load_clip(task):
    """(path, label, num_person) -> (clip, None), or (None, what is wrong with it). For worker processes."""
    path, label, num_person = task
    try:
        if os.path.getsize(path) > LARGEST:
            raise ValueError(f"{os.path.getsize(path)} bytes: too large for a clip")
        clip, found = read_clip(Path(path).read_bytes(), num_person)
        if found is not None and found != label:
            found = found if isinstance(found, int) else f"a {type(found).__name__}"
            raise ValueError(f"its label_index is {found}, but {label} in the label file")
    except (ValueError, OSError) as error:
        return None, " ".join(str(error).split())[:300]
    return clip, None


def read_clip(data, num_person=2):
    """The bytes of a clip's file -> ((T, num_person, 18, 3) float32: x, y, score, its label_index or None).

    The persons of each frame are ordered by the sums of their scores, highest first; those beyond num_person are left
    out (ST-GCN's feeder looks at the first five only). T is the largest frame_index: frames without an entry or a
    skeleton are 0. A clip that has a frame 0, as ST-GCN's own tool writes it, is counted from there. Raises ValueError.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON ({error})") from None
    frames = _member(content, "data", list, "the clip")
    indices = [_frame_index(entry) for entry in frames]
    if len(set(indices)) < len(indices):
        raise ValueError("a frame_index is there twice")
    first = 0 if 0 in indices else 1
    owner, rows = [], []  # the frame of each person, its pose and score
    for index, entry in zip(indices, frames, strict=True):
        for person in _member(entry, "skeleton", list, f"frame {index}"):
            pose, score = (_member(person, key, list, f"a person of frame {index}") for key in ("pose", "score"))
            if len(pose) != 2 * JOINTS or len(score) != JOINTS:
                raise ValueError(
                    f"frame {index}: {len(pose)} numbers of a pose and {len(score)} scores; "
                    f"{JOINTS} joints have {2 * JOINTS} and {JOINTS}"
                )
            owner.append(index - first)
            rows.append(pose + score)
    clip = np.zeros((max(indices, default=0) + 1 - first, num_person, JOINTS, 3), np.float32)
    if rows:
        frame, place, joints = order_persons(np.asarray(owner), _numbers(rows, owner, first))
        kept = place < num_person
        clip[frame[kept], place[kept]] = joints[kept]
    return clip, content.get("label_index")


def order_persons(frame, rows):
    """frame (n,) of each person, rows (n, 54): 36 coordinates, 18 scores -> in the order of frames and falling sums of
    scores: frame (n,), the place in the frame (n,), joints (n, 18, 3) float32.
    """
    with np.errstate(over="ignore"):  # a number too large becomes infinite; the writer finds it
        score = rows[:, 2 * JOINTS :]
        order = np.lexsort((-score.sum(axis=1), frame))
        frame, score = frame[order], score[order]
        pose = (rows[order, : 2 * JOINTS].reshape(-1, JOINTS, 2) - 0.5) * 2
        joints = np.concatenate([np.where(score[..., None] == 0, 0, pose), score[..., None]], axis=2).astype(np.float32)
    return frame, np.arange(len(frame)) - np.searchsorted(frame, frame), joints


def _member(content, key, kind, where):
    """content[key], which must be there and of this kind."""
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where} has no {key} of type {kind.__name__}")
    return value


def _frame_index(entry):
    index = _member(entry, "frame_index", int, "an entry of data")
    if not 0 <= index <= LONGEST:
        raise ValueError(f"a frame_index is {str(index)[:20]}; from 1 to {LONGEST} was expected")
    return index


def _numbers(rows, owner, first):
    """Lists of equally many numbers as an array (n, 54) float64."""
    if not set(map(type, chain.from_iterable(rows))) <= {int, float}:
        raise ValueError("a pose or a score holds something other than numbers")
    try:
        values = np.array(rows, dtype=np.float64)
    except OverflowError:  # of a whole number
        raise ValueError("a pose or a score holds a number that is too large") from None
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ValueError(f"a number of frame {owner[int(finite.argmin())] + first} is not finite")
    return values
