"""Shift-GCN (Cheng et al., CVPR 2020): pointwise convolutions between shifts of channels over joints and over time."""

import math
from functools import partial

import torch
from torch import nn
from torch.nn import functional as F

from .backbone import GraphBackbone
from .layers import BatchNorm2d, ConvNorm, PointwiseConv, kaiming_fan_out, shortcut


class ShiftGraphConv(nn.Module):
    """Non-local shift graph operation: before and after the convolution, channel c moves by c joints, there and back.

    (N, C, T, V) -> (N, C', T, V). The joints make a ring in the order of their numbers; the graph plays no part. mask
    (C, V) weighs what a joint has received. Batch norm is over joints and channels.
    """

    def __init__(self, in_channels, out_channels, V):
        super().__init__()
        for name, channels, sign in (("there", in_channels, 1), ("back", out_channels, -1)):
            c = torch.arange(channels).view(-1, 1)
            source = (torch.arange(V) + sign * c) % V
            self.register_buffer(name, (c * V + source).flatten(), persistent=False)  # numbers of channels' joints
        self.mask = nn.Parameter(torch.zeros(in_channels, V))
        self.conv = PointwiseConv(in_channels, out_channels)
        self.bn = nn.BatchNorm1d(out_channels * V)
        self.down = shortcut(in_channels, out_channels)
        nn.init.normal_(self.conv.weight, 0, math.sqrt(1 / out_channels))
        nn.init.zeros_(self.conv.bias)
        if isinstance(self.down, ConvNorm):
            kaiming_fan_out(self.down[0])

    def forward(self, x):
        N, C, T, V = x.shape
        x = x.transpose(2, 3).contiguous()  # N, C, V, T: what moves is a row
        y = x.view(N, C * V, T).index_select(1, self.there) * (1 + torch.tanh(self.mask)).view(-1, 1)
        y = self.conv(y.view(N, C, V, T)).view(N, -1, T).index_select(1, self.back)
        y = self.bn(y).view(N, -1, V, T)
        return torch.relu(y + self.down(x)).transpose(2, 3)


def shift(x, position, stride=1):
    """y[t] = x[stride * t + position]: a mixture of two frames where that lies between them, 0 beyond the clip.

    x (N, C, T, V), position (C,) -> (N, C, ceil(T / stride), V)
    """
    N, C, T, V = x.shape
    whole = position.detach().floor()
    x = F.pad(x, (0, 0, 2, 2))
    x = torch.lerp(x[:, :, :-1], x[:, :, 1:], (position - whole).to(x.dtype).view(-1, 1, 1))  # frames -2, …, T
    frame = torch.arange(0, T, stride, device=x.device) + whole.long().view(-1, 1)  # C, T'
    row = frame.clamp(-2, T) + 2 + torch.arange(C, device=x.device).view(-1, 1) * (T + 3)
    return x.flatten(1, 2).index_select(1, row.flatten()).view(N, C, -1, V)


class TemporalShift(nn.Module):
    """Adaptive temporal shift graph operation: each channel moves in time by a number of frames that is learned.

    (N, C, T, V) -> (N, C, ceil(T / stride), V). With stride 2, from the middle of two frames. Here the positions have
    the gradient of this function; the release gives them its sign times 0.01 instead (0.0001 where it is 0), without
    regard to its size.
    """

    def __init__(self, channels, stride=1, joint_shift=False):
        super().__init__()
        self.stride = stride
        self.position = nn.Parameter(torch.empty(channels).uniform_(-1, 1))
        self.register_buffer("joint_position", torch.zeros(channels) if joint_shift else None)

    def forward(self, x):
        if self.joint_position is not None:
            x = shift(x.transpose(2, 3), self.joint_position).transpose(2, 3)
        return shift(x, self.position + (self.stride - 1) / 2, self.stride)


class ShiftTemporalConv(nn.Module):
    """A pointwise convolution between two shifts in time. (N, C, T, V) -> (N, C, ceil(T / stride), V)"""

    def __init__(self, channels, stride, joint_shift):
        super().__init__()
        self.bn_in = BatchNorm2d(channels)
        self.shift_in = TemporalShift(channels, 1, joint_shift)
        self.conv = PointwiseConv(channels, channels)
        self.shift_out = TemporalShift(channels, stride, joint_shift)
        self.bn_out = BatchNorm2d(channels)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")  # its bias as PyTorch draws it

    def forward(self, x):
        x = self.shift_in(self.bn_in(x))
        return self.bn_out(self.shift_out(torch.relu(self.conv(x))))


class ShiftBlock(nn.Module):
    """Graph convolution, temporal convolution, shortcut. (N, C, T, V) -> (N, C', ceil(T / stride), V)"""

    def __init__(self, in_channels, out_channels, A, stride, residual, joint_shift):
        super().__init__()
        self.gcn = ShiftGraphConv(in_channels, out_channels, A.shape[-1])
        self.tcn = ShiftTemporalConv(out_channels, stride, joint_shift)
        self.residual = shortcut(in_channels, out_channels, stride) if residual else None
        if isinstance(self.residual, ConvNorm):
            kaiming_fan_out(self.residual[0])

    def forward(self, x):
        y = self.tcn(self.gcn(x))
        return torch.relu(y if self.residual is None else y + self.residual(x))


class ShiftGCN(GraphBackbone):
    """(N, C, T, V, M) -> logits (N, K). Ten blocks; 0.69 M parameters for NTU RGB+D 60.

    joint_shift: temporal shifts move over the numbers of the joints too, by positions that are never learned. The
    release's do, by at most 1e-8 joints: of use only for weights that were made up.
    """

    def __init__(
        self, num_class, num_person, graph, in_channels=3, base_channels=64, drop_out=0.0, joint_shift: bool = False
    ):
        block = partial(ShiftBlock, joint_shift=joint_shift)
        super().__init__(block, graph, num_class, num_person, in_channels, base_channels, drop_out, norm="MVC")
        self.joint_shift = joint_shift
        nn.init.normal_(self.fc.weight, 0, math.sqrt(2 / num_class))
