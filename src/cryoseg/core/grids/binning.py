"""Reduce volumes for transfer to a browser: block means and quantization to bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.grids.blank import signal_values
from cryoseg.core.grids.resample import Slices
from cryoseg.core.grids.robust import SAMPLE_VOXELS
from cryoseg.types import BoolArray, FloatArray

Factors = tuple[int, int, int]

# Thresholds lie between logits of -8 and 8, which are probabilities of 0.0003 and 0.9997.
COARSEST_STEP = 1 / 16
GREY_PERCENTILES = (0.05, 99.95)


@dataclass(frozen=True, kw_only=True)
class Greys:
    """Grey values as bytes, (z, y, x) uint8: value = `low` + `step` * byte, in the units of the volume."""

    data: NDArray[np.uint8]
    low: float
    step: float


def binned_shape(shape: tuple[int, ...], factors: Factors) -> tuple[int, int, int]:
    """Return the (z, y, x) shape after binning, including an incomplete last block along each axis."""
    depth, height, width = (-(-n // factor) for n, factor in zip(shape, factors, strict=True))
    return depth, height, width


def bin_volume(volume: Slices, factors: Factors) -> FloatArray:
    """Compute the mean of every block of a (z, y, x) volume that is read slice by slice.

    `factors` is the (z, y, x) size of a block in voxels; the last block along an axis may be smaller. The
    result has the shape `binned_shape`; its block (k, j, i) begins at voxel (k, j, i) times `factors`.
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
    """Return the (z, y, x) blocks of a mask in which at least the fraction `share` is marked."""
    return bin_volume(mask, factors) >= np.float32(share)


def logit_step(logits: NDArray[np.floating[Any]]) -> float:
    """Return the smallest power of two whose multiples by -128 to 127 cover (z, y, x) logits, or 1/16."""
    largest = max((float(np.abs(image).max()) for image in logits if image.size), default=0.0)
    if largest == 0:
        return COARSEST_STEP
    return float(min(COARSEST_STEP, 2.0 ** math.ceil(math.log2(largest / 127))))


def quantize_logits(logits: FloatArray, step: float) -> NDArray[np.int8]:
    """Round finite logits of any shape up to multiples of `step`, clipped to -128 and 127 steps.

    Rounding up keeps comparisons: a logit exceeds a multiple of `step` exactly if the rounded logit does.
    `step` is a power of two, so that the division is exact.
    """
    rounded = np.clip(np.ceil(logits / np.float32(step)), -128, 127)
    quantized: NDArray[np.int8] = rounded.astype(np.int8)
    return quantized


def to_greys(volume: FloatArray) -> Greys:
    """Convert a (z, y, x) volume with finite values to bytes; one value in a thousand is clipped."""
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
