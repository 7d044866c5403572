"""Euler angles: images of unit vectors that are known by hand, and the way back."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.io.picks.angles import DYNAMO, MOTL, RELION, AngleConvention, are_rotations

X, Y, Z = np.eye(3)


@pytest.mark.parametrize(
    ("convention", "angles", "vector", "image"),
    [
        # Rows of RELION's matrix at rot 90: (0, 1, 0), (-1, 0, 0), (0, 0, 1).
        (RELION, (90, 0, 0), X, -Y),
        (RELION, (90, 0, 0), Y, X),
        # At tilt 90: (0, 0, -1), (0, 1, 0), (1, 0, 0).
        (RELION, (0, 90, 0), X, Z),
        (RELION, (0, 90, 0), Z, -X),
        # At psi 90: as at rot 90; after a tilt of 90 degrees, the z axis is turned from -x to y.
        (RELION, (0, 0, 90), X, -Y),
        (RELION, (0, 90, 90), Z, Y),
        # Dynamo's angles turn the particle back to the reference, so these are inverse turns.
        (DYNAMO, (90, 0, 0), X, -Y),
        (DYNAMO, (0, 90, 0), Z, Y),
        (DYNAMO, (90, 90, 0), Z, X),
        # The direction of a motive list is (sin theta sin psi, -sin theta cos psi, cos theta).
        (MOTL, (90, 0, 0), X, Y),
        (MOTL, (0, 90, 0), Z, -Y),
        (MOTL, (0, 90, 90), Z, X),
    ],
)
def test_unit_vectors_go_where_they_go_by_hand(
    convention: AngleConvention, angles: tuple[float, ...], vector: np.ndarray, image: np.ndarray
) -> None:
    (matrix,) = convention.matrices(np.array([angles], dtype=float))
    np.testing.assert_allclose(matrix @ vector, image, atol=1e-12)


def test_the_matrix_of_relion_is_that_of_its_source() -> None:
    # Euler_angles2matrix of 3dem/relion, src/euler.cpp, written out.
    rot, tilt, psi = 20.0, 50.0, -70.0
    (ca, sa), (cb, sb), (cg, sg) = [
        (np.cos(np.radians(angle)), np.sin(np.radians(angle))) for angle in (rot, tilt, psi)
    ]
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    np.testing.assert_allclose(RELION.matrices(np.array([[rot, tilt, psi]]))[0], expected, atol=1e-12)


def test_dynamo_and_motive_lists_differ_by_signs_and_order() -> None:
    # As Dynamo's own conversion has it: tdrot = -psi, tilt = -theta, narot = -phi.
    phi, theta, psi = 10.0, 60.0, -130.0
    np.testing.assert_allclose(
        MOTL.matrices(np.array([[phi, theta, psi]])), DYNAMO.matrices(-np.array([[psi, theta, phi]]))
    )


@pytest.mark.parametrize("convention", [RELION, DYNAMO, MOTL], ids=["relion", "dynamo", "motl"])
def test_angles_come_back(convention: AngleConvention) -> None:
    rng = np.random.default_rng(3)
    angles = np.stack([rng.uniform(-179, 179, 50), rng.uniform(1, 179, 50), rng.uniform(-179, 179, 50)], 1)
    matrices = convention.matrices(angles)
    assert are_rotations(matrices)
    np.testing.assert_allclose(convention.angles(matrices), angles, atol=1e-9)


@pytest.mark.parametrize("convention", [RELION, DYNAMO, MOTL], ids=["relion", "dynamo", "motl"])
@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_without_a_tilt_the_first_angle_is_zero(convention: AngleConvention, tilt: float) -> None:
    matrices = convention.matrices(np.array([[30.0, tilt, 50.0]]))
    first, _, last = convention.angles(matrices)[0]
    assert first == 0
    assert last == pytest.approx(80 if tilt == 0 else 20, abs=1e-6)
    np.testing.assert_allclose(convention.matrices(convention.angles(matrices)), matrices, atol=1e-12)


def test_mirror_images_and_other_matrices_are_no_rotations() -> None:
    assert not are_rotations(np.diag([1.0, 1.0, -1.0])[None])
    assert not are_rotations(2 * np.eye(3)[None])
    assert not are_rotations(np.full((1, 3, 3), np.nan))
