"""Volumes whose thin axis is not the first, brought to thickness, rows, columns and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import ThicknessAxis

# Axes of the file, in the order in which a slice-wise network wants them.
ORDERS = {ThicknessAxis.Z: (0, 1, 2), ThicknessAxis.Y: (1, 0, 2), ThicknessAxis.X: (2, 0, 1)}


def thin_first(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """A view of a (z, y, x) volume with its thin axis first."""
    return volume.transpose(ORDERS[axis])


def thin_back(volume: NDArray[Any], axis: ThicknessAxis) -> NDArray[Any]:
    """Undo `thin_first`: a view in (z, y, x)."""
    return volume.transpose(np.argsort(ORDERS[axis]))


def points_thin_first(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """(n, 3) z, y, x of the file in the order of `thin_first`."""
    return points[:, list(ORDERS[axis])]


def points_thin_back(points: NDArray[np.float64], axis: ThicknessAxis) -> NDArray[np.float64]:
    """Undo `points_thin_first`: (n, 3) z, y, x of the file."""
    return points[:, np.argsort(ORDERS[axis])]


def triple_thin_first(values: tuple[float, float, float], axis: ThicknessAxis) -> tuple[float, float, float]:
    """A (z, y, x) triple, such as a voxel size, in the order of `thin_first`."""
    first, second, third = (values[index] for index in ORDERS[axis])
    return first, second, third
