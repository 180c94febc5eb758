"""CTR-GCN: Channel-wise Topology Refinement Graph Convolution (Chen et al., ICCV 2021).

The parameters of a layer's subsets, and of the branches of its temporal convolution, are stacked, and most are used by
one convolution where the release has several. What could be one pass over the features is not two.
"""

import math
from functools import partial

import torch
from torch import nn

from torchlight.fold import rescale, scale_and_shift

from .backbone import GraphBackbone
from .layers import BatchNorm2d, ConvNorm, PointwiseConv, TemporalBranches, kaiming_fan_out, shortcut


class CTRGraphConv(nn.Module):
    """Section 3.3: each channel has its own topology, the shared one refined by the relations of its joints.

    (N, C, T, V) -> (N, C', T, V). For subset s and channel c of clip n the topology is
    A[s] + alpha * (W4 tanh(W1 x_u - W2 x_v))[c], where x is the mean over time.
    """

    def __init__(self, in_channels, out_channels, A):
        super().__init__()
        S = A.shape[0]
        hidden = 8 if in_channels < 16 else in_channels // 8  # fewer than 16 are the channels of raw data
        self.A = nn.Parameter(A.clone())
        self.alpha = nn.Parameter(torch.zeros(1))
        self.query = PointwiseConv(in_channels, S * hidden)
        self.key = PointwiseConv(in_channels, S * hidden)
        self.value = PointwiseConv(in_channels, S * out_channels)
        self.expand = nn.Conv2d(S * hidden, S * out_channels, 1, groups=S)
        self.bn = BatchNorm2d(out_channels)
        self.register_buffer("shift", None)  # (C',), of the batch norm: see merge_norms
        self.down = shortcut(in_channels, out_channels)
        for conv in (self.query, self.key, self.value, self.expand):
            kaiming_fan_out(conv, branches=S)
        nn.init.constant_(self.bn.weight, 1e-6)
        if isinstance(self.down, ConvNorm):
            kaiming_fan_out(self.down[0])

    def forward(self, x):
        N, _, T, V = x.shape
        S = self.A.shape[0]
        pooled = x.mean(dim=2, keepdim=True)  # the mean over time commutes with a pointwise convolution
        query, key = self.query(pooled), self.key(pooled)  # N, S*R, 1, V
        relation = torch.tanh(query - key.transpose(2, 3)).view(N, S, -1, V * V)  # of joint u (last) to joint v
        topologies, y = self.refine(relation)
        y = y if self.shift is None else y + self.shift.repeat(N).view(-1, 1, 1)
        for s, (value, topology) in enumerate(zip(self.values(x), topologies, strict=True)):
            y = y.baddbmm_(value, topology) if s else torch.baddbmm(y, value, topology)  # the first to all frames
        return self.bn(y.view(N, -1, T, V)).add_(self.down(x)).relu_()

    def merge_norms(self, values=None):
        scale, self.shift = scale_and_shift(self.bn)
        self.bn = nn.Identity()
        rescale(values or self.value, scale)

    def values(self, x):
        """(N, C, T, V) -> for each subset W3 x, (N*C', T, V)."""
        N, C, T, V = x.shape
        x = x.reshape(N, C, T * V)
        return (torch.bmm(W.expand(N, -1, -1), x).view(-1, T, V) for W in self.value.weight.view(len(self.A), -1, C))

    def refine(self, relation):
        """(N, S, R, V*V) -> for each subset the topology alpha (W4 relation + b4) + A, (N*C', V, V), and what the bias
        b3 of the values adds in every frame, (N*C', 1, V).

        One product a subset: A and 1 are two more rows of the relations. The bias goes through the sums of the columns.
        """
        N, S, R, _ = relation.shape
        V = self.A.shape[1]
        A = self.A.transpose(1, 2).reshape(S, 1, V * V)
        rows = torch.cat([A, torch.ones_like(A)], dim=1).expand(N, S, 2, V * V)
        relation = torch.cat([relation, rows], dim=2)  # N, S, R + 2, V*V
        W = self.expand.weight.view(S, -1, R) * self.alpha
        b = self.expand.bias.view(S, -1, 1) * self.alpha
        W = torch.cat([W, torch.ones_like(b), b], dim=2)  # S, C', R + 2
        topology = [torch.bmm(W[s].expand(N, -1, -1), relation[:, s]).view(-1, V, V) for s in range(S)]
        if self.value.bias is None:
            return topology, relation.new_zeros(1, 1, V)
        sums = relation.view(N, S * (R + 2), V, V).sum(dim=2)  # N, S*(R+2), V
        biased = (W * self.value.bias.view(S, -1, 1)).transpose(0, 1).reshape(1, -1, S * (R + 2))
        return topology, torch.bmm(biased.expand(N, -1, -1), sums).view(-1, 1, V)


class MultiScaleTemporalConv(TemporalBranches):
    """Section 3.4: four branches of C'/4 channels: two dilated convolutions, max pooling, a pointwise convolution.

    (N, C, T, V) -> (N, C', ceil(T / stride), V). relu: with one at the end, as PYSKL has it.
    """

    def __init__(self, in_channels, out_channels, stride, kernel_size=5, dilations=(1, 2), relu=False):
        num_branches = len(dilations) + 2
        super().__init__(in_channels, [out_channels // num_branches] * num_branches, stride, kernel_size, dilations)
        self.relu = relu
        self.bn = BatchNorm2d(out_channels)
        kaiming_fan_out(self.reduce, branches=len(dilations) + 1)
        for conv in (*self.convs, self.point):
            kaiming_fan_out(conv)
        for bn in (self.reduce_bn, self.bn):
            nn.init.normal_(bn.weight, 1, 0.02)

    def forward(self, x):
        y = self.bn(self.branches(x))
        return y.relu_() if self.relu else y

    def merge_norms(self):
        super().merge_norms()
        self.bn = self.merge_branches(self.bn)


class CTRBlock(nn.Module):
    """Graph convolution, temporal convolution, shortcut. (N, C, T, V) -> (N, C', ceil(T / stride), V)"""

    def __init__(self, in_channels, out_channels, A, stride, residual, tcn_relu):
        super().__init__()
        self.gcn = CTRGraphConv(in_channels, out_channels, A)
        self.tcn_relu = tcn_relu
        self.tcn = MultiScaleTemporalConv(out_channels, out_channels, stride, relu=tcn_relu)
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None
        if isinstance(self.residual, ConvNorm):
            kaiming_fan_out(self.residual[0])

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        if self.tcn_relu:  # its gradient needs y as it is
            return y if self.residual is None else (y + self.residual(x)).relu_()
        return (y if self.residual is None else y.add_(self.residual(x))).relu_()


class CTRGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 1.43 M parameters for NW-UCLA, 1.45 M for NTU RGB+D 60.

    tcn_relu: a ReLU after each temporal convolution, before the residual is added (PYSKL, BRL, MMAction2).
    """

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, tcn_relu: bool = False
    ):
        block = partial(CTRBlock, tcn_relu=tcn_relu)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="MVC")
        self.tcn_relu = tcn_relu
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))
