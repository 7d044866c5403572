"""Convert logits and masks of micrographs to picks, and picks to masks of discs.

The logits are processed on their own grid, on which a particle has a diameter of about twenty pixels. The
centers have sub-pixel accuracy, so that the coarse grid does not limit them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.core.picking.detection import local_maxima, refine_centers, suppress_nonmaxima
from cryoseg.types import BoolArray, FloatArray, Points

SINGLE_AREA = 1.5  # Largest area of a component that is one particle, in discs.
SMALLEST_AREA = 0.2  # Smallest area of a particle in discs.
NEAREST_PEAKS = 0.45  # Smallest distance of two particles of one component in diameters.
PEAK_REACH = 0.2  # Half side of the window that centers a peak, in diameters.


def mask_centers(mask: BoolArray, *, diameter_px: float) -> Points:
    """Find the (n, 2) centers y, x of particles in a (y, x) mask in which particles may touch, in pixels.

    A component of about the area of one particle is one particle at its center of mass. In larger
    components each peak of the distance transform is a particle, whose area is determined by a watershed.
    Small areas are ignored.
    """
    from skimage.measure import regionprops_table  # slow to import

    disc = np.pi / 4 * diameter_px**2
    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return np.empty((0, 2))
    merged = np.bincount(components.ravel(), minlength=count + 1) > SINGLE_AREA * disc
    merged[0] = False
    single = np.where(merged[components], 0, components)
    table = regionprops_table(  # type: ignore[no-untyped-call]
        single, properties=("area", "centroid")
    )
    whole = table["area"] >= SMALLEST_AREA * disc
    centers: Points = np.stack([table["centroid-0"], table["centroid-1"]], axis=1)[whole]
    if not merged.any():
        return centers
    return np.concatenate([centers, _split(merged[components], diameter_px=diameter_px)])


def _split(together: BoolArray, *, diameter_px: float) -> Points:
    """Find the centers in components of several particles."""
    from skimage.segmentation import watershed  # slow to import

    depth = np.minimum(ndimage.distance_transform_edt(together), 0.5 * diameter_px).astype(np.float32)
    hill = np.where(together, ndimage.gaussian_filter(depth, PEAK_SIGMAS[0] * diameter_px, mode="nearest"), 0)
    peaks, _ = _peaks(hill, floor=0.0, min_distance=NEAREST_PEAKS * diameter_px)
    seeds = np.zeros(together.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    regions = watershed(-hill, seeds, mask=together)  # type: ignore[no-untyped-call]
    areas = np.bincount(regions.ravel(), minlength=len(peaks) + 1)[1:]
    reach = (PEAK_REACH * diameter_px, PEAK_REACH * diameter_px)
    centers = refine_centers(hill, peaks, reach=reach)
    return centers[areas >= SMALLEST_AREA * np.pi / 4 * diameter_px**2]


def draw_discs(
    centers: NDArray[np.float64], shape: tuple[int, int], *, diameter_px: float
) -> NDArray[np.int32]:
    """Draw discs that are labeled by the number of the nearest center, from 1; the background is 0.

    `centers` are (n, 2) positions y, x in pixels; the result has the (y, x) shape.
    """
    labels = np.zeros(shape, np.int32)
    nearest = np.full(shape, (diameter_px / 2) ** 2, np.float32)
    for number, (window, distance) in enumerate(_windows(centers, shape, diameter_px), start=1):
        piece = nearest[window]
        closer = distance <= piece
        labels[window][closer] = number
        piece[closer] = distance[closer]
    return labels


def disc_mask(centers: NDArray[np.float64], shape: tuple[int, int], *, diameter_px: float) -> BoolArray:
    """Return the (y, x) mask of the discs around (n, 2) centers y, x in pixels."""
    mask = np.zeros(shape, bool)
    for window, distance in _windows(centers, shape, diameter_px):
        mask[window] |= distance <= np.float32((diameter_px / 2) ** 2)
    return mask


def _windows(
    centers: NDArray[np.float64], shape: tuple[int, int], diameter_px: float
) -> Iterator[tuple[tuple[slice, slice], NDArray[np.float64]]]:
    """Return the window around every disc and the squared distances (y, x) from its center."""
    reach = int(np.ceil(diameter_px / 2)) + 1
    for y, x in centers:
        sides = [
            (max(0, int(place) - reach), min(length, max(0, int(place) + reach + 1)))
            for place, length in zip((y, x), shape, strict=True)
        ]
        (top, bottom), (left, right) = sides
        rows, columns = np.ogrid[top:bottom, left:right]
        yield np.s_[top:bottom, left:right], (rows - y) ** 2 + (columns - x) ** 2


# Standard deviations of the Gaussian before the search for peaks, in particle diameters. A small one
# separates overlapping particles, a large one merges the peaks of an uneven particle. The training chooses
# the best one on the validation micrographs.
PEAK_SIGMAS = (0.12, 0.18, 0.25)
NEAREST_PICKS = 0.4  # Smallest distance of two particles in diameters.
LOGIT_LIMIT = 12.0  # Logits are clipped, because larger ones are not more often right.
BELOW_MASK = 2.0  # Peaks up to this far below the threshold of the mask are candidates.


@dataclass(frozen=True, kw_only=True)
class LogitPicks:
    """Particles of one logit map, best first: (n, 2) centers y, x in pixels, and (n,) raw scores.

    The raw scores are the smoothed logits at the peaks, which `core.picking.calibration` converts to scores.
    """

    centers: Points
    raw_scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centers)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> LogitPicks:
        """Return the picks that a mask (n,) or indices (m,) select."""
        return LogitPicks(centers=self.centers[chosen], raw_scores=self.raw_scores[chosen])


def logits_to_picks(
    logits: FloatArray,
    *,
    diameter_px: float,
    logit_threshold: float = 0.0,
    peak_sigma: float = PEAK_SIGMAS[0],
    min_distance_px: float | None = None,
) -> LogitPicks:
    """Find particles at the peaks of smoothed logits.

    Overlapping particles have a common outline but separate peaks. With three networks on EMPIAR-10017,
    peaks gave a better F1 (0.76, 0.84, 0.79) than the separation of the thresholded mask by its distance
    transform at the best threshold (0.67, 0.82, 0.69).

    Parameters
    ----------
    logits
        (y, x) logits.
    diameter_px
        Diameter of a particle in pixels of `logits`.
    logit_threshold
        Threshold of pixels that belong to particles. Peaks down to 2 below it are candidates.
    peak_sigma
        Standard deviation of the Gaussian in diameters; see `PEAK_SIGMAS`.
    min_distance_px
        Smallest distance of two picks in pixels; None uses 0.4 diameters.
    """
    clipped = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float32)
    smooth = ndimage.gaussian_filter(clipped, peak_sigma * diameter_px, mode="nearest")
    distance = NEAREST_PICKS * diameter_px if min_distance_px is None else min_distance_px
    peaks, heights = _peaks(smooth, floor=logit_threshold - BELOW_MASK, min_distance=distance)
    centers = _centers(smooth, peaks, clipped > logit_threshold, diameter_px=diameter_px)
    kept = suppress_nonmaxima(centers, heights, min_distance=distance)
    return LogitPicks(centers=centers[kept], raw_scores=heights[kept].astype(np.float64))


def _peaks(values: FloatArray, *, floor: float, min_distance: float) -> tuple[NDArray[np.int64], FloatArray]:
    """Return the (n, 2) maxima above a floor without those near a higher one, and their (n,) values."""
    peaks = local_maxima(values, floor=floor)
    heights = values[tuple(peaks.T)]
    kept = suppress_nonmaxima(peaks.astype(np.float64), heights, min_distance=min_distance)
    return peaks[kept], heights[kept]


def _centers(smooth: FloatArray, peaks: NDArray[np.int64], mask: BoolArray, *, diameter_px: float) -> Points:
    """Return the center of mass of a component with a single peak, otherwise the refined peak."""
    reach = (PEAK_REACH * diameter_px, PEAK_REACH * diameter_px)
    hills = (1 / (1 + np.exp(-smooth))).astype(np.float32)
    centers = refine_centers(hills, peaks, reach=reach)
    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    labels = components[tuple(peaks.T)]
    areas = np.bincount(components.ravel(), minlength=count + 1)[labels]
    peak_counts = np.bincount(labels, minlength=count + 1)[labels]
    single = (labels > 0) & (peak_counts == 1) & (areas <= SINGLE_AREA * np.pi / 4 * diameter_px**2)
    if single.any():
        centers[single] = ndimage.center_of_mass(mask, components, labels[single])
    return centers


def grow_cores(logits: FloatArray, *, core: float, diameter_px: float) -> FloatArray:
    """Convert logits of the cores of particles to logits of whole particles by a grey dilation.

    The radius of the dilation is the difference between the radii of particle and core, so that discs of
    the core become discs of the particle at every threshold. `logits` are (y, x); `core` is the diameter of
    the cores in particle diameters, and 1 returns the logits unchanged.
    """
    rim = (1 - core) / 2 * diameter_px
    if rim <= 0:
        return logits
    reach = int(np.ceil(rim))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return np.asarray(ndimage.grey_dilation(logits, footprint=y**2 + x**2 <= rim**2, mode="nearest"))
