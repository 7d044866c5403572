from __future__ import annotations

import math

import numpy as np

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.metrics.masks import Score, evaluate_mask, micro_metrics


def score(pred: list[int], truth: list[int], *, metrics: tuple[Metric, ...] = (Metric.NEAR,)) -> Score:
    shape = (1, 1, -1)
    config = EvaluateConfig(metrics=metrics, near_distance_px=0)
    return evaluate_mask(
        np.asarray(pred, np.int8).reshape(shape), np.asarray(truth, np.int8).reshape(shape), config
    )


def test_counts_of_files_are_added_before_the_ratios() -> None:
    metrics = micro_metrics([score([1, 0, 0, 0], [1, 0, 0, 0]), score([0, 1, 0, 0], [1, 1, 1, 0])])
    assert math.isclose(metrics["dice"], 2 * 2 / (2 + 4))
    assert metrics["precision"] == 1
    assert metrics["recall"] == 0.5
    assert metrics["recall_0px"] == 0.5
    assert metrics["clear_marked"] == 0
    assert metrics["volume_marked"] == 2 / 8


def test_a_metric_that_one_file_lacks_has_no_micro_mean() -> None:
    whole = score([1, 0], [1, 0])
    bare = score([1, 0], [1, 0], metrics=(Metric.OVERLAP,))
    assert set(micro_metrics([whole, bare])) == {"dice", "iou", "precision", "recall"}
