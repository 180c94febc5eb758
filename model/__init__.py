"""Models by name. A model takes (N, C, T, V, M), PoseC3D heat maps (N, V, T, H, W), and returns logits (N, K)."""

from torchlight.config import bind, nearest

from .agcn import AAGCN, AGCN
from .classifier import CLASSIFIERS
from .ctrgcn import CTRGCN
from .ctrgcn_baseline import CTRGCNBaseline
from .dgstgcn import DGSTGCN
from .msg3d import MSG3D
from .posec3d import PoseC3D
from .shiftgcn import ShiftGCN
from .stgcn import STGCN
from .stgcnpp import STGCNPP
from .tcagcn import TCAGCN

MODELS = {
    "stgcn": STGCN,
    "agcn": AGCN,
    "aagcn": AAGCN,
    "shiftgcn": ShiftGCN,
    "msg3d": MSG3D,
    "ctrgcn": CTRGCN,
    "ctrgcn-baseline": CTRGCNBaseline,
    "stgcn++": STGCNPP,
    "dgstgcn": DGSTGCN,
    "tcagcn": TCAGCN,
    "posec3d": PoseC3D,
}

__all__ = ["CLASSIFIERS", "MODELS", "build_model", "check_arguments"]


def check_arguments(name, model_args):
    """The arguments of an architecture beside num_class, num_person and graph. Raises ValueError for others."""
    return bind(MODELS[name], model_args, name, skip=("num_class", "num_person", "graph"))


def build_model(name, num_class, num_person, graph, classifier="linear", **model_args):
    """A freshly initialised model.

    graph: graph.Graph of the input's layout. classifier: one of CLASSIFIERS. model_args: the architecture's own
    (in_channels, base_channels, drop_out, …). Raises ValueError for an unknown name or argument.
    """
    if name not in MODELS:
        raise ValueError(f"unknown model {name!r}{nearest(name, MODELS)}; there are {', '.join(MODELS)}")
    model_args = check_arguments(name, model_args)
    model = MODELS[name](num_class=num_class, num_person=num_person, graph=graph, **model_args)
    if classifier != "linear":  # the architectures initialise their own linear one, each as published
        model.fc = CLASSIFIERS[classifier](model.fc.in_features, num_class)
    return model
