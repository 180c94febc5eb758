"""Annotation pickles of PYSKL (Duan et al., ACM MM 2022): NTU RGB+D, FineGYM, UCF101, HMDB51, Kinetics-400 and others.

A file is {"split": {name: [frame_dir, …]}, "annotations": [{frame_dir, label, total_frames, img_shape (height, width),
keypoint (M, T, V, C), keypoint_score (M, T, V)}, …]}; old ones are the list alone and have "filename" for "frame_dir".
For Kinetics-400 the annotations have "raw_file", "frame_inds" and "box_score" instead of the keypoints, which are in
many kpfiles, {frame_dir: {"keypoint": (n, V, 3)}}: x, y, score of every skeleton of the clip.

3D coordinates of NTU RGB+D are centred as `prepare.py ntu60` does it (PYSKL's recipe, PreNormalize3D, centres again),
others are stored as they are. 2D coordinates are stored as PYSKL's recipe (PreNormalize2D) feeds them: -1 to 1 over the
picture, 0 where the score of the joint is at most 0.01; where there are scores they are the third channel. A body that
has only zeros in a frame of the file has only zeros in the store.

A file is in memory as a whole until its clips are written: as much as its size, that of all files together where there
are several. Of the kpfiles the last one is.
"""

import operator
import re
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from data import ntu
from data.bad import BadClips
from data.check import describe
from feeders.store import Store, StoreWriter, check_split
from graph import LAYOUTS
from torchlight.files import load_pickle, read_names

SPATIAL = {25: "ntu", 20: "ucla"}  # number of joints: layout
PLANAR = {17: "coco", 18: "openpose"}
INVISIBLE = 0.01  # a joint with such a score, or a lower one, has no place
PERSONS = 2  # of a clip, at most, unless --num-person says otherwise
LARGEST_LABEL = 1 << 16
LARGEST_PICTURE = 1 << 16  # pixels of a side


def add_arguments(parser):
    parser.add_argument("--source", required=True, nargs="+", metavar="PKL", help="annotation pickles")
    parser.add_argument("--out", required=True, help="the store to write")
    parser.add_argument("--kpfiles", metavar="DIR", help="the directory of the kpfiles, for Kinetics-400")
    parser.add_argument("--box-threshold", type=float, help="of kpfiles: skeletons of lower box score go [0.5]")
    parser.add_argument("--num-person", type=int, help="persons of a clip [as many as there are, up to 2]")
    parser.add_argument(
        "--img-shape", type=int, nargs=2, metavar=("HEIGHT", "WIDTH"), help="of 2D clips that have none: their picture"
    )
    parser.add_argument("--layout", choices=list(LAYOUTS), help="the skeleton [by the number of joints]")
    parser.add_argument("--classes", metavar="FILE", help="names of the classes, one a line, label 0 first")
    parser.add_argument("--split", help="for files without splits: the name of theirs [the file's name without .pkl]")
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable clips, naming them")


def run(arguments):
    """PYSKL's annotation pickles to a store.

    Of more persons than --num-person those with the highest total score are kept, highest first, and where there are no
    scores those that move most (the variances of their coordinates over frames and joints, summed). The skeletons of
    kpfiles belong to no person: in every frame they stand in the order of their box scores, best first, and frames
    without any are left out.
    """
    if arguments.num_person is not None and arguments.num_person < 1:
        raise ValueError(f"--num-person must be at least 1, not {arguments.num_person}")
    clips, splits = read_files(arguments.source, arguments.split)
    if not arguments.kpfiles and any(needs_kpfile(clip.annotation) for clip in clips):
        raise ValueError(f"{arguments.source[0]}: its keypoints are in kpfiles: --kpfiles names their directory")
    kpfiles = KpFiles(arguments.kpfiles) if arguments.kpfiles else None
    clips = deque(sorted(clips, key=lambda clip: str(clip.annotation.get("raw_file", ""))))  # each kpfile is read once
    form = find_form(clips, kpfiles, arguments)
    refuse_unused(arguments, clips, form)
    classes, of_ntu = find_classes(clips, arguments.classes)
    lost = names_without_clip(clips, splits)
    source = "PYSKL " + ", ".join(Path(path).name for path in arguments.source)
    bad = BadClips(arguments.skip_bad)
    with StoreWriter(arguments.out, form.layout, classes, source, form.num_person, form.channels) as writer:
        crowded, homeless = write(clips, splits, form, of_ntu, kpfiles, writer, bad)
    describe(Store(arguments.out))
    if crowded:
        print(f"{crowded} clips have more persons than the {form.num_person} of the store")
    if lost:
        counts = ", ".join(f"{split} {len(names)}" for split, names in lost.items())
        print(f"names in splits that have no annotation: {counts} ({next(iter(lost.values()))[0]}, …)")
    if homeless:
        print(f"{homeless} clips are in no split")
    bad.report()


