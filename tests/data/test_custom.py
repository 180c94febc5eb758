import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml

from data import custom
from data.custom_example import EXAMPLE, EXAMPLE_CLIPS, JOINTS, write_clip
from data.prepare import main
from feeders import Store, build_feeder
from graph import LAYOUTS, build_graph, read_layout
from main import main as train
from torchlight.config import read_yaml

ROOT = Path(__file__).parents[2]
STICK = {
    "name": "stick",
    "joints": ["pelvis", "head", "l hand", "r hand", "l foot", "r foot"],
    "edges": [["head", "pelvis"], ["l hand", "head"], [3, 1], [0, 4], [5, 0]],
    "root": "pelvis",
    "pairs": [["l hand", "r hand"], [4, 5]],
    "parts": {"trunk": [0, 1], "left_arm": [2], "right_arm": [3], "left_leg": [4], "right_leg": [5]},
}
ABOUT = {"layout": STICK, "classes": ["sit", "stand"], "num_person": 2, "clips": "clips", "manifest": "list.csv"}


def values(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


class Source:
    """A description, its manifest and its clips in a directory."""

    def __init__(self, directory):
        self.directory, self.about = directory, dict(ABOUT)
        self.rows, self.header = [], "file,label,split"
        (directory / "clips").mkdir()

    def add(self, file, content, label="sit", split="train", *more):
        """A row of the manifest, and the clip: an array, or the bytes of the file. None: no file."""
        path = self.directory / "clips" / file
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif content is not None:
            path.parent.mkdir(exist_ok=True)
            write_clip(path, content)
        self.rows.append(",".join(map(str, (file, label, split, *more))))

    def prepare(self, *words):
        source, out = self.directory / "my.yaml", self.directory / "out" / "my.h5"
        source.write_text(yaml.safe_dump(self.about))
        (self.directory / "list.csv").write_text("\n".join([self.header, *self.rows, ""]), encoding="utf-8")
        main(["custom", "--source", str(source), "--out", str(out), *words])
        return Store(out)


@pytest.fixture
def source(tmp_path):
    return Source(tmp_path)


@pytest.mark.parametrize("kind", [".npy", ".npz", ".json", ".csv", ".NPY"])
def test_the_feeder_gives_the_numbers_that_went_in(source, kind):
    two, one = values((4, 2, 6, 3)), values((3, 1, 6, 3), 1)
    source.add("a" + kind.lower(), two, "stand", "test")
    source.add("b" + kind.lower(), one, "0", "test")
    store = source.prepare()
    assert store.name == ["a", "b"] and store.label.tolist() == [1, 0] and store.classes == ["sit", "stand"]
    assert build_graph(store.layout).bones == build_graph(read_layout(STICK)).bones and store.channels == "xyz"
    feeder = build_feeder(source.directory / "out" / "my.h5", transforms=[{"linspace_frames": {"length": 4}}])
    x, y = feeder.batch([0, 1])
    np.testing.assert_array_equal(x[0].permute(1, 3, 2, 0), two)  # C, T, V, M -> T, M, V, C
    np.testing.assert_array_equal(store.clip(1)[:, :1], one)
    assert not store.clip(1)[:, 1].any() and y.tolist() == [1, 0]


@pytest.mark.parametrize("heading", ["a,b,c", "0,1,2"])
def test_headings_of_a_csv_file_are_no_frame(tmp_path, heading):
    (tmp_path / "a.csv").write_text(f"{heading}\n0.5,1,2\n3,4,5\n")
    np.testing.assert_array_equal(custom.read_csv(tmp_path / "a.csv"), [[0.5, 1, 2], [3, 4, 5]])


def test_files_without_persons_or_a_key(source):
    clip = values((5, 6, 3))
    np.save(source.directory / "clips" / "a.npy", np.asfortranarray(clip))
    np.savez(source.directory / "clips" / "b.npz", anything=clip)
    (source.directory / "clips" / "c.json").write_text(json.dumps(clip.tolist()))
    (source.directory / "clips" / "d.csv").write_text("\n".join(",".join(map(str, frame.flat)) for frame in clip))
    source.about["num_person"] = 1
    for file in ("a.npy", "b.npz", "c.json", "d.csv"):
        source.add(file, None)
    store = source.prepare()
    for i in range(4):
        np.testing.assert_allclose(store.clip(i)[:, 0], clip, rtol=1e-6)


def test_splits_names_and_numbers(source):
    source.header = " split, label,file,camera ,subject"
    source.rows = ["train,sit,x/a.b.npy,1,-7", "", "xsub/train xset/test,stand,x\\c.npy,2,8"]
    (source.directory / "clips" / "x").mkdir()
    for name in ("a.b", "c"):
        np.save(source.directory / "clips" / "x" / f"{name}.npy", values((2, 6, 3)))
    store = source.prepare()
    assert store.name == ["x/a.b", "x/c"] and store.meta["camera"].tolist() == [1, 2]
    assert store.meta["subject"].tolist() == [-7, 8]
    assert {key: index.tolist() for key, index in store.splits.items()} == {
        "train": [0],
        "xsub/train": [1],
        "xset/test": [1],
    }


def test_pixels(source):
    clip = np.zeros((2, 2, 6, 3), np.float32)
    clip[:, 0, :, 0], clip[:, 0, :, 1], clip[:, 0, :, 2] = [0, 160, 320, 480, 640, 0], [0, 120, 240, 360, 480, 0], 0.5
    clip[1, 0, 5] = 0  # not found by the estimator
    source.about |= {"channels": "xys", "image": [640, 480]}
    source.add("a.npy", clip)
    store = source.prepare()
    found = store.clip(0)
    assert store.meta["width"].tolist() == [640] and store.meta["height"].tolist() == [
        480
    ]  # heat maps are of this form
    np.testing.assert_allclose(found[0, 0, :, :2], np.array([-1, -0.5, 0, 0.5, 1, -1])[:, None].repeat(2, 1))
    assert (found[0, 0, :, 2] == 0.5).all() and not found[:, 1].any() and not found[1, 0, 5].any()
    source.header, source.rows = "file,label,split,height", ["a.npy,sit,train,480"]
    with pytest.raises(ValueError, match="list.csv: column height: the size of the pictures is given"):
        source.prepare()
    source.about["channels"], source.header = "xy", "file,label,split"
    source.rows.clear()
    source.add("a.npy", clip[..., :2])
    found = source.prepare().clip(0)
    assert not found[0, 0, 0].any() and (found[0, 0, 1] == -0.5).all() and not found[:, 1].any()


@pytest.mark.parametrize("channels", ["xy", "xys"])
def test_pixels_without_their_picture(source, channels):
    source.about["channels"] = channels
    source.add("a.npy", np.full((2, 6, len(channels)), 300.0))
    with pytest.raises(ValueError, match=r"a.npy: x or y goes up to 300, .* the YAML needs image: \[width, height\]"):
        source.prepare()
    source.about["image"] = [30, 30]
    with pytest.raises(ValueError, match="is that its size"):
        source.prepare()


def test_a_layout_by_name_or_in_a_file(source):
    source.about["layout"] = "ucla"
    source.add("a.npy", values((2, 20, 3)))
    assert source.prepare().layout is LAYOUTS["ucla"]
    (source.directory / "stick.yaml").write_text(yaml.safe_dump(STICK))
    source.about["layout"] = "stick.yaml"
    source.rows.clear()
    source.add("a.npy", values((2, 6, 3)))
    assert source.prepare().layout == read_layout(STICK)
    (source.directory / "stick.yaml").write_text(yaml.safe_dump(STICK | {"root": "nose"}))
    with pytest.raises(ValueError, match=r"stick.yaml: layout: root: there is no joint 'nose'"):
        source.prepare()


def zipped(name, data):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return file.getvalue()


def npy(array=None, **header):
    """The bytes of a .npy file; header: instead of the array's own."""
    file = io.BytesIO()
    if header:
        np.lib.format.write_array_header_1_0(file, header)
    else:
        np.save(file, array)
    return file.getvalue()


BAD = {
    "joints.npy": (values((2, 5, 3)), r"shape \(2, 5, 3\) instead of \(T, 6, 3\) or \(T, M, 6, 3\): joints, then xyz"),
    "channels.npy": (values((2, 6, 2)), r"shape \(2, 6, 2\)"),
    "flat.npy": (values((2, 18)), r"shape \(2, 18\)"),
    "persons.npy": (values((2, 3, 6, 3)), "3 persons, but num_person is 2"),
    "none.npy": (values((0, 6, 3)), "no frames|not a readable"),
    "nan.npy": (np.full((2, 6, 3), np.nan), "a coordinate of frame 0 is not a finite number"),
    "large.npy": (np.full((2, 6, 3), 1e300), "a coordinate of frame 0 is not a finite number"),
    "complex.npy": (values((2, 6, 3)).astype(complex), "something other than numbers"),
    "words.npy": (np.full((2, 6, 3), "a"), "something other than numbers"),
    "pickle.npy": (npy(np.full((2, 6, 3), None)), "not a readable .npy file"),
    "short.npy": (npy(values((2, 6, 3)))[:200], "not a readable .npy file"),
    "hostile.npy": (npy(descr="<f4", fortran_order=False, shape=(10**9, 6, 3)), "not a readable .npy file"),
    "empty.npy": (b"", "not a readable .npy file"),
    "text.npy": (b"hello", "not a readable .npy file"),
    "hostile.npz": (zipped("a.npy", npy(descr="<f4", fortran_order=False, shape=(10**12, 6, 3))), "not a readable"),
    "bomb.npz": (zipped("a.npy", bytes(2 << 20)), "too large when unpacked"),
    "many.npz": (zipped("a.txt", b"x"), "not a readable|something other"),
    "broken.npz": (zipped("a.npy", npy(values((2, 6, 3))))[:-40], "not a readable .npz file"),
    "ragged.json": (b"[[[1, 2, 3], [1, 2]]]", "not a readable .json file"),
    "nested.json": (b"[" * 100_000, "not a readable .json file"),
    "key.json": (b'{"keypoints": []}', "it has no key keypoint"),
    "null.json": (b"[[[null, 1, 2]]]", "something other than numbers"),
    "huge.json": (json.dumps(np.full((1, 6, 3), 10**400, dtype=object).tolist()).encode(), "something other than"),
    "none.json": (b"[]", "no frames"),
    "mapping.json": (b'[[{"x": 1}]]', "something other than numbers"),
    "short.csv": (b"1,2,3\n", "3 numbers in a line; a person has 6 joints x 3 = 18"),
    "ragged.csv": (b",".join([b"1"] * 18) + b"\n1,2\n", "line 2: 2 numbers; there were 18 before"),
    "word.csv": (b",".join([b"1"] * 17) + b",x\n", "line 1: 'x' is no number"),
    "headings.csv": (b"a,b\nc,d\n1,2\n", "line 2: 'c' is no number"),
    "empty.csv": (b"a,b\n,\n1,2\n", "line 2: '' is no number"),
    "semicolons.csv": (b"1;2\n3;4\n", "numbers are separated by commas"),
    "heading.csv": (b"a,b\n", "no frames"),
    "binary.csv": (bytes(range(256)), "not a readable .csv file"),
    "infinite.csv": (b",".join([b"inf"] * 18), "a coordinate of frame 0 is not a finite number"),
    "absent.npy": (None, "there is no such file"),
    "readme.txt": (b"", ".npy, .npz, .json, .csv are read, not .txt"),
}  # fmt: skip


@pytest.mark.parametrize("file", BAD)
def test_a_bad_clip_stops_and_is_named(source, file, monkeypatch):
    monkeypatch.setattr(custom, "LARGEST", 1 << 20)
    content, message = BAD[file]
    if isinstance(content, np.ndarray):
        np.save(source.directory / "clips" / file, content)
        content = None
    source.add("good.npy", values((2, 6, 3)))
    source.add(file, content)
    with pytest.raises(ValueError, match=rf"list.csv, line 3, {file}: .*({message}).*--skip-bad"):
        source.prepare()
    assert not list((source.directory / "out").iterdir())


ROWS = {
    "/etc/passwd.npy,sit,train": "file: '/etc/passwd.npy' is no path below the directory of the clips",
    "../a.npy,sit,train": "is no path below",
    "x/../../a.npy,sit,train": "is no path below",
    "..\\a.npy,sit,train": "is no path below",
    "C:\\a.npy,sit,train": "is no path below",
    "\\\\host\\x\\a.npy,sit,train": "is no path below",
    ",sit,train": "is no path below",
    ".,sit,train": "is no path below",
    "a,sit,train": "not a file without a suffix",
    "a.npy,sitt,train": r"label: 'sitt' is neither a class \(nearest: sit\) nor a number from 0 to 1",
    "a.npy,2,train": "label: '2' is neither a class nor a number from 0 to 1",
    "a.npy,-1,train": "label: '-1' is neither",
    "a.npy,²,train": "label: '²' is neither",
    "a.npy,sit,": "split: is empty",
    "a.npy,,xsub/train": "label: is empty; a training clip has one",
    "a.npy,sit,/train": "'/train' is no name for a split",
    "a.npy,sit,x x/y": "a split x cannot be beside the split x/y",
    "a.npy,sit,train/x": "a split train/x cannot be beside the split train",
    "good.json,sit,train": "there are two of this name",
}


@pytest.mark.parametrize("row", ROWS)
def test_a_bad_row_stops_and_is_named(source, row):
    source.add("good.npy", values((2, 6, 3)))
    source.add("a.npy", values((2, 6, 3)), split="test")
    source.add("good.json", values((2, 1, 6, 3)), split="test")
    source.rows[1:] = [row]
    with pytest.raises(ValueError, match=f"list.csv, line 3, .*{ROWS[row]}"):
        source.prepare()


def test_numbers_that_are_names_of_classes(source):
    """0 is not the first class where the first class is called 1: 1 would be the first, too."""
    source.about["classes"] = ["1", "2"]
    source.add("a.npy", values((2, 6, 3)), label="2")
    assert source.prepare().label.tolist() == [1]
    source.add("b.npy", values((2, 6, 3)), label="0")
    with pytest.raises(ValueError, match="list.csv, line 3, b.npy: label: '0' is no class, and not taken for a number"):
        source.prepare()
    source.about["classes"] = ["0", "1"]
    source.rows[:] = [row.replace(",2,", ",1,") for row in source.rows]
    assert source.prepare().label.tolist() == [1, 0]


def test_poses_that_may_be_in_pictures_say_so(source):
    source.about["layout"] = "coco"
    source.add("a.npy", values((2, 17, 3)))
    with pytest.raises(ValueError, match="my.yaml: the key channels is missing: coco poses may be xy, xys or xyz"):
        source.prepare()


def test_coordinates_out_of_all_reach(source):
    clip = values((2, 6, 3))
    clip[1, 2, 0] = -1e15
    source.add("a.npy", clip)
    with pytest.raises(ValueError, match=r"list.csv, line 2, a.npy: a coordinate of 1e\+15: xyz are metres"):
        source.prepare()


def test_a_column_of_other_than_numbers(source):
    source.header += ",subject"
    source.add("a.npy", values((2, 6, 3)), "sit", "train", "Ann")
    with pytest.raises(ValueError, match="list.csv, line 2, a.npy: subject: 'Ann' is no whole number"):
        source.prepare()


def test_skip_bad_names_each_and_goes_on(source, capsys):
    source.add("good.npy", values((2, 6, 3)))
    source.rows += ROWS
    for file, (content, _) in BAD.items():
        if not isinstance(content, np.ndarray):
            source.add(file, content)
    assert source.prepare("--skip-bad").name == ["good"]
    printed = capsys.readouterr().out
    assert printed.count("skipped ") == len(source.rows) - 1
    assert f"{len(source.rows) - 1} clips were left out" in printed


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clas": ["a"]}, r"my.yaml: unknown key clas \(nearest: classes\)"),
        ({"classes": []}, "my.yaml: the key classes is missing"),
        ({"classes": ["a", True]}, "classes: True is no name .put it in quotes"),
        ({"classes": ["a", "a"]}, "classes: two have the same name"),
        ({"layout": None}, "the key layout is missing"),
        ({"layout": "ntuu"}, r"layout: 'ntuu' is neither a file nor one of .* \(nearest: ntu\)"),
        ({"layout": STICK | {"root": 9}}, "my.yaml: layout: root: there is no joint 9"),
        ({"layout": [1]}, "my.yaml: a layout is a mapping"),
        ({"channels": "yx"}, "my.yaml: channels must be one of xyz, xy, xys"),
        ({"num_person": 0}, "my.yaml: num_person must be at least 1"),
        ({"image": [640]}, r"image takes \[width, height\] in whole pixels, not \[640\]"),
        ({"image": [640, 0], "channels": "xy"}, "image takes"),
        ({"image": [640.5, 480], "channels": "xy"}, "image takes"),
        ({"image": ["a", [1]], "channels": "xy"}, "image takes"),
        ({"image": [640, 480]}, "image is for the channels xy and xys, not xyz"),
        ({"clips": "nowhere"}, "not a directory"),
        ({"manifest": "nowhere.csv"}, "No such file"),
    ],
)
def test_a_wrong_description(source, change, message):
    source.about |= change
    source.add("a.npy", values((2, 6, 3)))
    with pytest.raises((ValueError, OSError), match=message):
        source.prepare()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\na.npy,sit\n", "line 1: there is no column split"),
        ("file,labels,split\n", r"line 1: there is no column label \(nearest: labels\)"),
        ("file,label,split,split\n", "two columns have the same name"),
        ("file,label,split,my/camera\n", "'my/camera' is no name for a column"),
        ("file,label,split,name\n", "'name' is no name for a column: .*not self, name, keypoint"),
        ("file,label,split\na.npy,sit\n", "line 2: 2 cells; there are 3 columns"),
        ("file,label,split\n", "lists no clips"),
        ("", "there is no column file"),
        ('file,label,split\n"a.npy,sit,train\n', "list.csv: unexpected end of data"),
        ("file,label,split\n\xff", "not UTF-8 text"),
    ],
)
def test_a_wrong_manifest(tmp_path, text, message):
    (tmp_path / "list.csv").write_bytes(text.encode("latin1"))
    with pytest.raises(ValueError, match=message):
        custom.read_manifest(tmp_path / "list.csv")


