"""CTR-GCN of its own release (and FR-Head's), and of PYSKL, BRL and MMAction2."""

from ..ctrgcn import CTRGCN
from .release import Release, has, ten_blocks, widths


def block(ours, theirs):
    """{our path: [theirs]} of a block."""
    subsets = [f"{theirs}.gcn1.convs.{s}" for s in range(3)]
    branches = [f"{theirs}.tcn1.branches.{b}" for b in range(4)]
    return {
        f"{ours}.gcn.alpha": [f"{theirs}.gcn1.alpha"],
        f"{ours}.gcn.value": [f"{subset}.conv3" for subset in subsets],
        f"{ours}.gcn.expand": [f"{subset}.conv4" for subset in subsets],
        f"{ours}.gcn.bn": [f"{theirs}.gcn1.bn"],
        f"{ours}.gcn.down.0": [f"{theirs}.gcn1.down.0"],
        f"{ours}.gcn.down.1": [f"{theirs}.gcn1.down.1"],
        f"{ours}.tcn.reduce": [f"{branch}.0" for branch in branches[:3]],
        f"{ours}.tcn.reduce_bn": [f"{branch}.1" for branch in branches[:3]],
        f"{ours}.tcn.convs.0": [f"{branches[0]}.3.conv"],
        f"{ours}.tcn.convs.1": [f"{branches[1]}.3.conv"],
        f"{ours}.tcn.point": [f"{branches[3]}.0"],
        f"{ours}.tcn.bn": [f"{branches[0]}.3.bn", f"{branches[1]}.3.bn", f"{branches[2]}.4", f"{branches[3]}.1"],
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


def original(i):
    ours, theirs = f"blocks.{i}", f"l{i + 1}"
    return {
        **block(ours, theirs),
        f"{ours}.gcn.A": [f"{theirs}.gcn1.PA"],
        f"{ours}.gcn.query": [f"{theirs}.gcn1.convs.{s}.conv1" for s in range(3)],
        f"{ours}.gcn.key": [f"{theirs}.gcn1.convs.{s}.conv2" for s in range(3)],
    }


def pyskl(i):
    ours, theirs = f"blocks.{i}", f"backbone.net.{i}"
    return {
        **block(ours, theirs),
        f"{ours}.gcn.A": [f"{theirs}.gcn1.A"],
        f"{ours}.gcn.query": [f"{theirs}.gcn1.convs.{s}.conv2" for s in range(3)],
        f"{ours}.gcn.key": [f"{theirs}.gcn1.convs.{s}.conv1" for s in range(3)],
    }


def transposed(state):
    """PYSKL multiplies by the transposed topology, A[v, u] + alpha W4 tanh(q_v - k_u). As tanh is odd that is ours,
    with A transposed, query and key exchanged and the weights (not the bias) of W4 negated.
    """

    def convert(key, value):
        if key.endswith("gcn1.A"):
            return value.transpose(1, 2)
        return -value if key.endswith("conv4.weight") else value

    return {key: convert(key, value) for key, value in state.items()}


RELEASES = {
    "CTR-GCN": Release(
        CTRGCN,
        sign=has(
            "l1.gcn1.convs.0.conv3.weight", "l1.tcn1.branches.3.1.weight", lacks=["l1.gcn1.convs.0.conv_rf.g.weight"]
        ),  # lacks: of TCA-GCN
        arguments=widths("l1.gcn1.convs.0.conv3.weight", "l10.gcn1.bn.weight", tcn_relu=False),
        modules=ten_blocks(original, "data_bn", "fc"),
    ),
    "CTR-GCN (PYSKL, BRL, MMAction2)": Release(
        CTRGCN,
        sign=has("backbone.net.0.gcn1.convs.0.conv3.weight"),
        arguments=widths("backbone.net.0.gcn1.convs.0.conv3.weight", "backbone.net.9.gcn1.bn.weight", tcn_relu=True),
        modules=ten_blocks(pyskl, "backbone.data_bn", "cls_head.fc_cls", "cls_head.fc"),
        fixed=("backbone.A",),
        adapt=transposed,
    ),
}
