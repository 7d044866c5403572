"""One pass of the membrane network through a volume, slice by slice and tile by tile.

The channels of the network are neighboring slices; beyond the ends of the volume the last slice is repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cryoseg.core.grids.resample import Slices, TileGrid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.methods.sam.fine_sam2 import FineSam2, SliceMemory
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


TILES_AT_ONCE = 4  # limits the memory of activations; more are no faster on a CPU


@dataclass(frozen=True, kw_only=True)
class TiledVolume:
    """A volume and how the network reads it.

    Attributes
    ----------
    data
        (z, y, x) grey values of any type.
    intensity
        Map from grey values to the network's input, applied slice by slice.
    grid
        Tiles of a slice.
    window
        Length of the clips that the network was trained on, in slices.
    tiles_at_once
        Number of tiles that the network processes together.
    """

    data: Slices
    intensity: IntensityMap
    grid: TileGrid
    window: int
    tiles_at_once: int = TILES_AT_ONCE


def propagate(
    model: FineSam2,
    volume: TiledVolume,
    out: FloatArray,
    *,
    stage1: FloatArray | None = None,
    reverse: bool = False,
    on_slice: Callable[[], None] = lambda: None,
) -> None:
    """Compute the logits of every slice of a volume.

    Parameters
    ----------
    model
        Network in evaluation mode, built for tiles of `volume.grid.side` pixels.
    volume
        Volume to segment.
    out
        (z, y, x) float32 array that receives the logits. It may be `stage1` itself: a slice of stage-1
        logits is overwritten only when no later step reads it.
    stage1
        (z, y, x) logits of the first stage, for the second stage.
    reverse
        Whether to go from the last slice to the first.
    on_slice
        Function to call after each slice.
    """
    depth, at_once = len(volume.data), volume.tiles_at_once
    order = range(depth - 1, -1, -1) if reverse else range(depth)
    starts = range(0, len(volume.grid.corners), at_once)
    memories: list[SliceMemory] = [deque(maxlen=volume.window - 1) for _ in starts]
    device = next(model.parameters()).device
    grey: dict[int, FloatArray] = {}
    pending: deque[tuple[int, FloatArray]] = deque()
    for z in order:
        around = offset_indices(z, depth, SLICE_OFFSETS)
        grey = {i: grey[i] if i in grey else volume.intensity(volume.data[i]) for i in map(int, around)}
        planes = np.stack([grey[int(i)] for i in around])
        before = None if stage1 is None else stage1[offset_indices(z, depth, LOGIT_OFFSETS)]
        tiles = torch.from_numpy(volume.grid.cut(slice_stack(planes, before, reverse=reverse)))
        logits = [
            model.track_slice(tiles[start : start + at_once].to(device), memory)
            for start, memory in zip(starts, memories, strict=True)
        ]
        pending.append((z, volume.grid.stitch(torch.cat(logits).cpu().numpy())))
        if len(pending) > REACH[2]:
            done, merged = pending.popleft()
            out[done] = merged
        on_slice()
    for done, merged in pending:
        out[done] = merged
