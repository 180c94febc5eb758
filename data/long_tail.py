"""Long-tailed training splits: which clips of a balanced split remain."""

import numpy as np

from . import ntu

# How the clips of a class are ordered before they are shuffled. The NTU orders are those of BRL's published lists.
ORDERS = {
    "name": None,
    "xsub": ("performer", "setup", "camera", "replication", "action"),
    "xset": ("setup", "camera", "performer", "replication", "action"),
}


def class_sizes(num_class, n_max, imbalance):
    """n_c = int(n_max * (1 / imbalance) ** (c / (K - 1))) for c = 0 … K - 1 (Cui et al., CVPR 2019; BRL)."""
    if num_class < 2 or n_max < 1 or imbalance < 1:
        raise ValueError("a long tail needs at least 2 classes, n-max of at least 1 and imbalance of at least 1")
    return [int(n_max * (1 / imbalance) ** (c / (num_class - 1))) for c in range(num_class)]


def long_tail(names, labels, num_class, n_max, imbalance, order="name", seed=0):
    """Names of a long-tailed subset, class after class.

    In every class the names are sorted by `order`, shuffled by numpy's legacy generator (seeded once, before the first
    class), and the first n_c are taken; all of them where there are fewer. Depends on names and labels alone.
    """
    sizes = class_sizes(num_class, n_max, imbalance)
    fields = ORDERS[order]

    def key(name):
        return name if fields is None else tuple(ntu.parse_name(name)[field] for field in fields)

    members = [[] for _ in range(num_class)]
    for name, label in zip(names, labels, strict=True):
        members[label].append(name)
    random = np.random.RandomState(seed)
    chosen = []
    for size, group in zip(sizes, members, strict=True):
        group = sorted(group, key=key)
        random.shuffle(group)
        chosen += group[:size]
    return chosen


def read_names(path):
    """Clip names of a text file, one a line; empty lines do not count. Raises ValueError where there is none."""
    with open(path, encoding="utf-8") as file:
        names = [line.strip() for line in file if line.strip()]
    if not names:
        raise ValueError(f"{path}: holds no names")
    return names
