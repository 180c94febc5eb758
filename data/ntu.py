"""NTU RGB+D 60 and 120 (Shahroudy et al., CVPR 2016; Liu et al., TPAMI 2020): names, protocols, raw skeleton files.

Body selection and denoising follow CTR-GCN's preprocessing, which follows that of the SGN and VA-NN releases.
"""

import re
import zipfile
import zlib
from functools import lru_cache
from itertools import repeat
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from data.bad import BadClips
from data.check import describe
from data.parallel import check_workers, ordered_map
from feeders.store import Store, StoreWriter
from torchlight.files import read_names

NAME = re.compile(r"S(\d{3})C(\d{3})P(\d{3})R(\d{3})A(\d{3})$")
FIELDS = ("setup", "camera", "performer", "replication", "action")
JOINTS = 25

# The training subjects of the cross-subject protocols; those of NTU RGB+D 60 are the ones up to 40.
TRAIN_SUBJECTS = frozenset((
    1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38, 45, 46, 47, 49, 50, 52, 53, 54, 55, 56,
    57, 58, 59, 70, 74, 78, 80, 81, 82, 83, 84, 85, 86, 89, 91, 92, 93, 94, 95, 97, 98, 100, 103,
))  # fmt: skip
PROTOCOLS = {60: ("xsub", "xview"), 120: ("xsub", "xset")}  # by the number of classes
CLIPS = (948, 960)  # published clips of each action up to 60, and of each one above

CLASSES = (
    "drink water", "eat meal", "brush teeth", "brush hair", "drop", "pick up", "throw", "sit down", "stand up",
    "clapping", "reading", "writing", "tear up paper", "put on jacket", "take off jacket", "put on a shoe",
    "take off a shoe", "put on glasses", "take off glasses", "put on a hat or cap", "take off a hat or cap",
    "cheer up", "hand waving", "kicking something", "reach into pocket", "hopping", "jump up", "phone call",
    "play with phone or tablet", "type on a keyboard", "point to something", "taking a selfie", "check time",
    "rub two hands", "nod head or bow", "shake head", "wipe face", "salute", "put palms together",
    "cross hands in front", "sneeze or cough", "staggering", "falling down", "headache", "chest pain", "back pain",
    "neck pain", "nausea or vomiting", "fan self", "punch or slap", "kicking", "pushing", "pat on back",
    "point finger", "hugging", "giving object", "touch pocket", "shaking hands", "walking towards", "walking apart",
    "put on headphone", "take off headphone", "shoot at basket", "bounce ball", "tennis bat swing",
    "juggle table tennis ball", "hush", "flick hair", "thumb up", "thumb down", "make OK sign", "make victory sign",
    "staple book", "counting money", "cutting nails", "cutting paper", "snap fingers", "open bottle",
    "sniff or smell", "squat down", "toss a coin", "fold paper", "ball up paper", "play magic cube",
    "apply cream on face", "apply cream on hand", "put on bag", "take off bag", "put object into bag",
    "take object out of bag", "open a box", "move heavy objects", "shake fist", "throw up cap or hat",
    "capitulate", "cross arms", "arm circles", "arm swings", "run on the spot", "butt kicks", "cross toe touch",
    "side kick", "yawn", "stretch oneself", "blow nose", "hit with object", "wield knife", "knock over",
    "grab stuff", "shoot with gun", "step on foot", "high-five", "cheers and drink", "carry object",
    "take a photo", "follow", "whisper", "exchange things", "support somebody", "rock-paper-scissors",
)  # fmt: skip

# A body seen in no more frames is noise, and so is one that is wider than SPREAD times its height in a share of
# NOISY_SHARE of its frames.
SHORT, SPREAD, NOISY_SHARE = 11, 0.8, 0.69754
FARTHEST = 1000  # metres; what is farther away is damage
LARGEST = 64 << 20  # bytes; the largest file of NTU RGB+D has 2.5 million


def add_arguments(parser):
    parser.add_argument("--source", required=True, nargs="+", help="directories or zip files with the .skeleton files")
    parser.add_argument("--out", help="the store to write [data/ntu60.h5 or data/ntu120.h5]")
    parser.add_argument("--missing", help="a file of names to leave out: the published list of missing skeletons")
    parser.add_argument("--workers", type=int, help="processes that read [one a core]")
    parser.add_argument("--strict", action="store_true", help="stop at the first file that cannot be read")


