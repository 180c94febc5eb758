"""Every configuration that is shipped: its feeder, its model and a training step, on clips of its layout."""

from pathlib import Path

import numpy as np
import pytest
import torch

from feeders import Store, StoreWriter
from graph import LAYOUTS, read_layout
from main import configure, make_batches, make_feeder, make_model
from model.loss import build_loss
from torchlight.config import read_yaml

ROOT = Path(__file__).parents[2]
RUNS = sorted(
    str(path.relative_to(ROOT / "config"))
    for path in (ROOT / "config").glob("*/*.yaml")
    if path.parent.name != "recipe" and path.name != "data.yaml"
)


def layout_of(data_path):
    """The layout and the channels of a store, and its persons, by its name."""
    stem = Path(data_path).stem
    if stem in ("ntu60", "ntu120"):
        return "ntu", "xyz", 2
    if stem == "demo":
        return "ntu", "xyz", 1
    if stem == "nw-ucla":
        return "ucla", "xyz", 1
    if stem == "kinetics-skeleton":
        return "openpose", "xys", 2
    if stem == "custom":
        return read_layout(read_yaml(ROOT / "config/custom/data.yaml")["layout"]), "xyz", 2
    return "coco", "xys", 2


@pytest.fixture
def small_store(tmp_path):
    """small_store(config): a store with the splits that the configuration names; 4 classes of 6, 3, 2 and 1 clips."""

    def make(config):
        layout, channels, persons = layout_of(config.data_path)
        V = len(LAYOUTS[layout].joints if isinstance(layout, str) else layout.joints)
        train, test = (getattr(config, f"{part}_feeder_args")["split"] for part in ("train", "test"))
        rng = np.random.default_rng(0)
        picture = {} if channels == "xyz" else {"height": 1080, "width": 1920}
        with StoreWriter(tmp_path / "x.h5", layout, list("abcd"), "test", persons, channels) as writer:
            for label, count in enumerate((6, 3, 2, 1)):
                for i in range(count):
                    shape = (int(rng.integers(1, 150)), persons, V, len(channels))
                    writer.add(f"{label}-{i}", label, rng.normal(size=shape), train, **picture)
            writer.add("short", 0, rng.normal(size=(1, persons, V, len(channels))), test, **picture)
        return Store(tmp_path / "x.h5")

    return make


@pytest.mark.parametrize("path", RUNS)
def test_feeder_model_and_a_training_step(path, small_store, monkeypatch):
    monkeypatch.chdir(ROOT)
    narrow = ["--model-args", "base_channels=2"] if path.endswith("posec3d.yaml") else []  # its clips are large
    trained = ["--weights", "runs.pt"] if path.endswith("crt.yaml") else []
    config = configure(["--config", f"config/{path}", "--batch-size", "2", *narrow, *trained])
    assert config.work_dir == f"results/{path.removesuffix('.yaml')}/joint" and config.data_path.startswith("data/")
    store = small_store(config)
    train_set = make_feeder(config, store, "train_feeder_args", torch.device("cpu"))
    test_set = make_feeder(config, store, "test_feeder_args", torch.device("cpu"))
    assert train_set.random and not test_set.random
    batches = make_batches(config, train_set)
    model = make_model(config, train_set)
    batches.begin(model)
    x, target, names = next(batches.epoch(0))
    loss = build_loss(config.loss, train_set.class_count, **config.loss_args)(model(x), target)
    loss.backward()
    assert loss.isfinite() and len(names()) == 2
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    model.eval()
    with torch.inference_mode():
        assert model(test_set.render(test_set.skeletons([0])[0][:1])).isfinite().all()


@pytest.mark.parametrize("path", ["ntu60-xsub-lt/ce.yaml", "finegym/ce.yaml"])
def test_motion_of_pyskls_recipes_is_between_neighbouring_frames(path, tmp_path, monkeypatch):
    """As in PYSKL and BRL, whose GenSkeFeat comes before UniformSample: not between the frames that are sampled."""
    monkeypatch.chdir(ROOT)
    config = configure(["--config", f"config/{path}", "--modality", "joint-motion"])
    layout, channels, persons = layout_of(config.data_path)
    V = len(LAYOUTS[layout].joints)
    clip = np.random.default_rng(0).normal(size=(1, persons, V, len(channels))).repeat(400, axis=0)
    clip[..., 0] += 0.25 * np.arange(400)[:, None, None]  # the same way in each frame
    with StoreWriter(tmp_path / "x.h5", layout, ["a"], "test", persons, channels) as writer:
        for key in ("train_feeder_args", "test_feeder_args"):
            writer.add(key, 0, clip, getattr(config, key)["split"])
    for key, tolerance in (("train_feeder_args", 0.1), ("test_feeder_args", 1e-4)):  # training scales by up to 10 %
        x, _ = make_feeder(config, Store(tmp_path / "x.h5"), key, torch.device("cpu")).batch([0])
        step = x[:, : 3 if channels == "xyz" else 2].norm(dim=1)[:, :-1]  # the last frame may be the clip's last
        torch.testing.assert_close(step, torch.full_like(step, 0.25), rtol=tolerance, atol=1e-3)


def test_every_benchmark_is_there():
    present = {Path(path).parent.name for path in RUNS}
    ntu = ("ntu60-xsub", "ntu60-xview", "ntu120-xsub", "ntu120-xset")
    others = ("nw-ucla", "kinetics", "kinetics-skeleton", "finegym", "ucf101", "hmdb51")
    expected = {*ntu, *(f"{name}-lt" for name in ntu), "nw-ucla-lt", *others, "uav-human-csv1", "uav-human-csv2"}
    assert expected <= present
