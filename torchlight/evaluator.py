"""Scores of a test set, and the files that a test leaves in a run directory."""

import csv
import math
import pickle

import numpy as np
import torch
from torch.nn import functional as F

from . import plot
from .device import tensor_cores, test_mode
from .files import replacing, write_json
from .fold import fold
from .metrics import evaluate_scores


@torch.inference_mode()
def predict(model, batches, num_clips=1, gather=None, scale=1.0):
    """Scores (N, K) float32 of all clips, in the order of the batches.

    batches yields x with num_clips consecutive rows for each sample. One row: its logits. Several: the logarithm of
    the mean of their softmax, so that a softmax of the score gives back the averaged probabilities. gather: called with
    the scores of these batches where they are only a part, it returns those of all. scale: a factor of the logits.
    """
    scores = []
    with test_mode(model):
        folded = fold(model)
        for x in batches:
            logits = in_parts(folded, x).float() * scale
            if num_clips > 1:
                rows = logits.view(-1, num_clips, logits.shape[-1])
                logits = rows.log_softmax(dim=-1).logsumexp(dim=1) - math.log(num_clips)
            scores.append(logits)
    scores = torch.cat(scores)
    return (gather(scores) if gather else scores).cpu().numpy()


@tensor_cores()
def in_parts(model, x):
    """model(x), in halves of x, and halves of them, where a device has not the memory for the whole."""
    try:
        return model(x)
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise
    torch.cuda.empty_cache()
    return torch.cat([in_parts(model, half) for half in x.tensor_split(2)])


def evaluate(score, label, class_count, shots):
    """evaluate_scores, with the cross-entropy `loss`. Raises FloatingPointError for scores that are not finite."""
    check_finite(score)
    loss = F.cross_entropy(torch.from_numpy(score), torch.as_tensor(label)).item()
    return {"loss": round(loss, 6), **evaluate_scores(score, label, class_count, shots)}


def check_finite(score):
    if not np.isfinite(score).all():
        raise FloatingPointError("the model's scores are not finite: its weights are damaged or the training diverged")


def write_predictions(recorder, names, score, facts, most=5, shown=10):
    """Write predictions.csv, the `most` likeliest classes of each clip with their probabilities, and log the first
    clips. Probabilities are the softmax of the scores; after training with the losses gumbel or kps, whose logits are
    not made for it, only their order means something. facts, with the names of the `classes`, go to predictions.json.
    Raises FloatingPointError for scores that are not finite.
    """
    check_finite(score)
    classes = facts["classes"]
    order = np.argsort(-score, axis=1, kind="stable")[:, :most]
    probability, lines = torch.from_numpy(score).softmax(dim=1).numpy(), []
    with replacing(recorder.path("predictions.csv"), "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["clip", "rank", "class", "probability"])
        for i, name in enumerate(names):
            found = [(classes[c], f"{probability[i, c]:.4f}") for c in order[i]]
            table.writerows((name, rank, *what) for rank, what in enumerate(found, start=1))
            if i < shown:
                lines.append(f"{name}: " + ", ".join(f"{action} {share}" for action, share in found))
    write_json(recorder.path("predictions.json"), facts)
    for line in lines:
        recorder.log(line)
    recorder.log(f"{len(names)} clips: {recorder.path('predictions.csv')}")


def write_test(recorder, names, score, label, metrics, save_score=True):
    """Write test_score.pkl (if save_score), test_label.json, test_metrics.json, per_class.csv and the pictures.

    metrics: as from evaluate, with the names of the `classes`. Their file comes last: where it is, all is there.
    """
    classes = metrics["classes"]
    recorder.path("test_metrics.json").unlink(missing_ok=True)
    write_json(recorder.path("test_label.json"), dict(zip(names, map(int, label), strict=True)))
    if save_score:
        with replacing(recorder.path("test_score.pkl")) as file:
            pickle.dump(dict(zip(names, score.astype(np.float32), strict=True)), file)
    else:
        recorder.path("test_score.pkl").unlink(missing_ok=True)  # of an earlier test
    with replacing(recorder.path("per_class.csv"), "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["class", "name", "training_clips", "test_clips", "accuracy"])
        for c, (name, row) in enumerate(zip(classes, metrics["confusion"], strict=True)):
            table.writerow([c, name, metrics["count"][c], sum(row), metrics["per_class"][c]])
    plot.confusion(metrics, classes, recorder.path("confusion.png"))
    plot.per_class({"accuracy": metrics}, classes, recorder.path("per_class.png"))
    write_json(recorder.path("test_metrics.json"), {k: v for k, v in metrics.items() if k != "confusion"})
