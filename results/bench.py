"""Speed and memory, as ratios measured in one run: `make bench`. Prints a Markdown table; --out writes it too.

python results/bench.py [parts …] [--out FILE]: all parts, or some of them, each a file of results/benchmarks. The part
`release` needs a clone of CTR-GCN's repository: python results/bench.py release --release ../CTR-GCN
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from results.benchmarks import ensemble, feeder, models, parsing, release, store
from torchlight.errors import guarded
from torchlight.files import replacing

PARTS = {
    "parsing": parsing.rows,
    "store": store.rows,
    "feeder": feeder.rows,
    "ensemble": ensemble.rows,
    "models": models.rows,
    "release": release.rows,
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
    parser.add_argument("--release", metavar="DIR", help="CTR-GCN's release, for the part release")
    arguments = parser.parse_args(argv)
    if "release" in arguments.parts and not arguments.release:
        raise ValueError("the part release measures against CTR-GCN's release: name its directory with --release")
    options = {
        "models": {"names": arguments.models, "compiled": arguments.compile},
        "release": {"directory": arguments.release},
    }
    parts = arguments.parts or [part for part in PARTS if part != "release" or arguments.release]
    lines = ["| what | measured | goal |", "| --- | --- | --- |"]
    print("\n".join(lines))
    for part in parts:
        for row in PARTS[part](**options.get(part, {})):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if arguments.out:
        with replacing(arguments.out, "w") as file:
            file.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    guarded(main)
