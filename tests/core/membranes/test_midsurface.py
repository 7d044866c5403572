"""Mid-surfaces of shapes whose area, thickness and curvature are known by hand."""

import numpy as np
import pytest

from cryoseg.core.membranes.distance import signed_distance
from cryoseg.core.membranes.midsurface import Surface, mid_surface
from cryoseg.core.membranes.sampling import random_points


def noisy_shell(radius: float, thickness: float, center: float = 21.6) -> np.ndarray:
    rng = np.random.default_rng(3)
    z, y, x = np.mgrid[:44, :44, :44] - center
    distance = np.sqrt(z * z + y * y + x * x) - radius
    outer, inner = rng.normal(0, 0.5, (2, 44, 44, 44))
    return (distance < thickness / 2 + outer) & (distance > -thickness / 2 + inner)


def mean_of(surface: Surface, values: np.ndarray) -> float:
    return float(np.average(values, weights=surface.mesh.vertex_areas()))


@pytest.mark.parametrize("thickness", [4, 8])
def test_a_sphere_with_noise_on_its_faces_has_the_known_area_curvature_and_thickness(thickness):
    surface = mid_surface(noisy_shell(14, thickness), 10.0)
    assert surface is not None
    assert surface.mesh.is_closed()
    fine = surface.smooth_mesh()
    assert fine.face_areas().sum() == pytest.approx(4 * np.pi * 140**2, rel=0.02)
    assert fine.enclosed_volume() == pytest.approx(4 / 3 * np.pi * 140**3, rel=0.015)
    assert mean_of(surface, surface.mean_curvature) == pytest.approx(1 / 140, rel=0.05)
    assert mean_of(surface, surface.gaussian_curvature) == pytest.approx(1 / 140**2, rel=0.1)
    assert mean_of(surface, surface.thickness) == pytest.approx(10 * thickness, abs=5)
    outward = surface.mesh.vertices - 216
    outward /= np.linalg.norm(outward, axis=1)[:, None]
    cosine = (outward * surface.normals).sum(1).clip(-1, 1)
    assert np.degrees(np.arccos(cosine)).mean() < 3


@pytest.mark.parametrize("thickness", [1, 2, 3, 6])
def test_a_plane_ends_at_the_borders_of_the_tomogram(thickness):
    mask = np.zeros((20, 24, 30), bool)
    mask[8 : 8 + thickness] = True
    surface = mid_surface(mask, 10.0)
    assert surface is not None
    assert not surface.mesh.is_closed()
    assert surface.mesh.face_areas().sum() == pytest.approx(240 * 300, rel=0.01)
    assert surface.thickness == pytest.approx(10 * thickness, abs=1)
    assert surface.mesh.vertices[:, 0] == pytest.approx(10 * (8 + (thickness - 1) / 2), abs=1)
    assert surface.mean_curvature == pytest.approx(0, abs=1e-4)


def test_a_crop_of_a_tomogram_gives_the_same_surface_as_the_tomogram(shell):
    mask = shell(10, 4, size=32, center=15.2)
    whole = np.zeros((60, 50, 45), bool)
    whole[20:52, 10:42, 5:37] = mask
    part = mid_surface(mask, 8.0, corner=(20, 10, 5), shape=whole.shape, component=7)
    full = mid_surface(whole, 8.0)
    assert part is not None
    assert full is not None
    assert part.component.tolist() == [7] * len(part.component)
    center = (np.array([20, 10, 5]) + 15.2) * 8
    for surface in (part, full):
        distance = np.linalg.norm(surface.mesh.vertices - center, axis=1)
        assert distance == pytest.approx(80, abs=4)


def test_a_sphere_that_the_border_cuts_is_measured_up_to_the_border(shell):
    # The border is half a voxel outside of voxel 0, which is 7 voxels below the center.
    mask = shell(14, 4)[15:]
    surface = mid_surface(mask, 1.0)
    assert surface is not None
    height = 14 + 21.6 - 15 + 0.5
    assert surface.smooth_mesh().face_areas().sum() == pytest.approx(2 * np.pi * 14 * height, rel=0.02)
    assert mean_of(surface, surface.mean_curvature) == pytest.approx(1 / 14, rel=0.05)


