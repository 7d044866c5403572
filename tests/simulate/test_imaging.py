"""The imaging model: wedge, contrast transfer, dose, SNR."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from cryoseg.simulate.imaging import (
    CtfMode,
    Imaging,
    Reconstruction,
    apply_filter,
    contrast_transfer,
    dose_envelope,
    image,
    scale_noise,
    store,
)

SHAPE = (40, 48, 60)


def imaging(top: float = 50.0, **changes: object) -> Imaging:
    angles = tuple(np.arange(-top, top + 1.0, 2.0).tolist())
    base = Imaging(
        tilt_axis="y",
        tilt_angles=angles,
        doses=(0.0,) * len(angles),
        jitter=((0.0, 0.0),) * len(angles),
        interpolation=False,
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


def power_by_tilt(volume: np.ndarray, axis: str) -> tuple[np.ndarray, np.ndarray]:
    """Power, and the elevation in degrees of each frequency out of the untilted plane, off the origin."""
    power = np.square(np.abs(np.fft.fftn(volume)))
    kz = np.fft.fftfreq(volume.shape[0])[:, None, None]
    across = 2 if axis == "y" else 1
    shape = [1, 1, 1]
    shape[across] = volume.shape[across]
    ku = np.fft.fftfreq(volume.shape[across]).reshape(shape)
    elevation = np.rad2deg(np.arctan2(np.abs(kz), np.abs(ku)))
    radius = np.hypot(kz, ku)
    # One sample of the grid is what the slab of a tilt may reach beyond the last angle.
    elevation = np.where(radius > 0.15, elevation, 0.0)
    return power, np.broadcast_to(elevation, power.shape)


@pytest.mark.parametrize("axis", ["x", "y"])
@pytest.mark.parametrize("reconstruction", list(Reconstruction))
def test_nothing_is_seen_beyond_the_tilt_range(axis: str, reconstruction: Reconstruction) -> None:
    rng = np.random.default_rng(0)
    density = rng.standard_normal(SHAPE, dtype=np.float32)
    setup = imaging(tilt_axis=axis, reconstruction=reconstruction)
    for part in image(rng, density, voxel_size=10.0, imaging=setup):
        power, elevation = power_by_tilt(part, axis)
        assert power[elevation > 62.0].sum() < 1e-6 * power.sum()
        inside = (elevation > 10.0) & (elevation < 45.0)
        assert power[inside].sum() > 0.1 * power.sum()


def test_weighting_evens_out_the_overlap_of_tilts() -> None:
    rng = np.random.default_rng(1)
    density = rng.standard_normal((48, 48, 48), dtype=np.float32)
    noise_free, _ = image(rng, density, voxel_size=10.0, imaging=imaging(60.0, rolloff_start=0.5))
    power, elevation = power_by_tilt(noise_free, "y")
    kz, ku = np.fft.fftfreq(48)[:, None, None], np.fft.fftfreq(48)[None, None, :]
    radius = np.broadcast_to(np.hypot(kz, ku), power.shape)
    levels = [
        power[(elevation > 5) & (elevation < 45) & (radius > low) & (radius < low + 0.1)].mean()
        for low in (0.16, 0.26, 0.36)
    ]
    assert max(levels) / min(levels) < 4.0


def test_full_mask_without_ctf_is_the_identity() -> None:
    rng = np.random.default_rng(2)
    density = rng.standard_normal(SHAPE, dtype=np.float32)
    noise_free, noise = image(
        rng,
        density,
        voxel_size=10.0,
        imaging=imaging(89.0, reconstruction=Reconstruction.MASK, noise_after_wedge=1.0),
    )
    assert np.corrcoef(noise_free.ravel(), density.ravel())[0, 1] > 0.99
    assert noise.std() == pytest.approx(1.0, rel=0.02)


def test_flat_membrane_across_the_beam_is_lost_and_an_upright_one_is_kept() -> None:
    upright, flat = np.zeros((2, 64, 64, 64), dtype=np.float32)
    upright[:, :, 32] = 1.0
    flat[32] = 1.0
    rng = np.random.default_rng(3)
    setup = imaging(60.0)
    kept, _ = image(rng, upright, voxel_size=10.0, imaging=setup)
    lost, _ = image(rng, flat, voxel_size=10.0, imaging=setup)
    assert kept[32, 32].max() - np.median(kept[32, 32]) > 0.2
    assert np.ptp(lost[:, 32, 32]) < 0.05


def test_ctf_crosses_zero_where_defocus_says() -> None:
    defocus = 40000.0
    setup = imaging(ctf=CtfMode.RAW, defocus=defocus, amplitude_contrast=0.0, phase_shift=0.0)
    first_zero = 1.0 / np.sqrt(0.0197 * defocus)
    around = np.array([0.9, 1.1]) * first_zero
    below, above = contrast_transfer(around, setup)
    assert below > 0 > above
    flipped = contrast_transfer(around, dataclasses.replace(setup, ctf=CtfMode.FLIPPED))
    np.testing.assert_allclose(flipped, [below, -above])
    assert contrast_transfer(np.array([0.0]), dataclasses.replace(setup, amplitude_contrast=0.1))[
        0
    ] == pytest.approx(0.1)
    assert (contrast_transfer(around, imaging()) == 1.0).all()


def test_dose_takes_high_frequencies_first() -> None:
    fresh = dose_envelope(np.array([0.01, 0.05]), 0.0)
    np.testing.assert_allclose(fresh, 1.0)
    spent = dose_envelope(np.array([0.01, 0.05]), 100.0)
    assert spent[0] > 0.9
    # At 20 A the critical exposure is 0.245 * 20^1.665 + 2.81 = 38.6 electrons per square angstrom.
    assert spent[1] == pytest.approx(np.exp(-100.0 / (2 * 38.6)), rel=0.01)


def test_local_mean_removal_takes_the_mean_away() -> None:
    rng = np.random.default_rng(4)
    density = rng.standard_normal(SHAPE, dtype=np.float32) + 3.0
    noise_free, _ = image(rng, density, voxel_size=10.0, imaging=imaging(local_mean_sigma=20.0))
    assert abs(noise_free.mean()) < 1e-4


def test_common_shift_of_all_tilts_moves_the_volume() -> None:
    rng = np.random.default_rng(5)
    density = np.zeros((32, 48, 48), dtype=np.float32)
    density[16, 20:24, 20:24] = 1.0
    still, _ = image(rng, density, voxel_size=10.0, imaging=imaging())
    moved, _ = image(
        rng, density, voxel_size=10.0, imaging=imaging(jitter=((0.0, 3.0),) * len(imaging().tilt_angles))
    )
    np.testing.assert_allclose(moved, np.roll(still, 3, axis=1), atol=1e-4)


@pytest.mark.parametrize("snr", [0.05, 0.3, 1.0])
def test_scaled_noise_has_the_asked_snr(snr: float) -> None:
    rng = np.random.default_rng(6)
    signal = rng.standard_normal(SHAPE).astype(np.float32) * 7
    noise = scale_noise(signal, rng.standard_normal(SHAPE).astype(np.float32), snr)
    assert signal.var() / noise.var() == pytest.approx(snr, rel=1e-4)


@pytest.mark.parametrize(("name", "strength"), [("lowpass", 1.0), ("wiener", 1.0)])
def test_filters_are_linear_and_raise_the_snr_of_a_smooth_signal(name: str, strength: float) -> None:
    rng = np.random.default_rng(7)
    x = np.sin(np.arange(60) * 2 * np.pi / 20)
    signal = np.broadcast_to(x, SHAPE).astype(np.float32)
    noise = rng.standard_normal(SHAPE).astype(np.float32)
    seen, seen_noise = apply_filter(signal, noise, name, strength)
    assert seen.var() / seen_noise.var() > 2 * signal.var() / noise.var()
    untouched = apply_filter(signal, noise, "none", 0.0)
    assert untouched[0] is signal


@pytest.mark.parametrize("storage", ["int8", "int16", "float32"])
def test_storage_keeps_order_and_states_its_scale(storage: str) -> None:
    rng = np.random.default_rng(8)
    volume = rng.standard_normal(SHAPE).astype(np.float32) * 3 + 5
    data, scaling = store(rng, volume, storage)
    assert data.dtype == np.dtype(storage)
    assert np.corrcoef(data.ravel(), volume.ravel())[0, 1] > 0.999
    assert data.mean(dtype=np.float64) == pytest.approx(scaling["mean"], abs=0.02 * scaling["std"] + 0.01)
    assert data.std(dtype=np.float64) == pytest.approx(scaling["std"], rel=0.02)
    if storage == "int16":
        assert data.min() > 0
