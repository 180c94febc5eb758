import csv
import json
import pickle
import shutil

import numpy as np
import pytest
import torch
import yaml

from data import prepare
from feeders import Store, StoreWriter, build_feeder
from graph import describe_layout, read_layout
from main import main
from torchlight import checkpoint


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_store):
    """The directory of a run on the tiny store."""
    place = tmp_path_factory.mktemp("trained")
    transforms = ["center", "min_max", {"linspace_frames": {"length": 8}}]
    content = {
        "data_path": str(tiny_store), "train_feeder_args": {"transforms": transforms},
        "test_feeder_args": {"transforms": transforms}, "model": "ctrgcn-baseline", "model_args": {"base_channels": 8},
        "num_epoch": 1, "device": ["cpu"],
    }  # fmt: skip
    (place / "tiny.yaml").write_text(yaml.safe_dump(content))
    main(["--config", str(place / "tiny.yaml"), "--work-dir", str(place / "run")])
    return place / "run"


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it."""
    return shutil.copytree(trained, tmp_path / "run")


@pytest.fixture
def unlabelled(tmp_path, tiny_store):
    """A store of the tiny one's test clips, without labels: split new."""
    tiny, path = Store(tiny_store), tmp_path / "new.h5"
    with StoreWriter(path, "ucla", tiny.classes, source="test") as writer:
        for i in tiny.split("test"):
            writer.add(tiny.name[i], -1, tiny.clip(i), "new")
    return path


def predict(run, *words):
    main(["--phase", "predict", "--weights", str(run / "runs.pt"), "--device", "cpu", *words])


