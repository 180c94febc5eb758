import subprocess
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest

from feeders import Store, StoreWriter, add_split
from feeders.store import RELEASE
from graph import read_layout

ROOT = Path(__file__).parents[2]


def clip(length, value=1.0, joints=20):
    return np.full((length, 1, joints, 3), value, np.float32)


def write(path, *clips):
    with StoreWriter(path, "ucla", ["a", "b"], "test") as writer:
        for name, label, keypoint, split in clips:
            writer.add(name, label, keypoint, split, camera=1)


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "x.h5"
    write(
        path,
        ("one", 0, clip(3, 1), "train"),
        ("two", 1, clip(1, 2), ["test", "xsub/test"]),
        ("three", 1, clip(5, 3), None),
    )
    return path


def test_round_trip(store):
    read = Store(store)
    assert read.name == ["one", "two", "three"] and read.classes == ["a", "b"] and read.layout.name == "ucla"
    assert (
        read.label.tolist() == [0, 1, 1]
        and read.length.tolist() == [3, 1, 5]
        and read.meta["camera"].tolist() == [1] * 3
    )
    assert {key: index.tolist() for key, index in read.splits.items()} == {"train": [0], "test": [1], "xsub/test": [1]}
    for i, value in enumerate((1, 2, 3)):
        assert (read.clip(i) == value).all() and read.clip(i).shape == (read.length[i], 1, 20, 3)


def test_frames_are_mapped_and_never_written_back(store):
    before = store.read_bytes()
    read = Store(store)
    assert isinstance(read.keypoint, np.memmap)
    read.keypoint[:] = 7
    del read
    assert store.read_bytes() == before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (("x", 0, clip(2, np.nan), "train"), "clip x: a coordinate of frame 0"),
        (("x", 0, clip(0), "train"), "clip x: no frames"),
        (("x", 0, clip(2, joints=25), "train"), "clip x: shape"),
        (("x", 2, clip(2), "train"), "clip x: label 2; there are 2 classes"),
        (("x", 0.9, clip(2), "train"), r"clip x: label must be a whole number .of 64 bits., not 0.9"),
        ((3, 0, clip(2), "train"), "clip 3: its name must be a text"),
        (("", 0, clip(2), "train"), "clip '': its name must be a text"),
        (("x", 0, clip(2).astype(complex), "train"), "clip x: its coordinates must be real numbers, not complex128"),
        (("one", 0, clip(2), "train"), "clip one: there are two"),
        (("x", 0, clip(2), ["a", "a/b"]), "a split a cannot be beside the split a/b"),
    ],
)
def test_a_bad_clip_is_named_and_nothing_is_left_behind(tmp_path, bad, message):
    path = tmp_path / "x.h5"
    with pytest.raises(ValueError, match=message):
        write(path, ("one", 0, clip(2), "train"), bad)
    assert list(tmp_path.iterdir()) == []


def test_what_a_clip_is_known_by_are_whole_numbers(tmp_path):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        for wrong in ("P01", None, 1.5, 2**70):
            with pytest.raises(ValueError, match=f"clip one: subject must be a whole number .*, not {wrong!r}"):
                writer.add("one", 0, clip(1), subject=wrong)
        writer.add("one", np.int64(0), clip(1), subject=np.uint8(7))
    assert Store(tmp_path / "x.h5").meta["subject"].tolist() == [7]


def test_a_writer_that_could_write_no_store(tmp_path):
    with pytest.raises(ValueError, match="unknown layout 'ntuu'; there are ntu, "):
        StoreWriter(tmp_path / "x.h5", "ntuu", ["a"], "test")
    with pytest.raises(ValueError, match="unknown channels 'xyc'; there are xyz, xy, xys"):
        StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test", channels="xyc")
    with pytest.raises(IsADirectoryError, match="is a directory"), StoreWriter(tmp_path, "ucla", ["a"], "test"):
        pass


