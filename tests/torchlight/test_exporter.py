import json

import pytest
import torch

from graph import build_graph
from model import MODELS, build_model
from torchlight.exporter import export


def scrambled(model):
    """The model with batch norms that do something, which folding has to keep."""
    torch.manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.mul_(torch.rand_like(module.weight) + 0.5)
    return model.eval()


QUICK = "ctrgcn-baseline"  # the others take long to trace


@pytest.mark.filterwarnings("error::UserWarning")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n != QUICK)) for n in MODELS])
def test_every_model_runs_as_a_program_of_its_own(name, tmp_path):
    drawn = hasattr(MODELS[name], "heat_maps")
    model = scrambled(build_model(name, 7, 1, build_graph("coco" if drawn else "ucla")))
    shape = (17, 8, 16, 16) if drawn else (3, 12, 20, 1)
    apart = export(model, torch.randn(3, *shape), tmp_path / "model.pt2", {"classes": ["ä", "b"]})
    assert apart < 1e-4
    facts = {"facts.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=facts).module()
    assert json.loads(facts["facts.json"]) == {"classes": ["ä", "b"]}
    for N in (1, 6):
        x = torch.randn(N, *shape)
        with torch.no_grad():
            expected = model(x)
            assert (program(x) - expected).abs().max() < 1e-4 * expected.abs().max()


def test_a_damaged_model_is_not_written(tmp_path):
    model = torch.nn.Linear(3, 2)
    model.weight.data[0, 0] = float("nan")
    with pytest.raises(FloatingPointError, match="not finite"):
        export(model, torch.randn(4, 3), tmp_path / "model.pt2", {})
    assert not list(tmp_path.iterdir())


def test_a_program_that_computes_something_else_is_not_written(tmp_path):
    class Wrong(torch.nn.Linear):
        """Merging changes what it computes."""

        def merge_norms(self):
            self.weight.mul_(1.01)

    with pytest.raises(ValueError, match="model.pt2: the program's logits would differ from the model's by"):
        export(Wrong(3, 2), torch.randn(4, 3), tmp_path / "model.pt2", {})
    assert not list(tmp_path.iterdir())
