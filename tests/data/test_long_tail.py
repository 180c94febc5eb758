import numpy as np
import pytest

from data import ntu
from data.long_tail import class_sizes, long_tail
from data.prepare import main
from feeders import Store, StoreWriter
from torchlight.files import read_names


def test_class_sizes():
    assert class_sizes(10, 100, 10) == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
    assert class_sizes(10, 100, 10, "step") == [100] * 5 + [10] * 5
    assert class_sizes(5, 100, 50, "step") == [100, 100, 100, 2, 2]
    assert class_sizes(10, 98, 49)[-1] == 2 and class_sizes(10, 49, 49)[-1] == 1  # 98 * (1 / 49) is below 2 in float64
    assert class_sizes(10, 100, 50) == [100, 64, 41, 27, 17, 11, 7, 4, 3, 2]
    # BRL, table of data sets
    assert [sum(class_sizes(60, 600, f)) for f in (10, 50, 100)] == [14142, 9150, 7892]
    assert [sum(class_sizes(120, 600, f)) for f in (10, 50, 100)] == [28182, 18137, 15600]
    assert [sum(class_sizes(120, 400, f)) for f in (10, 50, 100)] == [18771, 12069, 10378]
    for wrong in ((1, 10, 10), (10, 0, 10), (10, 10, 0.5)):
        with pytest.raises(ValueError, match="a long tail needs"):
            class_sizes(*wrong)
    with pytest.raises(ValueError, match="n-max 5 and imbalance 10 leave 3 classes without a clip"):
        class_sizes(10, 5, 10)


@pytest.mark.parametrize(("protocol", "n_max"), [("xset", 400), ("xsub", 600)])
def test_the_published_lists_line_by_line(reference, tmp_path, protocol, n_max):
    lists = reference("datasets/ntu-lists")
    source = f"--names {lists / 'ntu120_available.txt'} --missing {lists / 'ntu120_missing.txt'} --protocol {protocol}"
    main(f"long-tail {source} --n-max {n_max} --imbalance 100 --out {tmp_path / 'list.txt'}".split())
    published = read_names(lists / f"brl/NTU120_{protocol}_exp_100.txt")
    assert read_names(tmp_path / "list.txt") == published


def test_a_subset_by_hand():
    names = [f"clip{i:02d}" for i in range(20)]
    labels = [i % 2 for i in range(20)]
    random = np.random.RandomState(0)
    even, odd = sorted(names[::2]), sorted(names[1::2])
    random.shuffle(even)
    random.shuffle(odd)
    backwards = long_tail(names[::-1], labels[::-1], [6, 2])
    assert long_tail(names, labels, [6, 2]) == even[:6] + odd[:2] == backwards
    assert len(long_tail(names, labels, [100, 10])) == 20  # a class gives what it has


def test_clips_without_a_label_belong_to_no_class(tmp_path):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a", "b"], "test") as writer:
        for i in range(12):
            writer.add(f"clip{i:02d}", (0, 1, -1)[i % 3], np.ones((2, 1, 20, 3)), "train")
    main(f"long-tail --store {tmp_path / 'x.h5'} --n-max 4 --imbalance 2 --name lt".split())
    store = Store(tmp_path / "x.h5")
    assert store.label[store.split("lt")].tolist() == [0] * 4 + [1] * 2


def test_protocols():
    assert ntu.is_train("S001C001P001R001A001", "xsub") and not ntu.is_train("S001C001P003R001A001", "xsub")
    assert ntu.is_train("S001C002P001R001A001", "xview") and not ntu.is_train("S001C001P001R001A001", "xview")
    assert ntu.is_train("S002C001P001R001A001", "xset") and not ntu.is_train("S001C001P001R001A001", "xset")
    with pytest.raises(ValueError, match="clip: not a clip name of NTU"):
        ntu.is_train("clip", "xsub")


@pytest.fixture
def store(tmp_path):
    with StoreWriter(tmp_path / "x.h5", "ucla", ["a", "b"], "test") as writer:
        for i in range(20):
            writer.add(f"clip{i:02d}", i % 2, np.ones((2, 1, 20, 3)), "train" if i < 18 else "test")
    return tmp_path / "x.h5"


def test_a_split_from_a_rule_and_from_a_list(store, tmp_path, capsys):
    main(["long-tail", "--store", str(store), "--name", "lt", "--n-max", "6", "--imbalance", "3"])
    assert "0 a: 6" in capsys.readouterr().out
    chosen = Store(store).split("lt")
    assert np.bincount(Store(store).label[chosen]).tolist() == [6, 2] and max(chosen) < 18
    (tmp_path / "list.txt").write_text("clip05\n\nclip02\n")
    main(["long-tail", "--store", str(store), "--name", "mine", "--list", str(tmp_path / "list.txt")])
    assert Store(store).split("mine").tolist() == [5, 2] and "lt" in Store(store).splits
    main(["long-tail", "--store", str(store), "--name", "lt", "--n-max", "12", "--imbalance", "3", "--overwrite"])
    assert "note: a has only 9 of 12 clips" in capsys.readouterr().out and len(Store(store).split("lt")) == 9 + 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--name", "lt", "--imbalance", "3"], "--n-max is missing"),
        (["--n-max", "6", "--imbalance", "3"], "--name is missing"),
        (["--name", "lt", "--n-max", "6", "--imbalance", "3", "--split", "val"], "no split 'val'"),
        (["--name", "lt", "--list", "LIST"], "list.txt: 1 names are not in split train of .*x.h5: clip99"),
        (["--name", "lt", "--list", "LIST", "--split", "test"], "2 names are not in split test .*: clip05, clip99"),
        (["--name", "lt", "--list", "LIST", "--n-max", "6"], "--n-max is not for --list"),
        (["--name", "lt", "--n-max", "6", "--imbalance", "3", "--protocol", "xsub"], "--protocol is not for --store"),
        (["--name", "lt", "--n-max", "6", "--imbalance", "nan"], "a long tail needs"),
        (["--name", "lt", "--names", "LIST"], "either --store or --names"),
        (["--name", "lt", "--n-max", "six"], "invalid int value"),
        (["--name", "lt", "--n-max", "6", "--imbalance", "3", "--shots", "100", "20"], "the smaller first"),
        (
            ["--name", "lt", "--n-max", "6", "--imbalance", "3", "--shots", "-5", "3"],
            "--shots takes two numbers from 0",
        ),
        (["--name", "test", "--n-max", "6", "--imbalance", "3"], "its split test is of the source"),
    ],
)
def test_bad_input_leaves_the_store_as_it_was(store, tmp_path, words, message):
    (tmp_path / "list.txt").write_text("clip05\nclip99\n")
    before = store.read_bytes()
    with pytest.raises(ValueError, match=message):
        main(["long-tail", "--store", str(store), *[str(tmp_path / "list.txt") if w == "LIST" else w for w in words]])
    assert store.read_bytes() == before and len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--split val", "--split is not for --names"),
        ("--shots 20 100", "--shots is not for --names"),
        ("--overwrite", "--overwrite is not for --names"),
        ("--out x.h5", "--out: x.h5: its name must end with .txt"),
        ("--missing missing", "missing: holds no clip names of NTU"),
    ],
)
def test_options_that_a_list_has_no_use_for(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "names").write_text("S001C001P001R001A001\n")
    (tmp_path / "missing").write_text("Samples\n")
    with pytest.raises(ValueError, match=message):
        main(f"long-tail --names names --protocol xsub --n-max 1 --imbalance 1 --out x.txt {words}".split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["missing", "names"]