def test_a_source_or_an_example_is_needed(tmp_path):
    with pytest.raises(ValueError, match="one of the arguments --source --example is required"):
        main(["custom"])
    with pytest.raises(ValueError, match="not allowed with"):
        main(["custom", "--source", "a.yaml", "--example", str(tmp_path)])
    with pytest.raises(ValueError, match="--out and --skip-bad are for --source"):
        main(["custom", "--example", str(tmp_path / "x"), "--out", str(tmp_path / "x.h5")])
    with pytest.raises(ValueError, match="--out is missing: the store to write"):
        main(["custom", "--source", "a.yaml"])
    assert not (tmp_path / "x").exists()


# ---- the example


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """The example, prepared by its own YAML: a directory like that of the repository."""
    root = tmp_path_factory.mktemp("example")
    shutil.copytree(ROOT / "config/custom", root / "config/custom")
    main(["custom", "--example", str(root / "data/raw/custom")])
    main(["custom", "--source", str(root / "config/custom/data.yaml"), "--out", str(root / "data/custom.h5")])
    return root


def test_the_example_is_what_its_description_says(example):
    store = Store(example / "data/custom.h5")
    about = read_yaml(ROOT / "config/custom/data.yaml")
    assert tuple(about["layout"]["joints"]) == JOINTS and about["classes"] == list(EXAMPLE)
    assert store.layout == read_layout(about["layout"]) and store.keypoint.shape[1:] == (2, 15, 3)
    for split, counts in EXAMPLE_CLIPS.items():
        assert np.bincount(store.label[store.splits[split]]).tolist() == list(counts)
    kinds = {path.suffix for path in (example / "data/raw/custom").rglob("*.*")}
    assert kinds == {".npy", ".npz", ".json", ".csv"} and len(set(store.length)) > 10
    assert main(["check", str(example / "data/custom.h5"), "--plot", str(example / "clips.png")]) == 0


