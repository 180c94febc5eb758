"""Losses by name. A loss is called as loss(logits (N, K), target) and returns the mean over the batch."""

from torchlight.config import bind, nearest

from .logits import Equalization, Gumbel, KeyPointSensitive, LogitAdjustment, Margins
from .loss import LongTailedLoss
from .weights import WEIGHTS, action_aware, class_balanced, inverse_frequency

__all__ = ["LDAM_SCALE", "LOSSES", "build_loss", "makes_up"]

LDAM_SCALE = 30.0


def cross_entropy(class_count, smoothing=0.0):
    return LongTailedLoss(smoothing=smoothing)


def inverse_frequency_loss(class_count):
    return LongTailedLoss(weight=inverse_frequency(class_count))


def focal(class_count, gamma=2.0, weight="none"):
    return LongTailedLoss(weight=_weights(weight, class_count), gamma=gamma)


def class_balanced_loss(class_count, beta=0.999, gamma=0.0):
    return LongTailedLoss(weight=class_balanced(class_count, beta), gamma=gamma)


def ldam(class_count, max_margin=0.5, scale=LDAM_SCALE, beta=0.999999):
    """Margins from the first epoch on, class-balanced weights from `defer_epoch` on (LDAM-DRW)."""
    margins = Margins(class_count, max_margin, scale)
    return LongTailedLoss(margins, class_balanced(class_count, beta), before=LongTailedLoss(margins))


def balanced_softmax(class_count, weight="none", smoothing=0.0):
    return LongTailedLoss(LogitAdjustment(class_count), _weights(weight, class_count), smoothing=smoothing)


def logit_adjustment(class_count, tau=1.0, weight="none", smoothing=0.0):
    return LongTailedLoss(LogitAdjustment(class_count, tau), _weights(weight, class_count), smoothing=smoothing)


def equalization(class_count, gamma=0.9):
    return LongTailedLoss(Equalization(class_count, gamma))


def kps(class_count, max_margin=0.5):
    """Margins from the first epoch on, the second stage from `defer_epoch` on."""
    first = LongTailedLoss(KeyPointSensitive(class_count, max_margin, second_stage=False))
    return LongTailedLoss(KeyPointSensitive(class_count, max_margin), before=first)


def gumbel(class_count):
    return LongTailedLoss(Gumbel())


def action_aware_loss(class_count, smoothing=0.0):
    return LongTailedLoss(weight=action_aware(class_count), smoothing=smoothing)


LOSSES = {
    "cross-entropy": cross_entropy,
    "inverse-frequency": inverse_frequency_loss,
    "focal": focal,
    "class-balanced": class_balanced_loss,
    "ldam": ldam,
    "balanced-softmax": balanced_softmax,
    "logit-adjustment": logit_adjustment,
    "equalization": equalization,
    "kps": kps,
    "gumbel": gumbel,
    "action-aware": action_aware_loss,
}


def makes_up(name, arguments):
    """Whether a loss with these arguments makes up for the class counts: by adjustments, margins, scales or weights."""
    return name not in ("cross-entropy", "focal", "gumbel") or arguments.get("weight", "none") != "none"


def _weights(name, class_count):
    if name not in WEIGHTS:
        raise ValueError(f"unknown weights {name!r}{nearest(name, WEIGHTS)}; there are {', '.join(WEIGHTS)}")
    return WEIGHTS[name] and WEIGHTS[name](class_count)


def build_loss(name, class_count, **arguments):
    """A loss for a training set with these counts of clips (K,).

    Its attribute `before` is the loss of the epochs before `defer_epoch`, where that is not cross-entropy with its
    smoothing.
    Raises ValueError for an unknown name or argument, and for a class without clips where its count matters.
    """
    if name not in LOSSES:
        raise ValueError(f"unknown loss {name!r}{nearest(name, LOSSES)}; there are {', '.join(LOSSES)}")
    arguments = bind(LOSSES[name], arguments, name, skip=("class_count",))
    return LOSSES[name](class_count, **arguments)
