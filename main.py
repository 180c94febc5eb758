"""Train, test, use, export and profile models of skeleton-based action recognition.

python main.py --config config/nw-ucla-lt/brl.yaml --modality joint
python main.py --phase test --weights results/nw-ucla-lt/brl/joint/runs.pt
python main.py --phase predict --weights results/nw-ucla-lt/brl/joint/runs.pt --data-path data/mine.h5
python main.py --phase export --weights results/nw-ucla-lt/brl/joint/runs.pt
python main.py --phase profile
"""

import re
import zlib
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from feeders import FEEDERS, MIXINGS, MODALITIES, SAMPLERS, Store, TrainBatches
from feeders.balance import class_count, hold_out
from graph import LAYOUTS, build_graph, describe_layout
from model import CLASSIFIERS, MODELS, build_model, check_arguments
from model.classifier import adjust_logits, freeze_backbone, tau_normalise
from model.frhead import CL_MODES, VERSIONS, FRHead
from model.loss import LDAM_SCALE, LOSSES, build_loss, makes_up
from model.pretrained import is_ours, load_weights, without
from torchlight import checkpoint, distributed, plot
from torchlight.config import Option, bind, command_line, read_layer, read_yaml, resolve
from torchlight.device import bare, counted_generator, counted_seed, parse_device, place
from torchlight.distributed import ALONE
from torchlight.errors import guarded
from torchlight.evaluator import evaluate, predict, write_predictions, write_test
from torchlight.exporter import export
from torchlight.files import read_json
from torchlight.metrics import format_summary
from torchlight.profiler import COLUMNS, profile
from torchlight.recorder import Recorder
from torchlight.trainer import AMP, Trainer

OPTIONS = {
    # what to do
    "config": Option(str, "", "YAML file with any of these options"),
    "phase": Option(str, "train", "what to do", ("train", "test", "predict", "export", "profile")),
    "work_dir": Option(str, "", "run directory [results/CONFIG/MODALITY; in a test that of the weights or below it]"),
    "weights": Option(str, "", "weights to start from, to test or to use: ours or a published checkpoint"),
    "ignore_weights": Option(list, [], "leave out weights whose name contains one of these words"),
    "resume": Option(bool, False, "continue the run in the run directory"),
    "overwrite": Option(bool, False, "replace the run in the run directory, or the test of other clips there"),
    "device": Option(list, [], "cpu, or the numbers of GPUs; several share each batch [GPU 0 if there is one]"),
    "sync_bn": Option(bool, False, "batch norm over the clips of all processes (torchrun)"),
    "seed": Option(int, 1, "seed of every random draw", low=0),
    # data
    "data_path": Option(str, "", "the store (data/prepare.py)"),
    "modality": Option(str, "joint", "input stream", MODALITIES),
    "feeder": Option(str, "skeleton", "feeder", tuple(FEEDERS)),
    "train_feeder_args": Option(dict, {}, "training feeder: split, transforms, num_person, repeat"),
    "test_feeder_args": Option(dict, {}, "test feeder: split, transforms, num_person"),
    "val_ratio": Option(float, 0.0, "share of the training clips of each class held out for validation", low=0),
    "batch_size": Option(int, 16, "clips in a training batch", low=1),
    "test_batch_size": Option(int, 64, "clips in a test batch, if a GPU has the memory for them", low=1),
    # long-tailed learning
    "sampler": Option(str, "uniform", "clips of an epoch", tuple(SAMPLERS)),
    "mixing": Option(str, "none", "mixing within the batch", ("none", *MIXINGS)),
    "mixing_args": Option(dict, {}, "its arguments"),
    "loss": Option(str, "cross-entropy", "loss", tuple(LOSSES)),
    "loss_args": Option(dict, {}, "its arguments"),
    "defer_epoch": Option(int, 0, "before this epoch (counted from 0) the loss is not balanced yet", low=0),
    "loss_counts": Option(str, "split", "clips of a class, to the loss: of the split, or as the sampler draws them",
                          ("split", "drawn")),
    "tau_norm": Option(float, 0.0, "test: divide the classifier's class vectors by their length to this power", low=0),
    "adjust_logits": Option(float, 0.0, "test: subtract so many times the logarithm of the class frequencies", low=0),
    "shots": Option(list, [20, 100], "few-shot: fewer training clips than the first; many-shot: more than the second"),
    # model
    "model": Option(str, "ctrgcn", "architecture", tuple(MODELS)),
    "model_args": Option(dict, {}, "its arguments; graph, num_class, num_person are checked against the data"),
    "classifier": Option(str, "linear", "cosine: LDAM's normalised one", tuple(CLASSIFIERS)),
    "freeze_backbone": Option(bool, False, "train the classifier alone: --weights RUN --ignore-weights fc. is cRT"),
    "cl_mode": Option(str, "", "FR-Head: ST-Multi-Level refines features of four levels in training", ("", *CL_MODES)),
    "cl_version": Option(str, "V0", "version of its loss", tuple(VERSIONS)),
    "w_multi_cl_loss": Option(list, [0.1, 0.2, 0.5, 1.0], "weights of its four levels, lowest first"),
    "w_cl_loss": Option(float, 0.1, "weight of its loss beside the classifier's", low=0),
    # optimisation
    "optimizer": Option(str, "SGD", "optimizer", ("SGD", "Adam", "AdamW")),
    "base_lr": Option(float, 0.1, "learning rate", low=0),
    "base_batch_size": Option(int, 0, "scale base_lr linearly from this batch size to the effective one; 0: no", low=0),
    "momentum": Option(float, 0.9, "momentum of SGD", low=0),
    "nesterov": Option(bool, False, "Nesterov momentum"),
    "weight_decay": Option(float, 0.0, "weight decay", low=0),
    "lr_schedule": Option(str, "step", "learning rate schedule", ("step", "cosine")),
    "step": Option(list, [], "epochs at which the learning rate is multiplied by lr_decay_rate"),
    "lr_decay_rate": Option(float, 0.1, "see step", low=0),
    "warm_up_epoch": Option(int, 0, "epochs of linear warm-up", low=0),
    "num_epoch": Option(int, 65, "epochs", low=1),
    "amp": Option(str, "none", "train in mixed precision; tests are in float32", tuple(AMP)),
    "compile": Option(bool, False, "compile the model (torch.compile): slow to start, faster to run"),
    "cuda_graphs": Option(bool, False, "replay the model's kernels as CUDA graphs: faster where batches are small"),
    "accumulate": Option(int, 1, "batches whose gradients make one step", low=1),
    # records
    "log_interval": Option(int, 100, "batches between two lines of the log", low=1),
    "eval_interval": Option(int, 1, "epochs between two evaluations", low=1),
    "save_interval": Option(int, 1, "epochs between two checkpoints", low=1),
    "save_score": Option(bool, True, "write test_score.pkl"),
}  # fmt: skip
UNSAVED = ("config", "phase", "resume", "overwrite")  # config.yaml leaves them to the command line that runs it again
TRAINED = ("test", "predict", "export")  # the phases of a trained model
PLACE = (*UNSAVED, "work_dir", "weights", "ignore_weights", "device")  # a test or a resumed run does not inherit them
MADE_WITH = ("modality", "model", "model_args", "classifier", "loss", "loss_args")  # what scores depend on
POST_HOC = ("tau_norm", "adjust_logits")  # what a test does to a trained classifier
TEST_DATA = ("data_path", "modality", "feeder", "test_feeder_args")  # what decides which clips a test sees
TESTED = ("shots", *TEST_DATA, *POST_HOC)  # what test_metrics.json keeps of the options
# what may change in a resumed run: results stay the same
FREE = (*PLACE, "cuda_graphs", "log_interval", "save_interval", "save_score")


