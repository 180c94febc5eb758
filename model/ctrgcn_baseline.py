"""The baseline of CTR-GCN's code (Chen et al., ICCV 2021), FR-Head's ST-GCN: it knows no graph, its topologies are
learned, starting from the identity.
"""

import math
from functools import partial

import torch
from torch import nn

from torchlight.errors import expect

from .backbone import GraphBackbone
from .layers import BatchNorm2d, GraphTemporalBlock, SubsetConv, kaiming_fan_out, shortcut


class LearnedGraphConv(nn.Module):
    """Topologies shared by all clips, the weights of each joint's neighbours scaled to norm 1.

    (N, C, T, V) -> (N, C', T, V)
    """

    def __init__(self, in_channels, out_channels, A):
        super().__init__()
        self.A = nn.Parameter(A.clone())
        self.conv = SubsetConv(in_channels, out_channels, A.shape[0])
        self.bn = BatchNorm2d(out_channels)
        self.down = shortcut(in_channels, out_channels)
        nn.init.normal_(self.conv.weight, 0, math.sqrt(2 / self.conv.weight.numel()))
        nn.init.zeros_(self.conv.bias)
        nn.init.constant_(self.bn.weight, 1e-6)
        if in_channels != out_channels:
            kaiming_fan_out(self.down[0])

    def forward(self, x):
        A = self.A / (self.A.norm(dim=1, keepdim=True) + 1e-4)
        return self.bn(self.conv(x, A)).add_(self.down(x)).relu_()

    def merge_norms(self):
        self.bn = self.conv.merge_norm(self.bn)


class BaselineBlock(GraphTemporalBlock):
    def __init__(self, in_channels, out_channels, A, stride, residual, kernel_size):
        gcn = LearnedGraphConv(in_channels, out_channels, A)
        super().__init__(gcn, in_channels, out_channels, stride, residual, kernel_size)


class CTRGCNBaseline(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 2.09 M parameters for NTU RGB+D 60. num_set: topologies a layer."""

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, num_set=3, kernel_size=5
    ):
        expect(num_set >= 1, "num_set", "at least 1", num_set)
        block, A = partial(BaselineBlock, kernel_size=kernel_size), torch.eye(graph.num_point).repeat(num_set, 1, 1)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="MVC", A=A)
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))
