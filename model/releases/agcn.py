"""2s-AGCN and AAGCN of their own release (also FR-Head's), of MMAction2, PYSKL and BRL, and of MMAction2 0.x."""

from ..agcn import AAGCN, AGCN
from .release import Release, has, linear, ten_blocks, widths


def block(i, gcn, tcn, residual, **topology):
    """{our path: [theirs]} of block i.

    gcn: path of their graph convolution; tcn, residual: of a convolution and a batch norm; topology: of the rest.
    """
    ours = f"blocks.{i}"
    return {
        **{f"{ours}.gcn.{name}": [theirs] for name, theirs in topology.items()},
        f"{ours}.gcn.embed": [f"{gcn}.conv_{side}.{s}" for s in range(3) for side in "ab"],
        f"{ours}.gcn.conv": [f"{gcn}.conv_d.{s}" for s in range(3)],
        f"{ours}.gcn.bn": [f"{gcn}.bn"],
        f"{ours}.gcn.down.0": [f"{gcn}.down.0"],
        f"{ours}.gcn.down.1": [f"{gcn}.down.1"],
        f"{ours}.gcn.attention.joint": [f"{gcn}.conv_sa"],
        f"{ours}.gcn.attention.frame": [f"{gcn}.conv_ta"],
        f"{ours}.gcn.attention.squeeze": [f"{gcn}.fc1c"],
        f"{ours}.gcn.attention.excite": [f"{gcn}.fc2c"],
        f"{ours}.tcn": [tcn[0]],
        f"{ours}.bn": [tcn[1]],
        f"{ours}.residual.0": [residual[0]],
        f"{ours}.residual.1": [residual[1]],
    }


def pair(path, conv="conv", bn="bn"):
    return f"{path}.{conv}", f"{path}.{bn}"


def original(i):
    theirs = f"l{i + 1}"
    gcn = f"{theirs}.gcn1"
    modules = pair(f"{theirs}.tcn1"), pair(f"{theirs}.residual")
    return block(i, gcn, *modules, A=f"{gcn}.PA", alpha=f"{gcn}.alpha")


def original_softmax(i):
    modules = original(i)
    modules[f"blocks.{i}.gcn.offset"] = modules.pop(f"blocks.{i}.gcn.A")  # A is the graph's, and not saved
    return modules


def pyskl(i):
    theirs = f"backbone.gcn.{i}"
    gcn = f"{theirs}.gcn"
    return block(i, gcn, pair(f"{theirs}.tcn"), pair(f"{theirs}.residual"), A=f"{gcn}.A", alpha=f"{gcn}.alpha")


def mmaction2_0(i):
    theirs = f"backbone.agcn_networks.{i}"
    gcn = f"{theirs}.gcn"
    modules = pair(f"{theirs}.tcn", 0, 1), pair(f"{theirs}.residual", 0, 1)
    return block(i, gcn, *modules, A="backbone.A", offset=f"{gcn}.PA")


def arguments(first, last, kernel, **more):
    """first, last: paths of the graph convolutions of the first and last block; kernel: a convolution over time."""
    return widths(f"{first}.conv_d.0.weight", f"{last}.bn.weight", kernel_size=(f"{kernel}.weight", 2), **more)


def own_release(model, block, sign, own=(), labeling=None, **variant):
    read = arguments("l1.gcn1", "l10.gcn1", "l1.tcn1.conv", **variant)
    return Release(model, sign, read, ten_blocks(block, "data_bn", "fc"), own=own, labeling=labeling)


def pyskl_release(model, sign, **variant):
    read = arguments("backbone.gcn.0.gcn", "backbone.gcn.9.gcn", "backbone.gcn.0.tcn.conv", **variant)
    modules = ten_blocks(pyskl, "backbone.data_bn", "cls_head.fc_cls", "cls_head.fc")
    return Release(model, sign, read, modules, fixed=("backbone.A",))  # where the learned ones began


QUERY, ALPHA, FRAME = (f"l1.gcn1.{name}" for name in ("conv_a.0.weight", "alpha", "conv_ta.weight"))
QUERY_2, ALPHA_2, FRAME_2 = (f"backbone.gcn.0.gcn.{name}" for name in ("conv_a.0.weight", "alpha", "conv_ta.weight"))

RELEASES = {
    "AAGCN": own_release(AAGCN, original, has(QUERY, ALPHA, FRAME)),
    "AAGCN without attention": own_release(AGCN, original, has(QUERY, ALPHA, lacks=[FRAME]), relation="tanh"),
    "2s-AGCN": own_release(
        AGCN,
        original_softmax,
        has(QUERY, lacks=[ALPHA]),
        own=("gcn.A",),
        labeling="spatial",
        relation="softmax",
        norm="MVC",
    ),
    "AAGCN (MMAction2, PYSKL, BRL)": pyskl_release(AAGCN, has(QUERY_2, ALPHA_2, FRAME_2)),
    "2s-AGCN (MMAction2, PYSKL, BRL)": pyskl_release(AGCN, has(QUERY_2, ALPHA_2, lacks=[FRAME_2]), relation="tanh"),
    "2s-AGCN (MMAction2 0.x)": Release(
        AGCN,
        sign=has("backbone.agcn_networks.0.gcn.conv_a.0.weight"),
        arguments=arguments(
            "backbone.agcn_networks.0.gcn",
            "backbone.agcn_networks.9.gcn",
            "backbone.agcn_networks.0.tcn.0",
            relation="softmax",
            norm="VC",
        ),
        modules=ten_blocks(mmaction2_0, "backbone.data_bn", "cls_head.fc"),
        adapt=linear("cls_head.fc"),
    ),
}
