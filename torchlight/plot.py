"""Pictures of a run: confusion matrix, per-class bars, learning curves."""

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

from .files import replacing

plt.rcParams["text.parse_math"] = False  # names of classes are no formulas
BLUE, ORANGE, GREY = "#2b6cb0", "#dd6b20", "#d5dbe3"


def _save(figure, path):
    with replacing(path) as file:
        figure.savefig(file, format="png", dpi=130, bbox_inches="tight")
    plt.close(figure)


def confusion(metrics, classes, path):
    """Confusion matrix, rows normalised to the test clips of the true class; classes without clips stay white.

    Classes are named, of more than 100 numbered: names would be too small to read.
    """
    counts = np.asarray(metrics["confusion"], dtype=float)
    K = len(classes)
    share = np.divide(
        counts,
        counts.sum(axis=1, keepdims=True),
        where=counts.sum(axis=1, keepdims=True) > 0,
        out=np.full_like(counts, np.nan),
    )
    size = min(max(4.5, 0.42 * K), 22)
    figure, axes = plt.subplots(figsize=(size + 1, size))
    image = axes.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    fontsize = 9 if K <= 30 else 260 / K
    if K <= 100:
        axes.set_xticks(range(K), classes, rotation=90, fontsize=fontsize)
        axes.set_yticks(range(K), classes, fontsize=fontsize)
    axes.set(xlabel="predicted", ylabel="true", title=f"top-1 {metrics['top1']:.2f} %")
    if K <= 30:
        for row, column in zip(*np.nonzero(counts), strict=True):
            value = share[row, column]
            axes.text(
                column,
                row,
                f"{100 * value:.0f}",
                ha="center",
                va="center",
                fontsize=7,
                color="white" if value > 0.5 else "black",
            )
    figure.colorbar(image, ax=axes, shrink=0.75, label="% of the true class")
    _save(figure, path)


def per_class(results, classes, path):
    """Bars of per-class accuracy, classes by falling number of training clips, those numbers behind them.

    results: {name: metrics}, one or several side by side, all of the same training set; foreign ones may come without
    `count`, but not all of them.
    """
    count = np.asarray(next(metrics["count"] for metrics in results.values() if metrics["count"]))
    order = np.argsort(-count, kind="stable")
    K = len(order)
    figure, axes = plt.subplots(figsize=(min(max(7, 0.55 * K), 26), 4))
    behind = axes.twinx()
    behind.bar(range(K), count[order], width=0.95, color=GREY)
    behind.set_ylabel("training clips")
    behind.set_ylim(0, max(1, count.max()) * 1.05)
    axes.set_zorder(behind.get_zorder() + 1)
    axes.patch.set_visible(False)
    width = 0.8 / len(results)
    colors = [BLUE, ORANGE, "#2f855a", "#805ad5", "#b83280", "#718096"]
    for i, (name, metrics) in enumerate(results.items()):
        values = [metrics["per_class"][c] or 0 for c in order]
        offset = (i - (len(results) - 1) / 2) * width
        axes.bar(
            np.arange(K) + offset,
            values,
            width=width * 0.92,
            color=colors[i % len(colors)],
            label=f"{name} ({metrics['mean_class']:.1f} %)",
        )
    rotation, fontsize = (30, 9) if K <= 30 else (90, max(4, 400 / K))
    axes.set_xticks(range(K), [classes[c] for c in order], rotation=rotation, ha="right", fontsize=fontsize)
    axes.set(ylabel="accuracy, %", ylim=(0, 105), xlim=(-0.6, K - 0.4))
    fits = sum(len(name) + 13 for name in results) <= 13 * figure.get_figwidth()  # letters an inch
    columns = len(results) if fits else 2
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=columns, frameon=False, title="mean over classes")
    _save(figure, path)


def curves(history, path):
    """Learning curves from the lines of metrics.jsonl: loss and learning rate; accuracies in training and test."""
    epochs = [line["epoch"] for line in history]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6))
    left.plot(epochs, [line["train_loss"] for line in history], color=BLUE, label="training loss")
    left.set(xlabel="epoch", ylabel="loss")
    rate = left.twinx()
    rate.plot(epochs, [line["lr"] for line in history], color=GREY, label="learning rate")
    rate.set_ylabel("learning rate")
    left.set_zorder(rate.get_zorder() + 1)
    left.patch.set_visible(False)
    right.plot(epochs, [line["train_top1"] for line in history], color=BLUE, label="training")
    for split, color in (("val", "#2f855a"), ("test", ORANGE)):
        points = [(line["epoch"], line[split]) for line in history if line.get(split)]
        for key, style in (("top1", "-"), ("few", ":")):
            values = [(epoch, metrics[key]) for epoch, metrics in points if metrics[key] is not None]
            if values:
                name = split if key == "top1" else f"{split}, few-shot classes"
                right.plot(*zip(*values, strict=True), style, marker=".", color=color, label=name)
    right.set(xlabel="epoch", ylabel="accuracy, %", ylim=(0, 103))
    right.legend(frameon=False)
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.tight_layout()
    _save(figure, path)
