"""DG-STGCN: Dynamic Spatial-Temporal Modeling for Skeleton-based Action Recognition (Duan et al., 2022, of PYSKL).

No topology is prescribed: each group of channels begins with a random one and learns it, and every clip refines it.
"""

from functools import partial

import torch
from torch import nn

from torchlight.errors import expect
from torchlight.fold import merge

from .backbone import GraphBackbone
from .layers import BatchNorm2d, ConvNorm, PointwiseConv, shortcut
from .stgcnpp import MultiBranchTemporalConv


class DynamicGraphConv(nn.Module):
    """DG-GCN: S groups of R channels, every channel with a topology of its own. (N, C, T, V) -> (N, C', T, V)

    From joint u to joint v, in group s: A[s] + alpha tanh(q_u - k_v) + beta softmax_u(q_u k_v). q and k are pointwise
    convolutions of the mean over time; tanh is of each channel, q_u k_v the product of all R channels.
    """

    def __init__(self, in_channels, out_channels, A, ratio, subset_wise):
        super().__init__()
        S = len(A)
        width = S * max(1, int(ratio * out_channels))
        self.subset_wise = subset_wise
        self.A = nn.Parameter(A.clone())
        self.alpha, self.beta = nn.Parameter(torch.zeros(S)), nn.Parameter(torch.zeros(S))
        self.relation = PointwiseConv(in_channels, 2 * width)
        self.pre = ConvNorm(in_channels, width)
        self.post = PointwiseConv(width, out_channels)
        self.bn = BatchNorm2d(out_channels)
        self.down = shortcut(in_channels, out_channels)

    def forward(self, x):
        N, _, T, V = x.shape
        value = self.pre(x).relu_().view(N, len(self.A), -1, T, V)  # N, S, R, T, V
        relation = self.relation(x.mean(dim=2, keepdim=True))  # the mean over time commutes with the convolution
        query, key = relation.view(N, 2, len(self.A), -1, V).unbind(dim=1)  # N, S, R, V
        channel = torch.tanh(query.unsqueeze(4) - key.unsqueeze(3))  # N, S, R, V, V
        group = torch.softmax(query.transpose(2, 3) @ key, dim=2).unsqueeze(2)  # N, S, 1, V, V
        alpha, beta = (gate if self.subset_wise else gate[:1] for gate in (self.alpha, self.beta))
        topology = self.A.unsqueeze(1) + alpha.view(-1, 1, 1, 1) * channel + beta.view(-1, 1, 1, 1) * group
        y = self.post((value @ topology).view(N, -1, T, V))
        return self.bn(y).add_(self.down(x)).relu_()

    def merge_norms(self):
        self.bn = merge(self.post, self.bn)


class DynamicTemporalConv(MultiBranchTemporalConv):
    """DG-TCN: the branches of ST-GCN++ see the skeleton, the mean of its joints, as one more joint; what they make of
    it is added to every joint, in a proportion of its own. (N, C, T, V) -> (N, C', ceil(T / stride), V)
    """

    def __init__(self, in_channels, out_channels, stride, num_point):
        super().__init__(in_channels, out_channels, stride)
        self.proportion = nn.Parameter(torch.zeros(num_point))

    def forward(self, x):
        y = self.branches(torch.cat([x, x.mean(dim=3, keepdim=True)], dim=3))
        return self.mix(y[..., :-1] + y[..., -1:] * self.proportion)

    def merge_branches(self, bn):
        return bn  # it comes after the sum of joint and skeleton


class DGBlock(nn.Module):
    """Graph convolution, temporal convolution, shortcut. (N, C, T, V) -> (N, C', ceil(T / stride), V)"""

    def __init__(self, in_channels, out_channels, A, stride, residual, ratio, subset_wise):
        super().__init__()
        self.gcn = DynamicGraphConv(in_channels, out_channels, A, ratio, subset_wise)
        self.tcn = DynamicTemporalConv(out_channels, out_channels, stride, A.shape[-1])
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        return (y if self.residual is None else y.add_(self.residual(x))).relu_()


class DGSTGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 1.7 M parameters for NTU RGB+D 60. Of the graph only V is used.

    num_filter: groups S of channels; ratio: of a group's channels to the block's; subset_wise: whether each group has a
    gate alpha and beta of its own, instead of the first for all. Topologies are drawn from N(0.04, 0.02), once for all
    blocks, the classifier from N(0, 0.01); the rest keeps PyTorch's own initialisation, as in PYSKL.
    """

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0,
        num_filter=8, ratio=0.125, subset_wise=False,
    ):  # fmt: skip
        expect(num_filter >= 1, "num_filter", "at least 1", num_filter)
        expect(ratio > 0, "ratio", "above 0", ratio)
        A = 0.04 + 0.02 * torch.randn(num_filter, graph.num_point, graph.num_point)
        block = partial(DGBlock, ratio=ratio, subset_wise=subset_wise)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="VC", A=A)
        self.subset_wise = subset_wise
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)