def main(argv):
    config = configure(argv)
    phases = {"train": train, "test": test, "predict": test, "export": export_model, "profile": profile_models}
    phases[config.phase](config)
    distributed.leave()


def configure(argv):
    """All options: command line > YAML > defaults. A test, prediction or export of our own weights takes what they were
    trained with for defaults, and MADE_WITH from there alone; a resumed run without --config takes what is in its
    directory. Raises ValueError.
    """
    given = command_line(OPTIONS, argv, __doc__)
    layers, trained = [(given, "command line")], None
    if given.get("config"):
        layers.insert(0, read_layer(given["config"]))
    asked = resolve(OPTIONS, layers)
    if asked.phase in TRAINED and asked.weights:
        saved = checkpoint.load(asked.weights)
        if is_ours(saved):
            trained = saved["config"]
            inherited = {key: value for key, value in without_place(trained).items() if key != "save_score"}
            layers.insert(0, (inherited, asked.weights))
        elif not asked.config and not asked.data_path:
            raise ValueError(f"{asked.weights} is of no run here: --config has to say what it is")
    elif asked.resume and asked.work_dir and not asked.config:
        path = Path(asked.work_dir) / "config.yaml"
        layers.insert(0, (without_place(read_yaml(path)), path))
    config = resolve(OPTIONS, layers)
    for key in MADE_WITH if trained else ():
        value, was = getattr(config, key), trained.get(key, OPTIONS[key].default)
        if value != was and config.origin[key] == "command line":
            raise ValueError(f"command line: {key} is {value!r}, but {config.weights} was made with {was!r}")
        if value != was:
            print(f"note: {key} is {was!r}, as {config.weights} was made, not {value!r} ({config.origin[key]})")
        setattr(config, key, was)  # whatever a --config says of it
    if config.phase in TRAINED and config.origin["ignore_weights"] != "command line":
        config.ignore_weights = []  # a recipe leaves out what a training started without; a test takes all
    config.work_dir = config.work_dir or default_work_dir(config, trained)
    check(config)
    with blame(config, "loss_args"):
        config.loss_args = bind(LOSSES[config.loss], config.loss_args, config.loss, skip=("class_count",))
    return config


