"""Two processes on the CPU (gloo), started as a user would, against one."""

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from torchlight import checkpoint

ROOT = Path(__file__).parents[2]
BRL = ["--sampler", "reverse", "--mixing", "rebalanced-partial", "--loss", "action-aware", "--defer-epoch", "1"]
FRHEAD = ["--cl-mode", "ST-Multi-Level"]
RANDOM = ["center", {"view_rotation": {"x": 20}}, "min_max", {"random_frames": {"length": 8}}]


@pytest.fixture
def config(tmp_path, tiny_store):
    path = tmp_path / "tiny.yaml"
    content = {
        "data_path": str(tiny_store),
        "train_feeder_args": {"repeat": 2, "transforms": RANDOM},
        "test_feeder_args": {"transforms": ["center", "min_max", {"linspace_frames": {"length": 8}}]},
        "model_args": {"base_channels": 8}, "batch_size": 5, "test_batch_size": 3, "num_epoch": 2, "base_lr": 1e-5,
        "nesterov": True, "device": ["cpu"], "shots": [2, 5], "log_interval": 1,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return path


def launch(processes, *words):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    return subprocess.Popen(
        [sys.executable, *(launcher if processes > 1 else []), *map(str, words)], cwd=ROOT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def finish(process):
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return out


def start(processes, config, work, *words):
    return launch(processes, "main.py", "--config", config, "--work-dir", work, *words)


def run(*arguments):
    return finish(start(*arguments))


def history(work):
    return [json.loads(line) for line in (work / "metrics.jsonl").read_text().splitlines()]


STEPS = """
import sys
import torch
from graph import build_graph
from model import build_model
from model.frhead import FRHead
from torchlight import distributed
from torchlight.device import place

cpu = torch.device("cpu")
team, _ = distributed.join([cpu])
torch.manual_seed(0)
model = FRHead(build_model("ctrgcn", 4, 1, build_graph("ucla"), base_channels=8), 8).double()
wrapped = place(model, [cpu], team, sync_bn=True)
x = torch.randn(5, 3, 8, 20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
target = torch.eye(4, dtype=torch.float64)[torch.tensor([0, 1, 2, 3, 0])]
for step in range(3):
    output = team.gather(wrapped(x[team.rows(5)]), 5)
    loss = -(target * output[0].log_softmax(1)).sum(1).mean() + model.loss(output, target)
    model.zero_grad()
    loss.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
if team.writes:
    torch.save({"loss": loss.detach(), **model.state_dict()}, sys.argv[1])
distributed.leave()
"""


def test_gradients_and_statistics_are_those_of_one_process(tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    for processes in (1, 2):
        finish(launch(processes, tmp_path / "steps.py", tmp_path / f"{processes}.pt"))
    one, two = (torch.load(tmp_path / f"{processes}.pt", weights_only=True) for processes in (1, 2))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-10, rtol=1e-10)


def test_two_processes_train_as_one(config, tmp_path):
    words = [*BRL, *FRHEAD, "--accumulate", "2"]
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    run(1, config, alone, *words)
    printed = run(2, config, shared, *words, "--sync-bn")
    assert "2 processes" in printed and printed.count("epoch 1/2") == 1  # one of them prints
    for one, two in zip(history(alone), history(shared), strict=True):
        assert two["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)
        assert two["test"]["loss"] == pytest.approx(one["test"]["loss"], rel=1e-3)
        assert two["train_top1"] == one["train_top1"]
    weights = [checkpoint.load(work / "runs.pt")["model"] for work in (alone, shared)]
    assert weights[0].keys() == weights[1].keys()
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, atol=1e-3, rtol=1e-3)
    scores = [pickle.loads((work / "test_score.pkl").read_bytes()) for work in (alone, shared)]
    assert list(scores[0]) == list(scores[1])
    assert all(np.allclose(scores[0][name], scores[1][name], atol=1e-2) for name in scores[0])

    run(2, config, tmp_path / "again", "--phase", "test", "--weights", str(shared / "runs.pt"))
    again = pickle.loads((tmp_path / "again" / "test_score.pkl").read_bytes())
    assert all(np.allclose(again[name], scores[1][name], atol=1e-5) for name in again)


THREADS = """
import sys
from pathlib import Path
from main import main

main(sys.argv[1:])
names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
assert not [name for name in names if "gloo" in name], names
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_no_thread_outlives_the_group(config, tmp_path):
    """One that does may abort a process whose work is done."""
    (tmp_path / "threads.py").write_text(THREADS)
    finish(launch(2, tmp_path / "threads.py", "--config", config, "--work-dir", tmp_path / "run", "--num-epoch", "1"))


def test_two_processes_stop_together_and_continue(config, tmp_path):
    words = ["--num-epoch", "2", "--train-feeder-args", "repeat=8"]
    run(2, config, tmp_path / "whole", *words)
    work = tmp_path / "stopped"
    text = "epoch 1  batch 2/"
    process = launch(2, "tests/hold.py", text, "--config", config, "--work-dir", work, *words)
    while text not in ((work / "log.txt").read_text() if (work / "log.txt").exists() else ""):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)  # the launcher hands it on
    process.communicate(timeout=60)
    saved = checkpoint.load(work / "last.pt")
    assert (saved["epoch"], saved["step"]) > (0, 1) and not (work / "runs.pt").exists()
    run(2, config, work, *words, "--resume")
    one, other = (checkpoint.load(tmp_path / name / "runs.pt")["model"] for name in ("whole", "stopped"))
    assert all(torch.equal(value, other[key]) for key, value in one.items())
    # each process has running statistics of its own rows; all test with those that are saved
    run(1, config, tmp_path / "test", "--phase", "test", "--weights", work / "runs.pt")
    scores = [pickle.loads((place / "test_score.pkl").read_bytes()) for place in (work, tmp_path / "test")]
    assert all(np.allclose(scores[0][name], scores[1][name], atol=1e-5) for name in scores[0])


def test_a_batch_too_small_to_share(config, tmp_path):
    process = start(2, config, tmp_path / "run", "--batch-size", "1")
    _, err = process.communicate(timeout=120)
    assert process.returncode and "batches of 1 clips cannot be shared by 2 processes" in err
    assert not (tmp_path / "run").exists()
