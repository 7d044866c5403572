"""Compute means over files with confidence intervals, and compare methods on the same files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Mean:
    """A mean over files.

    Attributes
    ----------
    value
        Mean of the finite values; NaN if there are none.
    low, high
        Limits of the 95 % percentile bootstrap interval; NaN for fewer than two files.
    files, undefined
        Number of finite values, and of undefined or infinite values, which are ignored.
    """

    value: float
    low: float
    high: float
    files: int
    undefined: int


def mean_with_interval(values: Sequence[float], *, samples: int = 2000, seed: int = 0) -> Mean:
    """Compute the mean of a metric over files with a bootstrap interval of `samples` samples.

    NaN and infinity are ignored and counted.
    """
    every = np.asarray(values, np.float64)
    defined = every[np.isfinite(every)]
    low = high = float("nan")
    if defined.size >= 2:
        draws = np.random.default_rng(seed).integers(0, defined.size, (samples, defined.size))
        tail = 50 * (1 - CONFIDENCE)
        low, high = (float(v) for v in np.percentile(defined[draws].mean(axis=1), [tail, 100 - tail]))
    return Mean(
        value=float(defined.mean()) if defined.size else float("nan"),
        low=low,
        high=high,
        files=int(defined.size),
        undefined=int(every.size - defined.size),
    )


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Comparison of two methods on the same files.

    Attributes
    ----------
    metric, first, second
        Names of the metric and of the methods.
    difference
        Mean of the first minus the second method.
    files
        Number of files where both values are finite.
    p_value
        Result of the two-sided Wilcoxon signed-rank test; 1 if no file differs, NaN without files.
    p_corrected
        Value corrected by Holm's method over all pairs of methods of this metric.
    """

    metric: str
    first: str
    second: str
    difference: float
    files: int
    p_value: float
    p_corrected: float


def compare_methods(metric: str, values: Mapping[str, Sequence[float]]) -> list[Comparison]:
    """Compare every pair of methods on one metric.

    Parameters
    ----------
    metric
        Name of the metric.
    values
        Values by name of the method, in the same order of files; NaN if undefined.
    """
    pairs = list(combinations(values, 2))
    results = []
    for first, second in pairs:
        a, b = np.asarray(values[first], float), np.asarray(values[second], float)
        both = np.isfinite(a) & np.isfinite(b)
        results.append((first, second, a[both] - b[both]))
    p_values = np.array([_wilcoxon(difference) for *_, difference in results])
    corrected = holm(p_values)
    return [
        Comparison(
            metric=metric,
            first=first,
            second=second,
            difference=float(difference.mean()) if difference.size else float("nan"),
            files=int(difference.size),
            p_value=float(p),
            p_corrected=float(p_holm),
        )
        for (first, second, difference), p, p_holm in zip(results, p_values, corrected, strict=True)
    ]


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Correct (n,) p-values by Holm's step-down method; NaN does not count as a test."""
    corrected = np.full(len(p_values), np.nan)
    tested = np.flatnonzero(~np.isnan(p_values))
    order = tested[np.argsort(p_values[tested], kind="stable")]
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, float(p_values[index]) * (len(order) - rank)))
        corrected[index] = highest
    return corrected


def _wilcoxon(difference: NDArray[np.float64]) -> float:
    if not difference.size:
        return float("nan")
    nonzero = difference[difference != 0]
    if not nonzero.size:
        return 1.0
    # SciPy computes it exactly for up to 50 files without ties, otherwise by the normal approximation.
    return float(stats.wilcoxon(nonzero).pvalue)
