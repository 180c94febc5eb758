import json

import numpy as np
import pytest

from data import nw_ucla
from data.prepare import main
from feeders import Store


def write_clip(directory, name, skeletons):
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.json").write_text(json.dumps({"file_name": name, "skeletons": skeletons}))


def frames(length, joints=20, value=0.5):
    return np.full((length, joints, 3), value).tolist()


@pytest.fixture
def source(tmp_path):
    directory = tmp_path / "all_sqe"
    write_clip(directory, "a01_s01_e00_v01", frames(3))
    write_clip(directory, "a12_s02_e00_v03", frames(1))
    return directory


def prepare(source, *words):
    out = source.parent / "x.h5"
    main(["nw-ucla", "--source", str(source), "--out", str(out), *words])
    return Store(out)


def test_labels_splits_and_facts(source):
    write_clip(source, "a08_s10_e03_v02", frames(5))
    store = prepare(source)
    assert store.name == ["a01_s01_e00_v01", "a08_s10_e03_v02", "a12_s02_e00_v03"]
    assert store.label.tolist() == [0, 6, 9] and store.length.tolist() == [3, 5, 1]
    assert store.splits["train"].tolist() == [0, 1] and store.splits["test"].tolist() == [2]
    assert store.meta["subject"].tolist() == [1, 10, 2] and store.meta["camera"].tolist() == [1, 2, 3]
    assert store.classes[6] == "donning" and len(store.classes) == 10 and store.keypoint.shape[1:] == (1, 20, 3)


BAD = {
    "nan": (frames(2)[:1] + [[[float("nan"), 0, 0]] * 20], "a coordinate of frame 1 is not a finite number"),
    "joints": (frames(2, joints=19), r"shape \(2, 19, 3\) instead of \(T, 20, 3\)"),
    "empty": ([], "no frames"),
    "ragged": ([[[0, 0, 0]] * 20, [[0, 0, 0]] * 3], "not a readable clip"),
    "words": ("hello", "not a readable clip"),
    "longer": ([[[10**400, 0, 0]] * 20], "not a readable clip"),
    "huge": ([[[1e300, 0, 0]] * 20], "not a finite number"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.filterwarnings("ignore:overflow")
def test_a_bad_clip_stops_and_is_named(source, kind):
    content, message = BAD[kind]
    write_clip(source, "a02_s01_e00_v01", content)
    with pytest.raises(ValueError, match=f"a02_s01_e00_v01.json: .*{message}.*--skip-bad"):
        prepare(source)
    assert [path.name for path in source.parent.iterdir()] == ["all_sqe"]


def test_skip_bad_names_each_and_goes_on(source, capsys):
    for i, (content, _) in enumerate(BAD.values()):
        write_clip(source, f"a02_s01_e{i:02d}_v01", content)
    (source / "notes.json").write_text("{}")
    (source / "a03_s01_e00_v01.json").write_text('{"skeletons": [[')
    assert prepare(source, "--skip-bad").name == ["a01_s01_e00_v01", "a12_s02_e00_v03"]
    printed = capsys.readouterr().out
    assert "9 clips were left out" in printed and printed.count("skipped ") == 9 and "notes.json: the name" in printed


def test_nothing_but_bad_clips(tmp_path):
    write_clip(tmp_path / "all_sqe", "a01_s01_e00_v01", [])
    with pytest.raises(ValueError, match="x.h5: there are no clips to write"):
        prepare(tmp_path / "all_sqe", "--skip-bad")
    assert [path.name for path in tmp_path.iterdir()] == ["all_sqe"]


def test_a_wrong_source(tmp_path):
    with pytest.raises(NotADirectoryError):
        prepare(tmp_path / "absent")
    with pytest.raises(ValueError, match="no JSON files"):
        prepare(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_names():
    assert nw_ucla.parse_name("a11_s03_e04_v02") == {"label": 8, "subject": 3, "take": 4, "camera": 2}
    for name in ("a07_s01_e00_v01", "a1_s01_e00_v01", "a01_s01_e00_v04", "x"):
        with pytest.raises(ValueError, match="the name is not of the form"):
            nw_ucla.parse_name(name)


def test_the_complete_data_set(reference, tmp_path, capsys):
    source = reference("datasets/nw-ucla/all_sqe")
    out = tmp_path / "x.h5"
    main(["nw-ucla", "--source", str(source), "--out", str(out)])
    main(["long-tail", "--store", str(out), "--name", "lt", "--n-max", "100", "--imbalance", "10"])
    store = Store(out)
    assert len(store.splits["train"]) == 1020 and len(store.splits["test"]) == 464
    assert np.bincount(store.label[store.splits["lt"]]).tolist() == [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
    assert not set(store.splits["lt"]) & set(store.splits["test"])
    assert main(["check", str(out)]) == 0
    assert "note: 95 clips of training and test have the same frames: a02_s01_e00_v02" in capsys.readouterr().out
    clip = json.loads((source / "a05_s04_e02_v03.json").read_text())["skeletons"]
    np.testing.assert_allclose(store.clip(store.name.index("a05_s04_e02_v03"))[:, 0], clip, rtol=1e-6)
