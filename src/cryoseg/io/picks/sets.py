"""Picks of several images by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from cryoseg.errors import InputError
from cryoseg.types import Picks

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
    """Picks of one image together; scores and tracks stay where all parts have them."""
    first = parts[0]
    if len({picks.centers.shape[1] for picks in parts}) > 1:
        raise InputError(
            f"{first.source}: points of one image have a z only in a part. Give all of them one."
        )
    if len(parts) == 1:
        return first
    scores = [picks.scores for picks in parts if picks.scores is not None]
    tracks = [picks.tracks for picks in parts if picks.tracks is not None]
    sizes = {picks.diameter_px for picks in parts}
    return Picks(
        centers=np.concatenate([picks.centers for picks in parts]),
        scores=np.concatenate(scores) if len(scores) == len(parts) else None,
        tracks=np.concatenate(tracks) if len(tracks) == len(parts) else None,
        shape=first.shape,
        pixel_size=first.pixel_size,
        diameter_px=float(np.median([*sizes])),
        source=first.source,
        warnings=tuple(dict.fromkeys(text for picks in parts for text in picks.warnings)),
        left_out=tuple(dict.fromkeys(name for picks in parts for name in picks.left_out)),
    )
