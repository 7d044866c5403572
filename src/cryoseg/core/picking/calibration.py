"""Calibrate scores: of the picks with a score of 0.8, eight in ten are particles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
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


def fit_calibration(raw: NDArray[np.floating], is_hit: BoolArray) -> Calibration:
    """Fit Platt's calibration with a slope of at least 0 and with smoothed targets.

    Fewer than ten examples, or equal raw scores, give a slope of 1 and the intercept of the share of hits.

    Parameters
    ----------
    raw
        (n,) raw scores.
    is_hit
        (n,) whether each pick is a particle.

    Notes
    -----
    Source: Platt, Probabilistic outputs for support vector machines, 1999.
    """
    hits, misses = int(is_hit.sum()), int((~is_hit).sum())
    high, low = (hits + 1) / (hits + 2), 1 / (misses + 2)
    if hits + misses < LEAST_EXAMPLES or np.ptp(raw) == 0:
        mean = float(np.mean(raw)) if len(raw) else 0.0
        return Calibration(slope=1.0, intercept=float(np.log((hits + 1) / (misses + 1))) - mean)
    center, spread = float(np.mean(raw)), float(np.std(raw))
    x = (np.asarray(raw, np.float64) - center) / spread
    target = np.where(is_hit, high, low)

    def cost(values: NDArray[np.float64]) -> float:
        z = values[0] * x + values[1]
        return float(-(target * log_expit(z) + (1 - target) * log_expit(-z)).mean())

    found = minimize(cost, np.array([1.0, 0.0]), method="L-BFGS-B", bounds=[(0.0, None), (None, None)])
    slope = float(found.x[0]) / spread
    return Calibration(slope=slope, intercept=float(found.x[1]) - slope * center)


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
