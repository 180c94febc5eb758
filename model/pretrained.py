"""Published checkpoints in our models.

A release is described by the module paths of ours and of theirs. Where our one convolution does the work of several of
theirs, their parameters are stacked along the first dimension.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from torchlight.checkpoint import load

from .backbone import STAGES
from .ctrgcn import CTRGCN
from .stgcnpp import STGCNPP


def _ctrgcn_block(i):
    """CTR-GCN's release: {our path: [their paths, to be stacked]} of block i."""
    ours, theirs = f"blocks.{i}", f"l{i + 1}"
    subsets = [f"{theirs}.gcn1.convs.{s}" for s in range(3)]
    branches = [f"{theirs}.tcn1.branches.{b}" for b in range(4)]
    return {
        f"{ours}.gcn.A": [f"{theirs}.gcn1.PA"],
        f"{ours}.gcn.alpha": [f"{theirs}.gcn1.alpha"],
        f"{ours}.gcn.query": [f"{subset}.conv1" for subset in subsets],
        f"{ours}.gcn.key": [f"{subset}.conv2" for subset in subsets],
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


def _stgcnpp_block(i):
    """ST-GCN++ of PYSKL, BRL and MMAction2: {our path: [their paths, to be stacked]} of block i."""
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


@dataclass(frozen=True)
class Release:
    """How a published code base names an architecture.

    sign       a key that only its checkpoints have
    first      a first convolution: its shape tells the input channels
    block      block(i) -> {our module path: [their module paths]}
    data_bn, fc  their paths of the data batch norm and of the classifier (the first one present counts)
    """

    model: type
    sign: str
    first: str
    block: Callable
    data_bn: str
    fc: tuple


RELEASES = {
    "CTR-GCN": Release(
        CTRGCN,
        sign="l1.gcn1.convs.0.conv3.weight",
        first="l1.gcn1.convs.0.conv3.weight",
        block=_ctrgcn_block,
        data_bn="data_bn",
        fc=("fc",),
    ),
    "ST-GCN++ (PYSKL, BRL, MMAction2)": Release(
        STGCNPP,
        sign="backbone.gcn.0.tcn.transform.2.weight",
        first="backbone.gcn.0.gcn.conv.weight",
        block=_stgcnpp_block,
        data_bn="backbone.data_bn",
        fc=("cls_head.fc_cls", "cls_head.fc"),
    ),
}


def read_state_dict(source):
    """A published state dict, from a path or as it is: unwrapped from `state_dict`, without the `module.` prefix.

    Raises ValueError where it is no state dict.
    """
    state = load(source) if isinstance(source, str | Path) else source
    for wrapper in ("state_dict", "model_state_dict"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    where = f"{source}: " if isinstance(source, str | Path) else ""
    if not isinstance(state, dict) or not state or not all(isinstance(v, torch.Tensor) for v in state.values()):
        raise ValueError(f"{where}not a state dict: tensors by name were expected")
    return {key.removeprefix("module."): value for key, value in state.items()}


def recognise(state):
    """(name, Release) of a state dict, by its keys. Raises ValueError listing what is known."""
    for name, release in RELEASES.items():
        if release.sign in state:
            return name, release
    raise ValueError(
        f"weights of an unknown architecture, with keys {', '.join(list(state)[:4])}, …; "
        f"known are {'; '.join(RELEASES)}"
    )


def convert(state, release, ours):
    """Rename and stack a release's state dict for a model whose state dict is `ours`.

    Raises ValueError listing the keys and shapes that do not fit.
    """
    fc = next((path for path in release.fc if f"{path}.weight" in state), release.fc[0])
    modules = {"data_bn": [release.data_bn], "fc": [fc]}
    for i in range(len(STAGES)):
        modules.update(release.block(i))
    result, used, missing = {}, set(), []
    for key in ours:
        path, _, leaf = key.rpartition(".")
        theirs = modules[key] if key in modules else [f"{source}.{leaf}" for source in modules[path]]
        absent = [name for name in theirs if name not in state]
        used.update(theirs)
        if absent:
            missing += absent
        elif leaf == "num_batches_tracked":
            result[key] = state[theirs[0]]
        else:
            result[key] = torch.cat([state[name] for name in theirs]) if len(theirs) > 1 else state[theirs[0]]
    check_fit(result, ours, missing, [key for key in state if key not in used])
    return result


def check_fit(state, ours, missing, unexpected):
    """Raise ValueError, listing the first keys, if anything is missing, unexpected or of another shape."""
    shapes = [
        f"{key} {tuple(state[key].shape)} instead of {tuple(ours[key].shape)}"
        for key in state
        if key in ours and state[key].shape != ours[key].shape
    ]
    problems = [
        f"{len(keys)} {what}: {', '.join(keys[:4])}{', …' if len(keys) > 4 else ''}"
        for what, keys in (("of another shape", shapes), ("missing", missing), ("unexpected", unexpected))
        if keys
    ]
    if problems:
        raise ValueError(f"the weights do not fit the model; {'; '.join(problems)}")


def load_published(model, source, ignore=()):
    """Load a published checkpoint (path or state dict) into a model of ours.

    ignore: words; what has one of them in its name keeps its initial value. Returns the names of ours that did. Raises
    ValueError for an unknown
    architecture, one that is not the model's, or keys and shapes that do not fit.
    """
    state = read_state_dict(source)
    name, release = recognise(state)
    if not isinstance(model, release.model):
        raise ValueError(f"these are weights of {name}, not of {type(model).__name__}")
    everything = model.state_dict()
    ours = without(everything, ignore)
    model.load_state_dict(convert(without(state, ignore), release, ours), strict=False)
    return [key for key in everything if key not in ours]


def load_weights(model, saved, ignore=()):
    """Load what torchlight.checkpoint.load gives: a checkpoint of one of our runs, or a published one."""
    if not is_ours(saved):
        return load_published(model, saved, ignore)
    everything = model.state_dict()
    state, ours = without(saved["model"], ignore), without(everything, ignore)
    check_fit(state, ours, [key for key in ours if key not in state], [key for key in state if key not in ours])
    model.load_state_dict(state, strict=False)
    return [key for key in everything if key not in ours]


def is_ours(saved):
    """Whether a loaded checkpoint is one of our runs: weights under `model`, beside the `config` they come from."""
    return isinstance(saved, dict) and isinstance(saved.get("model"), dict) and "config" in saved


def without(state, words):
    return {key: value for key, value in state.items() if not any(word in key for word in words)}


def from_published(source, graph, num_person=2):
    """The network of a published checkpoint (path or state dict), recognised from keys and shapes, with its weights.

    graph: of its layout; num_person: persons of the input. Raises ValueError as load_published does.
    """
    state = read_state_dict(source)
    _, release = recognise(state)
    fc = [path for path in release.fc if f"{path}.weight" in state]
    absent = [key for key in (release.first, *(() if fc else [f"{release.fc[-1]}.weight"])) if key not in state]
    if absent:
        raise ValueError(f"the weights do not fit the model; 1 missing: {absent[0]}")
    num_class, features = state[f"{fc[0]}.weight"].shape
    in_channels = state[release.first].shape[1]
    model = release.model(num_class, num_person, graph, in_channels, base_channels=features // STAGES[-1][0])
    model.load_state_dict(convert(state, release, model.state_dict()))
    return model
