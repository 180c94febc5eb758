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
from torchlight.files import read_json, replacing

COLUMNS = {
    "top1": "top-1", "many": "many", "medium": "medium", "few": "few", "mean_class": "mean class", "top5": "top-5"
}  # fmt: skip


def read_metrics(directory):
    """The metrics of a run directory or of a fused one. Raises FileNotFoundError where there are none."""
    for path in (Path(directory) / name for name in ("test_metrics.json", "ensemble_metrics.json")):
        if path.is_file():
            metrics = read_json(path)
            if not isinstance(metrics, dict) or not {*COLUMNS, "per_class", "count"} <= set(metrics):
                raise ValueError(f"{path}: lacks some of {', '.join(COLUMNS)}, per_class, count")
            return metrics
    raise FileNotFoundError(2, "holds no test_metrics.json or ensemble_metrics.json", str(directory))


def parse_row(word):
    """'NAME=DIR,DIR' -> (name, list of metrics). Raises ValueError or OSError."""
    name, equals, directories = word.partition("=")
    if not equals or not name or not directories:
        raise ValueError(f"a row is NAME=DIRECTORY[,DIRECTORY…], not {word!r}")
    return name.strip(), [read_metrics(directory) for directory in directories.split(",")]


def cell(values):
    """'86.85', '86.85 ± 0.31' (sample standard deviation), or '-' where a group of classes is empty."""
    if any(value is None for value in values):
        return "-"
    spread = f" ± {np.std(values, ddof=1):.2f}" if len(values) > 1 else ""
    return f"{np.mean(values):.2f}{spread}"


def table(rows):
    """Markdown lines for {name: list of metrics}."""
    cells = [["", *COLUMNS.values()]]
    cells += [[name, *(cell([m[key] for m in runs]) for key in COLUMNS)] for name, runs in rows.items()]
    widths = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
    lines = [
        "| " + " | ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "| " + " | ".join("-" * width for width in widths) + " |"
    return [lines[0], rule, *lines[1:]]


def mean_metrics(runs):
    """Per-class accuracies averaged over runs, for the picture."""
    per_class = np.array([run["per_class"] for run in runs], dtype=float).mean(axis=0)
    return {"per_class": per_class.tolist(), "count": runs[0]["count"], "mean_class": float(np.nanmean(per_class))}


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message} (see --help)")


def main(argv):
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", metavar="NAME=DIR[,DIR…]")
    parser.add_argument("--out", help="write the table to this file, too")
    parser.add_argument("--plot", help="draw the accuracy of every class over its training clips")
    arguments = parser.parse_args(argv)
    rows = {}
    for name, runs in map(parse_row, arguments.rows):
        if name in rows:
            raise ValueError(f"two rows are named {name!r}")
        rows[name] = runs
    lines = table(rows)
    print("\n".join(lines))
    if arguments.out:
        with replacing(arguments.out, "w") as file:
            file.write("\n".join(lines) + "\n")
    if arguments.plot:
        classes = next((run["classes"] for runs in rows.values() for run in runs if "classes" in run), None)
        if classes is None:
            raise ValueError("--plot needs a run directory among the rows: it knows the classes' names")
        plot.per_class({name: mean_metrics(runs) for name, runs in rows.items()}, classes, arguments.plot)


if __name__ == "__main__":
    guarded(main)
