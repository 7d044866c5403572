"""Raw micrographs made fit for picking: outliers, low-pass, background, polarity."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cryoseg.core.robust import robust_map
from cryoseg.types import FloatArray

HOT_PIXEL_DEVIATIONS = 6.0
COARSE_SIGMA_PX = 4.0  # a background wider than this many pixels of a coarser grid is drawn on that grid
POLARITY_SKEWNESS = 0.15


def is_constant(image: FloatArray) -> bool:
    """Whether an image (any shape) holds one value, or so little else that no contrast can be made of it."""
    low, high = float(image.min()), float(image.max())
    return high - low <= 1e-6 * max(abs(low), abs(high))


def clip_outliers(image: FloatArray, *, deviations: float = HOT_PIXEL_DEVIATIONS) -> FloatArray:
    """Replace lonely extreme pixels by the median of their neighbors.

    A pixel is an outlier if it differs from the median of its 3 x 3 neighborhood by more than
    `deviations` robust standard deviations of that difference; large dark crystals stay.

    Parameters
    ----------
    image
        (y, x).
    deviations
        See above.
    """
    smooth = ndimage.median_filter(image, size=3, mode="nearest")
    apart = image - smooth
    spread = robust_map(apart).spread
    return np.where(np.abs(apart) > deviations * spread, smooth, image)


def low_pass(image: FloatArray, *, resolution_angstrom: float, pixel_size: float) -> FloatArray:
    """Gaussian low-pass whose transfer is one half at `resolution_angstrom`.

    Parameters
    ----------
    image
        (y, x).
    resolution_angstrom
        Detail finer than this goes.
    pixel_size
        Angstrom.
    """
    # exp(-2 (pi sigma f)^2) = 1/2 at f = 1 / resolution.
    sigma = np.sqrt(np.log(2) / 2) / np.pi * resolution_angstrom / pixel_size
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"), np.float32)


def flatten_background(image: FloatArray, *, sigma_px: float) -> FloatArray:
    """Take away the local mean, a Gaussian of `sigma_px` pixels; the median stays.

    Wide Gaussians are drawn on a coarser grid, so that the time does not depend on the width.

    Parameters
    ----------
    image
        (y, x).
    sigma_px
        Much wider than a particle.
    """
    step = max(1, int(sigma_px / COARSE_SIGMA_PX))
    height, width = image.shape
    pad = ((0, -height % step), (0, -width % step))
    padded = np.pad(image, pad, mode="edge")
    coarse = padded.reshape(padded.shape[0] // step, step, padded.shape[1] // step, step).mean(axis=(1, 3))
    coarse = ndimage.gaussian_filter(coarse, sigma_px / step, mode="nearest")
    # Coarse pixel i covers fine pixels i * step to i * step + step - 1.
    rows, columns = ((np.arange(n) + 0.5) / step - 0.5 for n in (height, width))
    grid = np.meshgrid(rows, columns, indexing="ij")
    background = ndimage.map_coordinates(coarse, grid, order=1, mode="nearest")
    return np.asarray(image - background + np.median(image[::4, ::4]), np.float32)


def particle_skewness(image: FloatArray, *, diameter_px: float) -> float:
    """Skewness of the image seen at the scale of a particle: negative where particles are dark.

    Parameters
    ----------
    image
        (y, x).
    diameter_px
        Of a particle.

    Returns
    -------
    float
        About 0 for noise; robust against crystals, since values are clipped.
    """
    step = max(1, int(diameter_px / 8))
    small = image[: image.shape[0] // step * step, : image.shape[1] // step * step]
    small = small.reshape(small.shape[0] // step, step, small.shape[1] // step, step).mean(axis=(1, 3))
    wide = diameter_px / step
    band = ndimage.gaussian_filter(small, 0.2 * wide) - ndimage.gaussian_filter(small, 0.8 * wide)
    values = robust_map(band)(band)
    spread = float(values.std())
    return 0.0 if spread == 0 else float(np.mean(((values - values.mean()) / spread) ** 3))
