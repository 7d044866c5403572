"""Discs for centers, and centers for masks that are made of discs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from cryoseg.core.picking.detection import local_maxima, refine_centers, suppress_nonmaxima
from cryoseg.types import BoolArray

Points = NDArray[np.float64]

LONE_AREA = 1.5  # components up to so many discs are one particle
SMALLEST_AREA = 0.2  # of a particle's pixels, in discs
PEAK_SIGMA = 0.12  # of the blur before peaks are sought, in diameters
NEAREST_PEAKS = 0.45  # closer peaks of one component are one particle, in diameters
PEAK_REACH = 0.2  # half side of the window that centers a peak, in diameters


def mask_centers(mask: BoolArray, *, diameter_px: float) -> Points:
    """Centers of the particles in a mask, in which they may touch.

    A component of about one particle's area is one particle, at its center of mass. In larger ones
    each peak of the distance to the background is a particle, and a watershed gives it its pixels.
    Specks are left out.

    Parameters
    ----------
    mask
        (y, x).
    diameter_px
        Of a particle, in pixels of `mask`.

    Returns
    -------
    NDArray
        (n, 2) y, x.
    """
    disc = np.pi / 4 * diameter_px**2
    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return np.empty((0, 2))
    crowded = np.bincount(components.ravel(), minlength=count + 1) > LONE_AREA * disc
    crowded[0] = False
    lone = np.where(crowded[components], 0, components)
    table = regionprops_table(  # type: ignore[no-untyped-call]
        lone, properties=("area", "centroid")
    )
    whole = table["area"] >= SMALLEST_AREA * disc
    centers: Points = np.stack([table["centroid-0"], table["centroid-1"]], axis=1)[whole]
    if not crowded.any():
        return centers
    return np.concatenate([centers, _split(crowded[components], diameter_px=diameter_px)])


def _split(together: BoolArray, *, diameter_px: float) -> Points:
    """Centers within components that hold several particles."""
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
    """Number of the nearest center in every pixel within half a diameter of one, else 0.

    Parameters
    ----------
    centers
        (n, 2) y, x in pixels, pixel centers at whole numbers.
    shape
        (y, x) of the result.
    diameter_px
        Of every disc.
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
