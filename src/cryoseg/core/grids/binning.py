"""Volumes small enough to send: means of blocks, and values in single bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.grids.blank import signal_values
from cryoseg.core.grids.resample import Slices
from cryoseg.core.robust import SAMPLE_VOXELS
from cryoseg.types import BoolArray, FloatArray

Factors = tuple[int, int, int]

# 8 on either side of 0 are probabilities from 0.0003 to 0.9997; beyond, no threshold is tried.
COARSEST_STEP = 1 / 16
GREY_PERCENTILES = (0.05, 99.95)


@dataclass(frozen=True, kw_only=True)
class Greys:
    """Grey values in bytes: value = low + step * byte.

    Attributes
    ----------
    data
        (z, y, x) uint8.
    low, step
        In the units of the volume.
    """

    data: NDArray[np.uint8]
    low: float
    step: float


def binned_shape(shape: tuple[int, ...], factors: Factors) -> tuple[int, int, int]:
    """(z, y, x) after binning; a rest at the far end makes a smaller block of its own."""
    depth, height, width = (-(-n // factor) for n, factor in zip(shape, factors, strict=True))
    return depth, height, width


def bin_volume(volume: Slices, factors: Factors) -> FloatArray:
    """Mean of every block, read slice by slice.

    Parameters
    ----------
    volume
        (z, y, x), finite, any real type.
    factors
        Voxels of a block along z, y, x. The last block along an axis may be smaller.

    Returns
    -------
    FloatArray
        `binned_shape`; block (k, j, i) begins at voxel (k, j, i) times `factors`.
    """
    shape = binned_shape(volume.shape, factors)
    firsts = [np.arange(0, n, factor) for n, factor in zip(volume.shape, factors, strict=True)]
    rows, columns = (np.diff(first, append=n) for first, n in zip(firsts[1:], volume.shape[1:], strict=True))
    area = np.outer(rows, columns).astype(np.float32)
    binned = np.empty(shape, np.float32)
    for k, z in enumerate(firsts[0].tolist()):
        members = range(z, min(z + factors[0], volume.shape[0]))
        total = np.zeros(volume.shape[1:], np.float32)
        for member in members:
            total += volume[member]
        sums = np.add.reduceat(np.add.reduceat(total, firsts[1], axis=0), firsts[2], axis=1)
        binned[k] = sums / (area * len(members))
    return binned


def bin_mask(mask: Slices, factors: Factors, *, share: float) -> BoolArray:
    """Blocks of a (z, y, x) mask of which at least `share` is marked, (z, y, x) in blocks."""
    return bin_volume(mask, factors) >= np.float32(share)


def logit_step(logits: NDArray[np.floating[Any]]) -> float:
    """The power of two, at most 1/16, whose multiples by -128 to 127 reach over (z, y, x) logits."""
    largest = max((float(np.abs(image).max()) for image in logits if image.size), default=0.0)
    if largest == 0:
        return COARSEST_STEP
    return float(min(COARSEST_STEP, 2.0 ** math.ceil(math.log2(largest / 127))))


def quantize_logits(logits: FloatArray, step: float) -> NDArray[np.int8]:
    """Logits rounded up to multiples of `step`, as multiples.

    Rounding up keeps every comparison: a logit is greater than a multiple of `step` if, and only
    if, the rounded one is. What lies beyond -128 or 127 steps becomes that.

    Parameters
    ----------
    logits
        Finite, any shape.
    step
        A power of two, so that nothing is lost in the division.
    """
    rounded = np.clip(np.ceil(logits / np.float32(step)), -128, 127)
    quantized: NDArray[np.int8] = rounded.astype(np.int8)
    return quantized


def to_greys(volume: FloatArray) -> Greys:
    """Grey values as bytes, over nearly the whole range; a few extremes are cut off.

    Parameters
    ----------
    volume
        (z, y, x), finite.
    """
    flat = signal_values(volume)
    low, high = (
        float(v) for v in np.percentile(flat[:: max(1, flat.size // SAMPLE_VOXELS)], GREY_PERCENTILES)
    )
    if high <= low:
        low, high = float(flat.min()), float(flat.max())
    step = (high - low) / 255 or 1.0
    data = np.empty(volume.shape, np.uint8)
    for image, out in zip(volume, data, strict=True):
        out[:] = np.clip(np.rint((image - np.float32(low)) / np.float32(step)), 0, 255)
    return Greys(data=data, low=low, step=step)
