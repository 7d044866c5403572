"""Steps after the threshold: connected components, removal of thin ones and of bridges.

Components are 26-connected. Their labels are made slab by slab, joined across the seams, and made again when
they are needed, so that the memory does not grow with the number of slices.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TypeVar

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from cryoseg.config import PostprocessStep
from cryoseg.config.segment import PostprocessLengths
from cryoseg.errors import InputError
from cryoseg.machine import processors
from cryoseg.types import BoolArray

Voxel = TypeVar("Voxel", bound=np.generic)
MOST_THREADS = 8
_NEIGHBORS = np.ones((3, 3), np.uint8)


def remove_bridges(mask: BoolArray, *, max_bridge_length: int, max_spur_length: int = 0) -> BoolArray:
    """Remove the parts of a (z, y, x) mask that belong to short skeleton segments between junctions.

    Each slice is thinned to a skeleton, which is split at its junctions (pixels with three or more
    neighbors). A segment is a bridge if it is short and touches at least two separate junctions; it is a spur
    if it has one junction and a free end. Every pixel of the mask belongs to its nearest skeleton pixel; the
    pixels of bridges and spurs are removed. Lengths are in skeleton pixels; 0 removes none.

    Source: jianlin-cheng/ETSAM postprocess.py@58e8df8, "parallel membrane misconnections".
    """
    result = mask.copy()

    def cut(z: int) -> None:
        erase_bridges_of_slice(
            result[z], max_bridge_length=max_bridge_length, max_spur_length=max_spur_length
        )

    # The two slowest steps, in skimage and scipy, release the interpreter lock.
    with ThreadPoolExecutor(min(processors(), MOST_THREADS)) as pool:
        list(pool.map(cut, np.flatnonzero(mask.any(axis=(1, 2)))))
    return result


def erase_bridges_of_slice(image: BoolArray, *, max_bridge_length: int, max_spur_length: int = 0) -> None:
    """Remove the bridges of one (y, x) slice in place."""
    from skimage.morphology import skeletonize  # slow to import

    skeleton: BoolArray = skeletonize(image)  # type: ignore[no-untyped-call]
    # The sum is at most 9, which fits into uint8.
    degree = ndimage.convolve(skeleton.view(np.uint8), _NEIGHBORS, mode="constant") - 1
    junctions = skeleton & (degree >= 3)
    if not junctions.any():
        return
    segments, count = ndimage.label(skeleton & ~junctions, structure=_NEIGHBORS)
    bad = _bad_segments(
        segments, count, junctions, skeleton & (degree == 1), max_bridge_length, max_spur_length
    )
    if bad.any():
        _erase(image, skeleton, bad[segments])


def _bad_segments(
    segments: NDArray[np.int32],
    count: int,
    junctions: BoolArray,
    ends: BoolArray,
    max_bridge_length: int,
    max_spur_length: int,
) -> BoolArray:
    """Return for every segment label from 0 to `count` whether the segment is removed."""
    length = np.bincount(segments.ravel(), minlength=count + 1)
    clusters, cluster_count = ndimage.label(junctions, structure=_NEIGHBORS)
    y, x = np.nonzero(junctions)
    padded = np.pad(segments, 1)
    # A junction has no label, so that its own position adds nothing.
    around = np.stack([padded[y + dy, x + dx] for dy, dx in itertools.product((0, 1, 2), repeat=2)])
    # Each pair of segment and cluster has one number, so that it counts once however many pixels touch.
    pairs = np.unique(around.astype(np.int64) * (cluster_count + 1) + clusters[y, x])
    touched = np.bincount(pairs // (cluster_count + 1), minlength=count + 1)
    bad: BoolArray = (length <= max_bridge_length) & (touched >= 2)
    if max_spur_length > 0:
        has_end = np.bincount(segments[ends], minlength=count + 1) > 0
        bad |= (length <= max_spur_length) & (touched == 1) & has_end
    bad[0] = False
    return bad


def _erase(image: BoolArray, skeleton: BoolArray, bad: BoolArray) -> None:
    """Clear the pixels of `image` whose nearest skeleton pixel is in `bad`, in place.

    The distance transform of a whole slice takes three times as long as all other steps, so it is computed
    in windows around the bad pixels. No pixel of the image is further than `reach` from the skeleton. A
    window with a margin of 2 * `reach` therefore gives the same result as the whole slice.
    """
    chessboard = ndimage.distance_transform_cdt(~skeleton, metric="chessboard")
    reach = math.ceil(math.sqrt(2) * int(chessboard[image].max())) + 1
    groups, _ = ndimage.label(ndimage.binary_dilation(bad, _NEIGHBORS, iterations=3), structure=_NEIGHBORS)
    boxes = ndimage.find_objects(groups)
    windows = [_grown(box, 2 * reach, image.shape) for box in boxes]
    if sum((y.stop - y.start) * (x.stop - x.start) for y, x in windows) > image.size:
        whole = (slice(0, image.shape[0]), slice(0, image.shape[1]))
        boxes, windows = [whole], [whole]
    erased = np.zeros_like(image)
    for box, window in zip(boxes, windows, strict=True):
        inner = _grown(box, reach, image.shape)
        nearest = ndimage.distance_transform_edt(
            ~skeleton[window], return_distances=False, return_indices=True
        )
        is_bad = bad[window][tuple(nearest)]
        decided = tuple(
            slice(i.start - w.start, i.stop - w.start) for i, w in zip(inner, window, strict=True)
        )
        erased[inner] |= is_bad[decided]
    image &= ~erased


def _grown(box: tuple[slice, slice], margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    y, x = box
    return (
        slice(max(y.start - margin, 0), min(y.stop + margin, shape[0])),
        slice(max(x.start - margin, 0), min(x.stop + margin, shape[1])),
    )


def postprocess_mask(
    mask: NDArray[np.generic],
    steps: Sequence[PostprocessStep],
    lengths: PostprocessLengths | None = None,
    **numbers: int,
) -> BoolArray:
    """Apply post-processing steps to a mask in the given order.

    Parameters
    ----------
    mask
        (z, y, x) mask, non-zero on membrane, which is not changed.
    steps
        Steps to apply; an empty sequence returns a copy.
    lengths
        Settings of the steps, such as a `SegmentConfig`; None uses the defaults.
    **numbers
        Fields of `PostprocessLengths` that replace those of `lengths`.

    Returns
    -------
    BoolArray
        New array of the same shape.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    InputError
        If the mask is not 3D.
    """
    lengths = replace(lengths or PostprocessLengths(), **numbers)
    if mask.ndim != 3:
        raise InputError(f"The mask has shape {mask.shape}; post-processing needs a volume (z, y, x).")
    result: BoolArray = np.not_equal(mask, 0)
    for step in steps:
        result = STEPS[step](result, lengths)
    return result


def why_emptied(mask: BoolArray, processed: BoolArray, lengths: PostprocessLengths) -> str | None:
    """Explain why post-processing removed all of a (z, y, x) mask; None if it did not."""
    if processed.any() or not mask.any():
        return None
    return (
        f"post-processing removed every marked voxel. It removes components on fewer than "
        f"{_least_slices(mask, lengths)} slices, and the volume has {len(mask)}. "
        "Lower --post-process-min-slices."
    )


def _least_slices(mask: BoolArray, lengths: PostprocessLengths) -> int:
    """Return the minimum number of slices; with more than the volume has, ETSAM's step would keep nothing."""
    return min(lengths.min_slices, len(mask))


