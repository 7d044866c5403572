"""Resample images, points and volumes between grids over the same extent; volumes slice by slice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cryoseg.types import FloatArray


class Slices(Protocol):
    """A (z, y, x) volume that can be read slice by slice, such as an array."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x) shape."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, z: int) -> NDArray[Any]: ...


def rescale_points(points: NDArray[Any], scale: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert points to a grid over the same extent that has `scale` times as many voxels.

    Voxel centers are whole numbers, so that the edge of the volume lies at -0.5 on both grids.

    Parameters
    ----------
    points
        (n, d) positions in voxels.
    scale
        Factor for all axes, or (d,) factors for the axes.
    """
    return np.asarray((points + 0.5) * scale - 0.5)


def nearest(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Resample an array to `shape` over the same extent by nearest neighbor.

    Parameters
    ----------
    values
        Array of any dimension, such as (z, y, x) labels.
    shape
        Shape of the result.
    """
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
    """A volume on another grid, computed one slice at a time by `linear_weights`.

    Parameters
    ----------
    volume
        (z, y, x) volume.
    shape
        (z, y, x) shape of the grid over the same extent.
    """

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
