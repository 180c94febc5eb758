"""ST-GCN of MMAction2, PYSKL and BRL, and of its own release (also MMAction2's before version 1)."""

import torch

from ..backbone import STAGES
from ..stgcn import STGCN
from .release import Release, has, linear, ten_blocks, widths


def pyskl(i):
    ours, theirs = f"blocks.{i}", f"backbone.gcn.{i}"
    return {
        f"{ours}.gcn.A": [f"{theirs}.gcn.A"],
        f"{ours}.gcn.importance": [f"{theirs}.gcn.PA"],
        f"{ours}.gcn.conv": [f"{theirs}.gcn.conv"],
        f"{ours}.gcn.bn": [f"{theirs}.gcn.bn"],
        f"{ours}.tcn": [f"{theirs}.tcn.conv"],
        f"{ours}.bn": [f"{theirs}.tcn.bn"],
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


def original(prefix):
    def block(i):
        ours, theirs = f"blocks.{i}", f"{prefix}st_gcn_networks.{i}"
        return {
            f"{ours}.gcn.A": [f"{prefix}A"],
            f"{ours}.gcn.importance": [f"{prefix}edge_importance.{i}"],
            f"{ours}.gcn.conv": [f"{theirs}.gcn.conv"],
            f"{ours}.gcn.bn": [f"{theirs}.tcn.0"],
            f"{ours}.tcn": [f"{theirs}.tcn.2"],
            f"{ours}.bn": [f"{theirs}.tcn.3"],
            f"{ours}.residual.0": [f"{theirs}.residual.0"],
            f"{ours}.residual.1": [f"{theirs}.residual.1"],
        }

    return block


def complete(prefix, fc):
    """adapt: their classifier is a 1x1 convolution; without edge importance all edges count alike."""

    def adapt(state):
        state = linear(fc)(state)
        if f"{prefix}A" in state and f"{prefix}edge_importance.0" not in state:
            state |= {f"{prefix}edge_importance.{i}": torch.ones_like(state[f"{prefix}A"]) for i in range(len(STAGES))}
        return state

    return adapt


def early(prefix, fc):
    """A Release under the names of the paper's code."""
    first, last = f"{prefix}st_gcn_networks.0.gcn.conv.weight", f"{prefix}st_gcn_networks.9.tcn.3.weight"
    return Release(
        STGCN,
        sign=has(first),
        arguments=widths(first, last),
        modules=ten_blocks(original(prefix), f"{prefix}data_bn", fc),
        adapt=complete(prefix, fc),
    )


RELEASES = {
    "ST-GCN (MMAction2, PYSKL, BRL)": Release(
        STGCN,
        sign=has("backbone.gcn.0.gcn.PA", "backbone.gcn.0.gcn.A", "backbone.gcn.0.tcn.conv.weight"),
        arguments=widths("backbone.gcn.0.gcn.conv.weight", "backbone.gcn.9.gcn.bn.weight"),
        modules=ten_blocks(pyskl, "backbone.data_bn", "cls_head.fc_cls", "cls_head.fc"),
    ),
    "ST-GCN": early("", "fcn"),
    "ST-GCN (MMAction2 0.x)": early("backbone.", "cls_head.fc"),
}
