"""Read and write picks files of copick: positions in angstrom from the first voxel, and matrices.

The matrix (4, 4) of a point transforms the particle into the tomogram; its translation is a shift in angstrom
that is added to the location.

Source: copick 1.31 (copick/copick@8c3c366, src/copick/models.py, `CopickPoint`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.ndjson import rotation_in
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

COPICK_COLUMNS = ("user_id", "session_id", "pickable_object_name")  # Order in the names of files.
DEFAULTS = ("cryoseg", "0", "particle")
UNIT = "angstrom"


def read_copick(path: Path, frame: PickFrame) -> PickSets:
    """Read the points of one object in one run."""
    centers, shifts, rotations, scores, tracks = [], [], [], [], []
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    try:
        content = json.loads(text)
        named = {name: str(content[name]) for name in COPICK_COLUMNS}
        unit, run = content.get("unit", UNIT), content.get("run_name") or ""
        spacing = float(content.get("voxel_spacing") or 0)
        for point in content.get("points") or ():
            centers.append([float(point["location"][axis]) for axis in "zyx"])
            matrix = point.get("transformation_")
            matrix = np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64).reshape(4, 4)
            rotations.append(rotation_in(matrix[:3, :3]))
            shifts.append(matrix[2::-1, 3])
            scores.append(np.nan if point.get("score") is None else float(point["score"]))
            tracks.append(float(point.get("instance_id") or 0))
        places = np.asarray(centers, dtype=np.float64).reshape(-1, 3)
        offsets = np.asarray(shifts, dtype=np.float64).reshape(-1, 3)
        if not (np.isfinite(places).all() and np.isfinite(offsets).all() and np.isfinite(spacing)):
            raise ValueError
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        needed = ", ".join(COPICK_COLUMNS)
        raise InputError(
            f"{path}: is no picks file of copick, or a damaged one. Give JSON with {needed} and points."
        ) from error
    if unit != UNIT:
        raise InputError(f"{path}: the unit is {str(unit)[:20]!r}, and copick writes {UNIT}. Correct it.")
    size = frame.voxel_size or spacing
    if size <= 0:
        raise InputError(f"{path}: gives no voxel size, which angstrom need. Pass --pixel-size.")
    turned = [one for one in rotations if one is not None]
    is_oriented = content.get("trust_orientation") is not False and len(turned) == len(rotations) > 0
    matrices = np.array(turned).reshape(-1, 3, 3)
    numbers = as_tracks(np.array(tracks, dtype=np.float64))
    picks = Picks(
        centers=places / size,
        scores=as_scores(np.array(scores, dtype=np.float64)) if scores else None,
        tracks=numbers if numbers is not None and numbers.any() else None,
        rotations=matrices if is_oriented and (matrices != np.eye(3)).any() else None,
        shifts=offsets / size if offsets.any() else None,
        columns={name: np.array([text] * len(places), dtype=object) for name, text in named.items()},
        pixel_size=size,
        source=path,
        warnings=()
        if len(turned) == len(rotations)
        else (f"{path.name}: a transformation is no rotation, so that no rotations are read.",),
    )
    return {str(run): picks}


def write_copick(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write a picks file, named USER_SESSION_OBJECT.json in a project of copick.

    User, session and object are those of the picks. Without them, the name of the file gives them, or they
    are `cryoseg`, `0` and `particle`.
    """
    ((run, picks),) = sets.items()
    content = copick_content(path, run, picks, frame)
    with atomic_text(path, overwrite=True) as stream:
        json.dump(content, stream, indent=2)


def copick_content(path: Path, run: str, picks: Picks, frame: PickFrame) -> dict[str, Any]:
    """Return the content of a picks file, as `write_copick` writes it.

    Raises
    ------
    OutputError
        If the voxel size is unknown.
    """
    size = frame.voxel_size or picks.pixel_size
    if size <= 0:
        raise OutputError(f"{path}: copick holds angstrom. Pass --pixel-size.")
    parts = path.stem.split("_", 2)
    named = dict(zip(COPICK_COLUMNS, parts if len(parts) == 3 and all(parts) else DEFAULTS, strict=True))
    named |= {
        name: str(picks.columns[name][0]) for name in COPICK_COLUMNS if name in picks.columns and len(picks)
    }
    count = len(picks)
    matrices = np.tile(np.eye(4), (count, 1, 1))
    if picks.rotations is not None:
        matrices[:, :3, :3] = np.round(picks.rotations, 7) + 0.0
    if picks.shifts is not None:
        matrices[:, :3, 3] = np.round(picks.shifts[:, ::-1] * size, 4)
    tracks = np.zeros(count, dtype=np.int64) if picks.tracks is None else picks.tracks
    scores = np.ones(count) if picks.scores is None else np.round(picks.scores.astype(np.float64), 5)
    return {
        "pickable_object_name": named["pickable_object_name"],
        "user_id": named["user_id"],
        "session_id": named["session_id"],
        "run_name": run,
        "voxel_spacing": size,
        "unit": UNIT,
        "points": [
            {
                "location": dict(zip("zyx", np.round(center * size, 4).tolist(), strict=True)),
                "transformation_": matrix.tolist(),
                "instance_id": int(track) + int((tracks < 1).any() and picks.tracks is not None),
                "score": float(score),
            }
            for center, matrix, track, score in zip(picks.centers, matrices, tracks, scores, strict=True)
        ],
        "trust_orientation": picks.rotations is not None,
    }
