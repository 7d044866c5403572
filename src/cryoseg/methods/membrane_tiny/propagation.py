"""One pass of the fine membrane network through a volume: tiles, memory and bounded buffers."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np
import torch

from cryoseg.core.grids.resample import Slices, TileGrid
from cryoseg.core.grids.slicestack import LOGIT_OFFSETS, REACH, SLICE_OFFSETS, offset_indices, slice_stack
from cryoseg.core.robust import IntensityMap
from cryoseg.methods.sam.fine_sam2 import FineSam2, SliceMemory
from cryoseg.types import FloatArray

TILES_AT_ONCE = 4  # bounds the activations; more are no faster on a CPU


def propagate(
    model: FineSam2,
    data: Slices,
    intensity: IntensityMap,
    grid: TileGrid,
    *,
    window: int,
    out: FloatArray,
    stage1: FloatArray | None = None,
    reverse: bool = False,
    tiles_at_once: int = TILES_AT_ONCE,
    on_slice: Callable[[], None] = lambda: None,
) -> None:
    """Fill `out` with the logits of every slice.

    Parameters
    ----------
    model
        Built for tiles of `grid.side`, in evaluation mode.
    data
        (z, y, x), any type; normalized slice by slice.
    intensity
        The map to the network's grey values.
    grid
        Tiles of a slice.
    window
        Length of the clips that the model was trained on.
    out
        (z, y, x) float32, written in place. It may be `stage1` itself: a slice of stage-1 logits
        is overwritten only when no later step reads it.
    stage1
        (z, y, x) logits of the first stage, for the second.
    reverse
        From the last slice to the first.
    tiles_at_once
        Tiles that go through the network together.
    on_slice
        Called after each slice.
    """
    depth = len(data)
    order = range(depth - 1, -1, -1) if reverse else range(depth)
    groups = [
        range(i, min(i + tiles_at_once, len(grid.corners)))
        for i in range(0, len(grid.corners), tiles_at_once)
    ]
    memories: list[SliceMemory] = [deque(maxlen=window - 1) for _ in groups]
    device = next(model.parameters()).device
    grey: dict[int, FloatArray] = {}
    pending: deque[tuple[int, FloatArray]] = deque()
    for z in order:
        around = offset_indices(z, depth, SLICE_OFFSETS)
        grey = {i: grey[i] if i in grey else intensity(data[i]) for i in map(int, around)}
        planes = np.stack([grey[int(i)] for i in around])
        before = None if stage1 is None else stage1[offset_indices(z, depth, LOGIT_OFFSETS)]
        stack = slice_stack(planes, before, reverse=reverse)
        tiles = torch.from_numpy(grid.cut(stack))
        logits = [
            model.track_slice(tiles[group.start : group.stop].to(device), memory)
            for group, memory in zip(groups, memories, strict=True)
        ]
        pending.append((z, grid.stitch(torch.cat(logits).cpu().numpy())))
        if len(pending) > REACH[2]:
            done, merged = pending.popleft()
            out[done] = merged
        on_slice()
    for done, merged in pending:
        out[done] = merged