def test_splits_are_added_in_turn(tmp_path):
    path = tmp_path / "x.h5"
    with StoreWriter(path, "ucla", ["a"], "test") as writer:
        writer.add("one", 0, clip(1))
    code = "import sys; from feeders import add_split; [add_split(sys.argv[1], sys.argv[2] + i, [0]) for i in '1234']"
    many = [subprocess.Popen([sys.executable, "-c", code, path, name], cwd=ROOT) for name in "abc"]
    assert [process.wait() for process in many] == [0, 0, 0]
    assert sorted(Store(path).splits) == [f"{name}{i}" for name in "abc" for i in range(1, 5)]


def test_what_is_no_store_is_not_replaced(tmp_path):
    path = tmp_path / "description.yaml"
    path.write_text("classes: [a]")
    with pytest.raises(ValueError, match="description.yaml: is there, and no store; it is not replaced"):
        StoreWriter(path, "ucla", ["a"], "test").__enter__()
    assert path.read_text() == "classes: [a]" and len(list(tmp_path.iterdir())) == 1


def test_frames_have_a_checksum(tmp_path):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        writer.add("one", 0, clip(3, 1))
        writer.add("two", 0, clip(2, 7))
    add_split(tmp_path / "x.h5", "train", [1])
    expected = zlib.crc32(np.concatenate([clip(3, 1), clip(2, 7)]))
    assert Store(tmp_path / "x.h5").frames_checksum == expected


def test_frames_that_wait_have_no_name(tmp_path):
    """So that a kill, which nothing can catch, leaves none."""
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        writer.add("one", 0, clip(1))
        assert list(tmp_path.iterdir()) == []
    assert len(list(tmp_path.iterdir())) == 1


def test_one_at_a_time_writes_what_is_continued(tmp_path):
    arguments = (tmp_path / "x.h5", "ucla", ["a"], "test")
    with StoreWriter(*arguments, resume=["one", "two"]) as writer:
        writer.add("one", 0, clip(1))
        with pytest.raises(ValueError, match="x.h5: another process is writing it"):
            StoreWriter(*arguments, resume=["one", "two"]).__enter__()
        writer.add("two", 0, clip(2))
    assert Store(tmp_path / "x.h5").name == ["one", "two"] and len(list(tmp_path.iterdir())) == 1


def test_a_failed_rewrite_keeps_the_old_store(store):
    before = store.read_bytes()
    with pytest.raises(ValueError, match="no frames"):
        write(store, ("x", 0, clip(0), None))
    assert store.read_bytes() == before and len(list(store.parent.iterdir())) == 1


def test_add_split(store):
    add_split(store, "lt", [2, 0])
    with pytest.raises(ValueError, match="x.h5: has a split lt already .--overwrite replaces it."):
        add_split(store, "lt", [2])
    add_split(store, "lt", [2], replace=True)
    with pytest.raises(ValueError, match="x.h5: its split test is of the source"):
        add_split(store, "test", [2], replace=True)
    assert Store(store).split("lt").tolist() == [2] and len(list(store.parent.iterdir())) == 1


def test_added_splits_outlive_a_new_conversion(store, capsys):
    add_split(store, "lt", [2, 0])
    add_split(store, "lt50", [0])
    clips = ("three", 1, clip(4), None), ("one", 0, clip(3), "train"), ("zero", 0, clip(2), "lt50")
    write(store, *clips)
    new = Store(store)
    assert {key: index.tolist() for key, index in new.splits.items()} == {"lt": [0, 1], "lt50": [2], "train": [1]}
    assert new.added == ["lt"]
    assert "the split lt50 that was added before is left out: the source has one" in capsys.readouterr().out
    write(store, ("three", 0, clip(4), "train"), ("one", 0, clip(3), "train"))  # another label
    assert Store(store).added == []
    assert "the split lt that was added before is left out: clip three is not what it was" in capsys.readouterr().out


def test_a_checksum_that_the_file_does_not_say_is_computed(store):
    checksum = Store(store).frames_checksum
    damage(store, lambda f: f.attrs.pop("checksum"))
    assert Store(store).frames_checksum == checksum != 0