def remove_thin_noise(mask: BoolArray, *, min_slices: int) -> BoolArray:
    """Return a (z, y, x) mask without the 26-connected components on fewer than `min_slices` slices.

    Source: jianlin-cheng/ETSAM etsam.py@b859060.
    """
    components = find_components(mask)
    return components.select(components.slices >= min_slices)


STEPS: dict[PostprocessStep, Callable[[BoolArray, PostprocessLengths], BoolArray]] = {
    PostprocessStep.THIN_NOISE: lambda mask, lengths: remove_thin_noise(
        mask, min_slices=_least_slices(mask, lengths)
    ),
    PostprocessStep.BRIDGES: lambda mask, lengths: remove_bridges(
        mask, max_bridge_length=lengths.max_bridge_length, max_spur_length=lengths.max_spur_length
    ),
}


# The labels of 24 slices of 1000 x 1000 voxels take 96 MB, those of 500 slices take 2 GB.
SLAB_SLICES = 24


@dataclass(frozen=True, kw_only=True)
class Components:
    """The 26-connected components of a mask.

    Attributes
    ----------
    mask
        (z, y, x) mask, which is not copied and must not change.
    bottom, top
        (n,) indices of the first and last slice of each component.
    voxels
        (n,) number of voxels of each component.
    """

    mask: BoolArray
    bottom: NDArray[np.int64]
    top: NDArray[np.int64]
    voxels: NDArray[np.int64]
    _of_label: NDArray[np.int64] = field(repr=False)
    _slab_slices: int = field(repr=False)

    def __len__(self) -> int:
        """Return the number of components."""
        return len(self.voxels)

    @property
    def slices(self) -> NDArray[np.int64]:
        """(n,) extent of each component along z in slices."""
        return self.top - self.bottom + 1

    def select(self, keep: BoolArray) -> BoolArray:
        """Return a copy of the mask without the components whose `keep` (n,) is False."""
        result = np.ascontiguousarray(self.mask).copy()
        if not keep.all():
            for z, marked, component in self._marked_voxels():
                result[z].ravel()[marked[~keep[component]]] = False
        return result

    def largest(self, count: int) -> BoolArray:
        """Return the (z, y, x) mask of the `count` largest components."""
        keep = np.zeros(len(self), np.bool_)
        keep[np.argsort(-self.voxels, kind="stable")[:count]] = True
        return self.select(keep)

    def ranked(self, count: int) -> NDArray[np.int8]:
        """Return the (z, y, x) labels of the components by decreasing size.

        Parameters
        ----------
        count
            Largest label, at most 127, which all smaller components share.
        """
        label = np.empty(len(self), np.int8)
        label[np.argsort(-self.voxels, kind="stable")] = np.minimum(np.arange(len(self)) + 1, count)
        result = np.zeros(self.mask.shape, np.int8)
        for z, marked, component in self._marked_voxels():
            result[z].ravel()[marked] = label[component]
        return result

    def count_in(self, other: BoolArray) -> NDArray[np.int64]:
        """Return the (n,) number of voxels of each component that are True in `other` (z, y, x)."""
        hits = np.zeros(len(self), np.int64)
        for z, marked, component in self._marked_voxels():
            hits += np.bincount(component[other[z].ravel()[marked]], minlength=len(self))
        return hits

    def _marked_voxels(self) -> Iterator[tuple[int, NDArray[np.int64], NDArray[np.int64]]]:
        """Yield the index of each slice, the flat indices of its marked voxels and their components."""
        first_label = 0
        for z, labels, count in _labeled_slabs(self.mask, self._slab_slices):
            of_label = self._of_label[first_label : first_label + count]
            for k, slice_labels in enumerate(labels):
                # Membranes are sparse, so that indexing the marked voxels is much faster.
                marked = np.flatnonzero(self.mask[z + k])
                yield z + k, marked, of_label[slice_labels.ravel()[marked].astype(np.int64) - 1]
            first_label += count


