"""Which clips an epoch is made of."""

import numpy as np
import torch


def class_count(label, num_class):
    """Clips of each class, (K,) int64; those without a label, -1, do not count.

    The counts of the balanced losses and samplers come from here: from the data.
    """
    return np.bincount(label[label >= 0], minlength=num_class)


def tail_classes(count):
    """The tail third, bool (K,): the K - 2 * (K // 3) classes of fewest clips (4 of 10, 2 of 4, both of 2).

    Of equals, those of higher index.
    """
    K = len(count)
    tail = np.zeros(K, dtype=bool)
    tail[np.argsort(-count, kind="stable")[2 * (K // 3) :]] = True
    return tail


def uniform(count):
    """Each clip once."""
    return count


def reverse(count):
    """BRL's temporal reverse perception (section III-C): clips of the tail third round(n_max / n_c) times, others once.

    Each repetition is a clip of its own to the feeder and draws its own frames.
    """
    times = np.rint(count.max() / np.maximum(count, 1)).astype(np.int64)
    return np.where(tail_classes(count), times, 1) * count


def class_balanced(count):
    """As many clips of every class (Kang et al., ICLR 2020)."""
    return _share(count, count > 0)


def square_root(count):
    """Clips of class c in proportion to the square root of n_c (Kang et al., ICLR 2020; Mahajan et al., ECCV 2018)."""
    return _share(count, np.sqrt(count))


def _share(count, weight):
    """About count.sum() clips shared out to the classes by weight, at least one to each that has any."""
    draws = np.rint(count.sum() * weight / weight.sum()).astype(np.int64)
    return np.where(count > 0, np.maximum(draws, 1), 0)


SAMPLERS = {"uniform": uniform, "reverse": reverse, "class-balanced": class_balanced, "square-root": square_root}


def epoch_order(label, num_class, sampler, repeat, generator):
    """Positions in the split, in the random order of one epoch: an int64 tensor.

    label (N,): of the split's clips. sampler: a name in SAMPLERS, which says how many clips an epoch draws of each
    class; of a class all clips come equally often, but for some that are drawn for the remainder. repeat: the whole
    that many times.
    """
    count = class_count(label, num_class)
    times, rest = np.divmod(SAMPLERS[sampler](count) * repeat, np.maximum(count, 1))
    positions = [torch.from_numpy(np.repeat(np.arange(len(label)), times[label]))]
    for c in np.flatnonzero(rest):
        members = torch.from_numpy(np.flatnonzero(label == c))
        positions.append(members[torch.randperm(len(members), generator=generator)[: rest[c]]])
    positions = torch.cat(positions)
    return positions[torch.randperm(len(positions), generator=generator)]


def hold_out(label, ratio, generator):
    """Split positions of a training set: (rest, held out), two sorted int64 arrays.

    Of each class round(ratio * n_c) clips are held out, at least one and never the last.
    """
    held = []
    for c in np.unique(label):
        members = torch.from_numpy(np.flatnonzero(label == c))
        size = min(max(1, round(ratio * len(members))), len(members) - 1)
        held.append(members[torch.randperm(len(members), generator=generator)[:size]].numpy())
    held = np.sort(np.concatenate(held)) if held else np.empty(0, dtype=np.int64)
    if not len(held):
        raise ValueError("val_ratio: no class has two training clips, so none can be held out")
    return np.setdiff1d(np.arange(len(label)), held), held
