"""Recall with a tolerance in the slice plane, and false positives in partly annotated volumes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import ndimage

from cryoseg.core.masks.postprocess import Components
from cryoseg.core.metrics.overlap import ratio
from cryoseg.types import BoolArray

# For larger radii the distance transform of a slice is faster than shifts of its rows.
LARGEST_SHIFTED_RADIUS_PX = 20.0


@dataclass(frozen=True, kw_only=True)
class PlaneDistance:
    """Voxels of the truth near a prediction, and predicted voxels outside membranes.

    Ratios of 0/0 are NaN.

    Attributes
    ----------
    distance_px
        Tolerance in pixels of the slice plane.
    largest_components
        Number of the largest components of the prediction for `membrane_found_by_largest`.
    membrane, membrane_found
        Number of annotated membrane voxels, and of those with a predicted voxel of the same slice within
        `distance_px`.
    membrane_found_by_largest
        Number as `membrane_found` with the largest components of the prediction only.
    clear, clear_marked
        Number of voxels annotated as no membrane, and of those predicted as membrane.
    volume, volume_marked
        Number of all voxels, and of those predicted as membrane.
    """

    distance_px: float
    largest_components: int
    membrane: int
    membrane_found: int
    membrane_found_by_largest: int
    clear: int
    clear_marked: int
    volume: int
    volume_marked: int

    def __add__(self, other: PlaneDistance) -> PlaneDistance:
        """Return the sums of the counts, for micro means of files with the same tolerance."""
        settings = ("distance_px", "largest_components")
        counts = {name: count for name, count in vars(self).items() if name not in settings}
        return replace(self, **{name: count + getattr(other, name) for name, count in counts.items()})

    @property
    def recall(self) -> float:
        """Share of the annotated membrane with a prediction within the tolerance."""
        return ratio(self.membrane_found, self.membrane)

    @property
    def recall_by_largest(self) -> float:
        """Recall of the largest components only, which is low for a fragmented prediction."""
        return ratio(self.membrane_found_by_largest, self.membrane)

    @property
    def clear_fraction(self) -> float:
        """Share of the voxels annotated as no membrane that is predicted as membrane."""
        return ratio(self.clear_marked, self.clear)

    @property
    def volume_fraction(self) -> float:
        """Share of the volume that is predicted as membrane."""
        return ratio(self.volume_marked, self.volume)


def near_in_plane(mask: BoolArray, distance_px: float) -> BoolArray:
    """Return the pixels of a (y, x) mask whose distance to the nearest True is at most `distance_px`."""
    if distance_px < 1 or not mask.any():
        return mask.copy()
    if distance_px > LARGEST_SHIFTED_RADIUS_PX:
        distance = ndimage.distance_transform_edt(~mask)
        near: BoolArray = distance <= distance_px
        return near
    # A disc consists of rows. The mask is widened along x step by step and added to the rows at which the
    # chord of the disc has that width.
    height, width = mask.shape
    wide = mask.copy()
    near = np.zeros_like(mask)
    half_width = 0
    for dy in range(math.floor(distance_px), -1, -1):
        chord = math.floor(math.sqrt(distance_px**2 - dy * dy))
        while half_width < chord:
            half_width += 1
            if half_width < width:
                wide[:, half_width:] |= mask[:, :-half_width]
                wide[:, :-half_width] |= mask[:, half_width:]
        if dy < height:
            near[dy:] |= wide[: height - dy]
            near[: height - dy] |= wide[dy:]
    return near


def near_hits(mask: BoolArray, membrane: BoolArray, *, distance_px: float) -> BoolArray:
    """Return the voxels of `membrane` (z, y, x) within `distance_px` of `mask` in the same slice."""
    hits = np.zeros_like(membrane)
    for (z, rows), found in _hit_rows(mask, membrane, distance_px):
        hits[z, rows] = found
    return hits


def _hit_rows(
    mask: BoolArray, membrane: BoolArray, distance_px: float
) -> Iterator[tuple[tuple[int, slice], BoolArray]]:
    """Yield for each slice with membrane its index, the rows with membrane, and the hits in them."""
    reach = math.floor(distance_px)
    for z in range(len(membrane)):
        rows = np.flatnonzero(membrane[z].any(axis=1))
        if len(rows):
            top, bottom = int(rows[0]), int(rows[-1]) + 1
            low = max(top - reach, 0)
            near = near_in_plane(mask[z, low : bottom + reach], distance_px)
            yield (z, slice(top, bottom)), near[top - low : bottom - low] & membrane[z, top:bottom]


def measure_plane_distance(
    pred: Components,
    membrane: BoolArray,
    known: BoolArray,
    hits: BoolArray,
    *,
    distance_px: float,
    largest_components: int = 1,
) -> PlaneDistance:
    """Compare a prediction with a partly annotated truth, slice by slice.

    Parameters
    ----------
    pred
        Components of the (z, y, x) prediction.
    membrane, known
        (z, y, x) masks of annotated membrane and of all annotated voxels.
    hits
        (z, y, x) result of `near_hits`.
    distance_px
        Tolerance in pixels of the slice plane; 0 requires overlap.
    largest_components
        Number of components for `PlaneDistance.recall_by_largest`.
    """
    found = found_by_largest = int(np.count_nonzero(hits))
    if len(pred) > largest_components:
        largest = pred.largest(largest_components)
        found_by_largest = sum(
            int(np.count_nonzero(rows)) for _, rows in _hit_rows(largest, membrane, distance_px)
        )
    return PlaneDistance(
        distance_px=distance_px,
        largest_components=largest_components,
        membrane=sum(int(np.count_nonzero(image)) for image in membrane),
        membrane_found=found,
        membrane_found_by_largest=found_by_largest,
        clear=sum(int(np.count_nonzero(k > m)) for k, m in zip(known, membrane, strict=True)),
        clear_marked=sum(
            int(np.count_nonzero(p & (k > m))) for p, k, m in zip(pred.mask, known, membrane, strict=True)
        ),
        volume=pred.mask.size,
        volume_marked=int(pred.voxels.sum()),
    )


@dataclass(frozen=True, kw_only=True)
class ComponentRecall:
    """Recall of the 26-connected components of the truth, largest first.

    Attributes
    ----------
    components
        Number of components of annotated membrane.
    recalls, sizes
        (n,) shares of the voxels of each component near a prediction, and (n,) numbers of its voxels.
    """

    components: int
    recalls: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def found(self) -> float:
        """Share of the components with a recall of at least 0.5; NaN without components."""
        return ratio(sum(recall >= 0.5 for recall in self.recalls), self.components)

    @property
    def mean(self) -> float:
        """Mean recall over all components; NaN without components."""
        return ratio(math.fsum(self.recalls), self.components)


def measure_component_recall(hits: BoolArray, truth: Components) -> ComponentRecall:
    """Compute the recall of each component of the truth from the (z, y, x) result of `near_hits`."""
    order = np.argsort(-truth.voxels, kind="stable")
    recalls = (truth.count_in(hits) / np.maximum(truth.voxels, 1))[order]
    return ComponentRecall(
        components=len(truth),
        recalls=tuple(float(value) for value in recalls),
        sizes=tuple(int(value) for value in truth.voxels[order]),
    )
