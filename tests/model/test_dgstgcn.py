import math

import pytest
import torch

from graph import build_graph
from model import build_model
from model.dgstgcn import DynamicGraphConv, DynamicTemporalConv
from model.pretrained import from_published


@pytest.mark.parametrize("subset_wise", [False, True])
def test_graph_convolution_by_its_formula(subset_wise):
    """One clip, group, channel and pair of joints at a time."""
    torch.manual_seed(0)
    S, R, V = 3, 2, 5
    layer = DynamicGraphConv(4, 8, torch.rand(S, V, V), ratio=0.25, subset_wise=subset_wise).double().eval()
    torch.nn.init.normal_(layer.alpha)
    torch.nn.init.normal_(layer.beta)
    x = torch.randn(2, 4, 6, V, dtype=torch.float64)
    query, key = layer.relation(x).mean(dim=2).view(2, 2, S, R, V).unbind(dim=1)
    value = layer.pre(x).relu().view(2, S, R, 6, V)
    y = torch.zeros_like(value)
    for n in range(2):
        for s in range(S):
            alpha, beta = (gate[s if subset_wise else 0] for gate in (layer.alpha, layer.beta))
            attention = torch.stack([query[n, s, :, u] @ key[n, s] for u in range(V)]).softmax(dim=0)  # u, v
            for r in range(R):
                for u in range(V):
                    for v in range(V):
                        weight = layer.A[s, u, v] + alpha * torch.tanh(query[n, s, r, u] - key[n, s, r, v])
                        y[n, s, r, :, v] += (weight + beta * attention[u, v]) * value[n, s, r, :, u]
    y = layer.bn(layer.post(y.view(2, S * R, 6, V)))
    torch.testing.assert_close(layer(x), (y + layer.down(x)).relu())


def test_the_skeleton_is_one_more_joint():
    layer = DynamicTemporalConv(12, 12, 2, num_point=5).eval()
    x = torch.randn(2, 12, 7, 5)
    torch.testing.assert_close(layer(x), layer.mix(layer.branches(x)))  # the proportions start at 0
    torch.nn.init.ones_(layer.proportion)
    skeleton = layer.branches(x.mean(dim=3, keepdim=True))
    torch.testing.assert_close(layer(x), layer.mix(layer.branches(x) + skeleton))


def test_starts_as_published():
    torch.manual_seed(0)
    model = build_model("dgstgcn", 60, 2, build_graph("ntu"))
    block = model.blocks[5]
    assert block.gcn.A.shape == (8, 25, 25)
    assert block.gcn.A.mean().item() == pytest.approx(0.04, rel=0.05)
    assert block.gcn.A.std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(block.gcn.A, model.blocks[0].gcn.A)
    assert all((start == 0).all() for start in (block.gcn.alpha, block.gcn.beta, block.tcn.proportion))
    for layer in (block.gcn.relation, block.gcn.pre[0], block.gcn.post, block.tcn.transform):  # PyTorch's own
        fan_in = layer.weight.shape[1]
        assert layer.weight.std().item() == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
        assert layer.weight.abs().max() <= 1 / math.sqrt(fan_in)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05) and (model.fc.bias == 0).all()


def test_impossible_sizes():
    for wrong, must in (({"num_filter": 0}, "at least 1"), ({"ratio": 0.0}, "above 0")):
        with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be {must}"):
            build_model("dgstgcn", 4, 1, build_graph("ucla"), **wrong)


def test_unused_proportions_of_a_release_are_left_out(golden):
    state, x, expected, _ = golden("dgstgcn_pyskl_ntu")
    more = {k: torch.cat([v, v]) if k.endswith("add_coeff") else v for k, v in state.items()}
    with torch.no_grad():
        logits = from_published(more, build_graph("ntu"), 2).eval()(x)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