def run(arguments):
    """NTU RGB+D's raw skeleton files to a store, straight from the zip files too. A killed run goes on where it was."""
    K = arguments.num_class
    check_workers(arguments.workers)
    missing = read_missing(arguments.missing)
    places = find_clips(arguments.source)
    wanted, dropped = choose(places, K, missing)
    bad = BadClips(not arguments.strict, "without --strict such files are left out")
    for name in dropped.pop("of another form of name", []):
        bad(places[name], "its name is not a clip name of NTU RGB+D, like S001C002P003R002A013")
    source = f"NTU RGB+D {K}, raw skeletons" + (f" but for {len(missing)} listed ones" if missing else "")
    out = arguments.out or f"data/ntu{K}.h5"
    with StoreWriter(
        out, "ntu", list(CLASSES[:K]), source, num_person=2, resume=[(name, places[name]) for name in wanted]
    ) as writer:
        todo = [name for name in wanted if name not in writer]
        if len(todo) < len(wanted):
            print(f"{len(wanted) - len(todo)} clips are there from an interrupted run")
        loaded = ordered_map(load_clip, [places[name] for name in todo], arguments.workers)
        for name, (clip, count, error) in zip(tqdm(todo, unit="clip", disable=None), loaded, strict=True):
            if error:
                bad(_shown(places[name]), error)
                continue
            if clip.shape[1] == 1:
                clip = np.concatenate([clip, np.zeros_like(clip)], axis=1)
            facts = parse_name(name)
            splits = [f"{p}/{'train' if is_train(name, p) else 'test'}" for p in PROTOCOLS[K]]
            writer.add(name, facts.pop("action") - 1, clip, splits, **facts, bodies=count)
    store = Store(out)
    describe(store)
    report(store, dropped)
    bad.report()


def read_missing(path):
    """Names of clips to leave out, with or without .skeleton, of a file, or of None. Raises ValueError or OSError."""
    missing = {name.removesuffix(".skeleton") for name in read_names(path)} if path else set()
    if missing and not any(map(NAME.match, missing)):
        raise ValueError(f"{path}: holds no clip names of NTU RGB+D")
    return missing


def choose(places, num_class, missing):
    """Names to read, in order, and {reason: names left out}."""
    wanted, dropped = [], {}
    for name in places:
        if not NAME.match(name):
            dropped.setdefault("of another form of name", []).append(name)
        elif name in missing:
            dropped.setdefault("in the list of missing skeletons", []).append(name)
        elif not 1 <= parse_name(name)["action"] <= num_class:
            dropped.setdefault(f"of actions beyond {num_class}", []).append(name)
        else:
            wanted.append(name)
    return wanted, dropped


def report(store, dropped):
    """Print what was left out on purpose, bodies per clip, and the classes that are not as large as published."""
    for reason, names in dropped.items():
        print(f"{len(names)} clips {reason} were left out")
    number, clips = np.unique(store.meta["bodies"], return_counts=True)
    print("bodies a clip: " + ", ".join(f"{n} in {c}" for n, c in zip(number, clips, strict=True)))
    counts = np.bincount(store.label, minlength=len(store.classes))
    official = np.where(np.arange(len(counts)) < 60, *CLIPS)
    short = np.flatnonzero(counts != official)
    print(
        f"{counts.sum()} of {official.sum()} published clips; {len(counts) - len(short)} classes are complete, "
        f"{(counts == 0).sum()} have no clip"
    )
    for label in short[counts[short] > 0]:
        print(f"  A{label + 1:03d} {store.classes[label]}: {counts[label]} of {official[label]}")


def _shown(place):
    return place if isinstance(place, str) else ": ".join(place)


def parse_name(name):
    """'S001C002P003R002A013' -> dict of setup, camera, performer, replication, action, as numbered there (from 1).

    Raises ValueError for another name.
    """
    match = NAME.match(name)
    if not match:
        raise ValueError(f"{name}: not a clip name of NTU RGB+D, like S001C002P003R002A013")
    return dict(zip(FIELDS, map(int, match.groups()), strict=True))


def is_train(name, protocol):
    """Whether a clip is in the training set of xsub (by subject), xview (cameras 2 and 3) or xset (even setups)."""
    facts = parse_name(name)
    if protocol == "xsub":
        return facts["performer"] in TRAIN_SUBJECTS
    if protocol == "xview":
        return facts["camera"] in (2, 3)
    if protocol == "xset":
        return facts["setup"] % 2 == 0
    raise ValueError(f"unknown protocol {protocol!r}; there are xsub, xview, xset")


