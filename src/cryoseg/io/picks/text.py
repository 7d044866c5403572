"""Read and write text files of picks: CSV, tables of CET-pick and Topaz, .coords, output of model2point."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import CoordsOrder
from cryoseg.core.grids.axes import inside
from cryoseg.errors import InputError, reading
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.imod_model import CORNER_XYZ
from cryoseg.io.picks.sets import PickSets
from cryoseg.types import FloatArray, Picks

_ALIASES = {
    "x": ("x", "x_coord", "x_px", "rlncoordinatex", "x-coordinate", "position_x"),
    "y": ("y", "y_coord", "y_px", "rlncoordinatey", "y-coordinate", "position_y"),
    "z": ("z", "z_coord", "z_px", "rlncoordinatez", "z-coordinate", "position_z"),
    "score": ("score", "rlnautopickfigureofmerit", "confidence"),
    "track": ("track", "filament"),
    "diameter": ("diameter", "diameter_px"),
    "radius": ("radius", "radius_px"),
    "name": (
        "image_name",
        "tomogram",
        "image",
        "micrograph",
        "rlntomoname",
        "rlnmicrographname",
        "micrograph_name",
        "micrographs filename",  # CryoPPP's tables of a whole data set
        "name",
    ),
}
_DECIMAL_COMMA = re.compile(r"^([-+]?\d*),(\d+)$")
_NAPARI_AXIS = re.compile(r"axis-\d")  # Axes of points that napari saves, from 0 in the order of the array.
LIST_COLUMNS = ("rec_path", "path")  # Newer and older spelling.


def _rows(path: Path) -> list[list[str]]:
    with reading(path):
        text = path.read_text(encoding="utf-8-sig")
    lines = [line for line in text.split("\n") if line.strip()]
    begin = next((at for at, line in enumerate(lines) if not line.lstrip().startswith("#")), len(lines))
    first = "".join(lines[begin : begin + 1])
    # Excel separates columns by semicolons where the comma is the decimal separator.
    delimiter = next((mark for mark in "\t;," if mark in first), None)
    # An image may be called #1.mrc: its row has the cells of the others.
    lines = [
        line
        for line in lines[begin:]
        if not line.lstrip().startswith("#")
        or (delimiter is not None and line.count(delimiter) == first.count(delimiter))
    ]
    if delimiter is None:
        return [line.split() for line in lines]
    try:
        rows = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise InputError(f"{path}: cannot be read as a table ({error}). Write it again.") from error
    if delimiter == ";":
        rows = [[_DECIMAL_COMMA.sub(r"\1.\2", cell) for cell in row] for row in rows]
    return rows


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _numbers(path: Path, rows: list[list[str]], columns: list[int], first_line: int) -> NDArray[np.float64]:
    values = np.empty((len(rows), len(columns)))
    for number, row in enumerate(rows):
        try:
            values[number] = [float(row[column]) for column in columns]
            if not np.isfinite(values[number]).all():
                raise ValueError
        except (ValueError, IndexError):
            raise InputError(
                f"{path}: line {number + first_line} is {' '.join(row)!r}, not numbers in every column."
            ) from None
    return values


def _optional(path: Path, rows: list[list[str]], column: int | None) -> NDArray[np.float64] | None:
    """Return (n,) numbers of a column, NaN for empty cells; None if the column is missing."""
    if column is None:
        return None
    filled = [number for number, row in enumerate(rows) if len(row) > column and row[column]]
    values = np.full(len(rows), np.nan)
    for number in filled:
        values[number] = _numbers(path, [rows[number]], [column], number + 2)[0, 0]
    return values


def _complete(values: NDArray[np.float64] | None, chosen: NDArray[np.bool_]) -> NDArray[np.float64] | None:
    """Return the chosen values, or None if one of them is missing."""
    if values is None or np.isnan(values[chosen]).any():
        return None
    return np.asarray(values[chosen])


def is_topaz_table(path: Path) -> bool:
    """Whether the header of a table is that of Topaz: image_name, x_coord, y_coord, and no z_coord."""
    if path.suffix.lower() not in (".txt", ".tsv", ".csv"):
        return False
    cells = {*_first_cells(path)}
    return {"image_name", "x_coord", "y_coord"} <= cells and "z_coord" not in cells


def read_csv(path: Path, frame: PickFrame) -> PickSets:
    """Read CSV or TSV with a header, or numbers without one, by the name of the tomogram ("" without names).

    Columns are found by their names in the header (x, y, z; x_coord and so on; score; image_name). The header
    identifies coordinate files of CET-pick, whose z is the thickness axis. Without a header, the columns are
    x, y, z of model2point, from the corner of the volume.
    """
    rows = _rows(path)
    if not rows:
        return {"": Picks(centers=np.empty((0, 3)), source=path)}
    if all(_is_number(cell) for cell in rows[0]):
        return {"": _read_bare(path, rows)}
    header = [cell.lower() for cell in rows[0]]
    if len(axes := sorted(filter(_NAPARI_AXIS.fullmatch, header))) in (2, 3):
        renamed = dict(zip(axes, "zyx"[-len(axes) :], strict=True))
        header = [renamed.get(cell, cell) for cell in header]
    where = {
        key: next((header.index(a) for a in names if a in header), None) for key, names in _ALIASES.items()
    }
    columns_zyx = [at for axis in "zyx" if (at := where[axis]) is not None]
    if twice := [cell for at, cell in enumerate(header) if at in where.values() and header.count(cell) > 1]:
        raise InputError(f"{path}: the header names {twice[0]} twice. Rename one of the columns.")
    if where["x"] is None or where["y"] is None:
        raise InputError(f"{path}: the header is {', '.join(rows[0])}; columns x, y (and z) are needed.")
    if len(rows) == 1:
        return {"": Picks(centers=np.empty((0, len(columns_zyx))), source=path)}
    at = where["name"]
    for number, row in enumerate(rows[1:], 2):
        if any(row[len(header) :]) or (at is not None and len(row) <= at):
            raise InputError(
                f"{path}: line {number} has {len(row)} cells and the header {len(header)}. Correct it."
            )
    centers = _numbers(path, rows[1:], columns_zyx, 2)
    if {"image_name", "x_coord", "y_coord", "z_coord"} <= {*header}:
        centers = frame.from_cetpick(centers)
    names = np.array(["" if at is None else row[at] for row in rows[1:]], dtype=object)
    extra = {key: _optional(path, rows[1:], where[key]) for key in ("score", "track", "diameter", "radius")}
    sizes = extra["diameter"] if extra["radius"] is None else 2 * extra["radius"]
    used = set(where.values())
    columns = {
        cell: np.array([row[at] if len(row) > at else "" for row in rows[1:]], dtype=object)
        for at, cell in enumerate(rows[0])
        if at not in used and cell
    }
    sets: PickSets = {}
    for name in dict.fromkeys(names.tolist()):
        chosen = np.asarray(names == name)
        scores, size = as_scores(_complete(extra["score"], chosen)), _complete(sizes, chosen)
        sets[name] = Picks(
            centers=centers[chosen],
            scores=scores,
            tracks=as_tracks(_complete(extra["track"], chosen)),
            diameter_px=0.0 if size is None else float(np.median(size)),
            source=path,
            columns={name: texts[chosen] for name, texts in columns.items()},
            warnings=missing_scores(path, scores, extra["score"], chosen),
        )
    return sets


def _read_bare(path: Path, rows: list[list[str]]) -> Picks:
    """Read numbers without a header: output of IMOD's model2point, or x, y, z and a score."""
    width = len(rows[0])
    for number, row in enumerate(rows, 1):
        if len(row) != width:
            raise InputError(f"{path}: line {number} has {len(row)} numbers and the first line {width}.")
    if not 3 <= width <= 5:
        raise InputError(
            f"{path}: {width} numbers a line; model2point writes x, y, z, and one or two numbers of object "
            "and contour before them. Write a header such as x,y,z,score."
        )
    values = _numbers(path, rows, list(range(width)), 1)
    before = values[:, : width - 3]
    # With -object or -contour, IMOD puts one or two whole numbers in front, from 1.
    are_contours = bool(((before == np.round(before)) & (before >= 1)).all())
    if width == 4:
        are_scores = bool(((values[:, 3] >= 0) & (values[:, 3] <= 1)).all())
        are_contours &= bool((np.diff(before[:, 0]) >= 0).all())
        if are_scores == are_contours:
            raise InputError(
                f"{path}: the four numbers of a line may be x, y, z, score or contour, x, y, z. Write a "
                "header such as x,y,z,score."
            )
        if are_scores:
            return Picks(
                centers=values[:, 2::-1].copy(),
                scores=as_scores(values[:, 3]),
                source=path,
                warnings=(
                    f"{path.name}: has no header, and its lines are read as x, y, z, score in voxels.",
                ),
            )
    elif not are_contours:
        raise InputError(f"{path}: begins lines with {rows[0][:2]}, no numbers of objects. Write a header.")
    xyz = values[:, width - 3 :] - CORNER_XYZ
    said = (
        f"{path.name}: has no header, and its lines are read as IMOD's model2point writes them: x, y, z from "
        "the corner of the first voxel."
    )
    return Picks(centers=xyz[:, ::-1].copy(), source=path, warnings=(said,))


