import numpy as np
import pytest
import torch

from feeders.shapmix import ShapMix
from graph import build_graph

NTU = build_graph("ntu")
COUNT = [90, 9, 30]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


class Model(torch.nn.Module):
    """Logit c is the mean of the joints of part c: what is put there is all that matters."""

    def forward(self, x):
        return 20 * torch.stack([x[:, 0, :, part].mean(dim=(1, 2, 3)) for part in NTU.parts[:3]], dim=1)


def clips(N, T=64):
    """Clips whose coordinates are their place in the batch."""
    return torch.arange(1.0, N + 1).view(N, 1, 1, 1, 1).expand(N, 3, T, 25, 2).clone()


def build(count=COUNT, **arguments):
    mix = ShapMix(NTU, count, **arguments)
    mix.begin(Model(), lambda x: x, torch.zeros(3, 64, 25, 2))
    return mix


def test_sets_are_pairs_and_the_triples_that_complete_them():
    mix = ShapMix(NTU, COUNT)
    assert len(mix.sets) == 20 and {len(s) for s in mix.sets[:10]} == {2} and {len(s) for s in mix.sets[10:]} == {3}
    assert all(mix.sets[s] | mix.sets[s + 10] == set(range(5)) for s in range(10))
    assert (mix.joints[:10] ^ mix.joints[10:]).all()  # every joint in one of the two
    assert sorted(mix.parts.sum(dim=1).tolist()) == [4, 4, 5, 6, 6]


@pytest.mark.parametrize(("epoch", "T"), [(0, 64), (7, 64), (7, 52), (7, 30)])
def test_pasted_joints_and_frames_make_the_label(epoch, T):
    mix, N = build(plain=0.0), 8
    mix.mean = torch.zeros(3, T, 25, 2)
    label = torch.arange(N) % 3
    sizes = []
    for seed in range(40):
        x = clips(N, T)
        both, target = mix(x, label, rng(seed), epoch)
        assert torch.equal(both[:N], x) and torch.equal(x, clips(N, T))
        assert target.label.tolist() == label.tolist() * 2 and target.share[:N].eq(1).all()
        for i in range(N):
            pasted = both[N + i] != x[i]
            share = pasted.float().mean().item()
            assert target.share[N + i].item() == pytest.approx(1 - share)
            j = int(both[N + i][pasted].unique().item()) - 1  # one partner
            assert j != i and label[j] == target.other[N + i]
            frames, joints = pasted[0, :, :, 0].any(dim=1), pasted[0, :, :, 0].any(dim=0)
            assert torch.equal(pasted, (frames[:, None] & joints)[None, :, :, None].expand_as(pasted))
            where = frames.nonzero()[:, 0]
            assert len(where) == where[-1] - where[0] + 1  # one window
            assert sum(bool(joints[part].all()) for part in NTU.parts) in (2, 3)
            sizes.append(len(where))
    units = T // 4
    assert min(sizes) == 4 * round(units * 7 / 16) and max(sizes) == 4 * round(units * 11 / 16)


def test_frames_of_a_longer_window_are_resized():
    x = torch.arange(64.0).view(1, 1, 64, 1, 1).expand(2, 3, 64, 25, 2).clone()
    mix = ShapMix(NTU, COUNT)
    stretched = False
    for seed in range(30):
        mixed, share = mix._paste(torch.full_like(x, -1.0), x, torch.ones(2, 25, dtype=torch.bool), rng(seed))
        seen = mixed[0, 0, :, 0, 0]
        seen = seen[seen >= 0]
        steps = seen.diff()
        assert len(seen) in (28, 32, 36, 40, 44) and set(steps.tolist()) <= {1.0, 2.0, 3.0}
        assert share[0] == pytest.approx(len(seen) / 64)
        stretched |= bool((steps > 1).any())
    assert stretched


def test_whole_clips_are_mixed_one_time_in_four_by_any_share():
    mix, draws, taken = ShapMix(NTU, [9] * 4), rng(), []
    mix._observe = lambda *_: None  # no saliency, so no model
    x, label = clips(4, T=8), torch.arange(4)
    for _ in range(1000):
        both, target = mix(x, label, draws)
        mixed, u = both[4:], 1 - target.share[4:]
        if (mixed == mixed[:, :1, :1, :1, :1]).all():  # no part of them is pasted
            whole = u.view(4, 1, 1, 1, 1)
            torch.testing.assert_close(mixed, (1 - whole) * x + whole * x[target.other[4:]])
            taken += u[:1].tolist()
    assert len(taken) == pytest.approx(250, abs=40)
    np.testing.assert_allclose(np.quantile(taken, [0, 0.25, 0.5, 0.75, 1]), [0, 0.25, 0.5, 0.75, 1], atol=0.08)


def test_saliency_is_the_gain_of_a_set_of_parts():
    mix, x, mean = ShapMix(NTU, COUNT), clips(3), torch.zeros(3, 64, 25, 2)
    label, rest = torch.arange(3), torch.tensor([0.6, 0.0, 0.3])
    for part, logit in zip(NTU.parts, rest, strict=False):
        mean[:, :, part] = logit / 20  # what is not shown is the mean clip's
    mix.begin(Model(), lambda x: x, mean)
    for seed in range(300):
        mix._observe(x, label, rng(seed), epoch=0)
    for c in range(3):  # part c alone decides class c
        for s, parts in enumerate(mix.sets):
            alone = rest.clone()
            for part in parts:
                if part < 3:
                    alone[part] = 20.0 * (c + 1)
            p = (torch.softmax(alone, dim=0) - torch.softmax(rest, dim=0))[c]
            size = sum(len(NTU.parts[part]) for part in parts)
            assert mix.saliency[c, s].item() == pytest.approx(10 * max(p.item(), 0) / size, abs=1e-5)


