"""Recall with a tolerance in the slice plane, and what is marked where nothing is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cryoseg.core.masks.postprocess import Components
from cryoseg.core.metrics.overlap import ratio, require_one_shape
from cryoseg.types import BoolArray

# Beyond, shifting the slice row by row is slower than its distance transform.
LARGEST_SHIFTED_RADIUS_PX = 20.0


@dataclass(frozen=True, kw_only=True)
class PlaneDistance:
    """How much of the truth has a prediction near, and how much is marked in error.

    Ratios without a voxel to count are NaN.

    Attributes
    ----------
    distance_px
        The tolerance, in pixels of the slice plane.
    membrane, membrane_found
        Annotated membrane voxels, and those with a predicted voxel of their own slice within
        `distance_px`.
    membrane_found_by_largest
        As `membrane_found`, with nothing but the `largest_components` largest of the prediction.
    clear, clear_marked
        Voxels known to hold no membrane, and the marked ones of them.
    volume, volume_marked
        All voxels, annotated or not, and the marked ones of them.
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

    @property
    def recall(self) -> float:
        """Part of the annotated membrane that has a prediction near."""
        return ratio(self.membrane_found, self.membrane)

    @property
    def recall_by_largest(self) -> float:
        """The same with the largest components only: low if the prediction is in pieces."""
        return ratio(self.membrane_found_by_largest, self.membrane)

    @property
    def clear_fraction(self) -> float:
        """Part of the known-clear voxels that is marked."""
        return ratio(self.clear_marked, self.clear)

    @property
    def volume_fraction(self) -> float:
        """Part of the whole volume that is marked."""
        return ratio(self.volume_marked, self.volume)


def near_in_plane(mask: BoolArray, distance_px: float) -> BoolArray:
    """Pixels of a slice (y, x) whose distance to the nearest marked pixel is at most `distance_px`."""
    if distance_px < 1 or not mask.any():
        return mask.copy()
    if distance_px > LARGEST_SHIFTED_RADIUS_PX:
        distance = ndimage.distance_transform_edt(~mask)
        near: BoolArray = distance <= distance_px
        return near
    # A disc is a stack of rows: widen the mask along x step by step, and add it to each row that the
    # disc's chord of that width reaches.
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
    """Where `membrane` (z, y, x) has a voxel of `mask` within `distance_px` in its own slice."""
    hits = np.zeros_like(membrane)
    for (z, rows), found in _hit_rows(mask, membrane, distance_px):
        hits[z, rows] = found
    return hits


def _hit_rows(
    mask: BoolArray, membrane: BoolArray, distance_px: float
) -> Iterator[tuple[tuple[int, slice], BoolArray]]:
    """`near_hits` piece by piece: slice, rows that hold membrane, and the hits in them."""
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
    *,
    distance_px: float = 3.0,
    largest_components: int = 1,
    hits: BoolArray | None = None,
) -> PlaneDistance:
    """Compare a prediction with a partly annotated truth, slice by slice.

    Parameters
    ----------
    pred
        Components of the prediction (z, y, x).
    membrane, known
        (z, y, x), where the truth says membrane, and where it says anything.
    distance_px
        In the slice plane; 0 counts exact hits.
    largest_components
        See `PlaneDistance`.
    hits
        (z, y, x) `near_hits` of the prediction, if it is known already.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    require_one_shape(pred.mask, membrane)
    require_one_shape(pred.mask, known)
    if hits is None:
        hits = near_hits(pred.mask, membrane, distance_px=distance_px)
    found = found_by_largest = int(np.count_nonzero(hits))
    if len(pred) > largest_components:
        largest = pred.largest(largest_components)
        found_by_largest = sum(
            int(np.count_nonzero(hits)) for _, hits in _hit_rows(largest, membrane, distance_px)
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
    """How the components of the truth were found.

    Attributes
    ----------
    components
        26-connected components of annotated membrane.
    recalls
        (n,) for each, largest first, the part of its voxels that has a prediction near (in plane).
    sizes
        (n,) their voxels.
    """

    components: int
    recalls: tuple[float, ...]
    sizes: tuple[int, ...]

    @property
    def found(self) -> float:
        """Part of the components of which at least half was found; NaN without a component."""
        return ratio(sum(recall >= 0.5 for recall in self.recalls), self.components)

    @property
    def mean(self) -> float:
        """Mean over components, however small they are; NaN without one."""
        return ratio(math.fsum(self.recalls), self.components)


def measure_component_recall(hits: BoolArray, truth: Components) -> ComponentRecall:
    """Recall of every component of the truth by itself.

    Parameters
    ----------
    hits
        (z, y, x), where the truth was found; see `near_hits`.
    truth
        Components of the annotated membrane.
    """
    order = np.argsort(-truth.voxels, kind="stable")
    recalls = (truth.count_in(hits) / np.maximum(truth.voxels, 1))[order]
    return ComponentRecall(
        components=len(truth),
        recalls=tuple(float(value) for value in recalls),
        sizes=tuple(int(value) for value in truth.voxels[order]),
    )
