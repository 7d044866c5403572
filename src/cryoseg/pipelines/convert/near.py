"""Relate picks to the membranes of masks: distance, number and normal of the nearest one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.convert import Place, PlaceRule
from cryoseg.core.grids.resample import rescale_points
from cryoseg.core.membranes.distance import inside_closed, signed_distance
from cryoseg.core.membranes.objects import find_objects
from cryoseg.core.membranes.sampling import orientations
from cryoseg.core.membranes.surfaces import COMPONENT_COLUMN, join_surfaces, surfaces_of
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.io.inputs import stem
from cryoseg.io.pairs import mask_file
from cryoseg.io.picks.angles import RELION
from cryoseg.io.picks.sets import PickSets
from cryoseg.pipelines.segment.saved import MembraneVolume, read_membranes
from cryoseg.types import Picks

DISTANCE_COLUMN = "membrane_distance"  # angstrom
ANGLE_COLUMNS = ("membrane_rot", "membrane_tilt", "membrane_psi")  # degrees, as RELION defines them


def near_membranes(
    sets: PickSets, membranes: Path, keep: Sequence[PlaceRule], *, on_event: OnEvent
) -> PickSets:
    """Add columns about the nearest membrane to picks, and keep those at some places.

    `sets` are picks by the name of the tomogram. `membranes` is a mask, logits or labels of the only
    tomogram, or a folder of masks named after the tomograms. Picks are kept if they fulfill all rules of
    `keep`. Picks without orientations get the normals as orientations.

    Raises
    ------
    InputError
        If there is no mask for a tomogram, or the picks have no z.
    """
    if len(sets) > 1 and not membranes.is_dir():
        raise InputError(f"--near {membranes}: one mask, and {len(sets)} tomograms. Give a folder of masks.")
    related = {}
    for name, picks in sets.items():
        if picks.centers.shape[1] != 3:
            raise InputError(f"{picks.source}: --near needs points in three dimensions.")
        volume = read_membranes(mask_file(membranes, stem(name)), on_event=on_event)
        described, is_inside = _described(picks, volume, on_event)
        kept = np.ones(len(picks), bool)
        for rule in keep:
            kept &= _fulfills(rule, described, is_inside)
        if keep:
            rules = " ".join(f"--keep {rule}" for rule in keep)
            on_event(Note(text=f"{name}: {rules} keeps {kept.sum()} of {len(kept)} points."))
        related[name] = described.take(kept)
    return related


def _described(picks: Picks, volume: MembraneVolume, on_event: OnEvent) -> tuple[Picks, NDArray[np.bool_]]:
    """Return picks with the columns, and which of them are inside of a membrane."""
    surfaces = list(surfaces_of(find_objects(volume.marked), volume.voxel_size))
    count = len(picks)
    if not surfaces:
        on_event(
            Warn(text=f"{volume.source.source.name}: no component is a sheet, so that no pick is near one.")
        )
        none = np.full(count, "nan", object)
        names = (DISTANCE_COLUMN, *ANGLE_COLUMNS)
        columns = {COMPONENT_COLUMN: np.full(count, "0", object), **dict.fromkeys(names, none)}
        return replace(picks, columns={**picks.columns, **columns}), np.zeros(count, bool)
    scale = picks.pixel_size / volume.voxel_size if picks.pixel_size > 0 else 1.0
    points = rescale_points(picks.centers, scale) * volume.voxel_size
    found = signed_distance(join_surfaces(surfaces), points)
    # The angle about the normal is arbitrary.
    angles = RELION.angles(orientations(found.normal)) * [0, 1, 1]
    columns = {
        DISTANCE_COLUMN: _texts(found.distance, 2),
        COMPONENT_COLUMN: found.component.astype(str).astype(object),
        **{name: _texts(values, 3) for name, values in zip(ANGLE_COLUMNS, angles.T, strict=True)},
    }
    described = replace(
        picks,
        columns={**picks.columns, **columns},
        rotations=RELION.matrices(angles) if picks.rotations is None else picks.rotations,
    )
    return described, (found.distance < 0) | inside_closed(surfaces, points)


def _texts(values: NDArray[np.float64], digits: int) -> NDArray[np.object_]:
    return np.array([f"{value:.{digits}f}" for value in values], object)


def _fulfills(rule: PlaceRule, picks: Picks, is_inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if rule.place is Place.WITHIN:
        distance = np.abs(picks.columns[DISTANCE_COLUMN].astype(np.float64))
        return np.asarray(distance <= rule.distance_angstrom)
    return is_inside if rule.place is Place.INSIDE else ~is_inside
