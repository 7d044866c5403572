"""The voxel grid of a simulated specimen, and random fields, directions and rotations.

Positions are (z, y, x) in angstrom relative to the center of voxel (0, 0, 0) of the grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from cryoseg.types import FloatArray

Box = tuple[slice, slice, slice]

# A uniform cubic B-spline with coefficients of unit variance has a variance of 151/315 per axis,
# averaged over a knot interval.
_BSPLINE_VARIANCE = 151.0 / 315.0


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A grid of cubic voxels with a (z, y, x) shape in voxels and a voxel size in angstrom."""

    shape: tuple[int, int, int]
    voxel_size: float

    @property
    def extent(self) -> NDArray[np.float64]:
        """(z, y, x) edge lengths in angstrom."""
        return np.asarray(self.shape, dtype=np.float64) * self.voxel_size

    @property
    def full_box(self) -> Box:
        """Box of the whole grid."""
        return (slice(0, self.shape[0]), slice(0, self.shape[1]), slice(0, self.shape[2]))

    def box_around(self, center: NDArray[np.float64], half_width: NDArray[np.float64] | float) -> Box | None:
        """Return the part of the grid within `half_width` of `center`, both in angstrom.

        `half_width` is one number or (3,). The result is None if the box has fewer than three voxels along
        an axis, which are too few for a gradient.
        """
        low = np.floor((center - half_width) / self.voxel_size).astype(int)
        high = np.ceil((center + half_width) / self.voxel_size).astype(int) + 1
        low = np.clip(low, 0, self.shape)
        high = np.clip(high, 0, self.shape)
        if np.any(high - low < 3):
            return None
        return (
            slice(int(low[0]), int(high[0])),
            slice(int(low[1]), int(high[1])),
            slice(int(low[2]), int(high[2])),
        )

    def axes(self, box: Box) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return coordinates of the voxels of `box` in angstrom: (z, 1, 1), (1, y, 1) and (1, 1, x)."""
        z, y, x = (
            np.arange(part.start, part.stop, dtype=np.float32) * np.float32(self.voxel_size) for part in box
        )
        return z[:, None, None], y[None, :, None], x[None, None, :]


# The matrix products below avoid BLAS, because its rounding depends on the number of threads.


def _bspline_matrix(n: int, knot_spacing: float) -> csr_array:
    """Return (n, m) weights of m cubic B-spline coefficients, `knot_spacing` samples apart, at n samples."""
    position = np.arange(n, dtype=np.float64) / knot_spacing
    first = np.floor(position).astype(int)
    t = position - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], axis=1
    )
    columns = first[:, None] + np.arange(4)[None, :]
    rows = np.arange(0, 4 * n + 1, 4)
    values = (weights / 6.0).astype(np.float32).ravel()
    return csr_array((values, columns.ravel(), rows), shape=(n, int(first[-1]) + 4))


def smooth_noise(rng: np.random.Generator, box: Box, *, spacing_px: float) -> FloatArray:
    """Draw a smooth random (z, y, x) field of the shape of a box, of zero mean and unit standard deviation.

    `spacing_px` is the distance of the B-spline knots in voxels, about half of the shortest wavelength.
    """
    matrices = [_bspline_matrix(part.stop - part.start, max(spacing_px, 1.0)) for part in box]
    field = rng.standard_normal([m.shape[1] for m in matrices], dtype=np.float32)
    for matrix in matrices:  # Each matrix applies to the first axis, which then becomes the last one.
        field = (matrix @ field.reshape(len(field), -1)).reshape(-1, *field.shape[1:])
        field = np.ascontiguousarray(np.moveaxis(field, 0, -1))
    return np.ascontiguousarray(field * np.float32(_BSPLINE_VARIANCE**-1.5), dtype=np.float32)


def random_rotations(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Draw (n, 3, 3) uniformly distributed rotation matrices."""
    q = rng.standard_normal((n, 4))
    q /= np.linalg.norm(q, axis=1, keepdims=True)
    w, x, y, z = q.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=-1),
            np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=-1),
            np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=-1),
        ],
        axis=-2,
    )


def turn(points: NDArray[Any], rotations: NDArray[Any]) -> NDArray[Any]:
    """Multiply (..., n, 3) points, as rows, by the transposes of (..., m, 3) matrices."""
    return np.asarray(np.einsum("...ij,...kj->...ik", points, rotations))


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number from `low` to `high` whose logarithm is uniformly distributed."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def random_directions(rng: np.random.Generator, n: int) -> NDArray[np.float64]:
    """Draw (n, 3) uniformly distributed unit vectors (z, y, x)."""
    return np.stack([random_direction(rng) for _ in range(n)])


def random_direction(rng: np.random.Generator, *, max_z: float = 1.0) -> NDArray[np.float64]:
    """Draw a uniformly distributed unit vector (z, y, x) with |z| <= `max_z`."""
    z = rng.uniform(-max_z, max_z)
    angle = rng.uniform(0.0, 2.0 * np.pi)
    radius = np.sqrt(1.0 - z * z)
    return np.array([z, radius * np.sin(angle), radius * np.cos(angle)])


def frames_along(directions: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Return (n, 3, 3) rotations of the first axis to (n, 3) unit vectors with random in-plane rotation."""
    helper = rng.standard_normal(directions.shape)
    second = helper - np.sum(helper * directions, axis=1, keepdims=True) * directions
    second /= np.maximum(np.linalg.norm(second, axis=1, keepdims=True), 1e-9)
    third = np.cross(directions, second)
    return np.stack([directions, second, third], axis=-1)
