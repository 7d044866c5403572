"""Calibrate the scores of picks, and choose their threshold.

With calibrated scores, eight of ten picks with a score of 0.8 are particles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit

from cryoseg.types import BoolArray

LEAST_EXAMPLES = 10

BINS = 10  # of the calibration error


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The map from raw scores to sigmoid(slope * raw + intercept)."""

    slope: float
    intercept: float

    def __call__(self, raw: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return scores in [0, 1] for raw scores of any shape."""
        return np.asarray(expit(self.slope * raw + self.intercept), dtype=np.float32)


UNCALIBRATED = Calibration(slope=1.0, intercept=0.0)  # the sigmoid of logits


def fit_calibration(raw: NDArray[np.floating], is_hit: BoolArray | NDArray[np.float64]) -> Calibration:
    """Fit Platt's calibration with a slope of at least 0 and with smoothed targets.

    `raw` are (n,) raw scores, and `is_hit` says (n,) whether each pick is a particle, or with which
    probability. Fewer than ten examples, or equal raw scores, give a slope of 1 and the intercept of the
    share of hits.

    Source: Platt, Probabilistic outputs for support vector machines, 1999.
    """
    hits = float(is_hit.sum())
    misses = len(is_hit) - hits
    high, low = (hits + 1) / (hits + 2), 1 / (misses + 2)
    if hits + misses < LEAST_EXAMPLES or np.ptp(raw) == 0:
        mean = float(np.mean(raw)) if len(raw) else 0.0
        return Calibration(slope=1.0, intercept=float(np.log((hits + 1) / (misses + 1))) - mean)
    center, spread = float(np.mean(raw)), float(np.std(raw))
    x = (np.asarray(raw, np.float64) - center) / spread
    target = is_hit * high + (1 - np.asarray(is_hit, np.float64)) * low

    def cost(values: NDArray[np.float64]) -> float:
        z = values[0] * x + values[1]
        return float(-(target * log_expit(z) + (1 - target) * log_expit(-z)).mean())

    from scipy.optimize import minimize  # slow to import

    found = minimize(cost, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    slope = float(found.x[0]) / spread
    return Calibration(slope=slope, intercept=float(found.x[1]) - slope * center)


def count_for_precision(scores: NDArray[np.floating], precision: float) -> int:
    """Return how many of (n,) calibrated scores, best first, have at least this mean."""
    means = np.cumsum(scores, dtype=np.float64) / np.arange(1, len(scores) + 1)
    return int(np.searchsorted(-means, -precision, side="right"))


def count_for_false_picks(scores: NDArray[np.floating], most: float) -> int:
    """Return how many of (n,) calibrated scores, best first, hold at most `most` false picks as expected."""
    return int(np.searchsorted(np.cumsum(1 - np.asarray(scores, np.float64)), most, side="right"))


def expected_f1(scores: NDArray[np.floating], *, missed: float = 0.0) -> float:
    """Return the highest expected F1 of the best picks; 0 without picks.

    Parameters
    ----------
    scores
        (n,) calibrated scores, best first, of all candidates.
    missed
        Number of particles without a candidate.
    """
    if not len(scores):
        return 0.0
    hits = np.cumsum(scores, dtype=np.float64)
    return float(np.max(2 * hits / (np.arange(1, len(scores) + 1) + hits[-1] + missed)))


def expected_calibration_error(scores: NDArray[np.floating], is_hit: BoolArray) -> float:
    """Return the mean difference between score and share of hits over bins of equal width.

    The bins are weighted by their number of picks. Both arrays have the shape (n,); without picks the
    result is NaN.
    """
    if not len(scores):
        return float("nan")
    place = np.clip((np.asarray(scores) * BINS).astype(int), 0, BINS - 1)
    gaps = [
        abs(float(scores[place == b].mean()) - float(is_hit[place == b].mean())) * np.mean(place == b)
        for b in range(BINS)
        if (place == b).any()
    ]
    return float(np.sum(gaps))


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


def analyze_peaks(
    peaks: NDArray[np.floating], known: NDArray[np.floating], *, labels: int | None = None
) -> tuple[float, Calibration]:
    """Estimate the threshold and the calibration of logits from peaks without and with a label.

    The result is the logit threshold with the highest expected F1, and the map from logits to the probability
    that a peak is a particle, which is the sigmoid if it cannot be estimated.

    The peaks are modeled as a mixture of two normal distributions, particles and background. The fit to all
    peaks starts from the logits at the labels and from the peaks below them. If a range of thresholds is
    equally good, its middle is returned. Without labels or with fewer than three peaks it is 0. The
    calibration is fitted to the probabilities of the mixture and to the labels.

    Parameters
    ----------
    peaks
        (n,) logits of unlabeled peaks of a tomogram.
    known
        (m,) logits of peaks at labels, preferably labels that were not used for training.
    labels
        Number of labels that `known` stands for, which decides the share of particles; None for m.
    """
    x = np.asarray(peaks, dtype=np.float64)
    x = x[x > LOWEST_LOGIT]
    at_labels = np.asarray(known, dtype=np.float64)
    if len(at_labels) == 0 or len(x) < 3:
        return NEUTRAL_LOGIT, UNCALIBRATED
    particle = (float(np.median(at_labels)), float(np.clip(at_labels.std(), *SPREAD_LIMITS)))
    low = x[x < particle[0] - 2 * particle[1]]
    if len(low) < 3:
        return float(min(NEUTRAL_LOGIT, np.percentile(at_labels, LOW_PERCENTILE))), UNCALIBRATED
    posterior = _posterior(x, at_labels, particle, low)
    order = np.argsort(-x)
    found = np.cumsum(posterior[order])
    f1 = 2 * found / (np.arange(1, len(x) + 1) + posterior.sum())
    good = np.flatnonzero(f1 >= f1.max() - FLAT_TOP)
    ranked = x[order]
    below = ranked[min(good[-1] + 1, len(ranked) - 1)]
    labeled = np.resize(at_labels, labels or len(at_labels))
    calibration = fit_calibration(
        np.concatenate([x, labeled]), np.concatenate([posterior, np.ones(len(labeled))])
    )
    # A slope of 0 would give all picks the same score.
    return float((ranked[good[0]] + below) / 2), calibration if calibration.slope > 0 else UNCALIBRATED


def _posterior(
    x: NDArray[np.float64],
    labels: NDArray[np.float64],
    particle: tuple[float, float],
    low: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Return the (n,) probabilities that unlabeled peaks with the logits `x` are particles.

    `particle` is the first mean and standard deviation of particles, `low` are the logits of the first
    background.
    """
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
    return posterior
