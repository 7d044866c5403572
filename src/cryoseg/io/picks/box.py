"""Box files of micrographs: EMAN's .box, crYOLO's .cbox, and CryoPPP's table.

Boxes are given by the corner with the smallest x and y; a box of side s about the pixel x begins at
x - s / 2, as EMAN, RELION and crYOLO have it.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.star import loop_block, read_tables, write_blocks
from cryoseg.types import Picks

CBOX_VERSION = 1.0
CBOX_TABLE = "cryolo"
HELIX_BEGINS, HELIX_ENDS = -1.0, -2.0  # The fifth column of EMAN's helix boxer.
CRYOPPP_HEADER = ("X-Coordinate", "Y-Coordinate", "Diameter")
_CBOX_COLUMNS = (
    "CoordinateX",
    "CoordinateY",
    "CoordinateZ",
    "Width",
    "Height",
    "Depth",
    "EstWidth",
    "EstHeight",
    "Confidence",
    "NumBoxes",
    "Angle",
)


def read_box(path: Path, frame: PickFrame) -> PickSets:
    """Read EMAN's .box: a line has corner x, corner y, width, height in pixels, and perhaps a fifth number.

    The ends of a helix (-1 and -2 in the fifth column of EMAN's helix boxer) become two points of a track,
    and the boxes that follow a line `#helix` of EMAN2 or crYOLO become points of one track.
    """
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    rows, tracks, ends = [], [], []
    helices = 0
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            helices += line.lstrip().lower().startswith("#helix")
            continue
        cells = line.replace(",", " ").split()
        try:
            x, y, width, height = (float(cell) for cell in cells[:4])
            fifth = float(cells[4]) if len(cells) > 4 else 0.0
        except ValueError:
            raise InputError(
                f"{path}: line {number} is {line.strip()!r}; a box is x, y, width and height in pixels."
            ) from None
        if not np.isfinite((x, y, width, height)).all():
            raise InputError(f"{path}: line {number} is {line.strip()!r}; a box has finite numbers.")
        rows.append((y + height / 2, x + width / 2, (width + height) / 2))
        tracks.append(helices - 1)
        ends.append(fifth if fifth in (HELIX_BEGINS, HELIX_ENDS) else 0.0)
    table = np.array(rows).reshape(-1, 3)
    picks = Picks(centers=table[:, :2], diameter_px=_middle(table[:, 2]), source=path)
    if any(ends):
        if ends != [HELIX_BEGINS, HELIX_ENDS] * (len(ends) // 2):
            raise InputError(
                f"{path}: lines of a helix that begins (-1) and ends (-2) do not alternate. Correct the file."
            )
        said = f"{path.name}: holds the two ends of {len(ends) // 2} filaments, not particles."
        picks = replace(picks, tracks=np.arange(len(ends)) // 2, warnings=(said,))
    elif helices and min(tracks, default=-1) >= 0:
        picks = replace(picks, tracks=np.array(tracks))
    return {"": picks}


def write_box(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write boxes as EMAN does, with whole numbers separated by tabs and without scores."""
    (picks,) = sets.values()
    side = max(2, 2 * round(_side(path, picks) / 2))
    with atomic_text(path, overwrite=True) as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        for y, x in picks.centers:
            writer.writerow([round(x - side / 2), round(y - side / 2), side, side])


def read_cbox(path: Path, frame: PickFrame) -> PickSets:
    """Read crYOLO's .cbox; points have a z if the file gives the z of the boxes."""
    table = dict(read_tables(path, what="CBOX")).get(CBOX_TABLE)
    if table is None:
        raise InputError(f"{path}: has no table data_{CBOX_TABLE}; give a .cbox of crYOLO 1.8 or later.")
    if not {"CoordinateX", "CoordinateY", "Width", "Height"} <= set(table.columns):
        if len(table.columns) == 0 or len(table) == 0:
            return {"": Picks(centers=np.empty((0, 2)), source=path)}
        raise InputError(f"{path}: lacks one of the columns CoordinateX, CoordinateY, Width, Height.")
    numbers = {
        name: pd.to_numeric(table[name], errors="coerce").to_numpy(np.float64) for name in table.columns
    }
    centers = [numbers["CoordinateY"] + numbers["Height"] / 2, numbers["CoordinateX"] + numbers["Width"] / 2]
    z = numbers.get("CoordinateZ")
    if z is not None and len(z) and not np.isnan(z).any():
        centers.insert(0, z)
    places = np.stack(centers, axis=1)
    if not np.isfinite(places).all():
        raise InputError(f"{path}: a coordinate or a width is no number. Write the file again.")
    confidence = numbers.get("Confidence")
    scores = None if confidence is None or np.isnan(confidence).any() else confidence.astype(np.float32)
    size = numbers.get("EstWidth", numbers["Width"])
    size = np.where(np.isnan(size), numbers["Width"], size)
    return {"": Picks(centers=places, scores=scores, diameter_px=_middle(size), source=path)}


def write_cbox(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write version 1.0 of crYOLO's .cbox, with the size of the box as the estimated size."""
    (picks,) = sets.values()
    side = _side(path, picks)
    n = len(picks)
    scores = np.ones(n) if picks.scores is None else picks.scores.astype(np.float64)
    missing = ["<NA>"] * n
    values: list[Iterable[object]] = [
        np.round(picks.centers[:, 1] - side / 2, 4),
        np.round(picks.centers[:, 0] - side / 2, 4),
        missing,
        np.full(n, side),
        np.full(n, side),
        missing,
        np.full(n, side),
        np.full(n, side),
        np.round(scores, 5),
        missing,
        missing,
    ]
    write_blocks(
        path,
        f"data_global\n\n_cbox_format_version\t\t\t{CBOX_VERSION}\n\n\n",
        loop_block(CBOX_TABLE, dict(zip(_CBOX_COLUMNS, values, strict=True)), path),
        loop_block(f"{CBOX_TABLE}_include", {"slice_index": []}, path),
    )


def write_cryoppp(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write CryoPPP's table of centers and diameters in pixels, without scores."""
    (picks,) = sets.values()
    side = _side(path, picks)
    with atomic_text(path, overwrite=True) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(CRYOPPP_HEADER)
        writer.writerows([f"{x:.2f}", f"{y:.2f}", f"{side:g}"] for y, x in picks.centers)


def _middle(values: np.ndarray) -> float:
    return float(np.median(values)) if len(values) else 0.0


def _side(path: Path, picks: Picks) -> float:
    if picks.diameter_px <= 0:
        raise OutputError(
            f"{path}: this format holds the size of the particle. Pass --particle-diameter-px in pixels."
        )
    return picks.diameter_px
