"""From logits of a micrograph to picks: components, touching particles split, centers, scores.

Everything happens on the grid of the logits, where a particle is some twenty pixels wide; centers
lie between pixels, so nothing is lost by that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from cryoseg.core.detection import local_maxima, refine_centers, suppress_nonmaxima
from cryoseg.types import BoolArray, FloatArray

Points = NDArray[np.float64]

LONE_AREA = 1.5  # components up to so many discs are one particle
PEAK_SIGMA = 0.12  # of the blur before peaks are sought, in diameters
NEAREST_PEAKS = 0.45  # closer peaks of one component are one particle, in diameters
NEAREST_PICKS = 0.4  # the same after centering
CORE_RADIUS = 0.3  # of the disc whose mean logit scores a particle, in diameters
REFINE_REACH = 0.2  # of the window that centers a peak, in diameters
LOGIT_LIMIT = 12.0  # a network that is surer than this is not more often right


@dataclass(frozen=True, kw_only=True)
class MaskPicks:
    """Particles of one logit map, best first.

    Attributes
    ----------
    centers
        (n, 2) y, x in pixels of the map.
    raw_scores
        (n,) mean logit at the particle's core, which `core.calibration` turns into a score.
    areas
        (n,) pixels of the mask that belong to it.
    """

    centers: Points
    raw_scores: NDArray[np.float64]
    areas: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.centers)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> MaskPicks:
        """Some of them, by mask or index."""
        return MaskPicks(
            centers=self.centers[chosen], raw_scores=self.raw_scores[chosen], areas=self.areas[chosen]
        )


def mask_to_picks(
    logits: FloatArray,
    *,
    diameter_px: float,
    logit_threshold: float = 0.0,
    min_distance_px: float | None = None,
    area_band: tuple[float, float] = (0.2, 4.0),
) -> MaskPicks:
    """Particles where the logits exceed a threshold.

    A component of about one particle's area is one particle, at its center of mass. In larger ones
    each peak of the distance to the background, weighted by the probability, is a particle, and a
    watershed gives it its pixels.

    Parameters
    ----------
    logits
        (y, x).
    diameter_px
        Of a particle, in pixels of `logits`.
    logit_threshold
        Pixels above it belong to particles.
    min_distance_px
        Of two picks, the better one is kept; None takes 0.4 diameters.
    area_band
        Smallest and largest area of a pick's pixels, in discs of the diameter.

    Returns
    -------
    MaskPicks
        Best first.
    """
    mask = logits > logit_threshold
    disc = np.pi / 4 * diameter_px**2
    regions, peaks = _regions(logits, mask, diameter_px=diameter_px, lone_area=LONE_AREA * disc)
    if not len(peaks):
        return MaskPicks(centers=np.empty((0, 2)), raw_scores=np.empty(0), areas=np.empty(0))
    areas = np.bincount(regions.ravel(), minlength=len(peaks) + 1)[1:].astype(np.float64)
    picks = MaskPicks(
        centers=peaks, raw_scores=raw_scores(logits, peaks, diameter_px=diameter_px), areas=areas
    )
    picks = picks.take((areas >= area_band[0] * disc) & (areas <= area_band[1] * disc))
    apart = NEAREST_PICKS * diameter_px if min_distance_px is None else min_distance_px
    kept = suppress_nonmaxima(picks.centers, picks.raw_scores.astype(np.float32), min_distance=apart)
    return picks.take(kept)


def _regions(
    logits: FloatArray, mask: BoolArray, *, diameter_px: float, lone_area: float
) -> tuple[NDArray[np.int32], Points]:
    """Pixels by particle, numbered from 1, and the particles' centers in that order."""
    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    if count == 0:
        return components, np.empty((0, 2))
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    crowded = sizes > lone_area
    crowded[0] = False
    lone = np.where(crowded[components], 0, components)
    table = regionprops_table(  # type: ignore[no-untyped-call]
        lone, properties=("label", "centroid")
    )
    centers = np.stack([table["centroid-0"], table["centroid-1"]], axis=1)
    numbers = np.zeros(count + 1, np.int32)
    numbers[table["label"]] = np.arange(1, len(centers) + 1)
    regions = numbers[lone]
    if not crowded.any():
        return regions, centers
    together = crowded[components]
    peaks, hill = _peaks(logits, together, components, diameter_px=diameter_px)
    seeds = np.zeros(mask.shape, np.int32)
    seeds[tuple(peaks.T)] = np.arange(len(centers) + 1, len(centers) + len(peaks) + 1)
    split = watershed(-hill, seeds, mask=together)  # type: ignore[no-untyped-call]
    reach = (REFINE_REACH * diameter_px, REFINE_REACH * diameter_px)
    return np.where(together, split, regions).astype(np.int32), np.concatenate(
        [centers, refine_centers(hill, peaks, reach=reach)]
    )


def _peaks(
    logits: FloatArray, together: BoolArray, components: NDArray[np.int32], *, diameter_px: float
) -> tuple[NDArray[np.int64], FloatArray]:
    """Peaks of components that hold several particles, at least one of each."""
    depth = np.minimum(ndimage.distance_transform_edt(together), 0.5 * diameter_px)
    probability = 1 / (1 + np.exp(-np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)))
    hill = (depth * (0.5 + probability)).astype(np.float32)
    hill = np.where(together, ndimage.gaussian_filter(hill, PEAK_SIGMA * diameter_px, mode="nearest"), 0)
    peaks = local_maxima(hill, floor=0.0)
    peaks = peaks[together[tuple(peaks.T)]]
    heights = hill[tuple(peaks.T)]
    kept = suppress_nonmaxima(peaks.astype(np.float64), heights, min_distance=NEAREST_PEAKS * diameter_px)
    return peaks[kept], hill


def raw_scores(logits: FloatArray, centers: Points, *, diameter_px: float) -> NDArray[np.float64]:
    """Mean logit in the core of each particle, clipped to +-12.

    What `core.calibration.fit_calibration` is fitted to.

    Parameters
    ----------
    logits
        (y, x).
    centers
        (n, 2) y, x in its pixels.
    diameter_px
        Of a particle.
    """
    radius = max(1, round(CORE_RADIUS * diameter_px))
    grid = np.arange(-radius, radius + 1)
    disc = np.add.outer(grid**2, grid**2) <= radius**2
    clipped = np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT).astype(np.float64)
    padded = np.pad(clipped, radius, mode="edge")
    index = np.clip(np.rint(centers).astype(int), 0, np.asarray(logits.shape) - 1)
    scores = [padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1][disc].mean() for y, x in index.tolist()]
    return np.asarray(scores, np.float64)


def draw_discs(centers: Points, shape: tuple[int, int], *, diameter_px: float) -> BoolArray:
    """Mask of discs about centers: pixels at most half a diameter away.

    Parameters
    ----------
    centers
        (n, 2) y, x in pixels.
    shape
        (y, x) of the mask.
    diameter_px
        Of the discs.
    """
    mask = np.zeros(shape, bool)
    radius = diameter_px / 2
    for center_y, center_x in centers:
        low_y, high_y = max(0, int(np.ceil(center_y - radius))), min(shape[0], int(center_y + radius) + 1)
        low_x, high_x = max(0, int(np.ceil(center_x - radius))), min(shape[1], int(center_x + radius) + 1)
        y, x = np.arange(low_y, high_y) - center_y, np.arange(low_x, high_x) - center_x
        mask[low_y:high_y, low_x:high_x] |= np.add.outer(y**2, x**2) <= radius**2
    return mask
