"""The pieces that the graph backbones share. All take and give (N, C, T, V)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from torchlight.errors import expect
from torchlight.fold import Affine, absorb, merge, rescale, scale_and_shift


class PointwiseConv(nn.Conv2d):
    """1x1 convolution, parameters as nn.Conv2d(in_channels, out_channels, 1, stride=(stride, 1)).

    Computed as one matrix product a clip: the mathematics of conv2d at about half its time on a CPU.
    """

    def __init__(self, in_channels, out_channels, stride=1, bias=True):
        super().__init__(in_channels, out_channels, 1, stride=(stride, 1), bias=bias)

    def forward(self, x):
        if self.stride[0] > 1:
            x = x[:, :, :: self.stride[0]]
        N, C, T, V = x.shape
        W, x = self.weight.view(1, -1, C).expand(N, -1, -1), x.reshape(N, C, T * V)
        y = torch.bmm(W, x) if self.bias is None else torch.baddbmm(self.bias.view(1, -1, 1), W, x)
        return y.view(N, -1, T, V)


class BatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d; in training on a CPU its statistics are sums, which take a third of PyTorch's own time there."""

    def forward(self, x):
        plain = x.is_contiguous() and x.device.type == "cpu" and x.dtype == self.weight.dtype and x.numel() > x.shape[1]
        if not (self.training and plain) or torch.compiler.is_compiling():
            return super().forward(x)
        self.num_batches_tracked += 1
        return _BatchNorm.apply(x, self.weight, self.bias, self.running_mean, self.running_var, self.momentum, self.eps)


class _BatchNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, running_mean, running_var, momentum, eps):
        n = x.numel() // x.shape[1]
        flat = x.flatten(2)
        mean = flat.mean(dim=2).mean(dim=0)
        squares = torch.linalg.vector_norm(flat, dim=2).square().sum(dim=0) / n
        var = squares - mean * mean
        if torch.any(var < 0.01 * squares):  # the difference would lose digits
            var = torch.linalg.vector_norm(flat - mean[:, None], dim=2).square().sum(dim=0) / n
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(var * (n / (n - 1)), momentum)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, mean, torch.rsqrt(var + eps))
        return torch.native_batch_norm(x, weight, bias, mean, var, False, 0.0, eps)[0]

    @staticmethod
    def backward(ctx, grad):
        x, weight, mean, inverse = ctx.saved_tensors
        grads = torch.ops.aten.native_batch_norm_backward(
            grad, x, weight, None, None, mean, inverse, True, ctx.eps, list(ctx.needs_input_grad[:3])
        )
        return *grads, None, None, None, None


def temporal_conv(in_channels, out_channels, kernel_size, stride=1, dilation=1):
    """Convolution over time, (kernel_size, 1), padded so that T becomes ceil(T / stride)."""
    pad = dilation * (kernel_size - 1) // 2
    return nn.Conv2d(in_channels, out_channels, (kernel_size, 1), (stride, 1), (pad, 0), (dilation, 1))


class _MaxOverTime(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, stride):
        x = F.pad(x, (0, 0, 1, 1), value=-math.inf)
        before, at, after = (x[:, :, i : x.shape[2] - 2 + i : stride] for i in range(3))
        y = torch.maximum(before, at)
        ctx.stride, ctx.T = stride, x.shape[2]
        ctx.save_for_backward(at > before, after > y)
        return torch.maximum(y, after)

    @staticmethod
    def backward(ctx, grad):
        at_wins, after_wins = ctx.saved_tensors
        after = grad * after_wins
        before = grad - after
        at = before * at_wins
        before -= at
        N, C, _, V = grad.shape
        grad = grad.new_zeros(N, C, ctx.T, V)
        for i, part in enumerate((before, at, after)):
            grad[:, :, i : ctx.T - 2 + i : ctx.stride] += part
        return grad[:, :, 1:-1], None


def max_over_time(x, stride):
    """Max pooling over three frames, padded so that T becomes ceil(T / stride); the first maximum has the gradient.

    PyTorch's own takes ten times as long on a CPU.
    """
    return F.max_pool2d(x, (3, 1), (stride, 1), (1, 0)) if x.is_cuda else _MaxOverTime.apply(x, stride)


