"""Size and speed of a model."""

import time

import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode, bmm_flop

from .device import tensor_cores
from .fold import fold

COLUMNS = ("parameters", "GFLOPs", "inference clips/s", "training clips/s")


@tensor_cores()
def profile(model, x, seconds=3.0):
    """Size and speed of a model on one batch of N clips x, on its device: {column of COLUMNS: number}.

    GFLOPs: PyTorch's count of the convolutions and matrix products of a forward pass, a clip, a multiplication with its
    addition counted as one, as in the tables of PYSKL and MMAction2. Speeds are means over at least `seconds` each; a
    training step is forward, cross-entropy and backward.
    """
    N = len(x)
    target = torch.zeros(N, dtype=torch.int64, device=x.device)
    folded = fold(model)
    flops = count_flops(folded, x)
    with torch.inference_mode():
        inference = N / _seconds_per_call(lambda: folded(x), x.device, seconds)
    model.train()

    def train_step():
        F.cross_entropy(model(x), target).backward()
        model.zero_grad(set_to_none=True)

    training = N / _seconds_per_call(train_step, x.device, seconds)
    figures = sum(p.numel() for p in model.parameters()), flops / 2e9 / N, inference, training
    return dict(zip(COLUMNS, figures, strict=True))


def count_flops(model, x):
    """PyTorch's count of the floating point operations of model(x), a multiplication and an addition being two."""

    def in_place(_, a, b, out_shape=None, **_scales):  # baddbmm_, which PyTorch leaves out
        return bmm_flop.__wrapped__(a, b)

    with (
        torch.no_grad(),
        FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: in_place}) as counter,
    ):
        model(x)
    return counter.get_total_flops()


def _seconds_per_call(call, device, seconds):
    def synchronize():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    call()
    synchronize()
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        call()
        calls += 1
        synchronize()
    return (time.perf_counter() - begin) / calls
