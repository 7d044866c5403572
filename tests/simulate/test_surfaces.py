"""Distances, labels and normals against shapes whose distance is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from cryoseg.simulate.fields import Grid, random_direction, random_rotations, smooth_noise
from cryoseg.simulate.scene import Bilayer, Scene, surface_area, surface_points
from cryoseg.simulate.surfaces import (
    REACH_ANGSTROM,
    Pose,
    Surface,
    Wave,
    as_distance,
    ellipsoid_field,
    offset_surface,
    open_window,
    perforated_envelope,
    redistance,
    sheet,
    vesicle,
)

GRID = Grid(shape=(40, 48, 56), voxel_size=10.0)
CENTRE = np.array([195.0, 233.0, 281.0])


def radii(grid: Grid = GRID, center: np.ndarray = CENTRE) -> np.ndarray:
    z, y, x = np.meshgrid(*(np.arange(n) * grid.voxel_size for n in grid.shape), indexing="ij")
    return np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2)


def sphere(grid: Grid, center: np.ndarray, radius: float) -> Surface | None:
    box = grid.box_around(center, radius + REACH_ANGSTROM)
    if box is None:
        return None
    z, y, x = grid.axes(box)
    distance = np.sqrt((z - center[0]) ** 2 + (y - center[1]) ** 2 + (x - center[2]) ** 2) - radius
    return Surface(kind="vesicle", box=box, distance=np.asarray(distance, dtype=np.float32))


@pytest.mark.parametrize("thickness", [35.0, 42.0, 50.0])
def test_label_of_a_sphere_is_every_voxel_within_half_a_bilayer(thickness: float) -> None:
    scene = Scene(GRID)
    surface = sphere(GRID, CENTRE, 120.0)
    assert surface is not None
    assert scene.add(surface, Bilayer(thickness=thickness), min_gap=40.0)
    off = np.abs(radii() - 120.0)
    sure = np.abs(off - thickness / 2) > 1e-3
    np.testing.assert_array_equal(scene.label(thickness)[sure], (off <= thickness / 2)[sure])


def test_sphere_that_leaves_the_grid_is_labelled_where_it_is_seen() -> None:
    scene = Scene(GRID)
    center = np.array([195.0, -700.0, 281.0])
    surface = sphere(GRID, center, 900.0)
    assert surface is not None
    assert scene.add(surface, Bilayer(), min_gap=40.0)
    np.testing.assert_array_equal(scene.label(40.0), np.abs(radii(center=center) - 900.0) <= 20.0)


def test_unperturbed_vesicle_of_no_elongation_is_a_sphere() -> None:
    rng = np.random.default_rng(0)
    surface = vesicle(rng, GRID, center=CENTRE, radius=130.0, elongation=1.0, roughness=0.0)
    assert surface is not None
    exact = (radii() - 130.0)[surface.box]
    near = np.abs(exact) < 40.0
    # Central differences shorten the gradient of |x| by h^2 / 3 r^2, which is all that may be seen.
    assert np.abs(surface.distance - exact)[near].max() < 0.2


def test_ellipsoid_distance_is_right_within_a_tenth_of_a_voxel() -> None:
    rng = np.random.default_rng(1)
    axes = np.array([110.0, 140.0, 170.0])
    rotation = random_rotations(rng, 1)[0]
    distance = as_distance(ellipsoid_field(GRID, GRID.full_box, CENTRE, axes, rotation), GRID.voxel_size)
    # A Fibonacci spiral of 200,000 points covers the surface to about 1.5 A.
    i = np.arange(200_000) + 0.5
    polar, turn = np.arccos(1 - 2 * i / i.size), np.pi * (1 + 5**0.5) * i
    unit = np.stack([np.cos(polar), np.sin(polar) * np.sin(turn), np.sin(polar) * np.cos(turn)], axis=1)
    tree = cKDTree((unit * axes) @ rotation.T + CENTRE)
    near = np.argwhere(np.abs(distance) < 25.0)
    exact, _ = tree.query(near * GRID.voxel_size)
    error = np.abs(np.abs(distance[tuple(near.T)]) - exact)
    assert error.max() < 2.0
    assert error.mean() < 0.5


def test_redistance_recovers_a_sphere_from_its_square() -> None:
    r = radii()
    distance = redistance((r**2 - 120.0**2).astype(np.float32) / 50.0, GRID.voxel_size)
    near = np.abs(r - 120.0) < 60.0
    assert np.abs(distance - (r - 120.0))[near].max() < 3.0
    assert np.abs(distance - (r - 120.0))[np.abs(r - 120.0) < 25.0].max() < 1.5


def test_redistance_of_a_field_without_a_zero_is_far_everywhere() -> None:
    assert (redistance(np.ones((8, 8, 8), dtype=np.float32), 10.0) > 1e5).all()


def test_parallel_membrane_keeps_its_gap() -> None:
    rng = np.random.default_rng(2)
    outer = sphere(GRID, CENTRE, 150.0)
    assert outer is not None
    inner = offset_surface(rng, GRID, outer, offset=-60.0, jitter=0.0, kind="inner")
    np.testing.assert_allclose(inner.distance, outer.distance + 60.0, atol=1e-3)


def test_envelope_has_two_walls_that_join_at_its_pore() -> None:
    outer = sphere(GRID, CENTRE, 170.0)
    assert outer is not None
    pole = CENTRE + np.array([0.0, 0.0, 170.0])
    envelope = perforated_envelope(
        GRID, outer, gap=80.0, pore_radius=60.0, pores=(pole[None], np.array([[0.0, 0.0, 1.0]]))
    )
    assert envelope.box == GRID.full_box
    z, y, x = (round(c / GRID.voxel_size) for c in CENTRE)
    along_y = {
        radius: float(envelope.distance[z, y + round(radius / 10), x]) for radius in (50, 90, 130, 170)
    }
    # Along y, without a pore: the inner and the outer wall, and the lumen between them.
    assert along_y[90] == pytest.approx(0.0, abs=10.0)
    assert along_y[170] == pytest.approx(0.0, abs=10.0)
    assert along_y[130] < -20.0
    assert along_y[50] > 20.0
    # In the middle of the pore there is no lumen.
    assert envelope.distance[z, y, x + 13] > 30.0


def test_open_sheet_ends_at_its_rim() -> None:
    rng = np.random.default_rng(3)
    surface = sheet(
        rng,
        GRID,
        Pose(CENTRE, np.array([1.0, 0.0, 0.0])),
        half_width=120.0,
        bend_radius=1e6,
        wave=Wave(0.0, 500.0),
    )
    assert surface is not None
    scene = Scene(GRID)
    assert scene.add(surface, Bilayer(), min_gap=40.0)
    labelled = radii()[scene.label(40.0)]
    assert labelled.max() < 120.0 + 4 * 12.0 + 20.0
    assert scene.closed == []


def test_window_removes_about_the_asked_part_of_a_closed_membrane() -> None:
    rng = np.random.default_rng(4)
    whole = sphere(GRID, CENTRE, 150.0)
    assert whole is not None
    part = open_window(rng, GRID, whole, fraction=0.3)
    ratio = surface_area(GRID, part) / surface_area(GRID, whole)
    assert 0.5 < ratio < 0.9


def test_second_membrane_is_refused_where_it_would_cross_and_accepted_inside() -> None:
    scene = Scene(GRID)
    first, crossing, nested = (
        sphere(GRID, CENTRE, 160.0),
        sphere(GRID, CENTRE + np.array([0.0, 120.0, 0.0]), 120.0),
        sphere(GRID, CENTRE, 70.0),
    )
    assert first is not None
    assert crossing is not None
    assert nested is not None
    assert scene.add(first, Bilayer(), min_gap=40.0)
    before = scene.density.copy()
    assert not scene.add(crossing, Bilayer(), min_gap=40.0)
    np.testing.assert_array_equal(scene.density, before)
    assert scene.add(nested, Bilayer(), min_gap=40.0)
    middle = tuple((CENTRE / GRID.voxel_size).astype(int))
    assert scene.compartment[middle] == 2
    assert scene.compartment[0, 0, 0] == 0


def test_surface_points_lie_on_the_sphere_and_their_normals_point_outward() -> None:
    surface = sphere(GRID, CENTRE, 130.0)
    assert surface is not None
    points, normals = surface_points(np.random.default_rng(5), GRID, surface, 500)
    outward = points - CENTRE
    np.testing.assert_allclose(np.linalg.norm(outward, axis=1), 130.0, atol=0.5)
    assert (np.sum(outward * normals, axis=1) / 130.0).min() > 0.99


def test_area_of_a_sphere() -> None:
    surface = sphere(GRID, CENTRE, 130.0)
    assert surface is not None
    assert surface_area(GRID, surface) == pytest.approx(4 * np.pi * 130.0**2, rel=0.03)


def test_bilayer_has_two_peaks_at_the_leaflets_and_a_valley_between() -> None:
    bilayer = Bilayer(leaflet_separation=36.0, leaflet_sigma=4.0, core_density=-0.2)
    distance = np.linspace(-40, 40, 801).astype(np.float32)
    profile = bilayer.profile(distance, voxel_size=4.0)
    np.testing.assert_allclose(profile, profile[::-1], atol=1e-5)
    assert abs(abs(distance[profile.argmax()]) - 18.0) < 1.0
    assert profile[400] < 0.3 * profile.max()
    assert abs(profile[0]) < 0.01


def test_smooth_noise_has_unit_variance_and_is_smooth() -> None:
    box = (slice(0, 60), slice(0, 60), slice(0, 60))
    field = smooth_noise(np.random.default_rng(6), box, spacing_px=4.0)
    assert field.dtype == np.float32
    assert field.std() == pytest.approx(1.0, abs=0.1)
    assert np.abs(np.diff(field, axis=2)).std() < 0.5


def test_rotations_are_proper_and_directions_obey_their_limit() -> None:
    rng = np.random.default_rng(7)
    rotations = random_rotations(rng, 20)
    np.testing.assert_allclose(
        rotations @ rotations.transpose(0, 2, 1), np.tile(np.eye(3), (20, 1, 1)), atol=1e-12
    )
    np.testing.assert_allclose(np.linalg.det(rotations), 1.0)
    directions = np.stack([random_direction(rng, max_z=0.2) for _ in range(100)])
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1.0)
    assert np.abs(directions[:, 0]).max() <= 0.2


def test_box_outside_the_grid_is_none() -> None:
    assert GRID.box_around(np.array([-500.0, 0.0, 0.0]), 100.0) is None
    assert sphere(GRID, np.array([-900.0, 0.0, 0.0]), 100.0) is None
    assert isinstance(sphere(GRID, np.zeros(3), 100.0), Surface)
