"""The mean width of the bands of a mask, from their volume and the area of their faces."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.masks.postprocess import overlapping
from cryoseg.types import BoolArray

# Weight of a direction by its number of axes: the share of the sphere that is nearest to it or its opposite.
# Source: Legland, Kieu, Devaux, Computation of Minkowski measures on 2D and 3D binary images, 2007.
_WEIGHTS = {1: 0.09155578, 2: 0.07396126, 3: 0.07039128}
_DIRECTIONS = [step for step in itertools.product((-1, 0, 1), repeat=3) if step > (0, 0, 0)]


@dataclass(frozen=True, kw_only=True)
class Widths:
    """Mean widths of the bands of prediction and truth; NaN where nothing is marked.

    Attributes
    ----------
    pred, truth
        Widths in `unit`.
    unit
        Unit, "nm" or "vox".
    """

    pred: float
    truth: float
    unit: str = "vox"


def compare_widths(
    pred: BoolArray, truth: BoolArray, known: BoolArray, *, voxel_size: tuple[float, float, float] | None
) -> Widths:
    """Compare the widths of two masks in the slices with annotations.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks. Slices without a known voxel are left out. In the others, voxels without a known
        truth count too, since bands would end at them.
    voxel_size
        (z, y, x) voxel size in angstrom; None for widths in voxels.
    """
    slices = np.flatnonzero(known.any(axis=(1, 2)))
    voxel = 1.0 if voxel_size is None else float(np.mean(voxel_size)) / 10
    return Widths(
        pred=mean_width(pred, slices) * voxel,
        truth=mean_width(truth, slices) * voxel,
        unit="vox" if voxel_size is None else "nm",
    )


def mean_width(mask: BoolArray, slices: NDArray[np.intp]) -> float:
    """Return twice the volume of a mask over the area of its surface, in voxels.

    The area follows from the crossings of the surface by lines in 13 directions (Crofton's formula). The
    border of the volume is no surface. The width of a flat sheet is up to 8 % too large. The result is NaN
    without a surface or without two neighboring slices.

    Parameters
    ----------
    mask
        (z, y, x) mask.
    slices
        (n,) indices of the slices that are measured.
    """
    present = set(slices.tolist())
    inverse = 0.0  # of half the width
    for step in _DIRECTIONS:
        crossings = marked = 0
        for z in present & {z - step[0] for z in present}:
            here = overlapping(mask[z], -step[1], -step[2])
            there = overlapping(mask[z + step[0]], step[1], step[2])
            crossings += int(np.count_nonzero(here != there))
            # Both counts are from the same pairs of voxels, so that the border has no effect.
            marked += int(np.count_nonzero(here)) + int(np.count_nonzero(there))
        if not marked:
            return float("nan")
        axes = sum(map(abs, step))
        inverse += 4 * _WEIGHTS[axes] / axes**0.5 * crossings / marked
    return 2 / inverse if inverse else float("nan")
