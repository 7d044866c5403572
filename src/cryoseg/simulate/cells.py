"""Volumes like a cell: crowded cytoplasm, lattices, filament bundles and membranes at close distances.

The contents are about as dense as the membranes, so that a model learns to tell them apart by shape.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.simulate.fields import frames_along, log_uniform, random_direction, random_rotations, turn
from cryoseg.simulate.membranes import Builder
from cryoseg.simulate.molecules import (
    Crowd,
    add_filament,
    filament_cloud,
    free_positions,
    globular,
    ribosome,
    wavy_line,
)
from cryoseg.simulate.scene import Kind, Scene, surface_points
from cryoseg.simulate.surfaces import Pose, Surface, Wave, perforated_envelope, sheet, vesicle

# Distance in angstrom between the surface of a molecule and the middle of a membrane.
CLEARANCE_ANGSTROM = 24.0


def _thylakoids(build: Builder) -> None:
    """Add stacks of flat, closed discs.

    The repeat of a stack is the sum of two bilayers, the lumen and the gap between discs.
    """
    rng = build.rng
    for _ in range(int(rng.integers(1, 4))):
        half_width = rng.uniform(400.0, 2200.0)
        base = sheet(
            rng,
            build.grid,
            Pose(rng.uniform(0.1, 0.9, 3) * build.grid.extent, random_direction(rng, max_z=0.7)),
            half_width=half_width,
            bend_radius=half_width * rng.uniform(1.5, 8.0),
            wave=Wave(rng.uniform(0.0, 25.0), rng.uniform(600.0, 1500.0)),
        )
        if base is None or base.rim is None:
            continue
        thickness = build.lipids.bilayer.thickness
        lumen = thickness + rng.uniform(30.0, 90.0)
        repeat = lumen + thickness + rng.uniform(20.0, 70.0)
        for i in range(int(rng.integers(2, 10))):
            rim = np.maximum(base.rim - np.float32(rng.uniform(-0.1, 0.25) * half_width), 0.0)
            middle = base.distance - np.float32(i * repeat)
            field = np.hypot(middle, rim) - np.float32(0.5 * lumen)
            disc = Surface(kind="thylakoid", box=base.box, distance=np.asarray(field, dtype=np.float32))
            build.accept(disc, min_gap=0.9 * thickness)
    build.vesicles(int(rng.integers(0, 6)), median_radius=250.0, spread=0.3)


def _envelope(build: Builder) -> None:
    """Add a nuclear envelope with pores and its pore complexes, endoplasmic reticulum and vesicles."""
    rng, grid = build.rng, build.grid
    radius = log_uniform(rng, 2500.0, 12000.0)
    normal = random_direction(rng, max_z=0.5)
    through = rng.uniform(0.25, 0.75, 3) * grid.extent
    base = vesicle(rng, grid, center=through - normal * radius, radius=radius, elongation=1.2, roughness=0.01)
    if base is not None:
        pore_radius = rng.uniform(350.0, 500.0)
        gap = rng.uniform(180.0, 400.0)
        pores, normals = surface_points(rng, grid, base, int(rng.integers(1, 7)))
        envelope = perforated_envelope(grid, base, gap=gap, pore_radius=pore_radius, pores=(pores, normals))
        if build.accept(envelope):
            _pore_complexes(build, pores - 0.5 * gap * normals, normals, pore_radius)
    build.tubules(int(rng.integers(0, 4)), radius=rng.uniform(150.0, 300.0), flat=rng.random() < 0.5)
    if rng.random() < 0.5:
        build.stack(
            int(rng.integers(2, 5)), spacing=rng.uniform(110.0, 260.0), half_width=rng.uniform(500.0, 1800.0)
        )
    build.vesicles(int(rng.integers(0, 10)), median_radius=rng.uniform(200.0, 400.0), spread=0.3)


def _pore_complexes(
    build: Builder, centers: NDArray[np.float64], normals: NDArray[np.float64], radius: float
) -> None:
    """Add three rings of eight subunits into each pore; (n, 3) centers and normals, radius in angstrom."""
    rng = build.rng
    subunit = globular(rng, radius=rng.uniform(70.0, 110.0), voxel_size=build.grid.voxel_size)
    crowd = Crowd(build.scene, Kind.MEMBRANE_PROTEIN)
    angles = 2 * np.pi * np.arange(8) / 8
    for center, frame in zip(centers, frames_along(normals, rng), strict=True):
        for height, share in ((-150.0, 1.05), (0.0, 0.75), (150.0, 1.05)):
            ring = np.stack(
                [
                    np.full(8, height),
                    share * radius * np.sin(angles + 0.1 * height),
                    share * radius * np.cos(angles + 0.1 * height),
                ],
                axis=1,
            )
            crowd.add(subunit, center + turn(ring, frame), random_rotations(rng, 8))
    crowd.finish(scale=rng.uniform(0.6, 1.0))


def _double_membranes(build: Builder) -> None:
    """Add organelles with two membranes at a constant distance, tubules, nested vesicles and contacts."""
    rng = build.rng
    for _ in range(int(rng.integers(1, 3))):
        build.organelle(
            radius=log_uniform(rng, 800.0, 6000.0),
            walls=2,
            folded=rng.random() < 0.25,
            roughness=rng.uniform(0.0, 0.03),
            upright=rng.random() < 0.6,
            kind="double membrane",
        )
    build.tubules(int(rng.integers(0, 4)), radius=rng.uniform(120.0, 300.0), flat=rng.random() < 0.5)
    build.vesicles(int(rng.integers(0, 10)), median_radius=rng.uniform(200.0, 400.0), spread=0.35)
    build.nested(int(rng.integers(0, 4)))
    if rng.random() < 0.3:
        build.touching_cluster(int(rng.integers(2, 6)), radius=rng.uniform(180.0, 350.0))


CELL_ARRANGEMENTS: dict[str, Callable[[Builder], None]] = {
    "thylakoids": _thylakoids,
    "envelope": _envelope,
    "double membranes": _double_membranes,
}


def add_assemblies(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    """Add protein lattices and filaments, alone and in bundles; return their numbers."""
    counts: dict[str, Any] = {}
    lattices = Crowd(scene, Kind.CYTOSOLIC_PROTEIN)
    for flat, chance in ((True, 0.4), (False, 0.3)):
        if rng.random() < chance:
            for _ in range(int(rng.integers(1, 4))):
                _lattice(rng, scene, lattices, flat=flat)
    lattices.finish(scale=rng.uniform(0.6, 1.1))
    counts["lattice_molecules"] = lattices.count
    filaments = Crowd(scene, Kind.FILAMENT)
    for kind, chance, most in (("microtubule", 0.5, 6), ("actin", 0.5, 25), ("intermediate", 0.3, 12)):
        if rng.random() < chance:
            counts[kind] = int(rng.integers(1, most + 1))
            for _ in range(counts[kind]):
                add_filament(rng, scene, filaments, kind=kind, flat=rng.random() < 0.6)
        if rng.random() < 0.2:
            _bundle(rng, scene, filaments, kind=kind)
            counts[f"{kind}_bundle"] = 1
    filaments.finish(scale=rng.uniform(0.7, 1.2))
    return counts


def _is_clear(scene: Scene, positions: NDArray[np.float64], clearance: float) -> NDArray[np.bool_]:
    """Return which (n, 3) positions are on the grid and `clearance` angstrom away from membranes."""
    index = np.rint(positions / scene.grid.voxel_size).astype(int)
    clear = np.all((index >= 0) & (index < np.array(scene.grid.shape)), axis=1)
    clear[clear] = scene.distance[tuple(index[clear].T)] > clearance
    return np.asarray(clear)


def _lattice(rng: np.random.Generator, scene: Scene, crowd: Crowd, *, flat: bool) -> None:
    """Add a crystal of one protein: a slightly bent layer if `flat`, otherwise an ellipsoidal lump."""
    radius = rng.uniform(25.0, 60.0)
    cloud = globular(rng, radius=radius, voxel_size=scene.grid.voxel_size)
    half = log_uniform(rng, 300.0, 1500.0) if flat else log_uniform(rng, 250.0, 700.0)
    spacing = 2 * radius * rng.uniform(1.0, 1.6)
    ticks = np.arange(-half, half + spacing, spacing)
    layers = ticks if not flat else np.arange(int(rng.integers(1, 3))) * spacing
    sites = np.stack(np.meshgrid(layers, ticks, ticks, indexing="ij"), axis=-1).reshape(-1, 3)
    sites[:, 1] += 0.5 * sites[:, 2]  # The unit cell is oblique.
    sites[:, 2] *= np.sqrt(0.75)
    sites = sites[np.linalg.norm(sites, axis=1) < half]
    sites[:, 0] += np.square(sites[:, 1:]).sum(axis=1) / (2 * half * rng.uniform(2.0, 10.0))
    sites += rng.normal(0.0, 0.03 * spacing, sites.shape)
    center = rng.uniform(0.0, 1.0, 3) * scene.grid.extent
    positions = turn(sites, random_rotations(rng, 1)[0]) + center
    positions = positions[_is_clear(scene, positions, cloud.radius + CLEARANCE_ANGSTROM)]
    crowd.add(cloud, positions, np.repeat(random_rotations(rng, 1), len(positions), axis=0))


def _bundle(rng: np.random.Generator, scene: Scene, crowd: Crowd, *, kind: str) -> None:
    """Add 4 to 19 parallel filaments on a hexagonal lattice."""
    cloud, rise, stiffness = filament_cloud(rng, kind=kind, voxel_size=scene.grid.voxel_size)
    spacing = 2.0 * cloud.radius * rng.uniform(1.0, 1.4)
    direction = random_direction(rng, max_z=0.4)
    half = rng.uniform(600.0, 3000.0)
    middle = rng.uniform(0.1, 0.9, 3) * scene.grid.extent
    line, tangents = wavy_line(
        rng,
        start=middle - direction * half,
        direction=direction,
        length=2 * half,
        step=rise,
        stiffness=4 * stiffness,
    )
    frame = frames_along(direction[None], rng)[0]
    sites = np.array([(a + 0.5 * b, np.sqrt(0.75) * b) for a in range(-2, 3) for b in range(-2, 3)]) * spacing
    sites = sites[np.argsort(np.linalg.norm(sites, axis=1))][: int(rng.integers(4, 20))]
    frames = frames_along(tangents, rng)
    for u, v in sites:
        moved = line + u * frame[:, 1] + v * frame[:, 2] + rng.uniform(0.0, rise) * direction
        clear = _is_clear(scene, moved, 0.6 * cloud.radius + 20.0)
        crowd.add(cloud, moved[clear], frames[clear])


# Radii in angstrom of ribosomes and of four sizes of complexes, which are placed in this order.
SIZES = ((100.0, 140.0), (70.0, 100.0), (45.0, 70.0), (30.0, 45.0), (20.0, 30.0))


def crowd_cytoplasm(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    """Fill 20 to 40 % of the compartments with ribosomes and complexes of mixed sizes.

    The cytoplasm is full; each closed compartment is full, sparse or empty. Small molecules are placed
    between the large ones.
    """
    share = rng.uniform(0.2, 0.4)
    of_ribosomes = float(rng.choice([0.0, rng.uniform(0.15, 0.7)], p=[0.15, 0.85]))
    parts = np.concatenate([[of_ribosomes], (1 - of_ribosomes) * rng.dirichlet(np.full(4, 2.0))])
    level = {number: float(rng.choice([0.0, rng.uniform(0.1, 0.6), 1.0])) for number in scene.closed}
    level[0] = 1.0
    scale = rng.uniform(0.6, 1.15)
    voxel_size = scene.grid.voxel_size
    room = float(np.mean(scene.distance > 80.0)) * scene.distance.size
    counts = []
    for part, sizes in zip(parts, SIZES, strict=True):
        is_ribosome = sizes is SIZES[0]
        radius = rng.uniform(*sizes)
        draw = ribosome if is_ribosome else globular
        clouds = [draw(rng, radius=radius, voxel_size=voxel_size) for _ in range(4)]
        # A cloud has a point per 0.9 voxels along each axis.
        volume = float(np.mean([len(cloud.points) for cloud in clouds])) * 0.9**3
        positions = free_positions(
            rng,
            scene,
            spacing=2.0 * radius,
            clearance=0.9 * radius + CLEARANCE_ANGSTROM,
            occupancy=level,
        )
        positions = positions[_is_free(scene, positions, 0.8 * radius)]
        positions = rng.permutation(positions)[: int(share * part * room / volume)]
        crowd = Crowd(scene, Kind.RIBOSOME if is_ribosome else Kind.CYTOSOLIC_PROTEIN)
        for cloud, own in zip(clouds, np.array_split(positions, 4), strict=True):
            crowd.add(cloud, own, random_rotations(rng, len(own)))
        crowd.finish(scale=scale * (1.0 if is_ribosome else rng.uniform(0.7, 1.1)))
        counts.append(crowd.count)
    return {"share": share, "ribosome_share": of_ribosomes, "density": scale, "counts": counts}


def _is_free(scene: Scene, positions: NDArray[np.float64], reach: float) -> NDArray[np.bool_]:
    """Return which (n, 3) positions have no molecule there and `reach` angstrom along each axis."""
    free = np.ones(len(positions), dtype=bool)
    for offset in (np.zeros(3), *(reach * np.eye(3)), *(-reach * np.eye(3))):
        index = np.rint((positions + offset) / scene.grid.voxel_size).astype(int)
        index = np.clip(index, 0, np.array(scene.grid.shape) - 1)
        free &= scene.kinds[tuple(index.T)] == 0
    return free