BREAK, RETURN, SPACE, MINUS, POINT, ZERO = b"\n\r -.0"
BLANKS = "".join(filter(str.isspace, map(chr, range(256)))).encode("latin-1")
SHORTER, LONGER = 16, 32  # characters that are looked at for a number and the space behind it
PADDING = 4 * LONGER  # so three numbers are never looked for behind the end
TOGETHER = 4000  # lines that are read together: this keeps memory small


class _Lines:
    """The lines of a file, cut out when they are asked for: most are of joints, which _coordinates reads in place.

    data: the file without blanks at its end, between line breaks, and PADDING zeros; buffer: the same as uint8;
    breaks: where its line breaks are. Line i, counted from 0, is what is between breaks i and i + 1.
    """

    def __init__(self, data):
        self.data = b"\n%b\n%b" % (data.rstrip(BLANKS), bytes(PADDING))
        self.buffer = np.frombuffer(self.data, np.uint8)
        self.breaks = np.flatnonzero(self.buffer == BREAK)
        self._break = memoryview(self.breaks)  # faster for one of them

        self.size = len(self.breaks) - 1

    def __len__(self):
        return self.size

    def __getitem__(self, place):
        return self.data[self._break[place] + 1 : self._break[place + 1]].decode("latin-1")


def read_skeleton(data):
    """Parse a .skeleton file.

    data: its bytes. Returns (T, bodies): the number of frames in which there is any body, and for each body id, in the
    order of appearance, (frames (n,) int64 counted among those T, joints (n, 25, 3) float32, in metres). Raises
    ValueError saying what is wrong and where.
    """
    lines = _Lines(data) if data.strip() else ()
    size = len(lines)
    owner, frame_of, ids, first = {}, [], [], []  # first: of the joint lines of each body
    place, T = 1, 0
    for frame in range(_count(lines, 0, "frames")):
        bodies = _count(lines, place, "bodies of frame {}", frame)
        place += 1
        for _ in range(bodies):
            header = lines[place].split(None, 1) if place < size else ()
            if not header:
                raise ValueError(f"ends in frame {frame}, line {place + 1}")
            joints = _count(lines, place + 1, "joints")
            if joints != JOINTS:
                raise ValueError(
                    f"a body of {joints} joints in frame {frame}, line {place + 2}; {JOINTS} were expected"
                )
            ids.append(owner.setdefault(header[0], len(owner)))
            frame_of.append(T)
            first.append(place + 2)
            place += 2 + JOINTS
        T += bodies > 0
        if place > size:
            raise ValueError(f"ends in frame {frame}, line {len(lines)}")
    if not first:
        raise ValueError("no body in any frame")
    joints = _coordinates(lines, first).reshape(-1, JOINTS, 3)
    if len(set(zip(ids, frame_of, strict=True))) < len(ids):
        raise ValueError("a body is there twice in a frame")
    ids, frame_of = np.asarray(ids), np.asarray(frame_of)
    return T, {body: (frame_of[ids == number], joints[ids == number]) for body, number in owner.items()}


def _count(lines, place, what, *where):
    """The whole number on a line: how many of something follow."""
    try:
        number = int(lines[place])
    except (IndexError, ValueError):
        found = f"{lines[place][:30]!r}" if place < len(lines) else "the end of the file"
        raise ValueError(f"the number of {what.format(*where)} was expected in line {place + 1}, not {found}") from None
    if not 0 <= number <= len(lines):  # each takes a line at least: no damaged number makes a long loop
        raise ValueError(f"{number} {what.format(*where)}, line {place + 1}, but the file has {len(lines)} lines")
    return number


