import pytest
import torch

from results import bench
from results.benchmarks import ensemble, in_turns, models, release


def test_turns():
    calls = []
    times = in_turns([lambda: calls.append(1), lambda: calls.append(2)], rounds=3)
    assert calls == [1, 2] * 3 and len(times) == 2 and min(times) >= 0


def test_models(monkeypatch):
    monkeypatch.setattr(models, "SHAPES", {"small": ("ucla", 4, (2, 3, 8, 20, 1))})
    monkeypatch.setattr(models, "peaks", lambda device: (1e9, 2e9))
    monkeypatch.setattr(models, "memory", lambda *_: 12.3)
    rows = list(models.rows(["stgcn"], rounds=1))
    assert all(len(row) == 3 and all(isinstance(text, str) for text in row) for row in rows)
    names = [name.removeprefix("stgcn, small: ") for name, _, _ in rows[1:]]
    assert names[:4] == ["testing", "testing, bf16", "training", "training, bf16"]
    assert rows[0][1] == "2.00 x (1 GFLOP/s)" and rows[-1][1] == "12 MB"
    assert "forward" in rows[3][1] and rows[2][1].endswith("clips/s)")


def test_streams(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(ensemble, "CLIPS", 30)
    monkeypatch.setattr(ensemble, "CLASSES", 4)
    monkeypatch.setattr(ensemble, "in_turns", lambda calls: in_turns(calls, rounds=1))
    bench.main(["ensemble", "--out", str(tmp_path / "table.md")])
    table = (tmp_path / "table.md").read_text()
    assert table == capsys.readouterr().out and "six streams of 30 clips, 4 classes" in table


def test_an_unknown_part_is_refused():
    with pytest.raises(SystemExit):
        bench.main(["no such part"])


@pytest.fixture
def fake_release(tmp_path):
    """A directory laid out as CTR-GCN's release, its model a linear classifier of the mean over T, V and M."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "ctrgcn.py").write_text("""
import torch
class Model(torch.nn.Linear):
    def __init__(self, num_class, num_point, num_person, graph, graph_args):
        assert (num_point, num_person, graph) == (20, 1, "graph.ucla.Graph")
        super().__init__(3, num_class)
    def forward(self, x):
        return super().forward(x.mean((2, 3, 4)))
""")
    return tmp_path


@pytest.mark.parametrize("factor", [1, 2])
def test_the_release_is_measured_on_the_same_work(monkeypatch, fake_release, factor):
    class Ours(torch.nn.Linear):
        def forward(self, x):
            return factor * super().forward(x.mean((2, 3, 4)))

    def ours(weights, graph, num_person):
        model = Ours(3, 10)
        model.load_state_dict(weights)
        return model

    monkeypatch.setattr(release, "SHAPES", {"NW-UCLA": models.SHAPES["NW-UCLA"]})
    monkeypatch.setattr(release, "from_published", ours)
    monkeypatch.setattr(release, "fold", lambda model: model)
    if factor == 2:
        with pytest.raises(ValueError, match="not the same work"):
            list(release.rows(fake_release, rounds=1))
        return
    test, train, feeder = release.rows(fake_release, rounds=1)
    assert test[0].endswith("testing") and train[0].endswith("training") and " x (medians: " in train[1]
    assert feeder[1] == f"skipped: there is no {fake_release / 'data' / 'NW-UCLA' / 'all_sqe'}"


def test_a_release_that_does_not_work_is_named(fake_release, tmp_path):
    (fake_release / "model" / "ctrgcn.py").write_text("import no_such_package")
    with pytest.raises(ValueError, match="No module named 'no_such_package'"):
        list(release.rows(fake_release))
    with pytest.raises(ValueError, match="not CTR-GCN's release"):
        list(release.rows(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match="name its directory with --release"):
        bench.main(["release"])
