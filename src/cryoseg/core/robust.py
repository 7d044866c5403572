"""Normalization by median and interquartile range, which a few outliers do not change."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import BoolArray, FloatArray

SAMPLE_VOXELS = 4_000_000  # Quantiles of larger volumes are computed from a regular subset.
CLIP = 4.0  # Largest normalized value in robust standard deviations.
RGB_SPAN = 2.5  # Robust deviations that become black and white for networks with RGB input.
IQR_OF_NORMAL = 1.349  # Interquartile range of the standard normal distribution.


@dataclass(frozen=True, kw_only=True)
class IntensityMap:
    """Map grey values to clip((value - center) / spread) * sign in float32.

    Attributes
    ----------
    center
        Median of the volume.
    spread
        Interquartile range divided by 1.349, which is the standard deviation of normally distributed values.
    sign
        -1 exchanges dark and bright.
    """

    center: float
    spread: float
    sign: float = 1.0

    def __call__(self, values: NDArray[Any]) -> FloatArray:
        """Return normalized values of any shape as float32, clipped to +-`CLIP`."""
        scale = self.sign / self.spread
        # The reciprocal of a spread near the smallest float32 is no float32.
        if abs(scale) > float(np.finfo(np.float32).max):
            return np.clip((values.astype(np.float64) - self.center) * scale, -CLIP, CLIP).astype(np.float32)
        mapped = (values.astype(np.float32) - np.float32(self.center)) * np.float32(scale)
        return np.clip(mapped, -CLIP, CLIP, out=mapped)


def robust_map(volume: NDArray[Any], *, invert: bool = False, blank: BoolArray | None = None) -> IntensityMap:
    """Compute the intensity map of a volume from its median and interquartile range.

    The standard deviation replaces an interquartile range of 0. A constant volume is mapped to 0.

    Parameters
    ----------
    volume
        Volume or image of any type with finite values.
    invert
        Whether the map exchanges dark and bright.
    blank
        Array of the same shape that is True where there is no signal, from `core.grids.blank`. These voxels
        are ignored unless the whole sample is blank.
    """
    flat = volume.reshape(-1)
    step = max(1, flat.size // SAMPLE_VOXELS)
    sample = flat[::step].astype(np.float64)
    if blank is not None and (signal := ~blank.reshape(-1)[::step]).any():
        sample = sample[signal]
    low, center, high = np.percentile(sample, [25, 50, 75])
    spread = (high - low) / IQR_OF_NORMAL or float(sample.std()) or 1.0
    return IntensityMap(center=float(center), spread=float(spread), sign=-1.0 if invert else 1.0)
