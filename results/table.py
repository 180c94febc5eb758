"""A Markdown table, and a picture, of test results.

    python results/table.py "CE, joint=results/demo/ce/joint" "BRL, joint=results/demo/brl/joint" --plot classes.png

A row is NAME=DIRECTORY[,DIRECTORY…]: run directories (test_metrics.json) or fused ones (ensemble_metrics.json). Several
directories are runs with different seeds: their mean and standard deviation.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from torchlight import plot
from torchlight.errors import guarded
from torchlight.files import output, read_json, replacing

COLUMNS = {
    "top1": "top-1", "many": "many", "medium": "medium", "few": "few", "mean_class": "mean class", "top5": "top-5"
}  # fmt: skip


def read_metrics(directory):
    """The metrics of a run directory or of a fused one.

    Raises FileNotFoundError where there are none, ValueError naming file and key where they are not what a test writes.
    """
    for path in (Path(directory) / name for name in ("test_metrics.json", "ensemble_metrics.json")):
        if path.is_file():
            metrics = read_json(path)
            if not isinstance(metrics, dict) or not {*COLUMNS, "per_class", "count"} <= set(metrics):
                raise ValueError(f"{path}: lacks some of {', '.join(COLUMNS)}, per_class, count")
            K = len(metrics["per_class"]) if isinstance(metrics["per_class"], list) else 0
            sound = {key: is_share(metrics[key]) for key in COLUMNS}
            sound["per_class"] = K > 0 and all(map(is_share, metrics["per_class"]))
            sound["count"] = metrics["count"] is None or is_list(metrics["count"], K, int)
            sound["classes"] = "classes" not in metrics or is_list(metrics["classes"], K, str)
            sound["streams"] = isinstance(metrics.get("streams", {}), dict)
            sound["shots"] = "shots" not in metrics or is_list(metrics["shots"], 2, int)
            if not all(sound.values()):
                raise ValueError(f"{path}: {min(sound, key=sound.get)} is of a wrong type, length or range")
            return metrics
    raise FileNotFoundError(2, "holds no test_metrics.json or ensemble_metrics.json", str(directory))


def is_share(value):
    """Whether it is a percentage, or None, which an empty group of classes has."""
    return value is None or (type(value) in (int, float) and 0 <= value <= 100)


def is_list(value, length, kind):
    return isinstance(value, list) and len(value) == length and all(type(item) is kind for item in value)


def parse_row(word):
    """'NAME=DIR,DIR' -> (name, {directory: metrics}). Raises ValueError or OSError."""
    name, equals, directories = word.partition("=")
    if not equals or not name or not directories:
        raise ValueError(f"a row is NAME=DIRECTORY[,DIRECTORY…], not {word!r}")
    directories = directories.split(",")
    if len({Path(directory).resolve() for directory in directories}) < len(directories):
        raise ValueError(f"{word}: names a directory twice")
    runs = {directory: read_metrics(directory) for directory in directories}
    check_same(runs, seeds=True)
    return name.strip(), runs


def check_same(runs, count=True, seeds=False):
    """Raise ValueError where two of the runs {directory: metrics} have other classes or shots, or, if `count`, other
    numbers of training clips, or, of one row's `seeds`, other streams or test clips; None is not known.
    """
    first = {}
    for directory, run in runs.items():
        facts = {"a number of classes": len(run["per_class"]), "classes": run.get("classes"), "shots": run.get("shots")}
        facts["numbers of training clips"] = run["count"] if count else None
        if seeds:
            facts |= {"a modality": run.get("modality"), "test clips": run.get("clips_checksum")}
            facts["streams"] = sorted(run["streams"]) if "streams" in run else None
        for key, value in facts.items():
            if value is not None and value != first.setdefault(key, (value, directory))[0]:
                raise ValueError(f"{directory}: has {key} other than {first[key][1]}; they cannot be put together")


def cell(values):
    """'86.85', '86.85 ± 0.31' (sample standard deviation), or '-' where a group of classes is empty."""
    if any(value is None for value in values):
        return "-"
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def table(rows):
    """Markdown lines for {name: list of metrics}."""
    cells = [["", *COLUMNS.values()]]
    for name, runs in rows.items():
        cells.append([name.replace("|", "\\|"), *(cell([m[key] for m in runs]) for key in COLUMNS)])
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return [lines[0], rule, *lines[1:]]


def mean_metrics(runs):
    """Per-class accuracies averaged over runs, for the picture."""
    per_class = np.array([run["per_class"] for run in runs], dtype=float).mean(axis=0)
    count = next((run["count"] for run in runs if run["count"]), None)
    return {"per_class": per_class.tolist(), "count": count, "mean_class": float(np.nanmean(per_class))}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message} (see --help)")


def main(argv):
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="NAME=DIR[,DIR…]")
    parser.add_argument("--out", metavar="MD", help="write the table to this file, too")
    parser.add_argument("--plot", metavar="PNG", help="draw the accuracy of every class over its training clips")
    arguments = parser.parse_args(argv)
    out = output(arguments.out, ".md", "--out") if arguments.out else None
    picture = output(arguments.plot, ".png", "--plot") if arguments.plot else None
    rows, runs = {}, {}
    for name, row in map(parse_row, arguments.rows):
        if name in rows:
            raise ValueError(f"two rows are named {name!r}")
        rows[name] = list(row.values())
        runs |= row
    check_same(runs, count=bool(picture))
    classes = next((run["classes"] for run in runs.values() if "classes" in run), None)
    if picture and (classes is None or not any(run["count"] for run in runs.values())):
        raise ValueError("--plot needs a run directory among the rows: it knows the classes' names and training clips")
    lines = table(rows)
    print("\n".join(lines))
    if out:
        with replacing(out, "w") as file:
            file.write("\n".join(lines) + "\n")
    if picture:
        plot.per_class({name: mean_metrics(runs) for name, runs in rows.items()}, classes, picture)


if __name__ == "__main__":
    guarded(main)
