"""Class weights from the number of training clips of each class."""

import numpy as np


def action_aware(class_count):
    """BRL's action-aware weights (section III-D), (K,) float64 with mean 1.

    beta_c = 0.99 + 0.0099 (n_c - n_min) / (n_max - n_min);  w_c = (1 - beta_c) / (1 - beta_c ** n_c), scaled to sum K.
    All 1 where the counts are equal. Raises ValueError for a class without clips.
    """
    n = np.asarray(class_count, dtype=np.float64)
    if n.min() < 1:
        raise ValueError(f"action-aware loss: class {int(n.argmin())} has no training clips")
    if n.max() == n.min():
        return np.ones(len(n))
    beta = 0.99 + 0.0099 * (n - n.min()) / (n.max() - n.min())
    weight = (1 - beta) / (1 - beta**n)
    return weight * len(n) / weight.sum()
