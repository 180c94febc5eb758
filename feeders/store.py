"""The store: one HDF5 file per data set, with all its splits.

    keypoint   (F, M, V, C) float32, contiguous: the frames of all clips, one clip after the other, absent bodies zero
    offset     (N,) int64    first frame of each clip
    length     (N,) int32    its number of frames
    name       (N,) strings  unique
    label      (N,) int64    0 to K - 1; -1 where it is not known
    meta/...   (N,) int64    what the source knows: subject, camera, setup, replication
    split/...  int64         clips of a split, in order; names may have a slash (xsub/train); with the attribute `added`
                             where it is not of the source (add_split)

Attributes: format, layout (a name in graph.LAYOUTS, or a layout of one's own as JSON), classes (JSON list of K names),
channels (a word in CHANNELS), source (where the clips are from), checksum (CRC-32 of keypoint).
Nothing is padded or compressed, so that readers map the frames into memory instead of loading them.
"""

import json
import mmap
import operator
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path

import h5py
import numpy as np

from graph import LAYOUTS, Layout, describe_layout, read_layout
from torchlight.files import lock, name_file

FORMAT = "skeleton store 1"
RELEASE = 64 << 20  # bytes of a mapped store in memory after which its pages are let go
FOLIO = 2 << 20  # bytes that the system may bring in where one clip is read
CHANNELS = {  # what the C numbers of a joint are: how many of them are coordinates
    "xyz": 3,  # metres
    "xy": 2,  # of the picture, -1 to 1 from its left to its right and from its top to its bottom
    "xys": 2,  # the same, and the score of the pose estimator, 0 to 1
}


