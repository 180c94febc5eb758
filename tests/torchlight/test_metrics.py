import numpy as np
import pytest

from torchlight.metrics import evaluate_scores, format_summary, rank

# Six clips of classes 0, 0, 0, 1, 1, 3 (2 is absent, 4 is only predicted), five classes.
SCORE = np.array(
    [[5, 1, 0, 0, 0], [0, 5, 1, 0, 0], [3, 2, 1, 0, 0], [0, 9, 0, 0, 0], [1, 0, 0, 0, 8], [0, 1, 2, 3, 4]], dtype=float
)
LABEL = np.array([0, 0, 0, 1, 1, 3])


def test_by_hand():
    metrics = evaluate_scores(SCORE, LABEL, [300, 50, 30, 5, 1], shots=(20, 100))
    assert metrics["top1"] == 50.0 and metrics["top5"] == 100.0
    assert metrics["per_class"] == [66.6667, 50.0, None, 0.0, None]
    assert metrics["mean_class"] == pytest.approx((66.6667 + 50) / 3, abs=1e-4)
    assert (metrics["many"], metrics["medium"], metrics["few"]) == (66.6667, 50.0, 0.0)
    assert metrics["confusion"] == [
        [2, 1, 0, 0, 0], [0, 1, 0, 0, 1], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]
    ]  # fmt: skip
    assert metrics["count"] == [300, 50, 30, 5, 1]


def test_limits_of_the_groups():
    def group(count):
        metrics = evaluate_scores(np.ones((1, 1)), np.array([0]), [count], shots=(20, 100))
        return [name for name in ("many", "medium", "few") if metrics[name] is not None]

    assert [group(n) for n in (19, 20, 100, 101)] == [["few"], ["medium"], ["medium"], ["many"]]


def test_unknown_counts_make_no_groups():
    metrics = evaluate_scores(SCORE, LABEL, None)
    assert metrics["many"] is metrics["medium"] is metrics["few"] is metrics["count"] is None and metrics["top1"] == 50
    assert "many -  medium -  few -" in format_summary(metrics)


def test_rank():
    assert rank(SCORE, LABEL).tolist() == [0, 2, 0, 0, 2, 1]
    assert rank(np.zeros((2, 3)), np.array([0, 2])).tolist() == [0, 2]  # ties go to the lower class
    rng = np.random.default_rng(0)
    score, label = rng.integers(0, 9, (200, 30)).astype(float), rng.integers(0, 30, 200)
    order = np.argsort(-score, axis=1, kind="stable")
    assert (order[np.arange(200), rank(score, label)] == label).all()
    assert rank(np.array([[np.nan, 1.0], [1.0, np.nan]]), np.array([0, 0])).tolist() == [2, 1]


def test_a_result_on_464_clips_is_a_multiple_of_a_clip():
    rng = np.random.default_rng(0)
    metrics = evaluate_scores(rng.normal(size=(464, 10)), rng.integers(0, 10, 464), [1] * 10)
    assert metrics["top1"] * 464 / 100 == pytest.approx(round(metrics["top1"] * 4.64), abs=1e-3)
