"""Crop a picture to the square input of a network, and map the output back onto the picture.

Source: xinkunwang111/ProMISe ProMISe/data_preprocess.py@ce0cfdb, which sums channels where this module
counts pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cryoseg.config.pictures import Morphology, Smoothing
from cryoseg.core.grids.resample import area_weights, linear_weights
from cryoseg.types import FloatArray

BLACK_UP_TO = 20
MARK_SIDE = 20  # Scanners write a mark of this size into the top left corner.
LEAST_BRIGHT = 10  # A row or column with more bright pixels belongs to the picture.


@dataclass(frozen=True, kw_only=True)
class PictureFrame:
    """The part of a picture that is padded to a square.

    Attributes
    ----------
    shape
        (y, x) shape of the picture.
    box
        First and last row and column (y0, x0, y1, x1) of the part that is kept. Zeros fill it to a square
        on the right and at the bottom.
    """

    shape: tuple[int, int]
    box: tuple[int, int, int, int]

    @property
    def side(self) -> int:
        """Side of the square in pixels of the picture."""
        return max(self.box[2] - self.box[0], self.box[3] - self.box[1])

    def square(self, values: NDArray[np.generic], side: int) -> FloatArray:
        """Return the square resampled to `side` x `side` pixels by area averaging.

        `values` is a (y, x) or (y, x, channels) array on the grid of the picture.
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
        """Resample an (n, n) square linearly onto the grid of the picture.

        Pixels outside the box get the value `outside`.
        """
        y0, x0, y1, x1 = self.box
        weights = linear_weights(len(square), self.side)
        full = np.full(self.shape, outside, np.float32)
        full[y0:y1, x0:x1] = (weights @ (weights @ square).T).T[: y1 - y0, : x1 - x0]
        return full


def frame_picture(rgb: NDArray[np.uint8], *, crop_black: bool) -> PictureFrame:
    """Find the part of a (y, x, 3) picture of 8 bits that the network processes.

    `crop_black` removes a black border; a picture that is entirely black is not cropped.
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


def open_mask(mask: NDArray[np.bool_], kernel: int) -> NDArray[np.bool_]:
    """Return the opening of a (y, x) mask with a square of `kernel` pixels."""
    return np.asarray(ndimage.binary_opening(mask, np.ones((kernel, kernel), bool)))


def close_mask(mask: NDArray[np.bool_], kernel: int) -> NDArray[np.bool_]:
    """Return the closing of a (y, x) mask with a square of `kernel` pixels, also at the border."""
    padded = np.pad(mask, kernel)
    closed = ndimage.binary_closing(padded, np.ones((kernel, kernel), bool))
    return np.asarray(closed[kernel:-kernel, kernel:-kernel])


def smooth_mask(mask: NDArray[np.bool_], smoothing: Smoothing) -> NDArray[np.bool_]:
    """Open or close a (y, x) mask; `Morphology.NONE` returns it unchanged."""
    if smoothing.morphology is Morphology.NONE:
        return mask
    change = open_mask if smoothing.morphology is Morphology.OPEN else close_mask
    return change(mask, smoothing.kernel)
