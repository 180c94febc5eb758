import pytest

from results import bench
from results.benchmarks import ensemble, in_turns, models


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
