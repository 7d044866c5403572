"""Draw a specimen with membranes, molecules and surroundings, and a record of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cryoseg.config.simulate import TomogramRecipe
from cryoseg.simulate.cells import CELL_ARRANGEMENTS, add_assemblies, crowd_cytoplasm
from cryoseg.simulate.fields import Grid, frames_along, log_uniform, random_rotations, smooth_noise
from cryoseg.simulate.membranes import ARRANGEMENTS, Builder, draw_lipids
from cryoseg.simulate.molecules import (
    Crowd,
    add_filament,
    add_gold,
    free_positions,
    globular,
    membrane_protein,
    ribosome,
)
from cryoseg.simulate.scene import Kind, Scene, surface_area, surface_points
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


def carbon_edge(rng: np.random.Generator, scene: Scene, crowding: float) -> dict[str, Any]:
    """Add a carbon film that covers one side of the field of view, and return its parameters.

    `coverage` is the approximate fraction of the width of the field that is covered. The thickness is in
    angstrom, the density in the units of `Scene.density`.
    """
    coverage = float(min(rng.uniform(0.08, 0.4) * crowding, 0.5))
    thickness, density = rng.uniform(100.0, 220.0), rng.uniform(0.5, 1.5)
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
    return {"coverage": coverage, "thickness_angstrom": thickness, "density": density}


def lamella_surfaces(
    rng: np.random.Generator, scene: Scene, *, ice_density: float, coat_density: float
) -> None:
    """Replace the specimen outside one or two rough, slightly tilted planes by vacuum.

    The densities of ice relative to vacuum and of the redeposited layer on the surface (0 for none) are in
    the units of `Scene.density`.
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


