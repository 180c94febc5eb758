import numpy as np
import pytest
import torch
from torch.nn import functional as F

from feeders import Target
from model.loss import LOSSES, build_loss, makes_up
from model.loss.weights import action_aware

UCLA_LT = [100, 77, 59, 46, 35, 27, 21, 16, 12, 10]
WEIGHTS = [0.222, 0.316, 0.426, 0.548, 0.711, 0.907, 1.146, 1.478, 1.939, 2.307]  # BRL on NW-UCLA-LT


def batch(N=16, K=10):
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(N, K, generator=generator),
        torch.randint(K, (2, N), generator=generator),
        torch.rand(N, generator=generator),
    )


def test_action_aware_weights_of_nw_ucla_lt():
    np.testing.assert_allclose(action_aware(UCLA_LT), WEIGHTS, atol=5e-4)
    np.testing.assert_allclose(action_aware(UCLA_LT[::-1]), WEIGHTS[::-1], atol=5e-4)


def test_action_aware_weights_of_equal_counts_are_one():
    assert action_aware([7, 7, 7]).tolist() == [1, 1, 1]


def test_a_class_without_clips_is_named():
    with pytest.raises(ValueError, match="class 1 has no training clips"):
        action_aware([3, 0, 5])


@pytest.mark.parametrize("name", ["cross-entropy", "action-aware"])
def test_plain_labels_as_torch_does(name):
    logits, (y, _), _ = batch()
    weight = None if name == "cross-entropy" else torch.tensor(action_aware(UCLA_LT), dtype=torch.float32)
    loss = build_loss(name, UCLA_LT)(logits, Target(y))
    torch.testing.assert_close(loss, F.cross_entropy(logits, y, weight))


def test_weights_do_not_change_from_call_to_call():
    """The released loss alternates between its weights and uniform ones."""
    logits, (y, _), _ = batch()
    loss = build_loss("action-aware", UCLA_LT)
    first = loss(logits, Target(y))
    assert all(torch.equal(loss(logits, Target(y)), first) for _ in range(3))


def test_mixed_labels_clip_by_clip():
    logits, (y, other), share = batch()
    w = torch.tensor(action_aware(UCLA_LT), dtype=torch.float32)
    total = norm = 0
    for n in range(16):
        for label, part in ((y[n], share[n]), (other[n], 1 - share[n])):
            total += part * w[label] * F.cross_entropy(logits[n : n + 1], label[None])
            norm += part * w[label]
    torch.testing.assert_close(build_loss("action-aware", UCLA_LT)(logits, Target(y, other, share)), total / norm)


