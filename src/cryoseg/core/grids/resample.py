"""Volumes on another grid, slice by slice, without ever holding the resampled volume."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cryoseg.types import FloatArray


class Slices(Protocol):
    """What a volume must offer to be read slice by slice; arrays do."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, z: int) -> NDArray[Any]: ...


def rescale_points(points: NDArray[Any], scale: float | NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on a grid over the same extent whose voxels are `scale` times as many.

    Voxel centers are whole numbers, so that the edge of the volume lies at -0.5 on either grid.

    Parameters
    ----------
    points
        (n, d) in voxels.
    scale
        One factor, or (d,) one for each axis.
    """
    return np.asarray((points + 0.5) * scale - 0.5)


def nearest(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """An array on another grid over the same extent; every voxel takes the nearest value.

    Parameters
    ----------
    values
        Of any shape, such as labels (z, y, x).
    shape
        Of the wanted grid.
    """
    places = [
        np.minimum(((np.arange(m) + 0.5) * n / m).astype(int), n - 1)
        for n, m in zip(values.shape, shape, strict=True)
    ]
    return np.asarray(values[np.ix_(*places)])


def linear_weights(source: int, target: int) -> csr_array:
    """(target, source) matrix of triangular weights between two grids over the same extent.

    Voxel centers lie at (i + 0.5) / n of the extent. Towards a coarser grid the triangle widens to
    the new spacing, so that fine detail is averaged and not aliased.
    """
    scale = source / target
    reach = max(1.0, scale)
    centers = (np.arange(target) + 0.5) * scale - 0.5
    taps = int(np.ceil(reach)) + 1
    columns = np.floor(centers).astype(int)[:, None] + np.arange(-taps, taps + 1)
    weights = np.clip(1 - np.abs(columns - centers[:, None]) / reach, 0, None)
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(target), columns.shape[1])
    columns = np.clip(columns, 0, source - 1)  # beyond the ends the last voxel repeats
    matrix = csr_array((weights.ravel().astype(np.float32), (rows, columns.ravel())), shape=(target, source))
    matrix.sum_duplicates()
    matrix.eliminate_zeros()
    return matrix


class Resampled:
    """A volume seen on another grid, computed one slice at a time.

    Parameters
    ----------
    volume
        (z, y, x).
    shape
        (z, y, x) of the wanted grid over the same extent.
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
        """(y, x) float32 of slice `z` of the new grid."""
        begin, end = self._z.indptr[z], self._z.indptr[z + 1]
        mixed = np.zeros(self._volume.shape[1:], np.float32)
        for index, weight in zip(self._z.indices[begin:end], self._z.data[begin:end], strict=True):
            mixed += weight * self._volume[int(index)].astype(np.float32)
        slice_: FloatArray = np.ascontiguousarray((self._y @ mixed) @ self._x, dtype=np.float32)
        return slice_

    def __iter__(self) -> Iterator[FloatArray]:
        return (self[z] for z in range(len(self)))
