"""Clips of one's own: a YAML that says what they are, a manifest that lists them, a file each.

The YAML's keys; paths are relative to it:

    layout      a name in graph.LAYOUTS, or a mapping as graph.read_layout takes, or the path of a YAML file with one
    classes     the list of the actions' names
    channels    what the C numbers of a joint are: xyz, xy or xys [xyz]
    num_person  M, the most persons there are in a clip [1]
    image       [width, height], if x and y (of xy and xys) are pixels: they become -1 to 1; the store keeps it
    clips       the directory of the clips
    manifest    a CSV file with the columns file, label, split; any other column holds whole numbers (subject, camera)

In the manifest a file is a path below `clips`, without its suffix it is the clip's name; a label is a class's name or
(unless names are numbers, too) its number, counted from 0, or empty where it is not known; a split is train, test or
any other name, or several with spaces between them.

A clip is a .npy, .npz (its array `keypoint`, or its only one) or .json file (nested lists, or a mapping with
`keypoint`) of shape (T, V, C) or (T, M, V, C), or a .csv file with a frame a line: M x V x C numbers, person by person
and joint by joint, below a line of headings or none. Persons that are absent are zero, or not there. A joint that was
not seen is zero in a picture; in space nothing marks it, and a gap is to be filled from the frames beside it.
"""

import csv
import json
import re
from pathlib import Path, PureWindowsPath

import numpy as np
from tqdm import tqdm

from data.bad import BadClips
from data.check import describe
from data.custom_example import write_example
from feeders.store import CHANNELS, Store, StoreWriter
from graph import LAYOUTS, read_layout
from torchlight.config import Option, nearest, read_layer, read_yaml, resolve

KEYS = {
    "layout": Option(object, None, "a layout's name, a mapping, or a YAML file"),
    "classes": Option(list, [], "names"),
    "channels": Option(str, "xyz", "what a joint's numbers are", tuple(CHANNELS)),
    "num_person": Option(int, 1, "persons of a clip", low=1),
    "image": Option(list, [], "width and height in pixels"),
    "clips": Option(str, "", "directory"),
    "manifest": Option(str, "", "CSV file"),
}
COLUMNS = ("file", "label", "split")
TAKEN = ("self", "name", "keypoint")  # by StoreWriter.add
LARGEST = 256 << 20  # bytes of a clip
FAR = 10  # picture coordinates go from -1 to 1; no joint is as far outside as this
FARTHEST = 1e5  # metres are asked for; of millimetres, too, this is no room


def add_arguments(parser):
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--source", metavar="YAML", help="the description of the clips, like config/custom/data.yaml")
    what.add_argument("--example", metavar="DIR", help="make the clips that config/custom/data.yaml describes")
    parser.add_argument("--out", help="with --source: the store to write")
    parser.add_argument("--skip-bad", action="store_true", help="leave out unreadable clips, naming them")


def run(arguments):
    """Your own clips to a store: any skeleton, .npy, .npz, .json or .csv files. data/custom.py says how they look."""
    if arguments.example:
        if arguments.out or arguments.skip_bad:
            raise ValueError("--example makes clips: --out and --skip-bad are for --source")
        write_example(Path(arguments.example))
        return
    if not arguments.out:
        raise ValueError("--out is missing: the store to write")
    about = read_description(arguments.source)
    bad = BadClips(arguments.skip_bad)
    with StoreWriter(
        arguments.out, about.layout, about.classes, Path(arguments.source).name, about.num_person, about.channels
    ) as writer:
        read(about, writer, bad)
    describe(Store(arguments.out))
    bad.report()


def read_description(path):
    """The YAML as a namespace: layout a Layout, clips and manifest paths, the rest as it is there.

    Raises ValueError or OSError naming the file and the key.
    """
    path = Path(path)
    about = resolve(KEYS, [read_layer(path)])
    missing = [key for key in ("layout", "classes", "clips", "manifest") if not getattr(about, key)]
    if missing:
        raise ValueError(f"{path}: the key {missing[0]} is missing")
    about.layout = find_layout(about.layout, path)
    if about.layout.name in ("coco", "openpose") and about.origin["channels"] == "default":
        raise ValueError(f"{path}: the key channels is missing: {about.layout.name} poses may be xy, xys or xyz")
    unfit = [name for name in about.classes if not isinstance(name, str) or not name.strip()]
    if unfit:
        raise ValueError(f"{path}: classes: {unfit[0]!r} is no name (put it in quotes)")
    if len(set(about.classes)) < len(about.classes):
        raise ValueError(f"{path}: classes: two have the same name")
    if about.image:
        sizes = [size for size in about.image if type(size) is int and size > 0]
        if len(sizes) != 2 or len(about.image) != 2:
            raise ValueError(f"{path}: image takes [width, height] in whole pixels, not {about.image!r}")
        if about.channels == "xyz":
            raise ValueError(f"{path}: image is for the channels xy and xys, not xyz")
    about.clips, about.manifest = path.parent / about.clips, path.parent / about.manifest
    if not about.clips.is_dir():
        raise NotADirectoryError(20, "not a directory", str(about.clips))
    return about


