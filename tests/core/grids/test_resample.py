from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.resample import Resampled, linear_weights


def test_same_grid_is_the_identity() -> None:
    volume = np.random.default_rng(0).normal(size=(5, 6, 7)).astype(np.float32)
    np.testing.assert_allclose(np.stack(list(Resampled(volume, (5, 6, 7)))), volume, atol=1e-6)


def test_halving_averages_pairs_with_the_triangle_of_the_new_spacing() -> None:
    # Target centers lie between voxels 2k and 2k+1; reach 2 gives weights 1/8, 3/8, 3/8, 1/8.
    weights = linear_weights(8, 4).toarray()
    np.testing.assert_allclose(weights[1, 1:5], [0.125, 0.375, 0.375, 0.125])
    np.testing.assert_allclose(weights.sum(axis=1), 1)


def test_doubling_interpolates_at_quarter_positions() -> None:
    weights = linear_weights(4, 8).toarray()
    np.testing.assert_allclose(weights[3, 1:3], [0.75, 0.25])
    np.testing.assert_allclose(weights[0], [1, 0, 0, 0])  # beyond the end the first voxel repeats


@pytest.mark.parametrize("shape", [(3, 9, 14), (12, 5, 4), (1, 1, 1)])
def test_a_constant_stays_constant_on_any_grid(shape: tuple[int, int, int]) -> None:
    seen = Resampled(np.full((6, 7, 8), 3, np.int8), shape)
    assert np.stack(list(seen)).shape == shape
    np.testing.assert_allclose(seen[shape[0] - 1], 3, rtol=1e-6)


def test_there_and_back_keeps_a_smooth_volume() -> None:
    z, y, x = np.mgrid[:12, :20, :24]
    volume = np.sin(z / 4 + y / 5 + x / 6).astype(np.float32)
    finer = np.stack(list(Resampled(volume, (18, 30, 36))))
    back = np.stack(list(Resampled(finer, volume.shape)))
    assert np.abs(back - volume)[2:-2, 2:-2, 2:-2].max() < 0.05