_TRAIN_MIX = {
    "purified": 0.3,
    "cell": 0.25,
    "synapse": 0.13,
    "mitochondria": 0.12,
    "sheets": 0.14,
    "sponge": 0.06,
}
_CELL_MIX = {
    "thylakoids": 0.22,
    "envelope": 0.22,
    "double membranes": 0.26,
    "cell": 0.15,
    "mitochondria": 0.15,
}


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A simulated specimen.

    Attributes
    ----------
    scene
        Distance, density and kinds on the padded grid.
    thickness, record
        Thickness of the labeled bilayer in angstrom, and parameters, ready for JSON.
    """

    scene: Scene
    thickness: float
    record: dict[str, Any] = field(default_factory=dict)


def build_specimen(
    rng: np.random.Generator, grid: Grid, recipe: TomogramRecipe, *, crowding: float = 1.0
) -> Specimen:
    """Draw a specimen from the mixture of a recipe; `crowding` multiplies the number of distractors."""
    lipids = draw_lipids(rng)
    scene = Scene(grid)
    build = Builder(rng, scene, lipids)
    if recipe is TomogramRecipe.SAMPLE:
        name = "sample"
    else:
        mix = _CELL_MIX if recipe is TomogramRecipe.CELL else _TRAIN_MIX
        name = str(rng.choice(list(mix), p=list(mix.values())))
    arrange = {**ARRANGEMENTS, **CELL_ARRANGEMENTS}[name]
    for _ in range(6):
        arrange(build)
        if np.count_nonzero(scene.distance < 0.5 * lipids.bilayer.thickness) > 0.004 * scene.distance.size:
            break
    record: dict[str, Any] = {
        "arrangement": name,
        "membranes": dict(sorted(scene.counts.items())),
        "bilayer": asdict(lipids.bilayer),
        "membrane_spread": lipids.spread,
        "membrane_unevenness": lipids.unevenness,
        "membrane_min_gap_angstrom": build.gap,
    }
    record["membrane_proteins"] = _add_membrane_proteins(rng, build, recipe, crowding)
    if recipe is TomogramRecipe.CELL:
        record["assemblies"] = add_assemblies(rng, scene)
        record["cytosol"] = crowd_cytoplasm(rng, scene)
    else:
        record["cytosol"] = _fill_compartments(rng, scene, recipe, crowding)
        record["filaments"] = _add_filaments(rng, scene, recipe, crowding)
    record["surroundings"] = _add_surroundings(rng, scene, recipe, crowding)
    return Specimen(scene=scene, thickness=lipids.bilayer.thickness, record=record)


def _add_membrane_proteins(
    rng: np.random.Generator, build: Builder, recipe: TomogramRecipe, crowding: float
) -> dict[str, Any]:
    """Add proteins on and in the membranes, and sometimes ribosomes on them."""
    scene, grid = build.scene, build.grid
    has_proteins = recipe is TomogramRecipe.HELDOUT or rng.random() < 0.75
    crowd, bound = Crowd(scene, Kind.MEMBRANE_PROTEIN), Crowd(scene, Kind.RIBOSOME)
    if has_proteins and recipe is not TomogramRecipe.SAMPLE:
        species = [
            membrane_protein(
                rng,
                radius=rng.uniform(15.0, 55.0),
                height=rng.uniform(25.0, 110.0),
                stalk=rng.uniform(6.0, 20.0),
                inner=float(rng.choice([0.0, rng.uniform(10.0, 35.0)])),
                voxel_size=grid.voxel_size,
            )
            for _ in range(int(rng.integers(1, 5)))
        ]
        per_area = log_uniform(rng, 0.4e-5, 1.6e-4) * crowding
        rough_er = rng.random() < 0.1
        for surface in build.surfaces:
            own = per_area * float(np.exp(rng.normal(0.0, 0.7)))
            inward = rng.random() < 0.25
            area = surface_area(grid, surface)
            for cloud in species:
                points, normals = surface_points(
                    rng, grid, surface, int(min(own * area / len(species), 3000))
                )
                crowd.add(cloud, points, frames_along(-normals if inward else normals, rng))
            if rough_er:
                points, normals = surface_points(rng, grid, surface, int(min(2e-6 * area, 200)))
                bound.add(
                    ribosome(rng, voxel_size=grid.voxel_size),
                    points + 160.0 * normals,
                    random_rotations(rng, len(points)),
                )
    scale = rng.uniform(0.6, 1.2)
    crowd.finish(scale=scale)
    bound.finish(scale=scale)
    return {"count": crowd.count, "bound_ribosomes": bound.count, "density": scale}


def _fill_compartments(
    rng: np.random.Generator, scene: Scene, recipe: TomogramRecipe, crowding: float
) -> dict[str, Any]:
    """Add proteins, ribosomes and granular contents to the compartments at different concentrations."""
    grid = scene.grid
    numbers = [0, *scene.closed]
    base = float(rng.choice([0.0, rng.uniform(0.02, 0.15), rng.uniform(0.15, 0.5)], p=[0.15, 0.45, 0.4]))
    if recipe is TomogramRecipe.HELDOUT:
        base = rng.uniform(0.15, 0.4)
    if recipe is TomogramRecipe.SAMPLE:
        base = 0.05
    base = min(base * crowding, 0.7)
    level = {number: float(np.clip(base * np.exp(rng.normal(0.0, 0.8)), 0.0, 0.7)) for number in numbers}
    level[0] = base
    scale = rng.uniform(0.45, 1.0)
    proteins = Crowd(scene, Kind.CYTOSOLIC_PROTEIN)
    if base > 0:
        n_species = int(rng.integers(2, 6))
        for _ in range(n_species):
            radius = log_uniform(rng, 18.0, 75.0)
            cloud = globular(rng, radius=radius, voxel_size=grid.voxel_size)
            positions = free_positions(
                rng,
                scene,
                spacing=max(2.1 * radius, 40.0),
                clearance=radius + 22.0,
                occupancy={number: fraction / n_species for number, fraction in level.items()},
            )
            proteins.add(cloud, positions, random_rotations(rng, len(positions)))
    ribosomes = Crowd(scene, Kind.RIBOSOME)
    if recipe is TomogramRecipe.HELDOUT or (recipe is TomogramRecipe.TRAIN and rng.random() < 0.4):
        fraction = rng.uniform(0.03, 0.3) * min(crowding, 2.0)
        radius = rng.uniform(95.0, 140.0)
        inside = {number: fraction if rng.random() < 0.15 else 0.0 for number in numbers}
        inside[0] = fraction
        positions = free_positions(
            rng, scene, spacing=2.0 * radius, clearance=0.95 * radius + 22.0, occupancy=inside
        )
        for part in np.array_split(rng.permutation(positions), 4):
            ribosomes.add(
                ribosome(rng, voxel_size=grid.voxel_size, radius=radius),
                part,
                random_rotations(rng, len(part)),
            )
    proteins.finish(scale=scale)
    ribosomes.finish(scale=scale)
    lumens = 0
    if recipe is not TomogramRecipe.SAMPLE:
        for number in scene.closed[:12]:
            if rng.random() < 0.4:
                lumen(rng, scene, number, density=rng.normal(0.05, 0.12), grain=rng.uniform(0.03, 0.25))
                lumens += 1
    return {
        "occupancy": base,
        "proteins": proteins.count,
        "ribosomes": ribosomes.count,
        "density": scale,
        "filled_lumens": lumens,
    }


def _add_filaments(
    rng: np.random.Generator, scene: Scene, recipe: TomogramRecipe, crowding: float
) -> dict[str, Any]:
    chance = {TomogramRecipe.TRAIN: 0.45, TomogramRecipe.HELDOUT: 0.7, TomogramRecipe.SAMPLE: 0.0}[recipe]
    if rng.random() >= chance:
        return {}
    counts: dict[str, int] = {}
    crowd = Crowd(scene, Kind.FILAMENT)
    for kind, most in (("microtubule", 6), ("actin", 25), ("intermediate", 12)):
        if rng.random() < 0.5:
            n = int(np.ceil(rng.integers(1, most + 1) * min(crowding, 2.0)))
            flat = rng.random() < 0.6
            for _ in range(n):
                add_filament(rng, scene, crowd, kind=kind, flat=flat)
            counts[kind] = n
    crowd.finish(scale=rng.uniform(0.7, 1.3))
    return counts


def _add_surroundings(
    rng: np.random.Generator, scene: Scene, recipe: TomogramRecipe, crowding: float
) -> dict[str, Any]:
    """Add gold, ice, carbon and lamella surfaces with a limited share of the variance."""
    if recipe is TomogramRecipe.SAMPLE:
        return {}
    hard = recipe in (TomogramRecipe.HELDOUT, TomogramRecipe.CELL)
    record: dict[str, Any] = {}
    steps: list[tuple[str, float, Callable[[], dict[str, Any]]]] = [
        ("gold", 0.5 if hard else 0.3, lambda: _gold(rng, scene)),
        ("ice_contamination", 0.4 if hard else 0.2, lambda: _ice(rng, scene)),
        ("carbon", 0.25 if hard else 0.12, lambda: carbon_edge(rng, scene, crowding)),
    ]
    for name, chance, step in steps:
        if rng.random() < chance:
            before = scene.density.copy()
            details = step()
            added = scene.density - before
            # The share of the variance determines whether membranes are visible at a given SNR.
            share = rng.uniform(0.1, 0.8)
            power = float(added.var(dtype=np.float64))
            limit = share * float(before.var(dtype=np.float64))
            factor = min(1.0, float(np.sqrt(limit / power))) if power > 0 else 1.0
            scene.density = before + np.float32(factor) * added
            record[name] = {**details, "density_factor": factor}
    if rng.random() < (0.4 if recipe is TomogramRecipe.CELL else 0.2):
        ice = rng.uniform(0.1, 0.6)
        coat = float(rng.choice([0.0, rng.uniform(0.1, 0.6)]))
        lamella_surfaces(rng, scene, ice_density=ice, coat_density=coat)
        record["lamella_surfaces"] = {"ice_density": ice, "coat_density": coat}
    return record


def _gold(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    diameter = float(rng.choice([50.0, 100.0, 150.0]) * rng.uniform(0.9, 1.1))
    count, density = int(rng.integers(1, 12)), rng.uniform(4.0, 25.0)
    crowd = Crowd(scene, Kind.GOLD)
    add_gold(rng, scene, crowd, n=count, diameter=diameter)
    crowd.finish(scale=density)
    return {"count": count, "diameter_angstrom": diameter, "density": density}


def _ice(rng: np.random.Generator, scene: Scene) -> dict[str, Any]:
    count, density = int(rng.integers(1, 5)), rng.uniform(0.4, 2.0)
    radii = [rng.uniform(150.0, 700.0) for _ in range(count)]
    for radius in radii:
        ice_contamination(rng, scene, radius=radius, density=density)
    return {"radii_angstrom": radii, "density": density}
