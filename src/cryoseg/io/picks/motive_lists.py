"""Read and write tables of subtomograms: Dynamo's .tbl, motive lists in .em, and STOPGAP's STAR.

Sources: the columns of Dynamo, teamtomo/dynamotable@8e8e148, dynamotable/convention.py; the rows of motive
lists of TOM and AV3 and the columns of STOPGAP, turonova/cryoCAT@b63ad22, cryocat/core/cryomotl.py. Motive
lists and STOPGAP count voxels from 1 (copick/copick@0840781, src/copick/util/formats.py); positions in Dynamo
tables are taken from 0, as in that file. In all of them, the shift is added to the position. A table map of
Dynamo gives the numbers and files of tomograms; it lies beside the table with the suffix .doc
(teamtomo/dynamotable@0bfa432, dynamotable/dynamotable.py), or in Dynamo's data folders.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.images.em import HEADER_BYTES, read_em
from cryoseg.io.outputs import atomic_output, atomic_text
from cryoseg.io.picks.angles import DYNAMO, MOTL, AngleConvention
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets, collect
from cryoseg.io.picks.star import numbers, read_tables, write_table
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

Values = Mapping[str, NDArray[np.float64]]

DYNAMO_COLUMNS = (
    *("tag", "aligned_value", "averaged_value", "dx", "dy", "dz", "tdrot", "tilt", "narot", "cc", "cc2"),
    *("cpu", "ftype", "ymintilt", "ymaxtilt", "xmintilt", "xmaxtilt", "fs1", "fs2", "tomo", "reg", "class"),
    *("annotation", "x", "y", "z", "dshift", "daxis", "dnarot", "dcc", "otag", "npar", "undefined1", "ref"),
    *("sref", "apix", "def", "undefined2", "undefined3", "undefined4", "eig1", "eig2"),
)
DYNAMO_WRITTEN = 35  # Smallest number of columns in Dynamo's own tables.
TABLE_MAP_SUFFIX = PickFormat.DYNAMO.traits.beside
DYNAMO_NEEDED = DYNAMO_COLUMNS.index("z") + 1
MOTL_COLUMNS = (
    *("score", "geom1", "geom2", "subtomo_id", "tomo_id", "object_id", "subtomo_mean", "x", "y", "z"),
    *("shift_x", "shift_y", "shift_z", "geom3", "geom4", "geom5", "phi", "psi", "theta", "class"),
)
STOPGAP_COLUMNS = (
    *("motl_idx", "tomo_num", "object", "subtomo_num", "halfset", "orig_x", "orig_y", "orig_z", "score"),
    *("x_shift", "y_shift", "z_shift", "phi", "psi", "the", "class"),
)
STOPGAP_TABLE = "stopgap_motivelist"
HALF_SETS = {"A": 1, "B": 2}
EM_PC, EM_FLOAT = 6, 5  # Machine and type in the header of .em.


@dataclass(frozen=True)
class Layout:
    """Meaning of the columns of a table.

    Attributes
    ----------
    position, shift, angles
        Names of three columns each: x, y, z, and the angles in the order of `convention`.
    tag, tomogram, track, score
        Names of the numbers of particle, tomogram and object, and of the score.
    convention
        Meaning of the angles.
    first
        Coordinate of the center of the first voxel.
    """

    position: tuple[str, str, str]
    shift: tuple[str, str, str]
    angles: tuple[str, str, str]
    tag: str
    tomogram: str
    track: str
    score: str
    convention: AngleConvention
    first: float

    @property
    def used(self) -> set[str]:
        """Columns that are read into fields of `Picks`, and not kept as texts."""
        return {*self.position, *self.shift, *self.angles, self.tomogram, self.score, "class"}


TBL = Layout(
    ("x", "y", "z"), ("dx", "dy", "dz"), ("tdrot", "tilt", "narot"), "tag", "tomo", "reg", "cc", DYNAMO, 0.0
)
EM = Layout(
    ("x", "y", "z"),
    ("shift_x", "shift_y", "shift_z"),
    ("phi", "theta", "psi"),
    *("subtomo_id", "tomo_id", "object_id", "score"),
    MOTL,
    1.0,
)
STOPGAP = Layout(
    ("orig_x", "orig_y", "orig_z"),
    ("x_shift", "y_shift", "z_shift"),
    ("phi", "the", "psi"),
    *("subtomo_num", "tomo_num", "object", "score"),
    MOTL,
    1.0,
)


def tomogram_numbers(path: Path, names: list[str]) -> dict[str, int]:
    """Return the number of each tomogram in a file to write.

    It is the number in a table map beside a table of Dynamo if that has all names. Else it is the name itself
    if all names are numbers, or the place from 1.
    """
    known = {name: number for number, name in _table_map(path).items()}
    if names and all(name in known for name in names):
        return {name: known[name] for name in names}
    if names and all(name.isdecimal() and name.isascii() and len(name) < 8 for name in names):
        found = {name: int(name) for name in names}
        if len({*found.values()}) == len(names):
            return found
    return {name: place for place, name in enumerate(names, 1)}


def read_dynamo(path: Path, frame: PickFrame) -> PickSets:
    """Read a table of Dynamo.

    A table map beside it, `NAME.doc` or `indices_column20.doc`, names the tomograms.
    """
    rows: list[list[float]] = []
    for number, line in enumerate(_lines(path), 1):
        try:
            rows.append([_real(cell) for cell in line.replace(",", " ").split()])
        except ValueError:
            raise InputError(f"{path}: line {number} does not consist of numbers. Correct it.") from None
        if len(rows[-1]) != len(rows[0]) or len(rows[0]) < DYNAMO_NEEDED:
            raise InputError(
                f"{path}: line {number} has {len(rows[-1])} numbers; a table of Dynamo has {DYNAMO_NEEDED} "
                "or more, as many in every line."
            )
    table = np.array(rows, dtype=np.float64, ndmin=2)
    names = dict(zip(DYNAMO_COLUMNS, table.T, strict=False))
    return _sets(path, names if rows else dict.fromkeys(DYNAMO_COLUMNS, np.empty(0)), TBL, _table_map(path))


def write_dynamo(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write a table whose tomograms are numbered, and a table map unless one has their names already."""
    values = _values(path, sets, TBL, DYNAMO_COLUMNS)
    values["aligned_value"] = np.maximum(values["aligned_value"], 1)
    table = np.stack([values[name] for name in DYNAMO_COLUMNS[:DYNAMO_WRITTEN]], axis=1)
    with atomic_text(path, overwrite=True) as stream:
        stream.writelines(" ".join(f"{value:.8g}" for value in row) + "\n" for row in table.tolist())
    if {*sets} - {*_table_map(path).values(), ""}:
        with atomic_text(path.with_suffix(TABLE_MAP_SUFFIX), overwrite=True) as stream:
            numbered = tomogram_numbers(path, [*sets])
            stream.writelines(f"{number} {name}\n" for name, number in numbered.items() if name)


