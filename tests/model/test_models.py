import copy
import math
import pickle

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from graph import LAYOUTS, build_graph
from model import MODELS, build_model
from model.ctrgcn import CTRGraphConv
from model.frhead import FRHead
from torchlight.profiler import count_flops

SKELETON_MODELS = [name for name, model in MODELS.items() if not hasattr(model, "heat_maps")]


def clips(N, V, M=1, T=16, C=3, seed=0):
    return torch.randn(N, C, T, V, M, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", SKELETON_MODELS)
@pytest.mark.parametrize("persons", [1, 2])
def test_forward_and_backward(name, layout, persons):
    graph = build_graph(layout)
    model = build_model(name, 7, persons, graph, base_channels=8)
    logits = model(clips(3, graph.num_point, persons))
    assert logits.shape == (3, 7)
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert without == []


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("stgcn", {"tcn_drop_out": 0.5}),
        ("agcn", {"relation": "softmax", "norm": "VC"}),
        ("shiftgcn", {"joint_shift": True}),
        ("msg3d", {"num_gcn_scales": 8, "num_g3d_scales": 8}),
        ("ctrgcn", {"tcn_relu": True}),
        ("dgstgcn", {"subset_wise": True}),
    ],
)
def test_variants_have_gradients(name, arguments):
    model = build_model(name, 4, 1, build_graph("ucla"), base_channels=8, drop_out=0.5, **arguments)
    torch.nn.functional.cross_entropy(model(clips(3, 20)), torch.tensor([0, 1, 2])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("name", SKELETON_MODELS)
def test_mixed_precision(name):
    model = build_model(name, 4, 1, build_graph("ucla"), base_channels=8)
    x = clips(6, 20)
    logits = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        low = model(x)
    assert low.dtype == torch.bfloat16
    torch.nn.functional.cross_entropy(low.float(), torch.arange(6) % 4).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert (low - logits).abs().mean() < 0.2 * logits.abs().mean()  # of 25 networks the worst had 0.13


@pytest.mark.parametrize("name", SKELETON_MODELS)
def test_copies_and_pickles_compute_the_same(name, tmp_path):
    model = build_model(name, 4, 1, build_graph("ucla"), base_channels=8).eval()
    x = clips(2, 20)
    copies = [
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        build_model(name, 4, 1, build_graph("ucla"), base_channels=8),
    ]
    copies[2].load_state_dict(model.state_dict())
    for other in copies:
        assert torch.equal(other.eval()(x), model(x))


@pytest.mark.parametrize("name", SKELETON_MODELS)
def test_input_of_another_kind_is_refused(name):
    model = build_model(name, 4, 1, build_graph("ucla"), base_channels=8)
    for wrong in (clips(2, 25), clips(2, 20, M=2), clips(2, 20, C=2)):
        with pytest.raises(ValueError, match="the model takes clips of C=3 channels, V=20 joints and M=1 persons"):
            model(wrong)


def test_unknown_names_and_arguments():
    graph = build_graph("ucla")
    with pytest.raises(ValueError, match=r"unknown model 'ctrgnc' \(nearest: ctrgcn\)"):
        build_model("ctrgnc", 4, 1, graph)
    with pytest.raises(ValueError, match=r"ctrgcn: unknown key dropout \(nearest: drop_out\)"):
        build_model("ctrgcn", 4, 1, graph, dropout=0.5)
    with pytest.raises(ValueError, match="base_channels must be of type int"):
        build_model("ctrgcn", 4, 1, graph, base_channels="wide")
    for width in (0, -8, 12):
        with pytest.raises(ValueError, match="base_channels must be a multiple of 8"):
            build_model("ctrgcn", 4, 1, graph, base_channels=width)
    for name, key in (("ctrgcn", "drop_out"), ("stgcn", "tcn_drop_out"), ("posec3d", "drop_out")):
        with pytest.raises(ValueError, match=f"^{key} must be a probability, not 2.0"):
            build_model(name, 4, 1, graph, **{key: 2.0})
    for name in ("ctrgcn", "posec3d"):
        with pytest.raises(ValueError, match="in_channels must be at least 1, not 0"):
            build_model(name, 4, 1, graph, in_channels=0)


@pytest.mark.parametrize("name", SKELETON_MODELS)
@pytest.mark.parametrize("channels", [2, 6])
def test_other_numbers_of_input_channels(name, channels):
    model = build_model(name, 4, 1, build_graph("ucla"), in_channels=channels, base_channels=8)
    assert model(clips(2, 20, C=channels)).shape == (2, 4)


@pytest.mark.parametrize("name", SKELETON_MODELS)
def test_a_few_clips_are_learned_by_heart(name):
    torch.manual_seed(0)
    model = build_model(name, 3, 1, build_graph("ucla"), base_channels=8)
    x, y = clips(12, 20), torch.arange(12) % 3
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, nesterov=True)
    for _ in range(60):
        logits = model(x)
        if (logits.softmax(dim=1)[range(12), y] > 0.6).all():
            return
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, y).backward()
        optimizer.step()
    raise AssertionError("not learned in 60 steps")