def test_a_share_of_one_is_the_plain_label():
    logits, (y, other), share = batch()
    loss = build_loss("action-aware", UCLA_LT)
    torch.testing.assert_close(loss(logits, Target(y, other, torch.ones_like(share))), loss(logits, Target(y)))
    torch.testing.assert_close(loss(logits, Target(y, other, torch.zeros_like(share))), loss(logits, Target(other)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_of_low_precision_logits_are_float32(dtype):
    logits, (y, other), share = batch()
    logits, loss = logits.to(dtype), build_loss("cross-entropy", UCLA_LT)
    plain = F.cross_entropy(logits.double(), y, reduction="none")
    mixed = share * plain + (1 - share) * F.cross_entropy(logits.double(), other, reduction="none")
    torch.testing.assert_close(loss(logits, Target(y)), plain.mean().float())
    torch.testing.assert_close(loss(logits, Target(y, other, share)), mixed.mean().float())


def test_unknown_loss():
    with pytest.raises(ValueError, match=r"unknown loss 'focul' \(nearest: focal\); there are cross-entropy, inverse"):
        build_loss("focul", UCLA_LT)
    with pytest.raises(ValueError, match=r"focal: unknown key gama \(nearest: gamma\)"):
        build_loss("focal", UCLA_LT, gama=1.0)
    with pytest.raises(ValueError, match="unknown weights 'action'"):
        build_loss("focal", UCLA_LT, weight="action")
    for name, arguments in (("focal", {"gamma": -1}), ("cross-entropy", {"smoothing": 1.0}),
                            ("class-balanced", {"beta": 1.0}), ("equalization", {"gamma": 2.0}),
                            ("logit-adjustment", {"tau": -1.0}), ("ldam", {"scale": 0.0}),
                            ("ldam", {"max_margin": -1.0}), ("kps", {"max_margin": -3.0})):  # fmt: skip
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be .*, not"):
            build_loss(name, UCLA_LT, **arguments)


# ---- every loss against its formula, clip by clip in NumPy


def softmax(z):
    e = np.exp(z - z.max())
    return e / e.sum()


def weighted(weight, terms, labels):
    return sum(weight[y] * term for term, y in zip(terms, labels, strict=True)) / sum(weight[y] for y in labels)


def reference(name, n, Z, labels):
    """The loss of logits Z (N, K), by the papers' formulas, for training sets of n (K,) clips."""
    K = len(n)
    plain = [-np.log(softmax(z)[y]) for z, y in zip(Z, labels, strict=True)]
    if name == "cross-entropy":
        return np.mean(plain)
    if name == "inverse-frequency":
        return weighted(1 / n, plain, labels)
    if name == "focal":
        return np.mean([(1 - np.exp(-term)) ** 2 * term for term in plain])
    if name == "class-balanced":
        return weighted((1 - 0.999) / (1 - 0.999**n), plain, labels)
    if name == "action-aware":
        beta = 0.99 + 0.0099 * (n - n.min()) / (n.max() - n.min())
        return weighted((1 - beta) / (1 - beta**n), plain, labels)
    if name in ("balanced-softmax", "logit-adjustment"):
        return np.mean([-np.log(n[y] * np.exp(z[y]) / (n * np.exp(z)).sum()) for z, y in zip(Z, labels, strict=True)])
    if name == "ldam":
        margin = 0.5 * (n / n.min()) ** -0.25
        terms = [-np.log(softmax(30 * (z - margin * (np.arange(K) == y)))[y]) for z, y in zip(Z, labels, strict=True)]
        return weighted((1 - 0.999999) / (1 - 0.999999**n), terms, labels)
    if name == "kps":
        s = np.log(n * 50 / n.min()) / np.log(50)
        reverse = s[::-1]  # n falls here
        phi = [z * s - 0.5 * reverse / s.max() * (np.arange(K) == y) for z, y in zip(Z, labels, strict=True)]
        return np.mean([-np.log(softmax(reverse[y] * z)[y]) for z, y in zip(phi, labels, strict=True)])
    if name == "gumbel":
        return np.mean([-np.log(softmax(np.exp(-np.exp(-z)))[y]) for z, y in zip(Z, labels, strict=True)])
    raise KeyError(name)


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "equalization"])
def test_formulas(name):
    logits, (y, _), _ = batch()
    expected = reference(name, np.array(UCLA_LT, float), logits.double().numpy(), y.tolist())
    assert build_loss(name, UCLA_LT)(logits, Target(y)).item() == pytest.approx(expected, rel=1e-5)


def test_equalization_leaves_rare_classes_out_of_other_classes_clips():
    logits, (y, _), _ = batch()
    always = build_loss("equalization", UCLA_LT, gamma=1.0)(logits, Target(y)).item()
    terms = []
    for z, label in zip(logits.double().numpy(), y.tolist(), strict=True):
        stay = [c for c in range(10) if c < 6 or c == label]  # 6 to 9 are the tail third
        terms.append(-z[label] + np.log(np.exp(z[stay]).sum()))
    assert always == pytest.approx(np.mean(terms), rel=1e-5)
    two = build_loss("equalization", [90, 10], gamma=1.0)  # the frequent class stays in the rare one's softmax
    z, label = torch.tensor([[1.0, 2.0], [3.0, -1.0]]), torch.tensor([0, 1])
    assert two(z, Target(label)).item() == pytest.approx(F.cross_entropy(z[1:], label[1:]).item() / 2)
    torch.manual_seed(0)
    many = torch.stack([build_loss("equalization", UCLA_LT)(logits, Target(y)) for _ in range(20)])
    plain = F.cross_entropy(logits, y).item()
    assert always < many.min() and many.max() < plain and many.std() > 0


def test_gumbel_has_a_gradient_at_any_logit():
    logits = torch.tensor([[-200.0, 0.0, 200.0]], requires_grad=True)
    loss = build_loss("gumbel", [3, 2, 1])(logits, Target(torch.tensor([0])))
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


