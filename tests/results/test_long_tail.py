import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
import yaml

import main as program
from feeders import Store
from feeders.store import add_split
from results import long_tail
from results.long_tail import as_words, without
from results.methods import read_methods

ROOT = long_tail.ROOT


@pytest.fixture
def recipe(tmp_path, tiny_store):
    path = tmp_path / "tiny" / "ce.yaml"
    path.parent.mkdir()
    content = {
        "data_path": str(tiny_store),
        "train_feeder_args": {"transforms": ["center", {"random_frames": {"length": 8}}]},
        "test_feeder_args": {"transforms": ["center", {"linspace_frames": {"length": 8}}]},
        "model": "stgcn", "model_args": {"base_channels": 8}, "batch_size": 4, "num_epoch": 20, "step": [15],
        "warm_up_epoch": 5, "device": ["cpu"], "shots": [2, 5], "base_lr": 0.1,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(content))
    return str(path)


@pytest.fixture
def in_process(monkeypatch):
    """Runs of main.py without a process for each: starting PyTorch takes longer than they do."""
    started = []

    def start(words):
        started.append(" ".join(words))
        program.main(words)

    monkeypatch.setattr(long_tail, "start", start)
    return started


def test_every_method_is_a_valid_run(recipe, tmp_path):
    """All of config/methods.yaml: main.py takes it, and it has as many steps as the recipe, to half an epoch of its."""
    methods = read_methods(ROOT / "config" / "methods.yaml", [])
    assert {"cross-entropy", "BRL", "Shap-Mix", "LDAM-DRW", "balanced softmax", "classifier re-training"} <= set(
        methods
    )
    benchmark = long_tail.Benchmark(recipe, {}, tmp_path / "out")
    assert benchmark.batches == 20 * 3

    def configured(name, *place):
        return program.configure(benchmark.run(name, methods[name], *place).words)

    for name, changes in methods.items():
        if set(changes) & set(program.POST_HOC):
            assert set(changes) - {"after"} <= set(program.POST_HOC) and "after" in changes
            continue
        config = configured(name, "bone", 3)
        assert config.modality == "bone" and config.seed == 3
        batches = benchmark.epoch_batches(changes)
        wanted = 60 * changes.get("length", 1)
        assert abs(config.num_epoch * batches - wanted) <= max(batches / 2, 1), name
        assert config.defer_epoch == round(changes.get("defer", 0) * config.num_epoch)
    brl = configured("BRL", "joint", 1)  # reverse: 8 + 4 + 2 * 4 + 8 clips
    assert (brl.num_epoch, brl.step, brl.warm_up_epoch, brl.defer_epoch) == (9, [7], 2, 7)
    assert configured("Shap-Mix", "joint", 1).base_lr == pytest.approx(0.2)
    benchmark = long_tail.Benchmark(recipe, {"optimizer": "AdamW"}, tmp_path / "out")
    assert configured("Shap-Mix", "joint", 1).base_lr == pytest.approx(0.1)


def table_of(text):
    """The rows of a table.md, or of its text."""
    lines = (text if isinstance(text, str) else text.read_text()).splitlines()
    return [line for line in lines if line.startswith("| ")]


