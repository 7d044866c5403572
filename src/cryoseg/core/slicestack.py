"""Stacks of neighboring slices: what the fine membrane network sees at one z.

Slices beyond the ends of the volume repeat the last one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import FloatArray

NEIGHBORS = 2  # slices on either side, five in all
LOGIT_CLIP = 5.0  # stage-1 logits enter stage 2 clipped here and scaled to [-1, 1], as ETSAM clips


def neighbor_indices(z: int, depth: int) -> NDArray[np.intp]:
    """(5,) indices of the slices around `z`, repeated at the ends of a volume of `depth` slices."""
    return np.clip(np.arange(z - NEIGHBORS, z + NEIGHBORS + 1), 0, depth - 1)


def slice_stack(
    planes: FloatArray, stage1_logits: FloatArray | None = None, *, reverse: bool = False
) -> FloatArray:
    """Channels of one slice.

    Parameters
    ----------
    planes
        (5, y, x), the normalized slice and its neighbors, lowest z first.
    stage1_logits
        (5, y, x) logits of the first stage, for the second one.
    reverse
        Propagation runs downward, so that the highest z comes first.

    Returns
    -------
    FloatArray
        (5, y, x), or (10, y, x) with the clipped logits behind.
    """
    parts = [planes]
    if stage1_logits is not None:
        parts.append(np.clip(stage1_logits, -LOGIT_CLIP, LOGIT_CLIP) / np.float32(LOGIT_CLIP))
    return np.concatenate([part[::-1] if reverse else part for part in parts]).astype(np.float32, copy=False)
