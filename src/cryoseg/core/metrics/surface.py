"""Distances between the surfaces of two masks, and surface Dice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.metrics.overlap import ratio, require_one_shape
from cryoseg.types import BoolArray

_CHUNK = 1_000_000


@dataclass(frozen=True, kw_only=True)
class SurfaceScore:
    """Symmetric comparison of the surfaces of prediction and truth.

    If both surfaces are empty, surface Dice is 1 and the distances are NaN. If one is empty, surface Dice is
    0 and the distances are infinite.

    Attributes
    ----------
    tolerances
        Tolerances in `unit`, as all distances.
    dice
        Share of the surface voxels of both masks within each tolerance of the other surface.
    mean_distance
        Average symmetric surface distance over the surface voxels of both masks.
    hausdorff_95
        Larger one of the two 95th percentiles of the distances.
    pred_voxels, truth_voxels
        Numbers of compared surface voxels.
    unit
        Unit of distances, "A" or "vox".
    """

    tolerances: tuple[float, ...]
    dice: tuple[float, ...]
    mean_distance: float
    hausdorff_95: float
    pred_voxels: int
    truth_voxels: int
    unit: str = "vox"


def compare_surfaces(
    pred: BoolArray,
    truth: BoolArray,
    known: BoolArray,
    *,
    tolerances: tuple[float, ...],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    unit: str = "vox",
) -> SurfaceScore:
    """Compare the surfaces of two masks.

    A surface voxel has a face neighbor outside the mask or outside the volume. Distances are measured between
    voxel centers. Surface voxels without a known truth are not compared, but predicted ones among them are
    neighbors of the true surface.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks.
    tolerances
        Tolerances in the unit of `spacing`.
    spacing
        (z, y, x) voxel size in angstrom, or 1 for distances in voxels.
    unit
        Unit for the result, "A" or "vox".

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: Nikolov et al. 2021, surface Dice. Surface voxels are counted without their areas, as in MONAI.
    """
    require_one_shape(pred, truth, known)
    pred_points, pred_known = _surface_points(pred, known)
    truth_points, _ = _surface_points(truth, known)
    compared = pred_points[pred_known]
    if not len(compared) or not len(truth_points):
        empty = not len(compared) and not len(truth_points)
        return SurfaceScore(
            tolerances=tolerances,
            dice=tuple(1.0 if empty else 0.0 for _ in tolerances),
            mean_distance=float("nan" if empty else "inf"),
            hausdorff_95=float("nan" if empty else "inf"),
            pred_voxels=len(compared),
            truth_voxels=len(truth_points),
            unit=unit,
        )
    from_pred = _nearest(compared, truth_points, spacing)
    from_truth = _nearest(truth_points, pred_points, spacing)
    count = len(from_pred) + len(from_truth)
    return SurfaceScore(
        tolerances=tolerances,
        # The tolerance allows for rounding errors of distances such as 3 x 13.48.
        dice=tuple(
            ratio(
                int(np.count_nonzero(from_pred <= limit * (1 + 1e-6)))
                + int(np.count_nonzero(from_truth <= limit * (1 + 1e-6))),
                count,
            )
            for limit in tolerances
        ),
        mean_distance=float((from_pred.sum(dtype=np.float64) + from_truth.sum(dtype=np.float64)) / count),
        hausdorff_95=float(max(np.percentile(from_pred, 95), np.percentile(from_truth, 95))),
        pred_voxels=len(compared),
        truth_voxels=len(truth_points),
        unit=unit,
    )


def _surface_points(mask: BoolArray, known: BoolArray) -> tuple[NDArray[np.int32], BoolArray]:
    """Return (n, 3) surface voxels in scan order, and whether the truth is known at each."""
    points, is_known = [np.empty((0, 3), np.int32)], [np.empty(0, np.bool_)]
    for z, surface in _surface_slices(mask):
        y, x = np.nonzero(surface)
        if len(y):
            points.append(np.stack([np.full(len(y), z), y, x], axis=1).astype(np.int32))
            is_known.append(known[z][y, x])
    return np.concatenate(points), np.concatenate(is_known)


def _surface_slices(mask: BoolArray) -> Iterator[tuple[int, BoolArray]]:
    for z, image in enumerate(mask):
        if not image.any():
            continue
        inside = image.copy()
        inside[1:] &= image[:-1]
        inside[:-1] &= image[1:]
        inside[:, 1:] &= image[:, :-1]
        inside[:, :-1] &= image[:, 1:]
        inside[[0, -1]] = False
        inside[:, [0, -1]] = False
        if 0 < z < len(mask) - 1:
            inside &= mask[z - 1] & mask[z + 1]
        else:
            inside[:] = False
        yield z, image & ~inside


def _nearest(
    points: NDArray[np.int32], others: NDArray[np.int32], spacing: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Return the (n,) distances from `points` to the nearest of `others`."""
    # Common voxels of both surfaces have a distance of 0 and need no query.
    distances = np.zeros(len(points), np.float32)
    queried = np.flatnonzero(~np.isin(_keys(points), _keys(others)))
    if not len(queried):
        return distances
    tree = KDTree(others * np.asarray(spacing), balanced_tree=False, compact_nodes=False)
    for start in range(0, len(queried), _CHUNK):
        chunk = queried[start : start + _CHUNK]
        distances[chunk] = tree.query(points[chunk] * np.asarray(spacing), workers=-1)[0]
    return distances


def _keys(points: NDArray[np.int32]) -> NDArray[np.int64]:
    # Each coordinate takes 21 bits, which suffice for two million slices.
    wide = points.astype(np.int64)
    return (wide[:, 0] << 42) | (wide[:, 1] << 21) | wide[:, 2]
