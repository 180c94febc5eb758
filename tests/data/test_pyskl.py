import pickle
import weakref
from pathlib import Path

import numpy as np
import pytest

from data import ntu, pyskl
from data.prepare import main
from feeders import Store, build_feeder

HEIGHT, WIDTH = 100, 200


def names(count):
    """Clip names of NTU RGB+D, of actions 1, 2, …"""
    return [f"S{i + 1:03d}C002P003R001A{i + 1:03d}" for i in range(count)]


def altered(annotation, **changes):
    """The annotation with other values; keys whose new value is None are left out."""
    return {key: value for key, value in {**annotation, **changes}.items() if value is not None}


def clip_2d(name="clip", label=0, persons=1, frames=4, joints=17, seed=0, **changes):
    """An annotation in 2D, pixels and scores in float16 as in the releases; changes: keys to set, None to leave out."""
    rng = np.random.default_rng(seed)
    pixels = rng.uniform(1, [WIDTH, HEIGHT], (persons, frames, joints, 2))
    annotation = {
        "frame_dir": name,
        "label": label,
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "total_frames": frames,
        "keypoint": pixels.astype(np.float16),
        "keypoint_score": rng.uniform(0.2, 1, (persons, frames, joints)).astype(np.float16),
    }
    return altered(annotation, **changes)


def clip_3d(name="clip", label=0, persons=1, frames=4, joints=25, seed=0, **changes):
    keypoint = np.random.default_rng(seed).normal(size=(persons, frames, joints, 3)).astype(np.float32)
    annotation = {"frame_dir": name, "label": label, "total_frames": frames, "keypoint": keypoint}
    return altered(annotation, **changes)


def write(path, annotations, split=None):
    content = annotations if split is None else {"split": split, "annotations": annotations}
    path.write_bytes(pickle.dumps(content))
    return path


@pytest.fixture
def prepare(tmp_path):
    """prepare(annotations, *words, split=…, name=…) -> the Store. It goes through the command line."""

    def call(annotations, *words, split=None, name="x.pkl"):
        write(tmp_path / name, annotations, split)
        out = tmp_path / "out" / "x.h5"
        main(["pyskl", "--source", str(tmp_path / name), "--out", str(out), *map(str, words)])
        return Store(out)

    return call


# ---- what goes in comes out


def test_3d(prepare):
    first, second = names(2)
    a, b = clip_3d(first, 0, persons=2), clip_3d(second, 1, frames=7, keypoint=None)
    b["keypoint"] = np.random.default_rng(1).normal(size=(1, 7, 25, 3)).astype(np.float16)
    split = {"xsub_train": [first], "xsub_val": [second], "xview_train": [first, second], "xset_val": [second]}
    store = prepare([a, b], split=split)
    assert store.layout.name == "ntu" and store.channels == "xyz" and store.source == "PYSKL x.pkl"
    assert store.name == [first, second] and store.label.tolist() == [0, 1] and store.length.tolist() == [4, 7]
    centre = a["keypoint"][0, 0, 1]  # the spine's middle, as in stores of raw skeletons
    np.testing.assert_array_equal(store.clip(0), a["keypoint"].transpose(1, 0, 2, 3) - centre)
    b = b["keypoint"][0].astype(np.float32)
    np.testing.assert_array_equal(store.clip(1)[:, 0], b - b[0, 1])
    assert not store.clip(1)[:, 1].any()
    splits = {key: index.tolist() for key, index in store.splits.items()}
    assert splits == {"xsub/train": [0], "xsub/test": [1], "xview/train": [0, 1], "xset/test": [1]}
    assert store.classes == list(ntu.CLASSES[:60])
    meta = {key: values.tolist() for key, values in store.meta.items()}
    assert meta == {"setup": [1, 2], "camera": [2, 2], "performer": [3, 3], "replication": [1, 1]}


