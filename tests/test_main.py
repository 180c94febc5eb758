import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import main as program
from data import prepare
from feeders import Store, build_feeder
from feeders.mixing import Target
from feeders.store import StoreWriter, add_split
from graph import build_graph, describe_layout, read_layout
from main import main
from model import build_model
from model.pretrained import from_published
from torchlight import checkpoint
from torchlight.trainer import Trainer

ROOT = Path(__file__).parents[1]
SAMPLING = {"length": 8}


@pytest.fixture
def config(tmp_path, tiny_store):
    """A config file for a small network on the tiny store, and words(…): a command line for it."""
    path = tmp_path / "tiny.yaml"
    content = {
        "data_path": str(tiny_store),
        "train_feeder_args": {"repeat": 2, "transforms": ["center", "min_max", {"random_frames": SAMPLING}]},
        "test_feeder_args": {"transforms": ["center", "min_max", {"linspace_frames": SAMPLING}]},
        "model": "ctrgcn", "model_args": {"base_channels": 8}, "batch_size": 4, "num_epoch": 2, "step": [1],
        "nesterov": True, "device": ["cpu"], "shots": [2, 5],
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


FRHEAD = ["--cl-mode", "ST-Multi-Level", "--w-multi-cl-loss", "0.1", "0.2", "0.5", "1", "--w-cl-loss", "0.1"]
BRL = ["--sampler", "reverse", "--mixing", "rebalanced-partial", "--loss", "action-aware", "--defer-epoch", "1"]


def run(config, directory, *words):
    return main(["--config", str(config), "--work-dir", str(directory), *words])


@pytest.mark.parametrize("words", [[], BRL, [*BRL, *FRHEAD, "--model", "stgcn++", "--modality", "skip-motion"]])
def test_train_then_test(config, tmp_path, words, capsys):
    work = tmp_path / "run"
    run(config, work, *words)
    assert {path.name for path in work.iterdir()} >= {
        "config.yaml", "env.json", "log.txt", "metrics.jsonl", "last.pt", "best.pt", "runs.pt", "test_score.pkl",
        "test_label.json", "test_metrics.json", "per_class.csv", "confusion.png", "per_class.png", "curves.png",
    }  # fmt: skip
    score = pickle.loads((work / "test_score.pkl").read_bytes())
    label = json.loads((work / "test_label.json").read_text())
    metrics = json.loads((work / "test_metrics.json").read_text())
    assert set(score) == set(label) == {f"test_{c}_{i}" for c in range(4) for i in range(2)}
    assert all(row.shape == (4,) and row.dtype == np.float32 for row in score.values())
    hits = np.mean([score[name].argmax() == label[name] for name in label])
    assert metrics["top1"] == pytest.approx(100 * hits) and metrics["count"] == [8, 4, 2, 1] and metrics["epoch"] == 2
    assert metrics["classes"] == ["wave", "kick", "nod", "jump"] and len(metrics["per_class"]) == 4
    assert "chosen on the test clips" in (work / "log.txt").read_text()

    before = score
    (work / "test_score.pkl").unlink()
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--device", "cpu"])
    again = pickle.loads((work / "test_score.pkl").read_bytes())
    assert all(np.array_equal(before[name], again[name]) for name in before)
    assert json.loads((work / "test_metrics.json").read_text())["top1"] == metrics["top1"]
    main(
        [
            "--phase",
            "test",
            "--weights",
            str(work / "runs.pt"),
            "--work-dir",
            str(tmp_path / "other"),
            "--save-score",
            "false",
        ]
    )
    assert not (tmp_path / "other" / "test_score.pkl").exists() and (tmp_path / "other" / "confusion.png").exists()


def scores(directory):
    return pickle.loads((directory / "test_score.pkl").read_bytes())


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_a_test_takes_the_options_of_its_weights(config, tmp_path, capsys):
    """--config comes over them, the command line over both; only runs.pt is tested into the run's own directory."""
    work = tmp_path / "run"
    run(config, work, "--modality", "bone")
    trained = scores(work)
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--config", str(config)])
    assert same(trained, scores(work))
    main(["--phase", "test", "--weights", str(work / "last.pt"), "--device", "cpu"])
    assert same(trained, scores(work / "test-last")) and same(trained, scores(work))
    with pytest.raises(ValueError, match="modality is 'joint', but .*last.pt was made with 'bone'"):
        main(["--phase", "test", "--weights", str(work / "last.pt"), "--modality", "joint"])
    (tmp_path / "skip.yaml").write_text("modality: skip\n")
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--config", str(tmp_path / "skip.yaml")])
    assert "note: modality is 'bone', as" in capsys.readouterr().out and same(trained, scores(work))


def test_a_test_asks_nothing_of_what_only_a_training_uses(config, tmp_path):
    """The config's nesterov does not go with the optimizer of these weights: nothing to a test."""
    run(config, tmp_path / "run", "--optimizer", "AdamW", "--nesterov", "false", "--num-epoch", "1")
    main(["--phase", "test", "--weights", str(tmp_path / "run" / "runs.pt"), "--config", str(config)])
    with pytest.raises(ValueError, match="nesterov needs the optimizer SGD"):
        run(config, tmp_path / "other", "--optimizer", "AdamW")


def test_the_metrics_are_the_last_file_of_a_test(config, tmp_path, monkeypatch):
    """Where they are all is there, and results/long_tail.py takes a run for done."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(program.plot, "per_class", full)
        run(config, tmp_path / "run", "--num-epoch", "1")
    there = {path.name for path in (tmp_path / "run").iterdir()}
    assert {"runs.pt", "test_score.pkl", "curves.png", "confusion.png"} <= there and "test_metrics.json" not in there
    main(["--resume", "--work-dir", str(tmp_path / "run")])
    assert (tmp_path / "run" / "test_metrics.json").is_file()
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(program.plot, "per_class", full)
        main(["--phase", "test", "--weights", str(tmp_path / "run" / "runs.pt")])
    assert not (tmp_path / "run" / "test_metrics.json").exists()  # not that of before, beside other scores


def test_a_class_without_clips_under_a_loss_that_counts_them(config, tmp_path, tiny_store):
    shutil.copy(tiny_store, tmp_path / "x.h5")
    add_split(tmp_path / "x.h5", "three", Store(tiny_store).split("train")[:14])
    words = ["--data-path", str(tmp_path / "x.h5"), "--train-feeder-args.split", "three", "--loss", "balanced-softmax"]
    with pytest.raises(ValueError, match="command line: loss: .*class 3 has no training clips"):
        run(config, tmp_path / "run", *words)


def test_options_of_a_test_may_stand_in_the_yaml(config, tmp_path):
    work = tmp_path / "run"
    run(config, work, "--modality", "bone")
    other, path = tmp_path / "other", tmp_path / "test.yaml"
    asked = {"base": str(config), "phase": "test", "weights": str(work / "runs.pt"), "work_dir": str(other)}
    path.write_text(yaml.safe_dump(asked))
    main(["--config", str(path)])
    assert same(scores(work), scores(other))


def test_what_weights_were_made_with_stays(config, tmp_path):
    """Another loss would scale the scores, another argument of the model could change them; a config may have them."""
    work = tmp_path / "run"
    run(config, work, "--model-args", "tcn_relu=true")
    trained, test = scores(work), ["--phase", "test", "--weights", str(work / "runs.pt")]
    for words, message in (
        (["--loss", "ldam"], "loss is 'ldam', but .*runs.pt was made with 'cross-entropy'"),
        (["--model-args", "tcn_relu=false"], "model_args is .*, but .*runs.pt was made with"),
        (["--model", "stgcn"], "model is 'stgcn', but .*runs.pt was made with 'ctrgcn'"),
    ):
        with pytest.raises(ValueError, match=f"command line: {message}"):
            main([*test, *words])
    content = yaml.safe_load(config.read_text()) | {"loss": "ldam", "model_args": {"base_channels": 16}}
    (tmp_path / "ldam.yaml").write_text(yaml.safe_dump(content))
    main([*test, "--config", str(tmp_path / "ldam.yaml")])
    assert same(trained, scores(work))


def test_a_test_writes_scores_though_the_run_did_not(config, tmp_path):
    run(config, tmp_path / "run", "--save-score", "false")
    assert not (tmp_path / "run" / "test_score.pkl").exists()
    main(["--phase", "test", "--weights", str(tmp_path / "run" / "runs.pt")])
    assert len(scores(tmp_path / "run")) == 8


def test_a_test_on_other_clips_leaves_the_runs_results_alone(config, tmp_path):
    work = tmp_path / "run"
    run(config, work, "--num-epoch", "1")
    before = (work / "test_metrics.json").read_bytes()
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--test-feeder-args", "split=train"])
    other = json.loads((work / "test-runs-joint-train" / "test_metrics.json").read_text())
    assert (other["split"], other["clips"]) == ("train", 15) and (work / "test_metrics.json").read_bytes() == before
    assert (json.loads(before)["split"], json.loads(before)["clips"]) == ("test", 8)
    words = ["--test-feeder-args", "split=train", "--save-score", "false"]
    main(["--phase", "test", "--weights", str(work / "runs.pt"), *words])
    assert not (work / "test-runs-joint-train" / "test_score.pkl").exists()


def test_a_test_does_not_replace_another(config, tmp_path):
    run(config, tmp_path / "run")
    own = (tmp_path / "run" / "test_metrics.json").read_text()
    test = ["--phase", "test", "--weights", str(tmp_path / "run" / "runs.pt"), "--device", "cpu"]
    main([*test, "--shots", "1", "3"])
    main([*test, "--test-feeder-args", "split=train"])
    run(config, tmp_path / "run2", "--seed", "2")
    other = ["--weights", str(tmp_path / "run2" / "runs.pt"), "--work-dir", str(tmp_path / "run")]
    with pytest.raises(ValueError, match=r"run/test_metrics.json is of a test of other weights: .*--overwrite"):
        main(["--phase", "test", "--device", "cpu", *other])
    longer = [*test, "--test-feeder-args", "split=train", "transforms=[center, {linspace_frames: {length: 16}}]"]
    with pytest.raises(ValueError, match=r"test_metrics.json is of a test with test_feeder_args .*, not .*--overwrite"):
        main(longer)
    main([*longer, "--overwrite"])
    found = {path.parent.name: json.loads(path.read_text()) for path in tmp_path.glob("run/*/test_metrics.json")}
    assert set(found) == {"test-runs-shots-1-3", "test-runs-joint-train"}
    assert found["test-runs-shots-1-3"]["shots"] == [1, 3]
    assert found["test-runs-joint-train"]["test_feeder_args"]["transforms"][-1] == {"linspace_frames": {"length": 16}}
    assert (tmp_path / "run" / "test_metrics.json").read_text() == own


def test_a_test_averages_over_views(config, tmp_path, tiny_store):
    work = tmp_path / "run"
    run(config, work, "--num-epoch", "1")
    views = "transforms=[center, {views: {x: [0], y: [-60, 0, 60]}}, min_max, {linspace_frames: {length: 8}}]"
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--test-feeder-args", views, "--test-batch-size", "3"])
    score = pickle.loads((work / "test-runs-joint-test" / "test_score.pkl").read_bytes())
    model = build_model("ctrgcn", 4, 1, build_graph("ucla"), base_channels=8)
    model.load_state_dict(checkpoint.load(work / "runs.pt")["model"])
    model.eval()
    expected = 0
    for angle in (-60, 0, 60):
        transforms = ["center", {"views": {"y": [angle]}}, "min_max", {"linspace_frames": SAMPLING}]
        feeder = build_feeder(tiny_store, "test", transforms=transforms)
        with torch.no_grad():
            expected = expected + model(feeder.batch(range(8))[0]).softmax(dim=1) / 3
    found = torch.tensor(np.stack([score[name] for name in feeder.names])).softmax(dim=1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_the_saved_config_runs_again_as_it_is(config, tmp_path):
    run(config, tmp_path / "a", *BRL)
    main(["--config", str(tmp_path / "a" / "config.yaml"), "--work-dir", str(tmp_path / "b")])
    a, b = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in "ab")
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_seeds_differ(config, tmp_path):
    run(config, tmp_path / "a")
    run(config, tmp_path / "b", "--seed", "2")
    a, b = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in "ab")
    assert not torch.equal(a["fc.weight"], b["fc.weight"])


@pytest.mark.parametrize(
    ("loss", "plain"),
    [
        (["action-aware"], []),
        (["action-aware", "--loss-args", "smoothing=0.1"], ["--loss-args", "smoothing=0.1"]),
        (["ldam"], ["--loss", "ldam", "--loss-args", "beta=0"]),
    ],
)
def test_deferring_starts_without_the_weights(config, tmp_path, loss, plain):
    """Before defer_epoch a run is one of plain cross-entropy, LDAM's one of its margins alone; then it is another."""
    run(config, tmp_path / "ce", *plain)
    run(config, tmp_path / "deferred", "--loss", *loss, "--defer-epoch", "1")
    lines = [(tmp_path / name / "metrics.jsonl").read_text().splitlines() for name in ("ce", "deferred")]
    (first, second), (deferred_first, deferred_second) = ([json.loads(line) for line in run] for run in lines)
    assert (first["train_loss"], first["test"]) == (deferred_first["train_loss"], deferred_first["test"])
    assert second["train_loss"] != deferred_second["train_loss"]
    ce, deferred = (checkpoint.load(tmp_path / name / "runs.pt")["model"]["fc.weight"] for name in ("ce", "deferred"))
    assert not torch.equal(ce, deferred)


@pytest.mark.parametrize("loss", ["ldam", "equalization", "logit-adjustment"])
def test_other_losses(config, tmp_path, loss):
    words = ["--loss", loss, "--defer-epoch", "1", *(["--loss-args", "tau=0.5"] if loss == "logit-adjustment" else [])]
    run(config, tmp_path / "one", *words)
    run(config, tmp_path / "two", *words)
    one, two = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("one", "two"))
    assert all(torch.equal(value, two[key]) for key, value in one.items())
    with pytest.raises(ValueError, match="command line: loss_args: [a-z-]*: unknown key tua"):
        run(config, tmp_path / "three", *words, "--loss-args", "tua=0.5")


