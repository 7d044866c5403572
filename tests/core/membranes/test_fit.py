"""Local fits on a sphere, for which they are exact."""

import numpy as np
import pytest

from cryoseg.core.membranes.fit import Sheet, extrapolate, fit_heights, neighbors_of

RADIUS = 14.0


@pytest.fixture
def sphere() -> Sheet:
    """Evenly spread points of a sphere with their normals and shape operators."""
    count = 1200
    height = 1 - 2 * (np.arange(count) + 0.5) / count
    angle = np.pi * (1 + 5**0.5) * np.arange(count)
    ring = np.sqrt(1 - height**2)
    normals = np.stack([height, ring * np.sin(angle), ring * np.cos(angle)], axis=1)
    tensors = (np.eye(3) - normals[:, :, None] * normals[:, None]) / RADIUS
    return Sheet(vertices=RADIUS * normals, normals=normals, tensors=tensors)


def test_a_surface_continues_on_the_sphere_of_its_curvature(sphere):
    known = sphere.vertices[:, 0] > 0
    rim = (sphere.vertices[:, 0] > -6) & ~known
    start = Sheet(
        vertices=sphere.vertices, normals=sphere.normals, tensors=sphere.tensors * known[:, None, None]
    )
    found = extrapolate(start, known)
    assert (found.normals * sphere.normals).sum(1)[rim] == pytest.approx(1, abs=1e-6)
    assert np.linalg.norm(found.vertices[rim], axis=1) == pytest.approx(RADIUS, abs=1e-6)
    assert found.tensors[rim].trace(axis1=1, axis2=2) == pytest.approx(2 / RADIUS, rel=1e-6)


def test_a_wide_fit_and_a_fit_of_one_side_are_exact_on_a_sphere(sphere):
    area = 4 * np.pi * RADIUS**2 / len(sphere.vertices)
    around = neighbors_of(sphere.vertices, sphere.normals, np.full(len(sphere.vertices), area), 9.8)
    usable = sphere.vertices[:, 0] > 0
    edge = usable & (sphere.vertices[:, 0] < 1)
    plain, is_fitted = fit_heights(sphere, around, sphere.vertices, usable)
    assert np.linalg.norm(plain.vertices, axis=1) == pytest.approx(RADIUS, abs=1e-4)
    assert not is_fitted[edge].any()
    found, is_fitted = fit_heights(sphere, around, sphere.vertices, usable, 100.0)
    assert is_fitted[edge].all()
    assert not is_fitted[~usable & (sphere.vertices[:, 0] < -4)].any()
    assert np.linalg.norm(found.vertices, axis=1) == pytest.approx(RADIUS, abs=1e-4)
    assert (found.normals * sphere.normals).sum(1) == pytest.approx(1, abs=1e-6)
