"""Proteins, ribosomes, filaments and gold beads as clouds of weighted points.

A cloud has about one point per voxel at a jittered position. The weight of a point is its mass, so that solid
protein has a density of 1 on the grid at any voxel size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.simulate.fields import (
    Grid,
    frames_along,
    random_direction,
    random_directions,
    random_rotations,
    turn,
)
from cryoseg.simulate.scene import Kind, Scene
from cryoseg.types import FloatArray

RNA_DENSITY = 1.6  # Density of nucleic acid relative to protein.


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Points of one molecule relative to its origin.

    Attributes
    ----------
    points, weights
        (n, 3) positions in angstrom, whose first axis is perpendicular to a membrane, and (n,) mass of each
        point in voxels of solid protein.
    """

    points: NDArray[np.float64]
    weights: NDArray[np.float64]

    @property
    def radius(self) -> float:
        """Largest distance of a point from the origin in angstrom."""
        return float(np.linalg.norm(self.points, axis=1).max()) if len(self.points) else 0.0


def fill_balls(
    rng: np.random.Generator,
    centers: NDArray[np.float64],
    radii: NDArray[np.float64],
    *,
    voxel_size: float,
    density: float = 1.0,
    texture: float = 0.3,
) -> Cloud:
    """Fill a union of balls, (n, 3) centers and (n,) radii in angstrom, with points at regular distances.

    `density` is the mean density inside the balls, and `texture` the relative standard deviation of the
    weights.
    """
    spacing = voxel_size * 0.9
    low, high = (centers - radii[:, None]).min(axis=0), (centers + radii[:, None]).max(axis=0)
    counts = np.maximum(np.ceil((high - low) / spacing).astype(int), 1)
    lattice = np.stack(np.meshgrid(*(np.arange(n) + 0.5 for n in counts), indexing="ij"), axis=-1).reshape(
        -1, 3
    )
    points = low + (lattice + rng.uniform(-0.4, 0.4, lattice.shape)) * ((high - low) / counts)
    inside = np.any(np.square(points[:, None] - centers[None]).sum(axis=-1) <= np.square(radii)[None], axis=1)
    points = points[inside]
    if len(points) == 0:
        # A molecule smaller than a voxel is one point with its full mass.
        volume = float((4 / 3 * np.pi * radii**3).sum())
        return Cloud(points=centers[:1].copy(), weights=np.array([density * volume / voxel_size**3]))
    mass = float(np.prod((high - low) / counts)) / voxel_size**3 * density
    weights = mass * np.clip(1.0 + texture * rng.standard_normal(len(points)), 0.1, None)
    return Cloud(points=points, weights=weights)


def globular(rng: np.random.Generator, *, radius: float, voxel_size: float) -> Cloud:
    """Draw a protein of a few overlapping domains within about `radius` angstrom of its origin."""
    n = int(rng.integers(1, 7))
    sizes = radius * rng.uniform(0.45, 0.7, n) if n > 1 else np.array([radius * 0.9])
    directions = random_directions(rng, n)
    centers = directions * (radius - sizes)[:, None] * rng.uniform(0.4, 1.0, (n, 1))
    return fill_balls(rng, centers, sizes, voxel_size=voxel_size)