def test_later_values_are_averaged_and_have_company():
    mix, x = build(), clips(1)
    mix.saliency[:] = 1.0
    seen = set()
    for seed in range(60):
        before = mix.saliency.clone()
        mix._observe(x, torch.tensor([0]), rng(seed), epoch=6)
        (s,) = (mix.saliency != before)[0].nonzero()[:, 0].tolist() or [None]
        if s is not None:
            seen.add(round((mix.saliency[0, s].item() - 0.9 * before[0, s].item()) * 10, 4))
    assert 0.0 in seen and len(seen) > 3  # nothing to gain beside the deciding part, more or less without it


def test_values_are_averaged_from_the_epoch_after_the_naive_ones():
    for epoch, kept in ((5, 0.0), (6, 0.9)):
        mix = build()
        mix.saliency[:] = 1000.0
        mix._observe(clips(1), torch.tensor([0]), rng(), epoch)
        assert mix.saliency[0].min() == pytest.approx(1000 * kept, abs=5)


def test_company_is_of_any_size():
    mix, shown = build(), []
    mix.render = lambda x: shown.append((x[:, 0, 0, :, 0] != 0).sum(dim=1).tolist()) or x
    for seed in range(200):
        mix._observe(clips(1), torch.tensor([0]), rng(seed), epoch=6)
    whole, company = (set(sizes) for sizes in zip(*shown, strict=True))
    assert max(whole) == 25 and min(company) == 0 and max(company) >= 14 and min(whole) <= 9


def test_the_partner_is_one_to_two_less_than_the_batch_away():
    found = set()
    for seed in range(60):
        both, _ = build(plain=0.0)(clips(5), torch.arange(5) % 3, rng(seed), 0)
        found.add((int(both[5].max()) - 1) % 5)
    assert found == {1, 2, 3}  # as in the release


def test_the_model_is_looked_at_in_test_mode_and_with_the_scale_of_its_loss():
    mix, model = ShapMix(NTU, COUNT), torch.nn.Sequential(Model(), torch.nn.BatchNorm1d(3))
    x, label = torch.zeros(6, 3, 64, 25, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    for clip, c in zip(x, label, strict=True):
        clip[:, :, NTU.parts[c]] = 0.01  # its class's part shows
    found = []
    for scale in (0.0, 1.0, 30.0):
        mix.begin(model, lambda x: x, torch.zeros(3, 64, 25, 2), scale)
        for seed in range(10):
            mix(x, label, rng(seed), 0)
        found.append(mix.saliency.max().item())
    assert model.training and model[1].num_batches_tracked == 0 and (model[1].running_mean == 0).all()
    assert found[0] < 1e-5 < 10 * found[1] < found[2]
    model[0].eval()  # as a frozen backbone, whose classifier is in training
    mix(x, label, rng(), 0)
    assert not model[0].training and model[1].training


def test_the_salient_parts_of_the_rarer_class_win():
    mix = build(temperature=0.01)
    mix.saliency[1, 3], mix.saliency[2, 14] = 1.0, 1.0
    label, other = torch.tensor([0, 1, 0, 2, 1, 1]), torch.tensor([1, 0, 2, 0, 1, 2])
    joints = mix._chosen(label, other, rng(), epoch=9)
    expected = [3, 13, 14, 4, 13, 13]  # paste the rarer clip's; keep one's own: paste what completes them
    assert [mix.joints.eq(row).all(dim=1).nonzero().item() for row in joints] == expected


def test_salience_decides_how_often():
    mix = build()
    mix.saliency[:] = torch.linspace(0, 0.5, 20)
    label = torch.full((4000,), 1)
    joints = mix._chosen(label, label, rng(), epoch=9)
    found = (joints.unsqueeze(1) == mix.joints).all(dim=2).float().mean(dim=0).roll(10)
    weight = torch.softmax(torch.linspace(0, 0.5, 20) / 0.2, dim=0)
    np.testing.assert_allclose(found, weight, atol=0.02)


def test_the_same_draws_the_same_batch_and_the_model_stays_in_training():
    one, two = build(), build()
    x, label = torch.randn(6, 3, 64, 25, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    one.model.train()
    for epoch in (0, 6, 7):
        a, b = one(x, label, rng(epoch), epoch), two(x, label, rng(epoch), epoch)
        assert torch.equal(a[0], b[0]) and torch.equal(a[1].share, b[1].share)
    assert one.model.training
    three = build()
    three.load_state_dict(one.state_dict())
    assert torch.equal(three.saliency, two.saliency)


def test_what_it_cannot_do():
    wrong = {"plain": 2.0, "naive_epoch": -1, "momentum": 1.0, "temperature": 0.0}
    for name, value in wrong.items():
        with pytest.raises(ValueError, match=f"^{name} must be .*, not {value}"):
            ShapMix(NTU, COUNT, **{name: value})
    x, target = build()(clips(1), torch.tensor([0]), rng())
    assert torch.equal(x, clips(1)) and target.share.tolist() == [1]
    assert ShapMix(build_graph("coco"), COUNT).joints.shape == (20, 17)
