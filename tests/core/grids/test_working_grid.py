"""Coordinates between a tomogram and the coarser grid are exact."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.working_grid import WorkingVolume, plan_grid


def test_voxels_stay_where_nothing_changes() -> None:
    grid = plan_grid((7, 8, 9), scale=(1.0, 1.01, 1.0))
    volume = np.arange(7 * 8 * 9, dtype=np.int16).reshape(7, 8, 9)
    assert grid.shape == (7, 8, 9)
    np.testing.assert_array_equal(WorkingVolume(volume, grid).load(), volume)
    points = np.array([[1.0, 2, 3]])
    np.testing.assert_allclose(grid.to_source(grid.to_working(points)), points)


def test_a_pair_of_voxels_has_its_center_between_them() -> None:
    grid = plan_grid((8, 8, 8), scale=(2.0, 2.0, 2.0))
    assert grid.to_source(np.array([[0.0, 1.0, 3.0]])).tolist() == [[0.5, 2.5, 6.5]]


@pytest.mark.parametrize("maximum", [False, True])
@pytest.mark.parametrize("depth", [8, 9])
def test_compressed_slices(depth: int, maximum: bool) -> None:
    volume = np.zeros((depth, 4, 4), np.float32)
    volume[2], volume[3] = 1.0, 3.0
    grid = plan_grid((depth, 4, 4), scale=(1, 1, 1), z_compression=2, maximum=maximum)
    assert grid.shape == ((depth + 1) // 2, 4, 4)
    joined = WorkingVolume(volume, grid)
    if maximum:
        assert [float(plane[0, 0]) for plane in joined.load()][:3] == [0.0, 3.0, 0.0]
        assert grid.to_source(np.array([[1.0, 0, 0]]))[0, 0] == 2.5
    elif depth == 8:
        assert grid.to_source(np.array([[1.0, 0, 0]]))[0, 0] == 2.5
        assert joined[1][0, 0] > joined[0][0, 0]


def test_blob_keeps_its_place_through_resampling() -> None:
    shape, center = (30, 45, 51), np.array([13.2, 21.7, 25.1])
    grid_points = np.indices(shape).reshape(3, -1).T
    blob = np.exp(-((grid_points - center) ** 2).sum(1) / 2 / 3.0**2).reshape(shape).astype(np.float32)
    grid = plan_grid(shape, scale=(1.6, 1.6, 1.6), z_compression=2)
    coarse = WorkingVolume(blob, grid).load()
    points = np.indices(coarse.shape).reshape(3, -1).T
    found = (points * coarse.reshape(-1, 1)).sum(0) / coarse.sum()
    np.testing.assert_allclose(grid.to_source(found[None])[0], center, atol=0.05)
