"""Normalize grey values robustly, and prepare micrographs as the input of particle networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryoseg.core.grids.resample import resample_image
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
        (z, y, x) volume or (y, x) image of any type with finite values.
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


# Standard deviation, in particle diameters, of the local mean that is subtracted. It removes slow
# gradients of the ice and keeps the contrast of the particles.
BACKGROUND_DIAMETERS = 5.0


def view_shape(shape: tuple[int, int], *, diameter_px: float, particle_pixels: float) -> tuple[int, int]:
    """Return the (y, x) shape on which a particle of `diameter_px` pixels is `particle_pixels` wide."""
    scale = particle_pixels / diameter_px
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def particle_view(
    image: NDArray[Any], *, diameter_px: float, particle_pixels: float, invert: bool = False
) -> FloatArray:
    """Clip outliers, rescale the image, subtract the background and normalize the grey values.

    Parameters
    ----------
    image
        (y, x) image of any type with finite values.
    diameter_px
        Diameter of a particle in pixels of `image`.
    particle_pixels
        Diameter of a particle in pixels of the network's input, from the recipe of the model.
    invert
        Whether to exchange dark and bright.

    Returns
    -------
    FloatArray
        Image of shape `view_shape` with zero median and unit robust deviation, clipped to +-4. A constant
        image gives zeros.
    """
    height, width = image.shape
    shape = view_shape((height, width), diameter_px=diameter_px, particle_pixels=particle_pixels)
    small = resample_image(robust_map(image, invert=invert)(image), shape)
    flat = small - gaussian_filter(small, BACKGROUND_DIAMETERS * particle_pixels, truncate=2.5)
    if float(flat.std()) < 1e-6 * CLIP:
        return np.zeros_like(flat)
    return robust_map(flat)(flat)