def read_coords(path: Path, frame: PickFrame) -> PickSets:
    """Read a .coords file: x, y, z of TomoTwin and crYOLO, or CET-pick's x, z, y and a score.

    The frame may give the order. Otherwise it is the one in which all points lie inside the volume. If that
    does not decide, fractions are of TomoTwin, and whole numbers with scores are of CET-pick.
    """
    rows = _rows(path)
    if not rows:
        return {"": Picks(centers=np.empty((0, 3)), source=path)}
    width = len(rows[0])
    odd = next((number for number, row in enumerate(rows, 1) if len(row) != width), None)
    if width not in (3, 4) or odd is not None:
        raise InputError(
            f"{path}: line {odd or 1} has {len(rows[(odd or 1) - 1])} columns; .coords files have three, and "
            "perhaps a score, in every line."
        )
    values = _numbers(path, rows, list(range(width)), 1)
    scores = as_scores(values[:, 3]) if width == 4 else None
    read = {
        CoordsOrder.XYZ: values[:, 2::-1].copy(),
        CoordsOrder.XZY: frame.from_cetpick(values[:, [1, 2, 0]]),
    }
    if frame.coords_order is not None:
        return {"": Picks(centers=read[frame.coords_order], scores=scores, source=path)}
    shape = frame.shape if frame.shape is not None and len(frame.shape) == 3 else None
    fitting = [order for order in read if shape and inside(read[order], shape).all()]
    if (read[CoordsOrder.XYZ] == read[CoordsOrder.XZY]).all():
        return {"": Picks(centers=read[CoordsOrder.XYZ], scores=scores, source=path)}
    if len(fitting) == 1:
        order, why = fitting[0], "all points lie inside the volume only so"
    elif (values[:, :3] != np.round(values[:, :3])).any():
        order, why = CoordsOrder.XYZ, "CET-pick writes whole numbers"
    elif scores is not None:
        order, why = CoordsOrder.XZY, "CET-pick writes whole numbers and a score"
    else:
        raise InputError(
            f"{path}: the columns may be x, y, z (TomoTwin, crYOLO) or x, z, y (CET-pick). Pass "
            "--coords-order xyz or xzy to `cryoseg convert` or `train cet-pick`."
        )
    said = (
        f"{path.name}: the columns are read as {', '.join(order)}, because {why} (--coords-order overrides)."
    )
    return {"": Picks(centers=read[order], scores=scores, source=path, warnings=(said,))}


