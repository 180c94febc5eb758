"""Batch norm of a test as part of the convolution before it: fewer passes over the features."""

import copy

import torch
from torch import nn


@torch.no_grad()
def fold(model):
    """A copy of the model for testing, batch norms merged into convolutions: the same logits but for rounding.

    In an nn.Sequential a convolution that a batch norm follows. Any other module says by merge_norms() what it merges.
    A compiled model is returned as it is, in its evaluation mode too: its compiler fuses what can be.
    """
    model.eval()
    if getattr(model, "_compiled_call_impl", None) is not None:
        return model
    model = copy.deepcopy(model)
    for module in model.modules():
        if hasattr(module, "merge_norms"):
            module.merge_norms()
        elif isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                if isinstance(module[i], CONVOLUTIONS) and isinstance(module[i + 1], nn.modules.batchnorm._BatchNorm):
                    module[i + 1] = merge(module[i], module[i + 1])
    return model


CONVOLUTIONS = nn.Conv1d | nn.Conv2d | nn.Conv3d


def scale_and_shift(norm):
    """What a batch norm multiplies by in a test, and what it adds: (C,) each."""
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


def rescale(conv, scale):
    """Multiply the output channels of a convolution, C' or as many times as it has them, by scale (C',)."""
    scale = scale.repeat(len(conv.weight) // len(scale))
    conv.weight.mul_(scale.view(-1, *[1] * (conv.weight.dim() - 1)))
    if conv.bias is not None:
        conv.bias.mul_(scale)


def absorb(conv, scale, shift):
    """Make a convolution compute scale * y + shift, (C',) each, where it computed y."""
    rescale(conv, scale)
    conv.bias = nn.Parameter(shift if conv.bias is None else conv.bias + shift)


def merge(conv, norm):
    """Make a convolution compute what norm makes of it in a test. Returns what takes norm's place."""
    absorb(conv, *scale_and_shift(norm))
    return nn.Identity()


class Affine(nn.Module):
    """scale * x + shift, (C,) each: what is left of a batch norm. (N, C, T, V) -> the same"""

    def __init__(self, scale, shift):
        super().__init__()
        self.register_buffer("scale", scale.view(-1, 1, 1))
        self.register_buffer("shift", shift.view(-1, 1, 1))

    def forward(self, x):
        return torch.addcmul(self.shift, self.scale, x)