def refuse_unused(arguments, clips, form):
    """Raise ValueError for an option that says nothing about any clip."""
    used = {
        "kpfiles": any(needs_kpfile(clip.annotation) for clip in clips),
        "box_threshold": any(is_compressed(clip.annotation) for clip in clips),
        "img_shape": form.channels != "xyz" and any(clip.annotation.get("img_shape") is None for clip in clips),
    }
    for option, is_used in used.items():
        if getattr(arguments, option) is not None and not is_used:
            raise ValueError(f"{arguments.source[0]}: no clip needs --{option.replace('_', '-')}")


def write(clips, splits, form, of_ntu, kpfiles, writer, bad):
    """Add all clips, a deque of Clips that is empty afterwards, to a StoreWriter.

    bad: a BadClips. Returns how many of the clips written have more persons than the store, and how many no split.
    """
    crowded = homeless = 0
    splits_of = {}
    for split, names in splits.items():
        for name in names:
            splits_of.setdefault(name, []).append(split)
    for _ in tqdm(range(len(clips)), unit="clip", disable=None):
        clip = clips.popleft()  # what is written need not stay in memory
        try:
            name, label = clip_name(clip.annotation), clip_label(clip.annotation)
            if name in writer:
                raise ValueError("there are two of this name")
            keypoint, persons = read_clip(clip.annotation, form, kpfiles)
            meta = picture(clip.annotation, form.img_shape) if form.channels != "xyz" else {}
            if of_ntu:
                meta |= ntu.parse_name(name)
                del meta["action"]
            writer.add(name, label, keypoint, splits_of.get(name), **meta)
        except ValueError as error:
            bad(clip, error)
            continue
        crowded += persons > form.num_person
        homeless += name not in splits_of
    return crowded, homeless


# ---- files


@dataclass
class Clip:
    """An annotation and where it is from, for messages."""

    path: str
    number: int
    annotation: dict

    def __str__(self):
        return f"{self.path}: {clip_name(self.annotation, f'annotation {self.number}')}"


def read_files(paths, own_split=None):
    """All Clips of some pickles, and their splits: {name of the store: set of clip names}.

    own_split: the name of the split of files that have none. Raises ValueError or OSError naming file and key.
    """
    clips, splits = [], {}
    for path in paths:
        content = load_pickle(path)
        if not isinstance(content, dict):
            content = {"annotations": content}
        if "annotations" not in content:
            raise ValueError(f"{path}: not a file of PYSKL annotations: the key annotations is missing")
        annotations = content["annotations"]
        if not isinstance(annotations, list | tuple) or not all(isinstance(item, dict) for item in annotations):
            raise ValueError(f"{path}: not a file of PYSKL annotations: annotations must be a list of dicts")
        if not annotations:
            raise ValueError(f"{path}: annotations is empty")
        clips += [Clip(str(path), number, item) for number, item in enumerate(annotations)]
        if content.get("split") is None:
            stem = Path(path).stem
            found = {own_split or rename([stem])[stem]: [clip_name(item, None) for item in annotations]}
        elif own_split:
            raise ValueError(f"{path}: has a split of its own; --split names that of files without")
        else:
            found = read_splits(path, content["split"])
        for split, names in found.items():
            try:
                check_split(split, splits)
            except ValueError as error:
                raise ValueError(f"{path}: {error} (--split names that of a file without)") from None
            splits.setdefault(split, set()).update(names)
    return clips, splits


