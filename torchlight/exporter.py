"""A trained model as a program of its own, which runs without this code."""

import io
import json

import torch

from .evaluator import check_finite
from .files import replacing
from .fold import fold

APART = 1e-4  # of the largest logit: more is another model


@torch.no_grad()
def export(model, x, path, facts):
    """Write the model, batch norms merged, as torch.export's program for batches of any size (.pt2), with `facts` (a
    dict) as its extra file facts.json. x (N, ...): inputs, N > 1, on the model's device.

    What is written is read back first and must give the model's logits of x and of its first clip. Returns the largest
    difference, as a share of the largest logit. Raises ValueError if it is more than rounding, FloatingPointError for a
    damaged model.
    """
    expected = model.eval()(x)
    check_finite(expected.cpu().numpy())
    folded = fold(model)
    for tensor in (*folded.parameters(), *folded.buffers()):
        tensor.data = tensor.data.clone()  # parts of one tensor become tensors of their own, as the format has them
    program = torch.export.export(folded, (x,), dynamic_shapes=({0: torch.export.Dim("N")},))
    content = io.BytesIO()
    torch.export.save(program, content, extra_files={"facts.json": json.dumps(facts)})
    content.seek(0)
    written = torch.export.load(content).module()
    apart = max((written(x[:n]) - expected[:n]).abs().max() for n in (1, len(x))) / expected.abs().max()
    if not apart <= APART:
        raise ValueError(f"{path}: the program's logits would differ from the model's by {apart:.1e} of the largest")
    with replacing(path) as file:
        file.write(content.getvalue())
    return apart.item()
