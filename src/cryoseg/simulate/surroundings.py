"""Add ice contamination, carbon film, lamella surfaces and contents of compartments to a scene."""

from __future__ import annotations

import numpy as np

from cryoseg.simulate.fields import random_rotations, smooth_noise
from cryoseg.simulate.scene import Kind, Scene
from cryoseg.simulate.surfaces import ellipsoid_field, rough
from cryoseg.types import FloatArray


def _soft_step(field: FloatArray, width: float) -> FloatArray:
    """Return a linear step over `width` angstrom from 1 (negative field) to 0 (positive field)."""
    return np.asarray(np.clip(0.5 - field / np.float32(width), 0.0, 1.0), dtype=np.float32)


def ice_contamination(rng: np.random.Generator, scene: Scene, *, radius: float, density: float) -> None:
    """Add an ice crystal of `radius` angstrom, usually on the upper or lower surface of the grid."""
    grid = scene.grid
    center = rng.uniform(0.0, 1.0, 3) * grid.extent
    if rng.random() < 0.7:
        center[0] = rng.choice([0.0, grid.extent[0]]) + rng.normal(0.0, 0.2 * radius)
    axes = radius * np.array([rng.uniform(0.6, 1.0), 1.0, rng.uniform(1.0, 1.5)])
    box = grid.box_around(center, float(axes.max()) * 1.4)
    if box is None:
        return
    field = ellipsoid_field(grid, box, center, axes, random_rotations(rng, 1)[0])
    field = rough(rng, field, box, grid, amplitude=0.12 * radius, wavelength=0.8 * radius)
    lump = _soft_step(field, 2 * grid.voxel_size)
    texture = 1.0 + 0.25 * smooth_noise(rng, box, spacing_px=rng.uniform(1.5, 6.0))
    scene.density[box] += np.float32(density) * lump * texture
    scene.mark(Kind.ICE_CONTAMINATION, lump > 0.5, box)


def carbon_edge(
    rng: np.random.Generator, scene: Scene, *, coverage: float, thickness: float, density: float
) -> None:
    """Add a carbon film that covers one side of the field of view.

    Parameters
    ----------
    coverage
        Approximate fraction of the width of the field that is covered.
    thickness
        Thickness of the film in angstrom.
    density
        Density of the film in the units of `Scene.density`.
    """
    grid = scene.grid
    z, y, x = grid.axes(grid.full_box)
    angle = rng.uniform(0, 2 * np.pi)
    hole_radius = rng.uniform(5000.0, 12000.0)
    half = 0.5 * float(min(grid.extent[1], grid.extent[2]))
    edge = half * (1.0 - 2.0 * coverage)
    hole_y = grid.extent[1] / 2 + np.sin(angle) * (edge - hole_radius)
    hole_x = grid.extent[2] / 2 + np.cos(angle) * (edge - hole_radius)
    outside_hole = (hole_radius - np.hypot(y - hole_y, x - hole_x)).astype(np.float32)
    height = grid.extent[0] * rng.choice(
        [rng.uniform(0.0, 0.25), rng.uniform(0.75, 1.0), rng.uniform(0.3, 0.7)]
    )
    film = (np.abs(z - np.float32(height)) - np.float32(0.5 * thickness)).astype(np.float32)
    field = np.maximum(np.broadcast_to(outside_hole, grid.shape), film)
    field = rough(rng, field, grid.full_box, grid, amplitude=15.0, wavelength=300.0)
    present = _soft_step(field, 2 * grid.voxel_size)
    grain = 1.0 + 0.35 * smooth_noise(rng, grid.full_box, spacing_px=max(12.0 / grid.voxel_size, 1.0))
    scene.density += np.float32(density) * present * grain
    scene.mark(Kind.CARBON, present > 0.5)


def lamella_surfaces(
    rng: np.random.Generator, scene: Scene, *, ice_density: float, coat_density: float
) -> None:
    """Replace the specimen outside one or two rough, slightly tilted planes by vacuum.

    Parameters
    ----------
    ice_density
        Density of ice relative to vacuum in the units of `Scene.density`.
    coat_density
        Density of the redeposited layer on the surface; 0 for none.
    """
    grid = scene.grid
    z, y, x = grid.axes(grid.full_box)
    slope_y, slope_x = rng.normal(0.0, 0.04, 2)
    tilt = (y - grid.extent[1] / 2) * np.float32(slope_y) + (x - grid.extent[2] / 2) * np.float32(slope_x)
    sides = [(1,), (-1,), (1, -1)][int(rng.integers(0, 3))]
    field = np.full(grid.shape, -1e4, dtype=np.float32)
    for side in sides:
        depth = rng.uniform(0.04, 0.16) * grid.extent[0]
        level = grid.extent[0] - depth if side > 0 else depth
        plane = np.broadcast_to(side * (z + tilt - np.float32(level)), grid.shape).astype(np.float32)
        plane = rough(
            rng, plane, grid.full_box, grid, amplitude=rng.uniform(8, 40), wavelength=rng.uniform(300, 1500)
        )
        np.maximum(field, plane, out=field)
    outside = field > 0
    scene.clear(outside)
    scene.density -= np.float32(ice_density) * _soft_step(-field, 2 * grid.voxel_size)
    if coat_density > 0:
        width = rng.uniform(20.0, 80.0)
        layer = np.exp(-np.square((field - width) / width))
        layer *= np.clip(1 + 0.4 * smooth_noise(rng, grid.full_box, spacing_px=2.0), 0, None)
        scene.density += np.float32(coat_density) * layer
    scene.mark(Kind.OUTSIDE_LAMELLA, outside)


def lumen(rng: np.random.Generator, scene: Scene, number: int, *, density: float, grain: float) -> None:
    """Fill compartment `number` with granular density of mean `density` and standard deviation `grain`."""
    where = (scene.compartment == number) & (scene.distance > 25.0)
    if not where.any():
        return
    zyx = np.nonzero(where)
    box = tuple(slice(int(part.min()), int(part.max()) + 1) for part in zyx)
    region = (box[0], box[1], box[2])
    inside = where[region]
    field = smooth_noise(rng, region, spacing_px=rng.uniform(1.0, 3.0))
    scene.density[region] += np.where(inside, density + grain * field, 0.0).astype(np.float32)