def _coordinates(lines, first):
    """x, y, z of joint lines, which have twelve numbers each, JOINTS of them from each of these on: (n, 3) float32."""
    rows = np.add.outer(first, np.arange(JOINTS)).ravel()
    begin = lines.breaks[rows] + 1
    starts, ends = begin[::JOINTS].tolist(), lines.breaks[np.add(first, JOINTS)].tolist()
    others = sum(map(lines.data.count, repeat(SPACE), [0, *ends], [*starts, len(lines.data)]))  # not of joints
    if np.count_nonzero(lines.buffer == SPACE) - others != 11 * len(rows):
        row = next((lines[row] for row in rows if lines[row].count(" ") != 11), "")
        raise ValueError(f"a joint has not twelve numbers: {row[:60]!r}")
    xyz, plain = np.empty((len(rows), 3), np.float32), np.ones(len(rows), bool)
    for i in range(0, len(rows), TOGETHER):
        part, place = slice(i, i + TOGETHER), begin[i : i + TOGETHER]
        for axis in range(3):
            xyz[part, axis], place, good = _decimals(lines.buffer, place)
            plain[part] &= good
    if b"\r" in lines.data:  # they end the lines of some files; one elsewhere is damage
        at_end = lines.buffer[lines.breaks - 1] == RETURN
        plain &= np.count_nonzero(at_end) == np.count_nonzero(lines.buffer == RETURN)
    if not plain.all():
        others = np.flatnonzero(~plain)
        try:
            xyz[others] = _any_numbers([lines[row] for row in rows[others]])
        except ValueError:
            _any_numbers([lines[row] for row in rows])  # says where among all
            raise
    return xyz


# Of so many characters, _OWN[n] are 1 for the first n; _WORTH is what digits of D.DDDDDDDDDDDDD are worth in units of
# 1e-13, and 0 for any more: sums are whole numbers below 2**53, so they are exact.
_OWN = {width: np.tri(width, width, -1, np.uint8).view(f"V{width}")[:, 0] for width in (SHORTER, LONGER)}
_WORTH = np.array([1e13, 0, *(10.0 ** np.arange(12, -1, -1)), *[0] * (LONGER - 15)])


def _decimals(buffer, begin, width=SHORTER):
    """Read numbers from these places of a buffer on, to the next space: (values, places behind the space, good).

    Good is where a number is like most in these files, 0.2181153 or -3.785547: a digit, a point and digits. Its value
    is float() of it, rounded to float32: a quotient of two exact numbers is rounded correctly. Others are arbitrary.
    """
    negative = buffer[begin] == MINUS
    begin = begin + negative
    text = np.ndarray(len(buffer) - width + 1, f"V{width}", buffer, strides=1)[begin].view(np.uint8).reshape(-1, width)
    length = (text == SPACE).argmax(axis=1)  # 0 too if there is none
    digits = (text - np.uint8(ZERO)) * _OWN[width][length].view(np.uint8).reshape(-1, width)
    digits[:, 1] = 0
    units = np.einsum("nd,d->n", digits, _WORTH[:width])  # unlike @ without a large copy, nor with threads
    values = (units / 1e13).astype(np.float32)
    good = (length > 1) & (text[:, 1] == POINT)
    if digits.max() > 9:
        good &= (digits <= 9).all(axis=1)
    if length.max() > 15:  # digits have no worth: good if the largest ones would make no difference
        good &= (length <= 15) | (((units + 1) / 1e13).astype(np.float32) == values)
    values, end = np.where(negative, -values, values), begin + length + 1
    if width < LONGER and not good.all():
        rest = np.flatnonzero(~good)
        values[rest], end[rest], good[rest] = _decimals(buffer, begin[rest] - negative[rest], LONGER)
    return values, end, good


def _any_numbers(rows):
    """x, y, z of joint lines with numbers of any form: (n, 3) float32."""
    try:
        xyz = np.loadtxt(rows, dtype=np.float32, comments=None, delimiter=" ", usecols=(0, 1, 2), ndmin=2)
    except ValueError as error:
        raise ValueError(f"a joint is not made of numbers ({' '.join(str(error).split())[:80]})") from None
    wrong = ~(np.abs(xyz) < FARTHEST).all(axis=1)  # NaN too
    if wrong.any():
        raise ValueError(f"a coordinate is not a place near the camera: {rows[int(wrong.argmax())][:60]!r}")
    return xyz.reshape(len(rows), 3)  # loadtxt skips empty lines


def motion(joints):
    """How much a body moves: the variances of its coordinates over its joints and frames (n, V, C), summed."""
    return joints.reshape(-1, joints.shape[-1]).var(axis=0).sum()