class Store:
    """A store opened for reading.

    keypoint (F, M, V, C) is mapped copy-on-write: reading it loads pages as they are needed, nothing is ever written
    back. layout: a graph.Layout; channels: a word in CHANNELS; name: list; label, offset, length: int64 arrays; meta,
    splits: dicts of arrays; added: the splits that add_split made. Raises ValueError or OSError naming the file for
    what is not a sound store.
    """

    def __init__(self, path):
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(2, "no such file (data/prepare.py makes it)", str(path))
        try:
            with h5py.File(self.path, "r") as file:
                if file.attrs.get("format") != FORMAT:
                    raise ValueError(f"its format is {file.attrs.get('format')!r}, not {FORMAT!r}")
                layout = str(file.attrs["layout"])
                self.channels = str(file.attrs.get("channels", "xyz"))
                self.source = str(file.attrs["source"])
                self._checksum = int(file.attrs["checksum"]) if "checksum" in file.attrs else None
                self.classes = json.loads(str(file.attrs["classes"]))
                if not isinstance(self.classes, list) or not all(isinstance(name, str) for name in self.classes):
                    raise ValueError("classes must be a list of names")
                data = {}
                file.visititems(lambda key, item: data.update({key: item} if isinstance(item, h5py.Dataset) else {}))
                for key in ("keypoint", "name", "label", "offset", "length"):
                    if key not in data:
                        raise ValueError(f"there is no dataset {key}")
                self.name = read_names(data["name"])
                self.label, self.offset, self.length = (read_whole(data[key]) for key in ("label", "offset", "length"))
                self.meta, self.splits = (
                    {key.removeprefix(group): read_whole(data[key]) for key in data if key.startswith(group)}
                    for group in ("meta/", "split/")
                )
                self.added = [key for key in self.splits if data[f"split/{key}"].attrs.get("added")]
                keypoint = data["keypoint"]
                shape, dtype, start = keypoint.shape or (), keypoint.dtype, keypoint.id.get_offset()
        except (OSError, ValueError, KeyError) as error:
            raise ValueError(f"{path}: not a readable store: {' '.join(str(error).split())}") from None
        self.layout = self._read_layout(layout)
        self._check(shape, dtype, start)
        self.keypoint, self._mapping, self._read = np.empty(shape, np.float32), None, 0
        if shape[0]:
            self.keypoint = np.memmap(self.path, np.float32, "c", start, shape)
            self._mapping = self.keypoint._mmap

    def _read_layout(self, layout):
        try:
            if layout in LAYOUTS:
                return LAYOUTS[layout]
            if layout.startswith("{"):
                return read_layout(json.loads(layout))
            raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
        except ValueError as error:
            raise ValueError(f"{self.path}: {error}") from None

    def _check(self, shape, dtype, start):
        def insist(condition, message):
            if not condition:
                raise ValueError(f"{self.path}: {message}")

        V, N, K = len(self.layout.joints), len(self.name), len(self.classes)
        insist(len(shape) == 4 and dtype == np.float32, "keypoint must be (F, M, V, C) float32")
        insist(shape[2] == V, f"its clips have {shape[2]} joints; layout {self.layout.name} has {V}")
        insist(self.channels in CHANNELS, f"unknown channels {self.channels!r}; there are {', '.join(CHANNELS)}")
        insist(shape[3] == len(self.channels), f"{shape[3]} channels, which are not {self.channels}")
        insist(shape[0] == 0 or start is not None, "keypoint must be stored contiguous and uncompressed")
        rows = {key: getattr(self, key) for key in ("label", "offset", "length")}
        for key, values in (*rows.items(), *self.meta.items()):
            insist(len(values) == N, f"{key} has {len(values)} entries for {N} clips")
        insist(len(set(self.name)) == N, "clip names are not unique")
        outside = np.flatnonzero((self.label < -1) | (self.label >= K))
        insist(
            not len(outside),
            f"clip {self.name[outside[0]] if len(outside) else ''} has label "
            f"{self.label[outside[0]] if len(outside) else ''}; there are {K} classes, 0 to {K - 1}",
        )
        bad = np.flatnonzero((self.length < 1) | (self.offset < 0) | (self.offset + self.length > shape[0]))
        insist(not len(bad), f"the frames of clip {self.name[bad[0]] if len(bad) else ''} lie outside the file")
        for key, index in self.splits.items():
            self.check_clips(key, index)

    def check_clips(self, split, index):
        """Raise ValueError where the clips `index` (n,) of a split are not in the store, or one is named twice."""
        if len(index) and not 0 <= index.min() <= index.max() < len(self.name):
            raise ValueError(f"{self.path}: split {split} names clips that are not there")
        twice = np.flatnonzero(np.bincount(index) > 1)
        if len(twice):
            raise ValueError(f"{self.path}: split {split} names clip {self.name[twice[0]]} more than once")

    def split(self, name):
        """Clip indices of a split. Raises ValueError for an unknown or an empty one."""
        if name not in self.splits:
            there = ", ".join(self.splits) or "none"
            raise ValueError(f"{self.path}: no split {name!r}; there are {there} (prepare.py long-tail adds one)")
        if not len(self.splits[name]):
            raise ValueError(f"{self.path}: split {name!r} is empty")
        return self.splits[name]

    @property
    def frames_checksum(self):
        """CRC-32 of keypoint, computed where the file does not say it."""
        if self._checksum is None:
            self._checksum, block = 0, max(1, (16 << 20) // max(1, self.keypoint[:1].nbytes))
            for first in range(0, len(self.keypoint), block):
                frames = self.keypoint[first : first + block]
                self._checksum = zlib.crc32(frames, self._checksum)
                self.touched(0, frames.nbytes)
        return self._checksum

    def touched(self, clips, size):
        """Count clips and bytes read of keypoint; of a large store now and then let go of the pages.

        The file cache keeps them.
        """
        self._read += min(max(size, clips * FOLIO), self.keypoint.nbytes)
        if self._read > RELEASE and self.keypoint.nbytes > RELEASE:
            self._read = 0
            if self._mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
                self._mapping.madvise(mmap.MADV_DONTNEED)

    def clip(self, index):
        """The frames of one clip, (T, M, V, C)."""
        clip = self.keypoint[self.offset[index] : self.offset[index] + self.length[index]]
        self.touched(1, clip.nbytes)
        return clip


def read_names(data):
    """A dataset (N,) of strings as a list. Raises ValueError for another one."""
    if data.ndim != 1 or not h5py.check_string_dtype(data.dtype):
        raise ValueError(f"name must be strings of shape (N,), not {data.dtype} of shape {data.shape}")
    return [name.decode() for name in data[:]]


def read_whole(data):
    """A dataset (N,) of whole numbers as int64. Raises ValueError for another one."""
    if data.ndim != 1 or data.dtype.kind not in "iu":
        raise ValueError(f"{data.name[1:]} must be whole numbers of shape (N,), not {data.dtype} of shape {data.shape}")
    return data[:].astype(np.int64)


class StoreWriter:
    """Write a store, clip by clip; frames go to disk at once. A context manager.

    The store appears at `path` when the block ends well, with the splits that add_split gave the one that it replaces.
    If it ends otherwise, nothing is left behind and a store that was there before stays. resume is for long
    conversions, a list of all that is to be converted: what was added before an exception or a kill stays in hidden
    files beside the store, and the next writer with the same arguments goes on from there.

    layout: a name in graph.LAYOUTS or a Layout; classes: the K names; channels: a word in CHANNELS. Raises ValueError.
    """

    def __init__(self, path, layout, classes, source, num_person=1, channels="xyz", resume=None):
        self.path = target(path)
        if channels not in CHANNELS:
            raise ValueError(f"unknown channels {channels!r}; there are {', '.join(CHANNELS)}")
        name = layout
        if isinstance(layout, Layout):
            name = layout.name if LAYOUTS.get(layout.name) == layout else json.dumps(describe_layout(layout))
        elif layout in LAYOUTS:
            layout = LAYOUTS[layout]
        else:
            raise ValueError(f"unknown layout {layout!r}; there are {', '.join(LAYOUTS)}")
        self.attributes = {
            "format": FORMAT,
            "layout": name,
            "classes": json.dumps(classes),
            "channels": channels,
            "source": source,
        }
        self.num_class = len(classes)
        self.shape = (num_person, len(layout.joints), len(channels))
        self.name, self.label, self.length, self.meta, self.splits = [], [], [], {}, {}
        self._names = set()
        self.resume = resume is not None
        self._heading = [self.attributes, *self.shape, zlib.crc32(json.dumps(resume).encode())]
        self._spool_path = self.path.with_name(f".{self.path.name}.partial.frames")
        self._journal_path = self.path.with_name(f".{self.path.name}.partial.clips")
        self._lock = self._journal = None

    def __contains__(self, name):
        """Whether a clip of this name has been added."""
        return name in self._names

    def __enter__(self):
        if self.path.is_dir():
            raise IsADirectoryError(f"{self.path} is a directory, not a file to write")
        if self.path.exists() and not h5py.is_hdf5(self.path):
            raise ValueError(f"{self.path}: is there, and no store; it is not replaced")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.resume:
            self._spool = tempfile.TemporaryFile(dir=self.path.parent)  # without a name: it goes however this ends
            return self
        self._spool = open(self._spool_path, "a+b")
        try:
            self._lock = lock(self._spool_path)
        except ValueError:
            self._spool.close()
            raise ValueError(f"{self.path}: another process is writing it") from None
        entries, size = self._read_journal()
        self._spool.truncate(size)
        self._journal = open(self._journal_path, "w", encoding="utf-8")
        self._write_journal(self._heading)
        for entry in entries:
            self._record(*entry)
        return self

    def _read_journal(self):
        """Clips added by an interrupted writer with the same arguments, and the bytes of their frames."""
        if not self._journal_path.is_file():
            return [], 0
        entries, available, size = [], self._spool_path.stat().st_size, 0
        with open(self._journal_path, encoding="utf-8") as file:
            for number, line in enumerate(file):
                try:
                    entry = json.loads(line)
                except ValueError:
                    break  # the line that was being written
                if number == 0:
                    if entry != self._heading:
                        return [], 0
                    continue
                size += 4 * entry[2] * int(np.prod(self.shape))
                if size > available:
                    return entries, size - 4 * entry[2] * int(np.prod(self.shape))
                entries.append(entry)
        return entries, size

    def _write_journal(self, entry):
        if self._journal:
            self._spool.flush()  # a clip that the journal names has its frames in the file
            self._journal.write(json.dumps(entry) + "\n")
            self._journal.flush()

    def add(self, name, label, keypoint, split=None, **meta):
        """Add a clip: keypoint (T, M, V, C) with T >= 1, finite; label in range, or -1 where it is not known; meta: the
        same whole numbers for all clips.

        split: the name, or names, of the splits it belongs to. Raises ValueError, naming the clip, and adds nothing.
        """
        if not isinstance(name, str) or not name:
            raise ValueError(f"clip {name!r}: its name must be a text")
        keypoint = np.asarray(keypoint)
        if keypoint.dtype.kind not in "fiu":
            raise ValueError(f"clip {name}: its coordinates must be real numbers, not {keypoint.dtype}")
        keypoint = keypoint.astype(np.float32, copy=False)
        if keypoint.ndim != 4 or keypoint.shape[1:] != self.shape:
            expected = ", ".join(map(str, self.shape))
            raise ValueError(f"clip {name}: shape {keypoint.shape} instead of (T, {expected})")
        if not len(keypoint):
            raise ValueError(f"clip {name}: no frames")
        if not np.isfinite(keypoint).all():
            frame = int(np.flatnonzero(~np.isfinite(keypoint).all(axis=(1, 2, 3)))[0])
            raise ValueError(f"clip {name}: a coordinate of frame {frame} is not a finite number")
        numbers = {"label": label, **meta}
        for key, value in numbers.items():
            try:
                numbers[key] = operator.index(value)
            except TypeError:
                numbers[key] = None
            if numbers[key] is None or not -(2**63) <= numbers[key] < 2**63:
                raise ValueError(f"clip {name}: {key} must be a whole number (of 64 bits), not {value!r}")
        label = numbers.pop("label")
        if not -1 <= label < self.num_class:
            raise ValueError(
                f"clip {name}: label {label}; there are {self.num_class} classes, 0 to {self.num_class - 1}"
            )
        if name in self._names:
            raise ValueError(f"clip {name}: there are two of this name")
        if self.name and set(meta) != set(self.meta):
            raise ValueError(f"clip {name}: has {sorted(meta)} where the clips before have {sorted(self.meta)}")
        splits = [split] if isinstance(split, str) else list(dict.fromkeys(split or []))
        for new in splits:
            if new not in self.splits:
                check_split(new, [*self.splits, *splits])
        self._spool.write(np.ascontiguousarray(keypoint).tobytes())
        self._record(name, label, len(keypoint), splits, numbers)

    def _record(self, name, label, length, splits, meta):
        self._write_journal([name, label, length, splits, meta])
        for split in splits:
            self.splits.setdefault(split, []).append(len(self.name))
        self.name.append(name)
        self._names.add(name)
        self.label.append(label)
        self.length.append(length)
        for key, value in meta.items():
            self.meta.setdefault(key, []).append(value)

    def __exit__(self, kind, error, trace):
        if isinstance(error, OSError):
            name_file(error, self.path)
        if self._journal:
            self._journal.close()
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        done = False
        try:
            if kind is None:
                self._finish(temporary)
                os.replace(temporary, self.path)
                done = True
        except OSError as full:
            name_file(full, self.path, temporary)
            raise
        finally:
            self._spool.close()
            if done and self.resume:
                self._spool_path.unlink()
                self._journal_path.unlink()
            temporary.unlink(missing_ok=True)
            if self._lock is not None:
                os.close(self._lock)

    def _finish(self, temporary):
        if not self.name:
            raise ValueError(f"{self.path}: there are no clips to write")
        length = np.asarray(self.length, dtype=np.int64)
        with h5py.File(temporary, "w") as file:
            file.attrs.update(self.attributes)
            file["name"] = np.asarray([name.encode() for name in self.name])
            file["label"] = np.asarray(self.label, dtype=np.int64)
            file["length"] = length.astype(np.int32)
            file["offset"] = np.cumsum(length) - length
            for key, values in self.meta.items():
                file[f"meta/{key}"] = np.asarray(values, dtype=np.int64)
            for key, index in self.splits.items():
                file[f"split/{key}"] = np.asarray(index, dtype=np.int64)
            for key, index in self._added_before().items():
                write_added(file, key, index)
            keypoint = file.create_dataset("keypoint", (int(length.sum()), *self.shape), np.float32)
            size = int(np.prod(self.shape))
            block = max(1, (16 << 20) // (4 * size))
            checksum = 0
            self._spool.seek(0)  # and read, not mapped: what is mapped counts as memory in use
            for first in range(0, len(keypoint), block):
                frames = np.fromfile(self._spool, np.float32, size * min(block, len(keypoint) - first))
                checksum = zlib.crc32(frames, checksum)
                keypoint[first : first + block] = frames.reshape(-1, *self.shape)
            file.attrs["checksum"] = checksum
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())

    def _added_before(self):
        """{name: clips (n,)} of what was added to the store that is replaced; what no longer fits is named."""
        if not self.path.is_file():
            return {}
        try:
            before = Store(self.path)
        except (OSError, ValueError) as error:
            print(f"note: splits that were added to the store before are lost: {error}")
            return {}
        place = {clip: i for i, clip in enumerate(zip(self.name, self.label, strict=True))}
        added = {}
        for split in sorted(before.splits.keys() - {*before.added, *self.splits}):
            print(f"note: {self.path}: the split {split} goes, which the source has no more")
        for split in before.added:
            clips = [(before.name[i], int(before.label[i])) for i in before.splits[split]]
            changed = [name for name, label in clips if (name, label) not in place]
            try:
                check_split(split, self.splits)
                if split in self.splits:
                    raise ValueError("the source has one of this name")
                if changed:
                    raise ValueError(f"clip {changed[0]} is not what it was")
            except ValueError as error:
                print(f"note: {self.path}: the split {split} that was added before is left out: {error}")
            else:
                added[split] = np.array([place[clip] for clip in clips], dtype=np.int64)
        return added


def target(path):
    """The Path to write a store to: of a link, what it leads to, so that the link stays."""
    return Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)


