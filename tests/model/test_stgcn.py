import math

import pytest
import torch

from graph import build_graph
from model import build_model
from model.stgcn import GraphConv


def test_graph_convolution_by_the_papers_formula():
    """Section 3.6: the sum over subsets of (f W + b) (A * M), one joint at a time."""
    torch.manual_seed(0)
    layer = GraphConv(4, 6, torch.rand(3, 5, 5)).double().eval()
    layer.importance.data.normal_()
    layer.bn = torch.nn.Identity()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    y = torch.zeros(2, 6, 3, 5, dtype=torch.float64)
    for s in range(3):
        W, b = layer.conv.weight[6 * s : 6 * s + 6, :, 0, 0], layer.conv.bias[6 * s : 6 * s + 6]
        for u in range(5):
            value = torch.einsum("oc,nct->not", W, x[..., u]) + b[:, None]
            for v in range(5):
                y[..., v] += value * (layer.A * layer.importance)[s, u, v]
    torch.testing.assert_close(layer(x), torch.relu(y))


def test_starts_as_published():
    torch.manual_seed(0)
    graph = build_graph("ntu", "stgcn_spatial")
    model = build_model("stgcn", 60, 2, graph)
    block = model.blocks[5]
    for weight, fan_in in ((block.gcn.conv.weight, 128), (block.tcn.weight, 128 * 9)):  # PyTorch's own, as in PYSKL
        assert weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
        assert weight.abs().max() <= 1 / math.sqrt(fan_in)
    assert torch.equal(block.gcn.A, torch.from_numpy(graph.A)) and (block.gcn.importance == 1).all()
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05) and (model.fc.bias == 0).all()
    assert sum(p.numel() for p in model.parameters()) == 3_098_832


def test_the_graph_is_not_changed_with_the_model():
    graph = build_graph("ucla")
    before = graph.A.copy()
    model = build_model("stgcn", 4, 1, graph, base_channels=8)
    model.blocks[0].gcn.A.zero_()
    assert (before == graph.A).all() and model.blocks[1].gcn.A.any()


def test_the_first_block_drops_nothing_out():
    model = build_model("stgcn", 4, 1, build_graph("ucla"), base_channels=8, tcn_drop_out=0.5)
    assert [block.drop_out.p for block in model.blocks] == [0] + [0.5] * 9
