"""Class weights from the number of training clips of each class, (K,) float64 with mean 1."""

import numpy as np

from torchlight.errors import expect


def counts(class_count, what):
    """The counts as float64. Raises ValueError for a class without clips."""
    n = np.asarray(class_count, dtype=np.float64)
    if n.min() < 1:
        raise ValueError(f"{what}: class {int(n.argmin())} has no training clips")
    return n


def inverse_frequency(class_count):
    """1 / n_c."""
    return _mean_one(1 / counts(class_count, "inverse-frequency weights"))


def class_balanced(class_count, beta=0.999):
    """The inverse of the effective number of clips, (1 - beta) / (1 - beta ** n_c) (Cui et al., CVPR 2019)."""
    expect(0 <= beta < 1, "class-balanced weights: beta", "from 0 to below 1", beta)
    return _effective(counts(class_count, "class-balanced weights"), beta)


def action_aware(class_count):
    """BRL's action-aware weights (section III-D): class-balanced ones with a beta for each class.

    beta_c = 0.99 + 0.0099 (n_c - n_min) / (n_max - n_min). All 1 where the counts are equal.
    """
    n = counts(class_count, "action-aware loss")
    if n.max() == n.min():
        return np.ones(len(n))
    return _effective(n, 0.99 + 0.0099 * (n - n.min()) / (n.max() - n.min()))


def _effective(n, beta):
    return _mean_one((1 - beta) / -np.expm1(n * np.log(beta)) if np.all(beta) else np.ones(len(n)))


def _mean_one(weight):
    return weight * len(weight) / weight.sum()


WEIGHTS = {
    "none": None,
    "inverse-frequency": inverse_frequency,
    "class-balanced": class_balanced,
    "action-aware": action_aware,
}
