"""PoseC3D: a slow-only ResNet-50 on volumes of heat maps (Duan et al., CVPR 2022, section 3.3)."""

from torch import nn
from torch.nn import functional as F

from torchlight.errors import expect

# Of each stage: stride in space, stride in time, extent in time of the first kernel of a block.
STAGES = ((2, 1, 1), (2, 1, 3), (2, 2, 3))
EXPANSION = 4  # a block's output is so many times as wide as its convolutions


class ConvNorm3d(nn.Sequential):
    """A convolution without bias, padded so that stride 1 keeps the extent, and batch norm; kernel, stride: T, H, W."""

    def __init__(self, in_channels, out_channels, kernel=(1, 1, 1), stride=(1, 1, 1)):
        pad = tuple(extent // 2 for extent in kernel)
        super().__init__(
            nn.Conv3d(in_channels, out_channels, kernel, stride, pad, bias=False), nn.BatchNorm3d(out_channels)
        )
        nn.init.kaiming_normal_(self[0].weight, mode="fan_out", nonlinearity="relu")


class Bottleneck(nn.Module):
    """(N, C, T, H, W) -> (N, 4 width, T', H', W'): a convolution in time, one in space, a pointwise one; a shortcut.

    first: the block that begins a stage takes its strides and projects its shortcut.
    """

    def __init__(self, in_channels, width, stage, first):
        super().__init__()
        space, time, extent = stage
        stride = (time, space, space) if first else (1, 1, 1)
        self.conv1 = ConvNorm3d(in_channels, width, (extent, 1, 1))
        self.conv2 = ConvNorm3d(width, width, (1, 3, 3), stride)
        self.conv3 = ConvNorm3d(width, EXPANSION * width)
        self.down = ConvNorm3d(in_channels, EXPANSION * width, stride=stride) if first else nn.Identity()
        nn.init.zeros_(self.conv3[1].weight)  # the block begins as its shortcut

    def forward(self, x):
        y = self.conv2(self.conv1(x).relu_()).relu_()  # in place: the volumes are large
        return (self.conv3(y) + self.down(x)).relu_()


class PoseC3D(nn.Module):
    """Heat maps (N, V, T, H, W) -> logits (N, K). 2.0 M parameters for NTU RGB+D 60.

    in_channels: heat maps a frame, joints or limbs; None is the graph's joints. They hold all persons: num_person may
    be any number. stage_blocks: (4, 6, 3) as published for NTU RGB+D and FineGYM, (3, 4, 6) for UCF101 and HMDB51, and
    Kinetics-400 has both. drop_out: before the classifier. Raises ValueError for input of another shape.
    """

    heat_maps = True  # its input, instead of joints

    def __init__(
        self,
        num_class,
        num_person,
        graph,
        in_channels: int | None = None,
        base_channels=32,
        stage_blocks=(4, 6, 3),
        drop_out=0.0,
    ):
        super().__init__()
        expect(base_channels >= 1, "base_channels", "at least 1", base_channels)
        expect(0 <= drop_out <= 1, "drop_out", "a probability", drop_out)
        if len(stage_blocks) != len(STAGES) or not all(isinstance(n, int) and n > 0 for n in stage_blocks):
            raise ValueError(f"stage_blocks takes the numbers of blocks of three stages, not {list(stage_blocks)}")
        self.num_class, self.num_person = num_class, num_person
        self.in_channels = graph.num_point if in_channels is None else in_channels
        expect(self.in_channels >= 1, "in_channels", "at least 1", self.in_channels)
        self.stem = ConvNorm3d(self.in_channels, base_channels, (1, 7, 7))
        self.stages, channels = nn.ModuleList(), base_channels
        for i, (stage, blocks) in enumerate(zip(STAGES, stage_blocks, strict=True)):
            width = base_channels * 2**i
            ins = [channels] + [EXPANSION * width] * (blocks - 1)
            self.stages.append(nn.Sequential(*(Bottleneck(C, width, stage, j == 0) for j, C in enumerate(ins))))
            channels = EXPANSION * width
        self.drop_out = nn.Dropout(drop_out)
        self.fc = nn.Linear(channels, num_class)
        nn.init.normal_(self.fc.weight, 0, 0.01)
        nn.init.zeros_(self.fc.bias)

    def forward(self, x):
        if x.dim() != 5 or x.shape[1] != self.in_channels:
            raise ValueError(
                f"the model takes heat maps (N, V, T, H, W) of V={self.in_channels} joints or limbs, "
                f"not {tuple(x.shape)}"
            )
        x = F.max_pool3d(self.stem(x).relu_(), (1, 3, 3), stride=1, padding=(0, 1, 1))
        for stage in self.stages:
            x = stage(x)
        return self.fc(self.drop_out(x.mean(dim=(2, 3, 4))))