def _real(cell: str) -> float:
    """Return a number; of a complex one, which Dynamo may write into the column daxis, the real part."""
    return complex(f"{cell[:-1]}j").real if cell.endswith("i") else float(cell)


def read_motl(path: Path, frame: PickFrame) -> PickSets:
    """Read a motive list of 20 rows."""
    data = read_em(path).data
    if data.shape[0] != 1 or data.shape[2] != len(MOTL_COLUMNS):
        raise InputError(
            f"{path}: has {data.shape[2]} x {data.shape[1]} x {data.shape[0]} numbers; a motive list has 20 "
            "for each particle. Give the motive list."
        )
    return _sets(path, dict(zip(MOTL_COLUMNS, np.array(data[0], dtype=np.float64).T, strict=True)), EM, {})


def write_motl(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write a motive list with numbers in place of the names of tomograms."""
    values = _values(path, sets, EM, MOTL_COLUMNS)
    table = np.stack([values[name] for name in MOTL_COLUMNS], axis=1)
    header = bytearray(HEADER_BYTES)
    header[0], header[3] = EM_PC, EM_FLOAT
    struct.pack_into("<3i", header, 4, len(MOTL_COLUMNS), len(table), 1)
    with atomic_output(path, overwrite=True) as temporary:
        temporary.write_bytes(bytes(header) + table.astype("<f4").tobytes())


def read_stopgap(path: Path, frame: PickFrame) -> PickSets:
    """Read a motive list of STOPGAP."""
    table = dict(read_tables(path)).get(STOPGAP_TABLE)
    if table is None:
        raise InputError(f"{path}: has no table data_{STOPGAP_TABLE}. Give a motive list of STOPGAP.")
    missing = [name for name in STOPGAP_COLUMNS if name not in table.columns]
    if missing:
        raise InputError(f"{path}: the column {missing[0]} is missing. Write the file again.")
    half_sets = table["halfset"].map(HALF_SETS)
    table = table.assign(halfset=half_sets.fillna(0))
    names = list(STOPGAP_COLUMNS)
    return _sets(path, dict(zip(names, numbers(table, names, path).T, strict=True)), STOPGAP, {})


def write_stopgap(path: Path, sets: PickSets, frame: PickFrame) -> None:
    """Write a motive list of STOPGAP with numbers in place of the names of tomograms."""
    values = _values(path, sets, STOPGAP, STOPGAP_COLUMNS)
    whole = ("motl_idx", "tomo_num", "object", "subtomo_num", "class")
    columns: dict[str, Iterable[object]] = {
        name: column.astype(np.int64) if name in whole else np.round(column, 5)
        for name, column in values.items()
    }
    columns["motl_idx"] = np.arange(1, len(values["score"]) + 1)
    columns["halfset"] = np.where(values["halfset"] == HALF_SETS["B"], "B", "A")
    write_table(path, STOPGAP_TABLE, columns)


def _lines(path: Path) -> list[str]:
    with reading(path):
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]


def _table_map(path: Path) -> dict[int, str]:
    """Return the names of tomograms by number, from a file beside a table of Dynamo."""
    for beside in (path.with_suffix(TABLE_MAP_SUFFIX), path.with_name("indices_column20.doc")):
        if path.suffix.lower() == ".tbl" and beside.is_file():
            parts = [line.split(maxsplit=1) for line in _lines(beside)]
            if any(len(part) != 2 or not part[0].isdecimal() for part in parts):
                raise InputError(f"{beside}: a line holds the number and the file of a tomogram. Correct it.")
            return {int(number): name.strip() for number, name in parts}
    return {}


def _sets(path: Path, values: Values, layout: Layout, names: Mapping[int, str]) -> PickSets:
    """Return the picks of a table by the name or number of the tomogram; "" if all numbers are 0."""
    table = np.stack([values[name] for name in (*layout.position, *layout.shift, *layout.angles)], axis=1)
    if not np.isfinite(table).all():
        raise InputError(f"{path}: a position, shift or angle is no finite number. Correct it.")
    places, shifts, angles = table[:, :3], table[:, 3:6], table[:, 6:]
    objects, classes, half_sets = (values.get(key) for key in (layout.track, "class", "halfset"))
    has_tracks = objects is not None and len({*objects.tolist()}) > 1
    skipped = layout.used | ({layout.track} if has_tracks else set()) | {"motl_idx", "halfset"}
    columns = {
        name: np.array([f"{value:.8g}" for value in column], dtype=object)
        for name, column in values.items()
        if name not in skipped and column.any()
    }
    picks = Picks(
        centers=places[:, ::-1] - layout.first,
        scores=as_scores(values[layout.score]),
        tracks=as_tracks(objects) if has_tracks else None,
        rotations=layout.convention.matrices(angles) if angles.any() else None,
        shifts=shifts[:, ::-1] if shifts.any() else None,
        classes=as_tracks(classes) if classes is not None and {*classes} - {0, 1} else None,
        half_sets=as_tracks(half_sets) if half_sets is not None and {*half_sets} == {1, 2} else None,
        columns=columns,
        source=path,
    )
    tomograms = values[layout.tomogram]
    if not tomograms.any():
        return {"": picks}
    if not np.isfinite(tomograms).all():
        raise InputError(f"{path}: the number of a tomogram is no finite number. Correct it.")
    return collect(
        (names.get(int(number), f"{number:.8g}"), picks.take(tomograms == number))
        for number in dict.fromkeys(tomograms.tolist())
    )


def _values(
    path: Path, sets: PickSets, layout: Layout, names: tuple[str, ...]
) -> dict[str, NDArray[np.float64]]:
    """Return all columns of a table by name."""
    tomograms = tomogram_numbers(path, list(sets))
    parts = []
    for name, picks in sets.items():
        part = {key: np.zeros(len(picks)) for key in names}
        part |= {key: np.ones(len(picks)) for key in (layout.track, "class")}
        for key, texts in picks.columns.items():
            values = pd.to_numeric(pd.Series(texts, dtype=object), errors="coerce").to_numpy(np.float64)
            if key in part and np.isfinite(values).all():
                part[key] = values
        part |= dict(zip(layout.position, picks.centers.T[::-1] + layout.first, strict=True))
        if picks.shifts is not None:
            part |= dict(zip(layout.shift, picks.shifts.T[::-1], strict=True))
        if picks.rotations is not None:
            part |= dict(zip(layout.angles, layout.convention.angles(picks.rotations).T, strict=True))
        part[layout.tomogram] = np.full(len(picks), float(tomograms[name]))
        for key, own in (
            (layout.score, picks.scores),
            (layout.track, picks.tracks),
            ("class", picks.classes),
            ("halfset", picks.half_sets),
        ):
            if own is not None and key in part:
                part[key] = own.astype(np.float64)
        parts.append(part)
    if not parts:
        raise OutputError(f"{path}: no picks to write.")
    joined = {key: np.concatenate([part[key] for part in parts]) for key in names}
    tags = joined[layout.tag]
    if len({*tags.tolist()}) < len(tags) or not tags.all():
        joined[layout.tag] = np.arange(1.0, len(tags) + 1)
    return joined
