"""Speed and memory, as ratios measured in one run: `make bench`. Prints a Markdown table; --out writes it too.

python results/bench.py [parts …] [--out FILE]: all parts, or some of them, each a file of results/benchmarks.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results.benchmarks import ensemble, parsing, store
from torchlight.errors import guarded
from torchlight.files import replacing

PARTS = {"parsing": parsing.rows, "store": store.rows, "ensemble": ensemble.rows}


def main(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure [everything]")
    parser.add_argument("--out", help="a file for the table")
    arguments = parser.parse_args(argv)
    lines = ["| what | measured | goal |", "| --- | --- | --- |"]
    print("\n".join(lines))
    for part in arguments.parts or PARTS:
        for row in PARTS[part]():
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if arguments.out:
        with replacing(arguments.out, "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    guarded(main)
