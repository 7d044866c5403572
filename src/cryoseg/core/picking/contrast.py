"""Preprocess raw micrographs for picking: outliers, low-pass filter, background and polarity."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cryoseg.core.grids.robust import robust_map
from cryoseg.types import FloatArray

HOT_PIXEL_DEVIATIONS = 6.0
COARSE_SIGMA_PX = 4.0  # Smallest standard deviation of a Gaussian background on a reduced image, in pixels.
POLARITY_SKEWNESS = 0.15


def is_constant(image: FloatArray) -> bool:
    """Return whether an image of any shape has no contrast: a relative range of at most 1e-6."""
    low, high = float(image.min()), float(image.max())
    return high - low <= 1e-6 * max(abs(low), abs(high))


def clip_outliers(image: FloatArray) -> FloatArray:
    """Replace isolated extreme pixels of a (y, x) image by the median of their 3 x 3 neighborhood.

    A pixel is an outlier if it differs from that median by more than `HOT_PIXEL_DEVIATIONS` robust
    standard deviations of this difference. Large dark crystals are kept.
    """
    smooth = ndimage.median_filter(image, size=3, mode="nearest")
    difference = image - smooth
    spread = robust_map(difference).spread
    return np.where(np.abs(difference) > HOT_PIXEL_DEVIATIONS * spread, smooth, image)


def low_pass(image: FloatArray, *, resolution_angstrom: float, pixel_size: float) -> FloatArray:
    """Apply a Gaussian low-pass filter to a (y, x) image.

    The filter transmits one half at `resolution_angstrom`; the pixel size is in angstrom.
    """
    # The transfer exp(-2 (pi sigma f)^2) is 1/2 at f = 1 / resolution.
    sigma = np.sqrt(np.log(2) / 2) / np.pi * resolution_angstrom / pixel_size
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"), np.float32)


def flatten_background(image: FloatArray, *, sigma_px: float) -> FloatArray:
    """Subtract the local mean of a (y, x) image and keep its median.

    The mean is a Gaussian of `sigma_px` pixels, computed on a reduced image so that the time does not depend
    on its width.
    """
    step = max(1, int(sigma_px / COARSE_SIGMA_PX))
    height, width = image.shape
    padded = np.pad(image, ((0, -height % step), (0, -width % step)), mode="edge")
    coarse = ndimage.gaussian_filter(_block_means(padded, step), sigma_px / step, mode="nearest")
    # Coarse pixel i covers fine pixels i * step to i * step + step - 1.
    rows, columns = ((np.arange(n) + 0.5) / step - 0.5 for n in (height, width))
    grid = np.meshgrid(rows, columns, indexing="ij")
    background = ndimage.map_coordinates(coarse, grid, order=1, mode="nearest")
    return np.asarray(image - background + np.median(image[::4, ::4]), np.float32)


def particle_skewness(image: FloatArray, *, diameter_px: float) -> float:
    """Return the skewness of a (y, x) image that is band-passed at the scale of a particle.

    It is negative if particles are dark and about 0 for noise. Values are clipped, so that crystals hardly
    affect it. `diameter_px` is the diameter of a particle in pixels.
    """
    step = max(1, int(diameter_px / 8))
    small = _block_means(image[: image.shape[0] // step * step, : image.shape[1] // step * step], step)
    wide = diameter_px / step
    band = ndimage.gaussian_filter(small, 0.2 * wide) - ndimage.gaussian_filter(small, 0.8 * wide)
    values = robust_map(band)(band)
    spread = float(values.std())
    return 0.0 if spread == 0 else float(np.mean(((values - values.mean()) / spread) ** 3))


def _block_means(image: FloatArray, step: int) -> FloatArray:
    """Return the means of blocks of `step` x `step` pixels, which must divide the (y, x) image."""
    means: FloatArray = image.reshape(image.shape[0] // step, step, image.shape[1] // step, step).mean((1, 3))
    return means
