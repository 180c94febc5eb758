"""Checkpoints: written whole, read as data."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import torch

from .files import replacing

# Published checkpoints have numpy's numbers among their facts: data, though they are pickled as calls.
NUMBERS = [np.dtype, *{type(np.dtype(code)) for code in np.typecodes["AllInteger"] + np.typecodes["Float"] + "?"}]
for module in ("numpy.core.multiarray", "numpy._core.multiarray"):  # before numpy 2, and since
    NUMBERS.append((np.float64(0).__reduce__()[0], f"{module}.scalar"))


def save(state, path):
    """Write tensors and plain containers, loadable with torch.load(weights_only=True)."""
    with replacing(path) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:  # PyTorch raises it over a full disk, and over Ctrl-C
            raise error.__context__ or error from None


def checksum(model):
    """A number that other weights would change: CRC-32 of all parameters and buffers."""
    crc = 0
    for tensor in model.state_dict().values():
        crc = zlib.crc32(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy(), crc)
    return crc


def load(path):
    """Read a checkpoint as data, never as code, onto the CPU. Raises ValueError or OSError naming the file."""
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(2, "no such file", str(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with torch.serialization.safe_globals(NUMBERS):
                return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception:  # a damaged file can raise any; PyTorch's own message advises to load it as code
        raise ValueError(f"{path}: not a checkpoint of tensors and plain values only, or damaged") from None
