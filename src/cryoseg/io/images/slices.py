"""Volumes that are given slice by slice to the writers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import OutputError


class SliceSource(Protocol):
    """Anything that gives one (y, x) slice at a time: an array, or slices made on demand."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(z, y, x)."""

    def __getitem__(self, z: int, /) -> Any:
        """Slice `z`, (y, x)."""


def volume_shape(data: SliceSource, path: Path) -> tuple[int, int, int]:
    """Return the shape (z, y, x) of a volume that is written to `path`.

    Raises
    ------
    OutputError
        If the array is no volume.
    """
    if len(data.shape) != 3 or 0 in data.shape:
        raise OutputError(f"{path}: an array of shape {data.shape} is no volume (z, y, x).")
    return int(data.shape[0]), int(data.shape[1]), int(data.shape[2])


def iterate_slices(data: SliceSource, dtype: np.dtype[Any], path: Path) -> Iterator[NDArray[Any]]:
    """Yield the slices of a volume, (y, x) and contiguous, in a data type.

    Parameters
    ----------
    data
        (z, y, x); asked for each slice once, in order.
    dtype
        Type of the values of the file; integers must fit.
    path
        The file, for messages.

    Raises
    ------
    OutputError
        If a slice has another shape, or a value does not fit.
    """
    depth, *image_shape = volume_shape(data, path)
    for z in range(depth):
        image = np.asarray(data[z])
        if image.shape != tuple(image_shape):
            raise OutputError(f"{path}: slice {z} has shape {image.shape}, not {tuple(image_shape)}.")
        if dtype.kind in "iu" and image.dtype.kind != "b":
            limits = np.iinfo(dtype)
            if image.dtype.kind not in "iu" or image.min() < limits.min or image.max() > limits.max:
                raise OutputError(
                    f"{path}: values of type {image.dtype} do not fit into {dtype.name} "
                    f"({limits.min} to {limits.max}); write them as logits (float32)."
                )
        with np.errstate(over="ignore"):
            yield np.ascontiguousarray(image, dtype=dtype)
