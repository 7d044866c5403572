"""Detect points in a score map, and select them by their distance from borders and from a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from cryoseg.config.pick import Side
from cryoseg.types import BoolArray, FloatArray, Points

MOST_CANDIDATES = 200_000
SHIFTS = 20
SMALLEST_SHIFT = 0.01  # Mean shift stops at this distance in voxels of the map.
NARROWEST_REACH = 1.0
VOXELS_AT_ONCE = 2_000_000  # limit of the memory of the windows around peaks


def local_maxima(scores: FloatArray, *, floor: float) -> NDArray[np.int64]:
    """Find the voxels above `floor` that no neighbor (of 26, or of 8 in 2D) exceeds.

    The result has (n, d) indices into the (z, y, x) or (y, x) score map, highest score first (ties in index
    order), at most `MOST_CANDIDATES`. It contains all voxels of a plateau; `suppress_nonmaxima` removes
    duplicates.
    """
    highest = ndimage.maximum_filter(scores, size=3, mode="nearest")
    return _highest_first(scores, (scores >= highest) & (scores > floor))


def above_floor(scores: FloatArray, *, floor: float) -> NDArray[np.int64]:
    """Return the (n, 3) indices of the voxels of a (z, y, x) map above `floor`, highest first."""
    return _highest_first(scores, scores > floor)


def _highest_first(scores: FloatArray, chosen: BoolArray) -> NDArray[np.int64]:
    found = np.argwhere(chosen)
    return found[np.argsort(-scores[tuple(found.T)], kind="stable")[:MOST_CANDIDATES]]


def refine_centers(weights: FloatArray, peaks: NDArray[np.int64], *, reach: tuple[float, ...]) -> Points:
    """Refine (n, d) peaks to sub-voxel positions by mean shift.

    Each position is replaced by the center of mass in a window around it until it converges. This finds the
    middle of the plateaus that confident networks produce. At the border of the map the window is narrowed
    on both sides, so that a peak there is not moved inward.

    Parameters
    ----------
    weights
        (z, y, x) or (y, x) map of non-negative values, such as probabilities.
    peaks
        (n, d) indices.
    reach
        (d,) half sides of the window in voxels of the map.
    """
    centers = peaks.astype(np.float64)
    places = np.arange(2 * int(np.ceil(max(NARROWEST_REACH, *reach))) + 1)
    at_once = max(1, VOXELS_AT_ONCE // len(places) ** weights.ndim)
    for start in range(0, len(centers), at_once):
        moving = np.arange(start, min(start + at_once, len(centers)))
        for _ in range(SHIFTS):
            moved, has_weight = _mean_shift(weights, centers[moving], reach, places)
            moving, moved = moving[has_weight], moved[has_weight]
            steps = np.abs(moved - centers[moving]).max(axis=1)
            centers[moving] = moved
            moving = moving[steps >= SMALLEST_SHIFT]
            if not len(moving):
                break
    return centers


def _mean_shift(
    weights: FloatArray, centers: Points, reach: tuple[float, ...], places: NDArray[np.int64]
) -> tuple[Points, BoolArray]:
    """Return the (n, d) centers of mass around (n, d) positions, and whether there is any weight, (n,).

    `places` counts the voxels of the largest window along an axis from 0.
    """
    size = np.asarray(weights.shape)
    half = np.maximum(NARROWEST_REACH, np.minimum(reach, np.minimum(centers, size - 1 - centers) + 1))
    low = np.maximum(np.ceil(centers - half), 0).astype(int)
    high = np.minimum(np.floor(centers + half), size - 1).astype(int)
    voxels = low[:, :, None] + places  # (n, d, places)
    windows = np.where(
        voxels <= high[:, :, None], (1 - ((voxels - centers[:, :, None]) / half[:, :, None]) ** 2) ** 2, 0
    )
    voxels = np.minimum(voxels, high[:, :, None])
    # Axis `axis` of the windows, with the shape (n, 1, ..., places, ..., 1) of a box.
    shapes = [tuple(-1 if a == axis else 1 for a in range(len(size))) for axis in range(len(size))]
    box = weights[tuple(voxels[:, axis].reshape(len(centers), *shape) for axis, shape in enumerate(shapes))]
    box = box.astype(np.float64)
    for axis, shape in enumerate(shapes):
        box *= windows[:, axis].reshape(len(centers), *shape)
    total = box.reshape(len(centers), -1).sum(axis=1)
    moved = centers.copy()
    for axis in range(len(size)):
        others = tuple(a + 1 for a in range(len(size)) if a != axis)
        moments = (box.sum(axis=others) * voxels[:, axis]).sum(axis=1)
        np.divide(moments, total, out=moved[:, axis], where=total > 0)
    return moved, total > 0


def suppress_nonmaxima(centers: Points, scores: FloatArray, *, min_distance: float) -> NDArray[np.int64]:
    """Remove points that are closer than `min_distance` to a kept point with a higher score.

    The result has the (m,) indices of the kept ones of (n, d) points with (n,) scores, highest score first.
    `min_distance` is in the unit of `centers`.
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


