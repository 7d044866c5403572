"""`cryoseg convert`: coordinates from one format to another."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from cryoseg.config.pick import PickFormat
from cryoseg.core.grids.resample import rescale_points
from cryoseg.errors import ConfigError, InputError
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import PICKS_TAG, SUFFIXES, PickSets, read_picks, write_picks
from cryoseg.types import Picks


def flavor_for(path: Path) -> PickFormat:
    """The format that a file name asks for; STAR is in tomogram voxels.

    Raises
    ------
    ConfigError
        If the suffix is none that can be written.
    """
    for flavor, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return flavor
    raise ConfigError(
        f"{path}: cannot write this format. Known suffixes are {', '.join(sorted(set(SUFFIXES.values())))}."
    )


def convert_picks(
    source: Path,
    target: Path,
    *,
    frame: PickFrame,
    flavor: PickFormat | None = None,
    unbinned: bool = False,
    scale: float = 1.0,
    flip: str = "",
    name: str | None = None,
    diameter_px: float | None = None,
    score_threshold: float | None = None,
    overwrite: bool = False,
) -> int:
    """Read, transform, write.

    Parameters
    ----------
    source, target
        Files; the suffixes name the formats.
    frame
        Of the tomogram, for formats that need it.
    flavor
        Which STAR; None goes by the suffix of `target`.
    unbinned
        `source` is RELION 4's STAR.
    scale
        Factor from the voxels of `source` to those of `target`.
    flip
        Axes to mirror, such as "y" or "xz"; needs `frame.shape`. Voxel k becomes n - 1 - k of the
        scaled volume, whose shape `frame.shape` is.
    name
        Of the image, where `source` gives none; None takes that of `source`, less `PICKS_TAG`.
    diameter_px
        Of the particle, in pixels of `target`, for formats of boxes; None takes that of `source`, scaled.
    score_threshold
        Picks of greater scores are kept; None keeps all.
    overwrite
        Replace `target`.

    Returns
    -------
    int
        Points written.

    Raises
    ------
    InputError
        If a flip lacks the shape, or a threshold the scores.
    """
    sets = read_picks(source, frame, unbinned=unbinned)
    moved: PickSets = {}
    own = source.stem.removesuffix(PICKS_TAG)
    for key, found in sets.items():
        picks = found if score_threshold is None else _above(found, score_threshold, source)
        centers = rescale_points(picks.centers, scale) if scale != 1.0 else picks.centers
        if flip:
            if frame.shape is None:
                raise InputError("--flip needs the image's size: --size (x, y, z; or x, y), or --image.")
            centers = centers.copy()
            for axis in flip.lower():
                index = "zyx".index(axis) - 3
                if -index > min(centers.shape[1], len(frame.shape)):
                    raise InputError(f"--flip {axis}: {source} and the image have no such axis. Flip x or y.")
                centers[:, index] = frame.shape[index] - 1 - centers[:, index]
        moved[key or name or own] = replace(
            picks,
            centers=np.asarray(centers),
            shape=frame.shape,
            pixel_size=frame.voxel_size,
            diameter_px=diameter_px or picks.diameter_px * scale,
        )
    write_picks(target, moved, frame, flavor=flavor or flavor_for(target), overwrite=overwrite)
    return sum(len(picks) for picks in moved.values())


def _above(picks: Picks, threshold: float, source: Path) -> Picks:
    if picks.scores is None:
        raise InputError(f"{source}: gives no scores, which --score-threshold needs. Leave the option out.")
    chosen = picks.scores > threshold
    return replace(
        picks,
        centers=picks.centers[chosen],
        scores=picks.scores[chosen],
        tracks=None if picks.tracks is None else picks.tracks[chosen],
    )
