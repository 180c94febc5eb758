"""Losses by name. A loss is called as loss(logits (N, K), target) and returns the mean over the batch."""

from .cross_entropy import CrossEntropy
from .weights import action_aware

LOSSES = {"cross-entropy": None, "action-aware": action_aware}  # name: class weights from the class count, if any

__all__ = ["LOSSES", "build_loss"]


def build_loss(name, class_count):
    """A loss for a training set with these counts of clips (K,). Raises ValueError for an unknown name."""
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}; there are {', '.join(LOSSES)}")
    weights = LOSSES[name]
    return CrossEntropy(weights(class_count) if weights else None)