def test_2d_by_hand(prepare):
    """PYSKL's PreNormalize2D, threshold 0.01."""
    pixels = np.zeros((1, 3, 17, 2), np.float16)
    score = np.zeros((1, 3, 17), np.float16)
    pixels[0, 0, :4] = [(0, 0), (WIDTH, HEIGHT), (WIDTH / 2, HEIGHT / 2), (50, 75)]
    score[0, 0, :4] = 0.9, 0.8, 0.7, 0.0101
    pixels[0, 0, 4] = 150, 25
    score[0, 0, 4] = 0.0099  # too low: no place, but the score stays
    pixels[0, 1] = 30, 40  # all scores 0: absent
    score[0, 2] = 0.5  # all coordinates 0: absent
    store = prepare([clip_2d(frames=3, keypoint=pixels, keypoint_score=score)], split={"val": ["clip"]})
    assert store.layout.name == "coco" and store.channels == "xys" and store.keypoint.shape == (3, 1, 17, 3)
    clip = store.clip(0)[:, 0]
    low = np.float32(np.float16(0.0099))
    expected = [(-1, -1, 0.9), (1, 1, 0.8), (0, 0, 0.7), (-0.5, 0.5, 0.0101), (0, 0, low)]
    np.testing.assert_allclose(clip[0, :5], expected, rtol=1e-3)
    assert clip[0, 4, 2] == low and (clip[0, 5:, :2] == 0).all() and (clip[0, 5:, 2] == 0).all()
    assert not clip[1:].any()
    assert store.splits["test"].tolist() == [0] and store.classes == ["class 0"]
    assert store.meta["height"].tolist() == [HEIGHT] and store.meta["width"].tolist() == [WIDTH]


def test_2d_is_computed_in_float32(prepare):
    annotation = clip_2d(persons=2)
    clip = prepare([annotation]).clip(0)
    x, score = annotation["keypoint"].astype(np.float64), annotation["keypoint_score"].astype(np.float64)
    expected = np.stack([x[..., 0] / 100 - 1, x[..., 1] / 50 - 1, score], axis=-1).transpose(1, 0, 2, 3)
    np.testing.assert_allclose(clip, expected, atol=2e-7)


def test_2d_without_scores_and_with_scores_inside(prepare):
    annotation = clip_2d()
    x, score = annotation["keypoint"], annotation["keypoint_score"]
    bare = prepare([clip_2d(keypoint_score=None)])
    assert bare.channels == "xy" and bare.keypoint.shape[3] == 2
    inside = prepare([clip_2d(keypoint=np.concatenate([x, score[..., None]], axis=3), keypoint_score=None)])
    assert inside.channels == "xys"
    np.testing.assert_array_equal(inside.clip(0), prepare([annotation]).clip(0))
    np.testing.assert_array_equal(inside.clip(0)[..., :2], bare.clip(0))


@pytest.mark.parametrize(
    ("joints", "layout", "make"),
    [(25, "ntu", clip_3d), (20, "ucla", clip_3d), (17, "coco", clip_2d), (18, "openpose", clip_2d)],
)
def test_layouts(prepare, joints, layout, make):
    assert prepare([make(joints=joints)]).layout.name == layout


def test_a_layout_by_name(prepare):
    assert prepare([clip_2d(joints=25)], "--layout", "ntu").channels == "xys"
    with pytest.raises(ValueError, match="x.pkl: its clips have 25 joints of 2 coordinates: no layout is known"):
        prepare([clip_2d(joints=25)])
    with pytest.raises(ValueError, match="x.pkl: its clips have 17 joints of 2 coordinates; layout ntu has 25"):
        prepare([clip_2d()], "--layout", "ntu")


def test_most_clips_say_what_the_form_is(prepare):
    clips = [clip_2d("odd", joints=18), clip_2d("bare", keypoint_score=None), clip_2d("a"), clip_2d("b")]
    with pytest.raises(ValueError, match="x.pkl: odd: 18 joints; layout coco has 17"):
        prepare(clips)
    with pytest.raises(ValueError, match="x.pkl: bare: its channels are xy, but those of the store xys"):
        prepare(clips[1:])
    assert prepare(clips, "--skip-bad").name == ["a", "b"]


# ---- splits and names


def test_bare_lists(prepare, tmp_path):
    assert set(prepare([clip_2d()], name="val.pkl").splits) == {"test"}
    assert set(prepare([clip_2d()], name="xsub_train.pkl").splits) == {"xsub/train"}
    assert set(prepare([clip_2d()], name="gym.pkl").splits) == {"gym"}
    assert set(prepare([clip_2d()], "--split", "mine/test").splits) == {"mine/test"}
    with pytest.raises(ValueError, match="my file.pkl: 'my file' is no name for a split.*--split"):
        prepare([clip_2d()], name="my file.pkl")
    with pytest.raises(ValueError, match="x.pkl: has a split of its own; --split"):
        prepare([clip_2d()], "--split", "test", split={"train": ["clip"]})


