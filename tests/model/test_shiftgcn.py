import math

import numpy as np
import pytest
import torch

from graph import build_graph
from model import build_model
from model.pretrained import from_published, load_published
from model.shiftgcn import ShiftGraphConv, TemporalShift, shift


def kernel(x, xpos, ypos, stride):
    """The release's CUDA kernel, thread by thread: x (N, C, T, V) float32, positions (C,) over joints and frames."""
    N, C, T, V = x.shape
    y = np.zeros((N, C, T // stride, V), np.float32)
    for n, c, t, v in np.ndindex(*y.shape):
        v1, t1 = math.floor(xpos[c]), math.floor(ypos[c])
        dv, dt = xpos[c] - np.float32(v1), ypos[c] - np.float32(t1)

        def at(frame, joint, clip=x[n, c]):
            return clip[frame, joint] if 0 <= frame < T and 0 <= joint < V else np.float32(0)

        frame, joint = t * stride + t1, v + v1
        y[n, c, t, v] = (
            at(frame, joint) * (1 - dv) * (1 - dt)
            + at(frame, joint + 1) * dv * (1 - dt)
            + at(frame + 1, joint) * (1 - dv) * dt
            + at(frame + 1, joint + 1) * dv * dt
        )
    return y


POSITIONS = np.array([0, 0.3, -0.3, 1, -2, 2.75, -5.5, 7, 8.5, -9, 40, -40], np.float32)  # of clips of 8 frames


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("joints", [False, True])
def test_temporal_shift_is_the_kernel_s(stride, joints):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, len(POSITIONS), 8, 5)).astype(np.float32)
    xpos = rng.uniform(-3, 3, len(POSITIONS)) if joints else rng.uniform(-1e-8, 1e-8, len(POSITIONS))
    xpos = xpos.astype(np.float32)
    layer = TemporalShift(len(POSITIONS), stride, joint_shift=joints)
    layer.position.data = torch.from_numpy(POSITIONS)
    if joints:
        layer.joint_position = torch.from_numpy(xpos)
    half = np.float32(0.5 if stride == 2 else 0)
    expected = kernel(x, xpos, POSITIONS + half, stride)
    np.testing.assert_allclose(layer(torch.from_numpy(x)).detach(), expected, atol=1e-6)


@pytest.mark.parametrize(("T", "stride", "length"), [(1, 1, 1), (1, 2, 1), (7, 2, 4), (8, 2, 4)])
def test_odd_and_short_clips_end_with_a_frame_more(T, stride, length):
    x = torch.arange(1.0, T + 1).view(1, 1, T, 1)
    y = shift(x, torch.tensor([0.25]), stride).flatten()
    after = torch.cat([x.flatten(), torch.zeros(1)])
    expected = [0.75 * after[t] + 0.25 * after[t + 1] for t in range(0, T, stride)]
    assert len(y) == length
    torch.testing.assert_close(y, torch.stack(expected))


def test_gradients_are_those_of_the_shift():
    torch.manual_seed(0)
    x = torch.randn(2, 4, 6, 3, dtype=torch.float64, requires_grad=True)
    position = torch.tensor([0.4, -1.7, 2.2, -8.5], dtype=torch.float64, requires_grad=True)
    for stride in (1, 2):
        assert torch.autograd.gradcheck(lambda x, p, s=stride: shift(x, p, s), (x, position))


def test_each_channel_moves_by_its_number_and_back():
    """Channel c of joint v from joint v + c, weighed, mixed; then channel c of joint v from joint v - c."""
    torch.manual_seed(0)
    V, C, K = 5, 7, 8
    layer = ShiftGraphConv(C, K, V).double().eval()
    layer.mask.data.normal_()
    layer.conv.bias.data.normal_()
    layer.bn, layer.down = torch.nn.Identity(), torch.nn.Conv2d(C, K, 1).double()
    x = torch.randn(2, C, 4, V, dtype=torch.float64)
    moved = torch.stack([
        torch.stack([x[:, c, :, (v + c) % V] * (1 + torch.tanh(layer.mask[c, v])) for v in range(V)], dim=-1)
        for c in range(C)
    ], dim=1)  # fmt: skip
    mixed = torch.einsum("oc,nctv->notv", layer.conv.weight[..., 0, 0], moved) + layer.conv.bias[:, None, None]
    back = torch.stack([mixed[:, c].roll(c, dims=-1) for c in range(K)], dim=1)
    torch.testing.assert_close(layer(x), torch.relu(back + layer.down(x)))


