"""Prepare a micrograph as the input of a particle network, for training and prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryoseg.core.grids.resample import resample_image
from cryoseg.core.robust import CLIP, robust_map
from cryoseg.types import FloatArray

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
