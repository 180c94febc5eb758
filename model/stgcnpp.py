"""ST-GCN++ (Duan et al., PYSKL, ACM MM 2022): ST-GCN with a learned adjacency, a shortcut in the graph convolution
and a multi-branch temporal convolution. The backbone of BRL's tables.
"""

from torch import nn

from torchlight.fold import merge

from .backbone import GraphBackbone
from .layers import BatchNorm2d, PointwiseConv, SubsetConv, TemporalBranches, shortcut


class STGraphConv(nn.Module):
    """Section 3.2: a learned adjacency, initialised with the graph's. (N, C, T, V) -> (N, C', T, V)"""

    def __init__(self, in_channels, out_channels, A):
        super().__init__()
        self.A = nn.Parameter(A.clone())
        self.conv = SubsetConv(in_channels, out_channels, A.shape[0], early=True)
        self.bn = BatchNorm2d(out_channels)
        self.down = shortcut(in_channels, out_channels)

    def forward(self, x):
        return self.bn(self.conv(x, self.A)).add_(self.down(x)).relu_()

    def merge_norms(self):
        self.bn = self.conv.merge_norm(self.bn)


class MultiBranchTemporalConv(TemporalBranches):
    """Section 3.2: six branches: four convolutions of kernel 3, dilated 1 to 4, max pooling, a pointwise convolution.

    (N, C, T, V) -> (N, C', ceil(T / stride), V). The branches have C' // 6 channels, the first takes what remains.
    """

    def __init__(self, in_channels, out_channels, stride, kernel_size=3, dilations=(1, 2, 3, 4)):
        others = len(dilations) + 1
        width = out_channels // (others + 1)
        widths = [out_channels - width * others] + [width] * others
        super().__init__(in_channels, widths, stride, kernel_size, dilations)
        self.transform_bn = BatchNorm2d(out_channels)
        self.transform = PointwiseConv(out_channels, out_channels)
        self.bn = BatchNorm2d(out_channels)

    def forward(self, x):
        return self.mix(self.branches(x))

    def mix(self, y):
        return self.bn(self.transform(self.transform_bn(y).relu_()))

    def merge_norms(self):
        super().merge_norms()
        self.transform_bn = self.merge_branches(self.transform_bn)
        self.bn = merge(self.transform, self.bn)


class STBlock(nn.Module):
    """Graph convolution, temporal convolution, shortcut. (N, C, T, V) -> (N, C', ceil(T / stride), V)"""

    def __init__(self, in_channels, out_channels, A, stride, residual):
        super().__init__()
        self.gcn = STGraphConv(in_channels, out_channels, A)
        self.tcn = MultiBranchTemporalConv(out_channels, out_channels, stride)
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        return (y if self.residual is None else y.add_(self.residual(x))).relu_()


class STGCNPP(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 1.40 M parameters for NTU RGB+D 60.

    Convolutions keep PyTorch's own initialisation, as in PYSKL; the classifier is drawn from N(0, 0.01).
    """

    def __init__(self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0):
        super().__init__(STBlock, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="VC")
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)