def test_one_file_a_split(prepare, tmp_path):
    write(tmp_path / "train.pkl", [clip_2d("a"), clip_2d("b", 1)])
    store = prepare([clip_2d("c", 1)], "--source", tmp_path / "train.pkl", tmp_path / "val.pkl", name="val.pkl")
    assert store.name == ["a", "b", "c"] and store.source == "PYSKL train.pkl, val.pkl"
    assert store.splits["train"].tolist() == [0, 1] and store.splits["test"].tolist() == [2]


def test_filename_and_a_file_without_the_key_split(prepare, tmp_path):
    annotation = clip_2d(frame_dir=None, filename="videos/a.mp4")
    path = tmp_path / "train.pkl"
    path.write_bytes(pickle.dumps({"annotations": [annotation]}))
    main(["pyskl", "--source", str(path), "--out", str(tmp_path / "x.h5")])
    assert Store(tmp_path / "x.h5").name == ["videos/a.mp4"] and set(Store(tmp_path / "x.h5").splits) == {"train"}


def test_names_of_splits():
    assert pyskl.rename(["train1", "test1", "train2", "test2"]) == {
        "train1": "split1/train",
        "test1": "split1/test",
        "train2": "split2/train",
        "test2": "split2/test",
    }
    assert list(pyskl.rename(["xview_train", "xset_val", "csv1_val"]).values()) == [
        "xview/train",
        "xset/test",
        "csv1/test",
    ]
    assert list(pyskl.rename(["train", "val"]).values()) == ["train", "test"]
    for names in (["train", "val", "test"], ["few", "train_small", "xsub_all", "test10"]):
        assert list(pyskl.rename(names).values()) == names


def test_ucf_splits_and_what_is_missing(prepare, capsys):
    clips = [clip_2d(name, label) for label, name in enumerate("abcd")]
    split = {"train1": ["a", "b", "lost"], "test1": ["c", "gone"], "train2": ["c", "b"], "test2": ["a"], "test3": ["x"]}
    store = prepare(clips, split=split)
    assert {key: index.tolist() for key, index in store.splits.items()} == {
        "split1/train": [0, 1],
        "split1/test": [2],
        "split2/train": [1, 2],
        "split2/test": [0],
    }
    printed = capsys.readouterr().out
    assert "no annotation: split1/train 1, split1/test 1, split3/test 1 (lost, …)\n" in printed
    assert "\n1 clips are in no split\n" in printed and "left out" not in printed and "persons of" not in printed
    assert "4 clips, 4 classes" in printed


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"a b": ["clip"]}, "'a b' is no name for a split"),
        ({"../x": ["clip"]}, "is no name for a split"),
        ({"few": ["clip"], "few/train": ["clip"]}, "a split few/train cannot be beside the split few"),
        ({"train": "clip"}, "split must be a dict of lists of clip names"),
        ({"train": [1, 2]}, "split must be a dict of lists of clip names"),
        ({1: ["clip"]}, "split must be a dict of lists of clip names"),
        (["clip"], "split must be a dict of lists of clip names"),
    ],
)
def test_bad_splits(prepare, split, message):
    with pytest.raises(ValueError, match=f"x.pkl: .*{message}"):
        prepare([clip_2d()], split=split)


def test_classes(prepare, tmp_path):
    clips = [clip_2d("a", 2), clip_2d("b", 0)]
    assert prepare(clips).classes == ["class 0", "class 1", "class 2"]
    (tmp_path / "few.txt").write_text("jump\nrun fast\n")
    (tmp_path / "all.txt").write_text("jump\nrun fast\nsit\nstand\n")
    with pytest.raises(ValueError, match="few.txt: 2 names, but .*x.pkl: a has label 2; labels count from 0"):
        prepare(clips, "--classes", tmp_path / "few.txt", "--skip-bad")
    assert prepare(clips, "--classes", tmp_path / "all.txt").classes == ["jump", "run fast", "sit", "stand"]


def test_classes_of_ntu(prepare):
    a, b = names(61)[0], names(61)[60]
    assert len(prepare([clip_3d(a, 0), clip_3d(b, 60)]).classes) == 120
    other_labels = prepare([clip_3d(a, 1), clip_3d(b, 0)])  # actions numbered anew: the names would be wrong
    assert other_labels.classes == ["class 0", "class 1"] and other_labels.meta["setup"].tolist() == [1, 61]
    mixed = prepare([clip_3d(a, 0), clip_3d("b", 1)])
    assert mixed.classes == ["class 0", "class 1"] and not mixed.meta


