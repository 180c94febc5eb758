"""How a published code base names the parameters of an architecture."""

from collections.abc import Callable
from dataclasses import dataclass

from ..backbone import STAGES


@dataclass(frozen=True)
class Release:
    """model     our class
    sign       sign(state) tells from the keys and shapes of a state dict whether it is this architecture's
    arguments  arguments(state) reads in_channels, base_channels and the like off the shapes: our class takes them
               besides num_class, num_person and graph
    modules    modules(state) is {our module or parameter: [theirs]}; several of theirs are stacked along the first
               dimension, because our one does the work of all of them
    fixed      endings of their names that hold nothing to load: constants that we make ourselves
    own        endings of our names that they do not save
    labeling   of the graph that their A is of, where it is not saved
    adapt      adapt(state) rewrites values beforehand where their mathematics is another form of ours
    """

    model: type
    sign: Callable
    arguments: Callable
    modules: Callable
    fixed: tuple = ()
    own: tuple = ()
    labeling: str | None = None
    adapt: Callable | None = None


def has(*keys, lacks=()):
    """sign of a release: a state dict that has all these keys, and none of those it lacks."""

    def sign(state):
        return all(key in state for key in keys) and not any(key in state for key in lacks)

    return sign


def classifier(state, *paths):
    """The path of the classifier, of those it may have: the first that is there, or else the first."""
    return next((path for path in paths if f"{path}.weight" in state), paths[0])


def ten_blocks(block, data_bn, *fc):
    """modules of a GraphBackbone. block(i) -> {our path: [theirs]} of block i; their data batch norm and classifier."""

    def modules(state):
        result = {"data_bn": [data_bn], "fc": [classifier(state, *fc)]}
        for i in range(len(STAGES)):
            result.update(block(i))
        return result

    return modules


def widths(first, last, **more):
    """arguments of a GraphBackbone. first: a convolution of the input's channels; last: a batch norm of the last block.

    more: further arguments, or how to read them: (name of a tensor, dimension).
    """

    def arguments(state):
        return {
            "in_channels": state[first].shape[1],
            "base_channels": state[last].shape[0] // STAGES[-1][0],
            **{name: state[v[0]].shape[v[1]] if isinstance(v, tuple) else v for name, v in more.items()},
        }

    return arguments


def linear(fc):
    """adapt where the classifier fc is a 1x1 convolution."""

    def adapt(state):
        return {key: value.flatten(1) if key == f"{fc}.weight" else value for key, value in state.items()}

    return adapt
