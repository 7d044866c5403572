"""Points along filaments: group them, fit a smooth curve to each group, resample it evenly."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from cryoseg.config.pick import FilamentConfig

Points = NDArray[np.float64]
MAX_DEGREE = 3
SIMPLER = 1.15  # a lower degree is taken if its residual is at most this many times the highest's
OUTLIER_RESIDUALS = 2.5  # points further off, in robust standard deviations, leave the fit
FINE_STEPS = 200
DEFAULT_SPACING = 1 / 6  # of resampled points, in filament widths
SCORE_LEVELS = 24
WITNESS_DISTANCE = 0.2  # points this near to a curve, in widths, speak for it
NEIGHBOR_DISTANCE = 0.6  # points further from a filament, in widths, may belong to another
WEAKEST_NEIGHBOR = 0.5  # of the mean score of the strongest filament in the same group


@dataclass(frozen=True, kw_only=True)
class Filament:
    """One resampled curve.

    Attributes
    ----------
    points
        (n, 3), evenly spaced along the curve, same units and order of axes as the input.
    members
        Indices of the input points that the curve was fitted to.
    residual
        Root mean square distance of those points from it.
    curvature
        Largest reciprocal radius.
    """

    points: Points
    members: NDArray[np.int64]
    residual: float
    curvature: float


def group_points(points: Points, *, link_distance: float) -> NDArray[np.int64]:
    """(n,) number of the chain of neighbors, each nearer than `link_distance`, a point is in."""
    if len(points) < 2:
        return np.zeros(len(points), dtype=np.int64)
    pairs = cKDTree(points).query_pairs(link_distance, output_type="ndarray")
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(points),) * 2)
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


@dataclass(frozen=True, kw_only=True)
class _Curve:
    """Two polynomials, cubic at most, over the position along the main direction of the points."""

    center: Points
    axes: Points
    half: float
    coefficients: Points

    def local(self, points: Points) -> Points:
        """Positions along the main direction and the two others."""
        return np.asarray((points - self.center) @ self.axes.T)

    def at(self, along: NDArray[np.float64]) -> Points:
        """Points of the curve."""
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


def fit_filament(points: Points, *, spacing: float) -> tuple[Points, NDArray[np.bool_], float, float]:
    """A smooth curve through points that lie along one filament.

    Parameters
    ----------
    points
        (n, 3), at least 3, in any order, in isotropic units.
    spacing
        Of the returned points along the curve, in the unit of `points`.

    Returns
    -------
    tuple
        (m, 3) points, (n,) which input points the last fit used, root mean square residual,
        largest curvature.
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
    residual = float(np.sqrt((distance[used] ** 2).mean()))
    return resampled, used, residual, _largest_curvature(fine)


def _largest_curvature(curve: Points) -> float:
    first = np.gradient(curve, axis=0)
    second = np.gradient(first, axis=0)
    cross = np.linalg.norm(np.cross(first, second), axis=1)
    bend = cross / np.maximum(np.linalg.norm(first, axis=1) ** 3, 1e-12)
    return float(bend[2:-2].max())


def _best_curve(
    points: Points, scores: NDArray[np.float64], *, width: float, config: FilamentConfig
) -> Filament | None:
    """The curve with the best witnesses among some points, however many of them are noise.

    The best so many points are tried, from all down to the fewest allowed. A curve counts for it the
    scores of the points on it, and against it those of the points beside it.
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
        curve, used, residual, curvature = fit_filament(points[chosen], spacing=spacing)
        if residual > config.max_residual * width or curvature * width > config.max_curvature_per_width:
            continue
        on_it = cKDTree(curve).query(points[chosen])[0] <= np.hypot(WITNESS_DISTANCE * width, spacing / 2)
        worth = float(scores[chosen][on_it].sum() - scores[chosen][~on_it].sum())
        if worth > most:
            best = Filament(points=curve, members=chosen[used], residual=residual, curvature=curvature)
            most = worth
    return best


def trace_filaments(
    points: Points, *, width: float, config: FilamentConfig, scores: NDArray[np.floating] | None = None
) -> list[Filament]:
    """All filaments that a cloud of points supports.

    Parameters
    ----------
    points
        (n, 3) in angstrom, any order.
    width
        Of a filament, in angstrom.
    config
        Limits, in widths.
    scores
        (n,) of the points, positive; strong points are believed before weak ones, and what is left
        beside a filament is searched for another that is at least half as strong. None counts all
        the same.

    Returns
    -------
    list of Filament
        Longest first; groups that are too small, too rough or too bent are left out.
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
