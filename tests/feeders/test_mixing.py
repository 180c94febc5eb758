from itertools import permutations

import pytest
import torch

from feeders.mixing import Mixup, RebalancedPartial, Remix
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


@pytest.mark.parametrize("alpha", [1.0, 0.2, 4.0])
def test_mixup_of_whole_clips(alpha):
    N = 400
    x, label = batch(N), torch.arange(N)
    mixed, target = Mixup(NTU, [1] * N, alpha)(x, label, rng())
    share = target.share.view(N, 1, 1, 1, 1)
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[target.other])
    assert (target.other != label).all() and sorted(target.other.tolist()) == label.tolist()
    assert target.share.mean() == pytest.approx(0.5, abs=0.06)
    assert target.share.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.2)  # of Beta(alpha, alpha)


def test_mixup_beside_the_batch():
    x, label = batch(6), torch.arange(6)
    both, target = Mixup(NTU, [1] * 6, double=True)(x, label, rng())
    mixed, alone = Mixup(NTU, [1] * 6)(x, label, rng())
    assert torch.equal(both, torch.cat([x, mixed])) and target.label.tolist() == [*range(6)] * 2
    assert target.share[:6].eq(1).all() and torch.equal(target.share[6:], alone.share)
    assert torch.equal(target.shares(6)[6:], alone.shares(6)) and torch.equal(target.shares(6)[:6], torch.eye(6))


@pytest.mark.parametrize("kind", [RebalancedPartial, Mixup, Remix])
def test_the_partner_is_any_other_clip(kind):
    mix, draws, pairs = kind(NTU, [5] * 5), rng(), set()
    for _ in range(200):
        _, target = mix(batch(5), torch.arange(5), draws)
        pairs |= set(enumerate(target.other.tolist()))
    assert pairs >= set(permutations(range(5), 2))


@pytest.mark.parametrize("arguments", [{}, {"kappa": 2, "tau": 0.6}])
def test_remix_gives_the_label_to_the_rarer_class(arguments):
    kappa, tau = arguments.get("kappa", 3), arguments.get("tau", 0.5)  # the paper's
    counts, label = [90, 30, 31], torch.randint(3, (180,), generator=rng(1))
    x = batch(180)
    mixed, target = Remix(NTU, counts, **arguments)(x, label, rng())
    same, plain = Mixup(NTU, counts)(x, label, rng())
    assert torch.equal(mixed, same) and torch.equal(target.other, plain.other)  # the clips are mixed as ever
    for i, share, was in zip(range(180), target.share.tolist(), plain.share.tolist(), strict=True):
        n_i, n_j = counts[label[i]], counts[target.other[i]]
        expected = 0.0 if n_i >= kappa * n_j and was < tau else 1.0 if n_j >= kappa * n_i and 1 - was < tau else was
        assert share == pytest.approx(expected)
    assert {0.0, 1.0} < set(target.share.tolist())


@pytest.mark.parametrize("kind", [Mixup, Remix])
def test_a_batch_of_one_is_not_mixed(kind):
    x, target = kind(NTU, [1])(batch(1), torch.tensor([0]), rng())
    assert torch.equal(x, batch(1)) and target.share.tolist() == [1]


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 2.0])
def test_shares_are_drawn_from_beta(alpha):
    share = Mixup(NTU, [1], alpha=alpha).draw_shares(100_000, rng(), "cpu")
    assert share.mean().item() == pytest.approx(0.5, abs=0.01) and share.dtype == torch.float32
    assert share.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.02)  # of Beta(alpha, alpha)


def test_bad_arguments_of_mixup():
    with pytest.raises(ValueError, match="alpha must be at least 0.01"):
        Mixup(NTU, [1], alpha=0.0)
    with pytest.raises(ValueError, match="kappa must be at least 1"):
        Remix(NTU, [1], kappa=0.5)