NEUTRAL = {
    "focal": {"gamma": 0.0}, "ldam": {"max_margin": 0.0, "scale": 1.0}, "kps": {"max_margin": 0.0},
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in LOSSES if name != "gumbel"])
def test_equal_counts_and_neutral_settings_are_cross_entropy(name):
    logits, (y, other), share = batch()
    loss = build_loss(name, [30] * 10, **NEUTRAL.get(name, {}))
    torch.testing.assert_close(loss(logits, Target(y)), F.cross_entropy(logits, y))
    plain = build_loss("cross-entropy", [30] * 10)
    torch.testing.assert_close(loss(logits, Target(y, other, share)), plain(logits, Target(y, other, share)))


@pytest.mark.parametrize("name", LOSSES)
def test_classes_in_any_order(name):
    """Rare is what has few clips, wherever it stands."""
    logits, (y, _), _ = batch()
    arguments = {"gamma": 1.0} if name == "equalization" else {}
    order = torch.randperm(10, generator=torch.Generator().manual_seed(3))
    one = build_loss(name, UCLA_LT, **arguments)(logits, Target(y))
    place = torch.argsort(order)
    other = build_loss(name, np.array(UCLA_LT)[order], **arguments)(logits[:, order], Target(place[y]))
    torch.testing.assert_close(one, other)


def test_smoothed_labels_as_torch_does():
    logits, (y, _), _ = batch()
    loss = build_loss("cross-entropy", UCLA_LT, smoothing=0.1)(logits, Target(y))
    torch.testing.assert_close(loss, F.cross_entropy(logits, y, label_smoothing=0.1))


def test_smoothed_labels_beside_adjustments_and_weights():
    """Of the changed logits; what is spread has the weight of the label that it is taken from."""
    logits, (y, other), share = batch()
    Z, n = logits.double().numpy(), np.array(UCLA_LT, float)
    adjusted = [np.log(softmax(z + np.log(n))) for z in Z]
    expected = np.mean([-0.8 * log_p[label] - 0.2 * log_p.mean() for log_p, label in zip(adjusted, y, strict=True)])
    for name in ("balanced-softmax", "logit-adjustment"):
        assert build_loss(name, UCLA_LT, smoothing=0.2)(logits, Target(y)).item() == pytest.approx(expected, rel=1e-5)
    w, total, norm = action_aware(UCLA_LT), 0.0, 0.0
    for z, one, two, part in zip(Z, y.tolist(), other.tolist(), share.tolist(), strict=True):
        log_p = np.log(softmax(z))
        for label, weight in ((one, part * w[one]), (two, (1 - part) * w[two])):
            total -= weight * (0.8 * log_p[label] + 0.2 * log_p.mean())
            norm += weight
    loss = build_loss("action-aware", UCLA_LT, smoothing=0.2)
    assert loss(logits, Target(y, other, share)).item() == pytest.approx(total / norm, rel=1e-5)


def test_what_comes_before_the_deferred_part():
    logits, (y, _), _ = batch()
    assert build_loss("class-balanced", UCLA_LT).before is None  # plain cross-entropy
    ldam = build_loss("ldam", UCLA_LT)
    unweighted = build_loss("ldam", UCLA_LT, beta=0.0)
    torch.testing.assert_close(ldam.before(logits, Target(y)), unweighted(logits, Target(y)))
    kps = build_loss("kps", UCLA_LT)
    assert kps.before(logits, Target(y)).item() != pytest.approx(kps(logits, Target(y)).item())


def test_which_losses_make_up_for_the_counts():
    plain = [name for name in LOSSES if not makes_up(name, {})]
    assert plain == ["cross-entropy", "focal", "gumbel"]
    assert makes_up("focal", {"weight": "inverse-frequency"}) and not makes_up("focal", {"weight": "none"})


def test_weights_beside_an_adjustment():
    logits, (y, _), _ = batch()
    w = torch.tensor(action_aware(UCLA_LT), dtype=torch.float32)
    loss = build_loss("logit-adjustment", UCLA_LT, tau=0.5, weight="action-aware")(logits, Target(y))
    n = torch.tensor(UCLA_LT, dtype=torch.float32)
    torch.testing.assert_close(loss, F.cross_entropy(logits + 0.5 * n.log(), y, w))


def test_focal_gradients_are_finite_where_a_clip_is_certain():
    logits = torch.tensor([[200.0, 0, 0], [-200, 0, 0], [1, 0, 0]], requires_grad=True)
    build_loss("focal", [10, 10, 10], gamma=0.5)(logits, Target(torch.tensor([0, 0, 0]))).backward()
    assert logits.grad.isfinite().all() and logits.grad[1:].abs().sum() > 0