# ---- persons


def test_persons_of_a_2d_clip_by_score(prepare, capsys):
    annotation = clip_2d(persons=4)
    annotation["keypoint_score"][:] = np.float16([0.3, 0.9, 0.1, 0.6])[:, None, None]
    annotation["keypoint_score"][2, 0] = 1.0
    x = annotation["keypoint"].astype(np.float32)
    store = prepare([annotation, clip_2d("pair", persons=2)])
    assert store.keypoint.shape[1] == 2
    np.testing.assert_allclose(store.clip(0)[:, 0, :, 0], x[1, ..., 0] / 100 - 1, atol=1e-6)
    np.testing.assert_allclose(store.clip(0)[:, 1, :, 0], x[3, ..., 0] / 100 - 1, atol=1e-6)
    assert "\n1 clips have more persons than the 2 of the store\n" in capsys.readouterr().out
    order = [1, 3, 2, 0]  # sums over the joints of four frames: 3.6, 2.4, 1.3, 1.2
    clip = prepare([annotation], "--num-person", 3).clip(0)
    np.testing.assert_allclose(clip[..., 1], x[order[:3], ..., 1].transpose(1, 0, 2) / 50 - 1, atol=1e-6)


def test_persons_that_are_few_enough_keep_their_order(prepare):
    annotation = clip_2d(persons=3)
    annotation["keypoint_score"][:] = np.float16([0.3, 0.9, 0.6])[:, None, None]
    clip = prepare([annotation], "--num-person", 4).clip(0)
    np.testing.assert_array_equal(clip[:, :3, :, 2], annotation["keypoint_score"].transpose(1, 0, 2))
    assert clip.shape[1] == 4 and not clip[:, 3].any()


def test_persons_of_a_3d_clip_by_motion(prepare):
    keypoint = np.zeros((4, 6, 25, 3), np.float32)
    keypoint[0] = np.random.default_rng(0).normal(size=(25, 3))  # variance about 1, and no motion over time
    keypoint[1] = keypoint[0] * 1.1
    keypoint[2, 3:] = keypoint[0, 3:] * 1.05  # the frames without it do not count
    clip = prepare([clip_3d(frames=6, keypoint=keypoint)]).clip(0)
    seen = keypoint.any(axis=(2, 3), keepdims=True)
    centred = np.where(seen, keypoint - keypoint[1, 0, 1], 0)
    np.testing.assert_array_equal(clip, centred[[1, 2]].transpose(1, 0, 2, 3))
    one = prepare([clip_3d(frames=6, keypoint=keypoint[::-1])], "--num-person", 1).clip(0)
    np.testing.assert_array_equal(one[:, 0], centred[1])


def test_persons_of_a_2d_clip_without_scores(prepare):
    annotation = clip_2d(persons=3, keypoint_score=None)
    annotation["keypoint"][0] = 0
    annotation["keypoint"][1] = 50  # all joints in one place
    clip = prepare([annotation], "--num-person", 2).clip(0)
    np.testing.assert_allclose(
        clip[:, 0, :, 0], annotation["keypoint"][2, ..., 0].astype(np.float32) / 100 - 1, atol=1e-6
    )
    assert (clip[:, 1] == [-0.5, 0]).all()


def test_the_number_of_persons(prepare):
    assert prepare([clip_2d("a"), clip_2d("b")]).keypoint.shape[1] == 1
    assert prepare([clip_2d("a"), clip_2d("b", persons=5)]).keypoint.shape[1] == 2
    with pytest.raises(ValueError, match="--num-person must be at least 1, not 0"):
        prepare([clip_2d()], "--num-person", 0)


def test_what_is_written_leaves_the_memory(prepare, monkeypatch):
    seen, alive, read_clip = [], [], pyskl.read_clip

    def spy(annotation, *arguments):
        alive.append(sum(reference() is not None for reference in seen))
        seen.append(weakref.ref(annotation["keypoint"]))
        return read_clip(annotation, *arguments)

    monkeypatch.setattr(pyskl, "read_clip", spy)
    prepare([clip_2d(f"clip {i}", seed=i) for i in range(4)])
    assert alive == [0, 0, 0, 0]


