import h5py
import numpy as np
import pytest
from matplotlib import image

from data.check import choose, histogram
from data.prepare import main
from feeders import Store, StoreWriter


@pytest.fixture
def path(tmp_path):
    """Two sound clips, two of zeros, one of which is in training and test."""
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a", "b"], "test", num_person=2) as writer:
        clip = rng.normal(size=(3, 2, 20, 3))
        clip[1:, 1] = 0
        clip[2] = 0
        writer.add("one", 0, clip, "train")
        writer.add("two", 1, rng.normal(size=(7, 2, 20, 3)) * [[[1]], [[0]]], "test")
    return tmp_path / "x.h5"


def check(path, capsys, *words):
    status = main(["check", str(path), *words])
    return status, capsys.readouterr().out


def test_a_sound_store(path, capsys):
    status, printed = check(path, capsys)
    assert status == 0 and printed.endswith("no faults\n")
    assert (
        "2 clips, 2 classes, 10 frames (3 to 7 a clip" in printed and "split train: 1 clips, per class 1 0" in printed
    )
    assert "bodies a clip: 1 in 1, 2 in 1" in printed and "frames without a body: 1, in 1 clips" in printed


def test_faults(tmp_path, capsys):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a", "b"], "test") as writer:
        writer.add("good", 0, np.ones((2, 1, 20, 3)), ["train", "test", "val", "xsub/train-lt", "xsub/test"])
        writer.add("zero", 1, np.zeros((2, 1, 20, 3)), "train")
        writer.add("nan", 1, 2 * np.ones((2, 1, 20, 3)), "train")
    with h5py.File(tmp_path / "x.h5", "r+") as file:
        file["keypoint"][5, 0, 3, 1] = np.nan
    status, printed = check(tmp_path / "x.h5", capsys)
    assert status == 1 and printed.endswith("5 faults\n")
    assert "1 clips are in train and in val: good" in printed
    assert "clip zero: all coordinates are 0" in printed and "clip nan: coordinates that are not finite" in printed
    assert "1 clips are in train and in test: good" in printed
    assert "1 clips are in xsub/train-lt and in xsub/test: good" in printed


def test_a_clip_far_from_all_others(tmp_path, capsys):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        for i, most in enumerate([1, 3, 1e15]):
            writer.add(f"clip {i}", 0, np.linspace(0, most, 120).reshape(2, 1, 20, 3), "train")
    status, printed = check(tmp_path / "x.h5", capsys)
    assert status == 1 and "clip clip 2: coordinates up to 9.91597e+14, where half of the clips stay within" in printed
    assert printed.endswith("\n1 fault\n")


def test_splits_with_and_without_labels(tmp_path, capsys):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a", "b"], "test") as writer:
        for i, (label, split) in enumerate([(0, "test"), (-1, "test"), (-1, "new"), (-1, "new"), (1, "train")]):
            writer.add(f"clip {i}", label, np.full((2, 1, 20, 3), i + 1), split)
    status, printed = check(tmp_path / "x.h5", capsys)
    assert status == 1 and printed.endswith("1 of 2 clips of test have no label: clip 1, …\n1 fault\n")
    assert "split new: 2 clips, per class 0 0, 2 without a label" in printed
    store = Store(tmp_path / "x.h5")
    assert choose(store, np.arange(5), True, 0).tolist() == [0, 4] and choose(store, np.arange(1, 4), True, 0) == [1]


def test_the_same_frames_in_training_and_test_are_noted(tmp_path, capsys):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a"], "test") as writer:
        for name, split in (("one", "train"), ("again", "train"), ("other", "test")):
            writer.add(name, 0, np.ones((2, 1, 20, 3)), split)
        writer.add("both", 0, 2 * np.ones((2, 1, 20, 3)), ["xsub/train", "xview/test"])
        writer.add("too", 0, 2 * np.ones((2, 1, 20, 3)), ["xsub/test", "xview/train"])
    status, printed = check(tmp_path / "x.h5", capsys)
    assert status == 0 and "note: 1 clips of training and test have the same frames: one and other" in printed


@pytest.mark.parametrize("key", ["label", "name"])
def test_a_store_that_cannot_be_opened(path, capsys, key):
    with h5py.File(path, "r+") as file:
        file[key][1] = {"label": 2, "name": b"one"}[key]
    status, printed = check(path, capsys)
    assert status == 1 and "1 fault: the store cannot be opened" in printed
    assert {"label": "clip two has label 2", "name": "clip names are not unique"}[key] in printed


def test_no_store(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["check", str(tmp_path / "x.h5")])


def test_pictures(tmp_path, tiny_store):
    sizes = {}
    for words in ((), ("--each-class",), ("--seed", "1")):
        picture = tmp_path / "new" / "clips.png"
        assert main(["check", str(tiny_store), "--plot", str(picture), *words]) == 0
        sizes[words] = image.imread(picture)
    assert sizes["--each-class",].shape[0] > sizes[()].shape[0]
    assert sizes[()].shape != sizes["--seed", "1"].shape or (sizes[()] != sizes["--seed", "1"]).any()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--each-class"], "choose what --plot draws: it is missing"),
        (["--seed", "1"], "choose what --plot draws: it is missing"),
        (["--plot", "x.png", "--seed", "-1"], "--seed must be at least 0, not -1"),
        (["--plot", "x.png", "--seed", "1", "--each-class"], "takes no --seed"),
        (["--plot", "x.h5"], "--plot: x.h5: its name must end with .png"),
    ],
)
def test_options_of_the_picture(tiny_store, monkeypatch, tmp_path, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        main(["check", str(tiny_store), *words])
    assert not list(tmp_path.iterdir())


def test_an_empty_split_is_a_fault(path, capsys):
    with h5py.File(path, "r+") as file:
        file["split/val"] = np.empty(0, np.int64)
    status, printed = check(path, capsys)
    assert status == 1 and "split val has no clips" in printed


def test_histogram():
    lines = list(histogram(np.array([1, 1, 1, 1, 5]), bins=2, width=8))
    assert [line.split() for line in lines] == [["1", "to", "2", "########", "4"], ["3", "to", "5", "##", "1"]]
    assert [line.split()[-1] for line in histogram(np.array([7, 7]))] == ["2"]
