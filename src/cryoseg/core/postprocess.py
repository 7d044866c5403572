"""Mask-to-mask steps after the threshold: drop thin components, cut bridges."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cryoseg.config import PostprocessStep
from cryoseg.core.bridges import remove_bridges
from cryoseg.errors import ConfigError, InputError
from cryoseg.types import BoolArray

# Labels exist for one slab at a time: 24 slices of 1000 x 1000 are 96 MB instead of 2 GB for 500.
SLAB_SLICES = 24


@dataclass(frozen=True, kw_only=True)
class PostprocessLengths:
    """Numbers that the steps need.

    Attributes
    ----------
    min_slices
        `thin-noise` keeps components on at least this many slices.
    max_bridge_length, max_spur_length
        `bridges` cuts skeleton segments of up to this many pixels; 0 keeps every spur.
    """

    min_slices: int = 10
    max_bridge_length: int = 5
    max_spur_length: int = 0

    def __post_init__(self) -> None:
        if self.min_slices < 1:
            raise ConfigError(f"min_slices is {self.min_slices}; it must be at least 1.")
        if self.max_bridge_length < 0 or self.max_spur_length < 0:
            raise ConfigError(
                f"max_bridge_length is {self.max_bridge_length} and max_spur_length {self.max_spur_length}; "
                "neither may be negative."
            )


def postprocess_mask(
    mask: NDArray[np.generic],
    steps: Sequence[PostprocessStep],
    *,
    min_slices: int = 10,
    max_bridge_length: int = 5,
    max_spur_length: int = 0,
) -> BoolArray:
    """Apply steps to a mask, in the order given.

    Parameters
    ----------
    mask
        (z, y, x), non-zero on membrane.
    steps
        Any of `PostprocessStep`; none returns a copy.
    min_slices
        `thin-noise` keeps components on at least this many slices.
    max_bridge_length, max_spur_length
        `bridges` cuts skeleton segments of up to this many pixels; 0 keeps every spur.

    Returns
    -------
    BoolArray
        A new array of the same shape; `mask` is not changed.

    Raises
    ------
    ConfigError
        If `min_slices` is below 1 or a length is negative.
    InputError
        If the mask is not 3D.
    """
    lengths = PostprocessLengths(
        min_slices=min_slices, max_bridge_length=max_bridge_length, max_spur_length=max_spur_length
    )
    if mask.ndim != 3:
        raise InputError(f"The mask has shape {mask.shape}; post-processing needs a volume (z, y, x).")
    result: BoolArray = np.not_equal(mask, 0)
    for step in steps:
        result = STEPS[step](result, lengths)
    return result


def remove_thin_noise(mask: BoolArray, *, min_slices: int) -> BoolArray:
    """Drop components that span few slices.

    Components are 26-connected; one stays if the box around it is at least `min_slices` slices
    high, whatever its volume. Labels are made slab by slab, twice, and joined across the seams, so
    that the memory does not grow with the number of slices.

    Parameters
    ----------
    mask
        (z, y, x).
    min_slices
        Smallest extent along z that stays.

    Returns
    -------
    BoolArray
        A new array of the same shape.

    Source: ETSAM, post-processing of the first release; reference notes, section 6.
    """
    keep = _components_to_keep(mask, min_slices)
    result = np.ascontiguousarray(mask).copy()
    first_label = 1
    for z, labels, count in _labeled_slabs(mask):
        dropped = ~keep[first_label : first_label + count]
        if dropped.any():
            for image, slice_labels in zip(result[z : z + len(labels)], labels, strict=True):
                # Membrane is sparse, so looking at marked voxels only is many times faster.
                marked = np.flatnonzero(image)
                image.ravel()[marked[dropped[slice_labels.ravel()[marked] - 1]]] = False
        first_label += count
    return result


def _labeled_slabs(mask: BoolArray) -> Iterator[tuple[int, NDArray[np.uint32], int]]:
    for z in range(0, len(mask), SLAB_SLICES):
        slab = np.ascontiguousarray(mask[z : z + SLAB_SLICES]).view(np.uint8)
        found, count = cc3d.connected_components(slab, connectivity=26, return_N=True, out_dtype=np.uint32)
        labels = found.astype(np.uint32, copy=False)
        yield z, labels, count


def _components_to_keep(mask: BoolArray, min_slices: int) -> BoolArray:
    """For every label of every slab, numbered through from 1, whether its component is high enough."""
    lowest = [np.zeros(1, np.int64)]
    highest = [np.zeros(1, np.int64)]
    seams = []
    total = 0
    previous: NDArray[np.int64] | None = None
    for z, labels, count in _labeled_slabs(mask):
        bottom, top = _extents(mask[z : z + len(labels)], labels, count)
        lowest.append(z + bottom)
        highest.append(z + top)
        if previous is not None:
            seams.append(_touching_pairs(previous, _global_labels(labels[0], total)))
        previous = _global_labels(labels[-1], total)
        total += count
    bottom, top = np.concatenate(lowest), np.concatenate(highest)
    pairs = np.concatenate(seams) if seams else np.empty((0, 2), np.int64)
    graph = coo_array(
        (np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(total + 1, total + 1)
    )
    count, component = connected_components(graph, directed=False)
    component_bottom = np.full(count, len(mask), np.int64)
    component_top = np.full(count, -1, np.int64)
    np.minimum.at(component_bottom, component, bottom)
    np.maximum.at(component_top, component, top)
    keep: BoolArray = (component_top - component_bottom + 1 >= min_slices)[component]
    return keep


def _extents(
    mask: BoolArray, labels: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First and last slice of every label from 1 to `count`, within one slab."""
    bottom = np.full(count, len(labels), np.int64)
    top = np.full(count, -1, np.int64)
    for z, (image, slice_labels) in enumerate(zip(mask, labels, strict=True)):
        here = slice_labels.ravel()[np.flatnonzero(image)] - 1
        top[here] = z
        bottom[here] = np.minimum(bottom[here], z)
    return bottom, top


def _global_labels(labels: NDArray[np.uint32], offset: int) -> NDArray[np.int64]:
    return np.where(labels > 0, labels.astype(np.int64) + offset, 0)


def _touching_pairs(below: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of labels that are 26-neighbors across the seam between two slices, (n, 2)."""
    height, width = below.shape
    pairs = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            a = below[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
            b = above[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
            both = (a > 0) & (b > 0)
            pairs.append(np.unique(np.stack([a[both], b[both]], axis=1), axis=0))
    return np.concatenate(pairs)


def _thin_noise_step(mask: BoolArray, lengths: PostprocessLengths) -> BoolArray:
    return remove_thin_noise(mask, min_slices=lengths.min_slices)


def _bridges_step(mask: BoolArray, lengths: PostprocessLengths) -> BoolArray:
    return remove_bridges(
        mask, max_bridge_length=lengths.max_bridge_length, max_spur_length=lengths.max_spur_length
    )


STEPS: dict[PostprocessStep, Callable[[BoolArray, PostprocessLengths], BoolArray]] = {
    PostprocessStep.THIN_NOISE: _thin_noise_step,
    PostprocessStep.BRIDGES: _bridges_step,
}
