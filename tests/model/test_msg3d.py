import math

import numpy as np
import pytest
import torch

from graph import LAYOUTS, build_graph
from model import build_model
from model.msg3d import MultiScaleGraphConv, WindowGraphConv, adjacency_scales


def chain(V):
    """Joints in a row, with self-loops."""
    return np.abs(np.arange(V)[:, None] - np.arange(V)) <= 1


@pytest.mark.parametrize("window", [1, 3])
def test_scales_are_distances_of_bones(window):
    scales = adjacency_scales(np.tile(chain(4), (window, window)), 6)
    joints = np.tile(np.arange(4), window)
    distance = np.abs(joints[:, None] - joints)  # of joints, whatever their frames
    itself = np.eye(4 * window, dtype=bool)
    assert scales.dtype == np.float32 and np.array_equal(scales[0], itself)
    np.testing.assert_array_equal(scales[1] > 0, distance <= 1)
    for k in range(2, 6):
        np.testing.assert_array_equal(scales[k] > 0, (distance == k) | itself)
    degree = (scales[1] > 0).sum(axis=1)
    np.testing.assert_allclose(scales[1][0, 1], 1 / math.sqrt(degree[0] * degree[1]), rtol=1e-6)


@pytest.mark.parametrize("in_channels", [2, 6])  # fewer and more than it gives: the two orders of its products
@pytest.mark.parametrize(("window", "stride", "T"), [(1, 1, 4), (3, 1, 5), (3, 2, 5), (5, 2, 6)])
def test_graph_convolution_by_the_papers_formula(in_channels, window, stride, T):
    """Section 3.3, one window at a time: the sum over scales k of W_k X A_k."""
    torch.manual_seed(0)
    V, K = 3, 2
    layer = MultiScaleGraphConv(in_channels, 4, chain(V), K, window, stride).double().eval()
    torch.nn.init.normal_(layer.A_res)
    x = torch.randn(2, in_channels, V, T, dtype=torch.float64)
    padded = torch.nn.functional.pad(x, (window // 2, window // 2))
    A = (layer.A + layer.A_res).view(K, window * V, window * V)
    W = layer.conv.weight.view(4, K, in_channels)
    frames = []
    for start in range(0, T, stride):
        frame = padded[..., start : start + window].transpose(2, 3).flatten(2)  # N, C, window*V
        frames.append(torch.einsum("okc,kvu,ncu->nov", W, A, frame) + layer.conv.bias.view(-1, 1))
    torch.testing.assert_close(layer(x), layer.bn(torch.stack(frames, dim=3)).relu())


def test_windows_become_one_frame():
    layer = WindowGraphConv(6, 6, 8, chain(3), 2, window=5, stride=2)
    assert layer(torch.randn(2, 6, 3, 7)).shape == (2, 8, 3, 4)


@pytest.mark.parametrize("T", [16, 13, 1])
def test_levels(T):
    model = build_model("msg3d", 5, 2, build_graph("coco"), base_channels=8)
    features = model.forward_levels(torch.randn(2, 3, T, 17, 2))
    expected = [(2, 2, C, math.ceil(T / stride), 17) for C, stride in model.levels]
    assert [tuple(x.shape) for x in features] == expected
    assert model.levels == [(8, 1), (16, 2), (32, 4), (32, 4)]
    with pytest.raises(ValueError, match="at least one scale is needed, not 13 in a frame, 0 in a window"):
        build_model("msg3d", 5, 2, build_graph("coco"), num_g3d_scales=0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_starts_as_published(layout):
    torch.manual_seed(0)
    graph = build_graph(layout)
    model = build_model("msg3d", 60, 2, graph, num_gcn_scales=8)
    V, block = graph.num_point, model.blocks[1]
    neighbours = torch.from_numpy(graph.A.sum(axis=0) > 0)
    assert torch.equal(block.gcn.A.view(8, V, V)[1] > 0, neighbours)
    assert torch.equal(block.g3d[1].gcn.A.view(6, 5 * V, 5 * V)[1] > 0, neighbours.repeat(5, 5))
    for gcn in (block.gcn, block.g3d[0].gcn):
        assert gcn.A_res.abs().max() <= 1e-6 and gcn.A_res.std().item() == pytest.approx(1e-6 / math.sqrt(3), rel=0.05)
    # PyTorch's own: uniform within 1 / sqrt(fan in)
    for layer, fan_in in (
        (block.gcn.conv, 96 * 8), (block.g3d[0].gcn.conv, 96 * 6), (block.g3d[1].collapse, 96 * 5),
        (block.tcn.reduce, 192), (block.tcn.convs[0], 32 * 3), (block.tcns[0].residual[0], 96), (model.fc, 384),
    ):  # fmt: skip
        assert layer.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
        assert layer.bias.abs().max() <= 1 / math.sqrt(fan_in)
    assert (block.tcn.bn.weight == 1).all()