def test_two_touching_spheres_have_the_area_of_both():
    z, y, x = np.mgrid[:44, :44, :76] - np.array([21.5, 21.5, 37.5])[:, None, None, None]
    near = np.minimum(
        np.abs(np.sqrt(z * z + y * y + (x - 16) ** 2) - 14),
        np.abs(np.sqrt(z * z + y * y + (x + 16) ** 2) - 14),
    )
    surface = mid_surface(near <= 2, 1.0)
    assert surface is not None
    assert surface.mesh.is_closed()
    assert surface.mesh.pieces().max() == 1
    fine = surface.smooth_mesh()
    assert fine.face_areas().sum() == pytest.approx(2 * 4 * np.pi * 14**2, rel=0.02)
    assert fine.enclosed_volume() == pytest.approx(2 * 4 / 3 * np.pi * 14**3, rel=0.015)
    assert mean_of(surface, surface.mean_curvature) == pytest.approx(1 / 14, rel=0.05)


def test_parallel_sheets_stay_apart():
    mask = np.zeros((24, 30, 30), bool)
    mask[6:9] = mask[14:17] = True
    mask[9:14, :, 0] = True  # one component
    surface = mid_surface(mask, 1.0)
    assert surface is not None
    heights = surface.mesh.vertices[:, 0]
    middle = np.abs(surface.mesh.vertices[:, 2] - 15) < 8
    assert (np.minimum(np.abs(heights - 7), np.abs(heights - 15)) < 0.2)[middle].all()


@pytest.mark.parametrize(
    "mask",
    [
        np.ones((1, 1, 1), bool),
        np.ones((3, 3, 3), bool),
        np.linalg.norm(np.mgrid[:25, :25, :25] - 12.0, axis=0) < 10,
        np.broadcast_to(np.linalg.norm(np.mgrid[:25, :25] - 12.0, axis=0) < 5, (30, 25, 25)).copy(),
    ],
    ids=["one voxel", "cube", "ball", "rod"],
)
def test_what_is_no_sheet_has_no_surface(mask):
    assert mid_surface(mask, 10.0) is None


def test_distances_are_signed_by_the_side_and_exact_on_a_sphere(shell):
    surface = mid_surface(shell(14, 4), 10.0)
    assert surface is not None
    directions = np.random.default_rng(0).normal(size=(200, 3))
    directions /= np.linalg.norm(directions, axis=1)[:, None]
    for radius in (60, 130, 140, 155, 300):
        found = signed_distance(surface, 216 + radius * directions)
        assert found.distance == pytest.approx(radius - 140, abs=1.5)
        # The places are on the curved surface; flat triangles would lie 0.6 A inside of it.
        assert found.distance.mean() == pytest.approx(radius - 140, abs=0.15)
        assert (found.normal * directions).sum(1).min() > 0.98
        assert found.component.tolist() == [1] * 200


def test_points_of_the_surface_are_at_no_distance_from_it(shell):
    surface = mid_surface(shell(14, 4), 10.0)
    assert surface is not None
    points = random_points(surface, 300, np.random.default_rng(1)).places
    assert np.abs(signed_distance(surface, points).distance).max() < 0.2


def test_beyond_the_edge_of_a_sheet_the_distance_is_that_to_the_edge():
    mask = np.zeros((20, 40, 40), bool)
    mask[8:12, 5:35, 5:35] = True
    surface = mid_surface(mask, 10.0)
    assert surface is not None
    found = signed_distance(surface, np.array([[95.0, 200.0, 200.0], [95.0, 200.0, 445.0]]))
    assert np.abs(found.distance) == pytest.approx([0, 100], abs=2)


@pytest.mark.parametrize("low", [5, 6])
def test_a_sheet_ends_where_its_mask_ends(low):
    mask = np.zeros((20, 40, 40), bool)
    mask[8:12, low:35, low:35] = True
    surface = mid_surface(mask, 10.0)
    assert surface is not None
    # The first voxel begins half a voxel before its center.
    assert surface.mesh.vertices[:, 2].min() == pytest.approx(10 * low - 5, abs=1)
    assert surface.mesh.vertices[:, 2].max() == pytest.approx(345, abs=1)
    assert surface.mesh.face_areas().sum() == pytest.approx(100 * (35 - low) ** 2, rel=0.01)
