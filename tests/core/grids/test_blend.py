from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.resample import tile_grid, tile_saving_factor, tile_side


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


@pytest.mark.parametrize(
    ("shape", "shrunk", "before", "after"),
    [
        ((1204, 1204), (1152, 1152), 36, 25),  # Five tiles cover 256 + 4 * 224 = 1152.
        ((1152, 1152), (1152, 1152), 25, 25),
        ((1281, 1281), (1281, 1281), 36, 36),  # 0.9 * 1281 exceeds 1152.
        ((1200, 1690), (1136, 1600), 48, 35),  # Seven tiles cover 1600, which is 0.947 * 1690.
        ((270, 200), (256, 190), 2, 1),
        ((250, 100), (250, 100), 1, 1),
        ((480, 500), (461, 480), 6, 4),
    ],
)
def test_images_are_shrunk_if_this_saves_tiles(
    shape: tuple[int, int], shrunk: tuple[int, int], before: int, after: int
) -> None:
    factor = tile_saving_factor(shape, 256, 32, smallest=0.9)
    small = (round(shape[0] * factor), round(shape[1] * factor))
    assert small == shrunk
    assert len(tile_grid(shape, 256, 32).corners) == before
    assert len(tile_grid(small, 256, 32).corners) == after


def test_tiles_without_signal_are_left_out_and_their_pixels_are_zero() -> None:
    grid = tile_grid((64, 200), 64, 16)
    signal = np.zeros((64, 200), bool)
    signal[10, 5] = True
    kept = grid.over(signal)
    assert kept.corners == ((0, 0),)
    merged = kept.stitch(np.ones((1, 64, 64), np.float32))
    assert (merged[:, :64] == 1).all()
    assert not merged[:, 64:].any()
