"""Cut short links between membranes that run side by side, slice by slice."""

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
    """Erase what belongs to short skeleton segments between junctions, in every z slice.

    Each slice is thinned to a skeleton and the skeleton is cut at its junctions (pixels with three
    or more neighbors). A remaining segment is a bridge if it is short and touches at least two
    separate junctions. Every pixel of the mask belongs to its nearest skeleton pixel; those of
    bridges are erased, those of junctions stay.

    Parameters
    ----------
    mask
        (z, y, x).
    max_bridge_length
        Longest bridge, in skeleton pixels; 0 cuts none.
    max_spur_length
        Longest spur (a segment with one junction and a free end), in skeleton pixels; 0 cuts none.

    Returns
    -------
    BoolArray
        A new array of the same shape.

    Source: jianlin-cheng/ETSAM postprocess.py@58e8df8, "parallel membrane misconnections".
    """
    result = mask.copy()

    def cut(z: int) -> None:
        erase_bridges_of_slice(
            result[z], max_bridge_length=max_bridge_length, max_spur_length=max_spur_length
        )

    # skimage and scipy let go of the interpreter lock in the two steps that take the time.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        list(pool.map(cut, np.flatnonzero(mask.any(axis=(1, 2)))))
    return result


def erase_bridges_of_slice(image: BoolArray, *, max_bridge_length: int, max_spur_length: int = 0) -> None:
    """`remove_bridges` for one slice (y, x), in place."""
    skeleton: BoolArray = skeletonize(image)  # type: ignore[no-untyped-call]
    # At most 8 neighbors and the pixel itself: fits into uint8.
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
    """For every segment label from 0 to `count`, whether it is to be erased."""
    length = np.bincount(segments.ravel(), minlength=count + 1)
    clusters, cluster_count = ndimage.label(junctions, structure=_NEIGHBORS)
    y, x = np.nonzero(junctions)
    padded = np.pad(segments, 1)
    offsets = [(dy, dx) for dy in (0, 1, 2) for dx in (0, 1, 2) if (dy, dx) != (1, 1)]
    around = np.stack([padded[y + dy, x + dx] for dy, dx in offsets])
    # One number per (segment, cluster) pair, so that a pair that touches in many pixels counts once.
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

    The exact distance transform of a whole slice costs three times as much as everything else, so
    it is taken in windows around the bad pixels only. No pixel of the image is further from the
    skeleton than `reach`; a window that holds every skeleton pixel within `reach` of the pixels that
    it decides gives the same answer as the whole slice.
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
