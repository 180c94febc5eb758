"""MS-G3D: Disentangling and Unifying Graph Convolutions for Skeleton-Based Action Recognition (Liu et al., CVPR 2020).

A joint gathers its neighbours at each distance (scale) apart, in its own frame and, along a second pathway, in a window
of frames. Inside the graph convolutions time is the last dimension, (N, C, V, T): the learned adjacency of a window is
then a convolution over time whose channels are joints, and no window is ever copied out.
"""

from functools import partial

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from torchlight.fold import merge

from .backbone import GraphBackbone
from .layers import BatchNorm2d, PointwiseConv, TemporalBranches, shortcut

STAGES = ((1, 1), (2, 2), (4, 2))  # (channels as a multiple of the first, stride in time) of the three blocks
WINDOWS = (3, 5)  # frames


def adjacency_scales(near, num_scales):
    """Section 3.2: near (V, V) bool, self-loops included -> (num_scales, V, V) float32: of scale k the joints k bones
    away and the joint itself, normalised by the degrees of both.
    """
    itself = np.eye(len(near), dtype=bool)
    reach, scales = itself, [itself]
    for _ in range(num_scales - 1):
        farther = reach @ near
        scales.append(farther & ~reach | itself)
        reach = farther
    scales = np.stack(scales)
    degree = scales.sum(axis=2)  # symmetric: of rows and columns
    return (scales / np.sqrt(degree[:, :, None] * degree[:, None, :])).astype(np.float32)


def gather(x, A, stride):
    """Convolution over time whose channels are joints: x (N, U, T), A (V, U, window) -> (N, V, ceil(T / stride))"""
    if A.shape[2] == 1:  # conv1d is slower than a matrix product
        return torch.bmm(A[:, :, 0].expand(x.shape[0], -1, -1), x[:, :, ::stride])
    return F.conv1d(x, A.contiguous(), stride=stride, padding=A.shape[2] // 2)


class MultiScaleGraphConv(nn.Module):
    """Sections 3.2 and 3.3: graph convolution over all scales, within windows of frames.

    (N, C, V, T) -> (N, C', window*V, T / stride), for each joint of each window. Zeros surround the clip. The adjacency
    A + A_res (scale * joint of the window, its neighbour in the window) is learned around the graph's.
    """

    def __init__(self, in_channels, out_channels, near, num_scales, window=1, stride=1):
        super().__init__()
        self.num_scales, self.window, self.stride = num_scales, window, stride
        A = adjacency_scales(np.tile(near, (window, window)), num_scales)
        self.register_buffer("A", torch.from_numpy(A).flatten(0, 1))
        self.A_res = nn.Parameter(torch.empty_like(self.A).uniform_(-1e-6, 1e-6))
        self.conv = PointwiseConv(num_scales * in_channels, out_channels)
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x):
        N, C, V, T = x.shape
        K, window = self.num_scales, self.window
        A = (self.A + self.A_res).view(K, window * V, window, V)
        W, b = self.conv.weight.view(1, -1, K, C), self.conv.bias.view(1, -1, 1)
        # The two products commute. The pointwise one had better come first: it then sees each frame once, not once a
        # window, and the other sums over the scales. But where it adds channels it comes last.
        if W.shape[1] > C:
            A = A.flatten(0, 1).transpose(1, 2)
            y = gather(x.reshape(N * C, V, T), A, self.stride)  # N*C, K*window*V, T'
            W = W.transpose(2, 3).reshape(1, -1, C * K)
            y = torch.baddbmm(b, W.expand(N, -1, -1), y.reshape(N, C * K, -1))  # N, C', window*V*T'
        else:
            y = torch.bmm(W.reshape(1, -1, C).expand(N, -1, -1), x.reshape(N, C, V * T))  # N, C'*K, V*T
            A = A.permute(1, 0, 3, 2).reshape(window * V, K * V, window)
            y = gather(y.view(-1, K * V, T), A, self.stride)  # N*C', window*V, T'
            y = y.reshape(N, W.shape[1], -1).add_(b)
        return self.bn(y.view(N, W.shape[1], window * V, -1)).relu_()

    def merge_norms(self):
        self.bn = merge(self.conv, self.bn)


class WindowGraphConv(nn.Module):
    """G3D, section 3.3: graph convolution in windows of frames, each then one frame. (N, C, V, T) -> (N, C', V, T')"""

    def __init__(self, in_channels, hidden, out_channels, near, num_scales, window, stride):
        super().__init__()
        self.gcn = MultiScaleGraphConv(in_channels, hidden, near, num_scales, window, stride)
        self.collapse = PointwiseConv(hidden * window, out_channels)
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x):
        N, _, V, _ = x.shape
        y = self.gcn(x)  # N, C, window*V, T'
        return self.bn(self.collapse(y.view(N, -1, V, y.shape[3])))

    def merge_norms(self):
        self.bn = merge(self.collapse, self.bn)


