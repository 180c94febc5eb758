"""Mixing the clips of a batch, and their labels."""

from typing import NamedTuple

import torch
from torch.nn import functional as F

from torchlight.errors import expect


class Target(NamedTuple):
    """Labels of a batch. label (N,) int64; for mixed batches also other (N,) and share (N,): clip n counts `share` for
    label and 1 - share for other.
    """

    label: torch.Tensor
    other: torch.Tensor | None = None
    share: torch.Tensor | None = None

    def shares(self, num_class):
        """What each clip counts for each class, (N, K) float32, rows of sum 1."""
        own = F.one_hot(self.label, num_class).float()
        if self.other is None:
            return own
        return self.share[:, None] * own + (1 - self.share[:, None]) * F.one_hot(self.other, num_class)


class RebalancedPartial:
    """BRL's rebalanced partial mixup (section III-B).

    In a batch of N clips, round(ratio * N) of them (at least one) keep their upper body and take the lower body of
    another clip, drawn at random, in every frame. The label weight of clip i mixed with clip j is 0 where
    n_i > kappa * n_j, 1 where n_j > kappa * n_i, else alpha: the label leans to the rarer class.

    class_count (K,): training clips of each class. alpha: None is the share of upper joints (16/25 for NTU, 11/20 for
    NW-UCLA).
    """

    def __init__(self, graph, class_count, ratio=1 / 16, kappa=3.0, alpha: float | None = None):
        expect(0 < ratio <= 1, "ratio", "a share up to 1", ratio)
        expect(kappa >= 1, "kappa", "at least 1", kappa)
        expect(alpha is None or 0 <= alpha <= 1, "alpha", "a share up to 1", alpha)
        self.lower = torch.tensor(graph.lower)
        self.count = torch.as_tensor(class_count, dtype=torch.float32)
        self.ratio, self.kappa = ratio, kappa
        self.alpha = len(graph.upper) / graph.num_point if alpha is None else alpha

    def __call__(self, x, label, rng, epoch=0):
        """x (N, C, T, V, M), label (N,) -> (x, Target). The clips that lend a lower body lend it unmixed."""
        N, device = len(x), x.device
        share = torch.ones(N, device=device)
        if N < 2:
            return x, Target(label, label, share)
        self.lower, self.count = self.lower.to(device), self.count.to(device)
        chosen = torch.randperm(N, generator=rng, device=device)[: max(1, round(self.ratio * N))]
        other = (chosen + torch.randint(1, N, chosen.shape, generator=rng, device=device)) % N  # any but itself
        mixed = x.clone()
        mixed[chosen[:, None], :, :, self.lower] = x[other[:, None], :, :, self.lower]
        other_label = label.clone()
        other_label[chosen] = label[other]
        n_i, n_j = self.count[label[chosen]], self.count[label[other]]
        weight = torch.where(n_i > self.kappa * n_j, 0.0, torch.where(n_j > self.kappa * n_i, 1.0, self.alpha))
        share[chosen] = weight
        return mixed, Target(label, other_label, share)


class Mixup:
    """Whole clips: x' = share * x_i + (1 - share) * x_j, and the labels likewise (Zhang et al., ICLR 2018).

    The share of every clip is drawn from Beta(alpha, alpha), its partner is another clip of the batch. double: the
    mixed clips come after the batch itself, which stays, as in SkeletonAgent.
    """

    def __init__(self, graph, class_count, alpha=1.0, double: bool = False):
        expect(alpha >= 0.01, "alpha", "at least 0.01", alpha)  # of less a double has no draws left
        self.alpha, self.double = alpha, double

    def __call__(self, x, label, rng, epoch=0):
        """x (N, C, T, V, M), label (N,) -> (x, Target), of N clips or of 2 N."""
        N, device = len(x), x.device
        share = self.draw_shares(N, rng, device)
        if N < 2:
            return x, Target(label, label, torch.ones_like(share))
        partner = (torch.arange(N, device=device) + torch.randint(1, N, (1,), generator=rng, device=device)) % N
        part = share.view(N, *[1] * (x.dim() - 1))
        mixed, other = part * x + (1 - part) * x[partner], label[partner]
        share = self.label_shares(label, other, share)
        if not self.double:
            return mixed, Target(label, other, share)
        whole = torch.ones_like(share)
        return torch.cat([x, mixed]), Target(label.repeat(2), torch.cat([label, other]), torch.cat([whole, share]))

    def draw_shares(self, N, rng, device):
        if self.alpha == 1:
            return torch.rand(N, generator=rng, device=device)
        # Beta(a, a) from two draws of Gamma(a), as torch.distributions has it, which takes no generator
        # in double precision, since of a small alpha both may be too small for float32.
        alpha = torch.full((2, N), self.alpha, dtype=torch.float64, device=device)
        gamma = torch._standard_gamma(alpha, generator=rng)
        return (gamma[0] / gamma.sum(dim=0)).float()

    def label_shares(self, label, other, share):
        return share


class Remix(Mixup):
    """Mixup whose labels lean to the rarer class (Chou et al., ECCV 2020 workshops).

    Of clips i and j: the label is y_j where n_i >= kappa n_j and the share of i is below tau, y_i where
    n_j >= kappa n_i and the share of j is.
    """

    def __init__(self, graph, class_count, alpha=1.0, kappa=3.0, tau=0.5):
        super().__init__(graph, class_count, alpha)
        expect(kappa >= 1, "kappa", "at least 1", kappa)
        expect(0 <= tau <= 1, "tau", "a share up to 1", tau)
        self.count = torch.as_tensor(class_count, dtype=torch.float32)
        self.kappa, self.tau = kappa, tau

    def label_shares(self, label, other, share):
        count = self.count.to(label.device)
        n_i, n_j = count[label], count[other]
        share = torch.where((n_i >= self.kappa * n_j) & (share < self.tau), 0.0, share)
        return torch.where((n_j >= self.kappa * n_i) & (1 - share < self.tau), 1.0, share)
