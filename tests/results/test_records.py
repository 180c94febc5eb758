"""The published results are of the clips that a store made by this code has."""

import json
from pathlib import Path

import pytest

from data.prepare import main as prepare
from feeders import Store
from feeders.balance import class_count
from main import clips_checksum
from torchlight.config import read_yaml

RECORDS = Path(__file__).parents[2] / "results" / "records"


@pytest.fixture(scope="module")
def nw_ucla(reference, tmp_path_factory):
    path = str(tmp_path_factory.mktemp("store") / "nw-ucla.h5")
    prepare(["nw-ucla", "--source", str(reference("datasets/nw-ucla/all_sqe")), "--out", path])
    for imbalance in ("10", "50"):
        words = ["--n-max", "100", "--imbalance", imbalance, "--name", f"train-lt{imbalance}"]
        prepare(["long-tail", "--store", path, *words])
    return Store(path)


@pytest.mark.parametrize("benchmark", [path.name for path in sorted(RECORDS.iterdir())])
def test_results_are_of_these_clips(nw_ucla, benchmark):
    found = {path: json.loads(path.read_text()) for path in (RECORDS / benchmark).rglob("test_metrics.json")}
    assert found
    for path, metrics in found.items():
        config, environment = path.with_name("config.yaml"), path.with_name("env.json")
        if config.is_file():
            split = read_yaml(config)["train_feeder_args"].get("split", "train")
            train = nw_ucla.split(split)
            assert metrics["count"] == class_count(nw_ucla.label[train], len(nw_ucla.classes)).tolist()
            checksum = clips_checksum(nw_ucla, train)
            assert json.loads(environment.read_text()).get("training_checksum", checksum) == checksum, environment
        test = clips_checksum(nw_ucla, nw_ucla.split("test"))
        assert metrics.get("clips_checksum", test) == test, path