# ---- kpfiles


def compressed(name, raw_file, frames, box, label=0, **changes):
    annotation = {
        "frame_dir": name,
        "label": label,
        "img_shape": (HEIGHT, WIDTH),
        "original_shape": (HEIGHT, WIDTH),
        "total_frames": 300,
        "raw_file": raw_file,
        "frame_inds": np.array(frames, np.int16),
        "box_score": np.array(box, np.float16),
        "valid": {0.5: 2, 0.9: 1},
    }
    return altered(annotation, **changes)


def skeleton_list(count, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(1, 100, (count, 17, 2)), rng.uniform(0.2, 1, (count, 17, 1))], 2).astype("f2")


@pytest.fixture
def kpfiles(tmp_path):
    """A directory of two kpfiles: clips a and c in one, b in the other."""
    root = tmp_path / "kpfiles"
    (root / "part").mkdir(parents=True)
    one = {"a": {"keypoint": skeleton_list(6, 1)}, "c": {"keypoint": skeleton_list(1, 3)}}
    (root / "one.pkl").write_bytes(pickle.dumps(one))
    (root / "part" / "two.pkl").write_bytes(pickle.dumps({"b": {"keypoint": skeleton_list(2, 2)}}))
    return root


def test_kpfiles(prepare, kpfiles, monkeypatch):
    read, load = [], pyskl.load_pickle
    monkeypatch.setattr(pyskl, "load_pickle", lambda path: read.append(Path(path).name) or load(path))
    clips = [
        #                                 best last      too low             frame 40
        compressed("a", "data/k400/kpfiles/one.pkl", [7, 7, 7, 9, 40, 40], [0.6, 0.9, 0.7, 0.4, 0.5, 0.5]),
        compressed("b", "data/part/two.pkl", [0, 1], [0.9, 0.9], label=1),
        compressed("c", "data/k400/kpfiles/one.pkl", [300], [0.9]),
    ]
    store = prepare(clips, "--kpfiles", kpfiles, split={"train": ["a", "b"], "val": ["c"]})
    assert read == ["x.pkl", "one.pkl", "two.pkl"]  # each once, for the three clips
    assert store.name == ["a", "c", "b"] and store.length.tolist() == [2, 1, 2]
    assert store.splits["train"].tolist() == [0, 2] and store.splits["test"].tolist() == [1]
    assert store.channels == "xys" and store.layout.name == "coco" and store.keypoint.shape[1] == 2
    source = skeleton_list(6, 1).astype(np.float32)
    expected = np.stack([source[[1, 2]], source[[4, 5]]])  # (T, M, V, 3): by box score; equal ones in their order
    expected[..., 0], expected[..., 1] = expected[..., 0] / 100 - 1, expected[..., 1] / 50 - 1
    np.testing.assert_allclose(store.clip(0), expected, atol=1e-6)
    assert store.clip(2)[:, 0].any() and not store.clip(2)[:, 1].any()


@pytest.mark.parametrize("words", [("--kpfiles", "."), ("--box-threshold", 0.3), ("--img-shape", 10, 10)])
def test_options_that_no_clip_needs(prepare, words):
    with pytest.raises(ValueError, match=f"x.pkl: no clip needs {words[0]}"):
        prepare([clip_2d()], *words)


def test_the_box_threshold(prepare, kpfiles):
    clips = [compressed("a", "one.pkl", [0, 0, 1, 1, 2, 2], [0.6, 0.9, 0.7, 0.4, 0.8, 0.5])]
    lengths = {0.5: 3, 0.7: 3, 0.8: 2, 0.9: 1}  # 0.8 and 0.9 are a little less in float16: they count as reached
    for threshold, length in lengths.items():
        assert prepare(clips, "--kpfiles", kpfiles, "--box-threshold", threshold).length.tolist() == [length]
    assert prepare(clips, "--kpfiles", kpfiles, "--box-threshold", 0.7).keypoint.shape[1] == 1
    with pytest.raises(ValueError, match="x.pkl: a: no person in any frame with a box score of at least 0.95"):
        prepare(clips, "--kpfiles", kpfiles, "--box-threshold", 0.95)


