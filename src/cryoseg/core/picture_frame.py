"""Ordinary pictures as the squares that a network sees, and its answers back on the picture.

Source: xinkunwang111/ProMISe ProMISe/data_preprocess.py@ce0cfdb. Its test of a row adds up channels; here
it counts pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array

from cryoseg.config.pictures import Morphology, Smoothing
from cryoseg.core.grids.resample import linear_weights
from cryoseg.types import FloatArray

BLACK_UP_TO = 20
MARK_SIDE = 20  # scanners write into the top left corner
LEAST_BRIGHT = 10  # pixels in a row or column that belongs to the picture


@dataclass(frozen=True, kw_only=True)
class PictureFrame:
    """Which part of a picture became which part of a square.

    Attributes
    ----------
    shape
        (y, x) of the picture.
    box
        y0, x0, y1, x1 of the part that is kept; zeros fill it to a square on the right and below.
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def side(self) -> int:
        """Of the square, in pixels of the picture."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def square(self, values: NDArray[np.generic], side: int) -> FloatArray:
        """The square as `side` x `side` pixels, each the mean of what it covers.

        Parameters
        ----------
        values
            (y, x) or (y, x, channels) on the picture's grid.
        side
            Of the result, in pixels.
        """
        y0, x0, y1, x1 = self.box
        piece = np.asarray(values[y0:y1, x0:x1], np.float32)
        padding = [(0, self.side - piece.shape[0]), (0, self.side - piece.shape[1])]
        whole = np.pad(piece, [*padding, *[(0, 0)] * (piece.ndim - 2)])
        if side == self.side:
            return whole
        weights = area_weights(self.side, side)
        planes = whole.reshape(self.side, self.side, -1)
        small = [weights @ (weights @ planes[..., i]).T for i in range(planes.shape[2])]
        return np.stack([plane.T for plane in small], axis=-1).reshape(side, side, *whole.shape[2:])

    def restore(self, square: FloatArray, *, outside: float) -> FloatArray:
        """Values of a square of any resolution on the picture's grid, linearly between its pixels.

        Parameters
        ----------
        square
            (n, n).
        outside
            Value of what was cut off.
        """
        y0, x0, y1, x1 = self.box
        weights = linear_weights(len(square), self.side)
        full = np.full(self.shape, outside, np.float32)
        full[y0:y1, x0:x1] = (weights @ (weights @ square).T).T[: y1 - y0, : x1 - x0]
        return full


def frame_picture(rgb: NDArray[np.uint8], *, crop_black: bool) -> PictureFrame:
    """The part of a picture that a network should see.

    Parameters
    ----------
    rgb
        (y, x, 3), 8 bit.
    crop_black
        Leave out a black border. A picture that is black all over is kept whole.
    """
    height, width = rgb.shape[:2]
    box = (0, 0, height, width)
    if crop_black:
        bright = rgb.max(axis=2) > BLACK_UP_TO
        bright[:MARK_SIDE, :MARK_SIDE] = False
        rows = np.flatnonzero(bright.sum(axis=1) > LEAST_BRIGHT)
        columns = np.flatnonzero(bright.sum(axis=0) > LEAST_BRIGHT)
        if len(rows) and len(columns):
            box = (int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)
    return PictureFrame(shape=(height, width), box=box)


def area_weights(source: int, target: int) -> csr_array:
    """(target, source) matrix of the share of every source pixel in every target pixel."""
    scale = source / target
    first = np.arange(target) * scale
    taps = int(np.ceil(scale)) + 1
    columns = np.floor(first).astype(int)[:, None] + np.arange(taps)
    overlap = np.minimum(columns + 1, (first + scale)[:, None]) - np.maximum(columns, first[:, None])
    overlap = np.clip(overlap, 0, None) * (columns < source)
    overlap /= overlap.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(target), taps)
    matrix = csr_array(
        (overlap.ravel().astype(np.float32), (rows, np.minimum(columns, source - 1).ravel())),
        shape=(target, source),
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def open_mask(mask: NDArray[np.bool_], kernel: int) -> NDArray[np.bool_]:
    """A (y, x) mask without what a square of `kernel` pixels does not fit into; beyond it is background."""
    return np.asarray(ndimage.binary_opening(mask, np.ones((kernel, kernel), bool)))


def close_mask(mask: NDArray[np.bool_], kernel: int) -> NDArray[np.bool_]:
    """A (y, x) mask with gaps filled that no square of `kernel` pixels fits into, at the border too."""
    padded = np.pad(mask, kernel)
    closed = ndimage.binary_closing(padded, np.ones((kernel, kernel), bool))
    return np.asarray(closed[kernel:-kernel, kernel:-kernel])


def smooth_mask(mask: NDArray[np.bool_], smoothing: Smoothing) -> NDArray[np.bool_]:
    """A (y, x) mask after opening or closing; as it is for `Morphology.NONE`."""
    if smoothing.morphology is Morphology.NONE:
        return mask
    change = open_mask if smoothing.morphology is Morphology.OPEN else close_mask
    return change(mask, smoothing.kernel)
