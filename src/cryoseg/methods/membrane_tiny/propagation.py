"""One pass of the membrane network through a volume, slice by slice and tile by tile."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from cryoseg.core.grids.resample import Slices, TileGrid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.slicestack import LOGIT_OFFSETS, REACH, SLICE_OFFSETS, offset_indices, slice_stack
from cryoseg.methods.sam.fine_sam2 import FineSam2, SliceMemory
from cryoseg.types import FloatArray

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