def test_skeleton_lists_inside_the_annotations(prepare):
    """As PYSKL's custom_2d_skeleton.py --compress writes them: without box scores."""
    skeletons = skeleton_list(3)
    clip = prepare([compressed("a", None, [2, 2, 5], [], box_score=None, keypoint=skeletons)]).clip(0)
    np.testing.assert_array_equal(clip[0, :, :, 2], skeletons[:2, :, 2])
    np.testing.assert_array_equal(clip[1, 0, :, 2], skeletons[2, :, 2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"raw_file": "../outside.pkl"}, r"raw_file ../outside.pkl leads out of .*kpfiles"),
        ({"raw_file": "part/../../outside.pkl"}, "leads out of"),
        ({"raw_file": "/etc/passwd"}, "raw_file /etc/passwd leads out of"),
        ({"raw_file": "link.pkl"}, "leads out of"),
        ({"raw_file": "absent.pkl"}, "there is no kpfile absent.pkl in"),
        ({"raw_file": ""}, "there is no kpfile"),
        ({"raw_file": "one\0.pkl"}, "null"),
        ({"raw_file": 5}, "raw_file must be a path, not int"),
        ({"raw_file": "damaged.pkl"}, "damaged.pkl: not a readable pickle"),
        ({"raw_file": "list.pkl"}, "list.pkl has no keypoint of it"),
        ({"raw_file": "part/two.pkl"}, "two.pkl has no keypoint of it"),
        ({"frame_inds": None}, "the key frame_inds is missing"),
        ({"frame_inds": np.arange(5)}, "6 skeletons in keypoint, 5 in frame_inds, 6 in box_score"),
        ({"frame_inds": np.arange(6) - 1}, "frame_inds are not the numbers of 300 frames"),
        ({"frame_inds": np.arange(6) * 1000}, "frame_inds are not the numbers of 300 frames"),
        ({"frame_inds": np.arange(6.0)}, "frame_inds are not the numbers of 300 frames"),
        ({"box_score": np.full(6, np.nan)}, "a box score is not a finite number"),
        ({"box_score": [0.9] * 6}, r"box_score must be an array of numbers \(n\), not list"),
        ({"box_score": np.zeros(6)}, "no person in any frame with a box score"),
        ({"total_frames": "many"}, "total_frames must be a whole number, not 'many'"),
        ({"img_shape": None}, "the key img_shape is missing"),
    ],
)
def test_bad_clips_of_kpfiles(prepare, kpfiles, changes, message, capsys):
    outside = pickle.dumps({"a": {"keypoint": skeleton_list(6)}})
    (kpfiles.parent / "outside.pkl").write_bytes(outside)
    (kpfiles / "link.pkl").symlink_to(kpfiles.parent / "outside.pkl")
    (kpfiles / "damaged.pkl").write_bytes(outside[:-20])
    (kpfiles / "list.pkl").write_bytes(pickle.dumps([1, 2]))
    bad = altered(compressed("a", "one.pkl", range(6), [0.9] * 6), **changes)
    with pytest.raises(ValueError, match=f"(?s)x.pkl: a: .*{message}"):
        prepare([bad, compressed("b", "part/two.pkl", [0, 1], [0.9, 0.9])], "--kpfiles", kpfiles)
    capsys.readouterr()
    store = prepare([bad, compressed("b", "part/two.pkl", [0, 1], [0.9, 0.9])], "--kpfiles", kpfiles, "--skip-bad")
    assert store.name == ["b"] and "x.pkl: a: " in capsys.readouterr().out


def test_kpfiles_that_are_not_given(prepare, tmp_path):
    clips = [compressed("a", "one.pkl", [0], [0.9])]
    with pytest.raises(ValueError, match="x.pkl: its keypoints are in kpfiles: --kpfiles names their directory"):
        prepare(clips)
    with pytest.raises(NotADirectoryError):
        prepare(clips, "--kpfiles", tmp_path / "absent")


# ---- bad input


def changed(key, index, value):
    """clip_2d's array of this key with a value changed."""
    array = clip_2d("bad")[key]
    array[index] = value
    return {key: array}


