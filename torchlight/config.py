"""Options from the command line, over a YAML file, over the YAML files it is based on, over the defaults.

Every option is declared once, as an Option. Whatever is not declared, of another type or out of range raises a
ValueError that names the option, where it was given, and the nearest name there is.
"""

import argparse
import contextlib
import difflib
import inspect
import math
import typing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import yaml


@dataclass(frozen=True)
class Option:
    """type: int, float, bool, str, list or dict. choices: allowed values. low: the least allowed number."""

    type: type
    default: object
    help: str
    choices: tuple = ()
    low: float | None = None


def nearest(name, names):
    """' (nearest: ...)' with the most similar of the names, or '' where none is similar."""
    close = difflib.get_close_matches(str(name), [str(n) for n in names], n=1, cutoff=0.5)
    return f" (nearest: {close[0]})" if close else ""


def convert(value, option, name, where):
    """The value as the option's type. Raises ValueError naming the option and where it was given."""
    wanted = option.type
    given = value
    if wanted is float and isinstance(value, str):  # YAML 1.1 reads 5e-4 as a string
        with contextlib.suppress(ValueError):
            value = float(value)
    if wanted is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if wanted is list and not isinstance(value, list):
        value = list(value) if isinstance(value, tuple) else [value]
    if wanted is str and isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise ValueError(f"{where}: {name} must be of type {wanted.__name__}, not {given!r}")
    if wanted is dict and not all(isinstance(key, str) for key in value):
        raise ValueError(f"{where}: {name} takes names and their values, not {given!r}")
    if wanted is float and not math.isfinite(value):
        raise ValueError(f"{where}: {name} must be a finite number, not {given!r}")
    if option.choices and value not in option.choices:
        choices = ", ".join(str(choice) for choice in option.choices if choice != "")
        raise ValueError(f"{where}: {name} must be one of {choices}, not {given!r}{nearest(given, option.choices)}")
    if option.low is not None and not value >= option.low:
        raise ValueError(f"{where}: {name} must be at least {option.low}, not {given!r}")
    return value


def read_yaml(path):
    """A YAML file as a dict, `base:` files (relative to it) merged under it. Raises ValueError or OSError."""
    return read_layer(path)[0]


def read_layer(path, above=()):
    """The same as a layer for `resolve`: the dict, and {key: the file it comes from}. above: files based on it."""
    path = Path(path)
    if path.resolve() in above:
        raise ValueError(f"{path}: base files include each other in a circle")
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeyLoader) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date that is none, or not UTF-8
        raise ValueError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: a config is a list of `key: value` lines")
    bases = content.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) for base in bases):
        raise ValueError(f"{path}: base takes a file name or a list of them, not {bases!r}")
    result, origin = {}, {}
    for base in bases:
        under, where = read_layer(path.parent / base, (*above, path.resolve()))
        result, origin = merge(result, under), origin | where
    return merge(result, content), origin | places(content, str(path))


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that does not let a key that is there twice lose its first value without a word."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        twice = [key for key in keys if keys.count(key) > 1]
        if twice:
            raise yaml.YAMLError(f"{twice[0]} is there twice, line {node.start_mark.line + 1} and after")
        return super().construct_mapping(node, deep)


# Of a pair the first belongs to what the second chooses.
CHOICE = {"mixing_args": "mixing", "loss_args": "loss", "defer_epoch": "loss"}


def merge(under, over):
    """`over` on top of `under`: dicts are merged, everything else is replaced. Another choice of a mixing or a loss
    comes without the arguments, and the deferring, of the one below.
    """
    result = {key: value for key, value in under.items() if not _replaced(key, under, over)}
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merge(result[key], value) if both else value
    return result


def places(layer, name):
    """{key: name} of a layer's keys, and of the keys of its dicts, `key.inner`."""
    inner = [f"{key}.{inner}" for key, value in layer.items() if isinstance(value, dict) for inner in value]
    return dict.fromkeys([*layer, *inner], name)


def _replaced(key, under, over):
    """Whether `under` holds arguments of a choice that `over` makes otherwise."""
    choice = CHOICE.get(key)
    return choice in over and choice in under and over[choice] != under[choice]


