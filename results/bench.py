"""Speed and memory, as ratios measured in one run: `make bench`. Prints a Markdown table; --out writes it too.

python results/bench.py [parts …] [--out FILE]: all parts, or some of them, each a file of results/benchmarks.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results.benchmarks import ensemble, feeder, models, parsing, store
from torchlight.errors import guarded
from torchlight.files import replacing

PARTS = {
    "parsing": parsing.rows,
    "store": store.rows,
    "feeder": feeder.rows,
    "ensemble": ensemble.rows,
    "models": models.rows,
}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure [everything]")
    parser.add_argument("--out", help="a file for the table")
    parser.add_argument(
        "--models", nargs="+", metavar="NAME", choices=models.ALL, default=models.FEW,
        help=f"of the part models [{' '.join(models.FEW)}]: {', '.join(models.ALL)}",
    )  # fmt: skip
    parser.add_argument("--compile", action="store_true", help="measure compiled models too, which takes minutes")
    arguments = parser.parse_args(argv)
    lines = ["| what | measured | goal |", "| --- | --- | --- |"]
    print("\n".join(lines))
    for part in arguments.parts or PARTS:
        chosen = {"names": arguments.models, "compiled": arguments.compile} if part == "models" else {}
        for row in PARTS[part](**chosen):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if arguments.out:
        with replacing(arguments.out, "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    guarded(main)
