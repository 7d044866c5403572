"""A micrograph as a particle network sees it, in training and in use alike."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cryoseg.core.grids.resample import linear_weights
from cryoseg.core.robust import CLIP, robust_map
from cryoseg.types import FloatArray

# Standard deviation, in particle diameters, of the local mean that is taken away: slow gradients of
# ice go, a particle's own contrast stays.
BACKGROUND_DIAMETERS = 5.0


def view_shape(shape: tuple[int, int], *, diameter_px: float, particle_pixels: float) -> tuple[int, int]:
    """Grid on which a particle of `diameter_px` pixels is `particle_pixels` wide, (y, x)."""
    scale = particle_pixels / diameter_px
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def rescale(image: NDArray[Any], shape: tuple[int, int]) -> FloatArray:
    """An image on another grid over the same extent, averaged towards a coarser one, (y, x)."""
    if image.shape == shape:
        return np.asarray(image, dtype=np.float32)
    rows, columns = (linear_weights(n, m) for n, m in zip(image.shape, shape, strict=True))
    return np.ascontiguousarray((columns @ (rows @ image.astype(np.float32)).T).T, dtype=np.float32)


def particle_view(
    image: NDArray[Any], *, diameter_px: float, particle_pixels: float, invert: bool = False
) -> FloatArray:
    """Clip outliers, rescale, take the background away and bring the grey values to unit deviation.

    Parameters
    ----------
    image
        (y, x), finite, any type.
    diameter_px
        Of a particle in `image`, in pixels.
    particle_pixels
        Its diameter at the network's scale (of the model's recipe).
    invert
        Exchange dark and bright.

    Returns
    -------
    FloatArray
        Of shape `view_shape`, zero median and unit robust deviation, within +-4; zero everywhere for
        a constant image.
    """
    height, width = image.shape
    shape = view_shape((height, width), diameter_px=diameter_px, particle_pixels=particle_pixels)
    small = rescale(robust_map(image, invert=invert)(image), shape)
    flat = small - gaussian_filter(small, BACKGROUND_DIAMETERS * particle_pixels, truncate=2.5)
    if float(flat.std()) < 1e-6 * CLIP:
        return np.zeros_like(flat)
    return robust_map(flat)(flat)
