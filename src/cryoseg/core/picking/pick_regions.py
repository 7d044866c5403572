"""Select picks by their distance from the borders of the volume and from a mask."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config.pick import Side
from cryoseg.types import BoolArray, Points


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
