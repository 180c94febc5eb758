"""ST-GCN: Spatial Temporal Graph Convolutional Networks (Yan et al., AAAI 2018), as in MMAction2, PYSKL and BRL."""

from functools import partial

import torch
from torch import nn

from torchlight.errors import expect

from .backbone import GraphBackbone
from .layers import BatchNorm2d, GraphTemporalBlock, SubsetConv


class GraphConv(nn.Module):
    """Sections 3.3 and 3.5: the graph's adjacency, each edge weighted by its learned importance.

    (N, C, T, V) -> (N, C', T, V)
    """

    def __init__(self, in_channels, out_channels, A):
        super().__init__()
        self.register_buffer("A", A.clone())
        self.importance = nn.Parameter(torch.ones_like(A))
        self.conv = SubsetConv(in_channels, out_channels, A.shape[0], early=True)
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x):
        return self.bn(self.conv(x, self.A * self.importance)).relu_()

    def merge_norms(self):
        self.bn = self.conv.merge_norm(self.bn)


class STBlock(GraphTemporalBlock):
    def __init__(self, in_channels, out_channels, A, stride, residual, drop_out):
        gcn = GraphConv(in_channels, out_channels, A)
        super().__init__(gcn, in_channels, out_channels, stride, residual, kaiming=False, drop_out=drop_out)


class STGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 3.10 M parameters for NTU RGB+D 60.

    The adjacency of the paper is that of a graph labeled "stgcn_spatial". tcn_drop_out: after each convolution over
    time but the first; 0.5 in the paper's code. Convolutions keep PyTorch's own initialisation, as in PYSKL and BRL;
    the classifier is drawn from N(0, 0.01).
    """

    def __init__(self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, tcn_drop_out=0.0):
        expect(0 <= tcn_drop_out <= 1, "tcn_drop_out", "a probability", tcn_drop_out)
        block = partial(STBlock, drop_out=tcn_drop_out)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="VC")
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)
