"""Leaflet distances of simulated bilayers."""

import numpy as np
import pytest

from cryoseg.core.membranes.density import density_thickness
from cryoseg.core.membranes.midsurface import mid_surface

VOXEL = 8.0


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("distance", [35.0, 45.0])
def test_the_distance_of_two_leaflets_is_found_in_noise(shell, sign, distance):
    grid = np.mgrid[:44, :44, :44] - 21.6
    offset = (np.sqrt((grid**2).sum(0)) - 14) * VOXEL
    leaflets = [np.exp(-0.5 * ((offset - side * distance / 2) / 8) ** 2) for side in (-1, 1)]
    noise = np.random.default_rng(1).normal(0, 0.5, offset.shape)
    density = sign * (leaflets[0] + leaflets[1]) + noise
    surface = mid_surface(shell(14, 6), VOXEL)
    found = density_thickness(density.astype(np.float32), surface, VOXEL)
    assert len(found.distances) > 20
    assert found.measured > 0.8 * len(found.distances)
    assert np.nanmean(found.distances) == pytest.approx(distance, abs=2.5)
    assert found.at(surface.mesh.vertices).shape == (len(surface.mesh.vertices),)


def test_one_peak_and_noise_alone_give_no_thickness(shell):
    surface = mid_surface(shell(14, 6), VOXEL)
    grid = np.mgrid[:44, :44, :44] - 21.6
    offset = (np.sqrt((grid**2).sum(0)) - 14) * VOXEL
    single = np.exp(-0.5 * (offset / 12) ** 2).astype(np.float32)
    assert density_thickness(single, surface, VOXEL).measured == 0
    noise = np.random.default_rng(1).normal(0, 1, single.shape).astype(np.float32)
    found = density_thickness(noise, surface, VOXEL)
    assert found.measured < 0.3 * len(found.distances)
    constant = density_thickness(np.zeros_like(single), surface, VOXEL)
    assert constant.measured == 0
    assert np.isnan(constant.at(surface.mesh.vertices)).all()