def select_bodies(bodies):
    """Denoise: {id: (frames, joints)} -> the bodies that are people, [(frames, joints)], largest motion first.

    A single body stays as it is. Of several, those seen in 11 frames or fewer go; then, unless it is the last, each
    that is too wide in too many frames; one that is too wide in some counts with the smaller of its motion with and
    without them. Raises ValueError where none is left.
    """
    if len(bodies) == 1:
        return list(bodies.values())
    left = {body: seen for body, seen in bodies.items() if len(seen[0]) > SHORT}
    if not left:
        raise ValueError(f"{len(bodies)} bodies, none of them in more than {SHORT} frames")
    amount = {body: motion(joints) for body, (_, joints) in left.items()}
    for body, (_, joints) in list(left.items()):
        if len(left) == 1:
            break
        width, height, _ = np.moveaxis(np.ptp(joints, axis=1), 1, 0)
        narrow = width <= SPREAD * height
        if narrow.all():
            continue
        if 1 - narrow.mean() >= NOISY_SHARE:
            del left[body]
        else:
            amount[body] = min(amount[body], motion(joints[narrow]))
    return [left[body] for body in sorted(left, key=lambda body: -amount[body])]


def arrange(T, bodies):
    """Two persons from bodies [(frames, joints)], largest motion first: (T, 2, 25, 3) float32, absent persons 0.

    The first body is person 1. Every other is a part of person 1 where it does not overlap with what person 1 has so
    far by more than a frame, else of person 2 on the same condition, else it is left out.
    """
    clip = np.zeros((T, 2, JOINTS, 3), np.float32)
    begin, end = [bodies[0][0][0], 0], [bodies[0][0][-1], 0]  # of the persons; the second one's is nothing yet
    clip[bodies[0][0], 0] = bodies[0][1]
    for frames, joints in bodies[1:]:
        for person in range(2):
            if min(end[person], frames[-1]) - max(begin[person], frames[0]) <= 0:
                clip[frames, person] = joints
                begin[person], end[person] = min(begin[person], frames[0]), max(end[person], frames[-1])
                break
    return clip


def read_clip(data):
    """The bytes of a .skeleton file -> (T, 2, 25, 3) float32, as CTR-GCN prepares NTU RGB+D, and its number of bodies.

    Denoised, frames without any person cut, and moved so that joint 1 (spine middle) of person 1, in the first frame
    that has person 1, is the origin. Unlike the release, a body that comes back under the same id is placed where it
    was seen. Raises ValueError saying what is wrong.
    """
    T, bodies = read_skeleton(data)
    clip = arrange(T, select_bodies(bodies))
    return centred(clip[clip.any(axis=(1, 2, 3))]), len(bodies)


def centred(clip):
    """A clip (T, M, 25, 3) so that joint 1 of person 1, in the first frame that has person 1, is the origin; absent
    bodies stay zero.
    """
    present = clip.any(axis=(2, 3))  # T, M
    origin = clip[present[:, 0].argmax(), 0, 1]
    return np.where(present[..., None, None], clip - origin, 0)


def find_clips(sources):
    """{clip name: where it lies} of .skeleton files below directories and inside zip files, by name.

    A place is a path, or (zip file, member). Raises ValueError or OSError for a source without any.
    """
    found = {}
    for source in map(Path, sources):
        if source.is_dir():
            places = {path.stem: str(path) for path in source.rglob("*.skeleton")}
        else:
            try:
                with zipfile.ZipFile(source) as archive:
                    members = [name for name in archive.namelist() if name.endswith(".skeleton")]
            except zipfile.BadZipFile as error:
                raise ValueError(f"{source}: neither a directory nor a readable zip file ({error})") from None
            places = {PurePosixPath(name).stem: (str(source), name) for name in members}
        if not places:
            raise ValueError(f"{source}: no .skeleton files")
        found.update(places)
    return dict(sorted(found.items()))


# what a damaged file, or member of a zip file, raises
UNREADABLE = (ValueError, OSError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@lru_cache(maxsize=4)
def _archive(path):
    return zipfile.ZipFile(path)


def load_clip(place):
    """read_clip of a place: (clip, bodies, None), or (None, 0, what is wrong with it). For worker processes: of a clip
    without a second person they hand over the first alone, (T, 1, 25, 3).
    """
    try:
        if isinstance(place, tuple):
            archive = _archive(place[0])
            size = archive.getinfo(place[1]).file_size
        else:
            size = Path(place).stat().st_size
        if size > LARGEST:
            raise ValueError(f"{size} bytes: too large for a clip")
        data = archive.read(place[1]) if isinstance(place, tuple) else Path(place).read_bytes()
        clip, bodies = read_clip(data)
    except UNREADABLE as error:
        return None, 0, " ".join(str(error).split())
    return clip if clip[:, 1].any() else clip[:, :1].copy(), bodies, None
