"""Data sets: the store format, the feeder that makes batches of it, class sampling, mixing."""

from .balance import SAMPLERS
from .feeder import Feeder, TrainBatches
from .mixing import Mixup, RebalancedPartial, Remix, Target
from .modality import MODALITIES
from .shapmix import ShapMix
from .store import Store, StoreWriter, add_split
from .transforms import TRANSFORMS

FEEDERS = {"skeleton": Feeder}
MIXINGS = {"rebalanced-partial": RebalancedPartial, "mixup": Mixup, "remix": Remix, "shap-mix": ShapMix}

__all__ = [
    "FEEDERS", "MIXINGS", "MODALITIES", "SAMPLERS", "TRANSFORMS", "Feeder", "Store", "StoreWriter", "Target",
    "TrainBatches", "add_split", "build_feeder",
]  # fmt: skip


def build_feeder(data_path, split="test", modality="joint", transforms=(), feeder="skeleton", **arguments):
    """A feeder by name; see Feeder. `x, y = build_feeder(...).batch([0, 1, 2], epoch=0, step=0)`"""
    if feeder not in FEEDERS:
        raise ValueError(f"unknown feeder {feeder!r}; there are {', '.join(FEEDERS)}")
    return FEEDERS[feeder](data_path, split=split, modality=modality, transforms=transforms, **arguments)
