"""ST-GCN++ of PYSKL, BRL and MMAction2."""

from ..stgcnpp import STGCNPP
from .release import Release, has, ten_blocks, widths


def block(i):
    ours, theirs = f"blocks.{i}", f"backbone.gcn.{i}"
    branches = [f"{theirs}.tcn.branches.{b}" for b in range(6)]
    return {
        f"{ours}.gcn.A": [f"{theirs}.gcn.A"],
        f"{ours}.gcn.conv": [f"{theirs}.gcn.conv"],
        f"{ours}.gcn.bn": [f"{theirs}.gcn.bn"],
        f"{ours}.gcn.down.0": [f"{theirs}.gcn.down.0"],
        f"{ours}.gcn.down.1": [f"{theirs}.gcn.down.1"],
        f"{ours}.tcn.reduce": [f"{branch}.0" for branch in branches[:5]],
        f"{ours}.tcn.reduce_bn": [f"{branch}.1" for branch in branches[:5]],
        **{f"{ours}.tcn.convs.{b}": [f"{branches[b]}.3.conv"] for b in range(4)},
        f"{ours}.tcn.point": [branches[5]],
        f"{ours}.tcn.transform_bn": [f"{theirs}.tcn.transform.0"],
        f"{ours}.tcn.transform": [f"{theirs}.tcn.transform.2"],
        f"{ours}.tcn.bn": [f"{theirs}.tcn.bn"],
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


RELEASES = {
    "ST-GCN++ (PYSKL, BRL, MMAction2)": Release(
        STGCNPP,
        sign=has(
            "backbone.gcn.0.tcn.transform.2.weight",
            "backbone.gcn.0.gcn.down.0.weight",
            "backbone.gcn.0.gcn.conv.weight",
        ),
        arguments=widths("backbone.gcn.0.gcn.conv.weight", "backbone.gcn.9.tcn.bn.weight"),
        modules=ten_blocks(block, "backbone.data_bn", "cls_head.fc_cls", "cls_head.fc"),
    ),
}
