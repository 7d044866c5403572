"""Stacks of neighboring slices: what the fine membrane network sees at one z.

Slices beyond the ends of the volume repeat the last one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import FloatArray

SLICE_OFFSETS = (-2, -1, 0, 1, 2)
# Stage 2 sees the logits of stage 1 far above and below as well: how a ring narrows from slice to
# slice tells where the missing wedge hides the pole of a vesicle.
LOGIT_OFFSETS = (-14, -8, -4, -2, -1, 0, 1, 2, 4, 8, 14)
REACH = {1: SLICE_OFFSETS[-1], 2: LOGIT_OFFSETS[-1]}  # slices on either side that a stage reads
CHANNELS = {1: len(SLICE_OFFSETS), 2: len(SLICE_OFFSETS) + len(LOGIT_OFFSETS)}
LOGIT_CLIP = 5.0  # stage-1 logits enter stage 2 clipped here and scaled to [-1, 1], as ETSAM clips


def offset_indices(z: int, depth: int, offsets: tuple[int, ...]) -> NDArray[np.intp]:
    """(n,) indices of the slices at `offsets` from `z`; beyond the `depth` slices the last one repeats."""
    return np.clip(np.add(z, offsets, dtype=np.intp), 0, depth - 1)


def slice_stack(
    planes: FloatArray, stage1_logits: FloatArray | None = None, *, reverse: bool = False
) -> FloatArray:
    """Channels of one slice.

    Parameters
    ----------
    planes
        (5, y, x), the normalized slices at `SLICE_OFFSETS`, lowest z first.
    stage1_logits
        (11, y, x) logits of the first stage at `LOGIT_OFFSETS`, for the second one.
    reverse
        Propagation runs downward, so that the highest z comes first.

    Returns
    -------
    FloatArray
        (5, y, x), or (16, y, x) with the clipped logits behind.
    """
    parts = [planes]
    if stage1_logits is not None:
        parts.append(np.clip(stage1_logits, -LOGIT_CLIP, LOGIT_CLIP) / np.float32(LOGIT_CLIP))
    return np.concatenate([part[::-1] if reverse else part for part in parts]).astype(np.float32, copy=False)
