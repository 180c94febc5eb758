"""Published checkpoints in our models. releases/ tells how each code base names its parameters."""

from contextlib import contextmanager
from pathlib import Path

import torch

from torchlight.checkpoint import load

from .frhead import FRHead
from .releases import RELEASES, frhead


@contextmanager
def readable():
    """Say which tensor of a state dict is missing, or that some have other dimensions than the architecture's."""
    try:
        yield
    except KeyError as error:
        raise ValueError(f"the weights do not fit the model; 1 missing: {error.args[0]}") from None
    except (IndexError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"the weights do not fit the model; of another number of dimensions: {error}") from None


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
    """(name, Release) of a state dict, by its keys and shapes. Raises ValueError listing what is known."""
    for name, release in RELEASES.items():
        if release.sign(state):
            return name, release
    raise ValueError(
        f"weights of an unknown architecture, with keys {', '.join(list(state)[:4])}, …; "
        f"known are {'; '.join(RELEASES)}"
    )


def convert(state, release, model, ignore=()):
    """Rename and stack a release's state dict for a model, but for what has a word of `ignore` in our name, or, where
    no name of ours has the word, in theirs.

    Raises ValueError listing the keys and shapes that do not fit.
    """
    ours = model.state_dict()
    modules, own = release.modules(state), release.own
    if isinstance(model, FRHead):
        modules, own = frhead.modules(modules), (*own, "prototype")
    with readable():
        state = release.adapt(state) if release.adapt else state
    foreign = [word for word in ignore if not any(word in key for key in ours)]
    wanted = without(ours, ignore)
    result, used, missing = {}, set(), []
    for key in ours:
        if key.endswith(own):
            continue
        path, _, leaf = key.rpartition(".")
        theirs = modules[key] if key in modules else [f"{source}.{leaf}" for source in modules.get(path, [f"?{path}"])]
        absent = [name for name in theirs if name not in state]
        used.update(theirs)
        if key not in wanted or any(word in name for word in foreign for name in theirs):
            continue
        if leaf == "num_batches_tracked":  # the oldest checkpoints have none
            result[key] = ours[key] if absent else state[theirs[0]]
        elif absent:
            missing += absent
        else:
            pieces = [state[name] for name in theirs]
            shapes = {piece.shape[1:] for piece in pieces}
            if len(pieces) > 1 and (len(shapes) > 1 or pieces[0].dim() == 0):
                raise ValueError(f"the weights do not fit the model; {', '.join(theirs)} do not fit each other")
            result[key] = torch.cat(pieces) if len(pieces) > 1 else pieces[0]
    unexpected = [key for key in without(state, foreign) if key not in used and not key.endswith(release.fixed)]
    check_fit(result, ours, missing, unexpected)
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
    ValueError for an unknown architecture, one that is not the model's, or keys and shapes that do not fit.
    """
    state = read_state_dict(source)
    name, release = recognise(state)
    backbone = model.backbone if isinstance(model, FRHead) else model
    if not isinstance(backbone, release.model):
        raise ValueError(f"these are weights of {name}, not of {type(backbone).__name__}")
    check_variant(backbone, name, release, state)
    converted = convert(state, release, model, ignore)
    model.load_state_dict(converted, strict=False)
    return [key for key in model.state_dict() if key not in converted and not key.endswith(release.own)]


def check_variant(model, name, release, state):
    """Raise ValueError where release and model differ in what no shape shows."""
    try:
        with readable():
            arguments = release.arguments(state)
    except ValueError:  # what is missing, or of another shape, will be listed
        return
    if release.labeling and release.labeling != model.labeling:
        raise ValueError(f"these are weights of {name}: they need model_args labeling: {release.labeling}")
    for key, value in arguments.items():
        if isinstance(value, bool | str) and getattr(model, key) != value:
            value = value if isinstance(value, str) else str(value).lower()  # as in YAML
            raise ValueError(f"these are weights of {name}: they need model_args {key}: {value}")


def load_weights(model, saved, ignore=()):
    """Load what torchlight.checkpoint.load gives: a checkpoint of one of our runs, or a published one.

    FR-Head's heads are left out where the model has none, of what was trained with them; where the model has them and
    the checkpoint does not, they must be among what is ignored. Returns the names that keep their initial values.
    """
    heads = isinstance(model, FRHead)
    state, everything = saved["model"] if is_ours(saved) else read_state_dict(saved), model.state_dict()
    for word in ignore:
        if not any(word in name for name in (*everything, *state)):
            raise ValueError(f"no weight has {word!r} in its name, which is to be ignored")
    if not is_ours(saved):
        return load_published(model, state if heads else without(state, ["ren_"]), ignore)
    trained_with = any(key.startswith("head.") for key in state)
    if trained_with and not heads:
        state = {key.removeprefix("backbone."): value for key, value in state.items() if not key.startswith("head.")}
    elif heads and not trained_with:
        state = {f"backbone.{key}": value for key, value in state.items()}
    state, ours = without(state, ignore), without(everything, ignore)
    check_fit(state, ours, [key for key in ours if key not in state], [key for key in state if key not in ours])
    model.load_state_dict(state, strict=False)
    return [key for key in everything if key not in ours]


def is_ours(saved):
    """Whether a loaded checkpoint is one of our runs: weights under `model`, beside what they were trained with."""
    kinds = {"model": dict, "config": dict, "class_count": list, "classes": list, "epoch": int}
    return isinstance(saved, dict) and all(isinstance(saved.get(key), kind) for key, kind in kinds.items())


def without(state, words):
    return {key: value for key, value in state.items() if not any(word in key for word in words)}


def from_published(source, graph, num_person=2):
    """The network of a published checkpoint (path or state dict), recognised from keys and shapes, with its weights.

    graph: of its layout; num_person: persons of the input. Raises ValueError as load_published does.
    """
    state = read_state_dict(source)
    name, release = recognise(state)
    with readable():
        num_class = len(state[f"{release.modules(state)['fc'][0]}.weight"])
        arguments = release.arguments(state)
        heads = frhead.arguments(state) if frhead.present(state) else None
    model = release.model(num_class, num_person, graph, **arguments)
    check_variant(model, name, release, state)
    model = model if heads is None else FRHead(model, **heads)
    model.load_state_dict(convert(state, release, model), strict=False)
    return model
