"""Score picks: precision and recall at one and at all score thresholds, and position errors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.metrics.matching import assign, assign_cetpick, find_neighbors, matched_in_order
from cryoseg.core.metrics.overlap import Counts
from cryoseg.errors import InputError
from cryoseg.types import BoolArray, Points


@dataclass(frozen=True, kw_only=True)
class PickCurve:
    """Picks in the order of their scores, from which precision and recall at all thresholds follow.

    Attributes
    ----------
    scores, is_hit
        (n,) descending scores of the picks that count, and (n,) whether each pick enlarges the largest
        matching of the picks before it.
    truths
        Number of true positions.
    """

    scores: NDArray[np.float64]
    is_hit: BoolArray
    truths: int

    def points(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return thresholds, precision and recall, each (m,), at the distinct scores (inclusive)."""
        hits = np.cumsum(self.is_hit)
        last = np.flatnonzero(np.r_[self.scores[1:] != self.scores[:-1], True]) if len(hits) else hits
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.scores[last], hits[last] / (last + 1), hits[last] / np.float64(self.truths)

    @property
    def average_precision(self) -> float:
        """Sum over distinct scores of precision times increase of recall; NaN without truths."""
        if self.truths == 0:
            return math.nan
        _, precision, recall = self.points()
        return float(np.sum(precision * np.diff(np.r_[0.0, recall])))

    @property
    def best_f1(self) -> tuple[float, float]:
        """Score threshold with the highest F1, and this F1; NaN without picks or truths."""
        threshold, precision, recall = self.points()
        if not len(threshold) or self.truths == 0:
            return math.nan, math.nan
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = int(np.argmax(f1))
        return float(threshold[best]), float(f1[best])


def join_curves(curves: list[PickCurve]) -> PickCurve:
    """Join the curves of several images to one curve with common score thresholds."""
    scores = np.concatenate([np.empty(0), *(curve.scores for curve in curves)])
    hits = np.concatenate([np.empty(0, np.bool_), *(curve.is_hit for curve in curves)])
    order = np.argsort(-scores, kind="stable")
    return PickCurve(scores=scores[order], is_hit=hits[order], truths=sum(curve.truths for curve in curves))


@dataclass(frozen=True, kw_only=True)
class PickScore:
    """Result of `evaluate_picks`.

    Attributes
    ----------
    counts
        Numbers of matched picks, unmatched picks and unmatched true positions at the score threshold.
    curve
        Curve over all scores; None for picks without scores.
    duplicates
        Number of false positives within the radius of a true position that matches another pick.
    ignored
        Number of unmatched picks in the margin or at a true position in the margin, which do not count.
    errors_px
        (n, d) differences of matched picks and true positions in pixels, in axis order.
    radius_px
        Largest distance of a match in pixels.
    """

    counts: Counts
    curve: PickCurve | None
    duplicates: int
    ignored: int
    errors_px: Points
    radius_px: float

    @property
    def mean_error_px(self) -> float:
        """Mean distance of matched picks from the truth in pixels; NaN without matches."""
        return float(np.linalg.norm(self.errors_px, axis=1).mean()) if len(self.errors_px) else math.nan

    @property
    def rms_error_px(self) -> float:
        """Root mean square distance of matched picks from the truth in pixels; NaN without matches."""
        if not len(self.errors_px):
            return math.nan
        return float(np.sqrt((self.errors_px**2).sum(axis=1).mean()))

    @property
    def bias_px(self) -> tuple[float, ...]:
        """Mean error along each axis in pixels, in axis order; NaN without matches."""
        if not len(self.errors_px):
            return tuple(math.nan for _ in range(self.errors_px.shape[1]))
        return tuple(float(value) for value in self.errors_px.mean(axis=0))


@dataclass(frozen=True, kw_only=True)
class MatchCriteria:
    """Rules by which picks are matched with true positions.

    Attributes
    ----------
    radius_px
        A pick is right if it lies at most this far from a truth of its own.
    margin_px
        Width of the border that does not count; needs `shape`.
    shape
        Shape of the image in axis order.
    is_cetpick
        Match as CET-pick's own script does (see `assign_cetpick`), for comparison with old tables.
    """

    radius_px: float
    margin_px: float = 0.0
    shape: tuple[int, ...] | None = None
    is_cetpick: bool = False

    @property
    def reach_px(self) -> float:
        """Largest distance at which a pick and a truth are neighbors."""
        return self.radius_px**1.5 if self.is_cetpick else self.radius_px