def test_the_example_is_made_again(example, tmp_path):
    main(["custom", "--example", str(tmp_path)])
    for path in (path for path in tmp_path.rglob("*") if path.is_file() and path.suffix != ".npz"):
        assert path.read_bytes() == (example / "data/raw/custom" / path.relative_to(tmp_path)).read_bytes()


def test_example_bones_keep_their_length_and_hands_their_side(example):
    store = Store(example / "data/custom.h5")
    for joint, parent in store.layout.bones:
        for clip in map(store.clip, range(0, len(store.name), 7)):
            length = np.linalg.norm(clip[:, :, joint] - clip[:, :, parent], axis=-1)
            assert (length > 0.02).all() and np.ptp(length, axis=0).max() < 0.2
    clip = store.clip(0)
    assert (clip[:, 0, 0, 0] < clip[:, 1, 0, 0]).all() and (clip[..., 2, 1] > clip[..., 0, 1] + 0.5).all()


def test_the_example_trains(example):
    work = example / "run"
    train([
        "--config", str(example / "config/custom/brl.yaml"), "--data-path", str(example / "data/custom.h5"),
        "--work-dir", str(work), "--modality", "skip", "--device", "cpu", "--num-epoch", "1",
        "--warm-up-epoch", "0", "--defer-epoch", "0", "--train-feeder-args", "repeat=1", "--batch-size", "32",
    ])  # fmt: skip
    metrics = json.loads((work / "test_metrics.json").read_text())
    assert metrics["count"] == list(EXAMPLE_CLIPS["train"]) and metrics["classes"] == list(EXAMPLE)
