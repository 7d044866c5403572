"""Intensity maps on values that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoseg.config import Normalize
from cryoseg.core.grids.robust import (
    CLIP,
    FilledSlices,
    fill_by_mirror,
    fused_logits_map,
    intensity_map,
    particle_view,
    robust_map,
)


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


def test_positive_max_drops_negatives_and_divides_by_the_peak() -> None:
    volume = np.array([[[-4.0, 0.0], [2.0, 8.0]]], np.float32)
    mapped = intensity_map(volume, Normalize.POSITIVE_MAX)(volume)
    np.testing.assert_array_equal(mapped, [[[0.0, 0.0], [0.25, 1.0]]])
    assert mapped.dtype == np.float32
    assert volume[0, 0, 0] == -4.0


def test_the_whole_volume_sets_the_scale_of_a_slice() -> None:
    volume = np.array([[[1.0]], [[4.0]]], np.float32)
    assert intensity_map(volume, Normalize.POSITIVE_MAX)(volume[0]) == 0.25


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
def test_integers_stay_double_only_for_the_first_release(dtype: str) -> None:
    volume = np.array([[[1, 3]]], dtype)
    double = intensity_map(volume, Normalize.POSITIVE_MAX, as_float32=False)(volume)
    single = intensity_map(volume, Normalize.POSITIVE_MAX)(volume)
    assert double.dtype == np.float64
    assert double[0, 0, 0] == 1 / 3
    assert single.dtype == np.float32
    assert single[0, 0, 0] == np.float32(1) / np.float32(3)


def test_floats_stay_single_in_both() -> None:
    volume = np.ones((1, 1, 1), np.float32)
    assert intensity_map(volume, Normalize.POSITIVE_MAX, as_float32=False)(volume).dtype == np.float32


def test_half_precision_is_widened_before_it_can_overflow() -> None:
    volume = np.array([[[-60000.0, 60000.0]]], np.float16)
    mapped = intensity_map(volume, Normalize.SOFTPLUS)(volume)
    np.testing.assert_array_equal(mapped, [[[0.0, 1.0]]])


def test_softplus_is_log_one_plus_exp_stretched_to_one() -> None:
    volume = np.array([[[-1.0, 0.0, 2.0]]], np.float32)
    soft = np.log1p(np.exp(volume.astype(np.float64)))
    expected = (soft - soft.min()) / (soft.max() - soft.min())
    np.testing.assert_allclose(intensity_map(volume, Normalize.SOFTPLUS)(volume), expected, atol=1e-6)


def test_softplus_of_large_values_does_not_overflow() -> None:
    volume = np.array([[[0.0, 500.0, 1000.0]]], np.float32)
    np.testing.assert_allclose(
        intensity_map(volume, Normalize.SOFTPLUS)(volume), [[[0.0, 0.4996536, 1.0]]], atol=1e-5
    )


@pytest.mark.parametrize("value", [-3.0, 0.0])
def test_nothing_positive_maps_to_zero(value: float) -> None:
    volume = np.full((2, 2, 2), value, np.float32)
    assert not intensity_map(volume, Normalize.POSITIVE_MAX)(volume).any()


def test_constant_volumes_are_defined() -> None:
    volume = np.full((2, 2, 2), 7, np.int16)
    assert (intensity_map(volume, Normalize.POSITIVE_MAX)(volume) == 1).all()
    assert not intensity_map(volume, Normalize.SOFTPLUS)(volume).any()
    assert not intensity_map(volume, Normalize.ROBUST)(volume).any()


def test_inverting_negates_signed_and_mirrors_unsigned_data() -> None:
    signed = np.array([[[-8.0, 4.0]]], np.float32)
    np.testing.assert_array_equal(
        intensity_map(signed, Normalize.POSITIVE_MAX, invert=True)(signed), [[[1.0, 0.0]]]
    )
    unsigned = np.array([[[10, 20, 40]]], np.uint8)
    np.testing.assert_array_equal(
        intensity_map(unsigned, Normalize.POSITIVE_MAX, invert=True)(unsigned), [[[1.0, 0.75, 0.25]]]
    )
    lowest = np.array([[[-32768, 0]]], np.int16)
    assert intensity_map(lowest, Normalize.POSITIVE_MAX, invert=True)(lowest).max() == 1.0


def test_fused_logits_are_clipped_then_stretched() -> None:
    logits = np.array([[[-10.0, -5.0, 0.0, 5.0, 30.0]]], np.float32)
    np.testing.assert_array_equal(fused_logits_map(logits)(logits), [[[0.0, 0.0, 0.5, 1.0, 1.0]]])
    narrow = np.array([[[-10.0, 0.0]]], np.float32)
    np.testing.assert_array_equal(fused_logits_map(narrow)(narrow), [[[0.0, 1.0]]])


def test_constant_logits_fuse_to_zero() -> None:
    logits = np.full((1, 2, 2), -1024.0, np.float32)
    assert not fused_logits_map(logits)(logits).any()


@pytest.mark.parametrize("method", list(Normalize))
@pytest.mark.parametrize("padding", [-30000, 0, 30000])
def test_blank_voxels_do_not_change_the_map_of_the_signal(method: Normalize, padding: float) -> None:
    signal = np.random.default_rng(0).normal(10, 5, (2, 20, 20)).astype(np.float32)
    padded = np.full((3, 20, 50), padding, np.float32)
    padded[:2, :, :20] = signal
    mapped = intensity_map(padded, method, blank=padded == padding)(padded)
    expected = intensity_map(signal, method)(signal)
    np.testing.assert_array_equal(mapped[:2, :, :20], expected)
    if method is not Normalize.ROBUST:  # which has limits of its own
        assert expected.min() <= mapped.min() <= mapped.max() <= expected.max()


def test_blank_voxels_are_filled_slice_by_slice_without_changing_the_volume() -> None:
    volume = np.arange(8, dtype=np.int16).reshape(2, 2, 2)
    blank = volume > 5
    filled = FilledSlices(volume, blank, 2.5)
    assert len(filled) == 2
    assert filled[1].tolist() == [[4, 5], [2.5, 2.5]]
    assert volume[1, 1, 1] == 7


def test_blank_pixels_become_the_mirrored_signal() -> None:
    image = np.array([[1, 2, 3, 0, 0, 0, 0]], np.float32)
    filled = fill_by_mirror(image, image == 0)
    # The mirror image about the last pixel with signal, and that pixel where the mirror leaves the image.
    assert filled[0].tolist() == [1, 2, 3, 2, 1, 1, 1]


@pytest.mark.parametrize("shape", [(90, 61), (300, 200)])
def test_background_of_a_micrograph_is_a_gaussian_filter(shape: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.normal(size=shape) + np.linspace(0, 5, shape[1])
    small = robust_map(image)(image)
    flat = small - gaussian_filter(small, 5.0 * 20, truncate=2.5)
    view = particle_view(image, diameter_px=20, particle_pixels=20)
    np.testing.assert_allclose(view, robust_map(flat)(flat), atol=1e-5)
