import contextlib
import copy

import pytest
import torch
from torch import nn

from graph import build_graph
from model import MODELS, build_model
from torchlight.graphs import GraphedForward
from torchlight.trainer import build_optimizer


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(160, 4)
    )


def train(forward, model, sizes):
    optimizer = build_optimizer("SGD", model.parameters(), 0.1, 0.9, True, 1e-4)
    device = next(model.parameters()).device
    for step, N in enumerate(sizes):
        torch.manual_seed(step)
        x, label = torch.randn(N, 3, 5, 4).to(device), torch.arange(N, device=device) % 4
        nn.functional.cross_entropy(forward(x), label).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return model.state_dict()


@pytest.mark.gpu
def test_graphs_train_to_the_same_bits():
    plain, graphed = network().cuda(), network().cuda()
    expected = train(plain, plain, [8, 8, 3, 8, 3])
    forward = GraphedForward(graphed)
    state = train(forward, graphed, [8, 8, 3, 8, 3])
    assert len(forward.captured) == 2
    for key, value in expected.items():
        assert torch.equal(state[key], value), key


@pytest.mark.gpu
@pytest.mark.parametrize("name", MODELS)
def test_every_model_is_captured_as_it_is(name, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    heat_maps = name == "posec3d"
    graph, more = build_graph("coco" if heat_maps else "ntu"), {"in_channels": 17} if heat_maps else {}
    plain = build_model(name, 10, 2, graph, **more).cuda().train()
    graphed = copy.deepcopy(plain)
    forward = GraphedForward(graphed)
    for step in range(2):
        x = torch.randn(4, 17, 16, 56, 56) if heat_maps else torch.randn(4, 3, 32, 25, 2)
        logits = []
        for model, call in ((plain, plain), (graphed, forward)):
            torch.manual_seed(step)
            model.zero_grad(set_to_none=True)
            logits.append(call(x.cuda()))
            logits[-1].square().mean().backward()
        assert torch.equal(*logits)
        for (key, p), q in zip(plain.named_parameters(), graphed.parameters(), strict=True):
            assert torch.equal(p.grad, q.grad), key


def test_capture_leaves_no_trace_and_is_done_once_a_shape(monkeypatch):
    """With PyTorch's capture replaced by one that runs the module as often and takes only what a graph takes."""
    captures = []

    def make_graphed_callables(module, samples, allow_unused_input):
        for _ in range(4):  # three to warm up, one to capture
            module(*samples)
        captures.append(samples[0].shape)

        def replay(x):
            assert x.shape == samples[0].shape
            samples[0].copy_(x)
            return module(samples[0])

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", make_graphed_callables)
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    plain, graphed = (network().double() for _ in range(2))
    torch.set_default_dtype(torch.float64)
    try:
        expected = train(plain, plain, [8, 8, 3, 8, 3])
        state = train(GraphedForward(graphed), graphed, [8, 8, 3, 8, 3])
    finally:
        torch.set_default_dtype(torch.float32)
    assert captures == [(8, 3, 5, 4), (3, 3, 5, 4)]
    for key, value in expected.items():
        assert torch.equal(state[key], value), key
