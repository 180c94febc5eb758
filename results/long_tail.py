"""Methods of long-tailed learning on one benchmark: runs what is missing, then writes one table and one picture.

    python results/long_tail.py --config config/nw-ucla-lt/ce.yaml --methods cross-entropy BRL --seeds 1 2 3

The config is the recipe that all methods share, a plain one; config/methods.yaml says what each changes in it. Methods
get the same number of batches, to half an epoch: one whose epochs are longer gets fewer of them. Run directories are
OUT/METHOD/MODALITY-SEED; a run that was stopped is continued, and one that is done stays. OUT/table.md has all that is
done there. Several modalities are fused as well, in a table of their own, of the seeds that have all of them. Options
of main.py that follow go to all runs: --num-epoch 8 --device cpu.
"""

import argparse
import contextlib
import io
import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import ensemble
import main as program
from feeders import MODALITIES, Store
from feeders.balance import class_count
from results.methods import OURS, OWN, read_methods, slug
from results.table import Parser, mean_metrics, read_metrics, table
from torchlight import plot
from torchlight.config import command_line, merge, read_yaml
from torchlight.errors import guarded
from torchlight.files import read_json, replacing

ROOT = Path(__file__).resolve().parents[1]
METHODS = ROOT / "config" / "methods.yaml"
VARIED = (  # what methods differ in: the recipe is without
    "sampler", "mixing", "mixing_args", "loss", "loss_args", "loss_counts", "defer_epoch", "classifier",
    "freeze_backbone", "tau_norm", "adjust_logits", "cl_mode", "val_ratio",
)  # fmt: skip


# ---- runs


def as_words(options):
    """Options as words of a command line."""
    words = []
    for name, value in options.items():
        if value in ([], {}):
            raise ValueError(f"{name} cannot be empty here")
        words.append("--" + name.replace("_", "-"))
        if isinstance(value, dict):
            words += [f"{key}={json.dumps(item)}" for key, item in value.items()]
        else:
            items = value if isinstance(value, list) else [value]
            words += [str(item).lower() if isinstance(item, bool) else str(item) for item in items]
    return words


class Benchmark:
    """A recipe: a config and the options that all runs change in it (a dict), and the directory of the results."""

    def __init__(self, path, given, directory):
        self.path, self.given, self.directory = path, given, directory
        for key in (*OURS, *VARIED):
            if key in given:
                raise ValueError(f"command line: {key} is not for all runs (see --help)")
        self.config = self.configure({})
        for key in VARIED:
            if getattr(self.config, key) != program.OPTIONS[key].default:
                raise ValueError(f"{self.config.origin[key]}: {key} makes this recipe a method; a plain one is needed")
        self.store = Store(self.config.data_path)
        self._batches, self._clips, self._models = {}, {}, set()
        self.batches = self.config.num_epoch * self.epoch_batches({})

    def configure(self, changes):
        return program.configure(["--config", self.path, *as_words(merge(self.given, changes))])

    def epoch_batches(self, changes):
        """Batches in an epoch of a method."""
        keys = ("sampler", "train_feeder_args", "batch_size", "mixing", "mixing_args")
        changes = {key: changes[key] for key in keys if key in changes}
        known = json.dumps(changes, sort_keys=True)
        if known not in self._batches:
            config = self.configure(changes)
            feeder = program.make_feeder(config, self.store, "train_feeder_args", torch.device("cpu"))
            self._batches[known] = len(program.make_batches(config, feeder))
        return self._batches[known]

    def check(self, methods):
        """Raise ValueError naming the method whose options main.py would not take."""
        for name, changes in methods.items():
            try:
                run = self.run(name, changes, "joint", 1)
                if not run.test:
                    self.check_parts(program.configure(run.words))
            except (ValueError, OverflowError) as error:
                raise ValueError(f"{METHODS}: {name}: {str(error).removeprefix('command line: ')}") from None

    def check_parts(self, config):
        """Raise ValueError where its test clips, its loss or its model could not be made. Each model is made once."""
        device = torch.device("cpu")
        program.make_loss(config, program.make_feeder(config, self.store, "train_feeder_args", device))
        feeder = program.make_feeder(config, self.store, "test_feeder_args", device)
        keys = ("model", "model_args", "classifier", "cl_mode", "cl_version", "w_multi_cl_loss")
        model = json.dumps([feeder.shape, *(getattr(config, key) for key in keys)])
        if model not in self._models:
            program.make_model(config, feeder)
            self._models.add(model)

    def clips(self, config):
        """What the results of a config, as a dict, say of its clips: {key: value}. Raises ValueError or OSError."""
        path = config.get("data_path", self.config.data_path)
        train = config.get("train_feeder_args", {}).get("split", "train")
        test = config.get("test_feeder_args", {}).get("split", "test")
        known = (path, train, test)
        if known not in self._clips:
            store = self.store if path == self.config.data_path else Store(path)
            train, test = store.split(train), store.split(test)
            self._clips[known] = {
                "count": class_count(store.label[train], len(store.classes)).tolist(),
                "training_checksum": program.clips_checksum(store, train),
                "clips_checksum": program.clips_checksum(store, test),
            }
        return self._clips[known]

    def place(self, method, modality, seed):
        return self.directory / slug(method) / f"{modality}-{seed}"

    def run(self, method, changes, modality, seed):
        """The Run of a method."""
        own = {key: changes[key] for key in OWN if key in changes}
        changes = {key: value for key, value in changes.items() if key not in OWN}
        place = {"modality": modality, "seed": seed, "work_dir": str(self.place(method, modality, seed))}
        before = self.place(own["after"], modality, seed) / "runs.pt" if "after" in own else None
        if set(changes) & set(program.POST_HOC):
            device = {"device": self.config.device} if self.config.device else {}
            options = {"phase": "test", "weights": str(before), "work_dir": place["work_dir"], **changes, **device}
            return Run(self, as_words(options), before)
        recipe = self.config
        epochs = max(1, round(self.batches * own.get("length", 1) / self.epoch_batches(changes)))
        scale = epochs / recipe.num_epoch
        length = {"num_epoch": epochs, "eval_interval": epochs}
        if recipe.step:
            length["step"] = [max(1, round(epoch * scale)) for epoch in recipe.step]
        if recipe.warm_up_epoch:
            length["warm_up_epoch"] = min(round(recipe.warm_up_epoch * scale), epochs - 1)
        if "defer" in own:
            length["defer_epoch"] = min(round(own["defer"] * epochs), epochs - 1)
        if recipe.optimizer == "SGD":  # to the others the scale of a loss is nothing
            length |= {key: getattr(recipe, key) * factor for key, factor in own.get("times", {}).items()}
        weights = {"weights": str(before)} if before else {}
        options = {**merge(merge(self.given, length), changes), **weights, **place}
        return Run(self, ["--config", self.path, *as_words(options)], before)


