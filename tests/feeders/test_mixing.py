import pytest
import torch

from feeders.mixing import RebalancedPartial
from graph import build_graph

NTU = build_graph("ntu")


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(N, graph=NTU):
    """Clips whose coordinates are their place in the batch, with a tenth of the joint's number."""
    x = torch.arange(N, dtype=torch.float32)[:, None, None, None, None] + torch.arange(graph.num_point)[:, None] / 100
    return x.expand(N, 3, 4, graph.num_point, 2).clone()


@pytest.mark.parametrize(
    ("counts", "share"),
    [
        ([90, 29], [0.0, 1.0]),  # n_0 > 3 n_1: the mixed clip of class 0 counts for class 1, and the other way round
        ([90, 30], [0.64, 0.64]),  # not more than kappa: the share of the upper joints
        ([30, 90], [0.64, 0.64]),
        ([29, 90], [1.0, 0.0]),
    ],
)
def test_label_weights_of_the_three_cases(counts, share):
    label = torch.tensor([0, 1])
    for seed in range(6):
        _, target = RebalancedPartial(NTU, counts)(batch(2), label, rng(seed))
        chosen = (target.other != target.label).nonzero()[:, 0]
        assert len(chosen) == 1
        i = chosen.item()
        assert target.other[i] == label[1 - i] and target.share[i] == pytest.approx(share[i])
        assert target.share[1 - i] == 1


def test_joints_keep_their_order_and_others_lend_unmixed_joints():
    N = 64
    x = batch(N)
    mixed, target = RebalancedPartial(NTU, [5] * N, ratio=0.5)(x, torch.arange(N), rng())
    chosen = target.share < 1
    assert chosen.sum() == 32 and torch.equal(mixed[~chosen], x[~chosen])
    for i in chosen.nonzero()[:, 0].tolist():
        j = target.other[i].item()
        assert i != j
        assert torch.equal(mixed[i][:, :, NTU.upper], x[i][:, :, NTU.upper])
        assert torch.equal(mixed[i][:, :, NTU.lower], x[j][:, :, NTU.lower])
    assert torch.equal(x, batch(N))  # the batch that came in is untouched


def test_one_clip_in_sixteen():
    for N, expected in ((16, 1), (64, 4), (8, 1), (2, 1), (1, 0)):
        label = torch.arange(N)
        _, target = RebalancedPartial(NTU, [5] * max(N, 2))(batch(N), label, rng())
        assert (target.other != label).sum() == expected


def test_alpha_is_the_share_of_upper_joints():
    assert RebalancedPartial(NTU, [1]).alpha == pytest.approx(16 / 25)
    assert RebalancedPartial(build_graph("ucla"), [1]).alpha == pytest.approx(0.55)
    assert RebalancedPartial(NTU, [1], alpha=0.3).alpha == 0.3


@pytest.mark.parametrize("wrong", [{"ratio": 0}, {"ratio": 2}, {"kappa": 0.5}, {"alpha": 5.0}, {"alpha": -0.1}])
def test_arguments_out_of_range(wrong):
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be"):
        RebalancedPartial(NTU, [1], **wrong)
