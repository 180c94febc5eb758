"""Devices, DataParallel, and random numbers that are counted, not carried."""

from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from . import distributed
from .distributed import ALONE


def parse_device(words):
    """`--device` as a list of torch devices: [] is GPU 0 or else the CPU; "cpu", or the numbers of GPUs.

    Raises ValueError for a device that is not there.
    """
    if not words:
        words = [0] if torch.cuda.is_available() else ["cpu"]
    if [str(word) for word in words] == ["cpu"]:
        return [torch.device("cpu")]
    count = torch.cuda.device_count()
    for word in words:
        if not str(word).isdigit():
            raise ValueError(f"--device takes cpu or the numbers of GPUs, not {word!r}")
        if int(word) >= count:
            raise ValueError(f"--device {word}: this machine has {count} GPUs; use --device cpu to run without one")
    if len(set(map(str, words))) < len(words):
        raise ValueError("--device names a GPU twice")
    return [torch.device("cuda", int(word)) for word in words]


def place(model, devices, team=ALONE, sync_bn=False):
    """The model on its devices: several GPUs share each batch (DataParallel), and so do several processes
    (DistributedDataParallel), with batch norm over the whole batch if sync_bn.
    """
    model = model.to(devices[0])
    if team.size > 1:
        model = distributed.synchronise(model, devices[0]) if sync_bn else model
        return distributed.wrap(model, devices[0])
    return nn.DataParallel(model, device_ids=devices) if len(devices) > 1 else model


def bare(model):
    """The model inside a DataParallel or DistributedDataParallel."""
    return model.module if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel) else model


def counted_seed(purpose, seed, epoch=0, step=0):
    """A 64-bit seed for the random draws of one purpose (a word) in one step: a function of its arguments only."""
    words = [int.from_bytes(purpose.encode()[:8].ljust(8, b"\0"), "little"), seed, epoch, step]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def counted_generator(purpose, seed, epoch=0, step=0, device="cpu"):
    """A torch.Generator seeded by counted_seed: nothing to save, and any step can be drawn again."""
    return torch.Generator(device).manual_seed(counted_seed(purpose, seed, epoch, step))


@contextmanager
def tensor_cores():
    """A GPU multiplies float32 matrices in TF32 (10 bits of mantissa), as PyTorch lets its convolutions by default:
    models here multiply where releases have pointwise convolutions. For models only; coordinates need their digits.
    """
    flags = torch.backends.cuda.matmul
    before = flags.allow_tf32
    flags.allow_tf32 = True
    try:
        yield
    finally:
        flags.allow_tf32 = before


@contextmanager
def test_mode(model):
    """The model in test mode; afterwards every module has the mode it had: of a frozen backbone not all are alike."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def one_thread():
    """PyTorch computes with one thread: small operations gain less from several than they lose by waiting for them."""
    number = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(number)
