import itertools
import random
import time
import zipfile
from collections import Counter
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from data import ntu
from data.prepare import main
from feeders import Store, build_feeder
from torchlight.files import read_names

NAMES = ["S001C001P001R001A001", "S001C002P003R002A050", "S002C003P002R001A060", "S018C001P008R001A061"]


def skeleton_text(frames):
    """The text of a .skeleton file. frames: a list of {body id: (25, 3) joints} for each frame."""
    lines = [str(len(frames))]
    for bodies in frames:
        lines.append(str(len(bodies)))
        for body, joints in bodies.items():
            lines += [f"{body} 0 1 1 0 0 0 0.1 -0.2 2", "25"]
            lines += [" ".join(f"{v:.7f}" for v in joint) + " 250.1 190.2 960.3 540.4 0 0 0 1 2" for joint in joints]
    return "\n".join(lines) + "\n"


def walk(T, seed=0, shift=0.0, size=1.0):
    """(T, 25, 3): a body taller than wide, that moves."""
    rng = np.random.default_rng(seed)
    pose = rng.normal(size=(25, 3)) * (0.1, 0.6, 0.1)
    return size * (pose + rng.normal(size=(T, 1, 3)) * 0.3 + np.array([shift, 0, 3])).round(4)


def single(T, seed=0):
    return [{"72057594037944738": joints} for joints in walk(T, seed)]


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "raw"
    directory.mkdir()
    for seed, name in enumerate(NAMES):
        (directory / f"{name}.skeleton").write_text(skeleton_text(single(12 + seed, seed)))
    return directory


def prepare(source, *words, command="ntu60"):
    out = source.parent / "x.h5"
    main([command, "--source", str(source), "--out", str(out), "--workers", "1", *words])
    return Store(out)


# ---- parsing and bodies


def test_real_clips_equal_the_reference(reference):
    expected = np.load(reference("golden/ntu_denoised.npz"))
    places = ntu.find_clips([reference("datasets/ntu-samples")])
    assert set(places) == set(expected.files) and len(places) == 7
    for name, place in places.items():
        clip, bodies, error = ntu.load_clip(place)
        assert error is None and bodies >= 1
        np.testing.assert_allclose(clip, expected[name][:, : clip.shape[1]], atol=1e-5)
        assert clip.shape[1] == 2 or not expected[name][:, 1].any()
        np.testing.assert_allclose(ntu.read_clip(Path(place).read_bytes())[0], expected[name], atol=1e-5)


def test_one_body_is_moved_to_its_own_spine():
    joints = walk(5)
    clip, bodies = ntu.read_clip(skeleton_text([{"1": j} for j in joints]).encode())
    assert clip.shape == (5, 2, 25, 3) and clip.dtype == np.float32 and bodies == 1
    np.testing.assert_allclose(clip[:, 0], joints - joints[0, 1], atol=1e-5)
    assert not clip[:, 1].any()


def test_the_livelier_body_comes_first():
    calm, lively = walk(20, 1, size=0.3), walk(20, 2, shift=1, size=1.5)
    clip, _ = ntu.read_clip(skeleton_text([{"1": a, "2": b} for a, b in zip(calm, lively, strict=True)]).encode())
    np.testing.assert_allclose(clip[:, 0], lively - lively[0, 1], atol=1e-5)
    np.testing.assert_allclose(clip[:, 1], calm - lively[0, 1], atol=1e-5)


def test_short_and_wide_bodies_go():
    person, ghost, chair = walk(20, 1), walk(20, 2), walk(20, 3)[..., [1, 0, 2]]
    frames = [{"1": j} for j in person]
    for t in range(11):
        frames[t]["2"] = ghost[t]
    for t in range(20):
        frames[t]["3"] = chair[t]
    clip, bodies = ntu.read_clip(skeleton_text(frames).encode())
    assert bodies == 3 and not clip[:, 1].any()
    np.testing.assert_allclose(clip[:, 0], person - person[0, 1], atol=1e-5)


def test_fragments_of_a_person_are_joined_and_empty_frames_cut():
    first, second = walk(15, 1), walk(14, 1)
    frames = [{"1": j} for j in first] + [{}] * 3 + [{"2": j} for j in second]
    clip, _ = ntu.read_clip(skeleton_text(frames).encode())
    assert len(clip) == 29 and not clip[:, 1].any()
    origin = clip[0, 0, 1] * 0 + (first if ntu.motion(first) > ntu.motion(second) else first)[0, 1]
    np.testing.assert_allclose(clip[:, 0], np.concatenate([first, second]) - origin, atol=1e-5)


