"""Resample images and points between grids, and cut images into tiles that are blended again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cryoseg.types import BoolArray, FloatArray


class Slices(Protocol):
    """A (z, y, x) volume that can be read slice by slice, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) shape."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, z: int) -> NDArray[Any]: ...


def rescale_points(points: NDArray[Any], scale: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert (n, d) points in voxels to a grid over the same extent that has `scale` times as many voxels.

    Voxel centers are whole numbers, so that the edge of the volume lies at -0.5 on both grids. `scale` is one
    factor for all axes, or (d,) factors.
    """
    return np.asarray((points + 0.5) * scale - 0.5)


def nearest(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Resample an array of any dimension to `shape` over the same extent by nearest neighbor."""
    places = [
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
        for n, m in zip(values.shape, shape, strict=True)
    ]
    return np.asarray(values[np.ix_(*places)])


def linear_weights(source: int, target: int) -> csr_array:
    """Return the (target, source) matrix of linear interpolation between grids over the same extent.

    Voxel centers lie at (i + 0.5) / n of the extent. For a coarser target the triangular kernel is as wide
    as the target spacing, so that fine detail is averaged and not aliased. Outside the grid the last voxel
    is repeated.
    """
    scale = source / target
    reach = max(1.0, scale)
    centers = (np.arange(target) + 0.5) * scale - 0.5
    taps = int(np.ceil(reach)) + 1
    columns = np.floor(centers).astype(int)[:, None] + np.arange(-taps, taps + 1)
    return _weight_matrix(np.clip(1 - np.abs(columns - centers[:, None]) / reach, 0, None), columns, source)


def area_weights(source: int, target: int) -> csr_array:
    """Return the (target, source) matrix of area averaging between grids over the same extent.

    The weight of a source pixel is the share of the target pixel that it covers.
    """
    scale = source / target
    first = np.arange(target) * scale
    columns = np.floor(first).astype(int)[:, None] + np.arange(int(np.ceil(scale)) + 1)
    overlap = np.minimum(columns + 1, (first + scale)[:, None]) - np.maximum(columns, first[:, None])
    return _weight_matrix(np.clip(overlap, 0, None) * (columns < source), columns, source)


def _weight_matrix(weights: NDArray[np.float64], columns: NDArray[np.int64], source: int) -> csr_array:
    """Normalize (target, taps) weights at source indices `columns`; return them as a sparse matrix."""
    weights = weights / weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(columns)), columns.shape[1])
    columns = np.clip(columns, 0, source - 1)
    matrix = csr_array(
        (weights.ravel().astype(np.float32), (rows, columns.ravel())), shape=(len(columns), source)
    )
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


def resample_image(image: NDArray[Any], shape: tuple[int, int]) -> FloatArray:
    """Resample a (y, x) image to `shape` over the same extent by `linear_weights`."""
    if image.shape == shape:
        return np.asarray(image, dtype=np.float32)
    rows, columns = (linear_weights(n, m) for n, m in zip(image.shape, shape, strict=True))
    return np.ascontiguousarray((columns @ (rows @ image.astype(np.float32)).T).T, dtype=np.float32)


