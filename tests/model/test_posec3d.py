import copy
import math
import pickle

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from graph import LAYOUTS, build_graph
from model import build_model
from model.pretrained import from_published, load_published, recognise

COCO = build_graph("coco")


def maps(N=2, V=17, T=5, size=20, seed=0):
    return torch.rand(N, V, T, size, size, generator=torch.Generator().manual_seed(seed))


def small(num_class=4, num_person=1, graph=COCO, **arguments):
    return build_model("posec3d", num_class, num_person, graph, base_channels=4, **arguments)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_forward_and_backward(layout):
    graph = build_graph(layout)
    for persons, size, T in ((1, 20, 5), (2, 17, 8), (1, 9, 1)):
        model = small(7, persons, graph)
        logits = model(maps(3, graph.num_point, T, size))
        assert logits.shape == (3, 7)
        torch.nn.functional.cross_entropy(logits, torch.tensor([0, 3, 6])).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("blocks", "K", "millions"), [((4, 6, 3), 60, 2.0), ((3, 4, 6), 101, 3.1), ((3, 4, 6), 51, 3.0)]
)
def test_parameters_are_those_of_the_published_table(blocks, K, millions):
    with torch.device("meta"):
        model = build_model("posec3d", K, 2, COCO, stage_blocks=blocks)
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize(
    ("blocks", "size", "giga"), [((4, 6, 3), 64, 20.6), ((3, 4, 6), 64, 19.1), ((3, 4, 6), 56, 14.6)]
)
def test_flops_are_those_of_the_published_table(blocks, size, giga):
    """Of a test clip: 64 x 64 pixels, 56 x 56 of UCF101 and HMDB51. MMAction2 counts a multiplication and an addition
    as one, and batch norm and the like besides, which is 1 %.
    """
    with torch.device("meta"):
        model, x = build_model("posec3d", 60, 2, COCO, stage_blocks=blocks), torch.empty(1, 17, 48, size, size)
    with FlopCounterMode(display=False) as counter:
        model(x)
    assert 0.985 * giga < counter.get_total_flops() / 2e9 < giga


def test_starts_as_published():
    torch.manual_seed(0)
    model = build_model("posec3d", 60, 2, COCO)
    block = model.stages[1][0]
    for conv, fan_out in ((model.stem, 32 * 49), (block.conv1, 64 * 3), (block.conv2, 64 * 9), (block.conv3, 256)):
        assert conv[0].weight.std().item() == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
        assert conv[0].bias is None
    assert (
        (block.conv3[1].weight == 0).all() and (block.conv2[1].weight == 1).all() and (block.down[1].weight == 1).all()
    )
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.05) and (model.fc.bias == 0).all()


def test_copies_and_pickles_compute_the_same():
    model, x = small().eval(), maps()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x), model(x))


def test_a_few_clips_are_learned_by_heart():
    torch.manual_seed(0)
    model, x, y = small(3), maps(6, T=4, size=12), torch.arange(6) % 3
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (model(x).argmax(dim=1) == y).all()


def test_input_of_another_kind_is_refused():
    model = small()
    for wrong in (maps(V=16), torch.zeros(2, 3, 8, 17, 2), torch.zeros(2, 17, 8, 9)):
        with pytest.raises(ValueError, match=r"the model takes heat maps \(N, V, T, H, W\) of V=17 joints or limbs"):
            model(wrong)


@pytest.mark.parametrize(
    "arguments", [{"stage_blocks": [3, 4]}, {"stage_blocks": [0, 1, 1]}, {"stage_blocks": [1, 1, "x"]}]
)
def test_wrong_arguments(arguments):
    with pytest.raises(ValueError, match="stage_blocks takes the numbers of blocks of three stages"):
        small(**arguments)
    with pytest.raises(ValueError, match="base_channels must be at least 1"):
        build_model("posec3d", 4, 1, COCO, base_channels=0)


def published(model):
    """The state dict of a model of ours as PYSKL and MMAction2 name it."""
    state = {}
    for key, value in model.state_dict().items():
        key = key.replace("stem.0", "backbone.conv1.conv").replace("stem.1", "backbone.conv1.bn")
        for i in range(3):
            key = key.replace(f"stages.{i}.", f"backbone.layer{i + 1}.")
        key = key.replace(".down.0", ".downsample.conv").replace(".down.1", ".downsample.bn")
        for conv in ("conv1", "conv2", "conv3"):
            key = key.replace(f".{conv}.0.", f".{conv}.conv.").replace(f".{conv}.1.", f".{conv}.bn.")
        state["cls_head.fc_cls" + key.removeprefix("fc") if key.startswith("fc.") else key] = value
    return state


@pytest.mark.parametrize("layout", LAYOUTS)
def test_published_variants(golden, layout):
    """Numbers of blocks, width and channels are read off the shapes; limbs are channels like joints."""
    state, x, expected, _ = golden("posec3d_slowonly_keypoint")
    assert recognise(state)[0] == "PoseC3D (PYSKL, MMAction2)"
    assert sorted(published(from_published(state, COCO, 2))) == sorted(state)
    graph = build_graph(layout)
    for arguments in ({"stage_blocks": (3, 4, 6)}, {"in_channels": 16}, {"stage_blocks": (1, 2, 1)}):
        ours = build_model("posec3d", 5, 2, graph, base_channels=6, **arguments).eval()
        torch.nn.init.normal_(ours.stages[2][0].conv3[1].weight)
        again = from_published(published(ours), graph, 1).eval()
        x = maps(1, ours.in_channels)
        assert torch.equal(again(x), ours(x))


def test_other_networks_of_the_same_code_are_not_taken_for_it(golden):
    state, _, _, _ = golden("posec3d_slowonly_keypoint")
    for key, shape in (
        ("layer4.0.conv1", (8, 8, 3, 1, 1)),
        ("conv1", (32, 17, 3, 7, 7)),
        ("layer1.0.conv1", (32, 32, 3, 1, 1)),
    ):
        with pytest.raises(ValueError, match="unknown architecture"):
            recognise({**state, f"backbone.{key}.conv.weight": torch.zeros(shape)})
    with pytest.raises(ValueError, match=r"of another shape: stem.0.weight \(32, 17, 1, 7, 7\) instead of \(4, 16, 1"):
        load_published(small(60, in_channels=16), state)