def test_channel_topology_refinement_by_the_papers_formula():
    """CTR-GCN, equations 4 to 7, one clip, subset, channel and pair of joints at a time."""
    torch.manual_seed(0)
    A = torch.rand(3, 5, 5)
    layer = CTRGraphConv(16, 6, A).double().eval()
    with torch.no_grad():
        layer.alpha.fill_(0.7)
        for conv in (layer.query, layer.key, layer.value, layer.expand):
            conv.bias.normal_()
    layer.bn, layer.down = torch.nn.Identity(), Zero()
    x = torch.randn(2, 16, 4, 5, dtype=torch.float64)
    y = torch.zeros(2, 6, 4, 5, dtype=torch.float64)
    R = 2
    for s in range(3):
        W = {n: getattr(layer, n).weight[:, :, 0, 0] for n in ("query", "key", "value", "expand")}
        b = {n: getattr(layer, n).bias for n in W}
        hidden, out = slice(s * R, s * R + R), slice(s * 6, s * 6 + 6)
        query, key = (
            torch.einsum("rc,nctv->nrtv", W[n][hidden], x).mean(dim=2) + b[n][hidden, None] for n in ("query", "key")
        )
        value = torch.einsum("oc,nctv->notv", W["value"][out], x) + b["value"][out, None, None]
        for u in range(5):
            for v in range(5):
                relation = torch.tanh(query[:, :, u] - key[:, :, v])  # N, R
                weight = A[s, u, v] + 0.7 * (relation @ W["expand"][out].T + b["expand"][out])  # N, C'
                y[..., u] += weight[..., None] * value[..., v]
    torch.testing.assert_close(layer(x), torch.relu(y))


class Zero(torch.nn.Module):
    def forward(self, x):
        return 0


def spread(tensor):
    return tensor.std().item()


def test_ctrgcn_starts_as_published():
    torch.manual_seed(0)
    model = build_model("ctrgcn", 10, 1, build_graph("ucla"))
    block = model.blocks[5]  # 128 -> 128 channels, branches of 32
    # Kaiming, fan out: of each of the release's convolutions, not of the stacked one
    for weight, fan_out in (
        (block.gcn.query.weight, 16), (block.gcn.value.weight, 128), (block.gcn.expand.weight, 128),
        (block.tcn.reduce.weight, 32), (block.tcn.convs[0].weight, 32 * 5), (block.tcn.point.weight, 32),
    ):  # fmt: skip
        assert spread(weight) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    for part in (block.gcn.value, block.tcn.reduce, block.tcn.convs[1]):
        assert (part.bias == 0).all()
    assert (block.gcn.bn.weight == 1e-6).all() and (block.gcn.alpha == 0).all()
    assert spread(block.tcn.bn.weight) == pytest.approx(0.02, rel=0.2) and abs(block.tcn.bn.weight.mean() - 1) < 0.01
    assert spread(model.blocks[4].residual[0].weight) == pytest.approx(math.sqrt(2 / 128), rel=0.05)
    assert spread(model.blocks[4].gcn.down[0].weight) == pytest.approx(math.sqrt(2 / 128), rel=0.05)
    assert spread(model.fc.weight) == pytest.approx(math.sqrt(2 / 10), rel=0.05)
    assert (model.data_bn.weight == 1).all()
    assert torch.equal(block.gcn.A, torch.from_numpy(build_graph("ucla").A))