class Run:
    """A command of main.py, in words, and the runs.pt that it starts from, or None. test: it only tests them."""

    def __init__(self, benchmark, words, before):
        self.benchmark, self.words, self.before, self.test = benchmark, words, before, "--phase" in words
        self.directory = Path(words[words.index("--work-dir") + 1])
        self.result = self.directory / "test_metrics.json"

    def __str__(self):
        return f"python main.py {shlex.join(self.words)}"

    def done(self):
        """Whether there is a result of these options and clips. Raises ValueError where there is one of others."""
        if not self.result.is_file():
            return False
        # the checksums of the weights that it is of, and of those that are there now: known, though they may be gone
        of = noted(self.result, "checksum") if self.test else noted(self.directory / "env.json", "start")
        now = noted(self.before.with_name("test_metrics.json"), "checksum") if self.before else None
        if None not in (of, now) and of != now:
            if self.test:
                return False
            raise ValueError(f"{self.directory} holds a run that started from weights before {self.before}: remove it")
        if self.test:  # to configure it would take the weights
            was, now = read_json(self.result), command_line(program.OPTIONS, self.words, "")
            keys = {*program.POST_HOC, "sampler"} & set(now)
        else:
            was, keys = read_yaml(self.directory / "config.yaml"), set(program.OPTIONS) - set(program.FREE)
            now = vars(program.configure(self.words))
        for key in [key for key in program.OPTIONS if key in keys]:
            value, old = (values.get(key, program.OPTIONS[key].default) for values in (now, was))
            if value != old and not (key == "data_path" and Path(value).resolve() == Path(str(old)).resolve()):
                raise ValueError(
                    f"{self.directory} holds a run with {key} {old!r}, but now it is {value!r}: "
                    "remove it or take another --out"
                )
        self.check_clips(now)
        return True

    def check_clips(self, config):
        """Raise ValueError where the result is of other clips than the store has now."""
        if self.test:  # on the clips of the run before it
            path = self.before.with_name("config.yaml")
            config = read_yaml(path) if path.is_file() else vars(self.benchmark.config)
        there = contents(self.directory / "env.json") | contents(self.result)
        if program.differing(there, self.benchmark.clips(config)):
            raise ValueError(
                f"{self.directory} holds a run with other clips, or other frames, than its store has now: "
                "take another --out"
            )

    def carry_out(self):
        """Run it, or continue it if it was stopped."""
        words = self.words
        if self.before and not self.before.is_file():
            return print(f"{self.directory}: it starts from {self.before}, which is not there", flush=True)
        if not self.test and (self.directory / "last.pt").is_file():
            words = [*without(words, "--weights", "--ignore-weights"), "--resume"]
        elif self.test and self.result.is_file():  # of weights that are no longer there
            words = [*words, "--overwrite"]
        print(f"python main.py {shlex.join(words)}", flush=True)
        status = start(words)
        for number in (signal.SIGINT, signal.SIGTERM):
            if status in (128 + number, -number):  # it saved and ended, or was made to end at once
                raise SystemExit(128 + number)


