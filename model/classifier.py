"""Classifiers for long-tailed classes: one without lengths, and what can be done to a trained one afterwards."""

import torch
from torch import nn
from torch.nn import functional as F

from .loss.logits import LogitAdjustment


class CosineClassifier(nn.Module):
    """Cosines between features and class vectors, (N, C) -> (N, K): LDAM's normalised classifier (Cao et al., NeurIPS
    2019). The loss scales them: LDAM by 30.
    """

    def __init__(self, in_features, num_class):
        super().__init__()
        self.in_features = in_features
        self.weight = nn.Parameter(F.normalize(2 * torch.rand(num_class, in_features) - 1))

    def forward(self, x):
        return F.linear(F.normalize(x), F.normalize(self.weight))


CLASSIFIERS = {"linear": nn.Linear, "cosine": CosineClassifier}


@torch.no_grad()
def tau_normalise(classifier, tau):
    """Divide every class vector by its length to the power tau and drop the bias (Kang et al., ICLR 2020, section 4).

    classifier: a trained nn.Linear, changed in place; raises ValueError for another.
    """
    _check_linear(classifier, "tau_norm")
    classifier.weight /= classifier.weight.norm(dim=1, keepdim=True).clamp_min(1e-12) ** tau
    classifier.bias.zero_()


@torch.no_grad()
def adjust_logits(classifier, class_count, tau):
    """Subtract tau log(n_c / n) from the logits (Menon et al., ICLR 2021, section 4.1): it goes into the bias.

    classifier: an nn.Linear trained with plain cross-entropy, changed in place; class_count (K,): the clips that it was
    trained with. Raises ValueError for another classifier, and for a class without clips.
    """
    _check_linear(classifier, "adjust_logits")
    classifier.bias -= LogitAdjustment(class_count, tau).offset.to(classifier.bias)


def _check_linear(classifier, option):
    if not isinstance(classifier, nn.Linear):
        raise ValueError(f"{option} is for a linear classifier, not a {type(classifier).__name__}")


def freeze_backbone(model):
    """Let only the classifier learn (classifier re-training: Kang et al., ICLR 2020, section 4)."""
    model.requires_grad_(False)
    model.fc.requires_grad_(True)
