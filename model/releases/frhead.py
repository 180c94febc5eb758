"""FR-Head's own release: the heads beside a backbone that another release describes."""

from ..frhead import LEVELS

SIDES = ("spatio", "tempor")


def present(state):
    """Whether a state dict has the heads."""
    return any(key.startswith("ren_") for key in state)


def arguments(state):
    """What FRHead takes besides the backbone: the lowest level has all frames."""
    frames = state["ren_low.tempor_cl_net.cl_fc.weight"].shape[1] // len(state["ren_low.tempor_squeeze.0.weight"])
    return {"num_frame": frames}


def modules(backbone):
    """{our module or parameter: [theirs]} of an FRHead around a backbone of which this is given. They do not save the
    prototypes.
    """
    result = {f"backbone.{ours}": theirs for ours, theirs in backbone.items()}
    for level in LEVELS:
        for i, side in enumerate(SIDES):
            ours, theirs = f"head.{level}", f"ren_{level}.{side}"
            result[f"{ours}.refinements.{i}.project"] = [f"{theirs}_cl_net.cl_fc"]
            result[f"{ours}.squeezes.{i}.0"] = [f"{theirs}_squeeze.0"]
            result[f"{ours}.squeezes.{i}.1"] = [f"{theirs}_squeeze.1"]
    return result
