"""PoseC3D (SlowOnly ResNet-50) of PYSKL and MMAction2, of key points and of limbs."""

from ..posec3d import STAGES, PoseC3D
from .release import Release, classifier

STEM = "backbone.conv1.conv.weight"


def blocks(state):
    """Number of blocks of layer1, layer2, …, as far as there are such."""
    counts = []
    while f"backbone.layer{len(counts) + 1}.0.conv1.conv.weight" in state:
        layer, j = f"backbone.layer{len(counts) + 1}", 1
        while f"{layer}.{j}.conv1.conv.weight" in state:
            j += 1
        counts.append(j)
    return counts


def sign(state):
    """Three stages whose kernels extend in time as ours do: the same code's networks for videos have four."""
    if STEM not in state or state[STEM].shape[2:] != (1, 7, 7) or len(blocks(state)) != len(STAGES):
        return False
    first = [state[f"backbone.layer{i + 1}.0.conv1.conv.weight"] for i in range(len(STAGES))]
    return [tuple(weight.shape[2:]) for weight in first] == [(extent, 1, 1) for _, _, extent in STAGES]


def arguments(state):
    base_channels, in_channels = state[STEM].shape[:2]
    return {"in_channels": in_channels, "base_channels": base_channels, "stage_blocks": tuple(blocks(state))}


def conv_norm(ours, theirs):
    return {f"{ours}.0": [f"{theirs}.conv"], f"{ours}.1": [f"{theirs}.bn"]}


def modules(state):
    result = {"fc": [classifier(state, "cls_head.fc_cls", "cls_head.fc")], **conv_norm("stem", "backbone.conv1")}
    for i, count in enumerate(blocks(state)):
        for j in range(count):
            ours, theirs = f"stages.{i}.{j}", f"backbone.layer{i + 1}.{j}"
            for conv in ("conv1", "conv2", "conv3"):
                result |= conv_norm(f"{ours}.{conv}", f"{theirs}.{conv}")
            result |= conv_norm(f"{ours}.down", f"{theirs}.downsample")
    return result


RELEASES = {"PoseC3D (PYSKL, MMAction2)": Release(PoseC3D, sign, arguments, modules)}
