"""Cross-entropy over plain and mixed labels, with class weights."""

import torch
from torch import nn


class CrossEntropy(nn.Module):
    """weight (K,): class weights, or None.

    target: a Target of feeders.mixing. A clip that counts `share` for its label and the rest for another class adds
    share * w_label * l(label) + (1 - share) * w_other * l(other). The sum over the batch is divided by the sum of the
    weights in it, as torch.nn.functional.cross_entropy does.
    """

    def __init__(self, weight=None):
        super().__init__()
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight, dtype=torch.float32))

    def forward(self, logits, target):
        log_p = logits.float().log_softmax(dim=1)
        loss, weight = self._term(log_p, target.label, target.share)
        if target.other is not None:
            other_loss, other_weight = self._term(log_p, target.other, 1 - target.share)
            loss, weight = loss + other_loss, weight + other_weight
        return loss.sum() / weight.sum()

    def _term(self, log_p, label, share):
        weight = torch.ones_like(log_p[:, 0]) if self.weight is None else self.weight[label]
        weight = weight if share is None else weight * share
        return -weight * log_p.gather(1, label[:, None])[:, 0], weight