def ribosome_balls(
    rng: np.random.Generator, radius: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw (15, 3) centers and (15,) radii of balls that form two unequal subunits with a cleft."""
    large = random_directions(rng, 9) * radius * rng.uniform(0.1, 0.45, (9, 1))
    small = random_directions(rng, 6) * radius * rng.uniform(0.1, 0.4, (6, 1))
    small = small * np.array([0.5, 1.0, 1.3]) + np.array([0.72 * radius, 0.0, 0.0])
    centers = np.concatenate([large - np.array([0.25 * radius, 0.0, 0.0]), small])
    radii = np.concatenate([radius * rng.uniform(0.3, 0.48, 9), radius * rng.uniform(0.22, 0.34, 6)])
    return centers, radii


def ribosome(rng: np.random.Generator, *, voxel_size: float, radius: float = 125.0) -> Cloud:
    """Draw a ribosome with a radius in angstrom; its RNA has a high density.

    The diameter of bacterial and eukaryotic ribosomes is 20 to 30 nm.
    """
    centers, radii = ribosome_balls(rng, radius)
    return fill_balls(rng, centers, radii, voxel_size=voxel_size, density=RNA_DENSITY, texture=0.5)


def membrane_protein(
    rng: np.random.Generator, *, radius: float, height: float, stalk: float, inner: float, voxel_size: float
) -> Cloud:
    """Draw a membrane protein whose first axis is the normal and whose origin is at the mid-surface.

    `radius` and `height` are the radius of the head and the distance of its center from the mid-surface,
    `stalk` is the radius of the part that crosses the membrane, and `inner` that of the domain on the other
    side, 0 for none; all are in angstrom.
    """
    levels = np.arange(-25.0, height, max(stalk, 4.0))
    centers = np.zeros((len(levels), 3))
    centers[:, 0] = levels
    radii = np.full(len(levels), stalk)
    n = int(rng.integers(1, 5))
    heads = random_directions(rng, n) * radius * 0.45
    heads[:, 0] += height
    parts, sizes = [centers, heads], [radii, np.full(n, radius * (0.7 if n > 1 else 1.0))]
    if inner > 0:
        parts.append(np.array([[-22.0 - inner, 0.0, 0.0]]))
        sizes.append(np.array([inner]))
    return fill_balls(rng, np.concatenate(parts), np.concatenate(sizes), voxel_size=voxel_size)


def place(
    cloud: Cloud, positions: NDArray[np.float64], rotations: NDArray[np.float64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Place copies of a cloud of n points at (m, 3) positions in angstrom with (m, 3, 3) rotations.

    The result is (m * n, 3) positions in angstrom and (m * n,) weights.
    """
    turned = turn(cloud.points[None].astype(np.float32), rotations.astype(np.float32))
    points = (turned + positions[:, None].astype(np.float32)).reshape(-1, 3)
    return points, np.tile(cloud.weights.astype(np.float32), len(positions))


def splat(points: NDArray[np.float32], weights: NDArray[np.float32], grid: Grid) -> FloatArray:
    """Distribute the weights of points over the eight voxels around each, trilinearly.

    Points outside the grid are ignored. The result is (z, y, x) float32.
    """
    nz, ny, nx = grid.shape
    voxels = points / np.float32(grid.voxel_size)
    base = np.floor(voxels).astype(np.int32)
    inside = np.all((base >= 0) & (base < np.array([nz - 1, ny - 1, nx - 1])), axis=1)
    base, fraction, weights = base[inside], (voxels - base)[inside], weights[inside]
    flat = (base[:, 0].astype(np.int64) * ny + base[:, 1]) * nx + base[:, 2]
    total = np.zeros(nz * ny * nx, dtype=np.float32)
    for dz in (0, 1):
        wz = weights * (fraction[:, 0] if dz else 1 - fraction[:, 0])
        for dy in (0, 1):
            wy = wz * (fraction[:, 1] if dy else 1 - fraction[:, 1])
            for dx in (0, 1):
                wx = wy * (fraction[:, 2] if dx else 1 - fraction[:, 2])
                total += np.bincount(flat + ((dz * ny + dy) * nx + dx), weights=wx, minlength=total.size)
    return total.reshape(grid.shape)


class Crowd:
    """Molecules of one kind that are collected and then added to a scene together."""

    def __init__(self, scene: Scene, kind: Kind) -> None:
        self._scene = scene
        self._kind = kind
        self._points: list[NDArray[np.float32]] = []
        self._weights: list[NDArray[np.float32]] = []
        self.count = 0

    def add(self, cloud: Cloud, positions: NDArray[np.float64], rotations: NDArray[np.float64]) -> None:
        """Add copies of a cloud at (m, 3) positions in angstrom with (m, 3, 3) rotations."""
        if len(positions) == 0:
            return
        points, weights = place(cloud, positions, rotations)
        self._points.append(points)
        self._weights.append(weights)
        self.count += len(positions)

    def finish(self, *, scale: float = 1.0) -> None:
        """Add the density, multiplied by `scale`, to the scene and mark its voxels."""
        if not self._points:
            return
        density = splat(np.concatenate(self._points), np.concatenate(self._weights), self._scene.grid)
        self._scene.density += np.float32(scale) * density
        self._scene.mark(self._kind, density > 0.3)


def free_positions(
    rng: np.random.Generator, scene: Scene, *, spacing: float, clearance: float, occupancy: dict[int, float]
) -> NDArray[np.float64]:
    """Draw (n, 3) positions z, y, x on a jittered lattice that do not overlap each other or membranes.

    `spacing` is the lattice constant, the diameter of the molecules, and `clearance` the smallest distance
    to a mid-surface, both in angstrom. `occupancy` is the fraction of occupied lattice sites by number of
    the compartment; other compartments stay empty.
    """
    extent = scene.grid.extent
    rotation = random_rotations(rng, 1)[0]
    reach = float(np.linalg.norm(extent)) / 2
    n = int(np.ceil(reach / spacing))
    ticks = np.arange(-n, n + 1) * spacing
    lattice = np.stack(np.meshgrid(ticks, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    positions = turn(lattice + rng.uniform(-0.2, 0.2, lattice.shape) * spacing, rotation) + extent / 2
    inside = np.all((positions >= 0) & (positions < extent - scene.grid.voxel_size), axis=1)
    positions = positions[inside]
    index = tuple(np.rint(positions / scene.grid.voxel_size).astype(int).T)
    table = np.zeros(int(scene.compartment.max()) + 1)
    for number, fraction in occupancy.items():
        if number < table.size:
            table[number] = fraction
    keep = rng.random(len(positions)) < table[scene.compartment[index]]
    keep &= scene.distance[index] >= clearance
    return np.asarray(positions[keep])


def wavy_line(
    rng: np.random.Generator,
    *,
    start: NDArray[np.float64],
    direction: NDArray[np.float64],
    length: float,
    step: float,
    stiffness: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a worm-like chain; return its (n, 3) points in angstrom and (n, 3) tangents.

    It begins at `start`, (3,) in angstrom, along the (3,) unit vector `direction`. The length of the chain,
    the distance of its points and the persistence length `stiffness` are in angstrom.
    """
    n = max(int(length / step), 2)
    turns = rng.standard_normal((n, 3)) * np.sqrt(step / stiffness)
    tangents = np.empty((n, 3))
    tangent = direction
    for i in range(n):
        tangent = tangent + turns[i] - (turns[i] @ tangent) * tangent
        tangent = tangent / np.linalg.norm(tangent)
        tangents[i] = tangent
    return start + np.cumsum(tangents * step, axis=0), tangents


def filament_cloud(rng: np.random.Generator, *, kind: str, voxel_size: float) -> tuple[Cloud, float, float]:
    """Draw one repeat of a filament along the first axis.

    A microtubule has 13 protofilaments on a cylinder of 25 nm with a rise of 8 nm per dimer. Actin is 7 nm
    thick with a rise of 2.75 nm. An intermediate filament is about 10 nm thick.

    Returns
    -------
    cloud, rise, stiffness
        Points of the repeat, and its rise and persistence length in angstrom. The persistence length is
        shorter than in solution, because cells bend filaments.
    """
    if kind == "microtubule":
        angles = 2 * np.pi * np.arange(13) / 13
        rows = [
            np.stack([np.full(13, h), 108 * np.sin(angles), 108 * np.cos(angles)], axis=1)
            for h in (-20.0, 20.0)
        ]
        centers = np.concatenate(rows)
        return fill_balls(rng, centers, np.full(26, 24.0), voxel_size=voxel_size), 80.0, 60000.0
    if kind == "actin":
        centers = np.array([[0.0, 14.0, 0.0], [0.0, -14.0, 0.0]])
        return fill_balls(rng, centers, np.full(2, 24.0), voxel_size=voxel_size), 42.0, 15000.0
    centers = np.array([[-20.0, 15.0, 0.0], [20.0, -15.0, 0.0]])
    return fill_balls(rng, centers, np.full(2, 38.0), voxel_size=voxel_size), 60.0, 8000.0


def add_filament(rng: np.random.Generator, scene: Scene, crowd: Crowd, *, kind: str, flat: bool) -> None:
    """Add a filament through a random point of the scene; a `flat` one is nearly parallel to x and y."""
    cloud, rise, stiffness = filament_cloud(rng, kind=kind, voxel_size=scene.grid.voxel_size)
    middle = rng.uniform(0.0, 1.0, 3) * scene.grid.extent
    direction = random_direction(rng, max_z=0.15 if flat else 1.0)
    half = rng.uniform(300, 3000)
    line, tangents = wavy_line(
        rng,
        start=middle - direction * half,
        direction=direction,
        length=2 * half,
        step=rise,
        stiffness=stiffness,
    )
    index = np.rint(line / scene.grid.voxel_size).astype(int)
    inside = np.all((index >= 0) & (index < np.array(scene.grid.shape)), axis=1)
    clear = np.zeros(len(line), dtype=bool)
    clear[inside] = scene.distance[tuple(index[inside].T)] > 0.6 * cloud.radius + 20.0
    frames = frames_along(tangents, rng)
    crowd.add(cloud, line[clear], frames[clear])


def add_gold(rng: np.random.Generator, scene: Scene, crowd: Crowd, *, n: int, diameter: float) -> None:
    """Add gold beads of `diameter` angstrom at any positions, as fiducial markers."""
    radius = 0.5 * diameter
    cloud = fill_balls(
        rng, np.zeros((1, 3)), np.array([radius]), voxel_size=scene.grid.voxel_size, texture=0.0
    )
    positions = rng.uniform(0.0, 1.0, (n, 3)) * scene.grid.extent
    crowd.add(cloud, positions, random_rotations(rng, n))
