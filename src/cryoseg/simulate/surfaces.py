"""Mid-surfaces of membranes as signed distances in a box of the grid.

Each shape is defined by an implicit function that approximates a distance. The function is divided by the
length of its gradient, so that it is a distance near the surface to second order.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from cryoseg.simulate.fields import Box, Grid, random_rotations, smooth_noise
from cryoseg.types import FloatArray

# Margin of the box around a surface in angstrom, within which its distance is accurate.
REACH_ANGSTROM = 160.0


@dataclass(frozen=True)
class Wave:
    """Random waviness with a standard deviation and a wavelength in angstrom."""

    amplitude: float
    wavelength: float


@dataclass(frozen=True)
class Pose:
    """Position and direction of a shape: (3,) center z, y, x in angstrom, and (3,) unit vector z, y, x.

    The direction is the normal of a sheet or the axis of a tubule.
    """

    center: NDArray[np.float64]
    direction: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Surface:
    """The mid-surface of a membrane.

    Attributes
    ----------
    kind
        Name in the record, such as vesicle, organelle or sheet.
    box
        Box of `distance` on the grid.
    distance
        (z, y, x) signed distance in angstrom, negative inside or on one side of an open surface.
    rim
        (z, y, x) distance in angstrom beyond the rim of an open surface, 0 within the rim; None for a closed
        surface.
    """

    kind: str
    box: Box
    distance: FloatArray
    rim: FloatArray | None = None

    def absolute(self) -> FloatArray:
        """Return the (z, y, x) unsigned distance to the surface in angstrom."""
        if self.rim is None:
            return np.abs(self.distance)
        return np.hypot(self.distance, self.rim)


def as_distance(field: FloatArray, voxel_size: float) -> FloatArray:
    """Divide a (z, y, x) field by the length of its gradient, which gives a distance near its zero level.

    The length is at least one third, so that stationary points of the field do not become thick membranes.
    """
    squared = np.zeros_like(field)
    for axis in range(3):
        squared += np.square(np.gradient(field, voxel_size, axis=axis))
    return np.asarray(field / np.maximum(np.sqrt(squared), 1.0 / 3.0), dtype=np.float32)


def redistance(field: FloatArray, voxel_size: float) -> FloatArray:
    """Compute the signed distance in angstrom to the zero level of any (z, y, x) field.

    It is slower than `as_distance`, but accurate near folds and saddles: the distance of a voxel is that to
    the tangent plane at the nearest voxel where the field changes its sign.
    """
    negative = field < 0
    crossing = np.zeros(field.shape, dtype=bool)
    for axis in range(3):
        low: list[slice] = [slice(None)] * 3
        high: list[slice] = [slice(None)] * 3
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        change = negative[tuple(low)] != negative[tuple(high)]
        crossing[tuple(low)] |= change
        crossing[tuple(high)] |= change
    if not crossing.any():
        return np.where(negative, np.float32(-1e6), np.float32(1e6)).astype(np.float32)
    steps, nearest = distance_transform_edt(~crossing, return_indices=True)
    steps = steps.astype(np.float32)
    gradients = [np.gradient(field, axis=axis).astype(np.float32) for axis in range(3)]
    length = np.maximum(np.sqrt(sum(np.square(g) for g in gradients)), 1e-6)
    near = np.nonzero(steps * voxel_size < REACH_ANGSTROM)
    at = tuple(index[near] for index in nearest)
    plane = field[at] / length[at]
    # A discontinuity of the field must not move the plane by more than a voxel.
    plane = np.clip(plane, -1.0, 1.0)
    for axis in range(3):
        plane += (near[axis] - at[axis]) * (gradients[axis][at] / length[at])
    distance = np.maximum(np.abs(plane), steps[near] - 0.87)
    result = steps
    result[near] = distance
    return np.asarray(np.where(negative, -result, result) * np.float32(voxel_size), dtype=np.float32)


def ellipsoid_field(
    grid: Grid,
    box: Box,
    center: NDArray[np.float64],
    semi_axes: NDArray[np.float64],
    rotation: NDArray[np.float64],
) -> FloatArray:
    """Approximate the (z, y, x) signed distance to an ellipsoid, exact to first order at its surface.

    `center` and `semi_axes`, (3,) each, are in angstrom. The columns of `rotation`, (3, 3), are the axes of
    the ellipsoid in z, y, x.
    """
    z, y, x = grid.axes(box)
    z, y, x = z - np.float32(center[0]), y - np.float32(center[1]), x - np.float32(center[2])
    shape = np.broadcast_shapes(z.shape, y.shape, x.shape)
    sum2 = np.zeros(shape, dtype=np.float32)
    sum4 = np.zeros(shape, dtype=np.float32)
    for column, semi in zip(rotation.T.astype(np.float32), semi_axes.astype(np.float32), strict=True):
        part = np.square((z * column[0] + y * column[1] + x * column[2]) / semi)
        sum2 += part
        sum4 += part / semi**2
    k0 = np.sqrt(sum2)
    return np.asarray(k0 * (k0 - 1.0) / np.maximum(np.sqrt(sum4), 1e-6), dtype=np.float32)


def rough(
    rng: np.random.Generator, field: FloatArray, box: Box, grid: Grid, *, amplitude: float, wavelength: float
) -> FloatArray:
    """Add smooth noise of standard deviation `amplitude` and `wavelength` (angstrom) to a (z, y, x) field."""
    if amplitude <= 0:
        return field
    # The surface would overlap itself at slopes above about 0.5.
    amplitude = min(amplitude, 0.2 * wavelength)
    return field + np.float32(amplitude) * smooth_noise(
        rng, box, spacing_px=0.5 * wavelength / grid.voxel_size
    )


def vesicle(
    rng: np.random.Generator,
    grid: Grid,
    *,
    center: NDArray[np.float64],
    radius: float,
    elongation: float,
    roughness: float,
) -> Surface | None:
    """Draw an ellipsoid with a smoothly perturbed wall; return None if it is outside the grid.

    The (3,) center z, y, x and the radius, the geometric mean of the semi-axes, are in angstrom.
    `elongation` is the largest ratio of two semi-axes, and `roughness` the standard deviation of the wall
    as a fraction of the radius.
    """
    axes = np.exp(rng.uniform(-0.5, 0.5, 3) * np.log(elongation))
    axes *= radius / np.prod(axes) ** (1 / 3)
    rotation = random_rotations(rng, 1)[0]
    half = np.sqrt(np.square(rotation * axes).sum(axis=1)) * (1 + 2 * roughness) + REACH_ANGSTROM
    box = grid.box_around(center, half)
    if box is None:
        return None
    field = ellipsoid_field(grid, box, center, axes, rotation)
    wavelength = float(np.clip(radius * rng.uniform(0.7, 2.0), 150.0, 2000.0))
    field = rough(rng, field, box, grid, amplitude=roughness * radius, wavelength=wavelength)
    return Surface(kind="vesicle", box=box, distance=as_distance(field, grid.voxel_size))


def offset_surface(
    rng: np.random.Generator, grid: Grid, surface: Surface, *, offset: float, jitter: float, kind: str
) -> Surface:
    """Return a parallel surface at a distance of `offset` angstrom, which is negative inside.

    The distance varies along the surface by the standard deviation `jitter` in angstrom.
    """
    field = rough(
        rng,
        surface.distance - np.float32(offset),
        surface.box,
        grid,
        amplitude=jitter,
        wavelength=rng.uniform(300, 900),
    )
    distance = as_distance(field, grid.voxel_size) if jitter > 0 else field
    return Surface(kind=kind, box=surface.box, distance=distance, rim=surface.rim)


def folded_inner(
    rng: np.random.Generator,
    grid: Grid,
    outer: Surface,
    *,
    gap: float,
    fold_spacing: float,
    fold_width: float,
) -> Surface:
    """Draw an inner membrane with lamellar folds, such as the cristae of a mitochondrion.

    The distances of inner and outer membrane (`gap`), of neighboring folds and of the two membranes of a
    fold are in angstrom.
    """
    box = outer.box
    z, y, x = grid.axes(box)
    rotation = random_rotations(rng, 1)[0].astype(np.float32)
    warp_px = 0.5 * rng.uniform(600, 1500) / grid.voxel_size
    across = (z * rotation[0, 0] + y * rotation[1, 0] + x * rotation[2, 0]).astype(np.float32)
    along = (z * rotation[0, 1] + y * rotation[1, 1] + x * rotation[2, 1]).astype(np.float32)
    across = across + np.float32(0.35 * fold_spacing) * smooth_noise(rng, box, spacing_px=warp_px)
    phase = across / np.float32(fold_spacing)
    # Folds start at random walls and end at different depths.
    number = np.floor(phase).astype(np.int32)
    low = int(number.min())
    depths = rng.uniform(-0.1, 0.9, int(number.max()) - low + 1).astype(np.float32)
    sides = rng.choice(np.array([-1.0, 1.0], dtype=np.float32), depths.size)
    radius = np.float32(max(-float(outer.distance.min()), 300.0))
    middle = np.float32(along.mean())
    reach = sides[number - low] * (along - middle) + depths[number - low] * radius
    slab = (np.abs(phase - number - np.float32(0.5)) * fold_spacing - 0.5 * fold_width).astype(np.float32)
    fold = np.maximum(slab, -reach)
    field = _smooth_maximum(outer.distance + np.float32(gap), -fold)
    return Surface(kind="crista", box=box, distance=redistance(field, grid.voxel_size))


def _smooth_maximum(a: FloatArray, b: FloatArray) -> FloatArray:
    """Return the maximum of two (z, y, x) fields with rounded necks; both fields are in angstrom."""
    width = np.float32(40.0)
    blend = np.clip(0.5 + 0.5 * (a - b) / width, 0.0, 1.0)
    return np.asarray(blend * a + (1 - blend) * b + width * blend * (1 - blend), dtype=np.float32)


def perforated_envelope(
    grid: Grid,
    outer: Surface,
    *,
    gap: float,
    pore_radius: float,
    pores: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> Surface:
    """Return two parallel membranes that join at pores, as in a nuclear envelope.

    The distance `gap` of the two mid-surfaces, of which `outer` is the outer one, and the radius of the
    pores are in angstrom. `pores` are (n, 3) points of `outer` in angstrom and (n, 3) unit normals there.
    """
    z, y, x = grid.axes(outer.box)
    field = np.abs(outer.distance + np.float32(0.5 * gap)) - np.float32(0.5 * gap)
    for (cz, cy, cx), (nz, ny, nx) in zip(*(part.astype(np.float32) for part in pores), strict=True):
        along = (z - cz) * nz + (y - cy) * ny + (x - cx) * nx
        squared = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
        radial = np.sqrt(np.maximum(squared - along**2, 0.0)).astype(np.float32)
        # A pore ends on both sides of the envelope.
        reach = np.abs(along + np.float32(0.5 * gap)) - np.float32(0.5 * gap + pore_radius)
        field = _smooth_maximum(field, np.minimum(np.float32(pore_radius) - radial, -reach))
    return Surface(kind="envelope", box=outer.box, distance=redistance(field, grid.voxel_size))


def sheet(
    rng: np.random.Generator, grid: Grid, pose: Pose, *, half_width: float, bend_radius: float, wave: Wave
) -> Surface | None:
    """Draw an open, curved sheet with a wavy rim; return None if it is outside the grid.

    `pose` is the middle of the sheet and its normal. The distance of the rim from the middle and the radius
    of curvature are in angstrom.
    """
    center, normal = pose.center, pose.direction
    box = grid.box_around(center, half_width + REACH_ANGSTROM)
    if box is None:
        return None
    z, y, x = grid.axes(box)
    apex = (center - normal * bend_radius).astype(np.float32)
    middle = center.astype(np.float32)
    radial = np.sqrt((z - apex[0]) ** 2 + (y - apex[1]) ** 2 + (x - apex[2]) ** 2).astype(np.float32)
    field = rough(
        rng, radial - np.float32(bend_radius), box, grid, amplitude=wave.amplitude, wavelength=wave.wavelength
    )
    center_distance = np.sqrt((z - middle[0]) ** 2 + (y - middle[1]) ** 2 + (x - middle[2]) ** 2).astype(
        np.float32
    )
    rim_field = rough(
        rng,
        center_distance - np.float32(half_width),
        box,
        grid,
        amplitude=0.1 * half_width,
        wavelength=half_width,
    )
    distance = as_distance(field, grid.voxel_size)
    return Surface(kind="sheet", box=box, distance=distance, rim=np.maximum(rim_field, 0.0))


def tubule(
    rng: np.random.Generator, grid: Grid, pose: Pose, *, radius: float, half_length: float, bend: Wave
) -> Surface | None:
    """Draw a tube with round ends along a wavy line; return None if it is outside the grid.

    `pose` is the middle and axis of the tube. Its radius and half length are in angstrom.
    """
    center, direction = pose.center, pose.direction
    half = np.abs(direction) * half_length + radius + 2 * bend.amplitude + REACH_ANGSTROM
    box = grid.box_around(center, half)
    if box is None:
        return None
    z, y, x = grid.axes(box)
    frame = random_rotations(rng, 1)[0]
    second = frame[:, 0] - direction * (frame[:, 0] @ direction)
    second /= np.linalg.norm(second)
    third = np.cross(direction, second)
    z, y, x = z - np.float32(center[0]), y - np.float32(center[1]), x - np.float32(center[2])
    along, u, v = (
        (z * d[0] + y * d[1] + x * d[2]).astype(np.float32)
        for d in (direction.astype(np.float32), second.astype(np.float32), third.astype(np.float32))
    )
    u = rough(rng, u, box, grid, amplitude=bend.amplitude, wavelength=bend.wavelength)
    v = rough(rng, v, box, grid, amplitude=bend.amplitude, wavelength=bend.wavelength)
    past_end = np.maximum(np.abs(along) - np.float32(half_length), 0.0)
    field = np.sqrt(u * u + v * v + past_end * past_end) - np.float32(radius)
    field = rough(rng, field, box, grid, amplitude=0.08 * radius, wavelength=4 * radius)
    return Surface(kind="tubule", box=box, distance=as_distance(field, grid.voxel_size))


def sponge(rng: np.random.Generator, grid: Grid, box: Box, *, wavelength: float, level: float) -> Surface:
    """Draw a membrane of arbitrary topology: the level set of a smooth random field.

    The wavelength of the field is in angstrom. `level` is in standard deviations of the field; 0 gives a
    sponge, 1 and more give closed blobs.
    """
    spacing_px = 0.5 * wavelength / grid.voxel_size
    field = (smooth_noise(rng, box, spacing_px=spacing_px) - np.float32(level)) * np.float32(
        -0.25 * wavelength
    )
    return Surface(kind="sponge", box=box, distance=redistance(field, grid.voxel_size))


def open_window(rng: np.random.Generator, grid: Grid, surface: Surface, *, fraction: float) -> Surface:
    """Remove the part of a closed surface beyond a wavy plane, which leaves the fraction 1 - `fraction`."""
    box = surface.box
    inside = np.argwhere(surface.distance < 0)
    if len(inside) == 0:
        return surface
    direction = random_rotations(rng, 1)[0][:, 0].astype(np.float32)
    z, y, x = grid.axes(box)
    height = (z * direction[0] + y * direction[1] + x * direction[2]).astype(np.float32)
    values = height[tuple(inside[:: max(1, len(inside) // 2000)].T)]
    cut = np.quantile(values, 1.0 - fraction)
    rim = rough(rng, height - np.float32(cut), box, grid, amplitude=30.0, wavelength=400.0)
    return Surface(kind=surface.kind, box=box, distance=surface.distance, rim=np.maximum(rim, 0.0))
