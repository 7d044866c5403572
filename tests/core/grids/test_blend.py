from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.resample import tile_grid, tile_side


@pytest.mark.parametrize("shape", [(512, 512), (256, 256), (300, 257), (40, 700), (31, 20)])
def test_cutting_and_stitching_gives_the_image_back(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    grid = tile_grid(shape, 256, 48)
    tiles = grid.cut(image)
    assert tiles.shape[1:] == (1, 256, 256)
    np.testing.assert_allclose(grid.stitch(tiles[:, 0]), image[0], atol=1e-5)


def test_tiles_overlap_by_at_least_what_is_asked() -> None:
    starts = sorted({y for y, _ in tile_grid((512, 512), 256, 48).corners})
    assert starts == [0, 128, 256]
    assert max(np.diff(starts)) <= 256 - 48


def test_where_tiles_disagree_the_inner_one_counts_more() -> None:
    grid = tile_grid((64, 96), 64, 16)
    assert [x for _, x in grid.corners] == [0, 32]
    merged = grid.stitch(np.stack([np.zeros((64, 64)), np.ones((64, 64))]).astype(np.float32))
    row = merged[32]
    assert row[31] == 0
    assert row[64] == 1
    assert np.all(np.diff(row) >= 0)
    assert row[47] == pytest.approx(1 - row[48])


@pytest.mark.parametrize(
    ("shape", "side"),
    [((512, 512), 288), ((256, 256), 256), ((928, 960), 288), ((20, 31), 32), ((321, 40), 192)],
)
def test_tiles_are_no_larger_than_they_need_to_be(shape: tuple[int, int], side: int) -> None:
    found = tile_side(shape, limit=320, overlap=32, multiple=32)
    assert found == side
    grid = tile_grid(shape, found, 32)
    assert len(grid.corners) == len(tile_grid(shape, 320, 32).corners)


def test_tiles_without_signal_are_left_out_and_their_pixels_are_zero() -> None:
    grid = tile_grid((64, 200), 64, 16)
    signal = np.zeros((64, 200), bool)
    signal[10, 5] = True
    kept = grid.over(signal)
    assert kept.corners == ((0, 0),)
    merged = kept.stitch(np.ones((1, 64, 64), np.float32))
    assert (merged[:, :64] == 1).all()
    assert not merged[:, 64:].any()