class MultiScaleTemporalConv(TemporalBranches):
    """Section 3.4: six branches: four convolutions of kernel 3, dilated 1 to 4, max pooling, a pointwise convolution;
    a shortcut around them.

    (N, C, T, V) -> (N, C', ceil(T / stride), V). The branches have C' // 6 channels, the last takes what remains.
    """

    def __init__(self, in_channels, out_channels, stride=1, relu=True, dilations=(1, 2, 3, 4)):
        others = len(dilations) + 1
        width = out_channels // (others + 1)
        super().__init__(in_channels, [width] * others + [out_channels - width * others], stride, 3, dilations)
        self.bn = BatchNorm2d(out_channels)
        self.residual = shortcut(in_channels, out_channels, stride)
        self.relu = relu

    def forward(self, x):
        y = self.bn(self.branches(x)) + self.residual(x)
        return y.relu_() if self.relu else y

    def merge_norms(self):
        super().merge_norms()
        self.bn = self.merge_branches(self.bn)


class STGCBlock(nn.Module):
    """Section 3.4: two pathways, their sum, a temporal convolution. (N, C, T, V) -> (N, C', ceil(T / stride), V)

    One factorises space and time, the other has a G3D for each of WINDOWS. The first block (which GraphBackbone calls
    without residual) widens in its graph convolutions, the others after them.
    """

    def __init__(self, in_channels, out_channels, near, stride, residual, num_gcn_scales, num_g3d_scales):
        super().__init__()
        hidden = in_channels if residual else out_channels
        self.gcn = MultiScaleGraphConv(in_channels, hidden, near, num_gcn_scales)
        self.tcns = nn.Sequential(
            MultiScaleTemporalConv(hidden, out_channels, stride),
            MultiScaleTemporalConv(out_channels, out_channels, relu=False),
        )
        self.g3d = nn.ModuleList(
            WindowGraphConv(in_channels, hidden, out_channels, near, num_g3d_scales, window, stride)
            for window in WINDOWS
        )
        self.tcn = MultiScaleTemporalConv(out_channels, out_channels)

    def pathways(self, x):
        """(N, C, T, V) -> (N, C', ceil(T / stride), V): the sum of the pathways."""
        x = x.transpose(2, 3).contiguous()
        factorised = self.tcns(self.gcn(x).transpose(2, 3).contiguous())
        return (factorised + sum(g3d(x) for g3d in self.g3d).transpose(2, 3)).relu_()

    def forward(self, x):
        return self.tcn(self.pathways(x))


class MSG3D(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Three blocks; 3.19 M parameters for NTU RGB+D 60.

    num_gcn_scales, num_g3d_scales: distances, from 0, that are told apart in a frame and in a window; 13 and 6 are
    published for NTU RGB+D, 8 and 8 for Kinetics-Skeleton. PyTorch's own initialisation, as in the release.
    """

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=96, drop_out=0.0,
        num_gcn_scales=13, num_g3d_scales=6,
    ):  # fmt: skip
        if min(num_gcn_scales, num_g3d_scales) < 1:
            raise ValueError(
                f"at least one scale is needed, not {num_gcn_scales} in a frame, {num_g3d_scales} in a window"
            )
        near = np.eye(graph.num_point, dtype=bool)
        for joint, parent in graph.bones:
            near[joint, parent] = near[parent, joint] = True
        block = partial(STGCBlock, num_gcn_scales=num_gcn_scales, num_g3d_scales=num_g3d_scales)
        sizes = num_class, num_person, in_channels, base_channels, drop_out
        super().__init__(block, graph, *sizes, norm="MVC", stages=STAGES, A=near)

    @property
    def levels(self):
        """(channels, stride in time since the input) of each of forward_levels."""
        last = self.fc.in_features
        return [(last // 4, 1), (last // 2, 2), (last, 4), (last, 4)]

    def forward_levels(self, x):
        """(N, C, T, V, M) -> features (N, M, C', T', V) after each block, of the last one before its temporal
        convolution too.
        """
        N, M = x.shape[0], x.shape[4]
        x, features = self.fold(x), []
        for block in self.blocks:
            high = block.pathways(x)
            x = block.tcn(high)
            features.append(x)
        return [y.view(N, M, *y.shape[1:]) for y in (*features[:2], high, x)]