def write_coords(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write whole numbers x, z, y and a score, if there is one, separated by tabs, as CET-pick does."""
    (picks,) = sets.values()
    whole = np.round(frame.to_cetpick(picks.centers)).astype(int)
    with atomic_text(path, overwrite=True) as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
        for number, (z, y, x) in enumerate(whole.tolist()):
            score = [] if picks.scores is None else [f"{picks.scores[number]:.5f}"]
            writer.writerow([x, z, y, *score])


def write_csv(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write name, x, y, z in voxels, and scores, tracks and further columns if the picks have them."""
    scored = any(picks.scores is not None for picks in sets.values())
    tracked = any(picks.tracks is not None for picks in sets.values())
    flat = any(picks.centers.shape[1] == 2 for picks in sets.values())
    header = ["tomogram", "x", "y"] if not flat else ["image", "x", "y"]
    header += ([] if flat else ["z"]) + ["score"] * scored + ["track"] * tracked
    further = dict.fromkeys(name for picks in sets.values() for name in picks.columns)
    with atomic_text(path, overwrite=True) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*header, *further])
        for name, picks in sets.items():
            for number, center in enumerate(picks.centers):
                row = [name, *(f"{value:.4f}" for value in center[::-1])]
                if scored:
                    row.append("" if picks.scores is None else f"{picks.scores[number]:.5f}")
                if tracked:
                    row.append("" if picks.tracks is None else str(int(picks.tracks[number])))
                row += [picks.columns[key][number] if key in picks.columns else "" for key in further]
                writer.writerow(row)