def find_layout(value, path):
    """The Layout that the key `layout` of the YAML file `path` means: a name, a mapping, or another YAML file's path.

    Raises ValueError naming the file.
    """
    if isinstance(value, str):
        if value in LAYOUTS:
            return LAYOUTS[value]
        other = path.parent / value
        if not other.is_file():
            names = ", ".join(LAYOUTS)
            raise ValueError(f"{path}: layout: {value!r} is neither a file nor one of {names}{nearest(value, LAYOUTS)}")
        path, value = other, read_yaml(other)
    try:
        return read_layout(value)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read(about, writer, bad):
    """Add the clips of the manifest to a StoreWriter. about: see read_description; bad: a BadClips."""
    rows, extra = read_manifest(about.manifest)
    size = dict(zip(("width", "height"), about.image, strict=False))  # for heat maps of the picture's form
    twice = [key for key in size if key in extra]
    if twice:
        raise ValueError(f"{about.manifest}: column {twice[0]}: the size of the pictures is given by `image` already")
    for line, row in tqdm(rows, disable=None, unit=" clips"):
        try:
            name, path = parse_file(row["file"])
            label, split = parse_label(row["label"], about.classes), parse_split(row["split"])
            if label < 0 and any("train" in word for word in split):
                raise ValueError("label: is empty; a training clip has one")
            meta = size | {key: parse_number(key, row[key]) for key in extra}
            clip = read_clip(about.clips / path, about.layout, about.channels, about.num_person, about.image)
            writer.add(name, label, clip, split, **meta)
        except ValueError as error:
            bad(f"{about.manifest}, line {line}, {row['file']}", error)


# ---- the manifest


def read_manifest(path):
    """([(line, {column: cell})], the columns of numbers). Raises ValueError or OSError naming the file."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        try:
            header = [cell.strip() for cell in next(reader, [])]
            missing = [column for column in COLUMNS if column not in header]
            if missing:
                close = nearest(missing[0], header)
                raise ValueError(f"line 1: there is no column {missing[0]}{close}; {','.join(COLUMNS)} are needed")
            if len(set(header)) < len(header):
                raise ValueError("line 1: two columns have the same name")
            extra = [column for column in header if column not in COLUMNS]
            unfit = [column for column in extra if not re.fullmatch(r"\w+", column) or column in TAKEN]
            if unfit:
                taken = f", and not {', '.join(TAKEN)}"
                raise ValueError(f"line 1: {unfit[0]!r} is no name for a column: letters, digits and '_'{taken}")
            rows = []
            for cells in reader:
                if cells and len(cells) != len(header):
                    raise ValueError(f"line {reader.line_num}: {len(cells)} cells; there are {len(header)} columns")
                if cells:
                    cells = (cell.strip() for cell in cells)
                    rows.append((reader.line_num, dict(zip(header, cells, strict=True))))
        except UnicodeDecodeError as error:
            raise ValueError(f"{path}: not UTF-8 text ({error.reason})") from None
        except (ValueError, csv.Error) as error:
            raise ValueError(f"{path}: {error}") from None
    if not rows:
        raise ValueError(f"{path}: lists no clips")
    return rows, extra


def parse_file(cell):
    """'a/b.npy' -> its name 'a/b' and its path. Raises ValueError for one that is not below the clips' directory."""
    path = PureWindowsPath(cell)  # knows / and \\
    if not path.parts or path.drive or path.root or ".." in path.parts:
        raise ValueError(f"file: {cell!r} is no path below the directory of the clips")
    if path.suffix.lower() not in READERS:
        raise ValueError(f"file: {', '.join(READERS)} are read, not {path.suffix or 'a file without a suffix'}")
    return path.with_suffix("").as_posix(), path.as_posix()


def parse_label(cell, classes):
    """A class's name or number -> its number; nothing -> -1."""
    if not cell:
        return -1
    if cell in classes:
        return classes.index(cell)
    if re.fullmatch(r"[0-9]{1,9}", cell) and int(cell) < len(classes):
        numbers = [name for i, name in enumerate(classes) if name.isdigit() and name != str(i)]
        if numbers:
            raise ValueError(f"label: {cell!r} is no class, and not taken for a number, as {numbers[0]!r} is a class")
        return int(cell)
    raise ValueError(
        f"label: {cell!r} is neither a class{nearest(cell, classes)} nor a number from 0 to {len(classes) - 1}"
    )


def parse_split(cell):
    """'train' or 'xsub/train xview/test' -> list of names, which the writer checks."""
    if not cell:
        raise ValueError("split: is empty")
    return list(dict.fromkeys(cell.split()))


