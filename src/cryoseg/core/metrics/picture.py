"""Metrics of salient object detection for the mask of a picture.

Source: xinkunwang111/ProMISe ProMISe/train.py@ce0cfdb; Fan et al., Structure-measure, 2017;
Fan et al., Enhanced-alignment measure, 2018; Margolin et al., How to evaluate foreground maps, 2014.
The functions follow the papers; the tests compare them with results of PySODMetrics 1.6.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.core.metrics.overlap import count_overlap
from cryoseg.types import BoolArray

F_BETA_SQUARED = 0.3
ALPHA = 0.5  # Weight of the object score in the S-measure.
FADING_PIXELS = 5.0  # Distance from the truth in pixels at which errors have 1.5 times the weight.
BLUR_SIGMA, BLUR_REACH = 5.0, 3
EPSILON = np.finfo(np.float64).eps


@dataclass(frozen=True, kw_only=True)
class PictureScore:
    """Metrics of one picture; NaN where a metric is not defined.

    Attributes
    ----------
    iou, dice
        1 if prediction and truth are both empty.
    mae
        Share of wrong pixels.
    s_measure, e_measure
        Structure measure and enhanced-alignment measure.
    f_beta
        F-measure (1 + b) P R / (b P + R) with b = 0.3; 1 if both masks are empty, 0 if one is.
    weighted_f
        F-measure with errors weighted by position; NaN if the truth is empty.
    """

    iou: float
    dice: float
    mae: float
    s_measure: float
    e_measure: float
    f_beta: float
    weighted_f: float


def score_picture(prediction: BoolArray, truth: BoolArray) -> PictureScore:
    """Compare two (y, x) masks of one picture, which must have the same shape."""
    overlap = count_overlap(prediction[None], truth[None])
    both = overlap.true_positives
    marked, true = both + overlap.false_positives, both + overlap.false_negatives
    return PictureScore(
        iou=overlap.iou,
        dice=overlap.dice,
        mae=float(np.mean(prediction != truth)),
        s_measure=structure_measure(prediction, truth),
        e_measure=alignment_measure(prediction, truth),
        # This is the formula with P = both / marked and R = both / true.
        f_beta=1.0 if marked + true == 0 else (1 + F_BETA_SQUARED) * both / (F_BETA_SQUARED * true + marked),
        weighted_f=weighted_f_measure(prediction, truth),
    )


def structure_measure(prediction: BoolArray, truth: BoolArray) -> float:
    """Return the S-measure of (y, x) masks: the similarity of objects and of quarters."""
    values = prediction.astype(np.float64)
    share = float(truth.mean())
    if share in (0.0, 1.0):
        return float(values.mean()) if share else 1 - float(values.mean())
    objects = share * _object_score(values[truth]) + (1 - share) * _object_score(1 - values[~truth])
    y, x = (int(np.rint(place)) + 1 for place in ndimage.center_of_mass(truth))
    regions = 0.0
    for rows in (slice(0, y), slice(y, None)):
        for columns in (slice(0, x), slice(x, None)):
            piece = truth[rows, columns]
            if piece.size:
                regions += piece.size / truth.size * _region_score(values[rows, columns], piece)
    return max(0.0, ALPHA * objects + (1 - ALPHA) * regions)


def _object_score(values: NDArray[np.float64]) -> float:
    mean = values.mean()
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return float(2 * mean / (mean**2 + 1 + spread + EPSILON))


def _region_score(values: NDArray[np.float64], truth: BoolArray) -> float:
    """Return the structural similarity of a quarter from its global means and variances."""
    a, b = values, truth.astype(np.float64)
    count = max(a.size - 1, 1)
    mean_a, mean_b = a.mean(), b.mean()
    spread = (((a - mean_a) ** 2).sum() + ((b - mean_b) ** 2).sum()) / count
    shared = ((a - mean_a) * (b - mean_b)).sum() / count
    above = 4 * mean_a * mean_b * shared
    below = (mean_a**2 + mean_b**2) * spread
    if above != 0:
        return float(above / (below + EPSILON))
    return 1.0 if below == 0 else 0.0


def alignment_measure(prediction: BoolArray, truth: BoolArray) -> float:
    """Return the E-measure of (y, x) masks: the agreement of their deviations from the means."""
    share, marked = truth.mean(), prediction.mean()
    if share == 0:
        return float(1 - marked)
    if share == 1:
        return float(marked)
    a, b = prediction - marked, truth - share
    alignment = 2 * a * b / (a**2 + b**2 + EPSILON)
    return float(((alignment + 1) ** 2 / 4).mean())


def weighted_f_measure(prediction: BoolArray, truth: BoolArray) -> float:
    """Return the weighted F-measure of (y, x) masks.

    Missed pixels near found ones have a low weight, false pixels far from the truth a high weight.
    """
    if not truth.any():
        return float("nan")
    error = (prediction != truth).astype(np.float64)
    distance, nearest = ndimage.distance_transform_edt(~truth, return_indices=True)
    # Pixels outside the truth get the error of its nearest pixel, so that the blur mixes errors inside only.
    spread = ndimage.gaussian_filter(
        np.where(truth, error, error[tuple(nearest)]), BLUR_SIGMA, radius=BLUR_REACH, mode="constant"
    )
    smallest = np.where(truth & (spread < error), spread, error)
    weight = np.where(truth, 1.0, 2 - np.exp(np.log(0.5) / FADING_PIXELS * distance))
    wrong = smallest * weight
    hits = truth.sum() - wrong[truth].sum()
    recall = 1 - wrong[truth].mean()
    precision = hits / (hits + wrong[~truth].sum() + EPSILON)
    return float(2 * recall * precision / (recall + precision + EPSILON))