def read_splits(path, content):
    """The value of the key split -> {name of the store: list of clip names}. Raises ValueError naming the file."""
    names = {key: list(value) for key, value in content.items()} if _is_splits(content) else None
    if names is None or not all(isinstance(name, str) for value in names.values() for name in value):
        raise ValueError(f"{path}: split must be a dict of lists of clip names")
    renamed = rename(names)
    return {renamed[key]: value for key, value in names.items()}


def _is_splits(content):
    return isinstance(content, dict) and all(
        isinstance(key, str) and isinstance(value, list | tuple | set | np.ndarray) for key, value in content.items()
    )


def rename(names):
    """{PYSKL's name of a split: the store's}.

    'xsub_val' becomes 'xsub/test', likewise train, and xview, xset, csv1, csv2 (UAV-Human); 'train1' becomes
    'split1/train', 'test1' 'split1/test' (UCF101, HMDB51); 'val' becomes 'test'. Another name stays, and so do all of a
    file of which two would become the same.
    """

    def renamed(name):
        if match := re.fullmatch(r"(xsub|xview|xset|csv[12])_(train|val)", name):
            return f"{match[1]}/{match[2]}".replace("val", "test")
        if match := re.fullmatch(r"(train|test)(\d)", name):
            return f"split{match[2]}/{match[1]}"
        return "test" if name == "val" else name

    result = {name: renamed(name) for name in names}
    return result if len(set(result.values())) == len(result) else {name: name for name in names}


def names_without_clip(clips, splits):
    """{split: sorted names that no annotation has}, of the splits with such names."""
    known = {clip_name(clip.annotation, None) for clip in clips}
    return {split: sorted(names - known) for split, names in splits.items() if names - known}


class KpFiles:
    """The kpfiles below a directory. The last one read stays in memory."""

    def __init__(self, root):
        self.root = Path(root).resolve()
        if not self.root.is_dir():
            raise NotADirectoryError(20, "not a directory", str(root))
        self._path = self._content = None

    def find(self, raw_file):
        """The path of a kpfile: raw_file below the directory, or without its first parts, at last the name alone.

        Raises ValueError for one that is not there, and one that leads out of the directory.
        """
        if not isinstance(raw_file, str):
            raise ValueError(f"raw_file must be a path, not {type(raw_file).__name__}")
        parts = PurePosixPath(raw_file).parts
        places = [self.root.joinpath(*parts[first:]).resolve() for first in range(len(parts))]
        inside = [place.is_relative_to(self.root) for place in places]
        if not all(inside[:1]):
            raise ValueError(f"raw_file {raw_file} leads out of {self.root}")
        for place, is_inside in zip(places, inside, strict=True):
            if is_inside and place.is_file():
                return place
        raise ValueError(f"there is no kpfile {raw_file} in {self.root}")

    def keypoint(self, raw_file, name):
        """What a kpfile has as keypoint of a clip. Raises ValueError naming the kpfile."""
        path = self.find(raw_file)
        if path != self._path:
            self._path, self._content = path, None  # one goes before the next comes
            try:
                self._content = load_pickle(path)
            except ValueError as error:
                self._content = error
        if isinstance(self._content, ValueError):
            raise ValueError(str(self._content))
        entry = self._content.get(name) if isinstance(self._content, dict) else None
        if not isinstance(entry, dict) or "keypoint" not in entry:
            raise ValueError(f"{path} has no keypoint of it")
        return entry["keypoint"]


# ---- what the clips have in common


@dataclass
class Form:
    """What the clips of a store have in common, and how they are read.

    layout: a name; channels: a word in CHANNELS; threshold: of box scores; img_shape: of clips that have none.
    """

    layout: str
    channels: str
    num_person: int
    threshold: float
    img_shape: tuple | None = None


