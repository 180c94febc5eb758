import math

import pytest
import torch

from graph import build_graph
from model import build_model
from model.agcn import AdaptiveGraphConv, Attention


class Zero(torch.nn.Module):
    def forward(self, x):
        return 0


@pytest.mark.parametrize("relation", ["tanh", "softmax"])
def test_adaptive_topologies_by_the_papers_formula(relation):
    """2s-AGCN, equations 3 and 4; AAGCN gates tanh with alpha. One clip, subset and pair of joints at a time."""
    torch.manual_seed(0)
    layer = AdaptiveGraphConv(3, 8, torch.rand(3, 5, 5), relation, attention=False).double().eval()
    for parameter in layer.parameters():
        parameter.data.normal_()
    layer.bn, layer.down = torch.nn.Identity(), Zero()
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    y = torch.zeros(2, 8, 4, 5, dtype=torch.float64)
    embedded = (torch.einsum("oc,nctv->notv", layer.embed.weight[..., 0, 0], x) + layer.embed.bias[:, None, None]).view(
        2, 3, 2, 2, 4, 5
    )
    for n in range(2):
        for s in range(3):
            query, key = embedded[n, s]  # R, T, V
            product = torch.stack([
                torch.stack([(query[..., u] * key[..., v]).sum() / 8 for v in range(5)]) for u in range(5)
            ])  # fmt: skip
            if relation == "tanh":
                A = layer.A[s] + layer.alpha * product.tanh()
            else:
                A = layer.A[s] + layer.offset[s] + product.exp() / product.exp().sum(dim=0, keepdim=True)
            W, b = layer.conv.weight[8 * s : 8 * s + 8, :, 0, 0], layer.conv.bias[8 * s : 8 * s + 8]
            y[n] += torch.einsum("oc,ctu,uv->otv", W, x[n], A) + b[:, None, None]
    torch.testing.assert_close(layer(x), torch.relu(y))


@pytest.mark.parametrize("num_point", [4, 5])
def test_attention_is_that_of_three_gates_in_a_row(num_point):
    torch.manual_seed(0)
    gates = Attention(6, num_point).double()
    for parameter in gates.parameters():
        parameter.data.normal_()
    x = torch.randn(2, 6, 7, num_point, dtype=torch.float64)
    y = x + x * gates.joint(x.mean(dim=2)).sigmoid()[:, :, None]
    y = y + y * gates.frame(y.mean(dim=3)).sigmoid()[..., None]
    y = y + y * gates.excite(gates.squeeze(y.mean(dim=(2, 3))).relu()).sigmoid()[..., None, None]
    torch.testing.assert_close(gates(x), y)


def spread(tensor):
    return tensor.std().item()


@pytest.mark.parametrize("name", ["agcn", "aagcn"])
def test_starts_as_published(name):
    torch.manual_seed(0)
    graph = build_graph("ntu")
    model = build_model(name, 10, 2, graph)
    block = model.blocks[5]  # 128 -> 128 channels
    for weight, variance in (
        (block.gcn.embed.weight, 2 / 32), (block.gcn.conv.weight, 2 / (128 * 128 * 3)),
        (block.tcn.weight, 2 / (128 * 9)),
        (model.blocks[4].gcn.down[0].weight, 2 / 128), (model.blocks[4].residual[0].weight, 2 / 128),
        (model.fc.weight, 2 / 10),
    ):  # fmt: skip
        assert spread(weight) == pytest.approx(math.sqrt(variance), rel=0.05)
    for part in (block.gcn.embed, block.gcn.conv, block.tcn, model.blocks[4].residual[0]):
        assert (part.bias == 0).all()
    assert (block.gcn.bn.weight == 1e-6).all() and (block.bn.weight == 1).all() and block.gcn.alpha == 0
    assert torch.equal(block.gcn.A, torch.from_numpy(graph.A))
    if name == "aagcn":
        attention = block.gcn.attention
        assert spread(attention.joint.weight) == pytest.approx(math.sqrt(2 / (128 * 25 + 25)), rel=0.05)
        assert spread(attention.squeeze.weight) == pytest.approx(math.sqrt(2 / 128), rel=0.05)
        assert not any(p.any() for p in (*attention.frame.parameters(), *attention.excite.parameters()))


def test_softmax_starts_from_the_graph_with_offsets_of_a_millionth():
    graph = build_graph("ucla")
    gcn = build_model("agcn", 4, 1, graph, base_channels=8, relation="softmax").blocks[3].gcn
    assert torch.equal(gcn.A, torch.from_numpy(graph.A)) and not isinstance(gcn.A, torch.nn.Parameter)
    assert (gcn.offset == 1e-6).all() and not hasattr(gcn, "alpha")


@pytest.mark.parametrize(("layout", "M", "T"), [("ucla", 1, 13), ("coco", 2, 16)])
def test_variants_run_forward_and_backward(layout, M, T):
    graph = build_graph(layout)
    x = torch.randn(2, 3, T, graph.num_point, M)
    for variant in ({"relation": "softmax"}, {"norm": "VC"}, {"kernel_size": 5}):
        model = build_model("agcn", 4, M, graph, base_channels=8, **variant)
        model(x).sum().backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []


def test_wrong_arguments():
    graph = build_graph("ucla")
    for wrong, message in (
        ({"relation": "relu"}, "relation must be one of tanh, softmax, not 'relu'"),
        ({"norm": "V"}, "norm must be one of MVC, VC, not 'V'"),
        ({"kernel_size": 4}, "kernel_size must be odd, not 4"),
    ):
        with pytest.raises(ValueError, match=message):
            build_model("agcn", 4, 1, graph, base_channels=8, **wrong)
