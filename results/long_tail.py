"""Methods of long-tailed learning on one benchmark: runs what is missing, then writes one table and one picture.

    python results/long_tail.py --config config/nw-ucla-lt/ce.yaml --methods cross-entropy BRL --seeds 1 2 3

The config is the recipe that all methods share; config/methods.yaml says what each changes in it. Methods get the same
number of steps: one whose epochs are longer gets fewer of them. Run directories are RESULTS/METHOD/MODALITY-SEED; a run
that was stopped is continued, and one that is done stays. Several modalities are fused as well.

Every option of main.py that follows goes to all runs: --num-epoch 8 --device cpu.
"""

import argparse
import contextlib
import io
import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ensemble
import main as program
from feeders import MODALITIES, Store
from results.table import Parser, mean_metrics, read_metrics, table
from torchlight import plot
from torchlight.config import nearest, read_yaml
from torchlight.errors import guarded
from torchlight.files import read_json, replacing

ROOT = Path(__file__).resolve().parents[1]
OWN = ("after", "length", "defer", "times")  # keys of config/methods.yaml that are no options of main.py


def read_methods(path, wanted):
    """{name: what it changes} of the methods wanted, in that order, with those they come after. Raises ValueError."""
    known = read_yaml(path)
    methods = {}

    def add(name, where):
        if name not in known:
            raise ValueError(f"{where}: unknown method {name!r}{nearest(name, known)}; there are {', '.join(known)}")
        changes = known[name] or {}
        if not isinstance(changes, dict):
            raise ValueError(f"{path}: {name} takes options of main.py, not {changes!r}")
        for key in changes:
            if key not in program.OPTIONS and key not in OWN:
                names = (*program.OPTIONS, *OWN)
                raise ValueError(f"{path}: {name}: unknown key {key}{nearest(key, names)}")
        if "after" in changes:
            add(changes["after"], f"{path}: {name}: after")
        methods.setdefault(name, changes)

    for name in wanted or known:
        add(name, "--methods")
    return methods


def slug(name):
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


def as_words(options):
    """Options as words of a command line."""
    words = []
    for name, value in options.items():
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, dict):
            words += [f"{key}={json.dumps(item)}" for key, item in value.items()]
        else:
            items = value if isinstance(value, list) else [value]
            words += [str(item).lower() if isinstance(item, bool) else str(item) for item in items]
    return words


class Benchmark:
    """A config and what all runs change in it; words: those changes on the command line."""

    def __init__(self, path, words, directory):
        self.path, self.words, self.directory = path, words, directory
        self.config = program.configure(["--config", path, *words])
        if self.config.phase != "train":
            raise ValueError("the phase is train here; tests belong to it")
        self.store = Store(self.config.data_path)
        self.steps = self.config.num_epoch * self.batches({})

    def batches(self, changes):
        """Batches in an epoch with these changes."""
        names = {"sampler", "train_feeder_args", "batch_size"} & set(changes)
        config = program.configure(["--config", self.path, *self.words, *as_words({n: changes[n] for n in names})])
        feeder = program.make_feeder(config, self.store, "train_feeder_args", torch.device("cpu"))
        return len(program.make_batches(config, feeder))

    def place(self, method, modality, seed):
        return self.directory / slug(method) / f"{modality}-{seed}"

    def command(self, method, changes, modality, seed):
        """The words after `main.py` that run a method."""
        own = {key: changes[key] for key in OWN if key in changes}
        changes = {key: value for key, value in changes.items() if key not in OWN}
        place = {"modality": modality, "seed": seed, "work_dir": self.place(method, modality, seed)}
        before = self.place(own["after"], modality, seed) / "runs.pt" if "after" in own else None
        if set(changes) <= set(program.POST_HOC) and before:
            test = {"phase": "test", "weights": before, "work_dir": place["work_dir"]}
            device = {"device": self.config.device} if self.config.device else {}
            return as_words({**test, **changes, **device})
        recipe, steps = self.config, self.steps * own.get("length", 1)
        epochs = max(1, round(steps / self.batches(changes)))
        scale = epochs / recipe.num_epoch
        length = {"num_epoch": epochs, "eval_interval": epochs}
        if recipe.step:
            length["step"] = [max(1, round(epoch * scale)) for epoch in recipe.step]
        if recipe.warm_up_epoch:
            length["warm_up_epoch"] = round(recipe.warm_up_epoch * scale)
        if "defer" in own:
            length["defer_epoch"] = min(round(own["defer"] * epochs), epochs - 1)
        for key, factor in own.get("times", {}).items():
            length[key] = getattr(recipe, key) * factor
        weights = {"weights": before} if before else {}
        words = as_words({**length, **changes, **weights, **place})
        flags = [word for word in words if word.startswith("--")]
        return ["--config", self.path, *without(self.words, *flags), *words]


def run(words):
    """Run main.py unless this was done; continue it if it was stopped. Raises ValueError for a run of another kind."""
    config = program.configure(words)
    directory = Path(config.work_dir)
    if (directory / "test_metrics.json").is_file():
        check_same(config, directory)
        return
    if config.phase == "train" and (directory / "last.pt").is_file():
        words = [*without(words, "--weights", "--ignore-weights"), "--resume"]
    print(f"python main.py {shlex.join(words)}", flush=True)
    status = start(words)
    if status:
        raise ValueError(f"main.py ended with exit status {status} in {directory}; the same command goes on from there")


