"""Estimate the score threshold of picks from unlabeled peaks and from peaks at labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

ITERATIONS = 60
SPREAD_LIMITS = (0.3, 2.5)  # Range of the standard deviations of particles and background in logits.
LOWEST_LOGIT = -5.0  # Lower peaks are noise and are ignored.
FLAT_TOP = 0.005  # Thresholds with an expected F1 this close to the best are equally good.
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
    """Estimate the logit threshold with the highest expected F1 score.

    The peaks are modeled as a mixture of two normal distributions, particles and background. The fit to all
    peaks starts from the logits at the labels and from the peaks below them. If a range of thresholds is
    equally good, its middle is returned.

    Parameters
    ----------
    peaks
        (n,) logits of unlabeled peaks of a tomogram.
    known
        (m,) logits of peaks at labels, preferably labels that were not used for training.

    Returns
    -------
    float
        Threshold in logits; 0 without labels or with fewer than three peaks.
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
        # A wide background distribution would otherwise include the highest peaks.
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
