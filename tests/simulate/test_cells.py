"""Crowded cytoplasm, lattices and filaments of a cell keep clear of each other and of membranes."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.simulate.cells import CELL_ARRANGEMENTS, add_assemblies, crowd_cytoplasm
from cryoseg.simulate.fields import Grid
from cryoseg.simulate.membranes import Builder, draw_lipids
from cryoseg.simulate.scene import Bilayer, Kind, Scene
from cryoseg.simulate.surfaces import vesicle

GRID = Grid(shape=(40, 96, 96), voxel_size=10.0)


def scene_with_a_sphere() -> Scene:
    scene = Scene(GRID)
    rng = np.random.default_rng(0)
    surface = vesicle(rng, GRID, center=GRID.extent / 2, radius=300.0, elongation=1.0, roughness=0.0)
    assert surface is not None
    assert scene.add(surface, Bilayer(), min_gap=0.0)
    return scene


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_cytoplasm_is_filled_to_its_share_and_leaves_membranes_free(seed: int) -> None:
    scene = scene_with_a_sphere()
    record = crowd_cytoplasm(np.random.default_rng(seed), scene)
    outside = (scene.compartment == 0) & (scene.distance > 80.0)
    filled = float(np.mean(scene.kinds[outside] > 0))
    assert 0.5 * record["share"] < filled < 1.5 * record["share"]
    assert float(np.mean(scene.kinds[scene.distance < 10.0] > 0)) < 0.01


def test_ribosomes_and_complexes_improbable_overlap() -> None:
    scene = scene_with_a_sphere()
    crowd_cytoplasm(np.random.default_rng(4), scene)
    ribosomes = (scene.kinds & Kind.RIBOSOME) > 0
    proteins = (scene.kinds & Kind.CYTOSOLIC_PROTEIN) > 0
    assert ribosomes.any()
    assert proteins.any()
    assert np.mean(ribosomes & proteins) < 0.1 * np.mean(ribosomes)


def test_lattices_and_filaments_leave_membranes_free() -> None:
    found = set()
    for seed in range(6):
        scene = scene_with_a_sphere()
        found |= {name for name, count in add_assemblies(np.random.default_rng(seed), scene).items() if count}
        assert float(np.mean(scene.kinds[scene.distance < 10.0] > 0)) < 0.06  # microtubules may touch
    assert {"lattice_molecules", "microtubule", "actin"} <= found
    assert any(name.endswith("_bundle") for name in found)


@pytest.mark.parametrize("name", list(CELL_ARRANGEMENTS))
def test_every_arrangement_adds_membranes_that_do_not_cross(name: str) -> None:
    fractions = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        scene = Scene(GRID)
        lipids = draw_lipids(rng)
        CELL_ARRANGEMENTS[name](Builder(rng, scene, lipids))
        fractions.append(float(scene.label(lipids.bilayer.thickness).mean()))
    assert max(fractions) > 0.01
    assert max(fractions) < 0.6
