"""STAR files of picks: tomogram voxels, RELION 4's unbinned pixels, RELION 5's centered angstrom."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.picks.star import numbers, optional_numbers, read_tables
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

NAME_COLUMNS = ("rlnTomoName", "rlnMicrographName", "rlnTomogramName")
SCORE_COLUMN = "rlnAutopickFigureOfMerit"
TRACK_COLUMN = "rlnHelicalTubeID"
PIXELS = ("rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX")
CENTERED = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")


def _needs(path: Path, what: str) -> str:
    return (
        f"{path}: {what} need the tilt series' pixel size and the unbinned size of the tomogram. Pass "
        "--tomograms-star, or --unbinned-pixel-size and --unbinned-size."
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
    table: pd.DataFrame, path: Path, frame: PickFrame, name: str, unbinned: bool
) -> NDArray[np.float64]:
    if all(column in table.columns for column in CENTERED):
        relion = _frame(path, frame, name, InputError, "centered coordinates")
        return relion.from_centered(numbers(table, CENTERED, path), frame.voxel_size)
    columns = [column for column in PIXELS if column in table.columns]
    if len(columns) < 2 or "rlnCoordinateX" not in columns:
        raise InputError(
            f"{path}: no coordinate columns (rlnCoordinateX and so on, or rlnCenteredCoordinateXAngst)."
        )
    pixels = numbers(table, columns, path)
    if not unbinned:
        return pixels
    relion = _frame(path, frame, name, InputError, "unbinned coordinates")
    return relion.from_unbinned(pixels, frame.voxel_size)


def read_star(path: Path, frame: PickFrame, *, unbinned: bool = False) -> dict[str, Picks]:
    """Picks by tomogram name (its file stem) or micrograph name (as it is); "" where the file names none.

    Parameters
    ----------
    path
        The STAR file.
    frame
        RELION's frame is needed for centered and unbinned coordinates.
    unbinned
        `rlnCoordinateX` and so on are RELION 4's unbinned pixels, not voxels of the tomogram.

    Raises
    ------
    InputError
        If there are no coordinates, or the frame is missing.
    """
    found: dict[str, Picks] = {}
    for table in read_tables(path).values():
        if not {*PIXELS[1:], *CENTERED} & set(table.columns):
            continue
        key = next((column for column in NAME_COLUMNS if column in table.columns), None)
        is_flat = not {PIXELS[0], CENTERED[0]} & set(table.columns)
        # A micrograph without picks is a table with columns and no row to name it.
        groups = table.groupby(key, sort=False, dropna=False) if key and len(table) else [("", table)]
        for name, rows in groups:
            # RELION finds a micrograph by its path, which a conversion must not lose.
            stem = str(name)
            if not is_flat:
                stem = Path(stem).name.removesuffix(".mrc").removesuffix(".rec")
            found[stem] = Picks(
                centers=_positions(rows, path, frame, stem, unbinned),
                scores=as_scores(optional_numbers(rows, SCORE_COLUMN)),
                tracks=as_tracks(optional_numbers(rows, TRACK_COLUMN)),
                source=path,
            )
    if not found:
        raise InputError(
            f"{path}: no table with coordinates (rlnCoordinateX, or rlnCenteredCoordinateXAngst)."
        )
    return found


def write_star(
    path: Path,
    sets: dict[str, Picks],
    frame: PickFrame,
    *,
    flavor: PickFormat = PickFormat.STAR,
    overwrite: bool = False,
) -> None:
    """Write all picks as one table `particles`.

    Parameters
    ----------
    path
        Ends in .star.
    sets
        By tomogram name.
    frame
        Voxel size, and RELION's frame for its two flavors.
    flavor
        `star`, `star-relion4`, `star-relion5`, or `cryosparc`: names of micrographs without folders.
    overwrite
        Replace an existing file.

    Raises
    ------
    OutputError
        If a RELION flavor is asked for without its frame.
    """
    parts = []
    for name, picks in sets.items():
        coordinates, columns = picks.centers, PIXELS[-picks.centers.shape[1] :]
        label = Path(name).name if flavor is PickFormat.CRYOSPARC else name
        if flavor in (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5):
            relion = _frame(path, frame, name, OutputError, "RELION's coordinates")
            label = relion.name or name
            if flavor is PickFormat.STAR_RELION5:
                coordinates, columns = relion.to_centered(picks.centers, frame.voxel_size), CENTERED
            else:
                coordinates = relion.to_unbinned(picks.centers, frame.voxel_size)
        names = NAME_COLUMNS[0] if picks.centers.shape[1] == 3 else NAME_COLUMNS[1]
        part: dict[str, object] = {names: [label] * len(picks)}
        for column, values in zip(columns[::-1], coordinates.T[::-1], strict=True):
            part[column] = np.round(values, 4)
        if picks.scores is not None:
            part[SCORE_COLUMN] = np.round(picks.scores.astype(np.float64), 5)
        if picks.tracks is not None:
            part[TRACK_COLUMN] = picks.tracks + 1
        parts.append(pd.DataFrame(part))
    if not parts:
        raise OutputError(f"{path}: no picks to write.")
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    with atomic_text(path, overwrite=overwrite) as stream:
        stream.write(starfile.to_string({"particles": table}))


def join_stars(files: Sequence[Path], output: Path, *, overwrite: bool = False) -> None:
    """Write the picks of several STAR files as one table, line by line as they are.

    Parameters
    ----------
    files
        As `write_star` wrote them, all of one flavor.
    output
        Ends in .star.
    overwrite
        Replace an existing file.

    Raises
    ------
    InputError
        If a file cannot be read or holds no table `particles`.
    OutputError
        If the output cannot be written.
    """
    tables = []
    for path in files:
        found = read_tables(path, what="STAR of picks")
        if "particles" not in found:
            raise InputError(f"{path}: holds no table particles. Pick again.")
        tables.append(found["particles"])
    # A table without rows has no types, and would turn numbers of the others into text.
    filled = [table for table in tables if len(table)]
    whole = pd.concat(filled, ignore_index=True) if filled else tables[0]
    with atomic_text(output, overwrite=overwrite) as stream:
        stream.write(starfile.to_string({"particles": whole}))
