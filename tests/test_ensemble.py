import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ensemble import PRESETS, STREAMS, main
from feeders import StoreWriter
from feeders.store import add_split

N, K = 30, 5


@pytest.fixture
def streams(tmp_path):
    """Run directories of all six streams, each with its samples in an order of its own."""
    rng = np.random.default_rng(0)
    names = [f"clip{i}" for i in range(N)]
    labels = {name: int(rng.integers(K)) for name in names}
    score = {stream: rng.normal(size=(N, K)).astype(np.float32) for stream in STREAMS}
    for stream in STREAMS:
        directory = tmp_path / stream
        directory.mkdir()
        for i, name in enumerate(names):
            score[stream][i, labels[name]] += 1
        order = rng.permutation(N)
        (directory / "test_score.pkl").write_bytes(pickle.dumps({names[i]: score[stream][i] for i in order}))
        (directory / "test_label.json").write_text(json.dumps({names[i]: labels[names[i]] for i in order}))
        facts = {"count": [50, 20, 10, 5, 2], "shots": [10, 30], "classes": list("abcde")}
        (directory / "test_metrics.json").write_text(json.dumps(facts))
    return tmp_path, score, np.array(list(labels.values()))


def fuse(directory, *names, out="fused", words=()):
    flags = [word for name in names for word in (f"--{name}-dir", str(directory / name))]
    main([*flags, "--out", str(directory / out), *words])
    return json.loads((directory / out / "ensemble_metrics.json").read_text())


