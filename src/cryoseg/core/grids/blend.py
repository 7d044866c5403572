"""Split an image into overlapping square tiles, and blend the results of the tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cryoseg.types import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Square tiles of one size that cover an image.

    Attributes
    ----------
    corners
        (y, x) index of the first pixel of each tile.
    side
        Side of a tile in pixels.
    shape
        (y, x) shape of the image.
    """

    corners: tuple[tuple[int, int], ...]
    side: int
    shape: tuple[int, int]

    def cut(self, image: FloatArray) -> FloatArray:
        """Cut (C, y, x) channels into (tiles, C, side, side); an image smaller than a tile is padded."""
        height, width = self.shape
        pad_y, pad_x = max(0, self.side - height), max(0, self.side - width)
        if pad_y or pad_x:
            # The image is mirrored if it is long enough; otherwise its last row or column is repeated.
            long_enough = 2 * min(self.shape) >= self.side
            image = np.pad(
                image, ((0, 0), (0, pad_y), (0, pad_x)), mode="symmetric" if long_enough else "edge"
            )
        return np.stack([image[:, y : y + self.side, x : x + self.side] for y, x in self.corners])

    def over(self, signal: BoolArray) -> TileGrid:
        """Return the grid of the tiles that contain at least one True pixel of `signal` (y, x)."""
        corners = tuple(
            (y, x)
            for y, x in self.corners
            if signal[max(0, y) : y + self.side, max(0, x) : x + self.side].any()
        )
        return replace(self, corners=corners)

    def stitch(self, tiles: FloatArray) -> FloatArray:
        """Blend (tiles, side, side) values into (y, x): weighted means in overlaps, 0 outside all tiles."""
        height, width = max(self.shape[0], self.side), max(self.shape[1], self.side)
        total = np.zeros((height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        # Pyramidal weights: near the border of a tile the network has the least context.
        ramp = np.minimum(np.arange(self.side) + 1, self.side - np.arange(self.side)).astype(np.float32)
        window = np.minimum.outer(ramp, ramp)
        for (y, x), tile in zip(self.corners, tiles, strict=True):
            total[y : y + self.side, x : x + self.side] += tile * window
            weight[y : y + self.side, x : x + self.side] += window
        merged: FloatArray = np.divide(total, weight, out=total, where=weight > 0)
        return merged[: self.shape[0], : self.shape[1]]


def tile_grid(shape: tuple[int, int], side: int, overlap: int) -> TileGrid:
    """Return evenly spaced tiles of `side` pixels that overlap by at least `overlap` pixels."""

    def starts(extent: int) -> list[int]:
        count = _tiles_along(extent, side, overlap)
        return [int(v) for v in np.linspace(0, max(0, extent - side), count).round()]

    corners = tuple((y, x) for y in starts(shape[0]) for x in starts(shape[1]))
    return TileGrid(corners=corners, side=side, shape=shape)


def tile_side(shape: tuple[int, int], *, limit: int, overlap: int, multiple: int) -> int:
    """Return the smallest side of tiles that needs as few tiles as the side `limit`.

    Parameters
    ----------
    shape
        (y, x) shape of the image.
    limit
        Largest side in pixels, a multiple of `multiple`.
    overlap
        Overlap of neighboring tiles in pixels.
    multiple
        Divisor of the side in pixels.
    """

    def needed(extent: int) -> int:
        count = _tiles_along(extent, limit, overlap)
        return -(-(extent + (count - 1) * overlap) // count)

    return min(limit, multiple * -(-max(map(needed, shape)) // multiple))


def _tiles_along(extent: int, side: int, overlap: int) -> int:
    return 1 if extent <= side else -(-(extent - overlap) // (side - overlap))
