"""Points on surfaces whose distances and areas are known by hand."""

import numpy as np
import pytest
from scipy.spatial import KDTree

from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.sampling import along_surface, even_points, orientations, random_points


@pytest.fixture(scope="module")
def sphere() -> Surface:
    """A sphere of radius 140 A about (216, 216, 216)."""
    distance = np.linalg.norm(np.mgrid[:44, :44, :44] - 21.6, axis=0)
    surface = mid_surface(np.abs(distance - 14) < 2, 10.0)
    assert surface is not None
    return surface


def test_random_points_are_uniform_over_a_sphere(sphere: Surface) -> None:
    points = random_points(sphere, 20000, np.random.default_rng(0))
    ahead = (points.places - 216) / 140
    assert np.linalg.norm(ahead, axis=1) == pytest.approx(1, abs=0.03)
    # Each coordinate of uniform points on a unit sphere is uniform in [-1, 1] (Archimedes).
    for axis in range(3):
        assert ahead[:, axis].mean() == pytest.approx(0, abs=0.02)
        assert (ahead[:, axis] ** 2).mean() == pytest.approx(1 / 3, abs=0.01)
    assert (points.normals * ahead).sum(1).min() > 0.98
    assert set(points.component.tolist()) == {1}


def test_even_points_keep_the_distance_and_leave_no_gap(sphere: Surface) -> None:
    spacing = 60.0
    points = even_points(sphere, spacing, np.random.default_rng(0))
    ahead = points.places - 216
    ahead /= np.linalg.norm(ahead, axis=1)[:, None]
    arcs = 140 * np.arccos(np.clip(ahead @ ahead.T, -1, 1))
    np.fill_diagonal(arcs, np.inf)
    assert arcs.min() > 0.97 * spacing
    assert arcs.min(1).mean() < 1.25 * spacing
    # A random place on the sphere is nearer than the spacing to a point.
    everywhere = np.random.default_rng(1).normal(size=(2000, 3))
    everywhere /= np.linalg.norm(everywhere, axis=1)[:, None]
    nearest = 140 * np.arccos(np.clip(everywhere @ ahead.T, -1, 1)).min(1)
    assert nearest.max() < 1.15 * spacing


def test_equal_seeds_give_equal_points(sphere: Surface) -> None:
    first, second, other = (even_points(sphere, 80.0, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert np.array_equal(first.places, second.places)
    assert len(other) != len(first) or not np.array_equal(first.places, other.places)


def test_sheets_that_are_nearer_than_the_spacing_are_sampled_each() -> None:
    mask = np.zeros((24, 40, 40), bool)
    mask[6:9] = mask[14:17] = True
    mask[9:14, :, 0] = True
    surface = mid_surface(mask, 10.0)
    assert surface is not None
    places = even_points(surface, 120.0, np.random.default_rng(0)).places
    lower, upper = (places[np.abs(places[:, 0] - height) < 15] for height in (70, 150))
    for sheet in (lower, upper):
        assert len(sheet) >= 6
        assert KDTree(sheet).query(sheet, k=2)[0][:, 1].min() > 118


def test_distances_along_a_sphere_are_arcs() -> None:
    angles = np.radians([0, 10, 60, 80])
    ends = np.stack([np.cos(angles), np.sin(angles), np.zeros(4)], 1)
    found = along_surface(100 * (ends - ends[0]), ends, ends[0])
    assert found == pytest.approx(100 * angles, abs=1e-6)
    up = np.array([[1.0, 0.0, 0.0]])
    assert along_surface(np.array([[50.0, 10.0, 0.0]]), up, up[0]) == pytest.approx(np.inf)
    assert along_surface(np.array([[0.0, 10.0, 0.0]]), -up, up[0]) == pytest.approx(np.inf)


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)], ids=["fixed", "random"])
def test_orientations_turn_the_z_axis_to_the_normal(rng: np.random.Generator | None) -> None:
    normals = np.array([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, 0, -1], [0.6, 0, 0.8]])
    matrices = orientations(normals, rng)
    assert matrices @ [0, 0, 1] == pytest.approx(normals[:, ::-1])
    assert matrices @ matrices.transpose(0, 2, 1) == pytest.approx(
        np.broadcast_to(np.eye(3), (5, 3, 3)), abs=1e-12
    )
    assert np.linalg.det(matrices) == pytest.approx(1)