def default_work_dir(config, trained=None):
    """Of a run: results/, the config's path below config/, the modality. Of a test: the run's own directory if it tests
    runs.pt on the clips of its config (trained), which is what the files there describe, and a directory below it for
    any other weights or clips, or what is made of them. For predictions and programs such a directory as well.
    """
    if config.phase in TRAINED:
        weights, changes = Path(config.weights), []
        if trained and any(getattr(config, key) != trained.get(key, OPTIONS[key].default) for key in TEST_DATA):
            changes.append(f"{config.modality}-{config.test_feeder_args.get('split', 'test')}")
        if trained and config.data_path != trained["data_path"]:
            changes.append(Path(config.data_path).stem)
        if trained and config.phase == "test" and config.shots != trained.get("shots", OPTIONS["shots"].default):
            changes.append("shots-" + "-".join(map(str, config.shots)))
        changes += [key.replace("_", "-") + f"-{getattr(config, key):g}" for key in POST_HOC if getattr(config, key)]
        if trained and config.adjust_logits and config.sampler != trained["sampler"]:
            changes.append(config.sampler)
        name = "-".join([config.phase, weights.stem, *changes])
        return str(weights.parent if name == "test-runs" else weights.parent / name)
    return str(Path("results", *below_config(config.config), config.modality)) if config.config else ""


def below_config(path):
    """The parts of a config's path below config/, without its ending."""
    parts = Path(path).with_suffix("").parts
    return parts[parts.index("config") + 1 :] if "config" in parts[:-1] else parts[-1:]


def without_place(values):
    return {key: value for key, value in values.items() if key not in PLACE}


def check(config):
    """What no single option can tell. Raises ValueError."""
    shots = config.shots
    if len(shots) != 2 or not all(type(n) is int and n >= 0 for n in shots) or shots[0] > shots[1]:
        raise ValueError(f"shots takes two numbers of clips, the smaller first, not {shots}")
    if not all(type(epoch) is int and epoch >= 0 for epoch in config.step):
        raise ValueError(f"step takes epochs, not {config.step}")
    if config.val_ratio >= 1:
        raise ValueError(f"val_ratio must be less than 1, not {config.val_ratio}")
    if not all(isinstance(word, str) for word in config.ignore_weights):
        raise ValueError(f"ignore_weights takes words, not {config.ignore_weights}")
    if config.phase in TRAINED and not config.weights:
        raise ValueError(f"--weights is missing: what to {config.phase}")
    if config.phase in TRAINED and config.ignore_weights:
        raise ValueError(f"--phase {config.phase} takes no --ignore-weights: it needs all weights")
    if config.phase == "profile" and config.origin["weights"] == "command line":
        raise ValueError("--phase profile takes no --weights: --config RUN/config.yaml says which model")
    for key in POST_HOC:
        if getattr(config, key) and config.phase not in TRAINED:
            raise ValueError(f"{key} changes a trained classifier: it is for --phase {', '.join(TRAINED)}")
    if config.adjust_logits and makes_up(config.loss, config.loss_args):
        raise ValueError(f"adjust_logits: the loss {config.loss} has made up for the class counts in training already")
    if config.classifier == "cosine" and config.loss != "ldam":
        raise ValueError("the cosine classifier is for the loss ldam, which scales its cosines")
    if config.freeze_backbone and config.cl_mode:
        raise ValueError("cl_mode refines the features of the backbone: it cannot be frozen")
    if config.mixing == "none" and config.mixing_args:
        raise ValueError("mixing_args are given, but mixing is none")
    if len(config.w_multi_cl_loss) != 4 or not all(is_weight(w) for w in config.w_multi_cl_loss):
        raise ValueError(f"w_multi_cl_loss takes four weights of at least 0, not {config.w_multi_cl_loss}")
    if config.weights and config.resume:
        raise ValueError("--resume continues from last.pt; it takes no --weights")
    if not config.data_path and config.phase != "profile":
        raise ValueError("data_path is missing: the store to train or test on (data/prepare.py makes it)")
    if config.phase == "train":
        check_training(config)
        check_used(config)


