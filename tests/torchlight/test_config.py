from types import SimpleNamespace

import pytest

from torchlight.config import Option, bind, command_line, read_layer, read_yaml, resolve

OPTIONS = {
    "config": Option(str, "", "file"),
    "base_lr": Option(float, 0.1, "rate", low=0),
    "num_epoch": Option(int, 65, "epochs", low=1),
    "nesterov": Option(bool, False, "switch"),
    "step": Option(list, [], "list"),
    "optimizer": Option(str, "SGD", "choice", ("SGD", "Adam")),
    "model_args": Option(dict, {}, "dict"),
}


def parse(*words, layers=()):
    return resolve(OPTIONS, [*layers, (command_line(OPTIONS, words, ""), "command line")])


def test_defaults_and_command_line():
    defaults = {name: option.default for name, option in OPTIONS.items()}
    assert parse() == SimpleNamespace(**defaults, origin=dict.fromkeys(OPTIONS, "default"))
    config = parse("--base-lr", "5e-4", "--num_epoch", "3", "--nesterov", "--step", "35", "55")
    assert (config.base_lr, config.num_epoch, config.nesterov, config.step) == (5e-4, 3, True, [35, 55])
    assert parse("--nesterov", "false").nesterov is False and parse("--base-lr", "1").base_lr == 1.0


def test_nested_options():
    config = parse(
        "--model-args", "drop_out=0.2", "graph.layout=ntu", "--model-args.graph.scale", "3", "--model-args.a=[1, 2]"
    )
    assert config.model_args == {"drop_out": 0.2, "graph": {"layout": "ntu", "scale": 3}, "a": [1, 2]}


def test_priority(tmp_path):
    (tmp_path / "base.yaml").write_text("base_lr: 0.2\nnum_epoch: 10\nmodel_args: {a: 1, b: {c: 2}}\n")
    (tmp_path / "over.yaml").write_text("base: base.yaml\nnum_epoch: 20\nmodel_args: {b: {d: 3}}\n")
    config = parse("--model-args", "a=5", layers=[read_layer(tmp_path / "over.yaml")])
    assert (config.base_lr, config.num_epoch, config.model_args) == (0.2, 20, {"a": 5, "b": {"c": 2, "d": 3}})
    assert OPTIONS["model_args"].default == {}
    base, over = str(tmp_path / "base.yaml"), str(tmp_path / "over.yaml")
    assert (config.origin["base_lr"], config.origin["num_epoch"]) == (base, over)
    assert config.origin["model_args"] == "command line"
    assert (config.origin["model_args.a"], config.origin["model_args.b"]) == ("command line", over)
    (tmp_path / "base.yaml").write_text("base_rl: 0.2\n")
    with pytest.raises(ValueError, match="base.yaml: unknown key base_rl"):
        parse(layers=[read_layer(tmp_path / "over.yaml")])


def test_another_loss_comes_without_the_arguments_of_the_one_below(tmp_path):
    options = {"loss": Option(str, "cross-entropy", ""), "loss_args": Option(dict, {}, "")}
    options["defer_epoch"] = Option(int, 0, "")
    (tmp_path / "a.yaml").write_text("loss: focal\nloss_args: {gamma: 2}\ndefer_epoch: 19\n")
    (tmp_path / "b.yaml").write_text("base: a.yaml\nloss: ldam\nloss_args: {scale: 20}\n")
    (tmp_path / "same.yaml").write_text("base: a.yaml\nloss: focal\nloss_args: {alpha: 1}\n")
    assert read_yaml(tmp_path / "b.yaml") == {"loss": "ldam", "loss_args": {"scale": 20}}
    assert read_yaml(tmp_path / "same.yaml")["loss_args"] == {"gamma": 2, "alpha": 1}
    (tmp_path / "args.yaml").write_text("loss_args: {gamma: 3}\ndefer_epoch: 5\n")  # for the loss of the file above
    (tmp_path / "top.yaml").write_text("base: args.yaml\nloss: focal\n")
    config = resolve(options, [read_layer(tmp_path / "top.yaml")])
    assert (config.loss_args, config.defer_epoch) == ({"gamma": 3}, 5)
    assert config.origin["loss_args"] == str(tmp_path / "args.yaml")
    assert resolve(options, [read_layer(tmp_path / "b.yaml")]).origin["loss_args"] == str(tmp_path / "b.yaml")
    layer = (read_yaml(tmp_path / "a.yaml"), "a.yaml")
    assert resolve(options, [layer]).loss_args == {"gamma": 2} and resolve(options, [layer]).defer_epoch == 19
    config = resolve(options, [layer, ({"loss": "kps"}, "command line")])
    assert (config.loss, config.loss_args, config.origin["loss_args"]) == ("kps", {}, "default")
    assert config.defer_epoch == 0
    smoothing = ({"loss_args": {"smoothing": 0.1}}, "x.yaml")
    assert resolve(options, [smoothing, ({"loss": "focal"}, "command line")]).loss_args == {}  # they are the default's
    same = resolve(options, [smoothing, ({"loss": "cross-entropy"}, "command line")])
    assert same.loss_args == {"smoothing": 0.1} and resolve(options, [smoothing]).origin["loss"] == "default"


