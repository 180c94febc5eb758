"""What is done to a trained classifier: re-training, normalisation, logit adjustment."""

import json
import pickle

import numpy as np
import pytest
import torch

from main import main
from torchlight import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_store):
    """(words for a small network on the tiny store, directory of its run)."""
    work = tmp_path_factory.mktemp("runs") / "ce"
    words = [
        *("--data-path", str(tiny_store), "--device", "cpu", "--model", "stgcn", "--model-args", "base_channels=8"),
        *("--train-feeder-args.transforms", "[center, min_max, {random_frames: {length: 8}}]", "--batch-size", "4"),
        *("--test-feeder-args.transforms", "[center, min_max, {linspace_frames: {length: 8}}]", "--num-epoch", "2"),
        *("--shots", "2", "5"),
    ]
    main([*words, "--work-dir", str(work)])
    return words, work


def scores(directory):
    return np.stack(list(pickle.loads((directory / "test_score.pkl").read_bytes()).values()))


def test_classifier_retraining_moves_the_classifier_alone(trained, tmp_path):
    words, work = trained
    crt = ["--weights", str(work / "runs.pt"), "--ignore-weights", "fc.", "--freeze-backbone"]
    main([*words, *crt, "--sampler", "class-balanced", "--work-dir", str(tmp_path / "crt")])
    before, after = (checkpoint.load(path / "runs.pt")["model"] for path in (work, tmp_path / "crt"))
    moved = {key for key in before if not torch.equal(before[key], after[key])}
    assert moved == {"fc.weight", "fc.bias"}  # running statistics stay, too
    (tmp_path / "crt" / "runs.pt").unlink()
    state = checkpoint.load(tmp_path / "crt" / "last.pt")
    assert len(state["optimizer"]["state"]) == 2


def test_dropout_before_the_classifier_stays_when_the_backbone_is_frozen(trained, tmp_path):
    words, work = trained
    crt = ["--weights", str(work / "runs.pt"), "--ignore-weights", "fc.", "--freeze-backbone"]
    for share in ("0", "0.9"):
        main([*words, *crt, "--model-args", f"drop_out={share}", "--work-dir", str(tmp_path / share)])
    without, with_it = (checkpoint.load(tmp_path / share / "runs.pt")["model"]["fc.weight"] for share in ("0", "0.9"))
    assert not torch.equal(without, with_it)


def test_a_recipe_of_retraining_resumes_and_tests(trained, tmp_path):
    words, work = trained
    recipe = tmp_path / "crt.yaml"
    recipe.write_text("ignore_weights: [fc.]\nfreeze_backbone: true\nnum_epoch: 1\n")
    first = tmp_path / "crt"
    words = [*words[: words.index("--num-epoch")], "--shots", "2", "5", "--config", str(recipe)]
    words += ["--work-dir", str(first)]
    main([*words, "--weights", str(work / "runs.pt")])
    plain = scores(first)
    (first / "runs.pt").unlink()
    main([*words, "--resume"])
    assert np.array_equal(scores(first), plain)
    main([*words, "--phase", "test", "--weights", str(first / "runs.pt"), "--work-dir", str(tmp_path / "again")])
    assert np.array_equal(scores(tmp_path / "again"), plain)


def test_heads_come_and_go(trained, tmp_path):
    """From a plain run to one with FR-Head, whose heads begin anew, and back, where they are left out."""
    words, work = trained
    heads = ["--cl-mode", "ST-Multi-Level", "--weights", str(work / "runs.pt"), "--work-dir", str(tmp_path / "heads")]
    with pytest.raises(ValueError, match="missing: head"):
        main([*words, *heads])
    main([*words, *heads, "--ignore-weights", "head."])
    crt = ["--weights", str(tmp_path / "heads" / "runs.pt"), "--ignore-weights", "fc.", "--freeze-backbone"]
    main([*words, *crt, "--work-dir", str(tmp_path / "crt")])
    before, after = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("heads", "crt"))
    kept = [key for key in after if not key.startswith("fc.")]
    assert kept and all(torch.equal(before[f"backbone.{key}"], after[key]) for key in kept)


