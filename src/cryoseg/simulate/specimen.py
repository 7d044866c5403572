"""Draw a specimen with membranes, molecules and surroundings, and a record of its parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from cryoseg.config.simulate import TomogramRecipe
from cryoseg.simulate.fields import Grid, frames_along, log_uniform, random_rotations
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
from cryoseg.simulate.surroundings import carbon_edge, ice_contamination, lamella_surfaces, lumen

_TRAIN_MIX = {
    "purified": 0.3,
    "cell": 0.25,
    "synapse": 0.13,
    "mitochondria": 0.12,
    "sheets": 0.14,
    "sponge": 0.06,
}


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A simulated specimen.

    Attributes
    ----------
    scene
        Distance, density and kinds on the padded grid.
    thickness
        Thickness of the labeled bilayer in angstrom.
    record
        Parameters, ready for JSON.
    """

    scene: Scene
    thickness: float
    record: dict[str, Any] = field(default_factory=dict)


def build_specimen(
    rng: np.random.Generator, grid: Grid, recipe: TomogramRecipe, *, crowding: float = 1.0
) -> Specimen:
    """Draw a specimen.

    Parameters
    ----------
    recipe
        Mixture of specimens.
    crowding
        Factor of the number of distractors.
    """
    lipids = draw_lipids(rng)
    scene = Scene(grid)
    build = Builder(rng, scene, lipids)
    if recipe is TomogramRecipe.SAMPLE:
        name = "sample"
    else:
        name = str(rng.choice(list(_TRAIN_MIX), p=list(_TRAIN_MIX.values())))
    for _ in range(6):
        ARRANGEMENTS[name](build)
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
    hard = recipe is TomogramRecipe.HELDOUT
    record: dict[str, Any] = {}
    steps: list[tuple[str, float, Callable[[], dict[str, Any]]]] = [
        ("gold", 0.5 if hard else 0.3, lambda: _gold(rng, scene)),
        ("ice_contamination", 0.4 if hard else 0.2, lambda: _ice(rng, scene)),
        ("carbon", 0.25 if hard else 0.12, lambda: _carbon(rng, scene, crowding)),
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
    if rng.random() < 0.2:
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


def _carbon(rng: np.random.Generator, scene: Scene, crowding: float) -> dict[str, Any]:
    coverage = float(min(rng.uniform(0.08, 0.4) * crowding, 0.5))
    thickness, density = rng.uniform(100.0, 220.0), rng.uniform(0.5, 1.5)
    carbon_edge(rng, scene, coverage=coverage, thickness=thickness, density=density)
    return {"coverage": coverage, "thickness_angstrom": thickness, "density": density}
