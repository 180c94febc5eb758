import math

import pytest
import torch

from graph import build_graph
from model import build_model
from model.pretrained import from_published
from model.tcagcn import AttentionalFusion, TemporalAggregation


def normal(module):
    for parameter in module.parameters():
        parameter.data.normal_()
    return module.double().eval()


def test_each_frame_weighs_the_channels_of_each_subset():
    """One clip, subset and frame at a time, with the release's three convolutions over time."""
    torch.manual_seed(0)
    S, C, K, T = 3, 4, 6, 5
    layer = normal(TemporalAggregation(C, K, S))
    layer.bn.running_mean.normal_()
    x = torch.randn(2, C, T, 7, dtype=torch.float64)
    expected = torch.zeros(2, S * K, T, 7, dtype=torch.float64)

    def of(conv, s):
        n = len(conv.weight) // S
        return conv.weight[s * n : s * n + n], None if conv.bias is None else conv.bias[s * n : s * n + n, None]

    for n in range(2):
        for s in range(S):
            (Wg, bg), (Wa, ba), (Wb, _), (Wv, _) = (
                of(c, s) for c in (layer.context, layer.reduce, layer.expand, layer.conv)
            )
            frames = x[n].mean(dim=2)  # C, T
            frames = frames + Wg[:, :, 0, 0] @ frames.mean(dim=1, keepdim=True) + bg
            hidden = over_time(Wa, frames) + ba
            part = slice(s * C // 2, (s + 1) * C // 2)
            scale = (layer.bn.weight / (layer.bn.running_var + 1e-5).sqrt())[part, None]
            hidden = (hidden - layer.bn.running_mean[part, None]) * scale + layer.bn.bias[part, None]
            weight = 1 + over_time(Wb, hidden.clamp(min=0))  # C', T
            for t in range(T):
                expected[n, s * K : s * K + K, t] = (weight[:, t, None] * Wv[:, :, 0, 0]) @ x[n, :, t]
    torch.testing.assert_close(layer(x), expected)


def over_time(W, x):
    """Convolution of x (C, T) with W (C', C, 3, 1), zeros before and after."""
    T = x.shape[1]
    x = torch.nn.functional.pad(x, (1, 1))
    return sum(W[:, :, i, 0] @ x[:, i : i + T] for i in range(3))


def test_fusion_weighs_by_place_and_clip():
    torch.manual_seed(0)
    layer = normal(AttentionalFusion(4))
    x = torch.randn(2, 4, 5, 3, dtype=torch.float64)
    clip = x.mean(dim=(2, 3), keepdim=True).expand_as(x)
    torch.testing.assert_close(layer(x), 2 * x / (1 + torch.exp(-layer.local(x) - layer.clip(clip))))


def test_tcagcn_starts_as_published():
    torch.manual_seed(0)
    block = build_model("tcagcn", 10, 1, build_graph("ucla")).blocks[5]  # 128 -> 128 channels
    value, (tcn, fusion) = block.gcn.value, block.tcn

    def spread(conv):
        return conv.weight.std().item()

    for conv, fan_out in ((value.context, 128), (value.reduce, 64 * 3), (value.expand, 128 * 3), (block.gcn.query, 16)):
        assert spread(conv) == pytest.approx(math.sqrt(2 / fan_out), rel=0.05)
    assert (value.context.bias == 0).all() and (value.bn.weight == 1).all()
    for conv in (value.conv, fusion.local[0], fusion.clip[3]):  # PyTorch's own: uniform within 1 / sqrt(fan in)
        assert spread(conv) == pytest.approx(1 / math.sqrt(3 * 128), rel=0.05)
        assert conv.weight.abs().max() <= 1 / math.sqrt(128)
    assert spread(tcn.bn) == pytest.approx(0.02, rel=0.2) and (fusion.local[1].weight == 1).all()
    assert (block.gcn.bn.weight == 1e-6).all()


def test_tca_gcn_s_own_release_is_fr_heads_without_heads(golden):
    state, x, expected, _ = golden("frhead_tcagcn_ucla")
    state = {key: value for key, value in state.items() if not key.startswith("ren_")}
    with torch.no_grad():
        logits = from_published(state, build_graph("ucla"), 1).eval()(x)
    assert (logits - expected).abs().max() <= 1e-4 * expected.abs().max()
