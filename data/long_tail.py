"""Long-tailed training splits: which clips of a balanced split remain."""

import numpy as np

from data import ntu
from feeders.balance import class_count
from feeders.store import Store, add_split
from torchlight.files import output, read_names, replacing

# How the clips of a class are ordered before they are shuffled. The NTU orders are those of BRL's published lists.
ORDERS = {
    "name": None,
    "xsub": ("performer", "setup", "camera", "replication", "action"),
    "xset": ("setup", "camera", "performer", "replication", "action"),
}


def add_arguments(parser):
    parser.add_argument("--store", help="the store that gets the split")
    parser.add_argument("--split", help="the split to take clips from [train]")
    parser.add_argument("--name", help="the new split's name")
    parser.add_argument("--overwrite", action="store_true", default=None, help="replace a split of that name")
    parser.add_argument("--n-max", type=int, help="clips of the most frequent class")
    parser.add_argument("--imbalance", type=float, help="imbalance factor: n_max / n_min")
    parser.add_argument("--rule", choices=list(RULES), help="how sizes fall [exponential]")
    parser.add_argument(
        "--shots",
        type=int,
        nargs=2,
        help="printed groups: few < the first, many > the second [20 100]",
    )
    parser.add_argument("--order", choices=list(ORDERS), help="order of the names before shuffling [name]")
    parser.add_argument("--list", help="a file of clip names instead of a rule")
    parser.add_argument("--names", help="a file of NTU RGB+D clip names instead of a store: write a list")
    parser.add_argument("--protocol", choices=("xsub", "xview", "xset"), help="with --names: whose training clips")
    parser.add_argument("--missing", help="with --names: a file of names to leave out")
    parser.add_argument("--out", help="with --names: the list to write, a .txt file")


def run(arguments):
    """A long-tailed (or listed) split of a store; with --names a list of names, without any store."""
    if (arguments.store is None) == (arguments.names is None):
        raise ValueError("long-tail takes either --store or --names")
    if arguments.names:
        return write_long_tail_list(arguments)
    shots, split = arguments.shots or (20, 100), arguments.split or "train"
    if not 0 <= shots[0] <= shots[1]:
        raise ValueError(f"--shots takes two numbers from 0 on, the smaller first, not {' '.join(map(str, shots))}")
    if not arguments.name:
        raise ValueError("--name is missing: what the new split is to be called")
    refuse(arguments, "--store", "protocol", "missing", "out")
    store = Store(arguments.store)
    index = store.split(split)
    index = index[store.label[index] >= 0]
    names = [store.name[i] for i in index]
    position = dict(zip(names, index, strict=True))
    if arguments.list:
        refuse(arguments, "--list", "n_max", "imbalance", "rule", "order")
        chosen = read_names(arguments.list)
        unknown = [name for name in chosen if name not in position]
        if unknown:
            raise ValueError(
                f"{arguments.list}: {len(unknown)} names are not in split {split} of {store.path}: "
                f"{', '.join(unknown[:3])}"
            )
        if len(set(chosen)) < len(chosen):
            raise ValueError(f"{arguments.list}: names a clip twice")
    else:
        sizes = sizes_from(arguments, len(store.classes))
        chosen = long_tail(names, store.label[index], sizes, arguments.order or "name")
        available = class_count(store.label[index], len(store.classes))
        for name, size, n in zip(store.classes, sizes, available, strict=True):
            if n < size:
                print(f"note: {name} has only {n} of {size} clips")
    chosen = np.array([position[name] for name in chosen])
    add_split(store.path, arguments.name, chosen, arguments.overwrite)
    print(f"{store.path}: split {arguments.name}, {len(chosen)} clips")
    print_counts(store.classes, class_count(store.label[chosen], len(store.classes)), shots)


def refuse(arguments, option, *others):
    """Raise ValueError where options are given that say nothing beside another one."""
    for other in others:
        if getattr(arguments, other) is not None:
            raise ValueError(f"--{other.replace('_', '-')} is not for {option}")