BAD = {
    "nan": (changed("keypoint", (0, 2, 3, 1), np.nan), "a number of frame 2 is not finite"),
    "inf score": (changed("keypoint_score", (0, 1, 0), np.inf), "a number of frame 1 is not finite"),
    "huge": ({"keypoint": clip_2d()["keypoint"].astype("f8") * 1e300}, "a number of frame 0 is not finite"),
    "score shape": ({"keypoint_score": np.ones((1, 3, 17))}, r"keypoint_score of shape \(1, 3, 17\) does not go with"),
    "score in 3D": ({"keypoint": np.ones((1, 4, 17, 3))}, r"keypoint_score of shape \(1, 4, 17\) does not go with"),
    "axes": ({"keypoint": np.ones((4, 17, 2))}, r"keypoint must be an array of numbers \(M, T, V, C\), not float64 of"),
    "coordinates": ({"keypoint": np.ones((1, 4, 17, 4))}, "4 coordinates instead of 2 or 3"),
    "total_frames": ({"total_frames": 5}, "total_frames is 5, but keypoint has 4 frames"),
    "no number": ({"total_frames": 4.0}, "total_frames must be a whole number, not 4.0"),
    "no frames": ({"keypoint": np.ones((1, 0, 17, 2)), "keypoint_score": np.ones((1, 0, 17))}, "no frames"),
    "no persons": ({"keypoint": np.ones((0, 4, 17, 2)), "keypoint_score": np.ones((0, 4, 17))}, "no person in any"),
    "nobody": ({"keypoint": np.zeros((1, 4, 17, 2))}, "no person in any frame"),
    "invisible": ({"keypoint_score": np.full((1, 4, 17), 0.005)}, "no person in any frame"),
    "no label": ({"label": None}, "the key label is missing"),
    "negative": ({"label": -1}, "label -1; labels are 0 to 65536"),
    "large": ({"label": 10**500}, "label 10000"),
    "label list": ({"label": [1, 2]}, r"label must be a whole number, not \[1, 2\]"),
    "label float": ({"label": 1.0}, "label must be a whole number"),
    "no img_shape": ({"img_shape": None}, "the key img_shape is missing.*--img-shape"),
    "img_shape": ({"img_shape": (100, 200, 3)}, r"img_shape must be \(height, width\), not \(100, 200, 3\)"),
    "img_shape 0": ({"img_shape": (0, 200)}, r"img_shape must be \(height, width\)"),
    "img_shape word": ({"img_shape": "100x200"}, r"img_shape must be \(height, width\)"),
    "no keypoint": ({"keypoint": None}, "the key keypoint is missing"),
    "words": ({"keypoint": np.full((1, 4, 17, 2), "x")}, "keypoint must be an array of numbers"),
    "objects": ({"keypoint": np.full((1, 4, 17, 2), None)}, "keypoint must be an array of numbers"),
    "list": ({"keypoint": [[[[1.0, 2.0]]]]}, "keypoint must be an array of numbers .*, not list"),
    "twice": ({"frame_dir": "good"}, "there are two of this name"),
    "no name": ({"frame_dir": None}, "frame_dir must be a name, not None"),
    "number": ({"frame_dir": 5}, "frame_dir must be a name, not 5"),
    "control": ({"frame_dir": "a\nb"}, r"frame_dir must be a name, not 'a\\nb'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_clip_stops_and_is_named(prepare, tmp_path, kind):
    changes, message = BAD[kind]
    bad = altered(clip_2d("bad", 1, seed=1), **changes)
    name = {"twice": "good"}.get(kind, "bad" if bad.get("frame_dir") == "bad" else "annotation 1")
    with pytest.raises(ValueError, match=f"x.pkl: {name}: .*{message}.*--skip-bad"):
        prepare([clip_2d("good"), bad])
    assert not list((tmp_path / "out").iterdir())


def test_skip_bad_names_each_and_goes_on(prepare, capsys):
    clips = [clip_2d("good"), *(altered(clip_2d("bad"), **changes) for changes, _ in BAD.values()), clip_2d("last")]
    split = {"train": ["good", "bad"], "val": ["last"]}
    store = prepare(clips, "--skip-bad", split=split)
    assert store.name == ["good", "last"] and store.splits["train"].tolist() == [0] and len(store.classes) == 1
    printed = capsys.readouterr().out
    assert f"\n{len(BAD)} clips were left out\n" in printed and printed.count("skipped ") == len(BAD)
    assert "annotation" not in printed.replace("x.pkl: annotation", "")  # no name of a split is without one


def test_nothing_but_bad_clips(prepare, tmp_path):
    with pytest.raises(ValueError, match="x.pkl: clip: no frames"):
        prepare([clip_2d(keypoint=np.ones((1, 0, 17, 2)))], "--skip-bad")
    with pytest.raises(ValueError, match="x.h5: there are no clips to write"):
        prepare([clip_2d(label=-1)], "--skip-bad")
    assert not list((tmp_path / "out").iterdir())


def test_a_picture_for_clips_altered(prepare):
    """UAV-Human, as files of this form have it."""
    clip = clip_2d(img_shape=None, original_shape=None)
    store = prepare([clip, clip_2d("b")], "--img-shape", 2 * HEIGHT, WIDTH, split={"csv1_train": ["clip"]})
    np.testing.assert_allclose(store.clip(0)[:, 0, :, 1], clip["keypoint"][0, ..., 1].astype("f4") / 100 - 1, atol=1e-6)
    assert store.meta["height"].tolist() == [200, 100] and "csv1/train" in store.splits
    with pytest.raises(ValueError, match=r"img_shape must be \(height, width\), not \[0, 1\]"):
        prepare([clip], "--img-shape", 0, 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"clip": {"keypoint": np.ones((3, 17, 3))}},
            "not a file of PYSKL annotations: the key annotations is missing",
        ),
        ({"annotations": {"a": 1}}, "not a file of PYSKL annotations: annotations must be a list of dicts"),
        ([np.ones(60)], ".*annotations must be a list of dicts"),
        (np.ones(3), ".*annotations must be a list of dicts"),
        ({"annotations": [], "split": {}}, "annotations is empty"),
    ],
)
def test_another_file(tmp_path, content, message):
    (tmp_path / "x.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"x.pkl: {message}"):
        pyskl.read_files([tmp_path / "x.pkl"])


class Harmful:
    def __reduce__(self):
        return print, ("code from a pickle ran",)


def test_pickles_are_data_not_code(prepare, kpfiles, capsys):
    with pytest.raises(ValueError, match=r"x.pkl: not a readable pickle of arrays .*builtins.print"):
        prepare([clip_2d(comment=Harmful())])
    (kpfiles / "one.pkl").write_bytes(pickle.dumps({"a": {"keypoint": Harmful()}}))
    with pytest.raises(ValueError, match=r"x.pkl: a: .*one.pkl: not a readable pickle of arrays .*builtins.print"):
        prepare([compressed("a", "one.pkl", [0], [0.9])], "--kpfiles", kpfiles)
    assert "ran" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError):
        main(["pyskl", "--source", "absent.pkl", "--out", "x.h5"])


