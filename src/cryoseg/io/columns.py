"""Columns of scores and track numbers, which a file may give incompletely or not at all."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import FloatArray

LARGEST_WHOLE = 2**53  # beyond, floats skip whole numbers


def as_scores(values: NDArray[np.float64] | None) -> FloatArray | None:
    """(n,) as float32, or None where one is missing or infinite."""
    if values is None:
        return None
    with np.errstate(over="ignore"):
        scores = values.astype(np.float32)
    return scores if np.isfinite(scores).all() else None


def as_tracks(values: NDArray[np.float64] | None) -> NDArray[np.int64] | None:
    """(n,) as integers, or None where one is missing or too large to be one."""
    if values is None or not np.isfinite(values).all() or (np.abs(values) > LARGEST_WHOLE).any():
        return None
    return values.astype(np.int64)
