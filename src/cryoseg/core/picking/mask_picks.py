"""Convert masks of particles to centers, and centers to masks of discs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from cryoseg.core.picking.detection import local_maxima, refine_centers, suppress_nonmaxima
from cryoseg.types import BoolArray, Points

SINGLE_AREA = 1.5  # Largest area of a component that is one particle, in discs.
SMALLEST_AREA = 0.2  # Smallest area of a particle in discs.
PEAK_SIGMA = 0.12  # Standard deviation of the Gaussian before the search for peaks, in diameters.
NEAREST_PEAKS = 0.45  # Smallest distance of two particles of one component in diameters.
PEAK_REACH = 0.2  # Half side of the window that centers a peak, in diameters.


def mask_centers(mask: BoolArray, *, diameter_px: float) -> Points:
    """Find the centers of particles in a mask in which particles may touch.

    A component of about the area of one particle is one particle at its center of mass. In larger
    components each peak of the distance transform is a particle, whose area is determined by a watershed.
    Small areas are ignored.

    Parameters
    ----------
    mask
        (y, x) mask.
    diameter_px
        Diameter of a particle in pixels.

    Returns
    -------
    NDArray
        (n, 2) positions y, x in pixels.
    """
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
    depth = np.minimum(ndimage.distance_transform_edt(together), 0.5 * diameter_px).astype(np.float32)
    hill = np.where(together, ndimage.gaussian_filter(depth, PEAK_SIGMA * diameter_px, mode="nearest"), 0)
    peaks = local_maxima(hill, floor=0.0)
    peaks = peaks[together[tuple(peaks.T)]]
    heights = hill[tuple(peaks.T)]
    kept = suppress_nonmaxima(peaks.astype(np.float64), heights, min_distance=NEAREST_PEAKS * diameter_px)
    peaks = peaks[kept]
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

    Parameters
    ----------
    centers
        (n, 2) positions y, x in pixels.
    shape
        (y, x) shape of the result.
    diameter_px
        Diameter of the discs in pixels.
    """
    labels = np.zeros(shape, np.int32)
    nearest = np.full(shape, (diameter_px / 2) ** 2, np.float32)
    reach = int(np.ceil(diameter_px / 2)) + 1
    for number, (y, x) in enumerate(centers, start=1):
        top, left = max(0, int(y) - reach), max(0, int(x) - reach)
        window = np.s_[top : max(0, int(y) + reach + 1), left : max(0, int(x) + reach + 1)]
        piece = nearest[window]
        rows, columns = np.ogrid[top : top + piece.shape[0], left : left + piece.shape[1]]
        distance = (rows - y) ** 2 + (columns - x) ** 2
        closer = distance <= piece
        labels[window][closer] = number
        piece[closer] = distance[closer]
    return labels