def test_shiftgcn_starts_as_published():
    torch.manual_seed(0)
    model = build_model("shiftgcn", 60, 2, build_graph("ntu"))
    block = model.blocks[7]  # 128 -> 256 channels

    def spread(module):
        return module.weight.std().item()

    assert spread(block.gcn.conv) == pytest.approx(math.sqrt(1 / 256), rel=0.05) and (block.gcn.conv.bias == 0).all()
    assert spread(block.tcn.conv) == pytest.approx(math.sqrt(2 / 256), rel=0.05)
    assert block.tcn.conv.bias.abs().max().item() == pytest.approx(1 / 16, rel=0.05)
    for conv in (block.gcn.down[0], block.residual[0]):
        assert spread(conv) == pytest.approx(math.sqrt(2 / 256), rel=0.05) and (conv.bias == 0).all()
    for layer in (block.tcn.shift_in, block.tcn.shift_out):
        assert layer.position.std().item() == pytest.approx(1 / math.sqrt(3), rel=0.1)
        assert layer.position.abs().max() <= 1
    assert (block.gcn.mask == 0).all() and (block.gcn.bn.weight == 1).all()
    assert spread(model.fc) == pytest.approx(math.sqrt(2 / 60), rel=0.05)


def lists(V, channels, sign):
    """The release's shift_in (sign 1) and shift_out (-1)."""
    return torch.tensor(
        [(v * channels + c + sign * c * channels) % (channels * V) for v in range(V) for c in range(channels)]
    )


def test_constants_of_the_file_are_checked_and_left_out(golden):
    state, x, expected, _ = golden("shiftgcn_ntu")
    graph = build_graph("ntu")
    whole = {**state, "l1.gcn1.shift_in": lists(25, 3, 1), "l1.gcn1.shift_out": lists(25, 64, -1)}
    for side in ("in", "out"):
        whole[f"l5.tcn1.shift_{side}.xpos"] = torch.full((128,), -1e-9)
    model = from_published(whole, graph, 2)
    with torch.no_grad():
        logits = model.eval()(x)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
    with pytest.raises(ValueError, match="l1.gcn1.shift_out is another shift over joints than the non-local one"):
        from_published({**whole, "l1.gcn1.shift_out": lists(25, 64, 1)}, graph, 2)
    kept = load_published(build_model("shiftgcn", 60, 2, graph), whole, ignore=["Feature_Mask"])
    assert kept == [f"blocks.{i}.gcn.mask" for i in range(10)]
    kept = load_published(build_model("shiftgcn", 7, 2, graph), whole, ignore=["fc.", "l1.", "blocks.0."])
    assert "fc.weight" in kept and "blocks.0.gcn.mask" in kept and "blocks.1.gcn.mask" not in kept


def test_positions_over_joints_count_where_they_are_not_0(golden):
    state, x, expected, _ = golden("shiftgcn_ntu")
    state = {**state, **{key.replace("ypos", "xpos"): 0 * state[key] for key in state if key.endswith("ypos")}}
    state["l7.tcn1.shift_in.xpos"] += 0.25
    model = from_published(state, build_graph("ntu"), 2).eval()
    assert model.joint_shift and (model.blocks[6].tcn.shift_in.joint_position == 0.25).all()
    with torch.no_grad():
        assert (model(x) - expected).abs().max() > 1e-3 * expected.abs().max()
    with pytest.raises(ValueError, match="they need model_args joint_shift: true"):
        load_published(build_model("shiftgcn", 60, 2, build_graph("ntu")), state)