def find_form(clips, kpfiles, arguments):
    """The Form of the store: that of most clips, as far as it is known or fits --layout. Raises ValueError."""
    shapes, persons, compressed, error = Counter(), 1, False, None
    threshold = 0.5 if arguments.box_threshold is None else arguments.box_threshold
    for clip in clips:
        try:
            if is_compressed(clip.annotation):
                if not compressed:  # one kpfile will do
                    shapes[skeletons(clip.annotation, kpfiles)[0].shape[1], 2, True] += 1
                    compressed = True
                if persons < PERSONS:
                    persons = max(persons, most_skeletons(clip.annotation, threshold))
            else:
                keypoint, score = arrays(clip.annotation)
                shapes[keypoint.shape[2], keypoint.shape[3], score is not None] += 1
                persons = max(persons, len(keypoint))
        except ValueError as reason:
            error = error or f"{clip}: {reason}"
    if not shapes:
        raise ValueError(error)
    for (V, C, scored), _ in shapes.most_common():
        layout = arguments.layout or PLANAR.get(V) or (SPATIAL.get(V) if C == 3 else None)
        if layout and len(LAYOUTS[layout].joints) == V:
            channels = channels_of(C, scored, layout)
            persons = arguments.num_person or min(PERSONS, persons)
            return Form(layout, channels, persons, threshold, arguments.img_shape)
    (V, C, _), _ = shapes.most_common(1)[0]
    found = f"{arguments.source[0]}: its clips have {V} joints of {C} coordinates"
    if arguments.layout:
        raise ValueError(f"{found}; layout {arguments.layout} has {len(LAYOUTS[arguments.layout].joints)} joints")
    raise ValueError(f"{found}: no layout is known for them (--layout names one: {', '.join(LAYOUTS)})")


def channels_of(C, scored, layout):
    """The word for C channels and a keypoint_score; the third channel of a 2D layout is a score."""
    if C == 2:
        return "xys" if scored else "xy"
    return "xys" if layout in PLANAR.values() else "xyz"


def find_classes(clips, path=None):
    """The names of the classes, and whether the names of all clips are of NTU RGB+D.

    path: a file of them, which must have one for every label. Else those of NTU RGB+D where clips and labels are, else
    "class 0" and so on. Raises ValueError.
    """
    K, largest, of_ntu, actions = 1, None, True, True
    for clip in clips:
        name = clip_name(clip.annotation, None)
        try:
            label = clip_label(clip.annotation)
        except ValueError:
            continue
        if label >= K:
            K, largest = label + 1, clip
        if name is not None:
            of_ntu = of_ntu and ntu.NAME.match(name) is not None
            actions = actions and of_ntu and ntu.parse_name(name)["action"] == label + 1
    if path:
        classes = read_names(path)
        if len(classes) < K:
            raise ValueError(f"{path}: {len(classes)} names, but {largest} has label {K - 1}; labels count from 0")
        return classes, of_ntu
    if actions and len(ntu.CLASSES) >= K:
        return list(ntu.CLASSES[: 60 if K <= 60 else 120]), of_ntu
    return [f"class {label}" for label in range(K)], of_ntu


# ---- one clip


def clip_name(annotation, *default):
    """The clip's name. Raises ValueError for what cannot be one, or returns the default where that is given."""
    name = annotation.get("frame_dir", annotation.get("filename"))
    if isinstance(name, str) and name and name.isprintable():
        return name
    if default:
        return default[0]
    raise ValueError(f"frame_dir must be a name, not {name!r:.100}")


def clip_label(annotation):
    """Raises ValueError for what is no label."""
    if "label" not in annotation:
        raise ValueError("the key label is missing")
    try:
        label = operator.index(annotation["label"])
    except TypeError:
        raise ValueError(f"label must be a whole number, not {annotation['label']!r:.100}") from None
    if not 0 <= label <= LARGEST_LABEL:
        raise ValueError(f"label {str(label)[:20]}; labels are 0 to {LARGEST_LABEL}")
    return label


def picture(annotation, default=None):
    """{height, width} of the picture, in pixels: its img_shape, or the default. Raises ValueError."""
    shape = annotation.get("img_shape")
    shape = default if shape is None else shape
    if shape is None:
        raise ValueError("the key img_shape is missing; 2D coordinates need it (--img-shape gives one to all clips)")
    try:
        height, width = map(operator.index, shape)
    except (TypeError, ValueError):
        height = width = 0
    if not (0 < height <= LARGEST_PICTURE and 0 < width <= LARGEST_PICTURE):
        raise ValueError(f"img_shape must be (height, width), not {shape!r:.100}")
    return {"height": height, "width": width}