def test_what_goes_where_a_store_is_replaced_is_said(store, capsys):
    write(store, ("one", 0, clip(3), "train"))
    assert f"note: {store}: the split test goes, which the source has no more" in capsys.readouterr().out
    damage(store, lambda f: f.pop("label"))
    write(store, ("one", 0, clip(3), "train"))
    assert "note: splits that were added to the store before are lost: " in capsys.readouterr().out
    assert Store(store).name == ["one"]


@pytest.mark.parametrize(
    ("index", "message"), [([2, 0, 2], "names clip three more than once"), ([3], "names clips that are not there")]
)
def test_add_split_writes_no_unsound_split(store, index, message):
    before = store.read_bytes()
    with pytest.raises(ValueError, match=f"x.h5: split lt {message}"):
        add_split(store, "lt", index)
    assert store.read_bytes() == before


def test_strings_of_any_length_and_a_split_given_twice(store):
    """h5py writes lists of str with a type of its own."""
    damage(store, lambda f: exchange(f, "name", ["one", "zwei", "three"]))
    assert Store(store).name == ["one", "zwei", "three"]
    write(store, ("one", 0, clip(1), ["train", "train"]))
    assert Store(store).split("train").tolist() == [0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("test", "its split test is of the source"),
        ("xsub", "cannot be beside the split xsub/test"),
        ("train/lt", "cannot be beside the split train"),
        ("/", "'/' is no name for a split"),
        ("../x", "cannot|no name"),
        ("", "no name for a split"),
        ("a//b", "no name for a split"),
    ],
)
def test_names_that_would_harm_other_splits(store, name, message):
    before = store.read_bytes()
    with pytest.raises(ValueError, match=message):
        add_split(store, name, [0])
    assert store.read_bytes() == before


def test_a_store_without_clips_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="x.h5: there are no clips to write"):
        write(tmp_path / "x.h5")
    assert list(tmp_path.iterdir()) == []


def test_unknown_and_empty_splits(store):
    add_split(store, "none", [])
    with pytest.raises(ValueError, match="no split 'val'; there are none, test, train, xsub/test"):
        Store(store).split("val")
    with pytest.raises(ValueError, match="x.h5: split 'none' is empty"):
        Store(store).split("none")


def damage(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def exchange(file, key, value):
    """Another dataset in the place of one, or a group for None."""
    del file[key]
    if value is None:
        file.create_group(key)
    else:
        file[key] = value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f["label"].__setitem__(1, 9), "clip two has label 9; there are 2 classes, 0 to 1"),
        (lambda f: f["length"].__setitem__(2, 50), "frames of clip three lie outside"),
        (lambda f: f["split/train"].__setitem__(0, 3), "split train names clips that are not there"),
        (lambda f: f.attrs.__setitem__("layout", "kinect"), "unknown layout 'kinect'"),
        (lambda f: f.attrs.__setitem__("layout", "ntu"), "clips have 20 joints; layout ntu has 25"),
        (lambda f: f.attrs.__setitem__("format", "other"), "its format is 'other'"),
        (lambda f: f.__delitem__("label"), "not a readable store: there is no dataset label"),
        (lambda f: exchange(f, "keypoint", None), "there is no dataset keypoint"),
        (lambda f: exchange(f, "keypoint", h5py.Empty("f4")), "keypoint must be"),
        (lambda f: exchange(f, "name", [1, 2, 3]), r"name must be strings of shape \(N,\), not int64"),
        (lambda f: exchange(f, "name", [[b"a"], [b"b"], [b"c"]]), r"name must be strings of .* shape \(3, 1\)"),
        (lambda f: exchange(f, "label", [0.0, 1.0, 1.0]), "label must be whole numbers of .*, not float64"),
        (lambda f: exchange(f, "label", [[0, 1]] * 3), r"label must be whole numbers of .* of shape \(3, 2\)"),
        (lambda f: exchange(f, "length", b"three"), "length must be whole numbers"),
        (lambda f: exchange(f, "meta/camera", [1.5] * 3), "meta/camera must be whole numbers"),
        (lambda f: exchange(f, "meta/camera", [1]), "camera has 1 entries for 3 clips"),
        (lambda f: exchange(f, "split/train", [0.5]), "split/train must be whole numbers"),
        (lambda f: exchange(f, "split/xsub/test", [[1]]), "split/xsub/test must be whole numbers"),
        (lambda f: exchange(f, "split/train", [2, 0, 2, 2]), "split train names clip three more than once"),
        (lambda f: f.attrs.__setitem__("classes", 2), "classes must be a list of names"),
        (lambda f: f.attrs.__setitem__("classes", "[1, 2]"), "classes must be a list of names"),
    ],
)
def test_unsound_stores_are_refused_by_name(store, change, message):
    damage(store, change)
    with pytest.raises(ValueError, match=f"x.h5: .*{message}"):
        Store(store)


