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
    """Picks by name; those of one name follow each other in one set.

    Raises
    ------
    InputError
        If points of one image have two dimensions in one place and three in another.
    """
    named: dict[str, list[Picks]] = {}
    for name, picks in parts:
        named.setdefault(name, []).append(picks)
    return {name: join_picks(several) for name, several in named.items()}


def join_picks(parts: Sequence[Picks]) -> Picks:
    """Join picks of one image; what belongs to each pick, such as scores, is kept where all parts have it."""
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


def applied_shifts(picks: Picks) -> Picks:
    """Add the shifts to the centers, and say so in a warning."""
    if picks.shifts is None:
        return picks
    moved = int(picks.shifts.any(axis=1).sum())
    said = f"{picks.source.name}: the shifts of {moved} of {len(picks)} points were added to the coordinates."
    warnings = (*picks.warnings, said) if moved else picks.warnings
    return replace(picks, centers=picks.centers + picks.shifts, shifts=None, warnings=warnings)