def needs_kpfile(annotation):
    return "keypoint" not in annotation and "raw_file" in annotation


def is_compressed(annotation):
    """Whether its keypoints are a list of skeletons, (n, V, 3), each with its frame."""
    return "frame_inds" in annotation or needs_kpfile(annotation)


def array(content, key, what):
    """An array of numbers with the dimensions `what`. Raises ValueError."""
    if key not in content:
        raise ValueError(f"the key {key} is missing")
    value = content[key]
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu" or value.ndim != len(what):
        shape = f"{value.dtype} of shape {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
        raise ValueError(f"{key} must be an array of numbers ({', '.join(what)}), not {shape}")
    return value


def total_frames(annotation, default):
    """Raises ValueError for what is no number of frames."""
    try:
        return operator.index(annotation.get("total_frames", default))
    except TypeError:
        raise ValueError(f"total_frames must be a whole number, not {annotation['total_frames']!r:.100}") from None


def arrays(annotation):
    """keypoint (M, T, V, C) and keypoint_score (M, T, V), or None, as they are in an annotation. Raises ValueError."""
    keypoint = array(annotation, "keypoint", "MTVC")
    M, T, _, C = keypoint.shape
    score = annotation.get("keypoint_score")
    if not T:
        raise ValueError("no frames")
    if not M:
        raise ValueError("no person in any frame")
    if C not in (2, 3):
        raise ValueError(f"keypoint has shape {keypoint.shape}: {C} coordinates instead of 2 or 3")
    if score is not None:
        score = array(annotation, "keypoint_score", "MTV")
        if C != 2 or score.shape != keypoint.shape[:3]:
            raise ValueError(f"keypoint_score of shape {score.shape} does not go with keypoint of {keypoint.shape}")
    if total_frames(annotation, T) != T:
        raise ValueError(f"total_frames is {annotation['total_frames']}, but keypoint has {T} frames")
    return keypoint, score


def skeletons(annotation, kpfiles):
    """The skeletons of a compressed clip: keypoint (n, V, 3), frame (n,), box score (n,), as they are there.

    Where there is no box score all have 1. Raises ValueError.
    """
    content = annotation
    if needs_kpfile(annotation):
        content = {"keypoint": kpfiles.keypoint(annotation["raw_file"], clip_name(annotation))}
    keypoint = array(content, "keypoint", "nV3")
    frame = array(annotation, "frame_inds", "n")
    box = array(annotation, "box_score", "n") if "box_score" in annotation else np.ones(len(frame), np.float32)
    if keypoint.shape[2] != 3:
        raise ValueError(f"keypoint has shape {keypoint.shape} instead of (n, V, 3)")
    if not len(keypoint) == len(frame) == len(box):
        raise ValueError(f"{len(keypoint)} skeletons in keypoint, {len(frame)} in frame_inds, {len(box)} in box_score")
    last = total_frames(annotation, np.iinfo(np.int64).max)  # whether they count from 0 or from 1
    if frame.dtype.kind not in "iu" or frame.min(initial=0) < 0 or frame.max(initial=0) > last:
        raise ValueError(f"frame_inds are not the numbers of {annotation.get('total_frames', 'the')} frames")
    if not np.isfinite(box).all():
        raise ValueError("a box score is not a finite number")
    return keypoint, frame, box


def is_kept(box, threshold):
    """(n,) bool: the box score is at least the threshold; both in the score's own precision, as PYSKL does it."""
    return box >= (box.dtype.type(threshold) if box.dtype.kind == "f" else threshold)


def most_skeletons(annotation, threshold):
    """The most skeletons of any frame of a compressed clip; 0 where its lists are no good."""
    try:
        frame = array(annotation, "frame_inds", "n")
        kept = is_kept(array(annotation, "box_score", "n"), threshold) if "box_score" in annotation else slice(None)
        return int(np.unique(frame[kept], return_counts=True)[1].max(initial=0))
    except (ValueError, IndexError):
        return 0


