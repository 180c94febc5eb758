"""Make stores out of downloads, add splits to them, check them. `python data/prepare.py --help`"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data import demo, draw, long_tail, ntu, nw_ucla
from feeders.store import Store, StoreWriter, add_split
from torchlight.errors import guarded
from torchlight.files import replacing


def prepare_nw_ucla(arguments):
    """NW-UCLA's JSON files to a store."""
    skipped = []

    def skip(message):
        skipped.append(message)
        print(f"skipped {message}")

    source = Path(arguments.source)
    if not source.is_dir():
        raise NotADirectoryError(20, "not a directory", str(source))
    classes = list(nw_ucla.CLASSES.values())
    with StoreWriter(arguments.out, "ucla", classes, source="NW-UCLA all_sqe") as writer:
        nw_ucla.read(source, writer, skip if arguments.skip_bad else None)
    describe(Store(arguments.out))
    if skipped:
        print(f"{len(skipped)} files were skipped")


def prepare_demo(arguments):
    """The generated data set to a store."""
    with StoreWriter(arguments.out, "ntu", list(demo.CLASSES), source=f"procedural, seed {arguments.seed}") as writer:
        for name, label, keypoint, actor, split in demo.demo_clips(arguments.seed):
            writer.add(name, label, keypoint, split, subject=actor)
    describe(Store(arguments.out))


def prepare_long_tail(arguments):
    """A long-tailed (or listed) split of a store; with --names a list of names, without any store."""
    if (arguments.store is None) == (arguments.names is None):
        raise ValueError("long-tail takes either --store or --names")
    if arguments.names:
        return write_long_tail_list(arguments)
    if not arguments.name:
        raise ValueError("--name is missing: what the new split is to be called")
    store = Store(arguments.store)
    position = {name: i for i, name in enumerate(store.name)}
    if arguments.list:
        chosen = long_tail.read_names(arguments.list)
        unknown = [name for name in chosen if name not in position]
        if unknown:
            raise ValueError(
                f"{arguments.list}: {len(unknown)} names are not in {store.path}: {', '.join(unknown[:3])}"
            )
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"{arguments.list}: names a clip twice")
    else:
        index = store.split(arguments.split)
        names = [store.name[i] for i in index]
        chosen = long_tail.long_tail(names, store.label[index], len(store.classes), *rule(arguments))
        warn_of_small_classes(store.classes, np.bincount(store.label[index], minlength=len(store.classes)), arguments)
    chosen = np.array([position[name] for name in chosen])
    add_split(store.path, arguments.name, chosen, arguments.overwrite)
    print(f"{store.path}: split {arguments.name}, {len(chosen)} clips")
    print_counts(store.classes, np.bincount(store.label[chosen], minlength=len(store.classes)))


def write_long_tail_list(arguments):
    """A long-tailed list of NTU RGB+D names: for NTU 120 that of BRL; NTU 60's order is unknown."""
    if not arguments.out or not arguments.protocol:
        raise ValueError("--names takes NTU RGB+D clip names: give --protocol, and --out for the list")
    missing = set(long_tail.read_names(arguments.missing)) if arguments.missing else set()
    names = [name for name in long_tail.read_names(arguments.names) if name not in missing]
    names = [name for name in names if ntu.is_train(name, arguments.protocol)]
    if not names:
        raise ValueError(f"{arguments.names}: no training clip of {arguments.protocol} is among the names")
    labels = [ntu.parse_name(name)["action"] - 1 for name in names]
    chosen = long_tail.long_tail(names, labels, 120 if max(labels) >= 60 else 60, *rule(arguments))
    with replacing(arguments.out, "w") as file:
        file.writelines(f"{name}\n" for name in chosen)
    print(f"{arguments.out}: {len(chosen)} of {len(names)} names")


def warn_of_small_classes(classes, available, arguments):
    for name, size, n in zip(
        classes, long_tail.class_sizes(len(classes), arguments.n_max, arguments.imbalance), available, strict=True
    ):
        if n < size:
            print(f"note: {name} has only {n} of {size} clips")


def rule(arguments):
    for option in ("n_max", "imbalance"):
        if getattr(arguments, option) is None:
            raise ValueError(f"--{option.replace('_', '-')} is missing (or --list, for a list of names)")
    order = arguments.order or (arguments.protocol if arguments.protocol in long_tail.ORDERS else "name")
    return arguments.n_max, arguments.imbalance, order


