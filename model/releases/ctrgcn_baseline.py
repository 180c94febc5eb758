"""CTR-GCN's baseline, which is FR-Head's ST-GCN."""

from functools import partial

from ..ctrgcn_baseline import CTRGCNBaseline
from .release import Release, has, ten_blocks, widths


def block(i, num_set):
    ours, theirs = f"blocks.{i}", f"l{i + 1}"
    return {
        f"{ours}.gcn.A": [f"{theirs}.gcn1.PA"],
        f"{ours}.gcn.conv": [f"{theirs}.gcn1.conv_d.{s}" for s in range(num_set)],
        f"{ours}.gcn.bn": [f"{theirs}.gcn1.bn"],
        f"{ours}.gcn.down.0": [f"{theirs}.gcn1.down.0"],
        f"{ours}.gcn.down.1": [f"{theirs}.gcn1.down.1"],
        f"{ours}.tcn": [f"{theirs}.tcn1.conv"],
        f"{ours}.bn": [f"{theirs}.tcn1.bn"],
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


def modules(state):
    num_set = len(state.get("l1.gcn1.PA", range(3)))
    return ten_blocks(partial(block, num_set=num_set), "data_bn", "fc")(state)


RELEASES = {
    "CTR-GCN's baseline": Release(
        CTRGCNBaseline,
        sign=has("l1.gcn1.PA", "l1.gcn1.conv_d.0.weight", lacks=["l1.gcn1.conv_a.0.weight"]),
        arguments=widths(
            "l1.gcn1.conv_d.0.weight",
            "l10.gcn1.bn.weight",
            num_set=("l1.gcn1.PA", 0),
            kernel_size=("l1.tcn1.conv.weight", 2),
        ),
        modules=modules,
    ),
}
