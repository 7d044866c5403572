"""Statistics of points on a sphere, where distances are arcs, and of random, clustered and even points."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.point_statistics import distances_along, nearest_along, ripley
from cryoseg.core.membranes.sampling import SurfacePoints, even_points, random_points

RADIUS, CENTER = 140.0, 216.0  # angstrom


@pytest.fixture
def sphere(shell: Callable[..., np.ndarray]) -> Surface:
    surface = mid_surface(shell(14, 4), 10.0)
    assert surface is not None
    return surface


def on_sphere(directions: np.ndarray) -> SurfacePoints:
    normals = directions / np.linalg.norm(directions, axis=1)[:, None]
    return SurfacePoints(
        places=CENTER + RADIUS * normals, normals=normals, component=np.ones(len(normals), np.int64)
    )


def test_distances_are_those_of_great_circles(sphere: Surface) -> None:
    points = on_sphere(np.random.default_rng(0).normal(size=(60, 3)))
    arcs = RADIUS * np.arccos(np.clip(points.normals @ points.normals.T, -1, 1))
    found = distances_along(sphere, points, np.arange(60))
    assert found == pytest.approx(arcs, rel=0.015, abs=1)
    limited = distances_along(sphere, points, np.arange(5), limit=100)
    assert np.array_equal(np.isfinite(limited), found[:5] <= 100)


@pytest.mark.parametrize("degrees", [1, 20, 90, 170])
def test_two_points_are_an_arc_apart(sphere: Surface, degrees: float) -> None:
    angle = np.radians(degrees)
    points = on_sphere(np.array([[0, 0, 1.0], [0, np.sin(angle), np.cos(angle)]]))
    assert nearest_along(sphere, points) == pytest.approx(RADIUS * angle, rel=0.02, abs=0.3)


def test_a_single_point_has_no_neighbor(sphere: Surface) -> None:
    point = on_sphere(np.array([[0, 0, 1.0]]))
    assert nearest_along(sphere, point).tolist() == [np.inf]
    assert ripley([sphere], [point], patterns=9, rng=np.random.default_rng(0)) is None


def test_random_points_have_the_l_of_a_sphere_and_stay_in_the_envelope(sphere: Surface) -> None:
    points = random_points(sphere, 80, np.random.default_rng(5))
    found = ripley([sphere], [points], patterns=99, rng=np.random.default_rng(0))
    assert found is not None
    # The area within r on a sphere is 2 pi R^2 (1 - cos(r / R)).
    expected = RADIUS * np.sqrt(2 * (1 - np.cos(found.radii / RADIUS)))
    assert found.mean[5:] == pytest.approx(expected[5:], rel=0.05)
    assert ((found.observed >= found.low) & (found.observed <= found.high)).mean() > 0.9
    assert found.p_value > 0.05


def test_clustered_points_lie_above_and_even_points_below(sphere: Surface) -> None:
    rng = np.random.default_rng(1)
    seeds = np.repeat(random_points(sphere, 8, rng).normals, 10, axis=0)
    clustered = on_sphere(seeds + rng.normal(0, 0.1, seeds.shape))
    even = even_points(sphere, 50.0, rng)
    above, below = (
        ripley([sphere], [points], patterns=99, rng=np.random.default_rng(0)) for points in (clustered, even)
    )
    assert above is not None
    assert below is not None
    assert (above.observed > above.high).mean() > 0.8
    assert above.p_value == pytest.approx(0.01)
    short = below.radii < 45
    assert (below.observed[short] == 0).all()
    assert (below.observed < below.low)[(below.radii > 30) & short].all()
    assert below.p_value == pytest.approx(0.01)


def test_points_are_compared_with_random_ones_on_their_own_membrane(sphere: Surface) -> None:
    """Many random points on one of two spheres and few on the other are no cluster."""
    rng = np.random.default_rng(2)
    points = [random_points(sphere, count, rng) for count in (60, 5)]
    found = ripley([sphere, sphere], points, patterns=49, rng=np.random.default_rng(0))
    assert found is not None
    assert found.p_value > 0.05
