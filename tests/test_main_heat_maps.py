"""main.py with PoseC3D: heat maps in training and test."""

import json
import pickle

import numpy as np
import pytest
import torch
import yaml

from feeders import StoreWriter
from main import main
from torchlight import checkpoint


@pytest.fixture
def config(tmp_path):
    """A config file for a narrow PoseC3D on sixteen small clips of two classes, poses in pictures."""
    rng = np.random.default_rng(0)
    with StoreWriter(tmp_path / "x.h5", "coco", ["low", "high"], "test", 2, "xys") as writer:
        for i in range(16):
            clip = rng.uniform(-0.5, 0.5, (int(rng.integers(2, 8)), 2, 17, 3))
            clip[..., 7:11, 1] = 0.9 if i % 2 else -0.9  # arms down, arms up
            clip[..., 2] = 1
            writer.add(f"clip {i}", i % 2, clip, "train" if i < 12 else "test", height=480, width=640)
    frames, samples = {"length": 2}, {"length": 2, "num_clips": 2, "seed": 255}
    content = {
        "data_path": str(tmp_path / "x.h5"),
        "train_feeder_args": {"repeat": 4, "transforms": [
            {"uniform_frames": frames}, "compact", {"random_resized_crop": {"size": 16}}, "flip",
            {"heat_map": {"size": 14}},
        ]},
        "test_feeder_args": {"transforms": [
            {"uniform_frames": samples}, "compact", {"heat_map": {"size": 16, "double": True}},
        ]},
        "model": "posec3d", "model_args": {"base_channels": 4, "stage_blocks": [1, 1, 1], "drop_out": 0.1},
        "batch_size": 6, "test_batch_size": 3, "num_epoch": 5, "base_lr": 0.1, "device": ["cpu"], "shots": [2, 5],
    }  # fmt: skip
    path = tmp_path / "heat.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def run(config, directory, *words):
    main(["--config", str(config), "--work-dir", str(directory), *words])
    return json.loads((directory / "test_metrics.json").read_text())


BRL = ["--sampler", "reverse", "--mixing", "rebalanced-partial", "--loss", "action-aware", "--defer-epoch", "1"]


@pytest.mark.parametrize("words", [[], [*BRL, "--modality", "bone"]])
def test_train_then_test(config, tmp_path, words):
    metrics = run(config, tmp_path / "run", *words)
    assert metrics["top1"] == 100 and "input (17, 2, 14, 14)" in (tmp_path / "run" / "log.txt").read_text()
    score = pickle.loads((tmp_path / "run/test_score.pkl").read_bytes())
    assert set(score) == {f"clip {i}" for i in range(12, 16)}
    assert np.exp(next(iter(score.values()))).sum() == pytest.approx(1, abs=1e-5)  # the mean of four views' softmax
    main(["--phase", "test", "--weights", str(tmp_path / "run/runs.pt"), "--device", "cpu", "--test-batch-size", "1"])
    again = pickle.loads((tmp_path / "run/test_score.pkl").read_bytes())
    assert all(np.allclose(score[name], again[name], atol=1e-5) for name in score)


def test_published_weights_and_fine_tuning(config, golden, tmp_path, capsys):
    state, _, _, _ = golden("posec3d_slowonly_keypoint")
    torch.save({"state_dict": state}, tmp_path / "posec3d.pth")
    published = ["--weights", str(tmp_path / "posec3d.pth"), "--ignore-weights", "fc", "--num-epoch", "1"]
    wide = ["--model-args", "base_channels=32", "stage_blocks=[4,6,3]", "--train-feeder-args", "repeat=1"]
    run(config, tmp_path / "run", *published, *wide, "--base-lr", "0")
    weights = checkpoint.load(tmp_path / "run/runs.pt")["model"]
    assert torch.equal(weights["stages.1.2.conv2.0.weight"], state["backbone.layer2.2.conv2.conv.weight"].float())
    assert "2 tensors keep their initial values: fc.weight, fc.bias" in capsys.readouterr().out


def test_profile(config, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torchlight.profiler._seconds_per_call", lambda call, device, seconds: len(str(call())))
    main(["--phase", "profile", "--config", str(config), "--device", "cpu"])
    assert "| posec3d | 17 x 2 x 16 x 16 |" in capsys.readouterr().out


SKELETONS = ["--train-feeder-args", "transforms=[{uniform_frames: {length: 2}}]"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "ctrgcn"], "model: ctrgcn takes joints, but the transforms end with heat_map"),
        ([*SKELETONS, "--test-feeder-args", "transforms=[linspace_frames]"], "model: posec3d takes heat maps: the tra"),
        (
            SKELETONS,
            r"test clips are \(17, 2, 16, 16\) \(V, T, H, W\), but training clips \(3, 2, 17, 2\) \(C, T, V, M\)",
        ),
        (["--modality", "bone-motion"], "heat_map draws joints, or limbs for the modality bone, not bone-motion"),
        (["--model-args", "in_channels=16"], "in_channels is 16, but .* has 17"),
        (["--model-args", "stage_blocks=[3,4]"], "stage_blocks takes the numbers of blocks of three stages, not"),
        (["--model-args", "stage_blok=[3,4]"], r"unknown key stage_blok \(nearest: stage_blocks\)"),
        (["--cl-mode", "ST-Multi-Level"], "cl_mode"),
        (
            ["--train-feeder-args", "transforms=[uniform_frames, {heat_map: {double: true}}]"],
            "num_clips is for tests, and so are views and heat_map: double",
        ),
    ],
)
def test_bad_input(config, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        run(config, tmp_path / "run", *words)