def check_training(config):
    if config.nesterov and (config.optimizer != "SGD" or config.momentum == 0):
        raise ValueError("nesterov needs the optimizer SGD and a momentum")
    if config.lr_schedule == "cosine" and config.warm_up_epoch >= config.num_epoch:
        raise ValueError("warm_up_epoch must be less than num_epoch")
    if config.freeze_backbone and not (config.weights or config.resume):
        raise ValueError("freeze_backbone needs --weights: a trained backbone")
    if config.loss != "cross-entropy" and config.defer_epoch >= config.num_epoch:
        raise ValueError(f"defer_epoch {config.defer_epoch} leaves none of {config.num_epoch} epochs to {config.loss}")
    if config.loss == "cross-entropy" and config.defer_epoch:
        raise ValueError("defer_epoch is given, but the loss is cross-entropy: it has nothing to defer")
    if not config.work_dir:
        raise ValueError("--work-dir is missing; only with --config it has a default")


def check_used(config):
    """Raise ValueError for what the command line gives and nothing uses; a config may hold it for another time."""
    no_counts = config.loss_counts == "drawn" and not makes_up(config.loss, config.loss_args)
    unused = {
        **dict.fromkeys(("cl_version", "w_multi_cl_loss", "w_cl_loss"), not config.cl_mode and "cl_mode is not"),
        "loss_counts": no_counts and f"the loss {config.loss} does not look at them",
        "momentum": config.optimizer != "SGD" and f"the optimizer is {config.optimizer}",
        "lr_decay_rate": (config.lr_schedule != "step" or not config.step) and "there are no steps",
    }
    for key, why in unused.items():
        if why and config.origin[key] == "command line":
            raise ValueError(f"command line: {key} is given, but {why}")


def is_weight(value):
    return isinstance(value, int | float) and 0 <= value < float("inf")


# ---- data and model


@contextmanager
def blame(config, key):
    """Let a ValueError say which option it is about, and where that was given; of a dict, the key that it names."""
    try:
        yield
    except ValueError as error:
        begin = re.match(r"(?:([\w+-]+): )?(\w*)", str(error)).groups()
        named = [word for word in (*begin, *re.findall(r"unknown key (\w+)", str(error))) if word]
        places = [config.origin[f"{key}.{word}"] for word in named if f"{key}.{word}" in config.origin]
        raise ValueError(f"{[*places, config.origin[key]][0]}: {key}: {error}") from None


def make_feeder(config, store, key, device, split=None):
    """The feeder of train_feeder_args or test_feeder_args; split: clip indices in place of the named split."""
    arguments = {"split": "train" if key == "train_feeder_args" else "test", **getattr(config, key)}
    if key == "train_feeder_args":
        arguments.pop("repeat", None)  # of make_batches
    kind = FEEDERS[config.feeder]
    with blame(config, key):
        arguments = bind(kind, arguments, config.feeder, skip=("data_path", "modality", "seed", "device"))
        if split is not None:
            arguments["split"] = split
        feeder = kind(store, modality=config.modality, seed=config.seed, device=device, **arguments)
        unknown = feeder.label < 0
        if unknown.any() and config.phase in ("train", "test"):
            raise ValueError(
                f"{store.path}: clip {feeder.names[unknown.argmax()]} has no label: it is for --phase predict"
            )
        if key == "test_feeder_args" and feeder.random:
            raise ValueError(
                f"transforms: a test draws no random numbers, but {', '.join(feeder.random)} does "
                "(uniform_frames: seed)"
            )
        if key == "train_feeder_args" and feeder.num_clips > 1:
            raise ValueError(
                "transforms: uniform_frames: num_clips is for tests, and so are views and heat_map: double; "
                "repeat draws several samples of a training clip"
            )
    return feeder


def make_batches(config, feeder):
    """The training batches of a feeder, by repeat, sampler and mixing."""
    repeat, mixing = config.train_feeder_args.get("repeat", 1), None
    with blame(config, "train_feeder_args"):
        if type(repeat) is not int or repeat < 1:
            raise ValueError(f"repeat must be a whole number from 1 on, not {repeat!r}")
    if config.mixing != "none":
        kind = MIXINGS[config.mixing]
        with blame(config, "mixing_args"):
            arguments = bind(kind, config.mixing_args, config.mixing, skip=("graph", "class_count"))
            mixing = kind(feeder.graph, feeder.class_count, **arguments)
    return TrainBatches(feeder, config.batch_size, config.sampler, repeat, mixing)


def make_loss(config, feeder):
    """The loss by the class counts of a training feeder."""
    sampler = SAMPLERS[config.sampler if config.loss_counts == "drawn" else "uniform"]
    with blame(config, "loss" if config.origin["loss_args"] == "default" else "loss_args"):
        return build_loss(config.loss, sampler(feeder.class_count), **config.loss_args)


