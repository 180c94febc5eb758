"""Checkpoints: written whole, read as data."""

import warnings
from pathlib import Path

import torch

from .files import replacing


def save(state, path):
    """Write tensors and plain containers, loadable with torch.load(weights_only=True)."""
    with replacing(path) as file:
        torch.save(state, file)


def load(path):
    """Read a checkpoint as data, never as code, onto the CPU. Raises ValueError or OSError naming the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # a damaged file can raise any; PyTorch's own message advises to load it as code
        raise ValueError(f"{path}: not a checkpoint of tensors and plain values only, or damaged") from None
