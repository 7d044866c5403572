"""From a score map to points: local maxima, sub-voxel centers, suppression at particle scale."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoseg.types import FloatArray

MOST_CANDIDATES = 200_000
SHIFTS = 20
SMALLEST_SHIFT = 0.01  # voxels of the map
NARROWEST_REACH = 1.0
Points = NDArray[np.float64]


def local_maxima(scores: FloatArray, *, floor: float) -> NDArray[np.int64]:
    """Voxels above `floor` that no neighbor (of 26, or of 8 in 2D) exceeds.

    Parameters
    ----------
    scores
        (z, y, x) or (y, x).
    floor
        Lower scores are no candidates.

    Returns
    -------
    NDArray
        (n, dimensions) indices, highest score first (ties in index order), at most
        `MOST_CANDIDATES`. Every voxel of a plateau is returned; `suppress_nonmaxima` thins them.
    """
    highest = ndimage.maximum_filter(scores, size=3, mode="nearest")
    found = np.argwhere((scores >= highest) & (scores > floor))
    order = np.argsort(-scores[tuple(found.T)], kind="stable")[:MOST_CANDIDATES]
    return found[order]


def above_floor(scores: FloatArray, *, floor: float) -> NDArray[np.int64]:
    """(n, dimensions) voxels above `floor`, highest first, at most `MOST_CANDIDATES`; as `local_maxima`."""
    found = np.argwhere(scores > floor)
    order = np.argsort(-scores[tuple(found.T)], kind="stable")[:MOST_CANDIDATES]
    return found[order]


def refine_centers(weights: FloatArray, peaks: NDArray[np.int64], *, reach: tuple[float, ...]) -> Points:
    """Move each peak to the middle of its hill, between voxels.

    Mean shift: the center of mass under a window that follows the center until it stays. A network
    that is sure has a plateau, whose highest voxel says little about its middle. At the border of
    the map the window narrows on both sides, so that a peak there is not drawn inward.

    Parameters
    ----------
    weights
        (z, y, x) or (y, x), not negative; probabilities for example.
    peaks
        (n, dimensions) indices.
    reach
        Half sides of the window, in voxels of the map, per axis.

    Returns
    -------
    NDArray
        (n, dimensions) positions, in voxels of the map.
    """
    size = np.asarray(weights.shape)
    centers = peaks.astype(np.float64)
    for number in range(len(peaks)):
        center = centers[number]
        for _ in range(SHIFTS):
            half = np.maximum(NARROWEST_REACH, np.minimum(reach, np.minimum(center, size - 1 - center) + 1))
            low = np.maximum(np.ceil(center - half), 0).astype(int)
            high = np.minimum(np.floor(center + half), size - 1).astype(int) + 1
            box = weights[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float64)
            places = [np.arange(a, b) for a, b in zip(low, high, strict=True)]
            windows = [(1 - ((g - c) / h) ** 2) ** 2 for g, c, h in zip(places, center, half, strict=True)]
            for axis, window in enumerate(windows):
                box *= np.expand_dims(window, tuple(a for a in range(box.ndim) if a != axis))
            total = box.sum()
            if total <= 0:
                break
            others = [tuple(a for a in range(box.ndim) if a != axis) for axis in range(box.ndim)]
            moved = np.array([box.sum(axis=o) @ g for o, g in zip(others, places, strict=True)]) / total
            step = np.abs(moved - center).max()
            center = moved
            if step < SMALLEST_SHIFT:
                break
        centers[number] = center
    return centers


def suppress_nonmaxima(centers: Points, scores: FloatArray, *, min_distance: float) -> NDArray[np.int64]:
    """Keep the best of every group of points that are closer than `min_distance`.

    Parameters
    ----------
    centers
        (n, dimensions).
    scores
        (n,).
    min_distance
        In the unit of `centers`; two points at exactly this distance both stay.

    Returns
    -------
    NDArray
        (kept,) indices, highest score first.
    """
    order = np.argsort(-scores, kind="stable")
    if min_distance <= 0 or len(centers) < 2:
        return order
    tree = cKDTree(centers)
    dropped = np.zeros(len(centers), dtype=bool)
    kept = []
    for index in order:
        if dropped[index]:
            continue
        kept.append(index)
        near = tree.query_ball_point(centers[index], np.nextafter(min_distance, 0))
        dropped[near] = True
    return np.asarray(kept, dtype=np.int64)


def match_points(found: Points, truth: Points, *, radius: float) -> NDArray[np.int64]:
    """Pair points with true ones, one to one, in the order given.

    Parameters
    ----------
    found
        (n, dimensions), best first: each takes the nearest true point that is still free.
    truth
        (m, dimensions).
    radius
        Largest distance of a pair.

    Returns
    -------
    NDArray
        (n,) index into `truth`, -1 where there is no partner.
    """
    partner = np.full(len(found), -1, dtype=np.int64)
    if not len(truth):
        return partner
    tree = cKDTree(truth)
    taken = np.zeros(len(truth), dtype=bool)
    for number, point in enumerate(found):
        near = [index for index in tree.query_ball_point(point, radius) if not taken[index]]
        if near:
            distances = np.linalg.norm(truth[near] - point, axis=1)
            partner[number] = near[int(np.argmin(distances))]
            taken[partner[number]] = True
    return partner
