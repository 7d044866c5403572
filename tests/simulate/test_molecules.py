"""Point clouds: mass, clearance, orientation."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.simulate.fields import Grid, frames_along, random_rotations
from cryoseg.simulate.molecules import (
    Crowd,
    add_filament,
    fill_balls,
    free_positions,
    membrane_protein,
    splat,
    wavy_line,
)
from cryoseg.simulate.scene import Bilayer, Kind, Scene
from cryoseg.simulate.surfaces import vesicle

GRID = Grid(shape=(40, 48, 48), voxel_size=10.0)


def test_splat_keeps_mass_and_centre_of_mass() -> None:
    points = np.array([[200.0, 231.0, 244.0], [203.0, 238.0, 240.0]], dtype=np.float32)
    weights = np.array([1.0, 3.0], dtype=np.float32)
    density = splat(points, weights, GRID)
    assert density.sum() == pytest.approx(4.0, rel=1e-5)
    index = np.indices(GRID.shape).reshape(3, -1) * GRID.voxel_size
    center = (index * density.ravel()).sum(axis=1) / 4.0
    np.testing.assert_allclose(center, (points * weights[:, None]).sum(axis=0) / 4.0, atol=1e-2)


def test_points_outside_the_grid_vanish() -> None:
    assert splat(np.array([[-30.0, 5.0, 5.0]], dtype=np.float32), np.ones(1, np.float32), GRID).sum() == 0


@pytest.mark.parametrize("voxel_size", [6.0, 10.0, 16.0])
def test_solid_ball_has_the_density_of_protein_at_any_voxel_size(voxel_size: float) -> None:
    rng = np.random.default_rng(0)
    cloud = fill_balls(rng, np.zeros((1, 3)), np.array([80.0]), voxel_size=voxel_size, texture=0.0)
    mass = cloud.weights.sum() * voxel_size**3
    assert mass == pytest.approx(4 / 3 * np.pi * 80.0**3, rel=0.12)
    assert cloud.radius <= 80.0


def test_ball_smaller_than_a_voxel_keeps_its_mass() -> None:
    rng = np.random.default_rng(2)
    masses = [
        fill_balls(rng, np.zeros((1, 3)), np.array([3.0]), voxel_size=20.0, texture=0.0).weights.sum()
        * 20.0**3
        for _ in range(50)
    ]
    assert min(masses) > 0


def test_free_positions_keep_clear_of_membranes_and_stay_in_their_compartment() -> None:
    scene = Scene(GRID)
    center = np.array([200.0, 240.0, 240.0])
    rng = np.random.default_rng(1)
    surface = vesicle(rng, GRID, center=center, radius=150.0, elongation=1.0, roughness=0.0)
    assert surface is not None
    scene.add(surface, Bilayer(), min_gap=40.0)
    positions = free_positions(rng, scene, spacing=40.0, clearance=45.0, occupancy={0: 0.0, 1: 1.0})
    assert len(positions) > 20
    assert np.linalg.norm(positions - center, axis=1).max() < 150.0 - 45.0 + 10.0
    gaps = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
    np.fill_diagonal(gaps, np.inf)
    assert gaps.min() > 0.5 * 40.0


def test_membrane_protein_stands_along_the_normal() -> None:
    rng = np.random.default_rng(3)
    cloud = membrane_protein(rng, radius=30.0, height=70.0, stalk=10.0, inner=0.0, voxel_size=8.0)
    normal = np.array([[0.0, 0.6, 0.8]])
    turned = cloud.points @ frames_along(normal, rng)[0].T
    assert np.average(turned @ normal[0], weights=cloud.weights) > 35.0
    assert (turned @ normal[0]).min() > -45.0


def test_frames_are_rotations_that_carry_the_first_axis() -> None:
    rng = np.random.default_rng(4)
    directions = random_rotations(rng, 10)[:, :, 0]
    frames = frames_along(directions, rng)
    np.testing.assert_allclose(frames[:, :, 0], directions)
    np.testing.assert_allclose(np.linalg.det(frames), 1.0)


def test_stiff_line_is_nearly_straight_and_evenly_stepped() -> None:
    rng = np.random.default_rng(5)
    line, tangents = wavy_line(
        rng, start=np.zeros(3), direction=np.array([0.0, 0.0, 1.0]), length=1000.0, step=50.0, stiffness=1e9
    )
    np.testing.assert_allclose(np.linalg.norm(np.diff(line, axis=0), axis=1), 50.0)
    assert line[-1, 2] == pytest.approx(1000.0, rel=1e-3)
    np.testing.assert_allclose(np.linalg.norm(tangents, axis=1), 1.0)


@pytest.mark.parametrize("kind", ["microtubule", "actin", "intermediate"])
def test_filaments_are_marked_where_they_are_dense(kind: str) -> None:
    rng = np.random.default_rng(6)
    scene = Scene(GRID)
    crowd = Crowd(scene, Kind.FILAMENT)
    for _ in range(12):
        add_filament(rng, scene, crowd, kind=kind, flat=True)
    crowd.finish()
    marked = (scene.kinds & Kind.FILAMENT) > 0
    assert marked.any()
    assert scene.density[marked].min() > 0.3
    assert scene.density[~marked].max() <= 0.3 + 1e-6