def test_yaml_numbers_without_a_dot_are_numbers():
    assert parse(layers=[({"base_lr": "5e-4"}, "x.yaml")]).base_lr == 5e-4


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ({"base_rl": 1}, r"x.yaml: unknown key base_rl \(nearest: base_lr\)"),
        ({"qqqq": 1}, "x.yaml: unknown key qqqq$"),
        ({"num_epoch": "ten"}, "x.yaml: num_epoch must be of type int, not 'ten'"),
        ({"num_epoch": 1.5}, "num_epoch must be of type int, not 1.5"),
        ({"num_epoch": True}, "num_epoch must be of type int, not True"),
        ({"num_epoch": None}, "num_epoch must be of type int, not None"),
        ({"num_epoch": 0}, "x.yaml: num_epoch must be at least 1, not 0"),
        ({"base_lr": float("nan")}, "base_lr must be a finite number"),
        ({"base_lr": float("inf")}, "base_lr must be a finite number"),
        ({"nesterov": "yes please"}, "nesterov must be of type bool"),
        ({"optimizer": "sgd"}, r"optimizer must be one of SGD, Adam, not 'sgd'"),
        ({"model_args": [1]}, "model_args must be of type dict"),
        ({"model_args": {1: 2}}, "model_args takes names and their values"),
    ],
)
def test_errors_name_the_file_and_the_key(layer, message):
    with pytest.raises(ValueError, match=message):
        parse(layers=[(layer, "x.yaml")])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--base-rl", "1"], r"command line: unknown argument --base-rl \(nearest: --base-lr\)"),
        (["--num-epoch", "x"], "command line: num_epoch must be of type int"),
        (["--num-epoch"], "command line: argument --num-epoch.*expected one argument"),
        (["--model-args", "0.2"], "model_args takes key=value, not '0.2'"),
        (["--model-args", "a={"], "command line: model_args"),
        (["--num-epoch", "2021-13-45"], "command line: num_epoch: month must be"),
        (["stray"], "unknown argument stray"),
    ],
)
def test_errors_of_the_command_line(words, message):
    with pytest.raises(ValueError, match=message):
        parse(*words)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("a: 2021-13-45", "not valid YAML: month must be"),
        ("- 1\n", "a config is a list of"),
        ("base: x.yaml\n", "in a circle"),
        ("base: 3\n", "base takes a file name"),
        ("base: [a.yaml, 3]\n", "base takes a file name"),
        ("a: {b: 1, c: 2, b: 3}\n", "b is there twice"),
    ],
)
def test_bad_files(tmp_path, text, message):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"x.yaml: .*{message}"):
        read_yaml(tmp_path / "x.yaml")


def test_yaml_cannot_run_code(tmp_path):
    (tmp_path / "x.yaml").write_text("a: !!python/object/apply:os.system ['exit 1']\n")
    with pytest.raises(ValueError, match="not valid YAML"):
        read_yaml(tmp_path / "x.yaml")


def example(x, low=0.5, length=3, axes=(1, 2), seed: int | None = None):
    return low, length, axes, seed


def test_bind():
    assert bind(example, {"low": 1, "axes": [3], "seed": 3}, "here", ("x",)) == {"low": 1.0, "axes": [3], "seed": 3}
    assert bind(example, {"seed": None}, "here", ("x",)) == {"seed": None}
    for arguments, message in (
        ({"lwo": 1}, r"here: unknown key lwo \(nearest: low\)"), ({"length": 1.5}, "here: length must be of type int"),
        ({"x": 1}, "here: unknown key x"),
        ({"seed": "two"}, "here: seed must be of type int, not 'two'"), ([1], "here: takes key: value pairs"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            bind(example, arguments, "here", skip=("x",))