def read(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_clips_without_labels_get_the_probabilities_of_the_test(run, unlabelled, tiny_store, capsys):
    files = {path.name for path in run.iterdir()}
    predict(run, "--data-path", str(unlabelled), "--test-feeder-args", "split=new")
    assert {path.name for path in run.iterdir()} - files == {"predict-runs-joint-new-new"}
    rows = read(run / "predict-runs-joint-new-new" / "predictions.csv")
    score, classes = pickle.loads((run / "test_score.pkl").read_bytes()), Store(tiny_store).classes
    assert [row["clip"] for row in rows] == [name for name in score for _ in classes]
    assert [row["rank"] for row in rows] == list("1234") * len(score)
    for name, logits in score.items():
        found = [(row["class"], float(row["probability"])) for row in rows if row["clip"] == name]
        order = np.argsort(-logits, kind="stable")
        assert [name for name, _ in found] == [classes[c] for c in order]
        shares = np.exp(logits[order] - logits.max())
        shares /= shares.sum()
        np.testing.assert_allclose([share for _, share in found], shares, atol=1e-4)
    shown = capsys.readouterr().out
    assert f"test_0_0: {rows[0]['class']} {rows[0]['probability']}, " in shown and "8 clips: " in shown


def test_labels_are_not_needed_but_may_be_there(run):
    predict(run)
    assert len(read(run / "predict-runs" / "predictions.csv")) == 8 * 4


def test_predictions_of_other_clips_are_not_replaced(run, unlabelled, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    other = shutil.copy(unlabelled, tmp_path / "elsewhere" / "new.h5")
    place, words = run / "predict-runs-joint-new-new", ["--test-feeder-args", "split=new"]
    for _ in range(2):
        predict(run, "--data-path", str(unlabelled), *words)
    before = {path: path.read_bytes() for path in place.iterdir()}
    with pytest.raises(ValueError, match="predictions.json is of a test with data_path .*new.h5, not .*/new.h5"):
        predict(run, "--data-path", str(other), *words)
    assert {path: path.read_bytes() for path in place.iterdir()} == before
    predict(run, "--data-path", str(other), *words, "--overwrite")
    assert json.loads((place / "predictions.json").read_text())["data_path"] == str(other)


def test_only_a_prediction_takes_clips_without_labels(run, unlabelled):
    words = ["--data-path", str(unlabelled), "--device", "cpu", "--test-feeder-args", "split=new"]
    with pytest.raises(ValueError, match="new.h5: clip test_0_0 has no label: it is for --phase predict"):
        main(["--phase", "test", "--weights", str(run / "runs.pt"), *words])
    config = ["--config", str(run / "config.yaml"), "--work-dir", str(run.parent / "other")]
    with pytest.raises(ValueError, match="clip test_0_0 has no label"):
        main([*config, *words, "--train-feeder-args", "split=new"])
    assert not (run.parent / "other").exists()


def test_another_skeleton_or_other_classes_are_refused(run, tmp_path, tiny_store):
    tiny, path = Store(tiny_store), tmp_path / "other.h5"
    turned = describe_layout(tiny.layout) | {"name": "turned", "joints": list(tiny.layout.joints)[::-1]}
    classes = [f"{name}!" for name in tiny.classes]
    cases = [(("ucla", classes), "classes"), ((read_layout(turned), tiny.classes), "layout")]
    for (layout, names), what in cases:
        with StoreWriter(path, layout, names, source="test") as writer:
            writer.add("clip", -1, tiny.clip(0), "test")
        for phase in ("predict", "export"):
            with pytest.raises(ValueError, match=f"runs.pt: trained on other {what} than .*other.h5 has"):
                main(["--phase", phase, "--weights", str(run / "runs.pt"), "--data-path", str(path)])
    with pytest.raises(ValueError, match="--weights is missing: what to predict"):
        main(["--phase", "predict", "--data-path", str(path)])
    with pytest.raises(ValueError, match="a model is exported on the CPU"):
        main(["--phase", "export", "--weights", str(run / "runs.pt"), "--device", "0"])
    assert not list(run.glob("predict*")) and not list(run.glob("export*"))


def test_a_foreign_file_that_looks_like_a_run(run, tmp_path):
    saved = checkpoint.load(run / "runs.pt")
    torch.save({key: saved[key] for key in ("model", "config")}, tmp_path / "foreign.pt")
    with pytest.raises(ValueError, match="foreign.pt is of no run here: --config has to say what it is"):
        main(["--phase", "predict", "--weights", str(tmp_path / "foreign.pt")])


def test_a_manifest_without_labels(run, tmp_path, tiny_store, capsys):
    tiny = Store(tiny_store)
    (tmp_path / "clips").mkdir()
    np.save(tmp_path / "clips" / "mine.npy", tiny.clip(0))
    (tmp_path / "list.csv").write_text("file,label,split\nmine.npy,,test\n")
    about = {"layout": "ucla", "classes": tiny.classes, "clips": "clips", "manifest": "list.csv"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(about))
    prepare.main(["custom", "--source", str(tmp_path / "mine.yaml"), "--out", str(tmp_path / "mine.h5")])
    assert "split test: 1 clips, per class 0 0 0 0, 1 without a label" in capsys.readouterr().out
    prepare.main(["check", str(tmp_path / "mine.h5"), "--plot", str(tmp_path / "mine.png"), "--each-class"])
    assert (tmp_path / "mine.png").is_file()
    predict(run, "--data-path", str(tmp_path / "mine.h5"))
    assert read(run / "predict-runs-joint-test-mine" / "predictions.csv")[0]["clip"] == "mine"


def test_an_exported_run_gives_the_scores_of_its_test(run, tiny_store, capsys):
    main(["--phase", "export", "--weights", str(run / "runs.pt")])
    assert "(N, 3, 8, 20, 1), 4 logits" in capsys.readouterr().out
    facts = {"facts.json": ""}
    program = torch.export.load(run / "export-runs" / "model.pt2", extra_files=facts).module()
    facts = json.loads(facts["facts.json"])
    assert facts["classes"] == Store(tiny_store).classes and facts["shape"] == ["N", 3, 8, 20, 1]
    feeder = build_feeder(tiny_store, modality=facts["modality"], **facts["test_feeder_args"])
    score = pickle.loads((run / "test_score.pkl").read_bytes())
    with torch.no_grad():
        logits = program(feeder.batch(range(8))[0]).numpy()
    np.testing.assert_allclose(logits, [score[name] for name in feeder.names], rtol=1e-4, atol=1e-4)
