"""What long-tailed losses do to logits before the softmax. Each is called as change(logits (N, K), label (N,))."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from feeders.balance import tail_classes
from torchlight.errors import expect

from .weights import counts


def _tensor(values):
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


class LogitAdjustment(nn.Module):
    """z + tau log(n_c / n) (Menon et al., ICLR 2021). tau = 1 is the balanced softmax (Ren et al., NeurIPS 2020)."""

    def __init__(self, class_count, tau=1.0):
        super().__init__()
        expect(tau >= 0, "logit adjustment: tau", "at least 0", tau)
        n = counts(class_count, "logit adjustment")
        self.register_buffer("offset", _tensor(tau * np.log(n / n.sum())))

    def forward(self, logits, label):
        return logits + self.offset


class Margins(nn.Module):
    """LDAM: scale * (z - m_y for the label), m_c proportional to n_c ** (-1/4) (Cao et al., NeurIPS 2019)."""

    def __init__(self, class_count, max_margin=0.5, scale=30.0):
        super().__init__()
        expect(max_margin >= 0, "LDAM: max_margin", "at least 0", max_margin)
        expect(scale > 0, "LDAM: scale", "above 0", scale)
        margin = counts(class_count, "LDAM") ** -0.25
        self.register_buffer("margin", _tensor(margin * max_margin / margin.max()))
        self.scale = scale

    def forward(self, logits, label):
        return self.scale * (logits - self.margin * F.one_hot(label, logits.shape[1]))


class Equalization(nn.Module):
    """Rare classes are left out of the softmax of other classes' clips, with probability gamma (Tan et al., CVPR 2020).

    Rare is the tail third (tail_classes; BRL's code takes one class fewer), but no class with as many clips as the most
    frequent one; Tan et al. go by a frequency, 1.76e-3 for LVIS, and gamma = 0.9 is theirs. Draws from PyTorch's own
    generator.
    """

    def __init__(self, class_count, gamma=0.9):
        super().__init__()
        expect(0 <= gamma <= 1, "equalization: gamma", "a probability", gamma)
        n = np.asarray(class_count)
        self.register_buffer("rare", torch.from_numpy(tail_classes(n) & (n < n.max())))
        self.gamma = gamma

    def forward(self, logits, label):
        chosen = torch.rand_like(logits) < self.gamma
        own = F.one_hot(label, logits.shape[1]).bool()
        return logits.masked_fill(chosen & self.rare & ~own, -1e7)


class KeyPointSensitive(nn.Module):
    """KPS: logits scaled up for frequent classes, margins and then scales for rare labels (Li et al., TPAMI 2022; BRL).

    s_c = log(50 n_c / n_min) / log(50); r_c the same with the counts in reverse order. z_c s_c, minus max_margin r_y /
    max(r) for the label; in the second stage all times r_y.
    """

    def __init__(self, class_count, max_margin=0.5, second_stage=True):
        super().__init__()
        expect(max_margin >= 0, "KPS: max_margin", "at least 0", max_margin)
        n = counts(class_count, "KPS")
        scale = np.log(50 * n / n.min()) / math.log(50)
        reverse, order = np.empty_like(scale), np.argsort(-n, kind="stable")
        reverse[order] = scale[order[::-1]]
        self.register_buffer("scale", _tensor(scale))
        self.register_buffer("reverse", _tensor(reverse))
        self.max_margin, self.second_stage = max_margin, second_stage

    def forward(self, logits, label):
        margin = self.max_margin * self.reverse / self.reverse.max()
        logits = logits * self.scale - margin * F.one_hot(label, logits.shape[1])
        return logits * self.reverse[label, None] if self.second_stage else logits


class Gumbel(nn.Module):
    """Gumbel's distribution exp(-exp(-z)) in place of z, which is cut to -4 to 10 (Alexandridis et al., ECCV 2022)."""

    def forward(self, logits, label):
        return torch.exp(-torch.exp(-logits.clamp(-4, 10)))