def make_model(config, feeder):
    """The model for a feeder's clips. Raises ValueError where the config says otherwise than the data."""
    arguments = dict(config.model_args)
    with blame(config, "model"):
        if hasattr(MODELS[config.model], "heat_maps") != (feeder.heat_maps is not None):
            raise ValueError(
                f"{config.model} takes joints, but the transforms end with heat_map"
                if feeder.heat_maps
                else f"{config.model} takes heat maps: the transforms must end with heat_map"
            )
    C, M = feeder.shape[0], feeder.num_person  # heat maps are its channels
    found = {"graph": feeder.graph.name, "num_class": len(feeder.classes), "num_person": M, "in_channels": C}
    with blame(config, "model_args"):
        for key, value in found.items():
            if arguments.pop(key, value) != value:
                raise ValueError(f"{key} is {config.model_args[key]!r}, but {feeder.store.path} has {value!r}")
        arguments["in_channels"] = C
        model = build_network(config, config.model, found["num_class"], M, feeder.graph.layout, arguments)
    if not config.cl_mode or config.phase != "train":
        return model
    with blame(config, "cl_mode"):
        return FRHead(model, feeder.shape[1], config.cl_version, config.w_multi_cl_loss)


def build_network(config, name, num_class, num_person, layout, model_args):
    """A model on the graph of a layout; model_args: all others. Raises ValueError."""
    model_args = dict(model_args)
    graph = build_graph(layout, model_args.pop("labeling", "spatial"))
    model_args = check_arguments(name, model_args)  # what build_model itself is given among them would be a TypeError
    return build_model(name, num_class, num_person, graph, config.classifier, **model_args)


def read_weights(model, saved, config, store):
    """Load the checkpoint that --weights names into the model. Raises ValueError naming the file where it does not fit
    the model, or, one of ours, not the store: its joints, or classes that the classifier would be of.
    """
    facts = describe_store(store) if is_ours(saved) else {}
    if not any(".fc." in f".{name}" for name in without(model.state_dict(), config.ignore_weights)):
        facts.pop("classes", None)  # they get a classifier of their own
    key = differing(saved, facts)
    if key:
        new = key == "classes" and config.phase == "train"
        hint = "; --ignore-weights fc. begins with a new classifier" if new else ""
        raise ValueError(f"{config.weights}: trained on other {key} than {store.path} has{hint}")
    try:
        left_out = load_weights(model, saved, config.ignore_weights)
    except ValueError as error:
        raise ValueError(f"{config.weights}: {error}") from None
    if left_out:
        print(f"{config.weights}: {len(left_out)} tensors keep their initial values: {', '.join(left_out[:6])}")


# ---- phases


