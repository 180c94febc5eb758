import math

import pytest
import torch

from graph import build_graph
from model import build_model
from model.ctrgcn_baseline import LearnedGraphConv


def test_graph_convolution_with_topologies_of_norm_1():
    torch.manual_seed(0)
    layer = LearnedGraphConv(4, 4, torch.randn(2, 5, 5)).double().eval()
    layer.conv.bias.data.normal_()
    layer.bn = torch.nn.Identity()
    x = torch.randn(2, 4, 3, 5, dtype=torch.float64)
    y = x.clone()
    for s in range(2):
        A = layer.A[s] / (layer.A[s].square().sum(dim=0).sqrt() + 1e-4)
        W, b = layer.conv.weight[4 * s : 4 * s + 4, :, 0, 0], layer.conv.bias[4 * s : 4 * s + 4]
        y += torch.einsum("oc,nctu,uv->notv", W, x, A) + b[:, None, None]
    torch.testing.assert_close(layer(x), torch.relu(y))


def test_starts_as_published():
    torch.manual_seed(0)
    model = build_model("ctrgcn-baseline", 60, 2, build_graph("ntu"))
    block = model.blocks[5]
    for weight, variance in (
        (block.gcn.conv.weight, 2 / (128 * 128 * 3)), (block.tcn.weight, 2 / (128 * 5)),
        (model.blocks[4].gcn.down[0].weight, 2 / 128), (model.fc.weight, 2 / 60),
    ):  # fmt: skip
        assert weight.std().item() == pytest.approx(math.sqrt(variance), rel=0.05)
    assert torch.equal(block.gcn.A, torch.eye(25).expand(3, 25, 25)) and (block.gcn.bn.weight == 1e-6).all()
    assert sum(p.numel() for p in model.parameters()) == 2_092_902
