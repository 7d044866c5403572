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
from cryoseg.methods.device import ready_for_transfer, to_host
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


# Numbers of tiles that limit the memory of activations; more are no faster.
TILES_AT_ONCE = {"cpu": 4}  # by type of device
TILES_AT_ONCE_ELSEWHERE = 16


def tiles_at_once(device: torch.device, memory_level: int) -> int:
    """Return the number of tiles that the network processes together; each memory level halves it."""
    return max(1, TILES_AT_ONCE.get(device.type, TILES_AT_ONCE_ELSEWHERE) >> memory_level)


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
    tiles_at_once: int = TILES_AT_ONCE["cpu"]


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
    step = order.step
    starts = range(0, len(volume.grid.corners), at_once)
    memories: list[SliceMemory] = [deque(maxlen=volume.window - 1) for _ in starts]
    device = next(model.parameters()).device
    blend = _Blend(volume.grid, device)
    grey = _SliceCache(lambda z: volume.intensity(volume.data[z]), volume.grid, device)
    inputs: list[tuple[_SliceCache, tuple[int, ...]]] = [(grey, SLICE_OFFSETS)]
    if stage1 is not None:
        logits_of_stage1 = stage1
        scaled = _SliceCache(
            lambda z: np.clip(logits_of_stage1[z], -LOGIT_CLIP, LOGIT_CLIP) / np.float32(LOGIT_CLIP),
            volume.grid,
            device,
        )
        inputs.append((scaled, LOGIT_OFFSETS))
    pending: deque[tuple[int, Callable[[], FloatArray]]] = deque()
    for z in order:
        # The slice that comes first in the direction of propagation is the first channel.
        channels = torch.cat(
            [cache.stack(offset_indices(z, depth, offsets)[::step]) for cache, offsets in inputs]
        )
        tiles = blend.cut(channels)
        logits = [
            model.track_slice(tiles[start : start + at_once], memory)
            for start, memory in zip(starts, memories, strict=True)
        ]
        pending.append((z, to_host(blend.stitch(torch.cat(logits)))))
        if len(pending) > REACH[2]:
            done, merged = pending.popleft()
            out[done] = merged()
        on_slice()
    for done, merged in pending:
        out[done] = merged()


class _SliceCache:
    """Slices on the device, each of which is computed and copied there once."""

    def __init__(self, read: Callable[[int], FloatArray], grid: TileGrid, device: torch.device) -> None:
        self._read, self._grid, self._device = read, grid, device
        self._kept: dict[int, torch.Tensor] = {}

    def stack(self, indices: NDArray[np.intp]) -> torch.Tensor:
        """Return slices as (n, y, x) float32 of at least the size of a tile, and forget those left behind."""
        wanted = [int(i) for i in indices]
        low, high = min(wanted), max(wanted)
        self._kept = {z: kept for z, kept in self._kept.items() if low <= z <= high}
        for z in wanted:
            if z not in self._kept:
                plane = torch.from_numpy(self._grid.padded(self._read(z)[None])[0])
                self._kept[z] = ready_for_transfer(plane, self._device).to(self._device, non_blocking=True)
        return torch.stack([self._kept[z] for z in wanted])


class _Blend:
    """Cut and blend tiles on the device, as `TileGrid` does on the CPU."""

    def __init__(self, grid: TileGrid, device: torch.device) -> None:
        self._grid = grid
        self._window, self._weight = (
            torch.from_numpy(part).to(device) for part in (grid.window(), grid.weight())
        )

    def cut(self, channels: torch.Tensor) -> torch.Tensor:
        """Cut (C, y, x) into (tiles, C, side, side)."""
        return torch.stack(self._grid.views(channels))

    def stitch(self, tiles: torch.Tensor) -> torch.Tensor:
        """Blend (tiles, side, side) into (y, x)."""
        height, width = self._grid.shape
        total = torch.zeros_like(self._weight)
        self._grid.add_tiles(total, tiles, self._window)
        merged = torch.where(self._weight > 0, total / self._weight, 0)
        return merged[:height, :width].contiguous()
