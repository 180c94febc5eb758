"""Size and speed of a model."""

import time

import torch
from torch.utils.flop_counter import FlopCounterMode


def profile(model, x, target, seconds=3.0):
    """Parameters, FLOPs and clips/s of a model on one batch.

    x: input of N clips, target: labels (N,), both on the model's device. FLOPs are PyTorch's count of one forward pass,
    a multiplication and an addition being two, divided by N. Speeds are means over at least `seconds` each.
    Returns a dict: parameters, flops, inference, training (clips/s).
    """
    N = len(x)
    model.eval()
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(x)
    with torch.inference_mode():
        inference = N / _seconds_per_call(lambda: model(x), x.device, seconds)
    model.train()

    def train_step():
        torch.nn.functional.cross_entropy(model(x), target).backward()
        model.zero_grad(set_to_none=True)

    training = N / _seconds_per_call(train_step, x.device, seconds)
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "flops": counter.get_total_flops() / N,
        "inference": inference,
        "training": training,
    }


def _seconds_per_call(call, device, seconds):
    def synchronize():
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    for _ in range(2):
        call()
    synchronize()
    begin, calls = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds or calls < 3:
        call()
        calls += 1
        synchronize()
    return (time.perf_counter() - begin) / calls
