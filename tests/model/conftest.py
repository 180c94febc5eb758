"""The published networks on synthetic weights: see golden()."""

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

GOLDEN = Path(__file__).parents[1] / "golden"


def synthetic_weights(meta, kept):
    """The state dict of a golden file: every value is a function of its key's name."""
    state = {}
    for key, shape in meta["keys"]:
        r = np.asarray(np.random.RandomState(zlib.crc32(key.encode())).standard_normal(shape), dtype=np.float32)
        if key in meta["kept"]:
            value = kept[f"kept/{key}"]
        elif key.endswith("num_batches_tracked"):
            value = np.zeros((), np.int64)
        elif key.endswith("running_mean"):
            value = 0.1 * r
        elif key.endswith("running_var"):
            value = 1 + 0.1 * np.abs(r)
        elif len(shape) >= 2:
            value = meta["gain"] * r / np.sqrt(np.prod(shape[1:]))
        else:
            value = 1 + 0.1 * r if key.endswith("weight") else 0.1 * r
        state[key] = torch.from_numpy(np.asarray(value))
    return state


@pytest.fixture(scope="session")
def golden():
    """golden(name) -> (state dict of the release, input N C T V M, logits of the release, meta)."""

    def load(name):
        file = np.load(GOLDEN / f"{name}.npz")
        meta = json.loads(str(file["meta"]))
        x = np.random.RandomState(meta["input_seed"]).standard_normal(meta["input_shape"]).astype(np.float32)
        x = torch.from_numpy(x)
        if meta["layout_of_input"] == "N M T V C":
            x = x.permute(0, 4, 2, 3, 1)
        return synthetic_weights(meta, file), x, torch.from_numpy(file["output"]), meta

    return load