def clear_of_borders(
    centers: Points, shape: tuple[int, ...], *, border_voxels: tuple[float, ...]
) -> NDArray[np.bool_]:
    """Return the (n,) centers that are at least `border_voxels` (d,) away from the faces of the volume.

    The faces are half a voxel beyond the outermost voxel centers. A border of 0 keeps all centers.
    """
    border = np.asarray(border_voxels)
    size = np.asarray(shape)
    kept = (centers + 0.5 >= border) & (centers + 0.5 <= size - border)
    return np.asarray((kept | (border == 0)).all(axis=1))


def by_mask(
    centers: Points,
    mask: BoolArray,
    *,
    side: Side,
    distance_angstrom: float,
    voxel_size: tuple[float, float, float],
) -> NDArray[np.bool_]:
    """Return the (n,) centers inside or outside a mask that is grown or shrunk.

    Parameters
    ----------
    centers
        (n, 3) positions z, y, x in voxels.
    mask
        (z, y, x) mask of the tomogram.
    side
        Whether centers within or outside the mask are kept.
    distance_angstrom
        Distance in angstrom by which the mask is grown; a negative distance shrinks it.
    voxel_size
        (z, y, x) voxel size in angstrom.
    """
    if not len(centers):
        return np.zeros(0, bool)
    index = np.clip(np.round(centers).astype(int), 0, np.asarray(mask.shape) - 1)
    at = tuple(index.T)
    if distance_angstrom == 0:
        near = mask[at]
    elif not mask.any():
        near = np.zeros(len(centers), bool)
    elif distance_angstrom > 0:
        near = _distances(~mask, at, distance_angstrom, voxel_size) <= distance_angstrom
    else:
        near = _distances(mask, at, -distance_angstrom, voxel_size) > -distance_angstrom
    return np.asarray(near if side is Side.WITHIN else ~near)


def _distances(
    outside: BoolArray,
    at: tuple[NDArray[np.int64], ...],
    reach: float,
    voxel_size: tuple[float, float, float],
) -> NDArray[np.float64]:
    """Return the distance in angstrom from voxels to the nearest False, computed slab by slab."""
    margin = int(np.ceil(reach / voxel_size[0])) + 1
    found = np.empty(len(at[0]))
    depth = outside.shape[0]
    step = max(16, margin)
    for begin in range(0, depth, step):
        chosen = (at[0] >= begin) & (at[0] < begin + step)
        if not chosen.any():
            continue
        low, high = max(0, begin - margin), min(depth, begin + step + margin)
        slab = outside[low:high]
        if slab.all():
            found[chosen] = np.inf
            continue
        distance = ndimage.distance_transform_edt(slab, sampling=voxel_size)
        found[chosen] = distance[at[0][chosen] - low, at[1][chosen], at[2][chosen]]
    return found
