from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cryoseg.core.metrics.statistics import compare_methods, holm, mean_with_interval


def test_mean_leaves_out_what_is_undefined() -> None:
    mean = mean_with_interval([0.5, math.nan, 1.0, math.inf])
    assert (mean.value, mean.files, mean.undefined) == (0.75, 2, 2)
    assert 0.5 <= mean.low <= mean.value <= mean.high <= 1.0
    assert math.isnan(mean_with_interval([]).value)
    assert math.isnan(mean_with_interval([0.3]).low)


def test_interval_equals_that_of_scipy() -> None:
    values = np.random.default_rng(1).normal(0.7, 0.1, 30)
    ours = mean_with_interval(values, samples=20_000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=0)
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.003)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.003)
    assert mean_with_interval(values, seed=3) == mean_with_interval(values, seed=3)


def test_holm_by_hand() -> None:
    # Sorted 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1, never falling: 0.04, 0.06, 0.06, 0.06.
    corrected = holm(np.array([0.03, 0.01, math.nan, 0.04, 0.02]))
    assert corrected[[0, 1, 3, 4]] == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert math.isnan(corrected[2])
    assert holm(np.array([0.9, 0.8])) == pytest.approx([1, 1])


def test_comparison_by_hand() -> None:
    better = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]
    worse = [0.8, 0.6, 0.4, 0.2, 0.0, math.nan]
    (one,) = compare_methods("dice", {"a": better, "b": worse})
    # Five positive differences: 2 of 32 sign patterns are as extreme.
    assert one.p_value == pytest.approx(2 / 32)
    assert (one.files, one.difference) == (5, pytest.approx(0.3))
    same = compare_methods("dice", {"a": better, "b": better, "c": worse})
    assert [(c.first, c.second) for c in same] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert same[0].p_value == 1.0
    assert same[1].p_corrected == pytest.approx(3 * 2 / 32)
    (nothing,) = compare_methods("dice", {"a": [math.nan], "b": [1.0]})
    assert math.isnan(nothing.p_value)