def start(words):
    """main.py in a process of its own. Returns its exit status."""
    return subprocess.run([sys.executable, ROOT / "main.py", *words]).returncode


def without(words, *flags):
    """The words without these flags and what belongs to them."""
    kept, drop = [], False
    for word in words:
        drop = word in flags or (drop and not word.startswith("--"))
        kept += [] if drop else [word]
    return kept


def check_same(config, directory):
    """Raise ValueError where the run in a directory had other options than these."""
    if config.phase == "test":
        done = read_json(directory / "test_metrics.json")
        different = [key for key in program.POST_HOC if done.get(key, 0) != getattr(config, key)]
    else:
        done = read_yaml(directory / "config.yaml")
        keys = [key for key in program.OPTIONS if key not in program.FREE]
        different = [key for key in keys if done.get(key, program.OPTIONS[key].default) != getattr(config, key)]
    if different:
        key = different[0]
        raise ValueError(
            f"{directory} holds a run with {key} {done.get(key)!r}, but now it is {getattr(config, key)!r}: "
            "remove it or take another --out"
        )


def collect(benchmark, methods, modalities, seeds):
    """{row of the table: metrics of its seeds}, of what is done; several modalities are fused, too."""
    rows = {}
    for method in methods:
        places = {stream: [benchmark.place(method, stream, seed) for seed in seeds] for stream in modalities}
        for stream, directories in places.items():
            rows[f"{method}, {stream}"] = [read_metrics(d) for d in directories if (d / "test_metrics.json").is_file()]
        if len(modalities) > 1:
            fused = [fuse(benchmark, method, modalities, seed) for seed in seeds]
            rows[f"{method}, {len(modalities)} streams"] = [metrics for metrics in fused if metrics]
    return {name: runs for name, runs in rows.items() if runs}


def fuse(benchmark, method, modalities, seed):
    """The metrics of a method's streams, fused, or None where one of them is not done."""
    streams = {modality: benchmark.place(method, modality, seed) for modality in modalities}
    if not all((place / "test_score.pkl").is_file() for place in streams.values()):
        return None
    out = benchmark.directory / slug(method) / f"fused-{'-'.join(modalities)}-{seed}"
    words = [word for modality, place in streams.items() for word in (f"--{modality}-dir", str(place))]
    preset = next((name for name, weights in ensemble.PRESETS.items() if set(weights) == set(modalities)), None)
    with contextlib.redirect_stdout(io.StringIO()):
        ensemble.main([*words, *(["--preset", preset] if preset else []), "--out", str(out)])
    return read_metrics(out)


def report(benchmark, rows, commands):
    """Print the table; write it, with the commands, and the picture of the first row and the three best others."""
    config, first = benchmark.config, next(iter(rows.values()))[0]
    devices = {", ".join(read_json(path)["device"]) for path in benchmark.directory.glob("*/*/env.json")}
    seeds = sorted({len(runs) for runs in rows.values()})
    lines = [
        f"{config.model}; training clips {' '.join(map(str, first['count']))}; {benchmark.steps:,} steps of "
        f"{config.batch_size} clips (what comes after another method has its own on top); last epoch; "
        f"{' to '.join(map(str, seeds))} seeds. {', '.join(sorted(devices))}; PyTorch {torch.__version__}; "
        f"{time.strftime('%Y-%m-%d')}.",
        "",
        *table(rows),
    ]
    print("\n".join(lines))
    commands = [f"python main.py {shlex.join(words)}" for words in commands]
    with replacing(benchmark.directory / "table.md", "w") as file:
        file.write("\n".join([*lines, "", "Commands of the first seed:", "", "```", *commands, "```", ""]))
    means = {name: mean_metrics(runs) for name, runs in rows.items()}
    baseline, *others = means
    best = sorted(others, key=lambda name: -means[name]["mean_class"])[:3]
    shown = {name: means[name] for name in (baseline, *best)}
    plot.per_class(shown, benchmark.store.classes, benchmark.directory / "per_class.png")


def main(argv):
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the recipe that all methods share")
    parser.add_argument("--methods", nargs="+", default=[], help="names in config/methods.yaml [all]")
    parser.add_argument("--modalities", nargs="+", default=["joint"], choices=MODALITIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, help="directory of runs, table and picture [results/long-tail/BENCHMARK]")
    parser.add_argument("--table-only", action="store_true", help="run nothing: the table of what is done")
    arguments, words = parser.parse_known_args(argv)
    directory = arguments.out or Path("results", "long-tail", Path(arguments.config).parent.name)
    methods = read_methods(ROOT / "config" / "methods.yaml", arguments.methods)
    benchmark = Benchmark(arguments.config, words, directory)
    commands = {
        (seed, method, modality): benchmark.command(method, changes, modality, seed)
        for seed in arguments.seeds  # a whole table for the first seed comes first
        for method, changes in methods.items()
        for modality in arguments.modalities
    }
    for command in commands.values() if not arguments.table_only else ():
        run(command)
    rows = collect(benchmark, methods, arguments.modalities, arguments.seeds)
    if not rows:
        raise ValueError(f"{directory} holds no results of these methods yet")
    report(benchmark, rows, [words for (seed, *_), words in commands.items() if seed == arguments.seeds[0]])


if __name__ == "__main__":
    guarded(main)
