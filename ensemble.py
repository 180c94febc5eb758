"""Fuse the scores of any number of streams.

    python ensemble.py --joint-dir results/demo/brl/joint --bone-dir results/demo/brl/bone --out results/demo/fused

A stream is a run directory, or a score file: {name: scores} or a list of scores in the order of --label. Scores are
summed with weights; samples are joined by name.
"""

import argparse
import pickle
import re
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from torchlight.errors import guarded
from torchlight.files import load_pickle, read_json, replacing, write_json
from torchlight.metrics import evaluate_scores, format_summary

STREAMS = ("joint", "bone", "skip", "joint-motion", "bone-motion", "skip-motion")
PRESETS = {  # the weights of BRL and PYSKL
    "two": {"joint": 1, "bone": 1},
    "four": {"joint": 2, "bone": 2, "joint-motion": 1, "bone-motion": 1},
    "six": {"joint": 2, "bone": 2, "skip": 2, "joint-motion": 1, "bone-motion": 1, "skip-motion": 1},
}
SCORE_FILES = ("test_score.pkl", "epoch1_test_score.pkl")  # ours; CTR-GCN's and FR-Head's


def read_scores(path):
    """Names or positions of a stream's samples, scores (N, K) float64, and the file they are from.

    Raises ValueError or OSError naming the file.
    """
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in SCORE_FILES if (path / name).is_file()]
        if not found:
            raise FileNotFoundError(
                2, f"no {' or '.join(SCORE_FILES)} in it; main.py --phase test writes one", str(path)
            )
        path = found[0]
    content = load_pickle(path)
    if isinstance(content, list | tuple) or (isinstance(content, np.ndarray) and content.ndim):
        content = dict(enumerate(content))
    if not isinstance(content, dict) or not content:
        raise ValueError(f"{path}: neither {{name: scores}} nor a list of scores")
    try:
        for key, row in content.items():
            content[key] = real_row(row)
    except ValueError as error:
        raise ValueError(f"{path}: the scores of {key} are not an array of K real numbers ({error})") from None
    sizes = {row.size for row in content.values()}
    if len(sizes) > 1:
        raise ValueError(f"{path}: samples have {min(sizes)} to {max(sizes)} scores; they must have the same classes")
    scores = np.concatenate([*content.values()], axis=None, dtype=np.float64).reshape(len(content), sizes.pop())
    finite = np.isfinite(scores).all(axis=1)
    if not finite.all():
        raise ValueError(f"{path}: the scores of {list(content)[finite.argmin()]} are not finite")
    return list(content), scores, path


def real_row(row):
    """The scores of a sample as an array. Raises ValueError for what is not real numbers of shape (K,) or (1, K)."""
    row = np.asarray(row)
    if row.dtype.kind not in "iuf" or row.shape not in ((row.size,), (1, row.size)):
        raise ValueError(f"type {row.dtype}, shape {row.shape}")
    return row