def test_the_scale_of_ldam_reaches_whatever_takes_a_softmax(config, tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(program.TrainBatches, "begin", lambda self, model, scale: begun.append(scale))
    for words in (["--loss", "ldam"], ["--loss", "ldam", "--loss-args", "scale=2e1"], []):
        run(config, tmp_path / str(len(begun)), *words, "--num-epoch", "1", "--base-lr", "0.001")
    assert begun == [30, 20, 1]

    class Model:
        backbone = build_model("stgcn", 4, 1, build_graph("ucla"), base_channels=8)

        def loss(self, output, shares):
            return output[0].sum()

    options = program.configure(["--config", str(config), "--loss", "ldam", *FRHEAD, "--w-cl-loss", "0.5"])
    loss = program.refined(lambda logits, target: logits.sum(), Model(), options)
    assert loss((torch.ones(2, 4), None), Target(torch.tensor([0, 1]))).item() == 8 + 0.5 * 30 * 8


def test_fr_head_adds_its_loss_to_the_classifiers(config, tmp_path):
    losses = {}
    for name, words in (("none", []), ("zero", [*FRHEAD, "--w-cl-loss", "0"]), ("one", FRHEAD)):
        run(config, tmp_path / name, "--num-epoch", "1", "--base-lr", "1e-6", *words)  # the weights hardly move
        losses[name] = json.loads((tmp_path / name / "metrics.jsonl").read_text())["train_loss"]
    assert losses["zero"] == pytest.approx(losses["none"], rel=1e-5) and losses["one"] > losses["none"]


def test_published_fr_head_weights(config, golden, tmp_path):
    state, _, _, _ = golden("frhead_ctrgcn_ucla")
    shapes = {"fc.weight": (4, 256), "fc.bias": (4,)}
    torch.save(
        {key: torch.zeros(shapes[key]) if key in shapes else value for key, value in state.items()}, tmp_path / "p.pt"
    )
    words = ["--phase", "test", "--weights", str(tmp_path / "p.pt"), "--model-args", "base_channels=64"]
    length = ["--test-feeder-args", f"transforms={json.dumps([{'linspace_frames': {'length': 52}}])}"]
    run(config, tmp_path / "t", *words, *length)  # a test needs no heads
    assert (tmp_path / "t" / "test_score.pkl").exists()


def test_a_run_with_fr_head_is_tested_on_clips_of_another_length(config, tmp_path):
    run(config, tmp_path / "run", "--num-epoch", "1", *FRHEAD)
    longer = ["--test-feeder-args", f"transforms={json.dumps([{'linspace_frames': {'length': 20}}])}"]
    words = ["--phase", "test", "--weights", str(tmp_path / "run" / "runs.pt"), "--device", "cpu"]
    main([*words, "--work-dir", str(tmp_path / "t"), *longer])
    main([*words, "--work-dir", str(tmp_path / "same")])
    assert same(scores(tmp_path / "run"), scores(tmp_path / "same"))


def test_validation_clips_are_held_out(config, tmp_path):
    run(config, tmp_path / "run", "--val-ratio", "0.25")
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert all("val" in line and "test" not in line for line in lines)
    metrics = json.loads((tmp_path / "run" / "test_metrics.json").read_text())
    log = (tmp_path / "run" / "log.txt").read_text()
    assert metrics["count"] == [8, 4, 2, 1] and "11 training clips, per class 6 3 1 1;" in log  # few-shot by the former
    assert "chosen on held-out clips, test: top1" in log


@pytest.mark.slow
def test_a_compiled_model_trains_to_the_same_weights(config, tmp_path):
    for name, words in (("plain", []), ("compiled", ["--compile"])):
        run(config, tmp_path / name, "--num-epoch", "1", "--base-lr", "0.001", *words)
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("plain", "compiled"))
    assert one.keys() == other.keys()
    for key, value in one.items():
        torch.testing.assert_close(other[key], value, atol=1e-3, rtol=1e-2)