def start(words):
    """main.py in a process of its own, which saves and ends when this one is interrupted. Returns its exit status, or
    128 + the signal's number, even where it had nothing left to do but finish.
    """
    process, asked = subprocess.Popen([sys.executable, ROOT / "main.py", *words]), []

    def stop(number, frame):
        asked.append(number)
        if number == signal.SIGTERM:  # Ctrl-C reaches it as well
            process.send_signal(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 + asked[0] if asked else status


def noted(path, key):
    """What a JSON file has under the key; None where it has nothing, or is not there."""
    return contents(path).get(key)


def contents(path):
    """A JSON file of a run as a dict, empty where it is not there. Raises ValueError for another one."""
    content = read_json(path) if path.is_file() else {}
    if not isinstance(content, dict):
        raise ValueError(f"{path}: not what a run wrote")
    return content


def without(words, *flags):
    """The words without these flags and what belongs to them."""
    kept, drop = [], False
    for word in words:
        drop = word in flags or (drop and not word.startswith("--"))
        kept += [] if drop else [word]
    return kept


# ---- the table


def collect(benchmark, runs, methods, modalities, seeds):
    """{row of the table: metrics of its seeds}, of the runs, which are done; several modalities are fused, too."""
    rows = {}
    for method in methods:
        done = {}
        for modality in modalities:
            of_seed = {seed: runs.get((seed, method, modality)) for seed in seeds}
            done[modality] = {seed: run.directory for seed, run in of_seed.items() if run}
        whole = [seed for seed in seeds if all(seed in of_seed for of_seed in done.values())]
        for modality, of_seed in done.items():  # beside fused streams those of the same seeds
            rows[f"{method}, {modality}"] = [read_metrics(of_seed[seed]) for seed in whole or of_seed]
        if len(modalities) > 1:
            place = benchmark.directory / slug(method)
            fused = [fuse(place, {modality: done[modality][seed] for modality in modalities}, seed) for seed in whole]
            rows[f"{method}, {len(modalities)} streams"] = [metrics for metrics in fused if metrics]
    return {name: runs for name, runs in rows.items() if runs}


def fuse(directory, streams, seed):
    """The metrics of streams {modality: run directory}, fused; None, and a word, where there are no scores to fuse."""
    out = directory / f"fused-{'-'.join(streams)}-{seed}"
    lacking = [place for place in streams.values() if not (place / "test_score.pkl").is_file()]
    if lacking:  # results outlive the scores
        fused = read_metrics(out) if (out / "ensemble_metrics.json").is_file() else {}
        of = {modality: isinstance(m, dict) and m.get("per_class") for modality, m in fused.get("streams", {}).items()}
        if of == {modality: read_metrics(place)["per_class"] for modality, place in streams.items()}:
            return fused
        return print(f"{out}: {lacking[0]} has no test_score.pkl to fuse")
    words = [word for modality, place in streams.items() for word in (f"--{modality}-dir", str(place))]
    preset = next((name for name, weights in ensemble.PRESETS.items() if set(weights) == set(streams)), None)
    with contextlib.redirect_stdout(io.StringIO()):
        ensemble.main([*words, *(["--preset", preset] if preset else []), "--out", str(out)])
    return read_metrics(out)


def environments(directories):
    """Devices, versions of PyTorch and days of the runs in these directories, in words."""
    found = []
    for path in (directory / "env.json" for directory in directories):
        if path.is_file():
            environment = contents(path)
            device, *texts = (environment.get(key) for key in ("device", "torch", "date"))
            if not isinstance(device, list) or not all(isinstance(text, str) for text in (*device, *texts)):
                raise ValueError(f"{path}: not the environment of a run")
            found.append((", ".join(device), *texts))
    devices = ", ".join(sorted({device for device, _, _ in found}))
    versions = ", ".join(sorted({version for _, version, _ in found}))
    days = sorted({date[:10] for _, _, date in found})
    return f"{devices}; PyTorch {versions}; {' to '.join(dict.fromkeys(days[:1] + days[-1:]))}"


def report(benchmark, rows, commands, directories, ending):
    """Print the table; write it, with the commands, and the picture of the first row and the three best others.

    ending: of the files' names.
    """
    config, first = benchmark.config, next(iter(rows.values()))[0]
    seeds = sorted({len(runs) for runs in rows.values()})
    lines = [
        f"{config.model}; training clips {' '.join(map(str, first['count']))}; {benchmark.batches:,} batches of "
        f"{config.batch_size} clips, to half an epoch (what comes after another method has its own on top); last "
        f"epoch; number of seeds: {' to '.join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))}. "
        f"{environments(directories)}.",
        "",
        *table(rows),
    ]
    print("\n".join(lines))
    with replacing(benchmark.directory / f"table{ending}.md", "w") as file:
        file.write("\n".join([*lines, "", "Commands of the first seed:", "", "```", *map(str, commands), "```", ""]))
    means = {name: mean_metrics(runs) for name, runs in rows.items()}
    baseline, *others = means
    best = sorted(others, key=lambda name: -means[name]["mean_class"])[:3]
    shown = {name: means[name] for name in (baseline, *best)}
    plot.per_class(shown, benchmark.store.classes, benchmark.directory / f"per_class{ending}.png")


def main(argv):
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", required=True, help="the recipe that all methods share")
    parser.add_argument("--methods", nargs="+", default=[], help="names in config/methods.yaml [all]")
    parser.add_argument("--modalities", nargs="+", default=["joint"], choices=MODALITIES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--out", type=Path, help="directory of runs, table and picture [results/long-tail/CONFIG]")
    parser.add_argument("--table-only", action="store_true", help="run nothing: the table of what is done")
    arguments, words = parser.parse_known_args(argv)
    directory = arguments.out or Path("results", "long-tail", *program.below_config(arguments.config))
    seeds, modalities = (list(dict.fromkeys(values)) for values in (arguments.seeds, arguments.modalities))
    if min(seeds) < 0:
        raise ValueError(f"--seeds takes numbers from 0 on, not {min(seeds)}")
    wanted, methods = read_methods(METHODS, arguments.methods), read_methods(METHODS)
    given = command_line(program.OPTIONS, words, "")
    benchmark = Benchmark(arguments.config, given, directory)
    benchmark.check(methods)
    there = re.compile(rf"({'|'.join(modalities)})-([0-9]+)$")
    found = [there.match(path.name) for path in directory.glob("*/*-*")]
    all_seeds = sorted({*seeds, *(int(match[2]) for match in found if match)})
    runs = {
        (seed, method, modality): benchmark.run(method, changes, modality, seed)
        for seed in all_seeds
        for method, changes in methods.items()
        for modality in modalities
    }
    for run in runs.values():
        run.done()  # what is there of other options is said before anything is run
    # a whole table for the first seed comes first
    asked = [(seed, method, modality) for seed in seeds for method in wanted for modality in modalities]
    for key in asked:
        if not arguments.table_only and not runs[key].done():
            runs[key].carry_out()  # where it fails the others do not wait for it
    # The table has the methods wanted and all others that are there in these streams: it loses none of before.
    done = {key: run for key, run in runs.items() if run.done()}
    whole = {
        method
        for method in methods
        for seed in all_seeds
        if all((seed, method, modality) in done for modality in modalities)
    }
    shown = [method for method in methods if method in whole or method in wanted]
    done = {key: run for key, run in done.items() if key[1] in shown}
    rows = collect(benchmark, done, shown, modalities, all_seeds)
    failed = [str(runs[key].directory) for key in asked if key not in done and not arguments.table_only]
    trouble = f"no result in {', '.join(failed)}: what is printed above says why" if failed else ""
    if not rows:
        raise ValueError(trouble or f"{directory} holds no results of these methods yet")
    commands = {}
    for (_, *key), run in done.items():
        commands.setdefault(tuple(key), run)
    ending = "" if modalities == ["joint"] else "-" + "-".join(modalities)
    report(benchmark, rows, commands.values(), [run.directory for run in done.values()], ending)
    if trouble:
        raise ValueError(trouble)


if __name__ == "__main__":
    guarded(main)
