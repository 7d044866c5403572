"""Intensity maps that a few hot voxels do not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import BoolArray, FloatArray

SAMPLE_VOXELS = 4_000_000  # quantiles of more voxels than this are taken from a regular subset
CLIP = 4.0  # in robust standard deviations
RGB_SPAN = 2.5  # grey values at +-this many deviations become black and white for networks that see RGB
IQR_OF_NORMAL = 1.349  # interquartile range of the standard normal distribution


@dataclass(frozen=True, kw_only=True)
class IntensityMap:
    """value -> clip((value - center) / spread) * sign, in float32.

    Attributes
    ----------
    center
        Median of the volume.
    spread
        Interquartile range over 1.349: the standard deviation, if the grey values were normal.
    sign
        -1 turns bright membranes into dark ones.
    """

    center: float
    spread: float
    sign: float = 1.0

    def __call__(self, values: NDArray[Any]) -> FloatArray:
        """Any shape and type to float32 within +-CLIP."""
        mapped = (values.astype(np.float32) - np.float32(self.center)) * np.float32(self.sign / self.spread)
        return np.clip(mapped, -CLIP, CLIP, out=mapped)


def robust_map(volume: NDArray[Any], *, invert: bool = False, blank: BoolArray | None = None) -> IntensityMap:
    """Median and interquartile range of a volume, as an `IntensityMap`.

    A constant volume maps to 0; one whose quartiles coincide falls back to the standard deviation.

    Parameters
    ----------
    volume
        (z, y, x), finite, any type.
    invert
        Membranes are bright in this volume.
    blank
        True where there is no signal, from `core.blank.find_blank`; these voxels are left out.
    """
    flat = volume.reshape(-1)
    step = max(1, flat.size // SAMPLE_VOXELS)
    sample = flat[::step].astype(np.float64)
    if blank is not None:
        sample = sample[~blank.reshape(-1)[::step]]
    low, center, high = np.percentile(sample, [25, 50, 75])
    spread = (high - low) / IQR_OF_NORMAL or float(sample.std()) or 1.0
    return IntensityMap(center=float(center), spread=float(spread), sign=-1.0 if invert else 1.0)