def test_a_body_that_comes_back_stays_in_its_frames():
    a, b = walk(30, 1), walk(30, 2, shift=1)
    frames = [{"1": j} for j in a]
    for t in (*range(8), *range(20, 30)):
        frames[t]["2"] = b[t]
    clip, _ = ntu.read_clip(skeleton_text(frames).encode())
    for person in range(2):
        if not clip[10, person].any():
            np.testing.assert_allclose(clip[20:, person] - clip[:1, person], b[20:] - b[:1], atol=1e-5)
            return
    raise AssertionError("nobody was absent in frame 10")


def test_only_short_bodies():
    frames = [{"1": a, "2": b} for a, b in zip(walk(5, 1), walk(5, 2), strict=True)]
    with pytest.raises(ValueError, match="2 bodies, none of them in more than 11 frames"):
        ntu.read_clip(skeleton_text(frames).encode())


GOOD = skeleton_text(single(3)).splitlines()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "number of frames was expected in line 1, not the end"),
        (["many"], "number of frames was expected in line 1, not 'many'"),
        (["99999999999"], "99999999999 frames, line 1, but the file has 1 lines"),
        (["-1"], "-1 frames"),
        (["2", "0", "0"], "no body in any frame"),
        (GOOD[:40], "ends in frame 1, line 40"),
        (GOOD[:-1], "ends in frame 2, line 84"),
        (GOOD[:3] + ["24"] + GOOD[4:], "a body of 24 joints in frame 0, line 4"),
        (GOOD[:4] + ["1 2 3"] + GOOD[5:], "a joint has not twelve numbers: '1 2 3'"),
        (GOOD[:4] + ["x" + GOOD[4]] + GOOD[5:], "a joint is not made of numbers"),
        (GOOD[:4] + ["nan" + GOOD[4][GOOD[4].index(" ") :]] + GOOD[5:], "not a place near the camera: 'nan"),
        (GOOD[:4] + ["1e30" + GOOD[4][GOOD[4].index(" ") :]] + GOOD[5:], "not a place near the camera: '1e30"),
    ],
)
def test_a_damaged_file_says_where(lines, message):
    with pytest.raises(ValueError, match=message):
        ntu.read_clip("\n".join(lines).encode())


def test_a_body_twice_in_a_frame():
    text = skeleton_text([{"1": walk(1)[0], "2": walk(1, 1)[0]}]).replace("\n2 0 1", "\n1 0 1")
    with pytest.raises(ValueError, match="a body is there twice in a frame"):
        ntu.read_clip(text.encode())