def evaluate_picks(
    pred: Points,
    truth: Points,
    matching: MatchCriteria,
    *,
    scores: NDArray[np.floating] | None = None,
    threshold: float | None = None,
) -> PickScore:
    """Score picks of one image against its true positions.

    True positions in the margin do not count, nor do unmatched picks in the margin or near such positions.

    Parameters
    ----------
    pred, truth
        (n, d) and (m, d) positions, both z, y, x or both y, x, in pixels; the first pixel center is 0.
    matching
        Radius, border margin and rule of the matching.
    scores
        (n,) scores of the picks; None if they have no scores.
    threshold
        Lowest score of the picks in `counts`; None includes all. The curve includes all picks.

    Raises
    ------
    InputError
        If dimensions or the number of scores differ, or a margin is given without a shape.
    """
    pred, truth = np.asarray(pred, np.float64), np.asarray(truth, np.float64)
    if pred.ndim != 2 or truth.ndim != 2 or pred.shape[1] != truth.shape[1]:
        raise InputError(
            f"The picks have shape {pred.shape} and the truth {truth.shape}; give both in 2D or both in 3D."
        )
    if scores is not None and len(scores) != len(pred):
        raise InputError(f"There are {len(scores)} scores for {len(pred)} picks.")
    inside, counted = _away_from_border(pred, matching), _away_from_border(truth, matching)
    at_border = np.zeros(len(pred), np.bool_)
    at_border[find_neighbors(pred, truth[~counted], radius_px=matching.reach_px).pred] = True
    truth = truth[counted]
    may_ignore = ~inside | at_border
    every = np.zeros(len(pred)) if scores is None else np.asarray(scores, np.float64)
    kept = np.ones(len(pred), np.bool_) if threshold is None else every >= threshold
    neighbors = find_neighbors(pred[kept], truth, radius_px=matching.reach_px)
    assigned = (
        assign_cetpick(neighbors, radius_px=matching.radius_px) if matching.is_cetpick else assign(neighbors)
    )
    hit = assigned >= 0
    ignored = ~hit & may_ignore[kept]
    near = np.zeros(len(assigned), np.bool_)
    near[neighbors.pred] = True
    hits = int(hit.sum())
    return PickScore(
        counts=Counts(
            true_positives=hits,
            false_positives=int((~hit & ~ignored).sum()),
            false_negatives=len(truth) - hits,
        ),
        curve=None if scores is None else _curve(pred, truth, every, may_ignore, matching),
        duplicates=int((near & ~hit & ~ignored).sum()),
        ignored=int(ignored.sum()),
        errors_px=pred[kept][hit] - truth[assigned[hit]],
        radius_px=matching.radius_px,
    )


def _curve(
    pred: Points, truth: Points, scores: NDArray[np.float64], may_ignore: BoolArray, matching: MatchCriteria
) -> PickCurve:
    order = np.argsort(-scores, kind="stable")
    neighbors = find_neighbors(pred, truth, radius_px=matching.reach_px)
    # CET-pick's script matches all picks once, whatever their score.
    hit = (
        assign_cetpick(neighbors, radius_px=matching.radius_px) >= 0
        if matching.is_cetpick
        else matched_in_order(neighbors, order)
    )
    counts = (hit | ~may_ignore)[order]
    return PickCurve(scores=scores[order][counts], is_hit=hit[order][counts], truths=len(truth))


def _away_from_border(points: Points, matching: MatchCriteria) -> BoolArray:
    if matching.margin_px <= 0:
        return np.ones(len(points), np.bool_)
    shape = matching.shape
    if shape is None or len(shape) != points.shape[1]:
        raise InputError("A border margin needs the shape of the image. Pass --shape, or no --margin.")
    far_side = np.asarray(shape) - 1 - matching.margin_px
    away: BoolArray = np.all((points >= matching.margin_px) & (points <= far_side), axis=1)
    return away