def write_added(file, name, index):
    """Write a split that is not of the source to an open HDF5 file."""
    file[f"split/{name}"] = index
    file[f"split/{name}"].attrs["added"] = True


def check_split(name, others=()):
    """Raise ValueError for what is no name for a split, or would be a directory of another one or lie below one."""
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)*", name):
        raise ValueError(f"{name!r} is no name for a split: letters, digits, '.', '_', '-' and slashes between them")
    for other in others:
        if other.startswith(f"{name}/") or name.startswith(f"{other}/"):
            raise ValueError(f"a split {name} cannot be beside the split {other}")


def add_split(path, name, index, replace=False):
    """Add a split to a store, or replace one. The changed copy takes the store's place when it is complete.

    Raises ValueError as check_split does, for a name that is there already or is the source's, and for clips that are
    not there, or come twice.
    """
    path, alone = target(path), None
    if path.is_file():
        alone = lock(path.parent, wait=True)  # the file itself is replaced, and HDF5 has locks of its own
    try:
        _add_split(path, name, np.asarray(index, dtype=np.int64), replace)
    finally:
        if alone is not None:
            os.close(alone)


def _add_split(path, name, index, replace):
    store = Store(path)
    try:
        check_split(name, store.splits)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    if name in store.splits and name not in store.added:
        raise ValueError(f"{path}: its split {name} is of the source: --name takes another")
    if name in store.splits and not replace:
        raise ValueError(f"{path}: has a split {name} already (--overwrite replaces it)")
    store.check_clips(name, index)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        shutil.copyfile(path, temporary)
        with h5py.File(temporary, "r+") as file:
            if f"split/{name}" in file:
                del file[f"split/{name}"]
            write_added(file, name, index)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
