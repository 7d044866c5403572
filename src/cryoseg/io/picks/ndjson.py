"""Read and write points as JSON lines, as the CryoET Data Portal stores its annotations.

Each line has one object, `{"type": "point", "location": {"x": 1.0, "y": 2.0, "z": 3.0}}`, in voxels of the
tomogram. An `orientedPoint` also has a rotation matrix, and an `instancePoint` the number of a track.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError, reading
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.angles import are_rotations
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

TYPES = ("point", "orientedPoint", "instancePoint")
MATRIX = "xyz_rotation_matrix"
READ = {"type", "location", "score", "instance_id", MATRIX}


def read_ndjson(path: Path, frame: PickFrame) -> PickSets:
    """Read all points of a file."""
    items: list[dict[str, Any]] = []
    centers = []
    with reading(path):
        lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            place = item["location"]
            center = [float(place[axis]) for axis in ("z", "y", "x")]
            for key in ("score", "instance_id"):
                item[key] = np.nan if item.get(key) is None else float(item[key])
            if not np.isfinite(center).all():
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise InputError(
                f"{path}: line {number} is no point with a location of x, y and z (CryoET Data Portal)."
            ) from None
        items.append(item)
        centers.append(center)
    matrices = [matrix for item in items if (matrix := rotation_in(item.get(MATRIX))) is not None]
    missing = len(items) - len(matrices) if any(MATRIX in item for item in items) else 0
    keys = dict.fromkeys(key for item in items for key in item if key not in READ)
    picks = Picks(
        centers=np.asarray(centers, dtype=np.float64).reshape(-1, 3),
        scores=as_scores(np.array([item["score"] for item in items])) if items else None,
        tracks=as_tracks(np.array([item["instance_id"] for item in items])) if items else None,
        rotations=np.array(matrices) if matrices and not missing else None,
        columns={key: np.array([as_text(item.get(key)) for item in items], dtype=object) for key in keys},
        source=path,
        warnings=(
            f"{path.name}: {missing} of {len(items)} points have no rotation matrix; no rotations are read.",
        )
        if missing
        else (),
    )
    return {"": picks}


def rotation_in(value: object) -> NDArray[np.float64] | None:
    """Return the rotation matrix (3, 3) in nested lists, or None if they are not a rotation."""
    try:
        matrix = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        return None
    return matrix if matrix.shape == (3, 3) and are_rotations(matrix[None]) else None


def as_text(value: object) -> str:
    """Return the text of a column for a value of JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def as_value(text: str) -> object:
    """Return the value of a text in JSON, or the text itself if it is not JSON."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except ValueError:
        return text


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def write_ndjson(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write points, oriented points where there are rotations, or instance points where there are tracks."""
    (picks,) = sets.values()
    kind = TYPES[0] if picks.tracks is None else TYPES[2]
    kind = kind if picks.rotations is None else TYPES[1]
    with atomic_text(path, overwrite=True) as stream:
        for number, (z, y, x) in enumerate(picks.centers.tolist()):
            item: dict[str, object] = {
                "type": kind,
                "location": {"x": round(x, 4), "y": round(y, 4), "z": round(z, 4)},
            }
            if picks.rotations is not None:
                item[MATRIX] = (np.round(picks.rotations[number], 7) + 0.0).tolist()
            if picks.tracks is not None:
                item["instance_id"] = int(picks.tracks[number])
            if picks.scores is not None:
                item["score"] = round(float(picks.scores[number]), 5)
            further = {key: as_value(texts[number]) for key, texts in picks.columns.items()}
            stream.write(json.dumps(item | further | item) + "\n")
