"""2s-AGCN: Two-Stream Adaptive Graph Convolutional Networks (Shi et al., CVPR 2019), and AAGCN: with attention, and
gated relations (Shi et al., IEEE TIP 2020). One stream; ensemble.py fuses them.
"""

import math
from functools import partial

import torch
from torch import nn

from .backbone import GraphBackbone
from .layers import BatchNorm2d, GraphTemporalBlock, PointwiseConv, SubsetConv, kaiming_fan_out, shortcut

RELATIONS = ("tanh", "softmax")


class AdaptiveGraphConv(nn.Module):
    """Adaptive graph convolutional layer (CVPR, section 4.1). (N, C, T, V) -> (N, C', T, V)

    Each clip has a topology of its own: what is learned, and the similarity of its joints in an embedding.
    "softmax" (CVPR): the graph's A + a learned offset + softmax over u of (q_u . k_v); "tanh" (TIP): a learned A +
    alpha * tanh(q_u . k_v), alpha learned.
    """

    def __init__(self, in_channels, out_channels, A, relation, attention):
        super().__init__()
        S, V, _ = A.shape
        hidden = out_channels // 4
        self.relation = relation
        if relation == "softmax":
            self.register_buffer("A", A.clone())
            self.offset = nn.Parameter(torch.full_like(A, 1e-6))
        else:
            self.A = nn.Parameter(A.clone())
            self.alpha = nn.Parameter(torch.zeros(1))
        self.embed = PointwiseConv(in_channels, S * 2 * hidden)  # of each subset the query, then the key
        self.conv = SubsetConv(in_channels, out_channels, S)
        self.bn = BatchNorm2d(out_channels)
        self.down = shortcut(in_channels, out_channels)
        self.attention = Attention(out_channels, V) if attention else nn.Identity()
        kaiming_fan_out(self.embed, branches=2 * S)
        nn.init.normal_(self.conv.weight, 0, math.sqrt(2 / self.conv.weight.numel()))
        nn.init.zeros_(self.conv.bias)
        nn.init.constant_(self.bn.weight, 1e-6)
        if in_channels != out_channels:
            kaiming_fan_out(self.down[0])

    def topology(self, x):
        """(N, C, T, V) -> (N, S, V, V), from joint u to joint v (last)."""
        N, _, _, V = x.shape
        S = self.A.shape[0]
        query, key = self.embed(x).view(N * S, 2, -1, V).unbind(dim=1)  # N*S, R*T, V
        relation = (query.transpose(1, 2) @ key / query.shape[1]).view(N, S, V, V)
        if self.relation == "softmax":
            return self.A + self.offset + relation.softmax(dim=2)
        return self.A + self.alpha * torch.tanh(relation)

    def forward(self, x):
        y = self.bn(self.conv(x, self.topology(x)))
        return self.attention(y.add_(self.down(x)).relu_())

    def merge_norms(self):
        self.bn = self.conv.merge_norm(self.bn)


class Attention(nn.Module):
    """Attention module (TIP): gates 1 + sigmoid for joints, then frames, then channels. (N, C, T, V) -> the same.

    The means behind the second and third gate are taken of what the gates before would leave, without making it.
    """

    def __init__(self, channels, num_point):
        super().__init__()
        joints = num_point - 1 + num_point % 2  # an odd kernel
        self.joint = nn.Conv1d(channels, 1, joints, padding=joints // 2)
        self.frame = nn.Conv1d(channels, 1, 9, padding=4)
        self.squeeze = nn.Linear(channels, channels // 2)
        self.excite = nn.Linear(channels // 2, channels)
        nn.init.xavier_normal_(self.joint.weight)
        nn.init.zeros_(self.frame.weight)
        nn.init.kaiming_normal_(self.squeeze.weight)
        nn.init.zeros_(self.excite.weight)
        for layer in (self.joint, self.frame, self.squeeze, self.excite):
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        N, C, T, V = x.shape
        joint = 1 + torch.sigmoid(self.joint(x.mean(dim=2)))  # N, 1, V
        mean = (x.reshape(N, C * T, V) @ joint.transpose(1, 2) / V).view(N, C, T)
        frame = 1 + torch.sigmoid(self.frame(mean))  # N, 1, T
        mean = (mean * frame).mean(dim=2)  # N, C
        channel = 1 + torch.sigmoid(self.excite(torch.relu(self.squeeze(mean))))
        return x * channel.view(N, C, 1, 1) * (frame.unsqueeze(3) * joint.unsqueeze(2))


class AdaptiveBlock(GraphTemporalBlock):
    def __init__(self, in_channels, out_channels, A, stride, residual, relation, attention, kernel_size):
        gcn = AdaptiveGraphConv(in_channels, out_channels, A, relation, attention)
        super().__init__(gcn, in_channels, out_channels, stride, residual, kernel_size)


class AGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 3.47 M parameters for NTU RGB+D 60.

    relation: "tanh", as MMAction2 and PYSKL have it, or "softmax", as in the paper; norm: the paper's "MVC", or "VC".
    """

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, kernel_size=9,
        relation="tanh", norm="MVC",
    ):  # fmt: skip
        if relation not in RELATIONS:
            raise ValueError(f"relation must be one of {', '.join(RELATIONS)}, not {relation!r}")
        block = partial(AdaptiveBlock, relation=relation, attention=False, kernel_size=kernel_size)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm)
        self.relation = relation
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))


class AAGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 3.78 M parameters for NTU RGB+D 60."""

    def __init__(self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, kernel_size=9):
        block = partial(AdaptiveBlock, relation="tanh", attention=True, kernel_size=kernel_size)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="MVC")
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))
