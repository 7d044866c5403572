"""Recall with a tolerance in the slice plane, and what is marked where nothing is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from cryoseg.core.components import Components
from cryoseg.core.metrics_overlap import ratio, require_one_shape
from cryoseg.types import BoolArray

# A disc of this radius is 149 shifted copies of the slice, about as slow as the distance transform.
LARGEST_SHIFTED_RADIUS_PX = 6.0


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
    near = mask.copy()
    height, width = mask.shape
    reach = math.floor(distance_px)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if 0 < dy * dy + dx * dx <= distance_px**2 and abs(dy) < height and abs(dx) < width:
                near[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)] |= mask[
                    max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)
                ]
    return near


def measure_plane_distance(
    pred: Components,
    membrane: BoolArray,
    clear: BoolArray,
    *,
    distance_px: float = 3.0,
    largest_components: int = 1,
) -> PlaneDistance:
    """Compare a prediction with a partly annotated truth, slice by slice.

    Parameters
    ----------
    pred
        Components of the prediction (z, y, x).
    membrane, clear
        (z, y, x), where the truth says membrane and where it says none; neither where it is not known.
    distance_px
        In the slice plane; 0 counts exact hits.
    largest_components
        See `PlaneDistance`.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    require_one_shape(pred.mask, membrane)
    require_one_shape(pred.mask, clear)
    largest = pred.mask if len(pred) <= largest_components else pred.largest(largest_components)
    found = found_by_largest = 0
    for z in range(len(membrane)):
        if membrane[z].any():
            hits = np.count_nonzero(near_in_plane(pred.mask[z], distance_px) & membrane[z])
            found += int(hits)
            if largest is not pred.mask:
                hits = np.count_nonzero(near_in_plane(largest[z], distance_px) & membrane[z])
            found_by_largest += int(hits)
    return PlaneDistance(
        distance_px=distance_px,
        largest_components=largest_components,
        membrane=int(np.count_nonzero(membrane)),
        membrane_found=found,
        membrane_found_by_largest=found_by_largest,
        clear=int(np.count_nonzero(clear)),
        clear_marked=sum(int(np.count_nonzero(p & c)) for p, c in zip(pred.mask, clear, strict=True)),
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


def measure_component_recall(pred: BoolArray, truth: Components, *, distance_px: float) -> ComponentRecall:
    """Recall of every component of the truth by itself; arguments as in `measure_plane_distance`."""
    near = np.zeros_like(pred)
    for z in np.flatnonzero(truth.mask.any(axis=(1, 2))):
        near[z] = near_in_plane(pred[z], distance_px)
    order = np.argsort(-truth.voxels, kind="stable")
    recalls = (truth.count_in(near) / np.maximum(truth.voxels, 1))[order]
    return ComponentRecall(
        components=len(truth),
        recalls=tuple(float(value) for value in recalls),
        sizes=tuple(int(value) for value in truth.voxels[order]),
    )
