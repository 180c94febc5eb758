"""DG-STGCN of PYSKL."""

from ..dgstgcn import DGSTGCN
from . import stgcnpp
from .release import Release, has, ten_blocks, widths


def block(i):
    ours, theirs = f"blocks.{i}.gcn", f"backbone.gcn.{i}.gcn"
    return {
        **stgcnpp.block(i),
        f"{ours}.alpha": [f"{theirs}.alpha"],
        f"{ours}.beta": [f"{theirs}.beta"],
        f"{ours}.relation": [f"{theirs}.conv1", f"{theirs}.conv2"],
        f"{ours}.pre.0": [f"{theirs}.pre.0"],
        f"{ours}.pre.1": [f"{theirs}.pre.1"],
        f"{ours}.post": [f"{theirs}.post"],
        f"blocks.{i}.tcn.proportion": [f"backbone.gcn.{i}.tcn.add_coeff"],
    }


def arguments(state):
    num_filter = len(state["backbone.gcn.0.gcn.A"])
    out_channels, width = state["backbone.gcn.9.gcn.post.weight"].shape[:2]
    sizes = widths("backbone.gcn.0.gcn.pre.0.weight", "backbone.gcn.9.tcn.bn.weight")(state)
    ratio = width / num_filter / out_channels
    return {**sizes, "num_filter": num_filter, "ratio": ratio, "subset_wise": False}  # of what PYSKL publishes


def proportions(state):
    """PYSKL has 25 of them, of which a layout of fewer joints uses the first."""
    A = state.get("backbone.gcn.0.gcn.A")
    if A is None:  # it will be named as missing
        return state
    return {key: value[: A.shape[-1]] if key.endswith("add_coeff") else value for key, value in state.items()}


RELEASES = {
    "DG-STGCN (PYSKL)": Release(
        DGSTGCN,
        sign=has("backbone.gcn.0.gcn.post.weight", "backbone.gcn.0.tcn.add_coeff"),
        arguments=arguments,
        modules=ten_blocks(block, "backbone.data_bn", "cls_head.fc_cls", "cls_head.fc"),
        adapt=proportions,
    ),
}
