"""Smooth fields and rotations."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np

from cryoseg.simulate.fields import random_rotations, smooth_noise, turn


def test_fields_and_rotations_do_not_depend_on_the_threads_of_blas() -> None:
    code = (
        "import hashlib, numpy as np; from cryoseg.simulate.fields import *; "
        "rng = np.random.default_rng(0); box = (slice(0, 16), slice(0, 40), slice(0, 44)); "
        "field = smooth_noise(rng, box, spacing_px=3.0); points = rng.normal(size=(5000, 3)); "
        "turned = turn(points, random_rotations(rng, 1)[0]); "
        "print(hashlib.sha256(field.tobytes() + turned.tobytes()).hexdigest())"
    )
    found = set()
    for threads in ("1", "2"):
        # The kernels of this processor type round differently at the edges between threads.
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OPENBLAS_CORETYPE": "Haswell"}
        environment["OMP_NUM_THREADS"] = threads
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
        found.add(done.stdout)
    assert len(found) == 1


def test_turning_multiplies_rows_by_the_transposed_matrix() -> None:
    rng = np.random.default_rng(0)
    points, rotations = rng.normal(size=(1, 7, 3)), random_rotations(rng, 4)
    expected = np.matmul(points, rotations.transpose(0, 2, 1))
    np.testing.assert_allclose(turn(points, rotations), expected, atol=1e-12)


def test_a_smooth_field_is_the_tensor_product_of_splines() -> None:
    # With knots at every sample the weights at a knot are 1/6, 4/6 and 1/6.
    box = (slice(0, 1), slice(0, 1), slice(0, 5))
    field = smooth_noise(np.random.default_rng(0), box, spacing_px=1.0)
    drawn = np.random.default_rng(0).standard_normal((4, 4, 8), dtype=np.float32)
    weights = np.array([1, 4, 1, 0]) / 6
    lines = np.einsum("z,y,zyx->x", weights, weights, drawn)
    expected = [weights @ lines[i : i + 4] for i in range(5)]
    np.testing.assert_allclose(field[0, 0] / field[0, 0, 0], np.array(expected) / expected[0], rtol=1e-4)
