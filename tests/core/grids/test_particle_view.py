from __future__ import annotations

import numpy as np

from cryoseg.core.grids.resample import resample_image
from cryoseg.core.grids.robust import particle_view, view_shape


def test_a_disc_has_the_asked_diameter_and_stays_in_place() -> None:
    y, x = np.mgrid[:400, :300]
    image = np.where(np.hypot(y - 240, x - 100) <= 40, -1.0, 0.0)
    noisy = 0.3 * image + np.random.default_rng(0).normal(0, 0.2, image.shape)
    view = particle_view(noisy, diameter_px=80, particle_pixels=20)
    assert view.shape == view_shape((400, 300), diameter_px=80, particle_pixels=20) == (100, 75)
    found = np.argwhere(view < -3)
    np.testing.assert_allclose(found.mean(axis=0), (240.5 / 4 - 0.5, 100.5 / 4 - 0.5), atol=0.5)
    assert abs(np.sqrt(len(found) / np.pi) * 2 - 20) < 1


def test_gradients_hot_pixels_and_scale_do_not_matter() -> None:
    rng = np.random.default_rng(1)
    image = rng.normal(size=(200, 200))
    plain = particle_view(image, diameter_px=20, particle_pixels=10)
    spoiled = 50 * image + 6800
    spoiled[3, 3] = 1e6
    found = particle_view(spoiled, diameter_px=20, particle_pixels=10)
    assert np.abs(found - plain)[5:, 5:].max() < 0.05
    assert np.abs(found).max() <= 4
    inverted = particle_view(image, diameter_px=20, particle_pixels=10, invert=True)
    assert np.corrcoef(inverted.ravel(), plain.ravel())[0, 1] < -0.999


def test_a_constant_image_is_zero_and_nothing_is_edited() -> None:
    image = np.full((50, 60), 7, np.uint8)
    assert not particle_view(image, diameter_px=10, particle_pixels=20).any()
    assert (image == 7).all()


def test_rescaling_keeps_the_mean() -> None:
    image = np.random.default_rng(2).random((64, 96)).astype(np.float32)
    np.testing.assert_allclose(resample_image(image, (16, 24)).mean(), image.mean(), rtol=0.02)
    np.testing.assert_array_equal(resample_image(image, (64, 96)), image)