def test_learning_rate_scales_with_the_effective_batch(config, tmp_path):
    run(
        config, tmp_path / "run", "--base-batch-size", "16", "--accumulate", "2", "--base-lr", "0.1", "--num-epoch", "1"
    )
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text())["lr"] == pytest.approx(0.05)
    assert "effective batch 8, lr 0.05" in (tmp_path / "run" / "log.txt").read_text()
    words = ["--base-batch-size", "15", "--batch-size", "100", "--accumulate", "7", "--num-epoch", "1"]
    run(config, tmp_path / "larger", *words, "--base-lr", "0.001")  # than the 30 clips of an epoch, and its one batch
    assert "effective batch 30, lr 0.002" in (tmp_path / "larger" / "log.txt").read_text()


@pytest.mark.parametrize("optimizer", ["Adam", "AdamW"])
def test_other_optimizers(config, tmp_path, optimizer):
    words = ["--optimizer", optimizer, "--nesterov", "false", "--base-lr", "1e-3", "--lr-schedule", "cosine"]
    run(config, tmp_path / "run", *words)
    state = checkpoint.load(tmp_path / "run" / "last.pt")["optimizer"]["state"]
    assert all("exp_avg_sq" in moments for moments in state.values())


def test_fine_tuning_from_weights(config, tmp_path, capsys):
    run(config, tmp_path / "a")
    run(
        config, tmp_path / "b", "--weights", str(tmp_path / "a" / "runs.pt"), "--ignore-weights", "fc", "--base-lr", "0"
    )
    a, b = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in "ab")
    assert torch.equal(a["blocks.4.gcn.value.weight"], b["blocks.4.gcn.value.weight"])
    assert not torch.equal(a["fc.weight"], b["fc.weight"])
    assert "2 tensors keep their initial values: fc.weight, fc.bias" in capsys.readouterr().out
    trained = scores(tmp_path / "b")  # the test of a fine-tuned model uses the classifier it has learned
    main(["--phase", "test", "--weights", str(tmp_path / "b" / "runs.pt")])
    assert same(trained, scores(tmp_path / "b"))
    main(["--resume", "--work-dir", str(tmp_path / "b")])  # what it started from stays in its records
    saved = yaml.safe_load((tmp_path / "b" / "config.yaml").read_text())
    assert saved["weights"] == str(tmp_path / "a" / "runs.pt") and saved["ignore_weights"] == ["fc"]
    assert checkpoint.load(tmp_path / "b" / "runs.pt")["config"]["weights"] == saved["weights"]


