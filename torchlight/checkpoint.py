"""Checkpoints: written whole, read as data."""

import pickle
import zipfile
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
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile, KeyError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(f"{path}: not a checkpoint of tensors and plain values, or damaged ({reason})") from None
