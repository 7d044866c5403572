"""Bands have the requested width on closed, open and touching membranes, also across blocks."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cryoseg.core.membranes.band import band_around

VOXEL = 10.0
Z, Y, X = np.indices((48, 56, 56)) - np.array([23.5, 27.5, 27.5])[:, None, None, None]
RADIUS = 16.0


def shell(center_x: float = 0.0, radius: float = RADIUS, thickness: float = 5.0) -> np.ndarray:
    """A hollow sphere in voxels."""
    return np.abs(np.sqrt(Z**2 + Y**2 + (X - center_x) ** 2) - radius) <= thickness / 2


@pytest.mark.parametrize(("width", "thickness"), [(2.0, 5.0), (8.0, 5.0), (4.0, 1.5)])
def test_a_vesicle_gets_the_width_around_its_middle(width: float, thickness: float) -> None:
    band = band_around(shell(thickness=thickness), VOXEL, width * VOXEL)
    volume = 4 / 3 * np.pi * ((RADIUS + width / 2) ** 3 - (RADIUS - width / 2) ** 3)
    assert band.mask.sum() == pytest.approx(volume, rel=0.04)
    assert band.unchanged == 0
    exact = shell(thickness=width)
    assert 2 * (band.mask & exact).sum() / (band.mask.sum() + exact.sum()) > 0.94


@pytest.mark.parametrize("width", [2.0, 8.0])
def test_an_open_sheet_keeps_its_edges(width: float) -> None:
    tilted, along = 0.8 * Z + 0.6 * X, 0.8 * X - 0.6 * Z
    sheet = (np.abs(tilted) <= 2.5) & (np.abs(Y) < 15) & (np.abs(along) < 15)
    band = band_around(sheet, VOXEL, width * VOXEL)
    assert band.mask.sum() == pytest.approx(30 * 30 * width, rel=0.08)
    beyond = band.mask & ((np.abs(Y) > 16.5) | (np.abs(along) > 16.5))
    assert not beyond.any()


def test_touching_membranes_stay_two() -> None:
    both = shell(-12.5, 12.0, 3.0) | shell(12.5, 12.0, 3.0)
    band = band_around(both, VOXEL, 3 * VOXEL).mask
    assert (ndimage.distance_transform_edt(~band)[both] <= 1.5).mean() > 0.97
    assert not band[:, :, :14][np.sqrt(Z**2 + Y**2 + (X + 12.5) ** 2)[:, :, :14] < 9].any()


def test_the_border_of_the_tomogram_cuts_a_band() -> None:
    half = shell()[:24]
    band = band_around(half, VOXEL, 4 * VOXEL).mask
    assert band[-1].any()
    assert band.sum() == pytest.approx(4 * 2 * np.pi * RADIUS**2, rel=0.06)


def test_blocks_change_little() -> None:
    done: list[tuple[int, int]] = []
    whole = band_around(shell(), VOXEL, 4 * VOXEL).mask
    parts = band_around(
        shell(), VOXEL, 4 * VOXEL, block=28, on_block=lambda *numbers: done.append(numbers)
    ).mask
    assert done[-1] == (8, 8)
    assert 2 * (whole & parts).sum() / (whole.sum() + parts.sum()) > 0.99


def test_a_ball_is_no_membrane_and_stays() -> None:
    ball = np.sqrt(Z**2 + Y**2 + X**2) < 9
    band = band_around(ball, VOXEL, 4 * VOXEL)
    np.testing.assert_array_equal(band.mask, ball)
    assert band.unchanged == ball.sum()
    assert not band_around(np.zeros((8, 8, 8), bool), VOXEL, 40).mask.any()