def train(config):
    """Train, test the last epoch, write the run directory."""
    torch.backends.cudnn.deterministic = True
    team, devices = distributed.join(parse_device(config.device))
    saved = load_last(config) if config.resume else None
    store = Store(config.data_path)
    train_set = make_feeder(config, store, "train_feeder_args", devices[0])
    test_set = make_feeder(config, store, "test_feeder_args", devices[0])
    training = describe_training(store, train_set)
    split_counts = train_set.class_count  # which class is few-shot does not depend on what is held out
    selection = {"test": test_set}  # the clips that decide which epoch is the best
    if config.val_ratio:
        rest, held = hold_out(train_set.label, config.val_ratio, counted_generator("val", config.seed))
        held, rest = train_set.index[held], train_set.index[rest]
        selection = {"val": make_feeder(config, store, "test_feeder_args", devices[0], split=held)}
        train_set = make_feeder(config, store, "train_feeder_args", devices[0], split=rest)
    if test_set.form != train_set.form:
        raise ValueError(
            f"test clips are {test_set.shape} ({test_set.axes}), "
            f"but training clips {train_set.shape} ({train_set.axes})"
        )
    changed = differing(saved, training) if saved else None
    if changed:
        name = changed.replace("_", " ").replace("checksum", "clips")
        raise ValueError(f"--resume: the {name} of {store.path} are not those that {config.work_dir} began with")
    training["trained_count"] = train_set.class_count.tolist()  # without those held out
    batches = make_batches(config, train_set)
    if min(batches.clips, config.batch_size) < team.size:
        raise ValueError(
            f"batches of {min(batches.clips, config.batch_size)} clips cannot be shared by {team.size} processes"
        )
    loss = make_loss(config, train_set).to(devices[0])
    # before defer_epoch
    early = loss.before or build_loss("cross-entropy", train_set.class_count, smoothing=loss.smoothing)
    torch.manual_seed(counted_seed("weights", config.seed))
    model = make_model(config, train_set)
    start = {}
    if config.weights:
        start = checkpoint.load(config.weights)
        read_weights(model, start, config, store)
    if config.freeze_backbone:
        freeze_backbone(model)
    if config.sync_bn and team.size == 1:
        raise ValueError("sync_bn is for several processes: start them with torchrun")
    if config.compile and len(devices) > 1:
        raise ValueError("compile works on one device a process: start several with torchrun")
    if config.compile:
        model.compile()
    if config.cuda_graphs and (devices[0].type == "cpu" or len(devices) > 1 or team.size > 1):
        raise ValueError("cuda_graphs works on one GPU")
    if config.cuda_graphs and train_set.in_advance:  # what its thread does on the GPU would end the capture
        raise ValueError("cuda_graphs: the training clips take more than a quarter of the GPU's memory")
    if config.cuda_graphs and (config.compile or config.accumulate > 1):
        raise ValueError(f"cuda_graphs does not go with {'compile' if config.compile else 'accumulate'}")
    if config.mixing == "shap-mix" and team.size > 1 and not config.sync_bn:
        raise ValueError("shap-mix looks at the model: several processes need --sync-bn to see the same")
    model = place(model, devices, team, config.sync_bn)
    batches.begin(bare(model), logit_scale(config))
    effective = min(config.batch_size, batches.clips) * min(config.accumulate, len(batches))
    base_lr = config.base_lr * (effective / config.base_batch_size if config.base_batch_size else 1)
    scores = {}

    def evaluate_selection():
        ((split, feeder),) = selection.items()
        scores[split] = score(model, feeder, config, team)
        return {split: evaluate(scores[split], feeder.label, split_counts, config.shots)}

    def criterion(epoch):
        classifier_loss = early if epoch < config.defer_epoch else loss
        return refined(classifier_loss, bare(model), config) if config.cl_mode else classifier_loss

    claim = "resume" if saved else "overwrite" if config.overwrite else "new"
    with Recorder(config.work_dir, claim, team.writes) as recorder:
        options = {key: getattr(config, key) for key in OPTIONS if key not in UNSAVED}
        if saved:  # what it started from
            options |= {key: saved["config"].get(key, OPTIONS[key].default) for key in ("weights", "ignore_weights")}
        extra = {"config": options, **training}
        trainer = Trainer(model, batches, criterion, evaluate_selection, recorder, config, base_lr, extra, team)
        if not saved:
            trainer.save_last()  # before any other file: what is there can be continued
        facts = {"training_checksum": training["training_checksum"]}
        if is_ours(start) and "checksum" in start["metrics"]:
            facts["start"] = start["metrics"]["checksum"]
        recorder.begin(options, devices, facts)
        where = describe(devices) + (f", {team.size} processes" if team.size > 1 else "")
        recorder.log(
            f"{config.model}: {sum(p.numel() for p in model.parameters()):,} parameters on {where}\n"
            f"{store.path} ({store.path.stat().st_size / 2**20:.1f} MB): {len(train_set)} training clips, per class "
            f"{' '.join(map(str, train_set.class_count))}; {len(test_set)} test clips; input {train_set.shape}\n"
            f"{batches.clips} clips and {len(batches)} batches an epoch; effective batch {effective}, lr {base_lr:g}"
        )
        if saved:
            trainer.resume(saved)
            recorder.log(f"continuing after epoch {trainer.epoch}, batch {trainer.step}")
        trainer.fit()

        test_score = scores["test"] if "test" in scores else score(model, test_set, config, team)
        if team.writes:
            finish(config, trainer, store, test_set, test_score, split_counts)


def finish(config, trainer, store, test_set, test_score, counts):
    """Write runs.pt and the files of its test, and report the best epoch beside the last one."""
    recorder = trainer.recorder
    model = bare(trainer.model)
    trained = checkpoint.checksum(model.backbone if isinstance(model, FRHead) else model)
    tested = {"weights": "runs.pt", "epoch": trainer.epoch, "checksum": trained}
    metrics = describe_test(config, store, test_set, tested)
    metrics |= evaluate(test_score, test_set.label, counts, config.shots)
    recorder.save(trainer.weights(metrics), "runs.pt")
    plot.curves(recorder.history, recorder.path("curves.png"))
    write_test(recorder, test_set.names, test_score, test_set.label, metrics, config.save_score)
    recorder.log(f"last epoch ({trainer.epoch}), test: {format_summary(metrics)}")
    path = recorder.path("best.pt")
    if not path.is_file():  # a run may be continued elsewhere, from its last.pt alone
        return recorder.log(f"best epoch ({trainer.best['epoch']}): {path} is not there")
    best = checkpoint.load(path)
    if trainer.best["split"] == "test":
        recorder.log(f"best epoch ({best['epoch']}), chosen on the test clips: {format_summary(best['metrics'])}")
    else:
        model.load_state_dict(best["model"])
        reached = evaluate(score(model, test_set, config), test_set.label, counts, config.shots)
        recorder.log(f"best epoch ({best['epoch']}), chosen on held-out clips, test: {format_summary(reached)}")