def test_post_hoc_changes_leave_the_run_alone(trained):
    words, work = trained
    plain = scores(work)
    weights = checkpoint.load(work / "runs.pt")["model"]["fc.weight"].numpy()
    bias = checkpoint.load(work / "runs.pt")["model"]["fc.bias"].numpy()
    test = ["--phase", "test", "--weights", str(work / "runs.pt"), "--device", "cpu"]
    main([*test, "--adjust-logits", "1"])
    assert np.array_equal(scores(work), plain)
    share = np.array([8, 4, 2, 1]) / 15
    assert np.allclose(scores(work / "test-runs-adjust-logits-1"), plain - np.log(share), atol=1e-5)
    assert json.loads((work / "test-runs-adjust-logits-1" / "test_metrics.json").read_text())["adjust_logits"] == 1
    main([*test, "--adjust-logits", "1", "--sampler", "class-balanced"])  # had it been trained so
    drawn = np.array([4, 4, 4, 4]) / 16
    assert np.allclose(scores(work / "test-runs-adjust-logits-1-class-balanced"), plain - np.log(drawn), atol=1e-5)
    there = ["--work-dir", str(work / "test-runs-adjust-logits-1")]
    with pytest.raises(ValueError, match="is of a test with sampler uniform, not reverse"):
        main([*test, "--adjust-logits", "1", "--sampler", "reverse", *there])
    main([*test, "--tau-norm", "0.5"])
    expected = (plain - bias) / np.linalg.norm(weights, axis=1) ** 0.5
    assert np.allclose(scores(work / "test-runs-tau-norm-0.5"), expected, atol=1e-5)


def test_logits_are_adjusted_by_what_was_trained_with(trained, tmp_path):
    """Not by clips that were held out."""
    words, _ = trained
    work = tmp_path / "held"
    main([*words, "--val-ratio", "0.5", "--work-dir", str(work)])
    main(["--phase", "test", "--weights", str(work / "runs.pt"), "--device", "cpu", "--adjust-logits", "1"])
    share = np.array([4, 2, 1, 1]) / 8
    assert np.allclose(scores(work / "test-runs-adjust-logits-1"), scores(work) - np.log(share), atol=1e-5)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--tau-norm", "1"], "tau_norm changes a trained classifier: it is for --phase test"),
        (["--adjust-logits", "-1", "--phase", "test"], "adjust_logits must be at least 0"),
        (["--freeze-backbone", "--cl-mode", "ST-Multi-Level"], "it cannot be frozen"),
        (["--freeze-backbone"], "freeze_backbone needs --weights"),
        (["--classifier", "cosin"], "nearest: cosine"),
        (["--classifier", "cosine"], "the cosine classifier is for the loss ldam"),
    ],
)
def test_what_does_not_fit_is_said(trained, tmp_path, more, message):
    words, _ = trained
    with pytest.raises(ValueError, match=message):
        main([*words, "--work-dir", str(tmp_path / "x"), *more])
    assert not (tmp_path / "x").exists()


def test_cosine_classifier_trains_with_ldam(trained, tmp_path):
    words, _ = trained
    main([*words, "--classifier", "cosine", "--loss", "ldam", "--work-dir", str(tmp_path / "ldam")])
    assert 1 < np.abs(scores(tmp_path / "ldam")).max() <= 30 * (1 + 1e-6)  # what the softmax is taken of
    for phase in ("test", "predict"):
        with pytest.raises(ValueError, match="the loss ldam has made up for the class counts"):
            weights = ["--weights", str(tmp_path / "ldam" / "runs.pt"), "--device", "cpu"]
            main(["--phase", phase, *weights, "--adjust-logits", "1"])
    with pytest.raises(ValueError, match="for a linear classifier"):
        main(["--phase", "test", "--weights", str(tmp_path / "ldam" / "runs.pt"), "--tau-norm", "1"])
