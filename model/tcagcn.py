"""TCA-GCN: CTR-GCN with temporal-channel aggregation (Wang et al., 2022, Skeleton-based Action Recognition via
Temporal-Channel Aggregation). Each frame of a clip weights the channels in its own way, before the channel-wise
topologies join them, and an attention over channels, frames and joints fuses the scales of the temporal convolution.
"""

import math

import torch
from torch import nn

from torchlight.fold import merge

from .backbone import GraphBackbone
from .ctrgcn import CTRBlock, CTRGraphConv
from .layers import BatchNorm2d, PointwiseConv, kaiming_fan_out


class TemporalAggregation(nn.Module):
    """Temporal aggregation module: a pointwise convolution, its channels weighted frame by frame.

    (N, C, T, V) -> (N, S*C', T, V). The weights, 1 + expand(relu(bn(reduce(frame + context(clip))))), are convolutions
    over time of each frame's mean over joints, beside the mean of the clip. Subsets are groups: each has its own.
    """

    bias = None  # of the convolution

    def __init__(self, in_channels, out_channels, subsets):
        super().__init__()
        hidden = max(in_channels // 2, 1)
        self.conv = PointwiseConv(in_channels, subsets * out_channels, bias=False)
        self.context = PointwiseConv(in_channels, subsets * in_channels)
        over_time = {"kernel_size": (3, 1), "padding": (1, 0), "groups": subsets}
        self.reduce = nn.Conv2d(subsets * in_channels, subsets * hidden, **over_time)
        self.bn = BatchNorm2d(subsets * hidden)
        self.expand = nn.Conv2d(subsets * hidden, subsets * out_channels, **over_time, bias=False)
        for conv in (self.context, self.reduce, self.expand):  # the release's zeros for expand are overwritten there
            kaiming_fan_out(conv, branches=subsets)

    def forward(self, x):
        frames = x.mean(dim=3, keepdim=True)  # N, C, T, 1
        context = self.context(frames.mean(dim=2, keepdim=True))  # N, S*C, 1, 1
        hidden = self.reduce(frames.repeat(1, self.reduce.groups, 1, 1) + context)
        return self.conv(x) * (1 + self.expand(torch.relu(self.bn(hidden))))

    def merge_norms(self):
        self.bn = merge(self.reduce, self.bn)


class AttentionalFusion(nn.Module):
    """Weights in (0, 2) of what each scale has found, from its own place and from the mean of the clip.

    (N, C, T, V) -> the same shape. As attentional feature fusion (Dai et al., WACV 2021) with nothing to fuse it with.
    """

    def __init__(self, channels):
        super().__init__()
        self.local, self.clip = self.bottleneck(channels), self.bottleneck(channels)

    @staticmethod
    def bottleneck(channels):
        layers = [PointwiseConv(channels, channels), BatchNorm2d(channels)]
        return nn.Sequential(*layers, nn.ReLU(), PointwiseConv(channels, channels), BatchNorm2d(channels))

    def forward(self, x):
        return 2 * x * torch.sigmoid(self.local(x) + self.clip(x.mean(dim=(2, 3), keepdim=True)))


class TCAGraphConv(CTRGraphConv):
    """The graph convolution of CTR-GCN with values of each frame's own. (N, C, T, V) -> (N, C', T, V)"""

    def __init__(self, in_channels, out_channels, A):
        super().__init__(in_channels, out_channels, A)
        self.value = TemporalAggregation(in_channels, out_channels, len(A))

    def values(self, x):
        N, _, T, V = x.shape
        return (value.reshape(-1, T, V) for value in self.value(x).view(N, len(self.A), -1, T, V).unbind(dim=1))

    def merge_norms(self):
        super().merge_norms(self.value.conv)


class TCABlock(CTRBlock):
    """The block of CTR-GCN with both. (N, C, T, V) -> (N, C', ceil(T / stride), V)"""

    def __init__(self, in_channels, out_channels, A, stride, residual):
        super().__init__(in_channels, out_channels, A, stride, residual, tcn_relu=False)
        self.gcn = TCAGraphConv(in_channels, out_channels, A)
        self.tcn = nn.Sequential(self.tcn, AttentionalFusion(out_channels))


class TCAGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 4.95 M parameters for NW-UCLA, 4.97 M for NTU RGB+D 60.

    A training batch needs two bodies (clips times persons) at least: batch norms take means over clips alone.
    """

    def __init__(self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0):
        super().__init__(TCABlock, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="MVC")
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))