def test_runs_what_is_missing_and_writes_the_table(recipe, tmp_path, in_process):
    out = tmp_path / "out"
    methods = ["cross-entropy", "reverse sampling", "logit adjustment in the test", "classifier re-training"]
    words = ["--config", recipe, "--methods", *methods, "--out", str(out), "--num-epoch", "2", "--seeds", "1"]
    long_tail.main(words)
    first = (out / "cross-entropy" / "joint-1" / "runs.pt").stat().st_mtime_ns
    (out / "reverse-sampling" / "joint-1" / "test_metrics.json").unlink()  # as if it had been stopped before the end
    words.append("2")
    in_process.clear()
    long_tail.main(words)
    assert (out / "cross-entropy" / "joint-1" / "runs.pt").stat().st_mtime_ns == first
    assert len(in_process) == 5 and in_process[0].endswith("reverse-sampling/joint-1 --resume")
    text = (out / "table.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    named = [row.split("|")[1].strip().removesuffix(", joint") for row in rows[1:]]
    assert named == [name for name in read_methods(long_tail.METHODS) if name in methods]
    assert all("±" in row for row in rows[1:]) and "number of seeds: 2." in text and "6 batches of 4 clips" in text
    assert text.count("python main.py") == 4 and (out / "per_class.png").stat().st_size > 5000
    crt = json.loads((out / "classifier-re-training" / "joint-1" / "test_metrics.json").read_text())
    assert crt["epoch"] == 1

    environment = out / "reverse-sampling" / "joint-1" / "env.json"
    earlier = json.loads(environment.read_text()) | {"torch": "2.4.0", "date": "2025-01-01T10:00:00+0000"}
    environment.write_text(json.dumps(earlier))
    before = set(out.rglob("*"))
    long_tail.main([*words, "--table-only"])
    assert set(out.rglob("*")) == before
    text = (out / "table.md").read_text()
    versions = ", ".join(re.escape(version) for version in sorted({str(torch.__version__), "2.4.0"}))
    assert re.search(rf"cpu; PyTorch {versions}; 2025-01-01 to 20\d\d-\d\d-\d\d\.", text)
    for more in ([], ["--table-only"]):
        with pytest.raises(ValueError, match="cross-entropy/joint-1 holds a run with base_lr 0.1, but now it is 0.2"):
            long_tail.main([*words, "--base-lr", "0.2", *more])

    # results outlive the weights
    weights, kept = out / "cross-entropy" / "joint-1" / "runs.pt", tmp_path / "runs.pt"
    weights.rename(kept)
    long_tail.main([*words, "--table-only"])
    assert (out / "table.md").read_text() == text
    kept.rename(weights)

    # a table loses nothing to a series of fewer methods and seeds, nor to one of other streams
    long_tail.main([*words[:-1], "--methods", "cross-entropy"])
    long_tail.main([*words[:-1], "--methods", "cross-entropy", "--modalities", "bone"])
    assert table_of(out / "table.md") == table_of(text)
    assert [row.split(",")[0] for row in table_of(out / "table-bone.md")[2:]] == ["| cross-entropy"]

    # what was written again without a change is no other run; what comes after one that was made again is, too
    again = ["--resume", "--work-dir", str(out / "cross-entropy" / "joint-1")]
    program.main(again)
    in_process.clear()
    long_tail.main(words)
    assert in_process == []
    for name in ("runs.pt", "test_metrics.json"):
        shutil.copy(out / "cross-entropy" / "joint-2" / name, out / "cross-entropy" / "joint-1" / name)
    crt = "classifier-re-training/joint-1"
    with pytest.raises(ValueError, match=f"{crt} holds a run that started from weights before .*runs.pt: remove it"):
        long_tail.main(words)
    shutil.rmtree(out / crt)
    long_tail.main(words)
    assert len(in_process) == 2 and "--adjust-logits" in in_process[0] and "--freeze-backbone" in in_process[1]
    again = [out / "logit-adjustment-in-the-test" / f"joint-{seed}" / "test_metrics.json" for seed in (1, 2)]
    one, two = (json.loads(path.read_text()) for path in again)
    assert one["checksum"] == two["checksum"] and one["loss"] == two["loss"]


def test_streams_are_fused(recipe, tmp_path, in_process, capsys):
    out = tmp_path / "out"
    words = ["--config", recipe, "--methods", "cross-entropy", "--seeds", "1", "--modalities", "joint", "bone"]
    long_tail.main([*words, "--out", str(out), "--num-epoch", "1"])
    assert "| cross-entropy, 2 streams |" in capsys.readouterr().out
    fused = json.loads((out / "cross-entropy" / "fused-joint-bone-1" / "ensemble_metrics.json").read_text())
    assert fused["weights"] == {"joint": 1, "bone": 1}
    text = (out / "table-joint-bone.md").read_text()
    for path in sorted(out.rglob("test_score.pkl")):  # first of one of them
        path.unlink()
        long_tail.main([*words, "--out", str(out), "--num-epoch", "1", "--table-only"])
        assert (out / "table-joint-bone.md").read_text() == text
    long_tail.main([*words, "--out", str(out), "--num-epoch", "1", "--table-only"])
    assert (out / "table-joint-bone.md").read_text() == text
    result = out / "cross-entropy" / "bone-1" / "test_metrics.json"
    before = result.read_text()
    result.write_text(json.dumps(json.loads(before) | {"per_class": [0.0] * 4}))  # the fused result is of another run
    long_tail.main([*words, "--out", str(out), "--num-epoch", "1"])
    assert len(table_of(out / "table-joint-bone.md")) == 4
    result.write_text(before)
    shutil.rmtree(out / "cross-entropy" / "fused-joint-bone-1")
    long_tail.main([*words, "--out", str(out), "--num-epoch", "1"])
    assert re.search("fused-joint-bone-1: .*joint-1 has no test_score.pkl to fuse", capsys.readouterr().out)
    assert [row.split(" | ")[0] for row in table_of(out / "table-joint-bone.md")[2:]] == [
        f"| cross-entropy, {modality}".ljust(len("| cross-entropy, joint")) for modality in ("joint", "bone")
    ]


def test_what_starts_from_weights_that_are_gone(recipe, tmp_path, in_process, capsys):
    out = tmp_path / "out"
    words = ["--config", recipe, "--seeds", "1", "--out", str(out), "--num-epoch", "1", "--methods"]
    long_tail.main([*words, "cross-entropy"])
    (out / "cross-entropy" / "joint-1" / "runs.pt").unlink()
    in_process.clear()
    with pytest.raises(ValueError, match="no result in .*tau-normalised-classifier/joint-1: what"):
        long_tail.main([*words, "tau-normalised classifier"])
    assert "it starts from" in capsys.readouterr().out and in_process == []
    assert "cross-entropy, joint" in (out / "table.md").read_text()


def test_words_of_options():
    options = {"loss": "focal", "step": [3, 5], "freeze_backbone": True, "loss_args": {"gamma": 2, "weight": "none"}}
    words = as_words(options)
    assert words == [
        "--loss", "focal", "--step", "3", "5", "--freeze-backbone", "true", "--loss-args", "gamma=2", 'weight="none"'
    ]  # fmt: skip
    assert without(words, "--step", "--loss") == words[5:]
    read = program.command_line(program.OPTIONS, words, "")
    assert read == options


def test_ctrl_c_lets_the_run_save(recipe, tmp_path):
    out = tmp_path / "out"
    words = ["--config", recipe, "--methods", "cross-entropy", "--seeds", "1", "--out", str(out), "--num-epoch", "9999"]
    process = subprocess.Popen(
        [sys.executable, ROOT / "results" / "long_tail.py", *words], start_new_session=True, stdout=subprocess.DEVNULL
    )
    log, end = out / "cross-entropy" / "joint-1" / "metrics.jsonl", time.monotonic() + 60
    while not log.is_file() and time.monotonic() < end:
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "--resume continues there" in (out / "cross-entropy" / "joint-1" / "log.txt").read_text()


def test_no_run_begins_after_sigterm(tmp_path, monkeypatch):
    """Not even where the signal finds a run that ends well."""
    ready = tmp_path / "ready"
    handler = "signal.signal(signal.SIGTERM, lambda *_: None)"
    text = f"import pathlib, signal, time\n{handler}\npathlib.Path({str(ready)!r}).touch()\ntime.sleep(1)\n"
    (tmp_path / "main.py").write_text(text)
    monkeypatch.setattr(long_tail, "ROOT", tmp_path)
    assert long_tail.start([]) == 0
    ready.unlink()

    def send():
        while not ready.is_file():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send, daemon=True)
    sender.start()
    with pytest.raises(SystemExit) as stopped:
        long_tail.Run(None, ["--work-dir", str(tmp_path / "run")], None).carry_out()
    sender.join()
    assert stopped.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--loss", "focal"], "loss is not for all runs"),
        (["--modality", "bone"], "modality is not for all runs"),
        (["--loss-args.gamma", "2"], "loss_args is not for all runs"),
        (["--los", "focal"], "unknown argument --los"),
        (["--seeds", "1", "-1"], "--seeds takes numbers from 0 on, not -1"),
    ],
)
def test_options_that_methods_set(recipe, tmp_path, words, message):
    with pytest.raises(ValueError, match=message):
        long_tail.main(["--config", recipe, "--out", str(tmp_path / "x"), *words])