def test_published_weights(config, golden, tmp_path, tiny_store):
    state, _, _, _ = golden("ctrgcn_ucla")
    state |= {"fc.weight": state["fc.weight"][:4].clone(), "fc.bias": state["fc.bias"][:4].clone()}
    torch.save(state, tmp_path / "download.pt")
    words = ["--config", str(config), "--phase", "test", "--weights", str(tmp_path / "download.pt")]
    with pytest.raises(ValueError, match=r"download.pt: .*of another shape: blocks.0.gcn"):
        main(words)
    main([*words, "--model-args", "base_channels=64"])
    feeder = build_feeder(tiny_store, transforms=["center", "min_max", {"linspace_frames": SAMPLING}])
    with torch.no_grad():
        expected = from_published(state, build_graph("ucla"), 1).eval()(feeder.batch(range(8))[0])
    found = scores(tmp_path / "test-download")
    np.testing.assert_allclose([found[name] for name in feeder.names], expected, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "test-download" / "test_metrics.json").read_text())["count"] == [8, 4, 2, 1]


@pytest.mark.parametrize(("words", "expected"), [([], [8, 4, 2, 1]), (["--loss-counts", "drawn"], [8, 4, 8, 8])])
def test_counts_of_the_loss(config, tmp_path, monkeypatch, words, expected):
    counts = {}

    def build_loss(name, class_count, **arguments):
        counts[name] = class_count.tolist()
        return losses(name, class_count, **arguments)

    losses = program.build_loss
    monkeypatch.setattr(program, "build_loss", build_loss)
    run(config, tmp_path / "run", *BRL, *words)
    assert counts["action-aware"] == expected
    assert json.loads((tmp_path / "run" / "test_metrics.json").read_text())["count"] == [8, 4, 2, 1]


