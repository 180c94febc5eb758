"""FR-Head: a feature refinement head for any backbone (Zhou et al., CVPR 2023). It works in training only."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from .layers import BatchNorm2d

# The versions of the loss: whether false negatives and false positives move the scores.
VERSIONS = {
    "V0": (True, True),
    "V1": (True, True),  # of true positives only, as in the following three
    "NO FN": (False, True),
    "NO FP": (True, False),
    "NO FN & FP": (False, False),
    "V2": (True, True),  # by the distances from the prototypes; the loss weighted by 1 - p
}
CL_MODES = ("ST-Multi-Level",)
LEVELS = ("low", "mid", "high", "fin")
MOMENTUM, TEMPERATURE, ALPHA = 0.9, 0.125, 0.125


class Refinement(nn.Module):
    """What one feature is contrasted with (section 3.3): a projection of it, and a prototype of each class.

    prototype (hidden, K): running means of the features of each class's true positives; a buffer.
    """

    def __init__(self, channels, num_class, hidden=256):
        super().__init__()
        self.project = nn.Linear(channels, hidden)
        self.register_buffer("prototype", torch.randn(hidden, num_class))


def refine(refinements, features, logits, target, version="V0"):
    """The losses (B,) of B features, contrasted with class prototypes, which are corrected for what is confused with a
    class (section 3.3). Moves the prototypes.

    features: B tensors (N, C); logits (N, K) without gradient; target (N, K) one-hot, or shares of mixed labels.
    All features in one go: a GPU would else wait for the kernels of so small tensors to be started.
    """
    feature = torch.stack([own.project(x) for own, x in zip(refinements, features, strict=True)])  # B, N, H
    p = logits.softmax(dim=1)
    predicted = F.one_hot(logits.argmax(dim=1), logits.shape[1]).to(p)
    right = target * predicted  # true positives, N, K
    missed, wrong = target - right, predicted - right  # false negatives and false positives
    prototype = move([own.prototype for own in refinements], feature, right)  # B, H, K
    directions = F.normalize(feature, dim=2), F.normalize(prototype, dim=1)
    confused = 1 - p
    score, losses = directions[0] @ directions[1], []  # B, N, K
    for use, mask, sign in zip(VERSIONS[version], (missed, wrong), (1, -1), strict=True):
        moved = score + penalty(mask, sign, feature, directions, confused * target, right, version) if use else score
        losses.append(-(target * (moved / TEMPERATURE).log_softmax(dim=2)).sum(dim=2))
    loss = losses[0] + losses[1]  # B, N
    return ((confused * target).sum(dim=1) * loss if version == "V2" else loss).mean(dim=1)


def move(prototypes, feature, right):
    """Move the prototypes, B tensors (H, K), of classes with true positives towards their mean. Returns them,
    (B, H, K), with its gradient.
    """
    count = right.sum(dim=0)
    mean = feature.mT @ right / (count + 1e-12)  # B, H, K
    keep = torch.where(count > 1e-8, MOMENTUM, 1.0)
    prototype = torch.stack(prototypes) * keep + (1 - keep) * mean
    for old, new in zip(prototypes, prototype.detach(), strict=True):
        old.copy_(new)
    return prototype


def penalty(mask, sign, feature, directions, confused, right, version):
    """What is added to the scores (B, N, K), or (B, 1, K) in V2: at most 0, and 0 for classes without such a mistake.

    mask (N, K): the clips missed by a class (sign 1: pulled) or wrongly taken for it (sign -1: pushed away).
    """
    ambiguous = F.normalize(feature.mT @ F.normalize(mask, p=1, dim=0), dim=1)  # B, H, K: the mean of those clips
    there = mask.sum(dim=0) > 1e-8
    if version == "V2":
        return (sign * (directions[1] * ambiguous).sum(dim=1, keepdim=True) - 1) * there
    value = (sign * directions[0] @ ambiguous - 1) * confused * ALPHA * there
    return value if version == "V0" else value * right


class Squeeze(nn.Sequential):
    """Features (N, C, 1 or T, V or 1) of the mean over time or joints -> (N, width * size), about 256 numbers."""

    def __init__(self, channels, size, hidden, what):
        if not 1 <= size <= hidden:
            raise ValueError(f"FR-Head takes 1 to {hidden} {what}, not {size}")
        self.width = hidden // size * size
        super().__init__(nn.Conv2d(channels, hidden // size, 1), BatchNorm2d(hidden // size), nn.ReLU(), nn.Flatten())


class Level(nn.Module):
    """The features of one level, refined over joints and over time (section 3.2)."""

    def __init__(self, channels, num_frame, num_point, num_class, hidden=256):
        super().__init__()
        self.squeezes, self.refinements = nn.ModuleList(), nn.ModuleList()
        for size, what in ((num_point, "joints"), (num_frame, "frames")):
            squeeze = Squeeze(channels, size, hidden, what)
            self.squeezes.append(squeeze)
            self.refinements.append(Refinement(squeeze.width, num_class, hidden))

    def squeeze(self, x):
        """(N, M, C, T, V) -> two features (N, ·): spatial and temporal."""
        x = x.mean(dim=1)
        spatial, temporal = self.squeezes
        return spatial(x.mean(dim=2, keepdim=True)), temporal(x.mean(dim=3, keepdim=True))


class FRHead(nn.Module):
    """A backbone with a refinement loss on the features of four levels (cl_mode ST-Multi-Level).

    backbone   a model with forward_levels, forward_head and levels: any of the graph models
    num_frame  frames T of the training clips
    version    of the loss, one of VERSIONS
    weights    of the four levels' losses, low to final

    forward: (N, C, T, V, M) -> logits (N, K). In training (logits, squeezed features): what `loss` takes. It is apart
    from forward so that, with several devices, prototypes see the whole batch. Raises ValueError for a backbone without
    levels, or more than 256 joints or frames.
    """

    def __init__(self, backbone, num_frame, version="V0", weights=(0.1, 0.2, 0.5, 1.0)):
        super().__init__()
        if not hasattr(backbone, "levels"):
            raise ValueError(f"FR-Head needs features of joints and frames, which {type(backbone).__name__} has not")
        if version not in VERSIONS:
            raise ValueError(f"cl_version must be one of {', '.join(VERSIONS)}, not {version!r}")
        self.backbone, self.version, self.weights = backbone, version, tuple(weights)
        shape = backbone.num_point, backbone.num_class
        self.head = nn.ModuleDict({
            name: Level(channels, math.ceil(num_frame / stride), *shape)
            for name, (channels, stride) in zip(LEVELS, backbone.levels, strict=True)
        })  # fmt: skip

    def forward(self, x):
        if not self.training:
            return self.backbone(x)
        features = self.backbone.forward_levels(x)
        squeezed = [level.squeeze(x) for level, x in zip(self.head.values(), features, strict=True)]
        return self.backbone.forward_head(features[-1]), squeezed

    def loss(self, output, target):
        """What forward returns in training, and shares of labels (N, K) -> loss, for the whole batch."""
        logits = output[0].detach()
        logits = logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits
        features = [x.to(logits.dtype) for sides in output[1] for x in sides]
        refinements = [own for level in self.head.values() for own in level.refinements]
        losses = refine(refinements, features, logits, target, self.version).unflatten(0, (-1, 2)).sum(dim=1)
        return sum(weight * loss for weight, loss in zip(self.weights, losses, strict=True))