def read_labels(path):
    """{name: label}, or {position: label} where the file has no names. Raises ValueError or OSError naming the file.

    .json: {name: label} or a list; .npy: labels; .npz: `y_test`, one-hot or labels (CTR-GCN, NTU RGB+D); .pkl: a list
    of labels, (names, labels) (2s-AGCN), or a list of {"file_name", "label" from 1 on} (CTR-GCN, NW-UCLA).
    FILE:SPLIT: a split of a store (.h5) or of PYSKL's annotations (.pkl).
    """
    path = Path(path)
    file, _, split = str(path).rpartition(":")
    if path.suffix == ".h5":
        raise ValueError(f"{path}: of a store a split is needed: {path}:SPLIT")
    if not path.exists() and Path(file).suffix in (".h5", ".pkl", ".pickle"):
        content = split_labels(file, split)
    elif path.suffix == ".json":
        content = read_json(path)
    elif path.suffix in (".npy", ".npz"):
        try:
            content = np.load(path, allow_pickle=False)
            if isinstance(content, np.ndarray) == (path.suffix == ".npz"):
                raise ValueError(f"its content is not that of a {path.suffix} file")
            content = content["y_test"] if path.suffix == ".npz" else content
            if content.ndim == 2 and content.shape[1]:  # one-hot, or a column
                content = content.argmax(axis=1) if content.shape[1] > 1 else content[:, 0]
        except (ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ValueError(f"{path}: not a file of labels ({error})") from None
    else:
        content = load_pickle(path)
    labels = {}
    try:
        for key, label in label_pairs(content, path.suffix != ".json"):
            if key in labels:
                raise ValueError(f"two of {key}")
            labels[key] = int(label)
            if labels[key] != label:
                raise ValueError(f"{label!r} of {key}")
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise ValueError(f"{path}: not whole numbers, by name or in a list ({error})") from None
    if not labels:
        raise ValueError(f"{path}: holds no labels")
    return labels


def split_labels(path, split):
    """{name: label} of a split of a store or of PYSKL's annotations, in the order of its clips there."""
    if Path(path).suffix == ".h5":
        from feeders import Store  # here: PyTorch takes longer to start than all of the below

        store = Store(path)
        return {store.name[i]: store.label[i] for i in store.split(split)}
    content = load_pickle(path)
    try:
        wanted = set(content["split"][split])
        return {clip["frame_dir"]: clip["label"] for clip in content["annotations"] if clip["frame_dir"] in wanted}
    except (TypeError, KeyError) as error:
        raise ValueError(f"{path}: not annotations with a split {split!r} ({error})") from None


def label_pairs(content, pickled):
    """(name or position, label) of every sample of a file of labels; `pickled` ones have forms of their own."""
    if isinstance(content, dict):
        return content.items()
    if pickled and isinstance(content, list | tuple) and len(content) == 2 and isinstance(content[0], list | tuple):
        return zip(*content, strict=True)
    if pickled and isinstance(content, list) and content and isinstance(content[0], dict):
        return ((clip["file_name"], clip["label"] - 1) for clip in content)
    return enumerate(content)


def collect_labels(sources, label_path):
    """Labels of all samples, and the file they are from: --label, or the test_label.json beside the scores.

    sources: the score files. Raises ValueError where the files beside them disagree, or there is none.
    """
    if label_path:
        return read_labels(label_path), Path(label_path)
    found = [path.parent / "test_label.json" for path in sources if (path.parent / "test_label.json").is_file()]
    if not found:
        raise ValueError(f"{sources[0]}: no test_label.json beside it; give the labels with --label")
    labels = read_labels(found[0])
    for path in found[1:]:
        if path.read_bytes() != found[0].read_bytes() and read_labels(path) != labels:
            raise ValueError(f"{path}: other labels than in {found[0]}")
    return labels, found[0]


def join(keys, scores, path, labels, label_path, given):
    """Scores (N, K) of samples called `keys`, in the order of the labels. Positions stand for the order of the labels,
    of --label (`given`) or of those beside the scores.

    Raises ValueError, naming the file, where its samples are not those of the labels.
    """
    own = given or (path.parent / "test_label.json").is_file()
    if not own and all(position(key) is not None for key in keys):
        raise ValueError(f"{path}: names no samples: --label has to say whose scores these are, in their order")
    names = list(labels)
    if keys == names:
        return scores
    rows = {key: row for row, key in enumerate(keys)}
    if not rows.keys() <= labels.keys():
        # CTR-GCN's and FR-Head's feeders call clips 0, 1, … or test_0, test_1, …: places in the list of labels
        positions = [position(key) for key in keys]
        if set(positions) == set(range(len(keys))):
            if len(keys) != len(names):
                raise ValueError(f"{path}: {len(keys)} samples by position, but {label_path} has {len(names)} labels")
            return scores[np.argsort(positions)]
    missing, extra = [n for n in names if n not in rows], [n for n in keys if n not in labels]
    if missing or extra:
        what = (
            f"lacks {len(missing)} samples ({missing[0]}, …)" if missing else f"has {len(extra)} more ({extra[0]}, …)"
        )
        raise ValueError(f"{path}: {what} than {label_path}; streams must be tested on the same samples")
    return scores[[rows[name] for name in names]]


def position(key):
    """The place that a sample's key stands for, or None where it is a name."""
    match = re.fullmatch(r"(?:(?:train|test|val)_)?(\d+)", str(key))
    return int(match[1]) if match else None


def stream_weights(streams, preset, alpha):
    """{stream: weight} from --preset, --alpha, or by default 2 for a still and 1 for a motion stream."""
    if preset:
        if alpha:
            raise ValueError("--preset and --alpha exclude each other")
        if set(streams) != set(PRESETS[preset]):
            flags = " ".join(f"--{stream}-dir" for stream in PRESETS[preset])
            raise ValueError(f"--preset {preset} takes exactly {flags}")
        return {stream: float(PRESETS[preset][stream]) for stream in streams}
    if not alpha:
        return {stream: 1.0 if stream.endswith("motion") else 2.0 for stream in streams}
    if not np.isfinite(alpha).all() or not any(alpha):
        raise ValueError(f"--alpha takes finite weights that are not all 0, not {alpha}")
    if len(alpha) == 1 and len(streams) == 2:  # as in CTR-GCN: the weight of the second stream
        alpha = [1.0, *alpha]
    if len(alpha) != len(streams):
        raise ValueError(f"--alpha has {len(alpha)} weights for {len(streams)} streams ({', '.join(streams)})")
    return dict(zip(streams, alpha, strict=True))


def to_probabilities(scores, paths, wanted):
    """Scores of all streams as they are, or if `wanted` as probabilities, which those of PYSKL and BRL are already.

    Raises ValueError where only some of the streams hold probabilities and they are not wanted.
    """
    done = {stream: bool((s >= 0).all() and np.allclose(s.sum(axis=1), 1, atol=1e-3)) for stream, s in scores.items()}
    if not wanted:
        if len(set(done.values())) > 1:
            files = ", ".join(str(paths[stream]) for stream in scores if done[stream])
            raise ValueError(f"{files}: holds probabilities, other streams hold logits; give --softmax")
        return scores
    return {stream: s if done[stream] else softmax(s) for stream, s in scores.items()}


def softmax(score):
    p = np.exp(score - score.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def training_facts(sources, num_class):
    """Class counts (None if unknown), shot limits and class names, from the test_metrics.json beside the scores.

    Raises ValueError where streams differ in them.
    """
    sizes = {"count": num_class, "shots": 2, "classes": num_class}
    found = {}
    for path in (source.parent / "test_metrics.json" for source in sources):
        facts = read_json(path) if path.is_file() else {}
        facts = {key: facts.get(key) for key in sizes} if isinstance(facts, dict) else {}
        if facts and all(isinstance(facts[key], list) and len(facts[key]) == size for key, size in sizes.items()):
            found[path] = facts
    first = next(iter(found), None)
    for path, facts in found.items():
        for key, what in (("count", "numbers of training clips"), ("shots", "shots"), ("classes", "classes")):
            if facts[key] != found[first][key]:
                raise ValueError(f"{path}: has other {what} than {first}")
    return tuple(found[first].values()) if found else (None, (20, 100), [str(c) for c in range(num_class)])


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise ValueError(f"{message} (see ensemble.py --help)")


def main(argv):
    parser = Parser(description=__doc__, allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter)
    for stream in STREAMS:
        parser.add_argument(
            f"--{stream}-dir", metavar="DIR", help=f"run directory or score file of the {stream} stream"
        )
    parser.add_argument(
        "--preset", choices=list(PRESETS), help="weights of BRL: two 1 1, four 2 2 1 1, six 2 2 2 1 1 1"
    )
    alpha = "a weight for each stream, in the order above; of two the second's will do [2, and 1 for motion streams]"
    parser.add_argument("--alpha", type=float, nargs="+", help=alpha)
    parser.add_argument("--softmax", action="store_true", help="sum probabilities (PYSKL, BRL), not logits (CTR-GCN)")
    label = "{name: label} or a list as .json, .npy, CTR-GCN's .npz, .pkl; STORE.h5:SPLIT, PYSKL's FILE.pkl:SPLIT"
    parser.add_argument("--label", help=label)
    parser.add_argument("--out", help="directory for ensemble_metrics.json, ensemble_score.pkl, confusion.png")
    arguments = parser.parse_args(argv)
    given = {stream: getattr(arguments, f"{stream.replace('-', '_')}_dir") for stream in STREAMS}
    given = {stream: path for stream, path in given.items() if path}
    if not given:
        raise ValueError("give at least one stream, like --joint-dir (see ensemble.py --help)")
    if arguments.out and any((Path(arguments.out) / name).exists() for name in ("config.yaml", "test_metrics.json")):
        raise ValueError(f"{arguments.out} holds a run: --out takes another directory")
    weights = stream_weights(list(given), arguments.preset, arguments.alpha)

    read = {stream: read_scores(path) for stream, path in given.items()}
    sources = [path for _, _, path in read.values()]
    first = {}
    for stream, (_, _, path) in read.items():
        other = first.setdefault(path.resolve(), stream)
        if other != stream:
            raise ValueError(f"--{other}-dir and --{stream}-dir name the same scores, {path}")
    labels, label_path = collect_labels(sources, arguments.label)
    scores = {stream: join(*found, labels, label_path, arguments.label) for stream, found in read.items()}
    K = next(iter(scores.values())).shape[1]
    for stream, (_, _, path) in read.items():
        if scores[stream].shape[1] != K:
            raise ValueError(f"{path}: {scores[stream].shape[1]} classes, but {sources[0]} has {K}")
    label = np.array(list(labels.values()))
    if label.min() < 0 or label.max() >= K:
        raise ValueError(f"{label_path}: labels {label.min()} to {label.max()}, but the scores have {K} classes")

    count, shots, classes = training_facts(sources, K)
    scores = to_probabilities(scores, dict(zip(read, sources, strict=True)), arguments.softmax)
    streams = {}
    for stream, score in scores.items():
        streams[stream] = evaluate_scores(score, label, count, shots)
        print(f"{stream:13s} x {weights[stream]:g}  {format_summary(streams[stream])}")
    fused = sum(weights[stream] * score for stream, score in scores.items())
    metrics = evaluate_scores(fused, label, count, shots)
    print(f"{'fused':13s}      {format_summary(metrics)}")
    if arguments.out:
        out = Path(arguments.out)
        out.mkdir(parents=True, exist_ok=True)
        single = {
            stream: {k: v for k, v in m.items() if k not in ("confusion", "count")} for stream, m in streams.items()
        }
        summary = {
            "weights": weights,
            "softmax": arguments.softmax,
            "sources": dict(zip(read, map(str, sources), strict=True)),
        }
        summary |= {"shots": shots, "classes": classes} if count else {}
        summary |= {k: v for k, v in metrics.items() if k != "confusion"} | {"streams": single}
        write_json(out / "ensemble_metrics.json", summary)
        with replacing(out / "ensemble_score.pkl") as file:
            pickle.dump(dict(zip(labels, fused.astype(np.float32), strict=True)), file)
        from torchlight import plot  # here: Matplotlib takes longer to start than all of the above

        plot.confusion(metrics, classes, out / "confusion.png")


if __name__ == "__main__":
    guarded(main)