def test_a_recipe_has_to_be_plain(recipe, tmp_path):
    path = tmp_path / "brl.yaml"
    path.write_text(f"base: {recipe}\nsampler: reverse\n")
    with pytest.raises(ValueError, match="brl.yaml: sampler makes this recipe a method"):
        long_tail.main(["--config", str(path), "--out", str(tmp_path / "x")])


@pytest.mark.parametrize(
    ("methods", "wanted", "message"),
    [
        ("a: {}", ["b"], "unknown method 'b'; there are a"),
        ("a: {los: focal}", [], "a: unknown key los .nearest: loss"),
        ("a: {after: c, tau_norm: 1}", ["a"], "unknown method 'c'"),
        ("a: [1]", [], "takes options of main.py"),
        ("{a: {after: b, loss: focal}, b: {after: a, loss: focal}}", ["a"], "comes after itself"),
        ("{a: {times: {base_lrr: 2}}}", [], "a: times: base_lrr: 2 is no factor"),
        ("{a: {length: half}}", [], "a: length cannot be 'half'"),
        ("{a: {defer: 5, loss: focal}}", [], "defer one below 1"),
        ("{a: {}, b: {after: a, length: 0.2}}", [], "b changes nothing"),
        ("{a b: {}, A-b: {}}", [], "they name directories"),
        # of a method that is not wanted, too: it is said before anything runs
        ("{a: {}, 2024: {loss: focal}}", ["a"], "methods.yaml: 2024 is no name .put it in quotes"),
        ("{a: {}, b: {length: .inf}}", ["a"], "b: length is a share over 0"),
        ("{a: {}, b: {length: .nan}}", ["a"], "b: length is a share over 0"),
        ("{a: {}, b: {defer: .nan, loss: focal}}", ["a"], "b: length is a share over 0, defer one below 1"),
        ("{a: {}, b: {times: {base_lr: .nan}}}", ["a"], "b: times: base_lr: nan is no factor"),
        ("{a: {}, b: {times: {base_lr: true}}}", ["a"], "b: times: base_lr: True is no factor"),
        ("{a: {}, b: {loss: focall}}", ["a"], "methods.yaml: b: loss must be one of .*not 'focall' .nearest: focal"),
        ("{a: {}, b: {base_lr: high}}", ["a"], "methods.yaml: b: base_lr must be of type float"),
        *((f"{{a: {{}}, b: {{{key}: 1}}}}", ["a"], f"b: {key} is not for a method") for key in (
            "config", "phase", "resume", "modality", "seed", "work_dir", "val_ratio", "num_epoch", "defer_epoch",
            "data_path", "device")),
        ("{a: {}, b: {tau_norm: 1}}", ["a"], "b: tau_norm is for what comes after another method"),
        ("{a: {}, b: {after: a, tau_norm: 1, loss: focal}}", ["a"], "b: tau_norm tests .*: loss does not go with it"),
        ("{a: {}, b: {ignore_weights: [fc.]}}", ["a"], "b: ignore_weights is for what comes after another method"),
        ("{a: {}, b: {after: a, tau_norm: 1}, c: {after: b, tau_norm: 2}}", ["c"], "c: b trains no weights"),
    ],
)  # fmt: skip
def test_errors_name_the_method(tmp_path, methods, wanted, message):
    path = tmp_path / "methods.yaml"
    path.write_text(methods)
    with pytest.raises(ValueError, match=message):
        read_methods(path, wanted)


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        ("b: {model_args: {}}", "methods.yaml: b: model_args cannot be empty"),
        ("b: {train_feeder_args: {splitt: x}}", "methods.yaml: b: .*train_feeder_args: skeleton: unknown key splitt"),
        ("b: {sampler: reverse, loss: focal, loss_args: {gama: 2}}", "methods.yaml: b: loss_args: focal: unknown key"),
        ("b: {mixing_args: {alpha: 1}}", "methods.yaml: b: mixing_args are given, but mixing is none"),
        ("b: {mixing: mixup, mixing_args: {alfa: 1}}", "methods.yaml: b: mixing_args: mixup: unknown key alfa"),
        ("b: {loss_args: {smoothing: 7}}", "methods.yaml: b: loss_args: .*smoothing must"),
        ("b: {model_args: {nope: 1}}", "methods.yaml: b: .*model_args: .*nope"),
        ("b: {test_feeder_args: {split: none}}", "methods.yaml: b: .*test_feeder_args: .*no split 'none'"),
        ("b: {length: 1.0e+308}", "methods.yaml: b: cannot convert float infinity"),
    ],
)
def test_what_main_would_not_take_is_said_before_anything_runs(
    recipe, tmp_path, monkeypatch, in_process, methods, message
):
    (tmp_path / "methods.yaml").write_text("a: {}\n" + methods)
    monkeypatch.setattr(long_tail, "METHODS", tmp_path / "methods.yaml")
    with pytest.raises(ValueError, match=message):
        long_tail.main(["--config", recipe, "--methods", "a", "--out", str(tmp_path / "out")])
    assert in_process == [] and not (tmp_path / "out").exists()


