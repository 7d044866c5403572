"""A score threshold without knowing the truth, from what peaks and labels look like."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 60
SPREAD_LIMITS = (0.3, 2.5)  # of either kind of peak, in logits
LOWEST_LOGIT = -5.0  # peaks below are noise and tell nothing
FLAT_TOP = 0.005  # thresholds whose expected F1 is this close to the best are equally good
NEUTRAL_LOGIT = 0.0
LOW_PERCENTILE = 10
WEIGHT_OF_LABELS = 1.0


def _normal(x: NDArray[np.float64], mean: float, spread: float) -> NDArray[np.float64]:
    return np.asarray(np.exp(-(((x - mean) / spread) ** 2) / 2) / spread)


def _weighted_normal(x: NDArray[np.float64], weight: NDArray[np.float64]) -> tuple[float, float]:
    total = weight.sum() + 1e-9
    mean = float((weight * x).sum() / total)
    spread = float(np.sqrt((weight * (x - mean) ** 2).sum() / total))
    return mean, float(np.clip(spread, *SPREAD_LIMITS))


def expected_f1_threshold(peaks: NDArray[np.floating], known: NDArray[np.floating]) -> float:
    """The logit above which the expected F1 score is highest.

    Peaks are taken for a mixture of two normal distributions, particles and background. The
    particles' starts at the labels' scores, the background's at the peaks below them; both are
    then fitted to all peaks. Where a range of thresholds is equally good, its middle is returned.

    Parameters
    ----------
    peaks
        (n,) logits of the peaks of a tomogram whose nature is unknown.
    known
        (m,) logits of peaks at labels, best those that were not trained from.

    Returns
    -------
    float
        In logits; 0 where there are no labels or too few peaks to tell.
    """
    x = np.asarray(peaks, dtype=np.float64)
    x = x[x > LOWEST_LOGIT]
    labels = np.asarray(known, dtype=np.float64)
    if len(labels) == 0 or len(x) < 3:
        return NEUTRAL_LOGIT
    particle = (float(np.median(labels)), float(np.clip(labels.std(), *SPREAD_LIMITS)))
    low = x[x < particle[0] - 2 * particle[1]]
    if len(low) < 3:
        return float(min(NEUTRAL_LOGIT, np.percentile(labels, LOW_PERCENTILE)))
    background = _weighted_normal(low, np.ones(len(low)))
    share = np.clip((x > particle[0] - particle[1]).mean(), 0.02, 0.98)
    posterior = np.zeros(len(x))
    for _ in range(ITERATIONS):
        a, b = share * _normal(x, *particle), (1 - share) * _normal(x, *background)
        posterior = a / (a + b + 1e-300)
        # A normal background would claim the peaks that are brighter than any particle.
        posterior[x >= particle[0]] = 1.0
        posterior[x <= background[0]] = 0.0
        share = float(np.clip(posterior.mean(), 0.005, 0.995))
        everything = np.concatenate([x, labels])
        weights = np.concatenate([posterior, np.full(len(labels), WEIGHT_OF_LABELS)])
        particle = _weighted_normal(everything, weights)
        background = _weighted_normal(x, 1 - posterior)
    order = np.argsort(-x)
    found = np.cumsum(posterior[order])
    f1 = 2 * found / (np.arange(1, len(x) + 1) + posterior.sum())
    good = np.flatnonzero(f1 >= f1.max() - FLAT_TOP)
    ranked = x[order]
    below = ranked[min(good[-1] + 1, len(ranked) - 1)]
    return float((ranked[good[0]] + below) / 2)
