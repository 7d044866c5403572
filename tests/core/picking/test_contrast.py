"""Outliers, low-pass, background and polarity, on images whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.picking.contrast import (
    clip_outliers,
    flatten_background,
    is_constant,
    low_pass,
    particle_skewness,
)

RNG = np.random.default_rng(3)
NOISE = RNG.normal(100, 2, (120, 140)).astype(np.float32)


def test_hot_pixels_go_and_crystals_stay() -> None:
    image = NOISE.copy()
    image[10, 20] = 5000
    image[60:90, 40:70] -= 80
    clean = clip_outliers(image)
    assert clean[10, 20] == pytest.approx(100, abs=8)
    assert clean[70, 50] == image[70, 50]
    assert np.mean(clean != image) < 0.01
    assert image[10, 20] == 5000


def test_low_pass_halves_a_wave_of_its_resolution() -> None:
    x = np.arange(400, dtype=np.float32)
    wave = np.broadcast_to(np.cos(2 * np.pi * x / 20), (64, 400)).astype(np.float32)
    passed = low_pass(wave, resolution_angstrom=30.0, pixel_size=1.5)
    assert np.abs(passed[32, 100:300]).max() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("sigma", [6.0, 40.0])
def test_a_ramp_goes_and_the_median_stays(sigma: float) -> None:
    ramp = np.linspace(0, 200, 600, dtype=np.float32)[None, :]
    noise = RNG.normal(100, 2, (200, 600)).astype(np.float32)
    flat = flatten_background(noise + ramp, sigma_px=sigma)
    # Away from the ends, where the Gaussian sees one side only, nothing of the ramp is left.
    profile = flat[:, 150:450].mean(axis=0)
    assert profile.max() - profile.min() < 2.0
    assert float(np.median(flat)) == pytest.approx(float(np.median(noise + ramp)), abs=2.5)
    assert flat.shape == noise.shape


def test_skewness_tells_dark_from_bright() -> None:
    y, x = np.indices(NOISE.shape)
    discs = np.zeros(NOISE.shape, np.float32)
    for cy in range(20, 110, 30):
        for cx in range(20, 130, 30):
            discs[(y - cy) ** 2 + (x - cx) ** 2 < 36] = 4
    assert particle_skewness(NOISE - discs, diameter_px=12) < -0.2
    assert particle_skewness(NOISE + discs, diameter_px=12) > 0.2


def test_constant_images() -> None:
    assert is_constant(np.full((20, 20), 7, np.float32))
    assert is_constant(np.zeros((20, 20), np.float32))
    assert not is_constant(NOISE)
    assert particle_skewness(np.full((40, 40), 3, np.float32), diameter_px=10) == 0.0