def test_results_of_other_clips_are_refused(recipe, tmp_path, tiny_store, in_process, monkeypatch, change_split):
    """Of a split that was made anew: other clips, though as many of each class; of other test clips or frames."""
    mine, out = tmp_path / "mine.h5", tmp_path / "out"
    shutil.copy(tiny_store, mine)
    store = Store(mine)
    train = store.split("train")
    add_split(mine, "lt", train[[0, 1, 2, 8, 9, 12, 14]])
    methods = ["cross-entropy", "logit adjustment in the test"]
    words = ["--config", recipe, "--data-path", str(mine), "--train-feeder-args.split", "lt", "--num-epoch", "1"]
    words += ["--out", str(out), "--seeds", "1", "--methods", *methods]
    long_tail.main(words)
    in_process.clear()
    long_tail.main(words)
    assert in_process == []
    text = (out / "table.md").read_text()
    for chosen in ([0, 1, 3, 8, 9, 12, 14], [0, 1, 8, 9, 12, 14]):
        add_split(mine, "lt", train[chosen], replace=True)
        for more in ([], ["--table-only"]):
            with pytest.raises(
                ValueError, match=r"cross-entropy/joint-1 holds a run with other clips, or other frames"
            ):
                long_tail.main([*words, *more])
    (out / "cross-entropy").rename(tmp_path / "kept")  # without it the one that comes after it is named
    with pytest.raises(ValueError, match="logit-adjustment-in-the-test/joint-1 holds a run with other clips"):
        long_tail.main(words)
    (tmp_path / "kept").rename(out / "cross-entropy")
    add_split(mine, "lt", train[[0, 1, 2, 8, 9, 12, 14]], replace=True)
    change_split(mine, "test", store.split("test")[1:])
    with pytest.raises(ValueError, match="cross-entropy/joint-1 holds a run with other clips"):
        long_tail.main(words)
    change_split(mine, "test", store.split("test"))
    environment = out / "cross-entropy" / "joint-1" / "env.json"  # results of before these checksums
    environment.write_text(json.dumps({k: v for k, v in json.loads(environment.read_text()).items() if "sum" not in k}))
    long_tail.main(words)
    assert in_process == [] and (out / "table.md").read_text() == text
    monkeypatch.chdir(tmp_path)
    long_tail.main([*words, "--data-path", "mine.h5"])  # the same store
    assert in_process == []
    environment.write_text("{}")
    with pytest.raises(ValueError, match="joint-1/env.json: not the environment of a run"):
        long_tail.main([*words, "--table-only"])


