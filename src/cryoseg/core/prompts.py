"""Prompts that need no knowledge of the specimen: dots on a grid, and empty masks."""

from __future__ import annotations

import numpy as np

from cryoseg.types import BoolArray


def grid_mask(shape: tuple[int, int], interval: int) -> BoolArray:
    """Single True pixels at every multiple of `interval` in y and x, beginning with 0.

    Parameters
    ----------
    shape
        (y, x).
    interval
        In pixels.

    Notes
    -----
    Source: ETSAM, prompts `grid` and `grid_zero` (50 px; 10 px in split processing).
    """
    mask = np.zeros(shape, bool)
    mask[::interval, ::interval] = True
    return mask


def empty_mask(shape: tuple[int, int]) -> BoolArray:
    """No membrane anywhere on a (y, x) slice: ETSAM's prompt `zero`."""
    return np.zeros(shape, bool)


def prompted_slices(depth: int, interval: int) -> range:
    """Slices 0, interval, 2 * interval, ... of a volume of `depth` slices."""
    return range(0, depth, interval)
