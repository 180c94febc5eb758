"""What the graph backbones have in common: persons, data batch norm, the table of blocks, pooling, the classifier."""

import math

import torch
from torch import nn

from torchlight.errors import expect

# The ten blocks of ST-GCN and of all that followed: (channels as a multiple of the first, stride in time).
STAGES = ((1, 1), (1, 1), (1, 1), (1, 1), (2, 2), (2, 1), (2, 1), (4, 2), (4, 1), (4, 1))
NORMS = ("MVC", "VC")
LEVELS = (0, 4, 7, 9)  # the blocks whose features FR-Head refines: low, middle, high, final


class GraphBackbone(nn.Module):
    """A stack of spatial-temporal graph convolution blocks under a linear classifier.

    block      called as block(in_channels, out_channels, A, stride, residual)
    graph      graph.Graph: its A (S, V, V) goes to the blocks, its V sizes the data batch norm
    norm       data batch norm over "MVC" (persons apart; ST-GCN, CTR-GCN) or "VC" (persons alike; PYSKL)
    stages     the table of blocks; a table of its own has its own forward_levels and levels
    A          what the blocks are given instead of the graph's A

    base_channels: width of the first block, a multiple of 8; drop_out: before the classifier

    forward: (N, C, T, V, M) -> logits (N, K). Raises ValueError for an input of another C, V or M.
    """

    def __init__(
        self, block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm, stages=STAGES, A=None
    ):
        super().__init__()
        expect(in_channels >= 1, "in_channels", "at least 1", in_channels)
        expect(base_channels >= 8 and base_channels % 8 == 0, "base_channels", "a multiple of 8", base_channels)
        expect(0 <= drop_out <= 1, "drop_out", "a probability", drop_out)
        if norm not in NORMS:
            raise ValueError(f"norm must be one of {', '.join(NORMS)}, not {norm!r}")
        self.num_class, self.num_person, self.in_channels = num_class, num_person, in_channels
        self.num_point, self.labeling = graph.num_point, graph.labeling
        self.norm = norm
        bodies = num_person if norm == "MVC" else 1
        self.data_bn = nn.BatchNorm1d(bodies * graph.num_point * in_channels)
        A = torch.from_numpy(graph.A) if A is None else A
        widths = [in_channels] + [base_channels * factor for factor, _ in stages]
        self.blocks = nn.ModuleList(
            block(widths[i], widths[i + 1], A, stride, residual=i > 0) for i, (_, stride) in enumerate(stages)
        )
        self.drop_out = nn.Dropout(drop_out)
        self.fc = nn.Linear(widths[-1], num_class)

    def fold(self, x):
        """Normalise the input and make persons clips: (N, C, T, V, M) -> (N*M, C, T, V)."""
        N, C, T, V, M = x.shape
        if (self.in_channels, self.num_point, self.num_person) != (C, V, M):
            raise ValueError(
                f"the model takes clips of C={self.in_channels} channels, V={self.num_point} joints and "
                f"M={self.num_person} persons, not C={C}, V={V}, M={M}"
            )
        x = x.permute(0, 4, 3, 1, 2)  # N, M, V, C, T
        x = x.reshape(N, M * V * C, T) if self.norm == "MVC" else x.reshape(N * M, V * C, T)
        x = self.data_bn(x).view(N * M, V, C, T)
        return x.permute(0, 2, 3, 1).contiguous()  # N*M, C, T, V

    @property
    def levels(self):
        """(channels, stride in time since the input) of each of forward_levels."""
        factors, strides = zip(*STAGES, strict=True)
        return [(self.fc.in_features // STAGES[-1][0] * factors[i], math.prod(strides[: i + 1])) for i in LEVELS]

    def forward_levels(self, x):
        """(N, C, T, V, M) -> features (N, M, C', T', V) after the blocks LEVELS; the last ones go to pooling."""
        N, M = x.shape[0], x.shape[4]
        x, features = self.fold(x), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in LEVELS:
                features.append(x.view(N, M, *x.shape[1:]))
        return features

    def forward_head(self, x):
        """Features (N, M, C', T', V) -> logits (N, K): the mean over time, joints and persons, then the classifier."""
        return self.fc(self.drop_out(x.mean(dim=(3, 4)).mean(dim=1)))

    def forward(self, x):
        return self.forward_head(self.forward_levels(x)[-1])