class TemporalBranches(nn.Module):
    """Branches side by side: convolutions over time, one a dilation, then max pooling, then a pointwise convolution.

    widths: the channels of each branch. The 1x1 convolutions that open all branches but the last are one. `branches`:
    (N, C, T, V) -> (N, sum(widths), ceil(T / stride), V); what follows is the subclass's.
    """

    def __init__(self, in_channels, widths, stride, kernel_size, dilations):
        super().__init__()
        self.widths = list(widths[:-1])
        self.reduce = PointwiseConv(in_channels, sum(self.widths))
        self.reduce_bn = BatchNorm2d(sum(self.widths))
        self.convs = nn.ModuleList(
            temporal_conv(w, w, kernel_size, stride, d) for w, d in zip(self.widths[:-1], dilations, strict=True)
        )
        self.stride = stride
        self.pool_bn = nn.Identity()  # see merge_branches
        self.point = PointwiseConv(in_channels, widths[-1], stride)

    def branches(self, x):
        *scales, pooled = self.reduce_bn(self.reduce(x)).relu_().split(self.widths, dim=1)
        convolved = [conv(scale) for conv, scale in zip(self.convs, scales, strict=True)]
        pooled = self.pool_bn(max_over_time(pooled, self.stride))
        return torch.cat([*convolved, pooled, self.point(x)], dim=1)

    def merge_norms(self):
        self.reduce_bn = merge(self.reduce, self.reduce_bn)

    def merge_branches(self, bn):
        """Merge a batch norm of `branches` into its convolutions; pooling keeps its part."""
        widths = [*self.widths, len(self.point.weight)]
        *scales, pooled, point = zip(*(x.split(widths) for x in scale_and_shift(bn)), strict=True)
        for conv, (scale, shift) in zip((*self.convs, self.point), (*scales, point), strict=True):
            absorb(conv, scale, shift)
        self.pool_bn = Affine(*pooled)
        return nn.Identity()


class ConvNorm(nn.Sequential):
    """A pointwise convolution and batch norm: the projection of a residual connection."""

    def __init__(self, in_channels, out_channels, stride=1):
        super().__init__(PointwiseConv(in_channels, out_channels, stride), BatchNorm2d(out_channels))


def shortcut(in_channels, out_channels, stride=1):
    """Identity where the shapes agree, a projection where they do not."""
    if in_channels == out_channels and stride == 1:
        return nn.Identity()
    return ConvNorm(in_channels, out_channels, stride)


def kaiming_fan_out(module, branches=1):
    """Initialise a convolution as He et al. (fan out), as if it were `branches` convolutions side by side."""
    fan_out = module.weight.shape[0] // branches * module.weight[0, 0].numel()
    nn.init.normal_(module.weight, 0, math.sqrt(2 / fan_out))
    if module.bias is not None:
        nn.init.zeros_(module.bias)


class SubsetConv(nn.Conv2d):
    """Graph convolution: of each subset of neighbours a pointwise convolution of its own, summed.

    x (N, C, T, V) and topology (S, V, V) or (N, S, V, V), whose [s, u, v] weighs joint u for joint v -> (N, C', T, V).
    Parameters: as S pointwise convolutions, stacked. They come after the gathering of joints: C is never above C', and
    each adds to the sum of those before. early: the biases count as if they came before it.
    """

    def __init__(self, in_channels, out_channels, num_subset, early=False):
        super().__init__(in_channels, num_subset * out_channels, 1)
        self.num_subset, self.early = num_subset, early
        self.register_buffer("shift", None)  # (C',), of a batch norm: see merge_norm

    def forward(self, x, topology):
        N, C, T, V = x.shape
        W, b = self.weight.view(self.num_subset, 1, -1, C), self.bias.view(self.num_subset, -1)
        b = torch.einsum("sc,suv->cv", b, topology) if self.early else b.sum(dim=0).unsqueeze(1)  # C', V or 1
        b = b if self.shift is None else b + self.shift.unsqueeze(1)
        y = b.unsqueeze(1).expand(-1, T, V).reshape(1, -1, T * V)
        x = x.reshape(N, C * T, V)
        for s, A in enumerate(topology.unbind(dim=-3)):
            gathered = (x @ A).view(N, C, T * V)
            W_s = W[s].expand(N, -1, -1).to(gathered.dtype)  # in mixed precision: sums in place do not convert
            y = y.baddbmm_(W_s, gathered) if s else torch.baddbmm(y, W_s, gathered)
        return y.view(N, -1, T, V)

    def merge_norm(self, bn):
        scale, self.shift = scale_and_shift(bn)
        rescale(self, scale)
        return nn.Identity()


class GraphTemporalBlock(nn.Module):
    """The block of ST-GCN: graph convolution, convolution over time with batch norm, shortcut.

    (N, C, T, V) -> (N, C', ceil(T / stride), V). gcn: the graph convolution, (N, C, T, V) -> (N, C', T, V). kaiming:
    whether He et al. initialise the convolutions over time. drop_out: before the sum, in all blocks with a shortcut.
    Raises ValueError for an even kernel_size.
    """

    def __init__(self, gcn, in_channels, out_channels, stride, residual, kernel_size=9, kaiming=True, drop_out=0.0):
        super().__init__()
        expect(kernel_size >= 1 and kernel_size % 2, "kernel_size", "odd", kernel_size)
        self.gcn = gcn
        self.tcn = temporal_conv(out_channels, out_channels, kernel_size, stride)
        self.bn = BatchNorm2d(out_channels)
        self.drop_out = nn.Dropout(drop_out if residual else 0.0)
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None
        if kaiming:
            kaiming_fan_out(self.tcn)
            if isinstance(self.residual, ConvNorm):
                kaiming_fan_out(self.residual[0])

    def forward(self, x):
        y = self.drop_out(self.bn(self.tcn(self.gcn(x))))
        return (y if self.residual is None else y.add_(self.residual(x))).relu_()

    def merge_norms(self):
        self.bn = merge(self.tcn, self.bn)