def test_stgcnpp_starts_as_published():
    torch.manual_seed(0)
    model = build_model("stgcn++", 60, 2, build_graph("ntu"))
    block = model.blocks[5]
    # PyTorch's own: uniform within 1 / sqrt(fan in)
    for weight, fan_in in (
        (block.gcn.conv.weight, 128),
        (block.tcn.reduce.weight, 128),
        (block.tcn.transform.weight, 128),
    ):
        assert spread(weight) == pytest.approx(1 / math.sqrt(3 * fan_in), rel=0.05)
        assert weight.abs().max() <= 1 / math.sqrt(fan_in)
    assert spread(model.fc.weight) == pytest.approx(0.01, rel=0.05) and (model.fc.bias == 0).all()
    assert (block.gcn.bn.weight == 1).all()


@pytest.mark.gpu
@pytest.mark.parametrize("name", SKELETON_MODELS)
def test_gpu_computes_what_the_cpu_computes(name, monkeypatch):
    model = build_model(name, 10, 2, build_graph("ntu")).eval()
    x = clips(4, 25, M=2, T=32)
    with torch.no_grad():
        expected = model(x)
        monkeypatch.setattr(torch.backends.cuda.matmul, "allow_tf32", False)
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
        torch.testing.assert_close(model.cuda()(x.cuda()).cpu(), expected, atol=1e-4, rtol=1e-3)


class Devices(TorchDispatchMode):
    """The operations of which a tensor is on the CPU, or that hand a number back to the program."""

    def __init__(self):
        super().__init__()
        self.all, self.found = 0, []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        self.all += 1
        if any(x.is_cpu for x in tensors) or operation is torch.ops.aten._local_scalar_dense.default:
            self.found.append(str(operation))
        return result


@pytest.mark.parametrize("name", [*MODELS, "FR-Head"])
def test_nothing_in_a_forward_pass_is_copied_to_its_device_or_waited_for(name):
    """Either would make a GPU wait, and cannot be captured as a CUDA graph."""
    heat_maps = name == "posec3d"
    graph, arguments = build_graph("coco" if heat_maps else "ntu"), {"in_channels": 17} if heat_maps else {}
    model = build_model("ctrgcn" if name == "FR-Head" else name, 10, 2, graph, **arguments)
    model = (FRHead(model, 32) if name == "FR-Head" else model).to("meta").train()
    x = torch.empty(2, 17, 16, 56, 56) if heat_maps else torch.empty(2, 3, 32, graph.num_point, 2)
    with Devices() as seen:
        model(x.to("meta"))
    assert seen.found == ["aten._to_copy.default"] and seen.all > 100  # that one makes x


PUBLISHED = {  # millions of parameters; G multiply-adds at T = 100, two persons: 17 joints, 25 joints (MMAction2)
    "stgcn": (3.1, 3.8, 5.7), "agcn": (3.5, 4.4, 6.5), "stgcn++": (1.4, 1.95, 2.96),
    "ctrgcn": (1.4, None, None), "msg3d": (3.2, None, None), "aagcn": (3.8, None, None),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_the_published_ones(name):
    parameters, *flops = PUBLISHED[name]
    for layout, expected in zip(("coco", "ntu"), flops, strict=True):
        graph = build_graph(layout)
        model = build_model(name, 60, 2, graph).to("meta").eval()
        if layout == "ntu":
            assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == parameters
        if expected:
            flops = count_flops(model, torch.zeros(1, 3, 100, graph.num_point, 2, device="meta"))
            assert flops / 2e9 == pytest.approx(expected, rel=0.05)
