"""Trace filaments: group points, fit a smooth curve to each group and resample it evenly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryoseg.config.pick import FilamentConfig
from cryoseg.types import Points

MAX_DEGREE = 3
SIMPLER = 1.15  # A lower degree may have this many times the residual of the highest degree.
OUTLIER_RESIDUALS = 2.5  # Distance of outliers in robust standard deviations.
FINE_STEPS = 200
DEFAULT_SPACING = 1 / 6  # Spacing of resampled points in filament widths.
SCORE_LEVELS = 24
SUPPORT_DISTANCE = 0.2  # Points at most this many widths from a curve support it.
NEIGHBOR_DISTANCE = 0.6  # Points further from a filament, in widths, may belong to another one.
WEAKEST_NEIGHBOR = 0.5  # Smallest mean score as a share of that of the strongest filament of the group.


@dataclass(frozen=True, kw_only=True)
class Filament:
    """A curve that is fitted to points of a filament.

    Attributes
    ----------
    points
        (n, 3) points at equal distances along the curve, in the units and axis order of the input.
    members
        (m,) indices of the input points to which the curve is fitted.
    residual
        Root mean square distance of these points from the curve.
    curvature
        Largest curvature (reciprocal radius).
    """

    points: Points
    members: NDArray[np.int64]
    residual: float
    curvature: float


def group_points(points: Points, *, link_distance: float) -> NDArray[np.int64]:
    """Return the (n,) numbers of the groups of (n, d) points linked within `link_distance` angstrom."""
    if len(points) < 2:
        return np.zeros(len(points), dtype=np.int64)
    pairs = cKDTree(points).query_pairs(link_distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """Two polynomials of at most third degree over the position along the main axis of the points."""

    center: Points
    axes: Points
    half: float
    coefficients: Points

    def local(self, points: Points) -> Points:
        """Return the (n, 3) coordinates of points along the three principal axes."""
        return np.asarray((points - self.center) @ self.axes.T)

    def at(self, along: NDArray[np.float64]) -> Points:
        """Return the (n, 3) points of the curve at positions along the main axis."""
        sides = np.polynomial.polynomial.polyval(along / self.half, self.coefficients).T
        return np.asarray(np.column_stack([along, sides]) @ self.axes + self.center)


def _fit(points: Points) -> _Curve:
    center = points.mean(axis=0)
    axes = np.linalg.svd(points - center, full_matrices=False)[2]
    local = (points - center) @ axes.T
    along = local[:, 0]
    half = max(float(np.abs(along).max()), 1e-9)
    highest = min(MAX_DEGREE, max(1, len(np.unique(np.round(along, 6))) - 2))
    fits = [np.polynomial.polynomial.polyfit(along / half, local[:, 1:], d) for d in range(1, highest + 1)]
    residuals = [
        float(np.linalg.norm(np.polynomial.polynomial.polyval(along / half, fit).T - local[:, 1:]))
        for fit in fits
    ]
    limit = SIMPLER * residuals[-1] + 1e-6 * half
    coefficients = next(fit for fit, residual in zip(fits, residuals, strict=True) if residual <= limit)
    return _Curve(center=center, axes=axes, half=half, coefficients=np.asarray(coefficients))


def fit_filament(points: Points, *, spacing: float) -> Filament:
    """Fit a smooth curve to at least three (n, 3) points that lie along one filament, in any order.

    `spacing` is the distance of the resampled points along the curve in the unit of `points`.
    """
    used = np.ones(len(points), bool)
    for _ in range(3):
        curve = _fit(points[used])
        along = curve.local(points)[:, 0]
        distance = np.linalg.norm(points - curve.at(along), axis=1)
        limit = OUTLIER_RESIDUALS * max(1.4826 * float(np.median(distance[used])), 1e-6)
        again = distance <= max(limit, 0.25 * spacing)
        if again.sum() < 3 or (again == used).all():
            break
        used = again
    fine = curve.at(np.linspace(along[used].min(), along[used].max(), FINE_STEPS))
    steps = np.linalg.norm(np.diff(fine, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    count = max(2, round(length[-1] / spacing) + 1)
    stations = np.linspace(0, length[-1], count)
    resampled = np.column_stack([np.interp(stations, length, fine[:, axis]) for axis in range(3)])
    return Filament(
        points=resampled,
        members=np.flatnonzero(used),
        residual=float(np.sqrt((distance[used] ** 2).mean())),
        curvature=_largest_curvature(fine),
    )


def _largest_curvature(curve: Points) -> float:
    first = np.gradient(curve, axis=0)
    second = np.gradient(first, axis=0)
    cross = np.linalg.norm(np.cross(first, second), axis=1)
    bend = cross / np.maximum(np.linalg.norm(first, axis=1) ** 3, 1e-12)
    return float(bend[2:-2].max())


def _best_curve(
    points: Points, scores: NDArray[np.float64], *, width: float, config: FilamentConfig
) -> Filament | None:
    """Find the curve with the best support among points of which many may be noise.

    Curves are fitted to the points with the highest scores, from all points down to the smallest number
    allowed. The support of a curve is the sum of the scores of the points on it minus that of the others.
    """
    spacing = config.spacing_angstrom or width * DEFAULT_SPACING
    order = np.argsort(-scores, kind="stable")
    distinct = len(np.unique(scores)) > 1
    fewest = config.min_points if distinct else len(points)
    counts = np.unique(np.geomspace(fewest, len(points), SCORE_LEVELS).round().astype(int))
    best, most = None, -np.inf
    for count in counts[::-1]:
        chosen = np.sort(order[:count])
        groups = group_points(points[chosen], link_distance=config.link_distance * width)
        chosen = chosen[groups == np.bincount(groups, weights=scores[chosen]).argmax()]
        if len(chosen) < config.min_points:
            continue
        curve = fit_filament(points[chosen], spacing=spacing)
        if (
            curve.residual > config.max_residual * width
            or curve.curvature * width > config.max_curvature_per_width
        ):
            continue
        distance = cKDTree(curve.points).query(points[chosen])[0]
        near = distance <= np.hypot(SUPPORT_DISTANCE * width, spacing / 2)
        support = float(scores[chosen][near].sum() - scores[chosen][~near].sum())
        if support > most:
            best, most = replace(curve, members=chosen[curve.members]), support
    return best


def trace_filaments(
    points: Points, *, width: float, config: FilamentConfig, scores: NDArray[np.floating] | None = None
) -> list[Filament]:
    """Trace all filaments in a cloud of points.

    Parameters
    ----------
    points
        (n, 3) positions in angstrom, in any order.
    width
        Width of a filament in angstrom.
    config
        Limits in filament widths.
    scores
        (n,) positive scores of the points. With scores, several filaments are traced in a group of points,
        each with at least half the mean score of the strongest. None weights all points equally.

    Returns
    -------
    list of Filament
        Filaments, longest first, that meet the limits of size, residual and curvature.
    """
    weights = np.ones(len(points)) if scores is None else np.asarray(scores, dtype=np.float64)
    groups = group_points(points, link_distance=config.link_distance * width)
    found = []
    for group in range(groups.max(initial=-1) + 1):
        members = np.flatnonzero(groups == group)
        strongest = 0.0
        while len(members) >= config.min_points:
            filament = _best_curve(points[members], weights[members], width=width, config=config)
            if filament is None:
                break
            own = members[filament.members]
            strength = float(weights[own].mean())
            if strength < WEAKEST_NEIGHBOR * strongest:
                break
            strongest = max(strongest, strength)
            found.append(replace(filament, members=own))
            if scores is None:
                break
            away = cKDTree(filament.points).query(points[members])[0] > NEIGHBOR_DISTANCE * width
            members = members[away]
    return sorted(found, key=lambda filament: -len(filament.points))
