import json

import pytest
import yaml

import main as program
from results import long_tail
from results.long_tail import as_words, read_methods, without

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
    benchmark = long_tail.Benchmark(recipe, [], tmp_path / "out")
    assert benchmark.steps == 20 * 3
    for name, changes in methods.items():
        words = benchmark.command(name, changes, "bone", 3)
        if words[:2] == ["--phase", "test"]:
            assert set(changes) - {"after"} <= set(program.POST_HOC) and "after" in changes
            continue
        config = program.configure(words)
        assert config.modality == "bone" and config.seed == 3
        batches = benchmark.batches({key: changes[key] for key in changes if key not in long_tail.OWN})
        wanted = 60 * changes.get("length", 1)
        assert abs(config.num_epoch * batches - wanted) <= max(batches / 2, 1), name
        assert config.defer_epoch == round(changes.get("defer", 0) * config.num_epoch)
    brl = program.configure(benchmark.command("BRL", methods["BRL"], "joint", 1))  # reverse: 8 + 4 + 2 * 4 + 8 clips
    assert (brl.num_epoch, brl.step, brl.warm_up_epoch, brl.defer_epoch) == (9, [7], 2, 7)
    shap = program.configure(benchmark.command("Shap-Mix", methods["Shap-Mix"], "joint", 1))
    assert shap.base_lr == pytest.approx(0.2)


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
    assert [row.split("|")[1].strip() for row in rows[1:]] == [f"{name}, joint" for name in methods]
    assert all("±" in row for row in rows[1:]) and "2 seeds" in text and "6 steps of 4 clips" in text
    assert text.count("python main.py") == 4 and (out / "per_class.png").stat().st_size > 5000
    crt = json.loads((out / "classifier-re-training" / "joint-1" / "test_metrics.json").read_text())
    assert crt["epoch"] == 1

    before = set(out.rglob("*"))
    long_tail.main([*words, "--table-only"])
    assert set(out.rglob("*")) == before
    with pytest.raises(ValueError, match="cross-entropy/joint-1 holds a run with base_lr 0.1, but now it is 0.2"):
        long_tail.main([*words, "--base-lr", "0.2"])


def test_streams_are_fused(recipe, tmp_path, in_process, capsys):
    out = tmp_path / "out"
    words = ["--config", recipe, "--methods", "cross-entropy", "--seeds", "1", "--modalities", "joint", "bone"]
    long_tail.main([*words, "--out", str(out), "--num-epoch", "1"])
    assert "| cross-entropy, 2 streams |" in capsys.readouterr().out
    fused = json.loads((out / "cross-entropy" / "fused-joint-bone-1" / "ensemble_metrics.json").read_text())
    assert fused["weights"] == {"joint": 1, "bone": 1}


def test_words_of_options():
    options = {"loss": "focal", "step": [3, 5], "freeze_backbone": True, "loss_args": {"gamma": 2, "weight": "none"}}
    words = as_words(options)
    assert words == [
        "--loss", "focal", "--step", "3", "5", "--freeze-backbone", "true", "--loss-args", "gamma=2", 'weight="none"'
    ]  # fmt: skip
    assert without(words, "--step", "--loss") == words[5:]
    read = program.command_line(program.OPTIONS, words, "")
    assert read == options


@pytest.mark.parametrize(
    ("methods", "wanted", "message"),
    [
        ("a: {}", ["b"], "unknown method 'b'; there are a"),
        ("a: {los: focal}", [], "a: unknown key los .nearest: loss"),
        ("a: {after: c}", ["a"], "unknown method 'c'"),
        ("a: [1]", [], "takes options of main.py"),
    ],
)
def test_errors_name_the_method(tmp_path, methods, wanted, message):
    path = tmp_path / "methods.yaml"
    path.write_text(methods)
    with pytest.raises(ValueError, match=message):
        read_methods(path, wanted)


def test_a_process_that_fails_is_said(recipe, tmp_path):
    out = tmp_path / "out"
    words = ["--config", recipe, "--methods", "cross-entropy", "--seeds", "1", "--out", str(out), "--num-epoch", "2"]
    with pytest.raises(ValueError, match="ended with exit status 1 in .*cross-entropy/joint-1"):
        long_tail.main([*words, "--base-lr", "1e30"])
    assert (out / "cross-entropy" / "joint-1" / "log.txt").is_file()


def test_nothing_done_is_said(recipe, tmp_path):
    with pytest.raises(ValueError, match="holds no results"):
        long_tail.main(["--config", recipe, "--out", str(tmp_path / "none"), "--table-only"])