def test_profile_of_one_model(capsys):
    main(["--phase", "profile", "--model", "shiftgcn", "--batch-size", "1", "--device", "cpu"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| shiftgcn")]
    assert [row[1].split()[0] for row in rows] == ["coco", "ntu"]
    words = ["--phase", "profile", "--model", "stgcn++", "--batch-size", "1", "--device", "cpu", "--model-args"]
    main([*words, "base_channels=8"])
    rows = [line.split(" | ")[2] for line in capsys.readouterr().out.splitlines() if "stgcn++" in line]
    assert len(rows) == 2 and all(int(number.replace(",", "")) < 100_000 for number in rows)
    for wrong in ("base_chanels=8", "num_class=60", "name=x", "classifier=cosine", "in_channels=0", "labeling=x"):
        with pytest.raises(ValueError, match=f"model_args: .*{wrong.split('=')[0]}"):
            main([*words, wrong])
    with pytest.raises(ValueError, match="model_args are for one model"):
        main(["--phase", "profile", "--device", "cpu", "--model-args", "base_channels=8"])


def test_profile_counts_a_clip(capsys, monkeypatch):
    monkeypatch.setattr("torchlight.profiler._seconds_per_call", lambda call, device, seconds: 1.0)
    main(["--phase", "profile", "--model", "stgcn++", "--batch-size", "2", "--device", "cpu"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "stgcn++" in line]
    assert [row[3] for row in rows] == ["1.89", "2.85"] and rows[0][4:] == ["2.0", "2.0 |"]  # by the batch's clips
    words = ["--phase", "profile", "--model", "stgcn", "--batch-size", "1", "--device", "cpu", "--model-args"]
    main([*words, "labeling=stgcn_spatial", "base_channels=8"])  # ST-GCN as its paper has it


def test_profile_of_a_config(config, tmp_path, capsys):
    assert not run(config, tmp_path / "run", "--phase", "profile", "--model-args", "base_channels=64", *FRHEAD)
    printed = capsys.readouterr().out
    assert "batches of 4 on the CPU" in printed
    assert "| ctrgcn | 3 x 8 x 20 x 1 | 1,425,350 | 0." in printed  # without the head, which a test does not need
    assert not (tmp_path / "run").exists()
    (tmp_path / "tuned.yaml").write_text(f"base: {config.name}\nweights: absent.pt\n")
    main(["--phase", "profile", "--config", str(tmp_path / "tuned.yaml"), "--device", "cpu"])
    assert "| ctrgcn |" in capsys.readouterr().out


# ---- resuming


def start(config, work, *words, until=None):
    """A run in a process of its own. until: it stops where it logs this text, until it is told to end."""
    program = ["tests/hold.py", until] if until else ["main.py"]
    return subprocess.Popen(
        [sys.executable, *program, "--config", str(config), "--work-dir", str(work), "--log-interval", "1", *words],
        cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_for(process, work, text):
    log = work / "log.txt"
    for _ in range(600):
        if log.exists() and text in log.read_text():
            return
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    raise AssertionError(f"{text!r} did not appear in {log}")


def test_a_killed_run_continues_bit_for_bit(config, tmp_path):
    words = [*BRL, *FRHEAD, "--num-epoch", "4", "--defer-epoch", "2", "--train-feeder-args", "repeat=6"]
    whole = start(config, tmp_path / "whole", *words)
    assert whole.wait() == 0, whole.stderr.read()

    work = tmp_path / "killed"
    process = start(config, work, *words, until="epoch 2  batch 3/")
    wait_for(process, work, "epoch 2  batch 3/")
    process.kill()  # SIGKILL: nothing can be saved any more
    assert process.wait() == -signal.SIGKILL and checkpoint.load(work / "last.pt")["epoch"] == 1
    assert not (work / "runs.pt").exists()

    process = start(config, work, *words, "--resume", until="epoch 3  batch 2/")
    wait_for(process, work, "epoch 3  batch 2/")
    process.terminate()  # SIGTERM: saves where it is
    assert process.wait() == 128 + signal.SIGTERM
    saved = checkpoint.load(work / "last.pt")
    assert saved["epoch"] == 2 and saved["step"] >= 2

    process = start(config, work, *words, "--resume")
    assert process.wait() == 0, process.stderr.read()
    one, other = (checkpoint.load(tmp_path / name / "runs.pt") for name in ("whole", "killed"))
    assert all(torch.equal(value, other["model"][key]) for key, value in one["model"].items())
    assert one["metrics"] == other["metrics"]
    lines = [
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    for a, b in zip(*lines, strict=True):
        assert (a["epoch"], a["lr"], a["test"], a["train_top1"]) == (b["epoch"], b["lr"], b["test"], b["train_top1"])
        assert a["train_loss"] == pytest.approx(b["train_loss"])


def test_what_a_mixing_has_learned_continues(config, tmp_path, monkeypatch):
    words = ["--mixing", "shap-mix", "--mixing-args", "naive_epoch=0", "--loss", "logit-adjustment", "--num-epoch", "4"]
    run(config, tmp_path / "whole", *words)
    train_epoch = Trainer._train_epoch

    def stop_before_the_last(self):
        if self.epoch == 3:
            raise KeyboardInterrupt
        train_epoch(self)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "_train_epoch", stop_before_the_last)
        run(config, tmp_path / "part", *words)
    assert checkpoint.load(tmp_path / "part" / "last.pt")["batches"]["saliency"].max() > 1e-3
    run(config, tmp_path / "part", *words, "--resume")
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("whole", "part"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_run_killed_in_its_first_epoch_can_be_resumed(config, tmp_path):
    words = ["--num-epoch", "1", "--train-feeder-args", "repeat=20"]
    process = start(config, tmp_path / "run", *words, until="epoch 1  batch 1/")
    wait_for(process, tmp_path / "run", "epoch 1  batch 1/")
    process.kill()
    process.wait()
    run(config, tmp_path / "run", "--resume", *words)
    run(config, tmp_path / "whole", *words)
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("run", "whole"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_resume_takes_the_runs_own_config_and_refuses_another(config, tmp_path):
    run(config, tmp_path / "run")
    command = json.loads((tmp_path / "run" / "env.json").read_text())["command"]
    assert main(["--resume", "--work-dir", str(tmp_path / "run")]) is None
    environment = json.loads((tmp_path / "run" / "env.json").read_text())
    assert environment["command"] == command and len(environment["resumed"]) == 1
    with pytest.raises(ValueError, match=r"--resume: base_lr is 0.2 now and was 0.1 in .*last.pt"):
        run(config, tmp_path / "run", "--resume", "--base-lr", "0.2")
    with pytest.raises(FileNotFoundError):
        run(config, tmp_path / "absent", "--resume")
    assert not (tmp_path / "absent").exists()


def test_resume_refuses_clips_that_have_changed(config, tmp_path, tiny_store, change_split):
    store, work = tmp_path / "store.h5", tmp_path / "run"
    shutil.copy(tiny_store, store)
    run(config, work, "--data-path", str(store))
    (work / "runs.pt").unlink()
    train = Store(store).split("train")
    for clips, what in ((train[1:], "class count"), (train[::-1], "training clips")):
        change_split(store, "train", clips)
        with pytest.raises(ValueError, match=f"--resume: the {what} of .*store.h5 are not those that"):
            run(config, work, "--data-path", str(store), "--resume")
    change_split(store, "train", train)
    run(config, work, "--data-path", str(store), "--resume")


def other_store(path, tiny, change):
    """The tiny store's clips, as change(number, name, label, keypoint) has each, in the same splits; its path."""
    layout, classes = change(None, tiny.layout, tiny.classes, None) or (tiny.layout, tiny.classes)
    with StoreWriter(path, layout, classes, source="test") as writer:
        for i, name in enumerate(tiny.name):
            splits = [split for split, index in tiny.splits.items() if i in index]
            writer.add(*change(i, name, int(tiny.label[i]), tiny.clip(i)), splits)
    return str(path)


def moved(number, name, label, keypoint):
    """Every coordinate is another one."""
    return None if number is None else (name, label, keypoint * 0.1 + 5)


def test_other_frames_under_the_old_path(config, tmp_path, tiny_store):
    store, work = tmp_path / "store.h5", tmp_path / "run"
    shutil.copy(tiny_store, store)
    run(config, work, "--data-path", str(store))
    other_store(store, Store(tiny_store), moved)
    before = {path: path.read_bytes() for path in work.iterdir()}
    with pytest.raises(ValueError, match="test_metrics.json is of a test of other clips"):
        main(["--phase", "test", "--weights", str(work / "runs.pt")])
    (work / "runs.pt").unlink()
    with pytest.raises(ValueError, match="--resume: the training clips of .*store.h5 are not those that"):
        run(config, work, "--data-path", str(store), "--resume")
    assert all(path.read_bytes() == content for path, content in before.items() if path.name != "runs.pt")


def test_weights_of_other_classes_or_joints(config, tmp_path, tiny_store):
    run(config, tmp_path / "a", "--num-epoch", "1")
    weights, tiny = ["--weights", str(tmp_path / "a" / "runs.pt"), "--num-epoch", "1"], Store(tiny_store)

    def reversed_classes(number, name, label, keypoint):
        return (name, label[::-1]) if number is None else (name, 3 - label, keypoint)

    def reversed_joints(number, name, label, keypoint):
        if number is None:
            return read_layout(describe_layout(name) | {"name": "turned", "joints": list(name.joints)[::-1]}), label
        return name, label, keypoint

    classes = other_store(tmp_path / "classes.h5", tiny, reversed_classes)
    with pytest.raises(ValueError, match="runs.pt: trained on other classes than .*h5 has; --ignore-weights fc"):
        run(config, tmp_path / "b", *weights, "--data-path", classes)
    run(config, tmp_path / "b", *weights, "--data-path", classes, "--ignore-weights", "fc.")
    joints = other_store(tmp_path / "joints.h5", tiny, reversed_joints)
    with pytest.raises(ValueError, match="runs.pt: trained on other layout than .*joints.h5 has$"):
        run(config, tmp_path / "c", *weights, "--data-path", joints, "--ignore-weights", "fc.")
    with pytest.raises(ValueError, match="runs.pt: no weight has 'clasifier' in its name"):
        run(config, tmp_path / "c", *weights, "--ignore-weights", "fc.", "clasifier")
    assert not (tmp_path / "c").exists()


# ---- bad input


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--basse-lr", "1"], "unknown argument --basse-lr"),
        (["--num-epoch", "0"], "num_epoch must be at least 1"),
        (["--data-path", "absent.h5"], "no such file"),
        (["--data-path", ""], "data_path is missing"),
        (["--model-args", "graph=ntu"], "command line: model_args: graph is 'ntu', but .*tiny.h5 has 'ucla'"),
        (["--model-args", "base_channels=10"], "command line: model_args: base_channels must be a multiple of 8"),
        (["--model-args", "num_class=60"], "num_class is 60, but .*tiny.h5 has 4"),
        (["--model-args", "labeling=x"], "labeling must be one of"),
        (["--train-feeder-args", "split=x"], "command line: train_feeder_args: .*no split 'x'; there are test, train"),
        (
            ["--train-feeder-args", "splitt=x"],
            r"command line: train_feeder_args: skeleton: unknown key splitt \(nearest: split\)",
        ),
        (["--train-feeder-args", "num_person=two"], "train_feeder_args: skeleton: num_person must be of type int"),
        (
            ["--train-feeder-args", "split=test", "transforms=[{centre: {}}]"],
            "command line: train_feeder_args: transforms",
        ),
        (["--test-feeder-args", "num_person=2"], r"test clips are \(3, 8, 20, 2\) .* training clips \(3, 8, 20, 1\)"),
        (["--test-feeder-args", "repeat=2"], "command line: test_feeder_args: skeleton: unknown key repeat"),
        (
            ["--test-feeder-args", "transforms=[random_frames]"],
            "a test draws no random numbers, but random_frames does",
        ),
        (["--train-feeder-args", "transforms=[{uniform_frames: {num_clips: 2}}]"], "num_clips is for tests"),
        (["--train-feeder-args", "transforms=[views, linspace_frames]"], "is for tests, and so are views"),
        (["--loss", "action-aware", "--defer-epoch", "2"], "defer_epoch 2 leaves none of 2 epochs to action-aware"),
        (["--defer-epoch", "1"], "the loss is cross-entropy: it has nothing to defer"),
        (["--mixing-args", "kappa=3"], "mixing_args are given, but mixing is none"),
        (["--mixing", "rebalanced-partial", "--mixing-args", "alpha=5"], "mixing_args: alpha must be a share up to 1"),
        (["--train-feeder-args", "repeat=0"], "repeat must be a whole number"),
        (["--train-feeder-args", "repeat=true"], "repeat must be a whole number from 1 on, not True"),
        (["--loss", "ldam", "--loss-args", "scale=0"], "loss_args: LDAM: scale must be above 0, not 0"),
        (
            ["--mixing", "rebalanced-partial", "--mixing-args", "kapa=3"],
            r"mixing_args: .*unknown key kapa \(nearest: kappa\)",
        ),
        (["--shots", "100", "20"], "shots takes two numbers"),
        (["--shots", "true", "3"], "shots takes two numbers"),
        (["--shots", "-5", "3"], "shots takes two numbers"),
        (["--step", "true"], "step takes epochs"),
        (["--step", "-3"], "step takes epochs"),
        (["--cuda-graphs", "--device", "cpu"], "cuda_graphs works on one GPU"),
        (["--step", "ten"], "step takes epochs"),
        (["--optimizer", "Adam"], "nesterov needs the optimizer SGD"),
        (["--weights", "absent.pt"], "absent.pt"),
        (["--phase", "test"], "--weights is missing: what to test"),
        (["--phase", "test", "--weights", "x.pt", "--ignore-weights", "fc"], "takes no --ignore-weights|x.pt"),
        (["--phase", "profile", "--weights", "x.pt"], "--phase profile takes no --weights"),
        (["--cl-version", "V2"], "command line: cl_version is given, but cl_mode is not"),
        (["--loss-counts", "drawn"], "loss_counts is given, but the loss cross-entropy does not look at them"),
        (
            ["--optimizer", "AdamW", "--nesterov", "false", "--momentum", "0.5"],
            "momentum is given, but the optimizer is A",
        ),
        (["--lr-schedule", "cosine", "--lr-decay-rate", "0.5"], "lr_decay_rate is given, but there are no steps"),
        (["--val-ratio", "1.5"], "val_ratio must be less than 1"),
        (["--lr-schedule", "cosine", "--warm-up-epoch", "2"], "warm_up_epoch must be less than num_epoch"),
    ],
)
def test_bad_input(config, tmp_path, words, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run(config, tmp_path / "run", *words)
    assert not (tmp_path / "run").exists()


def test_an_error_names_the_file_of_the_key_inside(config, tmp_path):
    content = yaml.safe_load(config.read_text())
    content["train_feeder_args"]["transforms"] = [{"center": {"jont": 1}}, "linspace_frames"]
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(content))
    (tmp_path / "top.yaml").write_text("base: base.yaml\ntrain_feeder_args: {repeat: 1}\n")
    with pytest.raises(ValueError, match=r"/base.yaml: train_feeder_args: transforms: center: unknown key jont"):
        run(tmp_path / "top.yaml", tmp_path / "run", "--train-feeder-args", "split=train")
    several = "transforms=[{uniform_frames: {length: 8, num_clips: 3}}]"
    with pytest.raises(ValueError, match="^command line: train_feeder_args: transforms: .* repeat draws several"):
        run(tmp_path / "top.yaml", tmp_path / "run", "--train-feeder-args", several)


def test_what_was_never_begun_is_no_run(config, tmp_path, monkeypatch):
    """The first file of a run is one to go on from; before it there is at most a log."""

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(Trainer, "save_last", full)
        run(config, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["log.txt"]
    with monkeypatch.context() as patched, pytest.raises(OSError, match="No space"):
        patched.setattr(program.Recorder, "begin", full)
        run(config, tmp_path / "run", "--num-epoch", "1")
    main(["--config", str(config), "--work-dir", str(tmp_path / "run"), "--num-epoch", "1", "--resume"])
    assert (tmp_path / "run" / "runs.pt").is_file()


def test_a_directory_in_use(config, tmp_path):
    run(config, tmp_path / "run", "--num-epoch", "1")
    before = (tmp_path / "run" / "runs.pt").read_bytes()
    with pytest.raises(ValueError, match="already holds a run"):
        run(config, tmp_path / "run", "--num-epoch", "1")
    assert (tmp_path / "run" / "runs.pt").read_bytes() == before
    run(config, tmp_path / "run", "--num-epoch", "1", "--overwrite", "--seed", "5")
    assert checkpoint.load(tmp_path / "run" / "runs.pt")["config"]["seed"] == 5


def test_weights_that_do_not_fit(config, tmp_path):
    run(config, tmp_path / "a", "--num-epoch", "1")
    with pytest.raises(ValueError, match=r"runs.pt: .*of another shape: blocks.0"):
        weights = str(tmp_path / "a" / "runs.pt")
        run(config, tmp_path / "b", "--weights", weights, "--model-args", "base_channels=16")
    assert not (tmp_path / "b").exists()


def test_what_no_training_continues_from(config, tmp_path):
    work = tmp_path / "run"
    run(config, work)
    last, environment = (work / "last.pt").read_bytes(), (work / "env.json").read_text()
    for content in (checkpoint.load(work / "runs.pt"), {}):
        checkpoint.save(content, work / "last.pt")
        with pytest.raises(ValueError, match="last.pt: not what a training continues from"):
            run(config, work, "--resume")
    (work / "last.pt").write_bytes(last)
    (work / "env.json").write_text("[]")
    with pytest.raises(ValueError, match="env.json: not the environment of a run"):
        run(config, work, "--resume")
    (work / "env.json").write_text(environment)
    run(config, work, "--resume")


def test_last_pt_alone_is_enough_to_continue(config, tmp_path):
    run(config, tmp_path / "run")
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("last.pt", "config.yaml"):
        shutil.copy(tmp_path / "run" / name, moved)
    main(["--resume", "--work-dir", str(moved)])
    assert same(scores(tmp_path / "run"), scores(moved)) and "best.pt is not there" in (moved / "log.txt").read_text()
    (moved / "last.pt").unlink()
    with pytest.raises(ValueError, match=r"already holds a run \(.*\); --overwrite starts it anew"):
        run(config, moved)


def test_one_line_and_exit_status_2(config, tmp_path):
    def fails(*words):
        process = start(config, tmp_path / "run", *words)
        _, errors = process.communicate(timeout=60)
        return process.returncode, errors

    status, errors = fails("--modality", "bones")
    assert status == 2 and errors.count("\n") == 1 and errors.startswith("error: command line: modality must be one of")
    status, errors = fails("--base-lr", "1e30")  # diverges: no bad input, but one line as well
    assert (
        status == 1
        and errors.count("\n") == 1
        and "error: the loss is" in errors
        and "clips of the batch: train_" in errors
    )


# ---- GPU


@pytest.mark.gpu
@pytest.mark.parametrize("device", [["0"], ["0", "1"]], ids=["one", "two"])
def test_gpu_run_continues_bit_for_bit(config, tmp_path, device):
    if torch.cuda.device_count() < len(device):
        pytest.skip(f"needs {len(device)} GPUs")
    words = [*BRL, "--num-epoch", "3", "--device", *device]
    run(config, tmp_path / "whole", *words)
    work = tmp_path / "killed"
    process = start(config, work, *words, until="epoch 2  batch 2/")
    wait_for(process, work, "epoch 2  batch 2/")
    process.kill()
    process.wait()
    run(config, work, *words, "--resume")
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("whole", "killed"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


@pytest.mark.gpu
@pytest.mark.parametrize("words", [[], [*FRHEAD, "--amp", "bf16"]], ids=["BRL", "BRL and FR-Head in bf16"])
def test_cuda_graphs_train_to_the_same_weights(config, tmp_path, words):
    for name, more in (("plain", []), ("graphs", ["--cuda-graphs"])):
        run(config, tmp_path / name, *BRL, *words, *more, "--device", "0")
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("plain", "graphs"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())


# ---- configs


@pytest.mark.slow
def test_brl_finds_the_rare_actions_of_the_demo(tmp_path):
    """What `make demo` shows: cross-entropy loses the few-shot classes, BRL does not."""
    prepare.main(["demo", "--out", str(tmp_path / "demo.h5")])
    few = {}
    for method in ("ce", "brl"):
        words = ["--data-path", str(tmp_path / "demo.h5"), "--work-dir", str(tmp_path / method)]
        main(["--config", str(ROOT / "config" / "demo" / f"{method}.yaml"), *words])
        few[method] = json.loads((tmp_path / method / "test_metrics.json").read_text())["few"]
    assert few["brl"] > few["ce"] + 15
