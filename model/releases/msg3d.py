"""MS-G3D of its own release, and of PYSKL, BRL and MMAction2."""

from ..msg3d import MSG3D, STAGES, WINDOWS
from .release import Release, classifier, has


def tcn(ours, theirs):
    """{our path: [theirs]} of a temporal convolution."""
    branches = [f"{theirs}.branches.{b}" for b in range(6)]
    return {
        f"{ours}.reduce": [f"{branch}.0" for branch in branches[:5]],
        f"{ours}.reduce_bn": [f"{branch}.1" for branch in branches[:5]],
        **{f"{ours}.convs.{b}": [f"{branches[b]}.3.conv"] for b in range(4)},
        f"{ours}.point": [f"{branches[5]}.0"],
        f"{ours}.bn": [*(f"{branch}.3.bn" for branch in branches[:4]), f"{branches[4]}.4", f"{branches[5]}.1"],
        f"{ours}.residual.0": [f"{theirs}.residual.conv"],
        f"{ours}.residual.1": [f"{theirs}.residual.bn"],
    }


def gcn(ours, theirs, A_res):
    return {
        f"{ours}.A": [f"{theirs}.A"],
        f"{ours}.A_res": [f"{theirs}.{A_res}"],
        f"{ours}.conv": [f"{theirs}.mlp.layers.0"],
        f"{ours}.bn": [f"{theirs}.mlp.layers.1"],
    }


def modules(prefix, A_res, *fc):
    """modules of a release. prefix: of the backbone's names; A_res: its name there; fc: its classifier."""

    def modules(state):
        result = {"data_bn": [f"{prefix}data_bn"], "fc": [classifier(state, *fc)]}
        for i in range(len(STAGES)):
            ours, number = f"blocks.{i}", i + 1
            result.update(gcn(f"{ours}.gcn", f"{prefix}sgcn{number}.0", A_res))
            result.update(tcn(f"{ours}.tcns.0", f"{prefix}sgcn{number}.1"))
            result.update(tcn(f"{ours}.tcns.1", f"{prefix}sgcn{number}.2"))
            result.update(tcn(f"{ours}.tcn", f"{prefix}tcn{number}"))
            for w in range(len(WINDOWS)):
                window, theirs = f"{ours}.g3d.{w}", f"{prefix}gcn3d{number}.gcn3d.{w}"
                result.update(gcn(f"{window}.gcn", f"{theirs}.gcn3d.1", A_res))
                result[f"{window}.collapse"] = [f"{theirs}.out_conv"]
                result[f"{window}.bn"] = [f"{theirs}.out_bn"]
        return result

    return modules


def arguments(prefix, A_res):
    """arguments of a release. A_res is (scales * V, V), in PYSKL (scales, V, V); V is window * V in a window."""

    def arguments(state):
        offsets = [state[f"{prefix}{path}.{A_res}"] for path in ("sgcn1.0", "gcn3d1.gcn3d.0.gcn3d.1")]
        scales = [offset.numel() // offset.shape[-1] ** 2 for offset in offsets]
        return {
            "in_channels": state[f"{prefix}sgcn1.0.mlp.layers.0.weight"].shape[1] // scales[0],
            "base_channels": len(state[f"{prefix}sgcn1.0.mlp.layers.0.weight"]),
            "num_gcn_scales": scales[0],
            "num_g3d_scales": scales[1],
        }

    return arguments


def pointwise(state):
    """The convolution that collapses a window is (C', C, 1, window, 1) there and (C', C * window, 1, 1) here."""
    return {
        key: value.flatten(1)[:, :, None, None] if key.endswith("out_conv.weight") else value
        for key, value in state.items()
    }


def transposed(state):
    """PYSKL has [scale, neighbour, joint] where ours is [scale * joint, neighbour]; its A, saved, is another too: each
    column has the sum 1.
    """
    return {
        key: value.transpose(1, 2).flatten(0, 1) if value.dim() == 3 and key.endswith((".A", ".PA")) else value
        for key, value in pointwise(state).items()
    }


RELEASES = {
    "MS-G3D": Release(
        MSG3D,
        sign=has("sgcn1.0.A_res", "gcn3d1.gcn3d.0.out_conv.weight"),
        arguments=arguments("", "A_res"),
        modules=modules("", "A_res", "fc"),
        own=(".A",),
        adapt=pointwise,
    ),
    "MS-G3D (PYSKL, BRL, MMAction2)": Release(
        MSG3D,
        sign=has("backbone.sgcn1.0.PA", "backbone.gcn3d1.gcn3d.0.out_conv.weight"),
        arguments=arguments("backbone.", "PA"),
        modules=modules("backbone.", "PA", "cls_head.fc_cls", "cls_head.fc"),
        fixed=("backbone.A",),
        adapt=transposed,
    ),
}
