from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.robust import CLIP, robust_map


def test_normal_values_become_standard_and_a_hot_voxel_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    volume = rng.normal(6800, 25, size=(20, 40, 40))
    plain = robust_map(volume)
    volume[3, 4, 5] = 1e9
    spoiled = robust_map(volume)
    assert plain.center == pytest.approx(6800, abs=1)
    assert plain.spread == pytest.approx(25, rel=0.02)
    assert spoiled.center == pytest.approx(plain.center, abs=0.01)
    assert spoiled(volume).max() == CLIP


def test_inverting_swaps_dark_and_bright() -> None:
    volume = np.array([[[0, 1, 2, 3, 4]]], np.int8)
    np.testing.assert_allclose(robust_map(volume, invert=True)(volume), -robust_map(volume)(volume))
    assert robust_map(volume)(volume)[0, 0, 2] == 0


def test_a_constant_volume_is_zero_and_one_outlier_does_not_divide_by_zero() -> None:
    constant = np.full((2, 3, 4), 7, np.int16)
    assert not robust_map(constant)(constant).any()
    constant[0, 0, 0] = 9
    assert np.isfinite(robust_map(constant)(constant)).all()


def test_the_input_is_not_edited() -> None:
    volume = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    kept = volume.copy()
    robust_map(volume)(volume)
    np.testing.assert_array_equal(volume, kept)


def test_blank_voxels_are_left_out() -> None:
    signal = np.random.default_rng(0).normal(100, 5, (4, 30, 30)).astype(np.float32)
    padded = np.zeros((4, 30, 90), np.float32)
    padded[:, :, :30] = signal
    assert robust_map(padded, blank=padded == 0) == robust_map(signal)


def test_numbers_near_the_smallest_float_map_like_any_others() -> None:
    volume = np.random.default_rng(0).normal(0, 1, (4, 30, 30))
    tiny = (volume * 1e-40).astype(np.float32)
    mapped = robust_map(tiny)(tiny)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped, robust_map(volume)(volume), atol=1e-3)
