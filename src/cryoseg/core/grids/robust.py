"""Normalize the grey values of volumes and micrographs, and fill regions without signal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from scipy.ndimage import distance_transform_edt

from cryoseg.config import Normalize
from cryoseg.core.grids.resample import Slices, resample_image
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
    step = max(1, volume.size // SAMPLE_VOXELS)
    # Unlike `reshape`, `flat` does not copy a volume whose axes were mirrored or exchanged.
    sample = volume.flat[::step].astype(np.float64)
    if blank is not None and (signal := ~blank.flat[::step]).any():
        sample = sample[signal]
    low, center, high = np.percentile(sample, [25, 50, 75])
    spread = (high - low) / IQR_OF_NORMAL or float(sample.std()) or 1.0
    return IntensityMap(center=float(center), spread=float(spread), sign=-1.0 if invert else 1.0)


class FilledSlices:
    """A (z, y, x) volume whose blank voxels are replaced by a value, one slice at a time.

    `blank` is the array from `find_blank`; the value is one such as the median of the signal.
    """

    def __init__(self, volume: Slices, blank: BoolArray, value: float) -> None:
        self.shape = volume.shape
        self._volume, self._blank, self._value = volume, blank, value

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, z: int) -> FloatArray:
        """Return slice `z` with replaced values, (y, x) float32."""
        image: FloatArray = np.array(self._volume[z], np.float32)
        image[self._blank[z]] = self._value
        return image


def fill_by_mirror(image: FloatArray, blank: BoolArray) -> FloatArray:
    """Replace blank pixels of a (y, x) image by the signal mirrored at the border of the blank region.

    Filters and statistics then process texture like that of the signal instead of a plateau or an edge. If
    the mirrored position is blank too, the nearest pixel with signal replaces the blank one.
    """
    nearest = distance_transform_edt(blank, return_distances=False, return_indices=True)
    y, x = np.nonzero(blank)
    near_y, near_x = nearest[0][y, x], nearest[1][y, x]
    mirror_y = np.clip(2 * near_y - y, 0, image.shape[0] - 1)
    mirror_x = np.clip(2 * near_x - x, 0, image.shape[1] - 1)
    is_blank = blank[mirror_y, mirror_x]
    filled = image.copy()
    filled[y, x] = image[np.where(is_blank, near_y, mirror_y), np.where(is_blank, near_x, mirror_x)]
    return filled


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
    """Clip outliers, rescale a (y, x) image, subtract the background and normalize the grey values.

    Parameters
    ----------
    image
        (y, x) image of any type with finite values.
    diameter_px, particle_pixels
        Diameter of a particle in pixels of `image`, and in pixels of the network's input.
    invert
        Whether to exchange dark and bright.

    Returns
    -------
    FloatArray
        Image of shape `view_shape` with zero median and unit robust deviation, clipped to +-4. A constant
        image gives zeros.
    """
    clipped = robust_map(image, invert=invert)(image)
    return scaled_view(clipped, diameter_px=diameter_px, particle_pixels=particle_pixels)


def scaled_view(clipped: FloatArray, *, diameter_px: float, particle_pixels: float) -> FloatArray:
    """Return the view of `particle_view` of a (y, x) image or a part of it, whose outliers are clipped."""
    height, width = clipped.shape
    shape = view_shape((height, width), diameter_px=diameter_px, particle_pixels=particle_pixels)
    small = resample_image(clipped, shape)
    flat = small - _blur(small, BACKGROUND_DIAMETERS * particle_pixels)
    if float(flat.std()) < 1e-6 * CLIP:
        return np.zeros_like(flat)
    return robust_map(flat)(flat)


def _blur(image: FloatArray, sigma: float) -> FloatArray:
    """Return a (y, x) image after a Gaussian filter that is cut off at 2.5 standard deviations.

    The image is reflected at its borders. The cosine transforms of image and kernel are multiplied, which is
    faster than a convolution with a kernel of hundreds of pixels.
    """
    steps = np.arange(1, int(2.5 * sigma + 0.5) + 1)
    kernel = np.exp(-0.5 * (steps / sigma) ** 2)
    spectrum = dctn(image)
    for axis, length in enumerate(image.shape):
        angles = np.pi * np.arange(length) / length
        response = (1 + 2 * np.cos(np.outer(angles, steps)) @ kernel) / (1 + 2 * kernel.sum())
        spectrum *= np.expand_dims(response, 1 - axis).astype(np.float32)
    return np.asarray(idctn(spectrum, overwrite_x=True))


STAGE1_CLIP = 5.0  # Source: jianlin-cheng/ETSAM etsam.py@b859060, between the stages.

PlaneMap = Callable[[NDArray[Any]], NDArray[np.floating[Any]]]


def intensity_map(
    volume: NDArray[Any],
    method: Normalize,
    *,
    blank: BoolArray | None = None,
    invert: bool = False,
    as_float32: bool = True,
) -> PlaneMap:
    """Return the map from the grey values of a volume to the input of the network.

    Parameters
    ----------
    volume
        (z, y, x) volume of any real type with finite values.
    method
        Normalization method.
    blank
        (z, y, x) array that is True where there is no signal, which the statistics ignore; None if there
        is signal everywhere.
    invert
        Whether dark and bright are exchanged first: volumes with negative values are negated, others are
        mirrored within their range.
    as_float32
        Whether integers are converted to float32; False uses double precision, as ETSAM's first release.

    Returns
    -------
    PlaneMap
        Function from any part of `volume` to floats of the same shape. It returns 0 for a volume without
        positive values under `positive-max` and for a constant volume under `softplus` and `robust`.

    Notes
    -----
    Source: ETSAM, `--normalize-method`. The authors' code returns NaN for constant volumes.
    """
    if method is Normalize.ROBUST:
        return robust_map(volume, invert=invert, blank=blank)
    low, high = _extremes(volume, blank)
    double = not as_float32 and volume.dtype.kind in "iu"
    kind = np.dtype(np.float64 if double else np.float32).type
    mirror = None if not invert else kind(0) if low < 0 else kind(low) + kind(high)

    def prepared(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
        if blank is not None:  # Blank voxels can lie outside the range of the signal.
            plane = np.clip(plane, low, high)
        values: NDArray[np.floating[Any]] = plane.astype(kind)
        if mirror is not None:
            values = np.asarray(mirror - values)
        return values

    first, last = np.sort(prepared(np.array([low, high])))
    if method is Normalize.POSITIVE_MAX:

        def positive_max(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
            values = np.clip(prepared(plane), 0, None)
            return np.asarray(values / last) if last > 0 else values

        return positive_max
    assert method is Normalize.SOFTPLUS
    floor, ceiling = _softplus(first), _softplus(last)
    span = ceiling - floor

    def softplus(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
        raised = _softplus(prepared(plane)) - floor
        return np.asarray(raised / span if span > 0 else np.zeros_like(raised))

    return softplus


def fused_logits_map(logits: NDArray[np.floating[Any]]) -> Callable[[NDArray[np.floating[Any]]], FloatArray]:
    """Return the map of stage-1 logits to [0, 1]: clipped to +-5, then scaled by the range of the volume.

    The map takes any part of the (z, y, x) `logits`; constant logits give 0.

    Source: jianlin-cheng/ETSAM etsam.py@b859060.
    """
    clip = np.float32(STAGE1_CLIP)
    low, high = (np.clip(np.float32(value), -clip, clip) for value in (logits.min(), logits.max()))
    span = high - low

    def fused(part: NDArray[np.floating[Any]]) -> FloatArray:
        raised: FloatArray = np.clip(part.astype(np.float32, copy=False), -clip, clip) - low
        return raised / span if span > 0 else np.zeros_like(raised)

    return fused


def _extremes(volume: NDArray[Any], blank: BoolArray | None) -> tuple[Any, Any]:
    if blank is None:
        return volume.min(), volume.max()
    signal = [image[~where] for image, where in zip(volume, blank, strict=True) if not where.all()]
    return min(part.min() for part in signal), max(part.max() for part in signal)


def _softplus(x: Any) -> Any:
    # This is log(1 + exp(x)) without the overflow of exp in float32 above 88.
    return np.logaddexp(x.dtype.type(0), x)