def decompress(keypoint, frame, box, num_person, threshold):
    """Skeletons (n, V, 3), their frames and box scores (n,) -> (M, T, V, 3) float32, the most persons of any frame.

    T counts the frames with a skeleton whose box score reaches the threshold. In each of them those are ordered by
    box score, best first (equal ones as they are there), up to num_person. Raises ValueError where there is none.
    """
    kept = np.flatnonzero(is_kept(box, threshold))
    if not len(kept):
        raise ValueError(f"no person in any frame with a box score of at least {threshold}")
    kept = kept[np.lexsort((-box[kept].astype(np.float64), frame[kept]))]
    _, first, frame = np.unique(frame[kept], return_index=True, return_inverse=True)
    person = np.arange(len(kept)) - first[frame]
    chosen = person < num_person
    clip = np.zeros((num_person, len(first), *keypoint.shape[1:]), np.float32)
    clip[person[chosen], frame[chosen]] = keypoint[kept[chosen]]
    return clip, int(person.max()) + 1


def read_clip(annotation, form, kpfiles=None):
    """The frames of a clip, (T, M, V, C) float32 as a store of this Form has them, and how many persons the file has.

    Raises ValueError saying what is wrong with it.
    """
    with np.errstate(over="ignore"):  # a number too large becomes infinite, and is found below
        if is_compressed(annotation):
            x, persons = decompress(*skeletons(annotation, kpfiles), form.num_person, form.threshold)
            x, score = x[..., :2], x[..., 2]
        else:
            x, score = arrays(annotation)
            x, persons = x.astype(np.float32), len(x)
            score = None if score is None else score.astype(np.float32)
    _, T, V, C = x.shape
    joints = len(LAYOUTS[form.layout].joints)
    if joints != V:
        raise ValueError(f"{V} joints; layout {form.layout} has {joints}")
    if (channels := channels_of(C, score is not None, form.layout)) != form.channels:
        raise ValueError(f"its channels are {channels}, but those of the store {form.channels}")
    finite = np.isfinite(x).all(axis=3) & (True if score is None else np.isfinite(score))
    if not finite.all():
        raise ValueError(f"a number of frame {np.flatnonzero(~finite.all(axis=(0, 2)))[0]} is not finite")
    if channels != "xyz":
        if C == 3:
            x, score = x[..., :2], x[..., 2]
        x, score = normalise(x, score, **picture(annotation, form.img_shape))
    if not x.any():
        raise ValueError("no person in any frame")
    if len(x) > form.num_person:
        chosen = choose_persons(x, score, form.num_person)
        x, score = x[chosen], None if score is None else score[chosen]
    if score is not None:
        x = np.concatenate([x, score[..., None]], axis=3)
    clip = np.zeros((T, form.num_person, V, len(channels)), np.float32)
    clip[:, : len(x)] = x.swapaxes(0, 1)
    return ntu.centred(clip) if (form.layout, channels) == ("ntu", "xyz") else clip, persons


def normalise(x, score, height, width):
    """PYSKL's recipe for 2D: pixels (M, T, V, 2) -> -1 to 1; joints with a score (M, T, V) of at most 0.01 become 0.

    score may be None. Returns both; of bodies without any coordinate or any score in a frame both are 0.
    """
    present = x.any(axis=(2, 3))
    half = np.array([width / 2, height / 2], np.float32)
    seen = present[..., None]
    if score is not None:
        present &= score.any(axis=2)
        seen = present[..., None] & (score > INVISIBLE)
        score = np.where(present[..., None], score, 0)
    return np.where(seen[..., None], (x - half) / half, 0), score


def choose_persons(x, score, num_person):
    """Persons of x (M, T, V, C) to keep: those of the highest total score (M, T, V), or without scores most motion."""
    present = x.any(axis=(2, 3))
    if score is not None:
        amount = score.sum(axis=(1, 2), dtype=np.float64)
    else:
        bodies = zip(x.astype(np.float64), present, strict=True)
        amount = np.array([ntu.motion(body[seen]) if seen.any() else 0 for body, seen in bodies])
    amount[~present.any(axis=1)] = -1
    return np.argsort(-amount, kind="stable")[:num_person]