def write_long_tail_list(arguments):
    """A long-tailed list of NTU RGB+D names: for NTU 120 that of BRL; NTU 60's order is unknown."""
    refuse(arguments, "--names", "list", "name", "split", "shots", "overwrite")
    if not arguments.out or not arguments.protocol:
        raise ValueError("--names takes NTU RGB+D clip names: give --protocol, and --out for the list")
    out = output(arguments.out, ".txt", "--out")
    missing = ntu.read_missing(arguments.missing)
    names = [name for name in read_names(arguments.names) if name not in missing]
    names = [name for name in names if ntu.is_train(name, arguments.protocol)]
    if not names:
        raise ValueError(f"{arguments.names}: no training clip of {arguments.protocol} is among the names")
    labels = [ntu.parse_name(name)["action"] - 1 for name in names]
    order = arguments.order or (arguments.protocol if arguments.protocol in ORDERS else "name")
    chosen = long_tail(names, labels, sizes_from(arguments, 120 if max(labels) >= 60 else 60), order)
    with replacing(out, "w") as file:
        file.writelines(f"{name}\n" for name in chosen)
    print(f"{out}: {len(chosen)} of {len(names)} names")


def sizes_from(arguments, num_class):
    """Clips of each class by the command line's rule."""
    for option in ("n_max", "imbalance"):
        if getattr(arguments, option) is None:
            raise ValueError(f"--{option.replace('_', '-')} is missing (or --list, for a list of names)")
    return class_sizes(num_class, arguments.n_max, arguments.imbalance, arguments.rule or "exponential")


def exponential(num_class, n_max, imbalance):
    """n_c = int(n_max * (1 / imbalance) ** (c / (K - 1))) for c = 0 … K - 1 (Cui et al., CVPR 2019; BRL).

    A whole number stays one, whatever its floating point product is.
    """
    return [int(n_max * (1 / imbalance) ** (c / (num_class - 1)) + 1e-9) for c in range(num_class)]


def step(num_class, n_max, imbalance):
    """n_max for the first half of the classes, int(n_max / imbalance) for the rest (Cao et al., NeurIPS 2019)."""
    return [n_max if c < num_class / 2 else int(n_max / imbalance + 1e-9) for c in range(num_class)]


RULES = {"exponential": exponential, "step": step}


def class_sizes(num_class, n_max, imbalance, rule="exponential"):
    """Clips of each class by a rule. Raises ValueError for numbers that make no long tail, or leave a class empty."""
    if num_class < 2 or n_max < 1 or not 1 <= imbalance < float("inf"):
        raise ValueError("a long tail needs at least 2 classes, n-max of at least 1 and imbalance of at least 1")
    sizes = RULES[rule](num_class, n_max, imbalance)
    if min(sizes) < 1:
        raise ValueError(f"n-max {n_max} and imbalance {imbalance:g} leave {sizes.count(0)} classes without a clip")
    return sizes


def long_tail(names, labels, sizes, order="name", seed=0):
    """Names of a long-tailed subset, class after class. sizes: clips of each of the K classes.

    In every class the names are sorted by `order`, shuffled by numpy's legacy generator (seeded once, before the first
    class), and the first n_c are taken; all of them where there are fewer. Depends on names and labels alone.
    """
    fields = ORDERS[order]

    def key(name):
        return name if fields is None else tuple(ntu.parse_name(name)[field] for field in fields)

    members = [[] for _ in sizes]
    for name, label in zip(names, labels, strict=True):
        members[label].append(name)
    random = np.random.RandomState(seed)
    chosen = []
    for size, group in zip(sizes, members, strict=True):
        group = sorted(group, key=key)
        random.shuffle(group)
        chosen += group[:size]
    return chosen


def print_counts(classes, counts, shots):
    """The clips of each class, with its shot group (as torchlight.metrics has them), and the size of the groups."""
    low, high = shots
    groups = ["few" if n < low else "many" if n > high else "medium" for n in counts]
    for label, (name, count, group) in enumerate(zip(classes, counts, groups, strict=True)):
        print(f"  {label:3d} {name}: {count} ({group})")
    print("  classes: " + ", ".join(f"{groups.count(group)} {group}" for group in ("many", "medium", "few")))
