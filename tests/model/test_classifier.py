import math

import numpy as np
import pytest
import torch
from torch import nn

from graph import build_graph
from model import MODELS, build_model
from model.classifier import CosineClassifier, adjust_logits, tau_normalise


@pytest.fixture
def trained():
    torch.manual_seed(0)
    return nn.Linear(8, 5), torch.randn(3, 8)


def test_cosine_classifier_knows_directions_only(trained):
    _, x = trained
    classifier = CosineClassifier(8, 5)
    w = classifier.weight.detach().numpy().astype(np.float64)
    expected = x.numpy() @ w.T / np.linalg.norm(x.numpy(), axis=1)[:, None] / np.linalg.norm(w, axis=1)
    assert np.allclose(classifier(x).detach(), expected, atol=1e-6)
    assert np.allclose(np.linalg.norm(w, axis=1), 1) and (w < 0).any() and (w > 0).any()  # to begin with
    assert torch.allclose(classifier(7 * x), classifier(x), atol=1e-6)
    with torch.no_grad():
        classifier.weight *= torch.tensor([1.0, 2, 3, 4, 5])[:, None]
    assert np.allclose(classifier(x).detach(), expected, atol=1e-6)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_takes_it(name):
    graph = build_graph("coco")
    model = build_model(name, 5, 2, graph, "cosine", base_channels=8)
    x = torch.randn(2, 17, 4, 16, 16) if hasattr(MODELS[name], "heat_maps") else torch.randn(2, 3, 8, 17, 2)
    logits = model(x)
    assert logits.shape == (2, 5) and logits.abs().max() <= 1 + 1e-6
    logits.sum().backward()
    assert model.fc.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("tau", [0.5, 1.0])
def test_tau_normalise_is_the_formula(trained, tau):
    classifier, x = trained
    w = classifier.weight.detach().numpy().copy()
    tau_normalise(classifier, tau)
    assert np.allclose(classifier(x).detach(), x.numpy() @ (w / np.linalg.norm(w, axis=1)[:, None] ** tau).T, atol=1e-6)


def test_a_class_vector_of_zeros_stays(trained):
    classifier, x = trained
    with torch.no_grad():
        classifier.weight[2] = 0
    tau_normalise(classifier, 1.0)
    assert (classifier(x)[:, 2] == 0).all() and classifier.weight.isfinite().all()


def test_adjust_logits_is_the_formula(trained):
    classifier, x = trained
    before = classifier(x).detach()
    adjust_logits(classifier, [50, 25, 15, 9, 1], 1.5)
    assert torch.allclose(classifier(x)[:, 4], before[:, 4] - 1.5 * math.log(0.01), atol=1e-5)
    shares = torch.tensor([0.5, 0.25, 0.15, 0.09, 0.01])
    assert torch.allclose(classifier(x), before - 1.5 * shares.log(), atol=1e-5)


def test_what_a_cosine_classifier_cannot_take(trained):
    for change in (lambda fc: tau_normalise(fc, 1.0), lambda fc: adjust_logits(fc, [1] * 5, 1.0)):
        with pytest.raises(ValueError, match="for a linear classifier"):
            change(CosineClassifier(8, 5))
    with pytest.raises(ValueError, match="class 1 has no training clips"):
        adjust_logits(trained[0], [3, 0, 1, 1, 1], 1.0)
