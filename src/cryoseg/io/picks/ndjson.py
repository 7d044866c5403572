"""JSON lines of points, as the CryoET Data Portal keeps its annotations.

One object a line: `{"type": "point", "location": {"x": 1.0, "y": 2.0, "z": 3.0}}`, in voxels of the
tomogram. Oriented points and instance points are read too; an instance becomes a track.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cryoseg.errors import InputError
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

CARRIED = {"type", "location", "score", "instance_id"}


def read_ndjson(path: Path) -> Picks:
    """All points of a file.

    Raises
    ------
    InputError
        If a line is no point.
    """
    centers, scores, tracks = [], [], []
    left_out: dict[str, None] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text ({error}).") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            item = json.loads(line)
            place = item["location"]
            center = [float(place[axis]) for axis in ("z", "y", "x")]
            score, track = item.get("score"), item.get("instance_id")
            scores.append(None if score is None else float(score))
            tracks.append(None if track is None else float(track))
            if not np.isfinite(center).all():
                raise ValueError
            centers.append(center)
            left_out |= dict.fromkeys(set(item) - CARRIED)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            raise InputError(
                f"{path}: line {number} is no point with a location of x, y and z (CryoET Data Portal)."
            ) from None
    # Of None, NumPy makes NaN.
    return Picks(
        centers=np.asarray(centers, dtype=np.float64).reshape(-1, 3),
        scores=as_scores(np.asarray(scores, dtype=np.float64)) if scores else None,
        tracks=as_tracks(np.asarray(tracks, dtype=np.float64)) if tracks else None,
        source=path,
        left_out=tuple(sorted(left_out)),
    )


def write_ndjson(path: Path, picks: Picks, *, overwrite: bool = False) -> None:
    """Write points, or instance points where there are tracks."""
    with atomic_text(path, overwrite=overwrite) as stream:
        for number, (z, y, x) in enumerate(picks.centers.tolist()):
            item: dict[str, object] = {
                "type": "point" if picks.tracks is None else "instancePoint",
                "location": {"x": round(x, 4), "y": round(y, 4), "z": round(z, 4)},
            }
            if picks.tracks is not None:
                item["instance_id"] = int(picks.tracks[number])
            if picks.scores is not None:
                item["score"] = round(float(picks.scores[number]), 5)
            stream.write(json.dumps(item) + "\n")
