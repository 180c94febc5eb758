"""TCA-GCN of its own release and FR-Head's: one mathematics, one naming."""

from ..tcagcn import TCAGCN
from . import ctrgcn
from .release import Release, has, ten_blocks, widths


def block(i):
    """CTR-GCN's, but for the values and the fusion."""
    ours, theirs = f"blocks.{i}", f"l{i + 1}"
    subsets = [f"{theirs}.gcn1.convs.{s}" for s in range(3)]
    result = {path.replace(".tcn.", ".tcn.0."): sources for path, sources in ctrgcn.original(i).items()}
    del result[f"{ours}.gcn.value"]
    result[f"{ours}.gcn.value.conv"] = [f"{subset}.conv" for subset in subsets]
    for part, name in (("context", "g"), ("reduce", "a"), ("bn", "bn"), ("expand", "b")):
        result[f"{ours}.gcn.value.{part}"] = [f"{subset}.conv_rf.{name}" for subset in subsets]
    for part, name, first in (("local", "local_att", 0), ("clip", "global_att", 1)):  # theirs begins with a pooling
        for layer in (0, 1, 3, 4):
            result[f"{ours}.tcn.1.{part}.{layer}"] = [f"{theirs}.tcn1.af.{name}.{layer + first}"]
    return result


RELEASES = {
    "TCA-GCN (TCA-GCN, FR-Head)": Release(
        TCAGCN,
        sign=has("l1.gcn1.convs.0.conv_rf.g.weight", "l1.tcn1.af.local_att.0.weight"),
        arguments=widths("l1.gcn1.convs.0.conv.weight", "l10.gcn1.bn.weight"),
        modules=ten_blocks(block, "data_bn", "fc"),
        fixed=(".conv3.weight", ".conv3.bias"),  # made, and never used
    ),
}
