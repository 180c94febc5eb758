import json

import numpy as np
import pytest

from data import kinetics
from data.prepare import main
from feeders import Store, build_feeder


def person(rng, score=None):
    """A skeleton with a pose between 0 and 1; score: of every joint."""
    scores = rng.uniform(0.1, 1, 18) if score is None else np.full(18, score)
    return {"pose": rng.uniform(0, 1, 36).round(3).tolist(), "score": scores.round(3).tolist()}


def clip(frames, label=0):
    """frames: {frame_index: [skeletons]}"""
    data = [{"frame_index": index, "skeleton": skeletons} for index, skeletons in frames.items()]
    return {"data": data, "label": "x", "label_index": label}


def write(source, folder, clips, **entries):
    """Add clips {name: content or text} of label 0 to a folder and its label file; entries: what else it says."""
    (source / folder).mkdir(parents=True, exist_ok=True)
    for name, content in clips.items():
        text = content if isinstance(content, str) else json.dumps(content)
        (source / folder / f"{name}.json").write_text(text)
    path = source / f"{folder}_label.json"
    labels = json.loads(path.read_text()) if path.exists() else {}
    labels |= {name: {"has_skeleton": True, "label": "abseiling", "label_index": 0} for name in clips} | entries
    path.write_text(json.dumps(labels))


def prepare(source, *words):
    out = source.parent / "k.h5"
    main(["kinetics", "--source", str(source), "--out", str(out), "--workers", "1", *words])
    return Store(out)


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    directory = tmp_path / "kinetics-skeleton"
    write(directory, "kinetics_train", {"b": clip({1: [person(rng)]}), "a": clip({2: [person(rng)]})})
    write(directory, "kinetics_val", {"c": clip({1: [person(rng)]})})
    return directory


def test_splits_classes_and_lengths(source):
    store = prepare(source)
    assert store.name == ["a", "b", "c"] and store.length.tolist() == [2, 1, 1]
    assert store.splits["train"].tolist() == [0, 1] and store.splits["test"].tolist() == [2]
    assert store.layout.name == "openpose" and store.channels == "xys" and store.keypoint.shape[1:] == (2, 18, 3)
    assert len(store.classes) == 400 and store.classes[:2] == ["abseiling", "class 1"]
    assert not store.clip(0)[0].any() and store.clip(0)[1].any()


def test_the_feeder_gives_twice_the_numbers_of_st_gcn(tmp_path):
    rng = np.random.default_rng(1)
    people = [person(rng, score) for score in (0.2, 0.9, 0.5)]
    people[1]["score"][3] = 0
    source = tmp_path / "s"
    write(source, "kinetics_val", {"x": clip({3: people, 1: people[:1]})})
    prepare(source)
    feeder = build_feeder(tmp_path / "k.h5", transforms=[{"linspace_frames": {"length": 3}}])
    x = feeder.batch([0])[0][0].numpy()  # C, T, V, M

    expected = np.zeros((3, 3, 18, 2))  # as st-gcn's feeder describes it, but for the factor of 2
    for t, m, shown in ((2, 0, people[1]), (2, 1, people[2]), (0, 0, people[0])):
        expected[0, t, :, m], expected[1, t, :, m] = shown["pose"][0::2], shown["pose"][1::2]
        expected[2, t, :, m] = shown["score"]
    expected[:2] -= 0.5
    expected[:2, expected[2] == 0] = 0
    np.testing.assert_allclose(x, expected * np.array([2, 2, 1])[:, None, None, None], atol=1e-6)
    assert not x[:2, 2, 3, 0].any()


def test_persons_beyond_the_number_are_left_out(tmp_path):
    rng = np.random.default_rng(2)
    people = [person(rng, score) for score in (0.3, 0.4, 0.8, 0.4)]
    found, label = kinetics.read_clip(json.dumps(clip({1: people}, 7)).encode(), num_person=3)
    assert label == 7 and found.shape == (1, 3, 18, 3)
    np.testing.assert_allclose(found[0, :, 0, 2], [0.8, 0.4, 0.4])
    np.testing.assert_allclose(found[0, 1, :, 0], (np.array(people[1]["pose"][::2]) - 0.5) * 2, rtol=1e-5)


def test_a_frame_0_is_the_first_one():
    rng = np.random.default_rng(3)
    found, _ = kinetics.read_clip(json.dumps(clip({1: [person(rng)], 0: [person(rng)]})).encode())
    assert len(found) == 2 and found.any(axis=(1, 2, 3)).all()


def test_clips_without_a_skeleton_are_left_out_and_counted(source, capsys):
    none = {"has_skeleton": False, "label": "yoga", "label_index": 399}
    write(
        source,
        "kinetics_val",
        {"d": clip({1: [], 5: []}), "e": clip({})},
        f=none,
        g={"label": "zumba", "label_index": 398},
    )
    store = prepare(source)
    printed = capsys.readouterr().out
    assert store.name == ["a", "b", "c"] and "3 clips have no skeleton in any frame and were left out" in printed
    assert "note: 1 clips of kinetics_val_label.json have no file" in printed
    assert store.classes[398:] == ["zumba", "yoga"]


