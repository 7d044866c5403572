"""Regions of a volume or image that hold no signal: padding, masked-out parts, stitching gaps.

A reconstruction is padded with zeros or with its mean, and a masked or stitched file has parts that
were never recorded. Such a region has one repeated value, which noise does not give by chance.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.core.grids.resample import Slices
from cryoseg.types import BoolArray, FloatArray

# A blank voxel has this logit in every output: a probability of 0.00005.
BLANK_LOGIT = -10.0
# A blank region is made of squares of equal pixels. White noise of 8 bits with a standard deviation
# of 3 gives such a square once in 10^13 pixels.
SOLID_SIDE = 4
# A patch of 13 x 13 pixels has so many squares, a strip of 4 pixels with a length of 103 too. A
# smaller region changes no statistics, and a saturated gold bead is not padding.
MIN_SQUARES = 100
VALUES_PER_SLICE = 4
# Contour levels of smooth data with few grey values also form large areas of one value. Such an area
# has the next lower and the next higher grey value around it, a blank region has all of them.
MAX_ADJACENT_SHARE = 0.5


def find_blank(volume: Slices) -> BoolArray | None:
    """Find the voxels that hold no signal.

    In each slice, connected pixels of one repeated value are a blank region if they contain at least
    `MIN_SQUARES` squares of `SOLID_SIDE` pixels and the pixels around them are not merely the next grey
    values, which smooth data of few grey values have around a contour level.

    Parameters
    ----------
    volume
        (z, y, x), any real type, finite. Read slice by slice.

    Returns
    -------
    BoolArray or None
        (z, y, x), True where there is no signal; None if there is signal everywhere, so that a volume
        without blank regions needs no memory for them.
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
    """Find the pixels of a (y, x) image that hold no signal, as `find_blank` does in a volume."""
    blank = find_blank(image[None])
    return None if blank is None else blank[0]


def signal_values(values: NDArray[Any]) -> NDArray[Any]:
    """Flat values of a (y, x) image or (z, y, x) volume without blank regions, or all if all are blank."""
    volume = values if values.ndim == 3 else values[None]
    blank = find_blank(volume)
    return values.reshape(-1) if blank is None or blank.all() else volume[~blank]


def signal_box(blank: BoolArray) -> tuple[slice, ...]:
    """Return the smallest box that contains all signal; `blank` must not be True everywhere."""
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


class FilledSlices:
    """A volume whose blank voxels have another value, one slice at a time.

    Parameters
    ----------
    volume
        (z, y, x).
    blank
        (z, y, x), from `find_blank`.
    value
        What blank voxels become, such as the median of the signal.
    """

    def __init__(self, volume: Slices, blank: BoolArray, value: float) -> None:
        self.shape = volume.shape
        self._volume, self._blank, self._value = volume, blank, value

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, z: int) -> FloatArray:
        """(y, x) float32."""
        image: FloatArray = np.array(self._volume[z], np.float32)
        image[self._blank[z]] = self._value
        return image


def fill_by_mirror(image: FloatArray, blank: BoolArray) -> FloatArray:
    """Replace blank pixels by the signal mirrored at the border of the blank region.

    Filters and statistics see texture like that of the signal instead of a plateau or an edge. Where
    the mirrored position is blank too, the nearest pixel with signal is taken.

    Parameters
    ----------
    image
        (y, x).
    blank
        (y, x), not True everywhere.
    """
    nearest = ndimage.distance_transform_edt(blank, return_distances=False, return_indices=True)
    y, x = np.nonzero(blank)
    near_y, near_x = nearest[0][y, x], nearest[1][y, x]
    mirror_y = np.clip(2 * near_y - y, 0, image.shape[0] - 1)
    mirror_x = np.clip(2 * near_x - x, 0, image.shape[1] - 1)
    is_blank = blank[mirror_y, mirror_x]
    filled = image.copy()
    filled[y, x] = image[np.where(is_blank, near_y, mirror_y), np.where(is_blank, near_x, mirror_x)]
    return filled


def _blank_pixels(image: NDArray[Any]) -> BoolArray | None:
    if image.size and bool((image == image.flat[0]).all()):
        return np.ones(image.shape, bool)
    corners = _solid_corners(image)
    if np.count_nonzero(corners) < MIN_SQUARES:
        return None
    inner = image[: corners.shape[0], : corners.shape[1]]
    values, counts = np.unique(inner[corners], return_counts=True)
    blank = np.zeros(image.shape, bool)
    for value in values[np.argsort(-counts, kind="stable")[:VALUES_PER_SLICE]]:
        labels, count = ndimage.label(corners & (inner == value))
        sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        for label, box in enumerate(ndimage.find_objects(labels), start=1):
            if sizes[label - 1] < MIN_SQUARES:
                continue
            y, x = np.nonzero(labels[box] == label)
            y, x = y + box[0].start, x + box[1].start
            around = _beside(image, y, x)
            if _adjacent_share(around[around != value], value) < MAX_ADJACENT_SHARE:
                region = np.zeros(image.shape, bool)
                region[y, x] = True
                # The far sides of the squares, and corners of a round border that hold no square.
                blank |= ndimage.binary_dilation(region, iterations=2 * SOLID_SIDE, mask=image == value)
    return blank if blank.any() else None


def _solid_corners(image: NDArray[Any]) -> BoolArray:
    """First pixels of all squares of `SOLID_SIDE` equal pixels."""
    if min(image.shape) < SOLID_SIDE:
        return np.zeros((0, 0), bool)
    equal = image[:, 1:] == image[:, :-1]
    runs = _runs(equal, axis=1)
    if np.count_nonzero(runs) < SOLID_SIDE:
        return np.zeros((0, 0), bool)
    width = runs.shape[1]
    below = _runs(image[1:, :width] == image[:-1, :width], axis=0)
    solid: BoolArray = np.logical_and.reduce([below, *(runs[i : i + len(below)] for i in range(SOLID_SIDE))])
    return solid


def _runs(equal: BoolArray, *, axis: int) -> BoolArray:
    """Where `SOLID_SIDE` pixels in a row are equal, from the equality of neighbors."""
    length = equal.shape[axis] - (SOLID_SIDE - 2)
    moved = np.moveaxis(equal, axis, 0)
    runs: BoolArray = np.moveaxis(
        np.logical_and.reduce([moved[i : i + length] for i in range(SOLID_SIDE - 1)]), 0, axis
    )
    return runs


def _beside(image: NDArray[Any], y: NDArray[np.int64], x: NDArray[np.int64]) -> NDArray[Any]:
    """Values of the pixels to the left, right, above and below of squares, given their first pixels."""
    places = ((y, x - 1), (y, x + SOLID_SIDE), (y - 1, x), (y + SOLID_SIDE, x))
    height, width = image.shape
    inside = [(row >= 0) & (row < height) & (column >= 0) & (column < width) for row, column in places]
    return np.concatenate(
        [image[row[good], column[good]] for (row, column), good in zip(places, inside, strict=True)]
    )


def _adjacent_share(around: NDArray[Any], value: Any) -> float:
    """Share of values that are the nearest one below or above `value`; 1 if there are none."""
    if not around.size:
        return 1.0
    lower, higher = around[around < value], around[around > value]
    adjacent = 0
    for part, nearest in ((lower, np.max), (higher, np.min)):
        adjacent += int(np.count_nonzero(part == nearest(part))) if part.size else 0
    return adjacent / around.size
