"""Stack neighboring slices into the channels of the fine membrane network.

Beyond the ends of the volume the last slice is repeated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import FloatArray

SLICE_OFFSETS = (-2, -1, 0, 1, 2)
# Stage 2 also reads the stage-1 logits of distant slices: the change of a ring from slice to slice shows
# where the missing wedge hides the pole of a vesicle.
LOGIT_OFFSETS = (-14, -8, -4, -2, -1, 0, 1, 2, 4, 8, 14)
REACH = {1: SLICE_OFFSETS[-1], 2: LOGIT_OFFSETS[-1]}  # Slices on either side that a stage reads.
CHANNELS = {1: len(SLICE_OFFSETS), 2: len(SLICE_OFFSETS) + len(LOGIT_OFFSETS)}
LOGIT_CLIP = 5.0  # Stage-1 logits are clipped as in ETSAM and scaled to [-1, 1] for stage 2.


def offset_indices(z: int, depth: int, offsets: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the (n,) indices of the slices at `offsets` from `z`, clipped to the `depth` slices."""
    return np.clip(np.add(z, offsets, dtype=np.intp), 0, depth - 1)


def slice_stack(
    planes: FloatArray, stage1_logits: FloatArray | None = None, *, reverse: bool = False
) -> FloatArray:
    """Return the channels of one slice, (5, y, x) or (16, y, x) float32.

    Parameters
    ----------
    planes
        (5, y, x) normalized slices at `SLICE_OFFSETS`, lowest z first.
    stage1_logits
        (11, y, x) stage-1 logits at `LOGIT_OFFSETS`, which stage 2 needs; they are appended.
    reverse
        Whether the highest z comes first, for propagation towards lower z.
    """
    parts = [planes]
    if stage1_logits is not None:
        parts.append(np.clip(stage1_logits, -LOGIT_CLIP, LOGIT_CLIP) / np.float32(LOGIT_CLIP))
    return np.concatenate([part[::-1] if reverse else part for part in parts]).astype(np.float32, copy=False)
