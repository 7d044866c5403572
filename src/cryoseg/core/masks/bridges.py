"""Remove short connections between neighboring membranes, slice by slice."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from cryoseg.types import BoolArray

_NEIGHBORS = np.ones((3, 3), np.uint8)


def remove_bridges(mask: BoolArray, *, max_bridge_length: int, max_spur_length: int = 0) -> BoolArray:
    """Remove the parts of a mask that belong to short skeleton segments between junctions.

    Each slice is thinned to a skeleton, which is split at its junctions (pixels with three or more
    neighbors). A segment is a bridge if it is short and touches at least two separate junctions. Every
    pixel of the mask belongs to its nearest skeleton pixel; the pixels of bridges are removed.

    Parameters
    ----------
    mask
        (z, y, x) mask, which is not changed.
    max_bridge_length
        Largest length of a bridge in skeleton pixels; 0 removes none.
    max_spur_length
        Largest length of a spur (a segment with one junction and a free end) in skeleton pixels; 0 removes
        none.

    Notes
    -----
    Source: jianlin-cheng/ETSAM postprocess.py@58e8df8, "parallel membrane misconnections".
    """
    result = mask.copy()

    def cut(z: int) -> None:
        erase_bridges_of_slice(
            result[z], max_bridge_length=max_bridge_length, max_spur_length=max_spur_length
        )

    # The two slowest steps, in skimage and scipy, release the interpreter lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        list(pool.map(cut, np.flatnonzero(mask.any(axis=(1, 2)))))
    return result


def erase_bridges_of_slice(image: BoolArray, *, max_bridge_length: int, max_spur_length: int = 0) -> None:
    """Remove the bridges of one (y, x) slice in place."""
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
    offsets = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    around = np.stack([padded[y + dy, x + dx] for dy, dx in offsets])
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