def accuracy(score, label):
    return pytest.approx(100 * np.mean(score.argmax(axis=1) == label), abs=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_join_by_name(streams, preset):
    directory, score, label = streams
    metrics = fuse(directory, *PRESETS[preset], words=["--preset", preset])
    assert metrics["weights"] == PRESETS[preset]
    assert metrics["top1"] == accuracy(sum(w * score[s].astype(float) for s, w in PRESETS[preset].items()), label)
    for stream in PRESETS[preset]:
        assert metrics["streams"][stream]["top1"] == accuracy(score[stream], label)
    assert metrics["few"] is not None and metrics["count"] == [50, 20, 10, 5, 2]
    assert metrics["shots"] == [10, 30] and metrics["classes"] == list("abcde")
    fused = pickle.loads((directory / "fused" / "ensemble_score.pkl").read_bytes())
    assert len(fused) == N and (directory / "fused" / "confusion.png").exists()


def test_any_subset_and_own_weights(streams, capsys):
    directory, score, label = streams
    names = ("joint", "skip", "bone-motion")
    assert fuse(directory, *names)["weights"] == {"joint": 2, "skip": 2, "bone-motion": 1}
    metrics = fuse(directory, *names, words=["--alpha", "1", "0.5", "0.25"])
    expected = score["joint"] + 0.5 * score["skip"] + 0.25 * score["bone-motion"]
    assert metrics["top1"] == accuracy(expected, label)
    metrics = fuse(directory, "joint", "bone", words=["--alpha", "0.3"])  # as in CTR-GCN
    assert metrics["weights"] == {"joint": 1, "bone": 0.3}
    assert "joint         x 1" in capsys.readouterr().out


def test_probabilities_instead_of_logits(streams):
    directory, score, label = streams
    metrics = fuse(directory, "joint", "bone", words=["--softmax"])
    p = [np.exp(score[s]) / np.exp(score[s]).sum(axis=1, keepdims=True) for s in ("joint", "bone")]
    assert metrics["top1"] == accuracy(p[0] + p[1], label)


def test_probabilities_among_logits(streams):
    """PYSKL's and BRL's test files hold probabilities."""
    directory, score, label = streams
    expected = fuse(directory, "joint", "bone", words=["--softmax"])["top1"]
    p = np.exp(score["bone"]) / np.exp(score["bone"]).sum(axis=1, keepdims=True)
    rows = {f"clip{i}": row for i, row in enumerate(p)}
    (directory / "bone" / "test_score.pkl").write_bytes(pickle.dumps(rows))
    with pytest.raises(ValueError, match=r"bone/test_score.pkl: holds probabilities, .*--softmax"):
        fuse(directory, "joint", "bone")
    assert fuse(directory, "joint", "bone", words=["--softmax"])["top1"] == expected


def test_scores_of_other_code_bases(streams):
    """CTR-GCN: a dict by name or position in epoch1_test_score.pkl; PYSKL, BRL: a list. The labels give the order."""
    directory, score, label = streams
    expected = fuse(directory, "joint", "bone")["top1"]
    names = [f"clip{i}" for i in range(N)]
    order = np.random.default_rng(1).permutation(N)
    files = {
        "called": {f"test_{i}": score["bone"][i] for i in order},
        "named": dict(zip(names, score["bone"], strict=True)),
        "numbered": {np.int64(i): row for i, row in enumerate(score["bone"])},
        "listed": list(score["bone"]),
        "stacked": score["bone"][:, None],  # rows (1, K)
    }
    labels = directory / "labels.json"
    labels.write_text(json.dumps(dict(zip(names, label.tolist(), strict=True))))
    for kind, content in files.items():
        other = directory / kind
        other.mkdir()
        (other / "epoch1_test_score.pkl").write_bytes(pickle.dumps(content))
        main(f"--joint-dir {directory / 'joint'} --bone-dir {other} --label {labels} --out {other}".split())
        assert json.loads((other / "ensemble_metrics.json").read_text())["top1"] == expected
    # scores without any names, labels as CTR-GCN and others store them
    (directory / "l.json").write_text(json.dumps(label.tolist()))
    np.save(directory / "l.npy", label)
    np.save(directory / "column.npy", label[:, None])
    np.savez(directory / "l.npz", y_test=np.eye(K)[label])
    (directory / "l.pkl").write_bytes(pickle.dumps(label.tolist()))
    (directory / "names.pkl").write_bytes(pickle.dumps((names, label.tolist())))
    clips = [{"file_name": name, "length": 3, "label": int(c) + 1} for name, c in zip(names, label, strict=True)]
    (directory / "val_label.pkl").write_bytes(pickle.dumps(clips))
    alone = directory / "alone"
    for name, kind in itertools.product(
        ("l.json", "l.npy", "column.npy", "l.npz", "l.pkl", "names.pkl", "val_label.pkl"),
        ("listed", "called", "numbered"),
    ):
        main(f"--bone-dir {directory / kind} --label {directory / name} --out {alone}".split())
        assert json.loads((alone / "ensemble_metrics.json").read_text())["top1"] == accuracy(score["bone"], label)


def test_labels_of_a_store_and_of_annotations_name_the_samples(streams, tmp_path):
    directory, score, label = streams
    names = [f"clip{i}" for i in range(N)]
    with StoreWriter(tmp_path / "s.h5", "ucla", list("abcde"), source="test") as writer:
        for i in [*range(N - 1, -1, -1), N]:  # a split has an order of its own
            writer.add(f"clip{i}", int(label[i % N]), np.ones((1, 1, 20, 3)), "train" if i == N else None)
    add_split(tmp_path / "s.h5", "xsub/test", np.arange(N)[::-1].copy())
    clips = [{"frame_dir": name, "label": int(c)} for name, c in zip(names, label, strict=True)]
    content = {"split": {"val": set(names), "train": ["x"]}, "annotations": [{"frame_dir": "x", "label": 0}, *clips]}
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    (tmp_path / "listed.pkl").write_bytes(pickle.dumps(list(score["bone"])))
    expected = fuse(directory, "joint", "bone")["top1"]
    for labels in ("s.h5:xsub/test", "a.pkl:val"):
        words = ["--joint-dir", str(directory / "joint"), "--bone-dir", str(tmp_path / "listed.pkl")]
        main([*words, "--label", str(tmp_path / labels), "--out", str(tmp_path / "out")])
        assert json.loads((tmp_path / "out" / "ensemble_metrics.json").read_text())["top1"] == expected
    for labels, message in (
        ("s.h5:val", "s.h5: no split 'val'"),
        ("s.h5", "s.h5: of a store a split is needed: .*s.h5:SPLIT"),
        ("a.pkl:test", "a.pkl: not annotations with a split 'test'"),
        ("listed.pkl:val", "listed.pkl: not annotations"),
    ):
        with pytest.raises(ValueError, match=message):
            main([*words, "--label", str(tmp_path / labels)])


def test_scores_without_names_are_not_taken_in_the_order_of_another_stream(streams, tmp_path):
    directory, score, _ = streams
    other = tmp_path / "listed.pkl"
    other.write_bytes(pickle.dumps(list(score["bone"])))
    words = ["--joint-dir", str(directory / "joint"), "--bone-dir", str(other)]
    with pytest.raises(ValueError, match="listed.pkl: names no samples: --label has to say"):
        main(words)
    content = json.loads((directory / "joint" / "test_label.json").read_text())
    (directory / "joint" / "test_label.json").write_text(json.dumps(list(content.values())))  # nor do these labels
    (directory / "joint" / "test_score.pkl").write_bytes(pickle.dumps(list(score["joint"])))
    with pytest.raises(ValueError, match="listed.pkl: names no samples"):
        main(words)


def test_a_run_is_no_place_for_fused_results(streams):
    directory = streams[0]
    with pytest.raises(ValueError, match="joint holds a run: --out takes another directory"):
        main(f"--joint-dir {directory / 'joint'} --out {directory / 'joint'}".split())
    assert not (directory / "joint" / "ensemble_metrics.json").exists()
    begun = directory / "begun"  # not tested yet
    begun.mkdir()
    (begun / "config.yaml").touch()
    with pytest.raises(ValueError, match="begun holds a run"):
        main(f"--joint-dir {directory / 'joint'} --out {begun}".split())


def test_the_same_scores_are_not_two_streams(streams):
    joint = streams[0] / "joint"
    with pytest.raises(ValueError, match="--joint-dir and --bone-dir name the same scores, .*test_score.pkl"):
        main(f"--joint-dir {joint} --bone-dir {joint}/../joint/test_score.pkl".split())
    bone = streams[0] / "bone"
    with pytest.raises(ValueError, match="--joint-dir and --skip-dir name the same scores"):
        main(f"--joint-dir {joint} --bone-dir {bone} --skip-dir {joint} --bone-motion-dir {bone}".split())


def rewrite(path, change):
    content = pickle.loads(path.read_bytes()) if path.suffix == ".pkl" else json.loads(path.read_text())
    content = change(content)
    path.write_bytes(pickle.dumps(content)) if path.suffix == ".pkl" else path.write_text(json.dumps(content))


WRONG = {
    "missing sample": (
        lambda d: rewrite(d / "test_score.pkl", lambda c: {k: v for k, v in c.items() if k != "clip3"}),
        r"bone/test_score.pkl: lacks 1 samples \(clip3",
    ),
    "extra sample": (
        lambda d: rewrite(d / "test_score.pkl", lambda c: {**c, "other": c["clip3"]}),
        r"bone/test_score.pkl: has 1 more \(other",
    ),
    "other labels": (
        lambda d: rewrite(d / "test_label.json", lambda c: {**c, "clip3": (c["clip3"] + 1) % K}),
        "bone/test_label.json: other labels than in",
    ),
    "classes": (
        lambda d: rewrite(d / "test_score.pkl", lambda c: {k: v[:4] for k, v in c.items()}),
        "bone/test_score.pkl: 4 classes, but .*joint/test_score.pkl has 5",
    ),
    "ragged": (
        lambda d: rewrite(d / "test_score.pkl", lambda c: {**c, "clip3": c["clip3"][:2]}),
        "bone/test_score.pkl: samples have 2 to 5 scores",
    ),
    "nan": (
        lambda d: rewrite(d / "test_score.pkl", lambda c: {**c, "clip3": c["clip3"] * np.nan}),
        "bone/test_score.pkl: the scores of clip3 are not finite",
    ),
    "other training": (
        lambda d: rewrite(d / "test_metrics.json", lambda c: {**c, "count": [9] * K}),
        "bone/test_metrics.json: has other numbers of training clips than .*joint/test_metrics.json",
    ),
    "other shots": (
        lambda d: rewrite(d / "test_metrics.json", lambda c: {**c, "shots": [1, 2]}),
        "bone/test_metrics.json: has other shots than .*joint/test_metrics.json",
    ),
    "truncated": (
        lambda d: (d / "test_score.pkl").write_bytes((d / "test_score.pkl").read_bytes()[:-50]),
        "bone/test_score.pkl: not a readable pickle",
    ),
    "no scores": (lambda d: (d / "test_score.pkl").unlink(), "no test_score.pkl or epoch1_test_score.pkl in it"),
    "empty": (lambda d: rewrite(d / "test_score.pkl", lambda c: {}), "neither"),
    "one number": (lambda d: rewrite(d / "test_score.pkl", lambda c: np.array(3.0)), "bone/test_score.pkl: neither"),
}
ROWS = {
    "text": "high",
    "numbers in quotes": ["1", "2", "3", "4", "5"],
    "complex": np.ones(K) + 1j,
    "several rows": np.ones((10, K)),
    "ragged": [[1], [2, 3]],
    "number": 0.5,
}
for kind, row in ROWS.items():
    WRONG[kind + " as a row"] = (
        lambda d, row=row: rewrite(d / "test_score.pkl", lambda c: {**c, "clip3": row}),
        "bone/test_score.pkl: the scores of clip3 are not an array of K real numbers",
    )


@pytest.mark.parametrize("kind", WRONG)
def test_what_does_not_belong_together_is_named(streams, kind):
    directory, _, _ = streams
    break_it, message = WRONG[kind]
    break_it(directory / "bone")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        fuse(directory, "joint", "bone")
    assert not (directory / "fused").exists()


def test_label_errors(streams):
    directory, _, label = streams
    scores = directory / "listed.pkl"
    scores.write_bytes(pickle.dumps([np.zeros(K)] * N))
    with pytest.raises(ValueError, match="listed.pkl: no test_label.json beside it; give the labels with --label"):
        main(["--joint-dir", str(scores)])
    for content, message in (
        (label.tolist()[:-1], "listed.pkl: has 1 more|30 samples by position, but .* has 29"),
        (3, "not whole numbers"),
        ([0.5] * N, "not whole numbers"),
        ([9] * N, "labels 9 to 9, but the scores have 5 classes"),
        (["x"] * N, "not whole numbers"),
        ({"c0": float("inf")}, "l.json: not whole numbers"),
        ([], "holds no labels"),
    ):
        (directory / "l.json").write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            main(["--joint-dir", str(scores), "--label", str(directory / "l.json")])
    for damaged in (b"no archive", b"PK\x03\x04 no archive"):
        (directory / "l.npz").write_bytes(damaged)
        with pytest.raises(ValueError, match="l.npz"):
            main(["--joint-dir", str(scores), "--label", str(directory / "l.npz")])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"file_name": "a", "label": 1}, 5], "not whole numbers"),
        ([{"file_name": "a", "label": "x"}], "not whole numbers"),
        ([{"file_name": "a", "label": 1}, {"file_name": "a", "label": 2}], "two of a"),
        ([{"file_name": "a"}], "'label'"),
        ((["a", "b", "c"], [0, 1]), "argument 2 is shorter"),
        ((["a", "b"], [0, 1, 2]), "argument 2 is longer"),
        ((["a", "a"], [0, 1]), "two of a"),
        ((["a", "b"], 5), "not whole numbers"),
    ],
)
def test_pickled_labels_that_are_not_sound(streams, content, message):
    path = streams[0] / "l.pkl"
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"^{path}: .*{message}"):
        main(["--joint-dir", str(streams[0] / "joint"), "--label", str(path)])