def check(arguments):
    """What is in a store; what is wrong with it."""
    store = Store(arguments.store)
    describe(store)
    findings = []
    for i, name in enumerate(store.name):
        clip = store.clip(i)
        if not np.isfinite(clip).all():
            findings.append(f"clip {name}: coordinates that are not finite numbers")
        elif not clip.any():
            findings.append(f"clip {name}: all coordinates are 0")
    for train in (split for split in store.splits if "train" in split):
        test = train.rpartition("train")[0] + "test"
        shared = np.intersect1d(store.splits[train], store.splits.get(test, []))
        if len(shared):
            findings.append(f"{len(shared)} clips are in {train} and in {test}: {store.name[int(shared[0])]}, …")
    for finding in findings:
        print(finding)
    if arguments.plot:
        present = np.unique(store.label)
        picked = present[np.linspace(0, len(present) - 1, min(10, len(present))).astype(int)]
        draw.draw_clips(store, [np.flatnonzero(store.label == label)[0] for label in picked], arguments.plot)
    print("no faults found" if not findings else f"{len(findings)} faults")
    return 1 if findings else 0


def describe(store):
    """Print what is in a store."""
    F, M, V, C = store.keypoint.shape
    length = store.length
    print(f"{store.path}: {store.source}; {store.path.stat().st_size / 2**20:.1f} MB")
    print(
        f"  {len(length)} clips, {len(store.classes)} classes, {F} frames ({length.min()} to {length.max()} a clip, "
        f"mean {length.mean():.1f}), layout {store.layout}: {M} persons, {V} joints, {C} channels"
    )
    for name, index in store.splits.items():
        counts = np.bincount(store.label[index], minlength=len(store.classes))
        print(f"  split {name}: {len(index)} clips, per class {summary(counts)}")


def summary(counts):
    return " ".join(map(str, counts)) if len(counts) <= 20 else f"{counts.min()} to {counts.max()}"


def print_counts(classes, counts):
    for label, (name, count) in enumerate(zip(classes, counts, strict=True)):
        print(f"  {label:3d} {name}: {count}")


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message} (see {self.prog} --help)")


def parser():
    main = Parser(prog="data/prepare.py", description=__doc__)
    commands = main.add_subparsers(dest="command", required=True, metavar="COMMAND")

    ucla = commands.add_parser("nw-ucla", help="NW-UCLA from its JSON files", allow_abbrev=False)
    ucla.add_argument("--source", required=True, help="the directory all_sqe")
    ucla.add_argument("--out", default="data/nw-ucla.h5", help="the store to write [%(default)s]")
    ucla.add_argument("--skip-bad", action="store_true", help="leave out unreadable clips, naming them")
    ucla.set_defaults(run=prepare_nw_ucla)

    made = commands.add_parser("demo", help="a procedural data set of ten actions", allow_abbrev=False)
    made.add_argument("--out", default="data/demo.h5", help="the store to write [%(default)s]")
    made.add_argument("--seed", type=int, default=0, help="another seed, other clips [%(default)s]")
    made.set_defaults(run=prepare_demo)

    tail = commands.add_parser("long-tail", help="add a long-tailed split to a store", allow_abbrev=False)
    tail.add_argument("--store", help="the store that gets the split")
    tail.add_argument("--split", default="train", help="the split to take clips from [%(default)s]")
    tail.add_argument("--name", help="the new split's name")
    tail.add_argument("--overwrite", action="store_true", help="replace a split of that name")
    tail.add_argument("--n-max", type=int, help="clips of the most frequent class")
    tail.add_argument("--imbalance", type=float, help="imbalance factor: n_max / n_min")
    tail.add_argument("--order", choices=list(long_tail.ORDERS), help="order of the names before shuffling [name]")
    tail.add_argument("--list", help="a file of clip names instead of a rule")
    tail.add_argument("--names", help="a file of NTU RGB+D clip names instead of a store: write a list")
    tail.add_argument("--protocol", choices=("xsub", "xview", "xset"), help="with --names: whose training clips")
    tail.add_argument("--missing", help="with --names: a file of names to leave out")
    tail.add_argument("--out", help="with --names: the list to write")
    tail.set_defaults(run=prepare_long_tail)

    checks = commands.add_parser("check", help="say what is in a store, and what is wrong with it", allow_abbrev=False)
    checks.add_argument("store")
    checks.add_argument("--plot", metavar="PNG", help="draw a clip of each class, of at most ten")
    checks.set_defaults(run=check)
    return main


def main(argv):
    arguments = parser().parse_args(argv)
    return arguments.run(arguments)


if __name__ == "__main__":
    guarded(main)