class Resampled:
    """A (z, y, x) volume on a grid of another shape, computed one slice at a time by `linear_weights`."""

    def __init__(self, volume: Slices, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        self._volume = volume
        source = volume.shape
        self._z = linear_weights(source[0], shape[0])
        self._y = linear_weights(source[1], shape[1])
        self._x = linear_weights(source[2], shape[2]).T.tocsr()

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, z: int) -> FloatArray:
        """Return slice `z` of the new grid, (y, x) float32."""
        begin, end = self._z.indptr[z], self._z.indptr[z + 1]
        mixed = np.zeros(self._volume.shape[1:], np.float32)
        for index, weight in zip(self._z.indices[begin:end], self._z.data[begin:end], strict=True):
            mixed += weight * self._volume[int(index)].astype(np.float32)
        slice_: FloatArray = np.ascontiguousarray((self._y @ mixed) @ self._x, dtype=np.float32)
        return slice_

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[z] for z in range(len(self)))


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

    def padded(self, image: FloatArray) -> FloatArray:
        """Return (C, y, x) channels of at least the size of a tile."""
        height, width = self.shape
        pad_y, pad_x = max(0, self.side - height), max(0, self.side - width)
        if pad_y or pad_x:
            # The image is mirrored if it is long enough; otherwise its last row or column is repeated.
            long_enough = 2 * min(self.shape) >= self.side
            image = np.pad(
                image, ((0, 0), (0, pad_y), (0, pad_x)), mode="symmetric" if long_enough else "edge"
            )
        return image

    def cut(self, image: FloatArray) -> FloatArray:
        """Cut (C, y, x) channels into (tiles, C, side, side); an image smaller than a tile is padded."""
        return np.stack(self.views(self.padded(image)))

    def views(self, image: Any) -> list[Any]:
        """Return the tiles (C, side, side) of a padded (C, y, x) array or tensor, without copies."""
        return [image[:, y : y + self.side, x : x + self.side] for y, x in self.corners]

    def add_tiles(self, total: Any, tiles: Any, window: Any) -> None:
        """Add (tiles, side, side) values times `window` to the padded (y, x) array or tensor `total`."""
        for (y, x), tile in zip(self.corners, tiles, strict=True):
            total[y : y + self.side, x : x + self.side] += tile * window

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
        weight = self.weight()
        total = np.zeros_like(weight)
        self.add_tiles(total, tiles, self.window())
        merged: FloatArray = np.divide(total, weight, out=total, where=weight > 0)
        return merged[: self.shape[0], : self.shape[1]]

    def window(self) -> FloatArray:
        """Return the weights (side, side) of a tile, which fall to its border, where context is missing."""
        ramp = np.minimum(np.arange(self.side) + 1, self.side - np.arange(self.side)).astype(np.float32)
        return np.minimum.outer(ramp, ramp)

    def weight(self) -> FloatArray:
        """Return the sum of the weights of all tiles in each pixel of the padded image."""
        total = np.zeros((max(self.shape[0], self.side), max(self.shape[1], self.side)), np.float32)
        self.add_tiles(total, np.ones(len(self.corners), np.float32), self.window())
        return total


def tile_grid(shape: tuple[int, int], side: int, overlap: int) -> TileGrid:
    """Return evenly spaced tiles of `side` pixels that overlap by at least `overlap` pixels."""

    def starts(extent: int) -> list[int]:
        count = _tiles_along(extent, side, overlap)
        return [int(v) for v in np.linspace(0, max(0, extent - side), count).round()]

    corners = tuple((y, x) for y in starts(shape[0]) for x in starts(shape[1]))
    return TileGrid(corners=corners, side=side, shape=shape)


def tile_saving_factor(shape: tuple[int, int], side: int, overlap: int, *, smallest: float) -> float:
    """Return the factor from `smallest` to 1 by which an image is shrunk so that it needs the fewest tiles.

    This is the largest factor with the fewest tiles. The other parameters are those of `tile_grid`.
    """

    def tiles(factor: float) -> int:
        return prod(_tiles_along(round(factor * extent), side, overlap) for extent in shape)

    lengths = [
        (side + count * (side - overlap), extent)
        for extent in shape
        for count in range(_tiles_along(extent, side, overlap) - 1)
    ]
    factors = [1.0, *(length / extent for length, extent in lengths if length >= smallest * extent)]
    return min(factors, key=lambda factor: (tiles(factor), -factor))


def tile_side(shape: tuple[int, int], *, limit: int, overlap: int, multiple: int) -> int:
    """Return the smallest side of tiles that needs as few tiles as the side `limit`.

    All lengths are in pixels; `shape` is (y, x), and the side is a multiple of `multiple`, as `limit` is.
    """

    def needed(extent: int) -> int:
        count = _tiles_along(extent, limit, overlap)
        return -(-(extent + (count - 1) * overlap) // count)

    return min(limit, multiple * -(-max(map(needed, shape)) // multiple))


def _tiles_along(extent: int, side: int, overlap: int) -> int:
    return 1 if extent <= side else -(-(extent - overlap) // (side - overlap))