def test_what_another_process_has_done_meanwhile_is_a_result(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(
        long_tail, "start", lambda words: program.main(words) or 2
    )  # "another process is writing to it"
    words = ["--config", recipe, "--methods", "cross-entropy", "--seeds", "1", "--out", str(tmp_path), "--num-epoch"]
    long_tail.main([*words, "1"])
    assert "cross-entropy, joint" in (tmp_path / "table.md").read_text()


def test_a_run_that_fails_is_said_and_the_others_go_on(recipe, tmp_path, monkeypatch):
    (tmp_path / "methods.yaml").write_text("diverging: {base_lr: 1.0e+30}\nplain: {}\n")
    monkeypatch.setattr(long_tail, "METHODS", tmp_path / "methods.yaml")
    out = tmp_path / "out"
    words = ["--config", recipe, "--seeds", "1", "--out", str(out), "--num-epoch", "2"]
    with pytest.raises(ValueError, match="no result in .*diverging/joint-1: what is printed above says why"):
        long_tail.main(words)
    assert "loss is" in (out / "diverging" / "joint-1" / "log.txt").read_text()
    assert "plain, joint" in (out / "table.md").read_text() and "diverging, joint" not in (out / "table.md").read_text()
    with pytest.raises(ValueError, match="no result in .*diverging"):
        long_tail.main([*words, "--methods", "diverging"])


def test_nothing_done_is_said(recipe, tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        long_tail.main(["--config", recipe, "--out", str(tmp_path / "none"), "--table-only"])