def read_cetpick_list(path: Path) -> dict[str, Path]:
    """Read CET-pick's list of tomograms, with either of its two headers, as files by name.

    A relative path is relative to the folder of the list, or to the current folder if it is not there.

    Raises
    ------
    InputError
        If a column is missing.
    """
    rows = _rows(path)
    header = [cell.lower() for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in LIST_COLUMNS if name in header), None)
    if column is None or "image_name" not in header:
        raise InputError(
            f"{path}: the header must name the columns image_name and rec_path (or path), tab-separated."
        )
    name = header.index("image_name")
    found: dict[str, Path] = {}
    for number, row in enumerate(rows[1:], 2):
        if len(row) <= max(name, column):
            raise InputError(f"{path}: line {number} has {len(row)} columns.")
        given = Path(row[column])
        beside = path.parent / given
        found[row[name]] = beside if not given.is_absolute() and beside.exists() else given
    return found


def is_cetpick_list(path: Path) -> bool:
    """Whether a text file is CET-pick's list of tomograms, by its header."""
    cells = _first_cells(path)
    return "image_name" in cells and not {*cells}.isdisjoint(LIST_COLUMNS)


def is_coordinate_table(path: Path) -> bool:
    """Whether a text file contains coordinates, such as those of Topaz, and not a list of files."""
    cells = _first_cells(path)
    is_header = all(not {*cells}.isdisjoint(_ALIASES[axis]) for axis in "xy")
    return is_header or (len(cells) > 1 and all(map(_is_number, cells)))


def _first_cells(path: Path) -> list[str]:
    """Return the cells of the first line of a text, in lower case; none if the file cannot be read."""
    try:
        with path.open(encoding="utf-8-sig") as stream:
            first = next((line for line in stream if line.strip() and not line.startswith("#")), "")
    except (OSError, UnicodeDecodeError):
        return []
    return first.lower().replace(",", " ").split()


LARGEST_WHOLE = 2**53  # Floats do not represent all larger integers.


def as_scores(values: NDArray[np.float64] | None) -> FloatArray | None:
    """Return (n,) scores as float32, or None if one is missing or infinite."""
    if values is None:
        return None
    with np.errstate(over="ignore"):
        scores = values.astype(np.float32)
    return scores if np.isfinite(scores).all() else None


def missing_scores(
    path: Path,
    scores: FloatArray | None,
    column: NDArray[np.float64] | None,
    chosen: NDArray[np.bool_] | slice = slice(None),
) -> tuple[str, ...]:
    """Return a warning if the (n,) scores of an image are left out because its column lacks some of them.

    The column has one value for each row of the file, NaN where there is none, and `chosen` selects the rows
    of the image.
    """
    if scores is not None or column is None or not np.isfinite(column[chosen]).any():
        return ()
    return (f"{path.name}: only some of the points have a score, so that all scores are left out.",)


def as_tracks(values: NDArray[np.float64] | None) -> NDArray[np.int64] | None:
    """Return (n,) numbers as integers, or None if one is missing or too large."""
    if values is None or not np.isfinite(values).all() or (np.abs(values) > LARGEST_WHOLE).any():
        return None
    return values.astype(np.int64)
