"""The network reads each slice with its neighbors, and its tiles are blended as `TileGrid` does."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from cryoseg.core.grids.resample import tile_grid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.methods.membrane_tiny.propagation import (
    CHANNELS,
    LOGIT_OFFSETS,
    SLICE_OFFSETS,
    TiledVolume,
    offset_indices,
    propagate,
    tiles_at_once,
)


class Recorder(nn.Module):
    """A network that keeps its input, and returns the channel of the current slice."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def track_slice(self, images: Tensor, memory: object) -> Tensor:
        self.seen.append(images)
        return images[:, 2]


def tiled(data: np.ndarray, *, side: int, overlap: int = 0) -> TiledVolume:
    grid = tile_grid((data.shape[1], data.shape[2]), side, overlap)
    return TiledVolume(
        data=data, intensity=IntensityMap(center=0.0, spread=1.0), grid=grid, window=4, tiles_at_once=2
    )


def test_slices_repeat_at_both_ends() -> None:
    assert offset_indices(0, 10, SLICE_OFFSETS).tolist() == [0, 0, 0, 1, 2]
    assert offset_indices(9, 10, SLICE_OFFSETS).tolist() == [7, 8, 9, 9, 9]
    assert offset_indices(0, 1, SLICE_OFFSETS).tolist() == [0, 0, 0, 0, 0]
    assert offset_indices(20, 100, LOGIT_OFFSETS).tolist() == [6, 12, 16, 18, 19, 20, 21, 22, 24, 28, 34]


def test_logits_follow_the_slices_scaled_to_one_and_both_turn_around() -> None:
    depth = 40
    volume = np.broadcast_to(np.arange(depth, dtype=np.float32)[:, None, None] / 10, (depth, 8, 8)).copy()
    stage1 = np.broadcast_to(
        np.linspace(-8, 11.5, depth, dtype=np.float32)[:, None, None], volume.shape
    ).copy()
    network = Recorder()
    propagate(network, tiled(volume, side=8), stage1, stage1=stage1, reverse=True)  # type: ignore[arg-type]
    (image,) = network.seen[depth - 1 - 20]  # the slice z = 20
    assert image.shape == (CHANNELS[2], 8, 8)
    expected = [2.2, 2.1, 2.0, 1.9, 1.8]
    # The logit of slice z is z / 2 - 8, clipped to 5 and divided by it.
    expected += [min(1.0, (z / 2 - 8) / 5) for z in (34, 28, 24, 22, 21, 20, 19, 18, 16, 12)] + [-1.0]
    np.testing.assert_allclose(image[:, 0, 0].detach(), expected, rtol=1e-5)
    np.testing.assert_allclose(stage1, volume, rtol=1e-6)  # the result replaced the logits of stage 1


def test_tiles_are_blended_as_on_the_grid() -> None:
    volume = np.random.default_rng(0).normal(size=(3, 21, 30)).astype(np.float32)
    network, out = Recorder(), np.empty_like(volume)
    part = tiled(volume, side=16, overlap=4)
    propagate(network, part, out)  # type: ignore[arg-type]
    assert len(part.grid.corners) == 6
    for z in range(3):
        expected = part.grid.stitch(part.grid.cut(volume[z][None])[:, 0])
        np.testing.assert_array_equal(out[z], expected)
        np.testing.assert_allclose(out[z], volume[z], rtol=1e-5)


def test_less_memory_means_fewer_tiles_at_once() -> None:
    assert [tiles_at_once(torch.device("cpu"), level) for level in range(4)] == [4, 2, 1, 1]
    assert [tiles_at_once(torch.device("cuda"), level) for level in range(3)] == [16, 8, 4]