def with_numbers(words):
    """A file of which the coordinates are these words, repeated as often as is needed to fill the last body."""
    words = [*words, *["0.5"] * (-len(words) % 75)]
    lines = [str(len(words) // 75)]
    for i in range(0, len(words), 3):
        lines += ["1", "7 0 1 1 0 0 0 0.1 -0.2 2", "25"] if i % 75 == 0 else []
        lines.append(" ".join(words[i : i + 3]) + " 250.1 190.2 960.3 540.4 0 0 0 1 2")
    return "\n".join(lines).encode()


def assert_read_like_float(words):
    _, bodies = ntu.read_skeleton(with_numbers(words))
    read = bodies["7"][1].ravel()[: len(words)]
    expected = np.array([float(word) for word in words]).astype(np.float32)
    different = np.flatnonzero(read.view(np.uint32) != expected.view(np.uint32))
    assert not different.size, [(words[i], read[i], expected[i]) for i in different[:5]]


@pytest.mark.parametrize(
    "word",
    [
        *("0", "-0", "-0.0", "5.", "-5.", ".5", "-.5", "+1.5", "7", "12.5", "-999.99", "00.5", "1e-5", "-7.257856E-05"),
        *("1.5E+1", "0.12345678901234567", "-8.9999999999999999999999", "0.0000000000000000000000000000000000001"),
        *(
            "1." + "0" * 60,
            "9." + "9" * 12,
            "9." + "9" * 13,
            "9." + "9" * 14,
            "9." + "9" * 40,
            "\t1.5",
            "0" * 50 + "1.5",
        ),
    ],
)
@pytest.mark.parametrize("axis", range(3))
def test_a_number_of_any_form_is_read(word, axis):
    words = ["1.2345678", "-0.25", "3.5"] * 30
    words[3 + axis] = word
    assert_read_like_float(words)


def test_decimals_of_any_length_are_read_like_float():
    rng = random.Random(0)
    words = [
        rng.choice(("", "-")) + rng.choice("0123456789.") + "." * (n > 0) + "".join(rng.choices("0123456789", k=n))
        for n in range(40)
        for _ in range(100)
    ]
    words = [word for word in words if word.count(".") < 2 and word.strip("-.")]
    for value in np.random.default_rng(0).uniform(0, 9, 1500).astype(np.float32):  # halfway to the next, and around it
        half = (float(value) + float(np.nextafter(value, np.float32(10)))) / 2
        exact = f"{Decimal(half):f}"
        words += [exact, exact + "01", exact[:15], exact[:16], exact[:20], exact[:-1], repr(half), repr(float(value))]
    rng.shuffle(words)
    assert_read_like_float(words)


@pytest.mark.parametrize("word", ["", "-", ".", "x", "--1.5", "1.-5", "1.2.3", "1-2", "1,5", "0x1", "1_0", "\0"])
@pytest.mark.parametrize("axis", range(3))
def test_a_word_that_is_no_number(word, axis):
    words = ["1.2345678", "-0.25", "3.5"] * 50
    words[90 + axis] = word
    with pytest.raises(ValueError, match="a joint is not made of numbers .*row 30"):
        ntu.read_skeleton(with_numbers(words))


@pytest.mark.parametrize(
    "line", ["0 " * 10 + "0", "0 " * 12 + "0", "0.5 0.5 0.5", "0.5", "", " " * 11, "0.5 0.5 0.5\r" + " 0" * 9]
)
@pytest.mark.parametrize("place", [4, 20, 28])
def test_a_line_without_twelve_numbers(line, place):
    lines = GOOD[:place] + [line] + GOOD[place + 1 :]
    with pytest.raises(ValueError, match="a joint (has not twelve|is not made of) numbers"):
        ntu.read_skeleton("\n".join(lines).encode())


@pytest.mark.parametrize("ends", ["", "\n", "\r\n", "  \n\n"])
def test_line_ends_and_many_frames(ends):
    joints = walk(400).astype(np.float32)  # more than are read together
    text = skeleton_text([{"7": j} for j in joints]).strip()
    plain = ntu.read_skeleton(text.encode())
    T, bodies = ntu.read_skeleton((text.replace("\n", "\r\n") + ends).encode())
    assert T == plain[0] == 400 and list(bodies) == ["7"] and bodies["7"][0].tolist() == list(range(400))
    np.testing.assert_array_equal(bodies["7"][1], plain[1]["7"][1])
    np.testing.assert_allclose(bodies["7"][1], joints, atol=1e-6)


def mutate(data, rng):
    """A damaged copy of a file."""
    data, kind = bytearray(data), rng.randrange(6)
    if kind == 0:  # bytes dropped
        for _ in range(rng.randrange(1, 50)):
            del data[rng.randrange(len(data))]
    elif kind == 1:  # bytes replaced
        for _ in range(rng.randrange(1, 50)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    elif kind == 2:  # truncated
        del data[rng.randrange(len(data)) :]
    else:
        lines = bytes(data).splitlines()
        if kind == 3:  # counts inflated
            short = [i for i, line in enumerate(lines) if len(line) < 4]
            lines[rng.choice(short)] = rng.choice([b"999999999999", b"-3", b"200", b"26", b"3", b"1e9", b"0"])
        elif kind == 4:  # lines shuffled
            first = rng.randrange(len(lines))
            part = lines[first : first + 60]
            rng.shuffle(part)
            lines[first : first + 60] = part
        else:  # numbers replaced
            for _ in range(rng.randrange(1, 10)):
                i = rng.randrange(len(lines))
                words = lines[i].split(b" ")
                words[rng.randrange(len(words))] = rng.choice([b"nan", b"inf", b"1e308", b"", b"0x1", b"1_0", b"\xff"])
                lines[i] = b" ".join(words)
        return b"\n".join(lines)
    return bytes(data)


def test_500_damaged_files_are_read_or_refused(reference):
    rng = random.Random(0)
    originals = [path.read_bytes() for path in sorted(reference("datasets/ntu-samples").glob("*.skeleton"))]
    refused, slowest = 0, 0.0
    for data in itertools.islice(itertools.cycle(originals), 500):
        damaged = mutate(data, rng)
        begin = time.perf_counter()
        try:
            clip, bodies = ntu.read_clip(damaged)
        except ValueError as error:
            refused += 1
            assert str(error) and "\n" not in str(error)
        else:
            assert clip.shape[1:] == (2, 25, 3) and 1 <= len(clip) <= 400 and np.isfinite(clip).all() and bodies >= 1
        slowest = max(slowest, time.perf_counter() - begin)
    assert 100 < refused < 500  # both outcomes occur
    assert slowest < 30  # none hangs


# ---- the command


def test_splits_labels_and_facts(source):
    store = prepare(source)
    assert store.name == NAMES[:3] and store.label.tolist() == [0, 49, 59] and len(store.classes) == 60
    assert store.classes[59] == "walking apart" and store.length.tolist() == [12, 13, 14]
    assert {name: index.tolist() for name, index in store.splits.items()} == {
        "xsub/train": [0, 2], "xsub/test": [1], "xview/train": [1, 2], "xview/test": [0],
    }  # fmt: skip
    assert store.meta["setup"].tolist() == [1, 1, 2] and store.meta["camera"].tolist() == [1, 2, 3]
    assert store.meta["performer"].tolist() == [1, 3, 2] and store.meta["bodies"].tolist() == [1, 1, 1]


def test_ntu120_has_all_actions_and_setups(source):
    store = prepare(source, command="ntu120")
    assert store.name == NAMES and store.classes[60] == "put on headphone" and len(store.classes) == 120
    assert store.splits["xset/train"].tolist() == [2, 3] and store.splits["xset/test"].tolist() == [0, 1]


def test_the_feeder_gives_the_joints_that_went_in(source):
    prepare(source)
    feeder = build_feeder(source.parent / "x.h5", "xview/test", transforms=[{"linspace_frames": {"length": 12}}])
    x, y = feeder.batch([0])
    joints = walk(12, 0)
    assert x.shape == (1, 3, 12, 25, 2) and y.tolist() == [0]
    np.testing.assert_allclose(x[0, ..., 0].permute(1, 2, 0), joints - joints[0, 1], atol=1e-5)


def test_zip_files_are_read_in_place(source, tmp_path):
    expected = prepare(source, command="ntu120")
    for archive, names in (("a.zip", NAMES[:3]), ("b.zip", NAMES[3:])):
        with zipfile.ZipFile(tmp_path / archive, "w", zipfile.ZIP_DEFLATED) as file:
            for name in names:
                file.write(source / f"{name}.skeleton", f"nturgb+d_skeletons/{name}.skeleton")
    out = tmp_path / "y.h5"
    main(["ntu120", "--source", str(tmp_path / "a.zip"), str(tmp_path / "b.zip"), "--out", str(out), "--workers", "2"])
    store = Store(out)
    assert store.name == expected.name
    np.testing.assert_array_equal(store.keypoint, expected.keypoint)


def test_bad_files_are_named_and_the_rest_goes_on(source, capsys):
    (source / "S001C001P001R001A002.skeleton").write_text("")
    (source / "S001C001P001R001A003.skeleton").write_text("\n".join(GOOD[:50]))
    (source / "notes.skeleton").write_text("x")
    assert prepare(source).name == NAMES[:3]
    printed = capsys.readouterr().out
    assert "A002.skeleton: the number of frames was expected" in printed and "A003.skeleton: ends in frame" in printed
    assert "notes.skeleton: its name is not a clip name" in printed and "3 clips were left out" in printed
    assert "1 clips of actions beyond 60 were left out" in printed
    assert "A001 drink water: 1 of 948" in printed and "3 of 56880 published clips" in printed
    assert "bodies a clip: 1 in 3" in printed


def test_a_damaged_member_of_a_zip_file_is_named_and_left_out(source, tmp_path, capsys):
    archive, name = tmp_path / "a.zip", f"{NAMES[1]}.skeleton"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for each in NAMES[:3]:
            file.write(source / f"{each}.skeleton", f"{each}.skeleton")
        start = file.getinfo(name).header_offset + 30 + len(name)
    data = bytearray(archive.read_bytes())
    data[start + 10 : start + 200] = bytes(range(190))
    archive.write_bytes(data)
    main(["ntu60", "--source", str(archive), "--out", str(tmp_path / "y.h5"), "--workers", "1"])
    assert Store(tmp_path / "y.h5").name == [NAMES[0], NAMES[2]]
    assert f"{name}: " in capsys.readouterr().out


def test_a_number_of_processes_that_is_none(source):
    with pytest.raises(ValueError, match="--workers must be at least 1, not 0"):
        prepare(source, "--workers", "0")


def test_strict_stops_at_the_first(source):
    (source / "S001C001P001R001A002.skeleton").write_text("")
    with pytest.raises(ValueError, match="A002.skeleton: the number of frames.*--strict"):
        prepare(source, "--strict")
    assert not (source.parent / "x.h5").exists()


def test_the_list_of_missing_skeletons(source, tmp_path, capsys):
    (tmp_path / "missing.txt").write_text(f"{NAMES[1]}.skeleton\n{NAMES[2]}\n")
    assert prepare(source, "--missing", str(tmp_path / "missing.txt")).name == NAMES[:1]
    assert "2 clips in the list of missing skeletons were left out" in capsys.readouterr().out


def test_a_list_of_missing_skeletons_without_a_clip_name(source, tmp_path):
    (tmp_path / "missing.txt").write_text("Samples with missing skeletons\n")
    with pytest.raises(ValueError, match="missing.txt: holds no clip names of NTU"):
        prepare(source, "--missing", str(tmp_path / "missing.txt"))


def test_a_killed_run_goes_on(source, monkeypatch, capsys):
    expected = prepare(source)
    (source.parent / "x.h5").unlink()
    load, read = ntu.load_clip, []

    def load_or_die(place):
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(place)
        return load(place)

    monkeypatch.setattr(ntu, "load_clip", load_or_die)
    with pytest.raises(KeyboardInterrupt):
        prepare(source)
    monkeypatch.setattr(ntu, "load_clip", load)
    capsys.readouterr()
    store = prepare(source)
    assert "2 clips are there from an interrupted run" in capsys.readouterr().out
    assert store.name == expected.name
    np.testing.assert_array_equal(store.keypoint, expected.keypoint)
    for name, index in expected.splits.items():
        np.testing.assert_array_equal(store.splits[name], index)
    assert sorted(path.name for path in source.parent.iterdir()) == ["raw", "x.h5"]


def test_an_interrupted_run_of_other_clips_is_not_continued(source, tmp_path, capsys):
    broken = source / "S003C001P001R001A001.skeleton"
    broken.write_text("")
    with pytest.raises(ValueError, match="--strict"):
        prepare(source, "--strict")
    broken.unlink()
    (source / f"{NAMES[0]}.skeleton").unlink()
    assert prepare(source).name == NAMES[1:3]
    assert "interrupted run" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["empty", "absent", "text"])
def test_a_source_without_clips(tmp_path, kind):
    place = tmp_path / "source"
    if kind == "empty":
        place.mkdir()
    if kind == "text":
        place.write_text("not a zip")
    with pytest.raises((ValueError, OSError), match="no .skeleton files|neither a directory|No such file"):
        main(["ntu60", "--source", str(place), "--out", str(tmp_path / "x.h5")])


@pytest.mark.parametrize(
    ("num_class", "protocol", "train", "test"),
    [(60, "xsub", 40091, 16487), (60, "xview", 37646, 18932), (120, "xsub", 63026, 50919), (120, "xset", 54468, 59477)],
)
def test_protocols_and_published_counts(reference, num_class, protocol, train, test):
    lists = reference("datasets/ntu-lists")
    names, missing = (read_names(lists / f"ntu{num_class}_{kind}.txt") for kind in ("available", "missing"))
    is_train = [ntu.is_train(name, protocol) for name in names]
    assert (sum(is_train), len(names) - sum(is_train)) == (train, test)
    actions = Counter(ntu.parse_name(name)["action"] for name in names + missing)
    assert actions == {a: ntu.CLIPS[a > 60] for a in range(1, num_class + 1)}
