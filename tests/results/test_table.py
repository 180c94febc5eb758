import json

import pytest

from results.table import main


def run(directory, name="test_metrics.json", **metrics):
    directory.mkdir()
    full = {"top1": 80.0, "top5": 99.0, "mean_class": 78.5, "many": 90.0, "medium": None, "few": 60.0}
    full |= {"per_class": [90.0, 60.0], "count": [50, 5]}
    if name == "test_metrics.json":
        full |= {"classes": ["walk", "fall"], "shots": [10, 30]}
    (directory / name).write_text(json.dumps(full | metrics))
    return directory


def test_rows_seeds_and_empty_groups(tmp_path, capsys):
    one, two = run(tmp_path / "one"), run(tmp_path / "two", top1=82.0)
    fused = run(tmp_path / "fused", "ensemble_metrics.json", top1=85.5)
    words = [f"CE={one},{two}", f"fused={fused}", "--out", str(tmp_path / "t.md"), "--plot", str(tmp_path / "p.png")]
    main(words)
    lines = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in lines[0].split("|")][2:5] == ["top-1", "many", "medium"]
    assert [cell.strip() for cell in lines[2].split("|")][1:6] == [
        "CE",
        "81.00 ± 1.41",
        "90.00 ± 0.00",
        "-",
        "60.00 ± 0.00",
    ]
    assert [cell.strip() for cell in lines[3].split("|")][1:6] == ["fused", "85.50", "90.00", "-", "60.00"]
    assert (tmp_path / "t.md").read_text().splitlines() == lines and (tmp_path / "p.png").stat().st_size > 5000


def test_foreign_scores_have_no_training_clips(tmp_path):
    """The picture takes their numbers from the runs beside them."""
    foreign, own = run(tmp_path / "foreign", "ensemble_metrics.json", count=None), run(tmp_path / "own")
    main([f"release={foreign}", f"ours={own}", "--plot", str(tmp_path / "p.png")])
    assert (tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize(
    "metrics",
    [
        {"top1": "x"},
        {"few": float("nan")},
        {"mean_class": 101},
        {"per_class": None},
        {"per_class": []},
        {"per_class": [90.0, "x"]},
        {"count": 5},
        {"count": [50]},
        {"classes": ["walk"]},
        {"classes": [1, 2]},
        {"classes": None},
        {"shots": [10]},
        {"streams": [1, "x"]},
        {"streams": None},
    ],
)
def test_metrics_that_no_test_writes(tmp_path, metrics):
    own = run(tmp_path / "own", **metrics)
    with pytest.raises(ValueError, match=f"own/test_metrics.json: {next(iter(metrics))} is of a wrong type"):
        main([f"CE={own}"])


THREE = {"per_class": [90.0, 60.0, 5.0], "count": [50, 5, 5], "classes": ["walk", "fall", "sit"]}


@pytest.mark.parametrize("words", ["a={0}/one,{0}/two", "a={0}/one b={0}/two --plot {0}/p.png", "a={0}/one b={0}/two"])
@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (THREE, "a number of classes"),
        ({"classes": ["walk", "sit"]}, "classes"),
        ({"shots": [20, 100]}, "shots"),
        ({"count": [100, 5]}, "numbers of training clips"),
    ],
)
def test_what_does_not_belong_together(tmp_path, capsys, words, metrics, message):
    run(tmp_path / "one"), run(tmp_path / "two", **metrics)
    words = words.format(tmp_path).split()
    if metrics.keys() == {"count"} and len(words) == 2:  # in a table they may differ
        return main(words)
    with pytest.raises(ValueError, match=f"two: has {message} other than .*one"):
        main([*words, "--out", str(tmp_path / "t.md")])
    assert not capsys.readouterr().out and not (tmp_path / "t.md").exists()


def test_errors(tmp_path, capsys):
    fused = run(tmp_path / "fused", "ensemble_metrics.json")
    unknown = run(tmp_path / "unknown", count=None)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "test_metrics.json").write_text("[]")
    for words, message in (
        (["CE"], "a row is NAME=DIRECTORY"),
        ([f"CE={fused}", "--plot", str(tmp_path / "p.png")], "needs a run directory among the rows"),
        ([f"CE={tmp_path / 'absent'}"], "holds no test_metrics.json"),
        ([f"CE={fused}", f"CE={fused}"], "two rows are named 'CE'"),
        ([], "are required: NAME=DIR"),
        ([f"CE={broken}"], "test_metrics.json: lacks some of top1"),
        ([f"CE={unknown}", "--plot", str(tmp_path / "p.png")], "knows the classes' names and training clips"),
        ([f"CE={fused},{fused}/../fused"], "fused: names a directory twice"),
        ([f"CE={fused}", "--out", str(fused / "runs.pt")], "--out: .*runs.pt: its name must end with .md"),
        ([f"CE={fused}", "--plot", str(tmp_path / "x.h5")], "--plot: .*x.h5: its name must end with .png"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            main(words)
        assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("one", "two", "message"),
    [
        ({"modality": "joint"}, {"modality": "bone"}, "a modality"),
        ({"clips_checksum": 1}, {"clips_checksum": 2}, "test clips"),
        ({"streams": {"joint": {}, "bone": {}}}, {"streams": {"joint": {}, "skip": {}}}, "streams"),
    ],
)
def test_seeds_are_of_one_stream_and_the_same_test_clips(tmp_path, one, two, message):
    run(tmp_path / "one", **one), run(tmp_path / "two", **two)
    with pytest.raises(ValueError, match=f"two: has {message} other than .*one"):
        main([f"a={tmp_path / 'one'},{tmp_path / 'two'}"])
    main([f"a={tmp_path / 'one'}", f"b={tmp_path / 'two'}"])


def test_a_name_does_not_break_the_table(tmp_path, capsys):
    main([f"CE | joint={run(tmp_path / 'one')}"])
    assert capsys.readouterr().out.splitlines()[2].startswith(r"| CE \| joint |")
