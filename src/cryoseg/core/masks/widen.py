"""Raise logits beside confident voxels, so that the bands of a mask are wider."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from cryoseg.types import FloatArray


def widen_logits(logits: FloatArray, amount: float) -> None:
    """Raise each logit by an amount, but not above the highest one of its voxel and its six neighbors.

    The voxels above a threshold `t` are then those that were above it, and those of their neighbors that
    were above `t - amount`. This is thresholding with hysteresis whose reach is one voxel, for all thresholds
    at once.

    Parameters
    ----------
    logits
        (z, y, x) logits, which are changed in place.
    amount
        Largest increase, in logits.
    """
    below = logits[0]
    for z, image in enumerate(logits):
        original = image.copy()
        highest = np.maximum(below, logits[min(z + 1, len(logits) - 1)])
        for axis in (0, 1):
            np.maximum(highest, ndimage.maximum_filter1d(original, 3, axis=axis), out=highest)
        np.minimum(original + np.float32(amount), highest, out=image)
        below = original