def refined(criterion, model, config):
    """The criterion for what an FRHead returns in training: the classifier's loss and its own."""

    def loss(output, target):
        logits, features = output
        shares = target.shares(model.backbone.num_class)
        refinement = model.loss((logits * logit_scale(config), features), shares)
        return criterion(logits, target) + config.w_cl_loss * refinement

    return loss


def load_last(config):
    """The last.pt to continue from. Raises ValueError where the run had other options."""
    path = Path(config.work_dir) / "last.pt"
    saved = checkpoint.load(path)
    if not is_ours(saved) or "optimizer" not in saved:
        raise ValueError(f"{path}: not what a training continues from (weights alone go to --weights)")
    for key in [key for key in OPTIONS if key not in FREE]:
        value, was = getattr(config, key), saved["config"].get(key, OPTIONS[key].default)
        if value != was:
            raise ValueError(f"--resume: {key} is {value!r} now and was {was!r} in {path}")
    return saved


def describe_test(config, store, feeder, tested):
    """What test_metrics.json holds beside the metrics, and predictions.json: the weights that are tested, on what, and
    with what done to them.
    """
    facts = {**tested, "classes": store.classes}
    facts |= {"split": config.test_feeder_args.get("split", "test"), "clips": len(feeder)}
    facts["clips_checksum"] = clips_checksum(store, feeder.index)
    if config.adjust_logits:  # by the counts that it draws
        facts["sampler"] = config.sampler
    return facts | {key: getattr(config, key) for key in TESTED}


def check_test(config, facts):
    """Raise ValueError where the directory of this test holds another one, which would be lost."""
    path = Path(config.work_dir) / ("predictions.json" if config.phase == "predict" else "test_metrics.json")
    there = read_json(path) if path.is_file() and not config.overwrite else {}
    if not isinstance(there, dict):
        raise ValueError(f"{path}: not what a test wrote; --overwrite replaces it")
    compared = ("checksum", "sampler", *TESTED, "clips_checksum")
    key = differing(there, {key: facts[key] for key in compared if key in facts})
    if key:
        what = {"checksum": "of other weights", "clips_checksum": "of other clips"}.get(key)
        what = what or f"with {key} {there[key]}, not {facts[key]}"
        raise ValueError(f"{path} is of a test {what}: --work-dir takes another place, --overwrite replaces it")


def differing(there, facts):
    """The first of the facts that is another one there, or None; what earlier versions did not save is right."""
    return next((key for key, value in facts.items() if there.get(key, value) != value), None)


def score(model, feeder, config, team=ALONE):
    """Scores (N, K) of a feeder's clips; each process of a team tests a part of them."""
    N = len(feeder)
    team.share_buffers(bare(model))
    model, batches = model if team.size == 1 else bare(model), feeder.batches(config.test_batch_size, team.rows(N))
    return predict(model, batches, feeder.num_clips, partial(team.gather, N=N), logit_scale(config))


def logit_scale(config):
    """What the loss multiplies the model's output by before the softmax."""
    return config.loss_args.get("scale", LDAM_SCALE) if config.loss == "ldam" else 1.0


def describe_store(store):
    """What a model is trained for: classes, joints and their numbers."""
    return {"classes": store.classes, "layout": describe_layout(store.layout), "channels": store.channels}


def describe_training(store, train_set):
    """And with which clips: how many of each class, and their checksum."""
    clips = {"class_count": train_set.class_count.tolist(), "training_checksum": clips_checksum(store, train_set.index)}
    return {**clips, **describe_store(store)}


def clips_checksum(store, index):
    """A number that other clips, labels, frames of the store or another order would change."""
    words = [f"{store.frames_checksum}", *(store.name[i] for i in index), *map(str, store.label[index].tolist())]
    return zlib.crc32("\n".join(words).encode())


def test(config):
    """Test --weights and write the files of a test; in the phase predict, which needs no labels, predictions.csv."""
    team, devices = distributed.join(parse_device(config.device))
    store, feeder, model, counts, tested = load_trained(config, devices)
    facts = describe_test(config, store, feeder, tested)
    check_test(config, facts)
    with Recorder(config.work_dir, "add", team.writes) as recorder:
        scores = score(model, feeder, config, team)
        if team.writes and config.phase == "predict":
            write_predictions(recorder, feeder.names, scores, facts)
        elif team.writes:
            metrics = facts | evaluate(scores, feeder.label, counts, config.shots)
            write_test(recorder, feeder.names, scores, feeder.label, metrics, config.save_score)
            recorder.log(f"{config.weights}, {len(feeder)} test clips: {format_summary(metrics)}")


