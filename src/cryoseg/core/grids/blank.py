"""Find regions of a volume or image without signal: padding, masked parts and gaps between tiles.

Reconstructions are padded with zeros or with their mean, and masked or stitched files have parts that were
never recorded. Such a region has one repeated value, which noise does not produce by chance.
"""

from __future__ import annotations

from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.core.grids.resample import Slices
from cryoseg.types import BoolArray, FloatArray

# Logit of blank voxels in every output, a probability of 0.00005.
BLANK_LOGIT = -10.0
# A blank region consists of squares of equal pixels. White noise of 8 bits with a standard deviation
# of 3 contains such a square once in 10^13 pixels.
SOLID_SIDE = 4
# A region of 13 x 13 pixels or of 4 x 103 pixels contains this many squares. Smaller regions do not affect
# the statistics; they may be saturated gold beads.
MIN_SQUARES = 100
VALUES_PER_SLICE = 4
# Smooth data with few grey values also contain large areas of one value between two contour lines. The
# pixels around such an area have the next lower or higher grey value, those around a blank region have any.
MAX_ADJACENT_SHARE = 0.5


def find_blank(volume: Slices) -> BoolArray | None:
    """Find the voxels of a volume that contain no signal; return None if there is signal everywhere.

    In each slice, connected pixels of one value are a blank region if they contain at least `MIN_SQUARES`
    squares of `SOLID_SIDE` pixels and fewer than half of the pixels around them have the next lower or
    higher grey value. The (z, y, x) volume has any real type and finite values, and is read slice by slice.
    """
    blank: BoolArray | None = None
    for z in range(len(volume)):
        found = _blank_pixels(np.asarray(volume[z]))
        if found is None:
            continue
        if blank is None:
            blank = np.zeros(volume.shape, bool)
        blank[z] = found
    return blank


def find_blank_pixels(image: NDArray[Any]) -> BoolArray | None:
    """Find the pixels of a (y, x) image that contain no signal, as `find_blank` does in a volume."""
    blank = find_blank(image[None])
    return None if blank is None else blank[0]


def signal_values(values: NDArray[Any]) -> NDArray[Any]:
    """Return the values of a (y, x) image or (z, y, x) volume outside blank regions as a 1D array.

    All values are returned if all of them are blank.
    """
    volume = values if values.ndim == 3 else values[None]
    blank = find_blank(volume)
    return values.reshape(-1) if blank is None or blank.all() else volume[~blank]


def signal_box(blank: BoolArray) -> tuple[slice, ...]:
    """Return the smallest box with all signal of a (z, y, x) or (y, x) mask that has a False value."""
    box = []
    for axis in range(blank.ndim):
        others = tuple(other for other in range(blank.ndim) if other != axis)
        signal = np.flatnonzero(~blank.all(axis=others))
        box.append(slice(int(signal[0]), int(signal[-1]) + 1))
    return tuple(box)


def set_blank(logits: FloatArray, blank: BoolArray) -> None:
    """Write `BLANK_LOGIT` into the blank voxels of (z, y, x) logits, in place."""
    for image, where in zip(logits, blank, strict=True):
        image[where] = BLANK_LOGIT


def _blank_pixels(image: NDArray[Any]) -> BoolArray | None:
    if image.size and image.flat[0] == image.flat[-1] and bool((image == image.flat[0]).all()):
        return np.ones(image.shape, bool)
    corners = _solid_corners(image)
    if np.count_nonzero(corners) < MIN_SQUARES:
        return None
    y, x = np.nonzero(corners)
    values, kinds, counts = np.unique(image[y, x], return_inverse=True, return_counts=True)
    frequent = np.argsort(-counts, kind="stable")[:VALUES_PER_SLICE]
    numbers = np.zeros(len(values), np.uint8)
    numbers[frequent] = np.arange(1, len(frequent) + 1)
    numbered = np.zeros(corners.shape, np.uint8)
    numbered[y, x] = numbers[kinds]
    labels = cc3d.connected_components(numbered, connectivity=4)[y, x]
    blank = np.zeros(image.shape, bool)
    for label in np.flatnonzero(np.bincount(labels) >= MIN_SQUARES):
        if label == 0:
            continue
        inside_y, inside_x = y[labels == label], x[labels == label]
        value = image[inside_y[0], inside_x[0]]
        around = _beside(image, inside_y, inside_x)
        if _adjacent_share(around[around != value], value) < MAX_ADJACENT_SHARE:
            region = np.zeros(image.shape, bool)
            region[inside_y, inside_x] = True
            # This adds the far sides of the squares, and corners of a round border without a square.
            blank |= ndimage.binary_dilation(region, iterations=2 * SOLID_SIDE, mask=image == value)
    return blank if blank.any() else None


def _solid_corners(image: NDArray[Any]) -> BoolArray:
    """Mark the first pixels of all squares of `SOLID_SIDE` equal pixels."""
    if min(image.shape) < SOLID_SIDE:
        return np.zeros((0, 0), bool)
    # Every square has exactly one row of these; they are a quarter of the work for an image without squares.
    some = image[::SOLID_SIDE]
    if SOLID_SIDE * np.count_nonzero(_runs((some[:, 1:] == some[:, :-1]).T)) < MIN_SQUARES:
        return np.zeros((0, 0), bool)
    runs = _runs((image[:, 1:] == image[:, :-1]).T).T
    solid = _runs(image[1:, : runs.shape[1]] == image[:-1, : runs.shape[1]])
    for row in range(SOLID_SIDE):
        solid &= runs[row : row + len(solid)]
    return solid


def _runs(equal: BoolArray) -> BoolArray:
    """Mark where `SOLID_SIDE` consecutive rows are equal, given which neighboring rows are equal."""
    length = len(equal) - (SOLID_SIDE - 2)
    runs = equal[:length].copy(order="K")
    for row in range(1, SOLID_SIDE - 1):
        runs &= equal[row : row + length]
    return runs


def _beside(image: NDArray[Any], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[Any]:
    """Return the values of the pixels beside squares, given the first pixels of the squares."""
    places = ((y, x - 1), (y, x + SOLID_SIDE), (y - 1, x), (y + SOLID_SIDE, x))
    height, width = image.shape
    inside = [(row >= 0) & (row < height) & (column >= 0) & (column < width) for row, column in places]
    return np.concatenate(
        [image[row[good], column[good]] for (row, column), good in zip(places, inside, strict=True)]
    )


def _adjacent_share(around: NDArray[Any], value: Any) -> float:
    """Return the share of values that are the nearest one below or above `value`; 1 if there are none."""
    if not around.size:
        return 1.0
    lower, higher = around[around < value], around[around > value]
    adjacent = 0
    for part, nearest in ((lower, np.max), (higher, np.min)):
        adjacent += int(np.count_nonzero(part == nearest(part))) if part.size else 0
    return adjacent / around.size
