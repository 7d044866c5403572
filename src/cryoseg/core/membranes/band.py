"""A band of a given width around the mid-surfaces of the membranes of a mask.

The mask is processed in blocks with a margin, so that the memory does not grow with the tomogram. A membrane
that a block cuts is measured up to the border of the block, as one that the border of the tomogram cuts.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.objects import Box, find_objects, mid_lines
from cryoseg.types import BoolArray

BLOCK = 128  # voxels along each axis without the margin
MARGIN = 12


@dataclass(frozen=True, kw_only=True)
class Band:
    """A mask whose membranes have one width.

    Attributes
    ----------
    mask
        (z, y, x) mask.
    unchanged
        Number of its voxels that belong to components without a mid-surface, which are kept as they are.
    """

    mask: BoolArray
    unchanged: int


def band_around(
    mask: BoolArray,
    voxel_size: float,
    width: float,
    *,
    block: int = BLOCK,
    on_block: Callable[[int, int], None] = lambda done, total: None,
) -> Band:
    """Replace the membranes of a mask by bands around their mid-surfaces.

    Parameters
    ----------
    mask
        (z, y, x) mask.
    voxel_size, width
        Voxel size and width of the bands in angstrom.
    block
        Side of the blocks in voxels.
    on_block
        Function to call with the numbers of blocks done and of all blocks.
    """
    result = np.zeros_like(mask)
    unchanged = 0
    blocks = list(_blocks(mask.shape, block))
    for done, (core, box) in enumerate(blocks, start=1):
        part = mask[box]
        if part.any():
            inner = tuple(slice(c.start - b.start, c.stop - b.start) for c, b in zip(core, box, strict=True))
            band, kept = _band_of_block(part, voxel_size, width)
            result[core] = (band | kept)[inner]
            unchanged += int(np.count_nonzero((kept & ~band)[inner]))
        on_block(done, len(blocks))
    return Band(mask=result, unchanged=unchanged)


def _blocks(shape: tuple[int, ...], side: int) -> Iterator[tuple[Box, Box]]:
    """Yield blocks that cover a volume, and the same blocks with the margin."""
    for corner in itertools.product(*(range(0, size, side) for size in shape)):
        core = tuple(slice(low, min(low + side, size)) for low, size in zip(corner, shape, strict=True))
        box = tuple(
            slice(max(part.start - MARGIN, 0), min(part.stop + MARGIN, size))
            for part, size in zip(core, shape, strict=True)
        )
        yield (core[0], core[1], core[2]), (box[0], box[1], box[2])


def _band_of_block(mask: BoolArray, voxel_size: float, width: float) -> tuple[BoolArray, BoolArray]:
    """Return the bands of a block, and its components without a mid-surface."""
    band, kept = np.zeros_like(mask), np.zeros_like(mask)
    for _, box, own in find_objects(mask).masks():
        corner = [part.start for part in box]
        surface = mid_surface(own, voxel_size, corner=corner, shape=mask.shape)
        if surface is None:
            kept[box] |= own
        else:
            band[tuple(_near(surface, mask, voxel_size, width).T)] = True
    return band, kept


def _near(surface: Surface, mask: BoolArray, voxel_size: float, width: float) -> NDArray[np.intp]:
    """Return the (n, 3) voxels whose distance along the normal of the surface is at most half of a width."""
    reach = int(np.ceil(width / 2 / voxel_size)) + 1
    vertices = surface.mesh.vertices / voxel_size
    low = np.floor(vertices.min(0)).astype(int) - reach
    size = np.ceil(vertices.max(0)).astype(int) + reach + 1 - low
    local = replace(surface, mesh=replace(surface.mesh, vertices=(vertices - low) * voxel_size))
    line = np.argwhere(mid_lines([local], size, voxel_size))
    around = np.zeros(tuple(size), bool)
    offsets = np.argwhere(np.ones((2 * reach + 1,) * 3)) - reach
    for offset in offsets[(offsets**2).sum(1) <= reach**2]:
        around[tuple(_inside(line + offset, size).T)] = True
    voxels = _inside(np.argwhere(around) + low, mask.shape)
    index = KDTree(vertices).query(voxels)[1]
    normal = surface.normals[index]
    height = ((voxels - vertices[index]) * normal).sum(1)
    is_near = np.abs(height) <= width / 2 / voxel_size
    # The band ends where the membrane ends. Narrow gaps in the surface within the membrane are filled.
    beside = np.flatnonzero(is_near & np.isin(index, surface.mesh.edge_vertices()))
    feet = np.rint(voxels[beside] - height[beside, None] * normal[beside]).astype(int)
    feet = np.clip(feet, 0, np.array(mask.shape) - 1)
    is_near[beside] = mask[tuple(feet.T)]
    return np.asarray(voxels[is_near])


def _inside(voxels: NDArray[np.intp], shape: Sequence[int] | NDArray[np.intp]) -> NDArray[np.intp]:
    """Return those of (n, 3) voxels that a volume of this shape contains."""
    return np.asarray(voxels[((voxels >= 0) & (voxels < shape)).all(1)])
