"""Own forms of PyTorch's layers against PyTorch's."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from model.layers import BatchNorm2d, max_over_time


@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-11), (torch.float32, 2e-5)])
@pytest.mark.parametrize("offset", [0, 2, 30, 1000])  # means far from zero: the sum of squares would lose the variance
def test_batch_norm(dtype, tolerance, offset):
    torch.manual_seed(0)
    own, theirs = BatchNorm2d(6).to(dtype), nn.BatchNorm2d(6).to(dtype)
    nn.init.uniform_(own.weight)
    nn.init.normal_(own.bias)
    theirs.load_state_dict(own.state_dict())
    results = []
    for norm in (own, theirs):
        torch.manual_seed(1)
        x = (torch.randn(4, 6, 7, 5, dtype=dtype) + offset).requires_grad_()
        y = norm(x)
        (y * torch.randn_like(y)).sum().backward()
        scale = max(1, offset)  # of the sums in the gradient of the weights
        stats = (norm.running_mean / scale, norm.running_var, norm.num_batches_tracked.to(dtype))
        results.append([y, x.grad, norm.weight.grad / scale, norm.bias.grad, *stats, norm.eval()(x)])
    for a, b in zip(*results, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=tolerance), (a - b).abs().max()


def test_batch_norm_of_one_value_a_channel_is_refused():
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        BatchNorm2d(3)(torch.zeros(1, 3, 1, 1))


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("T", [1, 5, 6])
def test_max_pooling_and_its_gradient(stride, T):
    torch.manual_seed(0)
    x = torch.randn(2, 3, T, 4, dtype=torch.float64).round()  # rounded: many frames are equal
    own, theirs = x.clone().requires_grad_(), x.clone().requires_grad_()
    y, expected = max_over_time(own, stride), F.max_pool2d(theirs, (3, 1), (stride, 1), (1, 0))
    grad = torch.randn_like(y)
    y.backward(grad)
    expected.backward(grad)
    assert torch.equal(y, expected) and torch.allclose(own.grad, theirs.grad)
