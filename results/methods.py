"""Methods of a benchmark (config/methods.yaml): what each changes in a recipe."""

import math
import re

import main as program
from torchlight.config import convert, nearest, read_yaml

OWN = {"after": str, "length": (int, float), "defer": (int, float), "times": dict}  # keys there that are not main.py's
OURS = (  # options that the benchmark sets
    "config", "modality", "seed", "work_dir", "phase", "resume", "overwrite", "eval_interval", "weights",
    "ignore_weights",
)  # fmt: skip
NOT_OF_A_METHOD = {*OURS, "data_path", "device", "val_ratio", "num_epoch", "defer_epoch"} - {"ignore_weights"}


def read_methods(path, wanted=()):
    """{name: what it changes} of the methods wanted, in that order, each behind the one it comes after; of none: all.

    Raises ValueError naming the file, the method and the key.
    """
    known, methods = read_yaml(path), {}
    for name, changes in known.items():
        if not isinstance(name, str):
            raise ValueError(f"{path}: {name!r} is no name (put it in quotes)")
        check_method(f"{path}: {name}", changes or {})

    def add(name, where, above=()):
        if name not in known:
            raise ValueError(f"{where}: unknown method {name!r}{nearest(name, known)}; there are {'; '.join(known)}")
        changes = known[name] or {}
        if "after" in changes:
            if changes["after"] in (*above, name):
                raise ValueError(f"{path}: {name} comes after itself")
            if set(known.get(changes["after"]) or {}) & set(program.POST_HOC):
                raise ValueError(f"{path}: {name}: {changes['after']} trains no weights for it to come after")
            add(changes["after"], f"{path}: {name}: after", (*above, name))
        methods.setdefault(name, changes)

    for name in wanted or known:
        add(name, "--methods")
    places = [slug(name) for name in methods]
    if "" in places or len(set(places)) < len(places):
        raise ValueError(f"{path}: names of methods must differ in letters a to z and digits: they name directories")
    return methods


def check_method(where, changes):
    if not isinstance(changes, dict):
        raise ValueError(f"{where} takes options of main.py, not {changes!r}")
    for key, value in changes.items():
        if key not in program.OPTIONS and key not in OWN:
            raise ValueError(f"{where}: unknown key {key}{nearest(key, (*program.OPTIONS, *OWN))}")
        if key in NOT_OF_A_METHOD:
            raise ValueError(f"{where}: {key} is not for a method")
        if key in OWN and (not isinstance(value, OWN[key]) or isinstance(value, bool)):
            raise ValueError(f"{where}: {key} cannot be {value!r}")
        if key in program.OPTIONS:
            convert(value, program.OPTIONS[key], key, where)
    for key, factor in changes.get("times", {}).items():
        if key not in program.OPTIONS or program.OPTIONS[key].type is not float or not is_number(factor):
            raise ValueError(f"{where}: times: {key}: {factor!r} is no factor of an option that is a number")
    if not 0 < changes.get("length", 1) < math.inf or not 0 <= changes.get("defer", 0) < 1:
        raise ValueError(f"{where}: length is a share over 0, defer one below 1")
    if "after" in changes and not set(changes) - set(OWN):
        raise ValueError(f"{where} changes nothing")
    test = [key for key in program.POST_HOC if key in changes]
    if test and "after" not in changes:
        raise ValueError(f"{where}: {test[0]} is for what comes after another method")
    training = sorted(set(changes) - {"after", "sampler", *program.POST_HOC}) if test else ()
    if training:
        raise ValueError(f"{where}: {test[0]} tests trained weights: {training[0]} does not go with it")
    if "ignore_weights" in changes and "after" not in changes:
        raise ValueError(f"{where}: ignore_weights is for what comes after another method")


def is_number(value):
    return type(value) in (int, float) and math.isfinite(value)


def slug(name):
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