def resolve(options, layers):
    """Merge layers, later ones on top, over the defaults, and check every value. A layer is a dict and where it comes
    from: a name, or {key: name}.

    Returns a namespace with an attribute for every option, and `origin`: {option: where its value comes from},
    for the keys of a dict as well, `option.key`.
    """
    given = {choice: options[choice].default for choice in CHOICE.values() if choice in options}
    origin = dict.fromkeys(given, "default")
    for layer, where in layers:
        where = where if isinstance(where, dict) else places(layer, str(where))
        checked = {}
        for name, value in layer.items():
            if name not in options:
                raise ValueError(f"{where[name]}: unknown key {name}{nearest(name, options)}")
            checked[name] = convert(value, options[name], name, where[name])
        given, origin = merge(given, checked), origin | where
    values = {name: given.get(name, option.default) for name, option in options.items()}
    unset = {name: "default" for name in options if name not in given}
    inner = {f"{name}.{key}" for name, value in values.items() if isinstance(value, dict) for key in value}
    origin = {key: place for key, place in origin.items() if key in options or key in inner}
    return SimpleNamespace(**values, origin=origin | unset)


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"command line: {message}")


def command_line(options, argv, description):
    """The options given on a command line, {name: value}, unchecked.

    A flag is the option's name with dashes (underscores work too). Lists take several words, dicts take key=value words
    with dots for nested keys; `--model-args.drop_out 0.2` is the same as `--model-args drop_out=0.2`.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = _Parser(description=description, allow_abbrev=False, formatter_class=raw)
    dicts = []
    for name, option in options.items():
        flags = list(dict.fromkeys(["--" + name.replace("_", "-"), "--" + name]))
        text = option.help + (f" ({', '.join(map(str, option.choices))})" if option.choices else "")
        text += "" if option.default in (None, "", [], {}) else f" [{option.default}]"
        shape = {list: {"nargs": "+"}, dict: {"nargs": "+", "action": "append"}, bool: {"nargs": "?", "const": "true"}}
        parser.add_argument(
            *flags,
            dest=name,
            metavar=option.type.__name__.upper(),
            help=text.replace("%", "%%"),
            default=argparse.SUPPRESS,
            **shape.get(option.type, {}),
        )
        dicts += flags if option.type is dict else []
    words, arguments = list(argv), []
    while words:
        word = words.pop(0)
        flag, dot, key = word.partition(".")
        if dot and flag in dicts:  # --model-args.drop_out 0.2 is --model-args drop_out=0.2
            arguments += [flag, key if "=" in key else f"{key}={words.pop(0) if words else ''}"]
        else:
            arguments.append(word)
    known, unknown = parser.parse_known_args(arguments)
    if unknown:
        flags = ["--" + name.replace("_", "-") for name in options]
        raise ValueError(f"command line: unknown argument {unknown[0]}{nearest(unknown[0], flags)}")
    return {name: _from_words(words, options[name], name) for name, words in vars(known).items()}


def _from_words(words, option, name):
    """The word, the list of words or the list of lists of key=value words that argparse found, as a value."""

    def value(word):
        try:
            return yaml.safe_load(word)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that is none
            raise ValueError(f"command line: {name}: {' '.join(str(error).split())}") from None

    if option.type is str:
        return words
    if option.type is list:
        return [value(word) for word in words]
    if option.type is not dict:
        return value(words)
    result = {}
    for word in (word for group in words for word in group):
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise ValueError(f"command line: {name} takes key=value, not {word!r}")
        nested = value(text)
        for part in reversed(key.split(".")):
            nested = {part: nested}
        result = merge(result, nested)
    return result


def bind(function, arguments, where, skip=()):
    """Check keyword arguments from a config against a function's signature (but for `skip`); return them as a dict.

    Raises ValueError, starting with `where`, for a name the function does not take, or a value that does not suit the
    type of its default.
    """
    if not isinstance(arguments, dict):
        raise ValueError(f"{where}: takes key: value pairs, not {arguments!r}")
    known = inspect.signature(function).parameters
    keywords = {name: parameter for name, parameter in known.items() if name not in skip}
    result = {}
    for name, value in arguments.items():
        if name not in keywords:
            raise ValueError(f"{where}: unknown key {name}{nearest(name, keywords)}")
        kind = _type_of(keywords[name])
        if kind and not (value is None and keywords[name].default is None):
            value = convert(value, Option(kind, None, ""), name, where)
        result[name] = value
    return result


def _type_of(parameter):
    """The type a parameter takes: that of its default, or X where it is annotated `X | None` and defaults to None."""
    default = parameter.default
    if default is None:
        return next((kind for kind in typing.get_args(parameter.annotation) if kind is not type(None)), None)
    if default is parameter.empty:
        return None
    return list if isinstance(default, tuple) else type(default)