def export_model(config):
    """Write the model with --weights as a program, model.pt2, and compare the two on clips of the test split."""
    if config.device not in ([], ["cpu"]):
        raise ValueError("a model is exported on the CPU; torch.export.passes.move_to_device_pass moves the program")
    store, feeder, model, _, _ = load_trained(config, [torch.device("cpu")])
    x, _ = feeder.batch(range(min(4, len(feeder))))
    facts = {"weights": config.weights, "axes": f"N, {feeder.axes}", "shape": ["N", *feeder.shape]}
    facts |= {"modality": config.modality, "test_feeder_args": config.test_feeder_args, **describe_store(store)}
    facts |= {"logit_scale": logit_scale(config), **{key: getattr(config, key) for key in POST_HOC}}
    with Recorder(config.work_dir, "add") as recorder:
        path = recorder.path("model.pt2")
        apart = export(model, torch.cat([x, x]), path, facts)
        recorder.log(
            f"{path}: input ({facts['axes']}) = ({', '.join(map(str, facts['shape']))}), {len(store.classes)} logits, "
            f"which differ from {config.weights} by at most {apart:.1e} of the largest"
        )


def load_trained(config, devices):
    """The store, the feeder of its test split, the model with --weights, the clips of each class in the split that it
    was trained on (None if unknown), and {"weights", "epoch" (None if unknown), "checksum"} of it.
    """
    store = Store(config.data_path)
    feeder = make_feeder(config, store, "test_feeder_args", devices[0])
    saved = checkpoint.load(config.weights)
    model = make_model(config, feeder)
    read_weights(model, saved, config, store)
    if is_ours(saved):
        counts, epoch = saved["class_count"], saved["epoch"]
    elif config.phase != "test" and not config.adjust_logits:
        counts, epoch = None, None
    else:  # published weights do not say which clips they were trained on: presumably those of the config
        train_split = store.split(config.train_feeder_args.get("split", "train"))
        counts, epoch = class_count(store.label[train_split], len(store.classes)), None
    tested = {"weights": config.weights, "epoch": epoch, "checksum": checkpoint.checksum(model)}
    if config.tau_norm:
        tau_normalise(model.fc, config.tau_norm)
    if config.adjust_logits:
        trained_count = np.asarray(saved.get("trained_count", counts) if is_ours(saved) else counts)
        adjust_logits(model.fc, SAMPLERS[config.sampler](trained_count), config.adjust_logits)
    return store, feeder, place(model, devices), counts, tested


def profile_models(config):
    """Print size and speed of the config's model on its test clips; without data, of all models, or the one named."""
    devices = parse_device(config.device)
    where = describe(devices[:1])
    print(f"batches of {config.batch_size} on {where}; GFLOPs a clip, multiply and add counted as one\n")
    print(f"| model | input | {' | '.join(COLUMNS)} |\n{'| --- ' * (2 + len(COLUMNS))}|")
    for name, what, model, x in [profiled(config, devices[0])] if config.data_path else zoo(config):
        figures = profile(model.to(devices[0]), x.to(devices[0]))
        size, flops, *speeds = (figures[column] for column in COLUMNS)
        print(f"| {name} | {what} | {size:,} | {flops:.2f} | {' | '.join(f'{s:.1f}' for s in speeds)} |", flush=True)


def profiled(config, device):
    """(name, input, model, batch) of the config."""
    feeder = make_feeder(config, Store(config.data_path), "test_feeder_args", device)
    x, _ = feeder.batch(range(min(-(-config.batch_size // feeder.num_clips), len(feeder))))
    x = x[torch.arange(config.batch_size, device=x.device) % len(x)]  # of fewer clips some come again
    return config.model, " x ".join(map(str, feeder.shape)), make_model(config, feeder), x


def zoo(config):
    """(name, input, model, batch) of all models or the one named, with the inputs of PYSKL's and MMAction2's tables."""
    one = config.origin["model"] != "default"
    if config.model_args and not one:
        raise ValueError("model_args are for one model: --model says which")
    for name in [config.model] if one else MODELS:
        kind = MODELS[name]
        for layout in ("coco",) if hasattr(kind, "heat_maps") else ("coco", "ntu"):
            joints = len(LAYOUTS[layout].joints)
            shape = (17, 48, 64, 64) if hasattr(kind, "heat_maps") else (3, 100, joints, 2)
            with blame(config, "model_args"):
                model = build_network(config, name, 60, 2, layout, config.model_args)
            yield name, f"{layout} {' x '.join(map(str, shape))}", model, torch.randn(config.batch_size, *shape)


def describe(devices):
    if devices[0].type == "cpu":
        return f"the CPU, {torch.get_num_threads()} threads"
    return ", ".join(f"{device} ({torch.cuda.get_device_name(device)})" for device in devices)


if __name__ == "__main__":
    guarded(main)