def test_labels_of_no_columns(streams):
    np.save(streams[0] / "l.npy", np.zeros((6, 0)))
    with pytest.raises(ValueError, match="l.npy: not whole numbers"):
        main(["--joint-dir", str(streams[0] / "joint"), "--label", str(streams[0] / "l.npy")])


@pytest.mark.parametrize(("suffix", "other"), [(".npz", ".npy"), (".npy", ".npz")])
def test_labels_with_the_suffix_of_another_form(streams, suffix, other):
    path = streams[0] / f"l{suffix}"
    label = streams[2]
    np.save(path, label) if suffix == ".npy" else np.savez(path, y_test=label)
    path = path.rename(path.with_suffix(other))
    with pytest.raises(ValueError, match=f"l{other}: not a file of labels .*its content is not that of a {other} file"):
        main(["--joint-dir", str(streams[0] / "joint"), "--label", str(path)])


@pytest.mark.parametrize(
    ("names", "words", "message"),
    [
        ((), [], "give at least one stream"),
        (
            ("joint", "bone"),
            ["--preset", "four"],
            "--preset four takes exactly --joint-dir --bone-dir --joint-motion-dir",
        ),
        (("joint", "bone"), ["--preset", "two", "--alpha", "1"], "exclude each other"),
        (("joint", "bone", "skip"), ["--alpha", "1", "2"], "2 weights for 3 streams"),
        (("joint",), ["--alpha", "x"], "invalid float value"),
        (("joint", "bone"), ["--alpha", "1", "nan"], "finite weights that are not all 0"),
        (("joint", "bone"), ["--alpha", "0", "0"], "finite weights that are not all 0"),
        (("joint",), ["--jiont-dir", "x"], "unrecognized arguments"),
    ],
)
def test_wrong_command_lines(streams, names, words, message):
    with pytest.raises(ValueError, match=message):
        fuse(streams[0], *names, words=words)


def test_one_line_and_exit_status_2(tmp_path):
    done = subprocess.run([sys.executable, "ensemble.py", "--joint-dir", str(tmp_path)], cwd=Path(__file__).parents[1],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