# ---- on to the model


def test_the_streams_of_a_2d_store(prepare):
    """Coordinates are differences, scores are means (PYSKL, GenSkeFeat)."""
    frames = 5
    store = prepare(
        [clip_2d(name, persons=2, frames=frames, seed=i) for i, name in enumerate("ab")], split={"val": ["b"]}
    )
    joint = store.clip(1).transpose(3, 0, 2, 1)  # C, T, V, M

    def stream(modality):
        feeder = build_feeder(store, "test", modality, [{"linspace_frames": {"length": frames}}])
        assert feeder.shape == (3, frames, 17, 2)
        return feeder.batch([0])[0][0].numpy()

    def minus(a, b):
        return np.concatenate([a[:2] - b[:2], (a[2:] + b[2:]) / 2])

    parent = np.arange(17)
    for v, p in store.layout.bones:
        parent[v] = p
    motion = np.zeros_like(joint)
    motion[:, :-1] = minus(joint[:, 1:], joint[:, :-1])
    np.testing.assert_array_equal(stream("joint"), joint)
    np.testing.assert_allclose(stream("bone"), minus(joint, joint[:, :, parent]), atol=1e-6)
    grandparent = np.where(parent[parent] == 0, np.arange(17), parent[parent])  # 0 is the root
    grandparent[[3, 4, 7, 8, 11, 12]] = 0
    np.testing.assert_allclose(stream("skip"), minus(joint, joint[:, :, grandparent]), atol=1e-6)
    np.testing.assert_allclose(stream("joint-motion"), motion, atol=1e-6)
    elbow_wrist = stream("bone")[:, :, 9]  # the left wrist and its parent, the left elbow
    np.testing.assert_allclose(elbow_wrist[0], joint[0, :, 9] - joint[0, :, 7], atol=1e-6)
    np.testing.assert_allclose(elbow_wrist[2], (joint[2, :, 9] + joint[2, :, 7]) / 2, atol=1e-6)