def find_components(mask: BoolArray, *, slab_slices: int = SLAB_SLICES) -> Components:
    """Find the 26-connected components of a (z, y, x) mask.

    `slab_slices` slices are labeled at once, which affects memory and speed only.
    """
    bottoms, tops, sizes, seams = [], [], [], []
    total = 0
    previous: NDArray[np.int64] | None = None
    for z, labels, count in _labeled_slabs(mask, slab_slices):
        bottom, top, voxels = _extents(mask[z : z + len(labels)], labels, count)
        bottoms.append(z + bottom)
        tops.append(z + top)
        sizes.append(voxels)
        if previous is not None:
            seams.append(_touching_pairs(previous, _numbered_on(labels[0], total)))
        previous = _numbered_on(labels[-1], total)
        total += count
    none = np.empty(0, np.int64)
    pairs = np.concatenate([np.empty((0, 2), np.int64), *seams])
    graph = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), shape=(total, total))
    count, of_label = connected_components(graph, directed=False) if total else (0, none)
    bottom = np.full(count, len(mask), np.int64)
    top = np.full(count, -1, np.int64)
    voxels = np.zeros(count, np.int64)
    np.minimum.at(bottom, of_label, np.concatenate([none, *bottoms]))
    np.maximum.at(top, of_label, np.concatenate([none, *tops]))
    np.add.at(voxels, of_label, np.concatenate([none, *sizes]))
    return Components(
        mask=mask,
        bottom=bottom,
        top=top,
        voxels=voxels,
        _of_label=of_label.astype(np.int64),
        _slab_slices=slab_slices,
    )


def _labeled_slabs(mask: BoolArray, slab_slices: int) -> Iterator[tuple[int, NDArray[np.uint32], int]]:
    for z in range(0, len(mask), slab_slices):
        slab = np.ascontiguousarray(mask[z : z + slab_slices]).view(np.uint8)
        found, count = cc3d.connected_components(slab, connectivity=26, return_N=True, out_dtype=np.uint32)
        yield z, found.astype(np.uint32, copy=False), count


def _extents(
    mask: BoolArray, labels: NDArray[np.uint32], count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return first slice, last slice and size of every label from 1 to `count` in one slab."""
    bottom = np.full(count, len(labels), np.int64)
    top = np.full(count, -1, np.int64)
    voxels = np.zeros(count, np.int64)
    for z, (image, slice_labels) in enumerate(zip(mask, labels, strict=True)):
        here = slice_labels.ravel()[np.flatnonzero(image)].astype(np.int64) - 1
        top[here] = z
        bottom[here] = np.minimum(bottom[here], z)
        voxels += np.bincount(here, minlength=count)
    return bottom, top, voxels


def _numbered_on(labels: NDArray[np.uint32], offset: int) -> NDArray[np.int64]:
    """Convert labels of one slab to indices over all slabs, from 0; the background is -1."""
    return np.where(labels > 0, labels.astype(np.int64) + (offset - 1), -1)


def _touching_pairs(below: NDArray[np.int64], above: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the (n, 2) pairs of labels that are 26-neighbors in two adjacent slices."""
    pairs = []
    for dy, dx in itertools.product((-1, 0, 1), repeat=2):
        a, b = overlapping(below, dy, dx), overlapping(above, -dy, -dx)
        both = (a >= 0) & (b >= 0)
        pairs.append(np.unique(np.stack([a[both], b[both]], axis=1), axis=0))
    return np.concatenate(pairs)


def overlapping(image: NDArray[Voxel], dy: int, dx: int) -> NDArray[Voxel]:
    """Return the part of a (y, x) image that overlaps an image which is shifted by (dy, dx)."""
    height, width = image.shape
    return image[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
