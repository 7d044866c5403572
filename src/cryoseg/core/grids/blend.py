"""Overlapping square tiles of a slice, and the weights that blend them into one image again."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import BoolArray, FloatArray


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Equal square tiles that cover an image.

    Attributes
    ----------
    corners
        (y, x) of each tile's first pixel; may be negative where the image is smaller than a tile.
    side
        Of a tile, in pixels.
    shape
        (y, x) of the image.
    """

    corners: tuple[tuple[int, int], ...]
    side: int
    shape: tuple[int, int]

    def cut(self, image: FloatArray) -> FloatArray:
        """(C, y, x) to (tiles, C, side, side); beyond the image its edge is repeated."""
        height, width = self.shape
        pad_y, pad_x = max(0, self.side - height), max(0, self.side - width)
        if pad_y or pad_x:
            image = np.pad(
                image, ((0, 0), (0, pad_y), (0, pad_x)), mode="symmetric" if self._foldable() else "edge"
            )
        return np.stack([image[:, y : y + self.side, x : x + self.side] for y, x in self.corners])

    def _foldable(self) -> bool:
        return 2 * min(self.shape) >= self.side

    def over(self, signal: BoolArray) -> TileGrid:
        """The tiles of this grid that contain at least one True pixel of `signal`, (y, x)."""
        corners = tuple(
            (y, x)
            for y, x in self.corners
            if signal[max(0, y) : y + self.side, max(0, x) : x + self.side].any()
        )
        return replace(self, corners=corners)

    def stitch(self, tiles: FloatArray) -> FloatArray:
        """(tiles, side, side) to (y, x): weighted mean where tiles overlap, 0 where there is none."""
        height, width = max(self.shape[0], self.side), max(self.shape[1], self.side)
        total = np.zeros((height, width), np.float32)
        weight = np.zeros((height, width), np.float32)
        window = self._window()
        for (y, x), tile in zip(self.corners, tiles, strict=True):
            total[y : y + self.side, x : x + self.side] += tile * window
            weight[y : y + self.side, x : x + self.side] += window
        merged: FloatArray = np.divide(total, weight, out=total, where=weight > 0)
        merged = merged[: self.shape[0], : self.shape[1]]
        return merged

    def _window(self) -> NDArray[np.float32]:
        # A pyramid: tiles count little at their rim, where the network sees least.
        ramp = np.minimum(np.arange(self.side) + 1, self.side - np.arange(self.side)).astype(np.float32)
        return np.minimum.outer(ramp, ramp)


def tile_grid(shape: tuple[int, int], side: int, overlap: int) -> TileGrid:
    """Evenly spread tiles of `side` pixels that overlap by at least `overlap`."""

    def starts(extent: int) -> list[int]:
        count = _tiles_along(extent, side, overlap)
        return [int(v) for v in np.linspace(0, max(0, extent - side), count).round()]

    corners = tuple((y, x) for y in starts(shape[0]) for x in starts(shape[1]))
    return TileGrid(corners=corners, side=side, shape=shape)


def tile_side(shape: tuple[int, int], *, limit: int, overlap: int, multiple: int) -> int:
    """The smallest side that covers an image with as few tiles as sides of `limit` would need.

    Parameters
    ----------
    shape
        (y, x) of the image.
    limit
        Largest side, a multiple of `multiple`.
    overlap
        Of neighboring tiles, in pixels.
    multiple
        Of which the side is one.
    """

    def needed(extent: int) -> int:
        count = _tiles_along(extent, limit, overlap)
        return -(-(extent + (count - 1) * overlap) // count)

    return min(limit, multiple * -(-max(map(needed, shape)) // multiple))


def _tiles_along(extent: int, side: int, overlap: int) -> int:
    return 1 if extent <= side else -(-(extent - overlap) // (side - overlap))
