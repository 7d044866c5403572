"""Picks of several images by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from cryoseg.errors import InputError
from cryoseg.types import PER_PICK, Picks

PickSets = dict[str, Picks]


def collect(parts: Iterable[tuple[str, Picks]]) -> PickSets:
    """Join the picks of equal names, in their order."""
    named: dict[str, list[Picks]] = {}
    for name, picks in parts:
        named.setdefault(name, []).append(picks)
    return {name: join_picks(several) for name, several in named.items()}


def join_picks(parts: Sequence[Picks]) -> Picks:
    """Join picks of one image; scores and other values of each pick are kept if all parts have them.

    Raises
    ------
    InputError
        If some of the points have two dimensions and others three.
    """
    first = parts[0]
    if len({picks.centers.shape[1] for picks in parts}) > 1:
        raise InputError(
            f"{first.source}: points of one image have a z only in a part. Give all of them one."
        )
    if len(parts) == 1:
        return first
    arrays = {name: [getattr(picks, name) for picks in parts] for name in PER_PICK}
    joined: dict[str, Any] = {
        name: None if any(one is None for one in several) else np.concatenate(several)
        for name, several in arrays.items()
    }
    return replace(
        first,
        centers=np.concatenate([picks.centers for picks in parts]),
        columns={
            name: np.concatenate([picks.columns[name] for picks in parts])
            for name in first.columns
            if all(name in picks.columns for picks in parts)
        },
        diameter_px=float(np.median([*{picks.diameter_px for picks in parts}])),
        warnings=tuple(dict.fromkeys(text for picks in parts for text in picks.warnings)),
        **joined,
    )


def applied_shifts(sets: PickSets) -> PickSets:
    """Add the shifts to the centers, and add a warning to the images with shifts."""
    shifted = {name: picks.shifts for name, picks in sets.items() if picks.shifts is not None}
    moved = sum(int(shifts.any(axis=1).sum()) for shifts in shifted.values())
    count = sum(len(picks) for picks in sets.values())
    applied = dict(sets)
    for name, shifts in shifted.items():
        picks = sets[name]
        said = f"{picks.source.name}: shifts were added to the coordinates of {moved} of {count} points."
        warnings = (*picks.warnings, said) if moved else picks.warnings
        applied[name] = replace(picks, centers=picks.centers + shifts, shifts=None, warnings=warnings)
    return applied


def shared_fields(sets: PickSets) -> tuple[PickSets, list[str]]:
    """Remove fields and columns that only some of the images have, and return their names too.

    Images without shifts get shifts of 0.
    """
    if any(picks.shifts is not None for picks in sets.values()):
        sets = {
            name: picks if picks.shifts is not None else replace(picks, shifts=np.zeros_like(picks.centers))
            for name, picks in sets.items()
        }
    missing = {
        name
        for name in PER_PICK
        for picks in sets.values()
        if getattr(picks, name) is None and any(getattr(one, name) is not None for one in sets.values())
    }
    columns = dict.fromkeys(name for picks in sets.values() for name in picks.columns)
    partial = [name for name in columns if any(name not in picks.columns for picks in sets.values())]
    none: dict[str, Any] = dict.fromkeys(missing)
    shared = {
        name: replace(
            picks, columns={key: texts for key, texts in picks.columns.items() if key not in partial}, **none
        )
        for name, picks in sets.items()
    }
    return shared, [*sorted(missing), *partial]