GOOD = person(np.random.default_rng(5))
BAD = {
    "huge frame": (clip({10**12: [GOOD]}), "a frame_index is 1000000000"),
    "negative frame": (clip({-1: [GOOD]}), "a frame_index is -1"),
    "list for frame": ({"data": [{"frame_index": [1], "skeleton": []}]}, "has no frame_index of type int"),
    "true for frame": ({"data": [{"frame_index": True, "skeleton": []}]}, "has no frame_index of type int"),
    "frame twice": ({"data": clip({1: [GOOD]})["data"] * 2}, "a frame_index is there twice"),
    "joints": (clip({1: [{"pose": [0.5] * 34, "score": [1] * 17}]}), "frame 1: 34 numbers of a pose and 17 scores"),
    "nan": (clip({4: [GOOD | {"score": [float("nan")] * 18}]}), "a number of frame 4 is not finite"),
    "infinity": ('{"data": [{"frame_index": 1, "skeleton": [{"pose": [' + "1e999," * 35 + '1], "score": '
                 + str([1] * 18) + "}]}]}", "a number of frame 1 is not finite"),
    "too large": (clip({1: [GOOD | {"pose": [1e300] * 36}]}), "not a finite number"),
    "whole number": (clip({1: [GOOD | {"pose": [10**400] * 36}]}), "a number that is too large"),
    "text": (clip({1: [GOOD | {"score": ["0.5"] * 18}]}), "something other than numbers"),
    "null": (clip({1: [GOOD | {"score": [None] * 18}]}), "something other than numbers"),
    "lists": (clip({1: [GOOD | {"score": [[1]] * 18}]}), "something other than numbers"),
    "mapping": (clip({1: [GOOD | {"score": [{}] * 18}]}), "something other than numbers"),
    "no score": (clip({1: [{"pose": [0.5] * 36}]}), "a person of frame 1 has no score of type list"),
    "no person": (clip({1: [None]}), "a person of frame 1 has no pose of type list"),
    "no data": ({"label_index": 0}, "the clip has no data of type list"),
    "a list": ([1, 2], "the clip has no data of type list"),
    "truncated": (json.dumps(clip({1: [GOOD]}))[:200], "not valid JSON"),
    "empty file": ("", "not valid JSON"),
    "nested": ("[" * 100_000, "not valid JSON"),
    "nested data": ('{"data": ' + "[" * 400 + "]" * 400 + "}", "has no frame_index of type int"),
    "label": (clip({1: [GOOD]}, 5), "its label_index is 5, but 0 in the label file"),
    "label list": (clip({1: [GOOD]}, [[0]]), "its label_index is a list, but 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_clip_stops_and_is_named(source, kind):
    content, message = BAD[kind]
    write(source, "kinetics_val", {"bad": content})
    with pytest.raises(ValueError, match=f"bad.json: .*{message}.*--skip-bad"):
        prepare(source)


def test_skip_bad_names_each_and_goes_on(source, capsys):
    write(source, "kinetics_val", {f"bad {kind}": BAD[kind][0] for kind in BAD})
    (source / "kinetics_val" / "bytes.json").write_bytes(b"\xff\xfe\x00{")
    (source / "kinetics_val" / "unlisted.json").write_text("{}")
    store = prepare(source, "--skip-bad", "--num-person", "1")
    printed = capsys.readouterr().out
    assert store.name == ["a", "b", "c"] and store.keypoint.shape[1] == 1
    assert printed.count("skipped ") == len(BAD) + 2 and f"{len(BAD) + 2} clips were left out" in printed
    assert "unlisted.json: kinetics_val_label.json has no entry for it" in printed


@pytest.mark.parametrize(
    "entry", [None, [], {}, {"label_index": 400}, {"label_index": True}, {"label_index": [1]}, {"label_index": "1"}]
)
def test_a_bad_entry_of_the_label_file(source, entry, capsys):
    write(source, "kinetics_val", {}, d=entry)
    with pytest.raises(ValueError, match="d.json: its entry in the label file has no label_index from 0 to 399"):
        prepare(source)
    assert prepare(source, "--skip-bad").name == ["a", "b", "c"]


def test_a_name_in_both_folders(source):
    write(source, "kinetics_val", {"a": clip({1: [GOOD]})})
    with pytest.raises(ValueError, match="a.json: there is a clip of this name in kinetics_train"):
        prepare(source)


def test_two_names_of_a_class(source):
    write(source, "kinetics_val", {}, d={"label": "yoga", "label_index": 0})
    with pytest.raises(ValueError, match="kinetics_val_label.json: class 0 is 'yoga' for d, 'abseiling' before"):
        prepare(source)


def test_a_conversion_goes_on_where_it_stopped(source, monkeypatch):
    write(source, "kinetics_val", {"c": "broken", "d": clip({1: [GOOD]})})
    with pytest.raises(ValueError, match="c.json: not valid JSON"):
        prepare(source)
    write(source, "kinetics_val", {"c": clip({1: [GOOD]}), "d": clip({1: [GOOD]})})
    load, seen = kinetics.load_clip, []
    monkeypatch.setattr(kinetics, "load_clip", lambda task: seen.append(task[0][-6:]) or load(task))
    assert prepare(source).name == ["a", "b", "c", "d"] and seen == ["c.json", "d.json"]
    assert not [path for path in source.parent.iterdir() if path.name.startswith(".")]


def test_several_processes_give_the_same(source):
    one = prepare(source).keypoint.copy()
    np.testing.assert_array_equal(one, prepare(source, "--workers", "2").keypoint)


def test_a_wrong_source(tmp_path):
    for directory, message in ((tmp_path / "absent", "not a directory"), (tmp_path, "none of the directories")):
        with pytest.raises((OSError, ValueError), match=message):
            prepare(directory)
    (tmp_path / "kinetics_val").mkdir()
    with pytest.raises(FileNotFoundError):
        prepare(tmp_path)
    (tmp_path / "kinetics_val_label.json").write_text("[]")
    with pytest.raises(ValueError, match="a mapping of clips to their labels was expected"):
        prepare(tmp_path)
    (tmp_path / "kinetics_val_label.json").write_text("{}")
    for option in ("--num-person", "--workers"):
        with pytest.raises(ValueError, match=f"{option} must be at least 1"):
            prepare(tmp_path, option, "0")
