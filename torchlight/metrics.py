"""Accuracies of a test, overall and by the number of training clips. Percent, rounded to 4 decimals."""

import numpy as np


def rank(score, label):
    """Classes that score (N, K) puts before the label (N,): (N,), 0 if it is the first. Ties go to the lower index."""
    N, K = score.shape
    own = score[np.arange(N), label][:, None]
    behind = score < own  # NaN is never behind, and nothing is behind NaN
    behind |= (score == own) & (np.arange(K) >= label[:, None])
    return K - np.count_nonzero(behind, axis=1)


def evaluate_scores(score, label, class_count, shots=(20, 100)):
    """Metrics of scores.

    score (N, K), label (N,), class_count (K,): the training clips of each class, or None if unknown. shots (low, high):
    few < low <= medium <= high < many, by class_count.

    Returns a dict: top1, top5, mean_class (mean over the classes that have test clips), many, medium, few (mean over
    their classes; None where there is none), per_class (None for a class without test clips), count (= class_count),
    confusion (K x K counts, rows are true classes, absent classes included).
    """
    K = score.shape[1]
    confusion = np.bincount(label * K + score.argmax(axis=1), minlength=K * K).reshape(K, K)
    clips = confusion.sum(axis=1)
    accuracy = np.where(clips > 0, np.diag(confusion) / np.maximum(clips, 1), np.nan)
    place = rank(score, label)
    low, high = shots
    n = np.full(K, np.nan) if class_count is None else np.asarray(class_count)
    groups = {"many": n > high, "medium": (n >= low) & (n <= high), "few": n < low}
    return {
        "top1": _percent((place < 1).mean()),
        "top5": _percent((place < 5).mean()),
        "mean_class": _mean(accuracy),
        **{name: _mean(accuracy[group]) for name, group in groups.items()},
        "per_class": [None if np.isnan(a) else _percent(a) for a in accuracy],
        "count": None if class_count is None else n.tolist(),
        "confusion": confusion.tolist(),
    }


def _mean(accuracy):
    present = accuracy[~np.isnan(accuracy)]
    return _percent(present.mean()) if len(present) else None


def _percent(share):
    return round(100 * float(share), 4)


SUMMARY = ("top1", "top5", "mean_class", "many", "medium", "few")


def format_summary(metrics):
    """'top1 86.85  top5 99.14  …': the numbers of SUMMARY with two decimals, '-' where a group is empty."""
    return "  ".join(f"{name} {'-' if metrics[name] is None else format(metrics[name], '.2f')}" for name in SUMMARY)