def parse_number(column, cell):
    """A whole number of 64 bits."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", cell):
        raise ValueError(f"{column}: {cell!r} is no whole number")
    return int(cell)


# ---- clips


def read_clip(path, layout, channels="xyz", num_person=1, image=()):
    """A clip's file -> (T, num_person, V, C) float32. image: see the top of this file. Raises ValueError."""
    path, kind = Path(path), Path(path).suffix.lower()
    V, C = len(layout.joints), len(channels)
    if not path.is_file():
        raise ValueError("there is no such file")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path.stat().st_size} bytes: too large for a clip")
    try:
        values = READERS[kind](path)
    except Exception as error:  # a damaged file can raise nearly anything
        text = " ".join(str(error).split())[:200]
        raise ValueError(f"not a readable {kind} file ({text or type(error).__name__})") from None
    if values.dtype.kind not in "iuf":
        raise ValueError("it holds something other than numbers, or lists of different lengths")
    if not values.size:
        raise ValueError("no frames")
    if kind == ".csv":
        persons, rest = divmod(values.shape[1], V * C)
        if rest:
            raise ValueError(f"{values.shape[1]} numbers in a line; a person has {V} joints x {C} = {V * C}")
        values = values.reshape(len(values), persons, V, C)
    found = values.shape
    if values.ndim == 3:
        values = values[:, None]
    if values.ndim != 4 or values.shape[2:] != (V, C):
        raise ValueError(f"shape {found} instead of (T, {V}, {C}) or (T, M, {V}, {C}): joints, then {channels}")
    if values.shape[1] > num_person:
        raise ValueError(f"{values.shape[1]} persons, but num_person is {num_person}")
    clip = np.zeros((len(values), num_person, V, C), np.float32)
    with np.errstate(over="ignore"):  # a number too large becomes infinite; the writer finds it
        clip[:, : values.shape[1]] = values
    if channels != "xyz":
        return to_picture(clip, image)
    size = np.abs(clip[np.isfinite(clip)]).max(initial=0)
    if size > FARTHEST:
        raise ValueError(f"a coordinate of {size:g}: xyz are metres")
    return clip


def to_picture(clip, image=()):
    """x and y of (T, M, V, C) from pixels to -1 ... 1; without `image` they must be that already.

    What is absent stays 0: joints whose numbers are all 0.
    """
    if image:
        absent = ~clip.any(axis=3, keepdims=True)
        clip[..., :2] = np.where(absent, 0, clip[..., :2] / np.float32(image) * 2 - 1)
    xy = np.abs(clip[..., :2])
    far = xy[np.isfinite(xy) & (xy > FAR)]
    if len(far):
        hint = "is that its size?" if image else "if they are pixels, the YAML needs image: [width, height]"
        raise ValueError(f"x or y goes up to {far.max():g}, where the picture goes from -1 to 1; {hint}")
    return clip


def read_numpy(path):
    """The array of a .npy or .npz file, without pickles."""
    content = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: its header cannot ask for memory
    if isinstance(content, np.ndarray):
        return content
    with content:
        if sum(member.file_size for member in content.zip.infolist()) > LARGEST:
            raise ValueError("too large when unpacked")
        if "keypoint" not in content.files and len(content.files) != 1:
            raise ValueError(f"of its arrays {', '.join(content.files[:5])} none is called keypoint")
        return np.asarray(content["keypoint" if "keypoint" in content.files else content.files[0]])


def read_json(path):
    content = json.loads(path.read_bytes())
    if isinstance(content, dict):
        if "keypoint" not in content:
            raise ValueError("it has no key keypoint")
        content = content["keypoint"]
    return np.array(content)


def read_csv(path):
    """(T, numbers of a line). A first line of headings is left out: without numbers, or 0, 1, 2, … as pandas has."""
    rows = []
    with open(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, strict=True)
        for i, cells in enumerate(filter(None, reader)):
            if i == 0 and len(cells) == 1 and re.search("[;\t]", cells[0]):
                raise ValueError("numbers are separated by commas")
            row = [_number(cell) for cell in cells]
            if i == 0 and (set(row) == {None} or (len(row) > 1 and row == list(range(len(row))))):
                continue
            if None in row:
                raise ValueError(f"line {reader.line_num}: {cells[row.index(None)][:30]!r} is no number")
            if rows and len(row) != len(rows[0]):
                raise ValueError(f"line {reader.line_num}: {len(row)} numbers; there were {len(rows[0])} before")
            rows.append(row)
    return np.array(rows, dtype=np.float64)


def _number(cell):
    try:
        return float(cell)
    except ValueError:
        return None


READERS = {".npy": read_numpy, ".npz": read_numpy, ".json": read_json, ".csv": read_csv}
