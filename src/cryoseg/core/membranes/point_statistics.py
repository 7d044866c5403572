"""Statistics of points on membranes: density, distances along the surface, and Ripley's L."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import dijkstra
from scipy.spatial import KDTree

from cryoseg.core.membranes.midsurface import Surface
from cryoseg.core.membranes.sampling import SurfacePoints, along_surface, random_points

Array = NDArray[np.float64]

# Vertices within this many edge lengths are linked. Fewer links make paths up to 3 % too long on spheres.
_REACH = 5.0
_SOURCES = 64
# Random points per point of which the random patterns are drawn, and the most beyond the number of points.
_POOL, _LEAST_POOL, _MOST_POOL = 4, 200, 2000
_STEPS = 40
# Largest radius of Ripley's L in units of the square root of the area.
_LARGEST_RADIUS = 0.25
# Share of the random patterns within the envelope.
_ENVELOPE = 0.95


@dataclass(frozen=True, kw_only=True)
class RipleyL:
    """Ripley's L of points, and of random points on the same surfaces.

    Attributes
    ----------
    radii
        (k,) distances along the surface in angstrom.
    observed
        (k,) L of the points in angstrom: sqrt(K / pi), which is the radius for random points on a plane.
    mean, low, high
        (k,) mean of the random patterns, and the limits between which 95 % of them lie at each radius.
    p_value
        Probability that random points deviate as much from the mean, at any radius.
    """

    radii: Array
    observed: Array
    mean: Array
    low: Array
    high: Array
    p_value: float


@dataclass(frozen=True, kw_only=True)
class _Pattern:
    """Pairs of points on one surface that are near each other.

    Attributes
    ----------
    pairs
        (n, 2) indices of points; each pair is there in both orders.
    lengths
        (n,) distances along the surface.
    area
        Area of the surface.
    """

    pairs: NDArray[np.int64]
    lengths: Array
    area: float

    def neighbors(self, radii: Array, chosen: NDArray[np.bool_]) -> Array:
        """Return the (k,) numbers of neighbors within radii of the chosen points, over their density."""
        both = chosen[self.pairs].all(1)
        within = np.searchsorted(np.sort(self.lengths[both]), radii, side="right")
        return np.asarray(within * self.area / max(int(chosen.sum()) - 1, 1), np.float64)


def distances_along(
    surface: Surface, points: SurfacePoints, sources: NDArray[np.int64], *, limit: float = np.inf
) -> Array:
    """Return distances along a surface; infinite beyond a limit and between separate pieces.

    Parameters
    ----------
    surface
        Mid-surface of one component.
    points
        n points on it.
    sources
        (m,) indices of the points from which the distances to all points are computed.
    limit
        Largest distance in angstrom.

    Returns
    -------
    ndarray
        (m, n) distances in angstrom.

    Notes
    -----
    Shortest paths over the points and the vertices of the mesh (Dijkstra). A step between two of them within
    3.5 edge lengths is an arc that fits both normals, so that distances on spheres, cylinders and planes are
    exact for near points.
    """
    count = len(points)
    places = np.concatenate([points.places, surface.mesh.vertices])
    normals = np.concatenate([points.normals, surface.normals])
    edge = float(np.sqrt(2 * np.median(surface.mesh.face_areas())))
    first, second = KDTree(places).query_pairs(_REACH * edge, output_type="ndarray").T
    lengths = along_surface(places[second] - places[first], normals[second], normals[first])
    good = np.isfinite(lengths)
    # An edge of length 0 would be no edge.
    weights = np.maximum(lengths[good], 1e-6)
    graph = csr_array((weights, (first[good], second[good])), shape=(len(places), len(places)))
    found = np.empty((len(sources), count))
    for start in range(0, len(sources), _SOURCES):
        part = slice(start, start + _SOURCES)
        found[part] = dijkstra(graph, directed=False, indices=sources[part], limit=limit)[:, :count]
    return found


def nearest_along(surface: Surface, points: SurfacePoints) -> Array:
    """Return the (n,) distances along a surface to the nearest other point; infinite for a single point."""
    lengths = distances_along(surface, points, np.arange(len(points)))
    np.fill_diagonal(lengths, np.inf)
    return np.asarray(lengths.min(1))


def ripley(
    surfaces: Sequence[Surface], points: Sequence[SurfacePoints], *, patterns: int, rng: np.random.Generator
) -> RipleyL | None:
    """Compare the distances between points with those between random points on the same surfaces.

    Parameters
    ----------
    surfaces
        Mid-surfaces, one for each component.
    points
        Points on each of them.
    patterns
        Number of random patterns. Each has as many points on every surface as there are.
    rng
        Random numbers.

    Returns
    -------
    RipleyL or None
        None if no surface has two points.

    Notes
    -----
    K at a radius is the mean number of neighbors of a point within it, over the density of the other points
    on its surface. Edges need no correction, since the random points have the same ones. Source of the test:
    Baddeley et al. 2014, On tests of spatial pattern based on simulation envelopes, section 4.
    """
    used = [(surface, own) for surface, own in zip(surfaces, points, strict=True) if len(own) > 1]
    if not used:
        return None
    areas = [float(surface.smooth_mesh().face_areas().sum()) for surface, _ in used]
    largest = _LARGEST_RADIUS * float(np.sqrt(max(areas)))
    radii = np.linspace(largest / _STEPS, largest, _STEPS)
    total = sum(len(own) for _, own in used)
    sums = np.zeros((patterns + 1, _STEPS))
    for (surface, own), area in zip(used, areas, strict=True):
        pattern = _pattern(surface, own, area, largest)
        sums[0] += pattern.neighbors(radii, np.ones(len(own), bool))
        size = len(own) + min(max((_POOL - 1) * len(own), _LEAST_POOL), _MOST_POOL)
        pool = _pattern(surface, random_points(surface, size, rng), area, largest)
        for number in range(1, patterns + 1):
            chosen = np.zeros(size, bool)
            chosen[rng.choice(size, len(own), replace=False)] = True
            sums[number] += pool.neighbors(radii, chosen)
    curves = np.sqrt(sums / total / np.pi)
    tail = (1 - _ENVELOPE) / 2
    low, high = np.quantile(curves[1:], [tail, 1 - tail], axis=0)
    deviation = np.abs(curves - curves.mean(0)).max(1)
    return RipleyL(
        radii=radii,
        observed=curves[0],
        mean=curves[1:].mean(0),
        low=low,
        high=high,
        p_value=float((deviation >= deviation[0]).mean()),
    )


def _pattern(surface: Surface, points: SurfacePoints, area: float, limit: float) -> _Pattern:
    lengths = distances_along(surface, points, np.arange(len(points)), limit=limit)
    np.fill_diagonal(lengths, np.inf)
    pairs = np.argwhere(lengths <= limit)
    return _Pattern(pairs=pairs, lengths=lengths[tuple(pairs.T)], area=area)
