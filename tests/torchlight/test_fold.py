import copy

import pytest
import torch
from torch import nn

from graph import build_graph
from model import MODELS, build_model
from model.frhead import FRHead
from torchlight.fold import fold

LEFT = {  # batch norms that come after no convolution
    "stgcn": 1, "agcn": 1, "aagcn": 1, "msg3d": 1, "ctrgcn": 1, "ctrgcn-baseline": 1, "stgcn++": 1, "tcagcn": 1,
    "dgstgcn": 1 + 10,  # after the sum of joint and skeleton
    "shiftgcn": 1 + 3 * 10,  # after shifts
    "posec3d": 0,
}  # fmt: skip


def trained(model, *inputs):
    """The model, its batch norms and gates drawn, and with the running statistics of the inputs."""
    for name, parameter in model.named_parameters():
        if name.endswith(("bn.weight", "1.weight", "alpha")):
            parameter.data.uniform_(-0.8, 0.8)
        elif name.endswith("bias"):
            parameter.data.normal_()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.5
    model.train()
    for x in inputs:
        model(x)
    return model


def norms(model):
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules())


@pytest.mark.parametrize("layout", ["ucla", "coco"])
@pytest.mark.parametrize("name", MODELS)
def test_folded_models_compute_the_same(name, layout):
    torch.manual_seed(1)
    graph = build_graph(layout)
    model = build_model(name, 5, 2, graph, base_channels=16).double()
    V = graph.num_point
    shape = (4, V, 4, 16, 16) if hasattr(model, "heat_maps") else (4, 3, 12, V, 2)
    x, *inputs = torch.randn(6, *shape, dtype=torch.float64)
    trained(model, *inputs)
    before = copy.deepcopy(model.state_dict())
    folded = fold(model)
    assert norms(folded) == LEFT[name] and model.state_dict().keys() == before.keys()
    with torch.inference_mode():
        expected, logits = model(x), folded(x)
    torch.testing.assert_close(logits, expected, rtol=1e-9, atol=1e-9)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    with torch.inference_mode():  # in single precision it differs by rounding
        single = fold(model.float())(x.float()).double()
    assert (single - expected).norm() < 1e-5 * expected.norm()


def test_a_model_with_heads_and_one_in_a_wrapper():
    x = torch.randn(2, 3, 16, 20, 1)
    model = FRHead(trained(build_model("ctrgcn", 5, 1, build_graph("ucla"), base_channels=8), x), num_frame=16)
    logits, _ = model(x)  # what a training leaves behind does not hinder
    logits.sum().backward()
    for whole in (model, nn.DataParallel(model)):
        with torch.inference_mode():
            torch.testing.assert_close(fold(whole)(x), model.eval()(x), rtol=1e-4, atol=1e-5)


def test_a_compiled_model_stays_as_it_is():
    model = build_model("stgcn", 5, 1, build_graph("ucla"), base_channels=8)
    model.compile(backend="eager")
    assert fold(model) is model and not model.training


def test_only_norms_right_after_convolutions():
    between = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1, bias=False))
    model = nn.Sequential(between, nn.BatchNorm2d(4), nn.Conv1d(1, 1, 1))
    assert norms(fold(model)) == 2  # nn.Sequentials in one another are not looked through
    assert norms(fold(nn.Sequential(nn.Conv3d(3, 4, 1, bias=False), nn.BatchNorm3d(4)))) == 0
