"""Read and write STAR files of picks, in voxels or in the coordinates of RELION 4 and 5."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.angles import RELION
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import distinct_names
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.picks.relion_poses import (
    ANGLES,
    GROUP,
    PIXEL_SHIFTS,
    SHIFTS,
    SUBTOMOGRAM,
    optics_numbers,
    pose_columns,
    rotations_of,
    shifts_of,
)
from cryoseg.io.picks.sets import PickSets, collect
from cryoseg.io.picks.star import numbers, optional_numbers, read_tables, write_table
from cryoseg.io.picks.text import as_scores, as_tracks, missing_scores
from cryoseg.types import Picks

if TYPE_CHECKING:
    import pandas as pd

NAME_COLUMNS = ("rlnTomoName", "rlnMicrographName", "rlnTomogramName")
SCORE_COLUMN = "rlnAutopickFigureOfMerit"
TRACK_COLUMN = "rlnHelicalTubeID"
PIXELS = ("rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX")
CENTERED = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")

CLASS_COLUMN = "rlnClassNumber"
HALF_SET_COLUMN = "rlnRandomSubset"
# Columns that are read, or that mean nothing without the table of optics groups.
READ = {SCORE_COLUMN, TRACK_COLUMN, *PIXELS, *CENTERED, *ANGLES, *SUBTOMOGRAM, GROUP}
# RELION writes -999 where a point has none of these, such as one that was picked by hand.
# Source: 3dem/relion, src/displayer.cpp@006ba5a.
UNSET = -999
MAY_BE_UNSET = (*ANGLES, CLASS_COLUMN, SCORE_COLUMN)
DIGITS = 5  # Decimals of angles.
FRACTIONS = (
    "all coordinates lie between 0 and 1, as Warp writes fractions of the volume. Multiply them by its size."
)
LARGEST_UNBINNED = 1.05  # Voxel size divided by the pixel size of the tilt series.
Positions = NDArray[np.float64]  # (n, 3) z, y, x or (n, 2) y, x


def _needs(path: Path, what: str) -> str:
    return (
        f"{path}: {what} need the tilt series' pixel size and the unbinned size of the tomogram. Pass "
        "--tomograms-star, or --unbinned-pixel-size and --unbinned-size, to `cryoseg convert` or "
        "`cryoseg train cet-pick`."
    )


def _frame(
    path: Path, frame: PickFrame, name: str, error: type[InputError | OutputError], what: str
) -> RelionFrame:
    relion = frame.relion_for(name)
    if relion is None:
        known = ", ".join(sorted(frame.relion or {})[:5])
        raise error(
            f"{path}: {name or 'the tomogram'} is not in the tomograms.star, which names {known}. Rename it."
            if known
            else _needs(path, what)
        )
    if frame.voxel_size <= 0:
        raise error(f"{path}: the tomogram's voxel size is unknown. Pass --pixel-size.")
    return relion


def _positions(
    table: pd.DataFrame, tables: Sequence[pd.DataFrame], path: Path, frame: PickFrame, name: str
) -> tuple[Positions, tuple[str, ...]]:
    """Return the coordinates of one image in voxels, and a warning if their unit is doubtful."""
    if all(column in table.columns for column in CENTERED):
        relion = _frame(path, frame, name, InputError, "centered coordinates")
        return relion.from_centered(numbers(table, CENTERED, path), frame.voxel_size), ()
    columns = [column for column in PIXELS if column in table.columns]
    if len(columns) < 2 or "rlnCoordinateX" not in columns:
        raise InputError(
            f"{path}: no coordinate columns (rlnCoordinateX and so on, or rlnCenteredCoordinateXAngst)."
        )
    pixels = numbers(table, columns, path)
    unbinned = optics_numbers(table, tables, "rlnTomoTiltSeriesPixelSize")
    if not frame.unbinned:
        binnings = frame.voxel_size / unbinned
        if len(columns) < 3 or not (binnings > LARGEST_UNBINNED).any():
            return pixels, ()
        said = (
            f"{path.name}: the coordinates are read as voxels of {frame.voxel_size:g} A, and the tilt series "
            f"has pixels of {unbinned.min():g} A. Pass --from-relion4 to `cryoseg convert` if they are its "
            "pixels."
        )
        return pixels, (said,)
    if frame.relion is None and frame.voxel_size > 0 and (unbinned > 0).all():
        return pixels * (unbinned / frame.voxel_size)[:, None], ()
    relion = _frame(path, frame, name, InputError, "unbinned coordinates")
    return relion.from_unbinned(pixels, frame.voxel_size), ()


def _picks(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], path: Path, frame: PickFrame, name: str
) -> Picks:
    """Return the picks of one image."""
    if len(rows):
        unset = [label for label in MAY_BE_UNSET if np.all(optional_numbers(rows, label) == UNSET)]
        rows = rows.drop(columns=unset)
    if not frame.voxel_size and (listed := frame.relion_for(name)) is not None:
        frame = replace(frame, voxel_size=listed.voxel_size)
    positions, warnings = _positions(rows, tables, path, frame, name)
    is_flat = positions.shape[1] == 2
    sizes = np.full(len(rows), frame.voxel_size or np.nan)
    if is_flat and not frame.voxel_size:
        sizes = optics_numbers(rows, tables, "rlnMicrographPixelSize")
        sizes[~(sizes > 0)] = np.nan
    shifts, doubts = shifts_of(rows, tables, path, sizes)
    are_fractions = (positions != np.round(positions)).any() and (abs(positions - 0.5) <= 0.5).all()
    if len(rows) > 1 and are_fractions:
        doubts = (*doubts, f"{path.name}: {FRACTIONS}")
    rotations, _ = rotations_of(rows, path)
    numbered = {name: as_tracks(optional_numbers(rows, name)) for name in (CLASS_COLUMN, HALF_SET_COLUMN)}
    used = {name for name, values in numbered.items() if values is not None}
    used |= set() if doubts and shifts is None else {*SHIFTS, *PIXEL_SHIFTS}
    name_column = next((column for column in NAME_COLUMNS if column in rows.columns), None)
    column = optional_numbers(rows, SCORE_COLUMN)
    scores = as_scores(column)
    size = float(sizes[0]) if len(rows) and len({*sizes.tolist()}) == 1 else 0.0
    return Picks(
        centers=positions,
        scores=scores,
        tracks=as_tracks(optional_numbers(rows, TRACK_COLUMN)),
        rotations=rotations,
        shifts=None if shifts is None else shifts[:, 3 - positions.shape[1] :],
        classes=numbered[CLASS_COLUMN],
        half_sets=numbered[HALF_SET_COLUMN],
        columns={
            column: rows[column].to_numpy(dtype=object)
            for column in rows.columns
            if column not in READ | used | {name_column}
        },
        pixel_size=size,
        source=path,
        warnings=(*warnings, *doubts, *missing_scores(path, scores, column)),
    )


def read_star(path: Path, frame: PickFrame) -> PickSets:
    """Read picks by the name of the tomogram or micrograph in the file, "" without names.

    Several tables without names are distinguished by the names of their blocks. Centered coordinates need
    RELION's frame, and so do unbinned ones if the file does not give the pixel size of the tilt series.
    """
    tables = read_tables(path)
    chosen = [(block, table) for block, table in tables if {*PIXELS[1:], *CENTERED} & set(table.columns)]
    if not chosen:
        raise InputError(
            f"{path}: no table with coordinates (rlnCoordinateX, or rlnCenteredCoordinateXAngst)."
        )
    nameless = [block for block, table in chosen if not {*NAME_COLUMNS} & set(table.columns)]
    if len(nameless) > 1 and ("" in nameless or len({*nameless}) < len(nameless)):
        raise InputError(
            f"{path}: {len(nameless)} tables name no image, and their blocks have no names of their own. Add "
            f"the column {NAME_COLUMNS[1]}, or give one file for each image."
        )
    parts = []
    for block, table in chosen:
        key = next((column for column in NAME_COLUMNS if column in table.columns), None)
        own = block if len(nameless) > 1 else ""
        # A micrograph without picks is a table with columns and no row to name it.
        groups = table.groupby(key, sort=False) if key and len(table) else [(own, table)]
        for name, rows in groups:
            parts.append((str(name), _picks(rows, [one for _, one in tables], path, frame, str(name))))
    return collect(parts)


def write_star(path: Path, sets: PickSets, frame: PickFrame, flavor: PickFormat = PickFormat.STAR) -> None:
    """Write all picks as one table `particles`.

    Coordinates are voxels or pixels of the image, unbinned pixels (RELION 4), or angstrom from the center of
    the tomogram (RELION 5). For cryoSPARC, which finds its exposures by them, names have no folders.
    """
    parts: list[Mapping[str, Iterable[object]]] = []
    is_relion = flavor in (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5)
    labels = list(sets)
    if is_relion or flavor is PickFormat.CRYOSPARC:
        labels = distinct_names(list(map(Path, sets)), bare=is_relion)
    for (name, picks), label in zip(sets.items(), labels, strict=True):
        coordinates, columns = picks.centers, PIXELS[-picks.centers.shape[1] :]
        if is_relion:
            relion = _frame(path, frame, name, OutputError, "RELION's coordinates")
            label = relion.name or label
            if flavor is PickFormat.STAR_RELION5:
                coordinates, columns = relion.to_centered(picks.centers, frame.voxel_size), CENTERED
            else:
                coordinates = relion.to_unbinned(picks.centers, frame.voxel_size)
        names = NAME_COLUMNS[0] if picks.centers.shape[1] == 3 else NAME_COLUMNS[1]
        part: dict[str, Iterable[object]] = {names: [label] * len(picks)}
        for column, values in zip(columns[::-1], coordinates.T[::-1], strict=True):
            part[column] = np.round(values, 4)
        parts.append(part | _further_columns(path, picks, frame.voxel_size or picks.pixel_size))
    if not parts:
        raise OutputError(f"{path}: no picks to write.")
    if len(parts) == 1:
        write_table(path, "particles", parts[0])
    else:
        import pandas as pd  # The import takes half a second.

        write_table(path, "particles", pd.concat([pd.DataFrame(part) for part in parts], ignore_index=True))


write_star_relion4 = partial(write_star, flavor=PickFormat.STAR_RELION4)
write_star_relion5 = partial(write_star, flavor=PickFormat.STAR_RELION5)
write_cryosparc = partial(write_star, flavor=PickFormat.CRYOSPARC)


def _further_columns(path: Path, picks: Picks, voxel_size: float) -> dict[str, Iterable[object]]:
    """Return all columns but names and coordinates."""
    part: dict[str, Iterable[object]] = {}
    if picks.scores is not None:
        part[SCORE_COLUMN] = np.round(picks.scores.astype(np.float64), 5)
    if picks.tracks is not None:
        # RELION counts from 1, as numbers that were read from its files do already.
        part[TRACK_COLUMN] = picks.tracks + int((picks.tracks < 1).any())
    part |= {name: np.round(values, DIGITS) + 0.0 for name, values in pose_columns(picks, voxel_size).items()}
    if picks.shifts is not None:
        if voxel_size <= 0:
            raise OutputError(f"{path}: shifts in STAR files are in angstrom. Pass --pixel-size.")
        offsets = -picks.shifts * voxel_size
        if SUBTOMOGRAM[0] in part:
            frames = RELION.matrices(np.stack([np.asarray(part[name]) for name in SUBTOMOGRAM], axis=1))
            offsets = np.einsum("nji,nj->ni", frames, offsets[:, ::-1])[:, ::-1]
        for values, name in zip(offsets.T[::-1], SHIFTS[-offsets.shape[1] :][::-1], strict=True):
            part[name] = np.round(values, 4) + 0.0
    if picks.classes is not None:
        part[CLASS_COLUMN] = picks.classes
    if picks.half_sets is not None:
        part[HALF_SET_COLUMN] = picks.half_sets
    labels = {"_".join(name.split()): texts for name, texts in picks.columns.items()}
    return part | {name: texts for name, texts in labels.items() if name not in part}


def join_stars(files: Mapping[Path, str], output: Path) -> None:
    """Write the picks of several STAR files as one table, whose lines are unchanged.

    Parameters
    ----------
    files
        Files that `write_star` wrote in one flavor, each with the name that its image gets if two files give
        the same name to two images.
    output
        File to write, with the suffix .star.

    Raises
    ------
    InputError
        If a file cannot be read or holds no table `particles`.
    OutputError
        If the output cannot be written.
    """
    import pandas as pd

    tables = []
    for path in files:
        found = dict(read_tables(path, what="STAR of picks"))
        if "particles" not in found:
            raise InputError(f"{path}: holds no table particles. Pick again.")
        tables.append(found["particles"])
    shared = Counter(name for table in tables for name in {*table.iloc[:, 0]})
    for table, label in zip(tables, files.values(), strict=True):
        if any(shared[name] > 1 for name in table.iloc[:, 0]):
            table.iloc[:, 0] = label
    write_table(output, "particles", pd.concat(tables, ignore_index=True))
