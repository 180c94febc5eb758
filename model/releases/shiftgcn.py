"""Shift-GCN of its own release."""

import torch

from ..shiftgcn import ShiftGCN
from .release import Release, has, ten_blocks, widths

NO_SHIFT = 1e-6  # joints


def block(i):
    ours, theirs = f"blocks.{i}", f"l{i + 1}"
    return {
        f"{ours}.gcn.mask": [f"{theirs}.gcn1.Feature_Mask"],
        f"{ours}.gcn.conv.weight": [f"{theirs}.gcn1.Linear_weight"],
        f"{ours}.gcn.conv.bias": [f"{theirs}.gcn1.Linear_bias"],
        f"{ours}.gcn.bn": [f"{theirs}.gcn1.bn"],
        f"{ours}.gcn.down.0": [f"{theirs}.gcn1.down.0"],
        f"{ours}.gcn.down.1": [f"{theirs}.gcn1.down.1"],
        f"{ours}.tcn.bn_in": [f"{theirs}.tcn1.bn"],
        f"{ours}.tcn.conv": [f"{theirs}.tcn1.temporal_linear"],
        f"{ours}.tcn.bn_out": [f"{theirs}.tcn1.bn2"],
        **{f"{ours}.tcn.{name}.position": [f"{theirs}.tcn1.{name}.ypos"] for name in ("shift_in", "shift_out")},
        **{f"{ours}.tcn.{name}.joint_position": [f"{theirs}.tcn1.{name}.xpos"] for name in ("shift_in", "shift_out")},
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


def arguments(state):
    moved = any(key.endswith(".xpos") and (value.abs() > NO_SHIFT).any() for key, value in state.items())
    return widths("l1.gcn1.down.0.weight", "l10.tcn1.bn.weight", joint_shift=moved)(state)


def channels_first(state):
    """They keep the channels of a joint together, we the joints of a channel; their linear layer is our convolution.

    Raises ValueError for index lists of other shifts over joints than the non-local one.
    """
    V = state["l1.gcn1.Feature_Mask"].shape[1]

    def convert(key, value):
        if key.endswith("Linear_weight"):
            return value.T[..., None, None]
        if key.endswith("Linear_bias"):
            return value.flatten()
        if key.endswith("Feature_Mask"):
            return value[0].T
        if ".gcn1.bn." in key and value.ndim:
            return value.view(V, -1).T.flatten()
        return value

    for key, value in state.items():
        if key.endswith((".gcn1.shift_in", ".gcn1.shift_out")) and not value.is_floating_point():
            v, c = torch.arange(V).view(-1, 1), torch.arange(len(value) // V)
            source = (v + c if key.endswith("in") else v - c) % V
            if not torch.equal(value.cpu().long(), (source * len(c) + c).flatten()):
                raise ValueError(f"{key} is another shift over joints than the non-local one of Shift-GCN")
    return {key: convert(key, value) for key, value in state.items()}


RELEASES = {
    "Shift-GCN": Release(
        ShiftGCN,
        sign=has("l1.gcn1.Feature_Mask", "l1.tcn1.shift_in.ypos"),
        arguments=arguments,
        modules=ten_blocks(block, "data_bn", "fc"),
        fixed=(".gcn1.shift_in", ".gcn1.shift_out", ".xpos"),
        adapt=channels_first,
    ),
}
