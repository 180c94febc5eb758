import numpy as np
from matplotlib import image

from torchlight import plot
from torchlight.metrics import evaluate_scores


def metrics(K, seed=0):
    rng = np.random.default_rng(seed)
    return evaluate_scores(rng.normal(size=(50, K)), rng.integers(0, K - 1, 50), list(range(K, 0, -1)), (2, 5))


def drawn(path):
    pixels = image.imread(path)
    return min(pixels.shape[:2]) > 200 and pixels[..., :3].std() > 0.02


def test_pictures(tmp_path):
    names = ["pay $x_{$", *(f"class {c}" for c in range(1, 8))]
    plot.confusion(metrics(8), names, tmp_path / "a.png")
    plot.per_class({"one": metrics(8), "other": metrics(8, 1)}, names, tmp_path / "b.png")
    plot.confusion(metrics(120), list(map(str, range(120))), tmp_path / "c.png")
    history = [
        {"epoch": e, "train_loss": 1 / e, "train_top1": 10 * e, "lr": 0.1, "test": metrics(8)} for e in (1, 2, 3)
    ]
    plot.curves([*history, {"epoch": 4, "train_loss": 0.2, "train_top1": 50.0, "lr": 0.1}], tmp_path / "d.png")
    assert all(drawn(tmp_path / f"{name}.png") for name in "abcd")
    assert len(list(tmp_path.iterdir())) == 4