def test_truncated_and_foreign_files(store, tmp_path):
    store.write_bytes(store.read_bytes()[:-300])
    with pytest.raises(ValueError, match="x.h5: not a readable store"):
        Store(store)
    other = tmp_path / "notes.h5"
    other.write_text("hello")
    with pytest.raises(ValueError, match="notes.h5: not a readable store"):
        Store(other)
    with pytest.raises(FileNotFoundError):
        Store(tmp_path / "absent.h5")


@pytest.mark.parametrize(
    ("split", "message"), [("a b", "'a b' is no name"), ("", "is no name"), ("x/y", "beside the split x")]
)
def test_a_wrong_name_of_a_split_adds_nothing(tmp_path, split, message):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        writer.add("one", 0, np.ones((1, 1, 20, 3)), "x")
        with pytest.raises(ValueError, match=message):
            writer.add("two", 0, np.ones((1, 1, 20, 3)), ["x", split])
    assert Store(tmp_path / "x.h5").name == ["one"]


def test_a_layout_of_ones_own(tmp_path):
    layout = read_layout(
        {
            "name": "stick",
            "joints": 5,
            "edges": [[0, 1], [0, 2], [0, 3], [3, 4]],
            "root": 0,
            "pairs": [[1, 2]],
            "parts": {"trunk": [0], "left_arm": [1], "right_arm": [2], "left_leg": [3], "right_leg": [4]},
        }  # fmt: skip
    )
    with StoreWriter(tmp_path / "x.h5", layout, ["a"], "test", channels="xys") as writer:
        writer.add("one", 0, np.ones((2, 1, 5, 3)), "train")
    store = Store(tmp_path / "x.h5")
    assert store.layout == layout and store.channels == "xys"
    for key, value, message in (("layout", "{}", "key name is missing"), ("channels", "zyx", "unknown channels 'zyx'")):
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            old = file.attrs[key]
            file.attrs[key] = value
        with pytest.raises(ValueError, match=f"x.h5: .*{message}"):
            Store(tmp_path / "x.h5")
        with h5py.File(tmp_path / "x.h5", "r+") as file:
            file.attrs[key] = old


def test_released_pages_come_back(tiny_store, monkeypatch):
    store = Store(tiny_store)
    before = store.keypoint.copy()
    for release in (RELEASE, store.keypoint.nbytes // 2):  # smaller than that, it may stay as a whole
        monkeypatch.setattr("feeders.store.RELEASE", release)
        for _ in range(2 + release // store.keypoint.nbytes):
            store.touched(1, release)
        np.testing.assert_array_equal(store.keypoint, before)
    assert store._read < store.keypoint.nbytes


def test_a_link_to_a_store_stays(tmp_path):
    path, link = tmp_path / "disk" / "x.h5", tmp_path / "x.h5"
    path.parent.mkdir()
    link.symlink_to(path)
    write(link, ("one", 0, clip(2), "train"))
    add_split(link, "more", [0])
    assert link.is_symlink() and list(Store(path).splits) == ["more", "train"]
    write(link, ("two", 0, clip(2), "train"))
    assert link.is_symlink() and Store(path).name == ["two"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "x.h5", "x.h5"]
