"""Cross-entropy over plain and mixed labels, with class weights, changed logits, focal modulation, smoothed labels."""

import torch
from torch import nn

from torchlight.errors import expect


class LongTailedLoss(nn.Module):
    """logits (N, K), target -> the mean over the batch.

    change     None, or change(logits, label) -> logits of this label: margins, logit adjustment and the like
    weight     class weights (K,), or None
    gamma      focal modulation: a term counts (1 - p) ** gamma, p the probability of its label (Lin et al., ICCV 2017)
    smoothing  share of each label that is spread over all classes, with the weight of the label
    before     the loss before `defer_epoch`; None: cross-entropy with this smoothing

    target: a Target of feeders.mixing. A clip that counts `share` for its label and the rest for another class adds
    share * w_label * l(label) + (1 - share) * w_other * l(other). The sum over the batch is divided by the sum of the
    weights in it, as torch.nn.functional.cross_entropy does.
    """

    def __init__(self, change=None, weight=None, gamma=0.0, smoothing=0.0, before=None):
        super().__init__()
        expect(gamma >= 0, "gamma", "at least 0", gamma)
        expect(0 <= smoothing < 1, "smoothing", "a share below 1", smoothing)
        self.change, self.gamma, self.smoothing = change, gamma, smoothing
        self.register_buffer("weight", None if weight is None else torch.as_tensor(weight, dtype=torch.float32))
        self.before = before

    def forward(self, logits, target):
        loss, weight = self._term(logits.float(), target.label, target.share)
        if target.other is not None:
            other_loss, other_weight = self._term(logits.float(), target.other, 1 - target.share)
            loss, weight = loss + other_loss, weight + other_weight
        return loss.sum() / weight.sum()

    def _term(self, logits, label, share):
        """What the labels (N,) with these shares add: losses (N,), weights (N,)."""
        logits = logits if self.change is None else self.change(logits, label)
        log_p = logits.log_softmax(dim=1)
        own = log_p.gather(1, label[:, None])[:, 0]
        loss = -own
        if self.smoothing:
            loss = (1 - self.smoothing) * loss - self.smoothing * log_p.mean(dim=1)
        if self.gamma:
            loss = loss * (-torch.expm1(own)).clamp_min(1e-6) ** self.gamma  # at 0 its slope may be infinite
        weight = torch.ones_like(own) if self.weight is None else self.weight[label]
        weight = weight if share is None else weight * share
        return weight * loss, weight
