import copy
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from graph import build_graph
from model import MODELS, build_model
from model.frhead import VERSIONS, FRHead, Level, Refinement, refine

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "frhead_loss.json").read_text())


def published_case():
    """A Refinement with the weights of the reference file, and what it takes: features, logits, labels one-hot."""
    net = Refinement(16, 5, hidden=12)
    for key, parameter in (("cl_fc.weight", net.project.weight), ("cl_fc.bias", net.project.bias)):
        r = np.random.RandomState(zlib.crc32(key.encode())).standard_normal(parameter.shape).astype(np.float32)
        value = r / np.sqrt(parameter.shape[1]) if parameter.dim() == 2 else 0.1 * r
        parameter.data = torch.from_numpy(np.asarray(value, dtype=np.float32))
    net.prototype.copy_(torch.from_numpy(np.random.RandomState(11).standard_normal((12, 5))))
    rs = np.random.RandomState(3)
    feature, logits = rs.standard_normal((9, 16)), 2 * rs.standard_normal((9, 5))
    label = torch.from_numpy(rs.randint(0, 5, 9))
    return net, torch.from_numpy(feature).float(), torch.from_numpy(logits).float(), torch.eye(5)[label]


@pytest.mark.parametrize("version", VERSIONS)
def test_loss_and_prototypes_are_the_release_s(version):
    net, feature, *arguments = published_case()
    (loss,) = refine([net], [feature], *arguments, version)
    assert loss.item() == pytest.approx(GOLDEN[f"{version}|loss"], rel=1e-5)
    expected = torch.tensor(GOLDEN[f"{version}|avg_f"])
    torch.testing.assert_close(net.prototype, expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", ["stgcn", "aagcn", "ctrgcn", "tcagcn"])
def test_levels_are_those_of_the_release(name):
    """Its networks keep what comes out of l1, l5, l8 and l10."""
    model, features = build_model(name, 4, 2, build_graph("ucla"), base_channels=8).eval(), {}
    for i, block in enumerate(model.blocks):
        block.register_forward_hook(lambda _module, _x, y, i=i: features.update({i: y.clone()}))
    levels = model.forward_levels(torch.randn(2, 3, 8, 20, 2))
    for i, level in zip((0, 4, 7, 9), levels, strict=True):
        assert torch.equal(level, features[i].view(level.shape))


@pytest.mark.parametrize("version", VERSIONS)
def test_gradients_are_those_of_the_loss(version):
    net, feature, logits, target = published_case()
    net, memory = net.double(), net.prototype.double().clone()
    x, weight = feature.double().requires_grad_(), net.project.weight

    def loss(x, _weight):
        net.prototype = memory.clone()
        return refine([net], [x], logits.double(), target.double(), version)

    assert torch.autograd.gradcheck(loss, (x, weight))


@pytest.mark.parametrize("version", VERSIONS)
def test_features_are_refined_each_by_itself(version):
    _, feature, *arguments = published_case()
    nets = [Refinement(width, 5, hidden=12).double() for width in (16, 9)]
    copies = copy.deepcopy(nets)
    features = [feature.double(), feature[:, :9].double().flip(0)]
    losses = refine(nets, features, *(x.double() for x in arguments), version)
    for i, net in enumerate(copies):
        alone = refine([net], features[i : i + 1], *(x.double() for x in arguments), version)
        torch.testing.assert_close(losses[i : i + 1], alone)
        torch.testing.assert_close(nets[i].prototype, net.prototype)
    assert losses[0] != losses[1]


def test_mixed_labels_lie_between_the_two():
    losses = []
    for share in (1.0, 0.5, 0.0):
        net, feature, logits, target = published_case()
        mixed = share * target + (1 - share) * target.roll(1, 0)
        losses.append(refine([net], [feature], logits, mixed, "NO FN & FP").item())
    assert min(losses[0], losses[2]) < losses[1] < max(losses[0], losses[2])


def with_head(name="ctrgcn", layout="ucla", persons=1, T=16, **model_args):
    graph = build_graph(layout)
    model = build_model(name, 4, persons, graph, **{"base_channels": 8, **model_args})
    return FRHead(model, num_frame=T), torch.randn(6, 3, T, graph.num_point, persons)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if hasattr(model, "levels")])
@pytest.mark.parametrize(("layout", "persons", "T"), [("ucla", 1, 16), ("coco", 2, 13)])
def test_every_graph_model_takes_it(name, layout, persons, T):
    model, x = with_head(name, layout, persons, T)
    output = model(x)
    target = torch.eye(4)[torch.arange(6) % 4]
    (output[0].square().mean() + model.loss(output, target)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    assert torch.equal(model.eval()(x), model.backbone.eval()(x))


def test_features_are_means_over_persons_and_over_frames_or_joints():
    level, x = Level(4, num_frame=6, num_point=5, num_class=3, hidden=30), torch.randn(2, 3, 4, 6, 5)
    spatial, temporal = level.squeezes
    features = level.squeeze(x)
    torch.testing.assert_close(features[0], spatial(x.mean(dim=(1, 3))[:, :, None]))
    torch.testing.assert_close(features[1], temporal(x.mean(dim=(1, 4))[..., None]))


def test_weights_are_of_the_levels_from_low_to_final():
    model, x = with_head()
    assert model.weights == (0.1, 0.2, 0.5, 1.0)  # the release's
    output, target = model(x), torch.eye(4)[torch.arange(6) % 4]
    state = copy.deepcopy(model.state_dict())
    for i, level in enumerate(("low", "mid", "high", "fin")):
        model.load_state_dict(state)
        model.weights = tuple(float(i == j) for j in range(4))
        loss = model.loss(output, target)
        model.load_state_dict(state)
        alone = refine(model.head[level].refinements, output[1][i], output[0].detach(), target)
        torch.testing.assert_close(loss, alone.sum())


def test_prototypes_are_saved_copied_and_only_moved_in_training(tmp_path):
    model, x = with_head()
    target = torch.eye(4)[torch.zeros(6, dtype=torch.int64)]
    logits, features = model(x)
    logits = torch.zeros_like(logits)
    logits[:, 0] = 5  # every clip of class 0 is right
    before = copy.deepcopy(model.state_dict())
    model.loss((logits, features), target)
    after = model.state_dict()
    moved = [key for key in after if not torch.equal(after[key], before[key]) and "num_batches" not in key]
    assert len(moved) == 8 and all(key.endswith("prototype") for key in moved)
    for key in moved:  # of class 0, no other
        assert torch.equal(after[key][:, 1:], before[key][:, 1:])
    torch.save(after, tmp_path / "w.pt")
    other, _ = with_head()
    other.load_state_dict(torch.load(tmp_path / "w.pt", weights_only=True))
    assert other.loss((logits, features), target).item() == model.loss((logits, features), target).item()
    model.eval()(x)
    assert torch.equal(model.state_dict()[moved[0]], other.state_dict()[moved[0]])


def test_what_it_cannot_take():
    with pytest.raises(ValueError, match="cl_version must be one of V0"):
        with_head_version("V9")
    with pytest.raises(ValueError, match="FR-Head takes 1 to 256 frames, not 300"):
        with_head(T=300)
    with pytest.raises(ValueError, match="which Linear has not"):
        FRHead(torch.nn.Linear(1, 1), 16)


def with_head_version(version):
    return FRHead(build_model("ctrgcn", 4, 1, build_graph("ucla"), base_channels=8), 16, version)
