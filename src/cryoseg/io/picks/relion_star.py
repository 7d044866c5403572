"""STAR files of picks: tomogram voxels, RELION 4's unbinned pixels, RELION 5's centered angstrom."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cryoseg.config.pick import PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.names import distinct_names
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.picks.sets import PickSets, collect
from cryoseg.io.picks.star import numbers, optional_numbers, read_tables, write_table
from cryoseg.io.picks.text import as_scores, as_tracks
from cryoseg.types import Picks

NAME_COLUMNS = ("rlnTomoName", "rlnMicrographName", "rlnTomogramName")
SCORE_COLUMN = "rlnAutopickFigureOfMerit"
TRACK_COLUMN = "rlnHelicalTubeID"
PIXELS = ("rlnCoordinateZ", "rlnCoordinateY", "rlnCoordinateX")
CENTERED = ("rlnCenteredCoordinateZAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateXAngst")

SHIFTS = ("rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst")
OLD_SHIFTS = ("rlnOriginZ", "rlnOriginY", "rlnOriginX")
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
CARRIED = {
    *NAME_COLUMNS,
    SCORE_COLUMN,
    TRACK_COLUMN,
    *PIXELS,
    *CENTERED,
    *SHIFTS,
    *OLD_SHIFTS,
    "rlnOpticsGroup",
}
FRACTIONS = (
    "all coordinates lie between 0 and 1, as Warp writes fractions of the volume. Multiply them by its size."
)
Positions = NDArray[np.float64]  # (n, 3) z, y, x or (n, 2) y, x


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


def _positions(table: pd.DataFrame, path: Path, frame: PickFrame, name: str, unbinned: bool) -> Positions:
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


def _without_shifts(
    positions: Positions, table: pd.DataFrame, path: Path, pixel_size: float
) -> tuple[Positions, tuple[str, ...]]:
    """Subtract the shifts of RELION's refinement where they are known in voxels, and say so.

    A particle lies at its coordinate less its origin offset, which is given in angstrom since RELION 3.1.
    """
    dimensions = positions.shape[1]
    angstrom = [column for column in SHIFTS[-dimensions:] if column in table.columns]
    old = [column for column in OLD_SHIFTS[-dimensions:] if column in table.columns]
    for columns in (angstrom, old):
        shifts = numbers(table, columns, path) if columns else np.zeros((len(table), 0))
        moved = int(shifts.any(axis=1).sum())
        if not moved:
            continue
        found = f"{path.name}: {moved} of {len(table)} points have shifts ({columns[-1]} and so on)"
        turned = [one for one in SUBTOMOGRAM if one in table.columns and numbers(table, [one], path).any()]
        if columns is old:
            return positions, (f"{found} in pixels of extracted images, which are not applied.",)
        if turned:
            return positions, (f"{found} along axes that {turned[0]} turns; they are not applied.",)
        if pixel_size <= 0:
            return positions, (f"{found}, which are not applied: the pixel size is unknown (--pixel-size).",)
        whole = np.zeros_like(positions)
        whole[:, [SHIFTS[-dimensions:].index(column) for column in columns]] = shifts
        return positions - whole / pixel_size, (f"{found}, which were subtracted.",)
    return positions, ()


def _are_fractions(positions: Positions) -> bool:
    return bool((positions != np.round(positions)).any() and (abs(positions - 0.5) <= 0.5).all())


def _micrograph_pixel_size(tables: Sequence[pd.DataFrame]) -> float:
    """The one pixel size that the optics groups of micrographs give; 0.0 if there are none or several."""
    sizes = [
        size
        for table in tables
        if (column := optional_numbers(table, "rlnMicrographPixelSize")) is not None
        for size in column
    ]
    return float(sizes[0]) if sizes and len({*sizes}) == 1 and sizes[0] > 0 else 0.0


def read_star(path: Path, frame: PickFrame, *, unbinned: bool = False) -> PickSets:
    """Picks by the name of the tomogram or micrograph as the file has it; "" where it names none.

    Several tables without names are distinguished by the names of their blocks.

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
        If there are no coordinates, the frame is missing, or tables have equal names.
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
    optics = _micrograph_pixel_size([table for _, table in tables])
    parts = []
    for block, table in chosen:
        key = next((column for column in NAME_COLUMNS if column in table.columns), None)
        own = block if len(nameless) > 1 else ""
        is_flat = not {PIXELS[0], CENTERED[0]} & set(table.columns)
        pixel_size = frame.voxel_size or (optics if is_flat else 0.0)
        left_out = tuple(column for column in table.columns if column not in CARRIED)
        # A micrograph without picks is a table with columns and no row to name it.
        groups = table.groupby(key, sort=False) if key and len(table) else [(own, table)]
        for name, rows in groups:
            positions = _positions(rows, path, frame, str(name), unbinned)
            centers, warnings = _without_shifts(positions, rows, path, pixel_size)
            if len(rows) > 1 and _are_fractions(positions):
                warnings = (*warnings, f"{path.name}: {FRACTIONS}")
            picks = Picks(
                centers=centers,
                scores=as_scores(optional_numbers(rows, SCORE_COLUMN)),
                tracks=as_tracks(optional_numbers(rows, TRACK_COLUMN)),
                source=path,
                warnings=warnings,
                left_out=left_out,
            )
            parts.append((str(name), picks))
    return collect(parts)


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
    paths = list(map(Path, sets))
    is_relion = flavor in (PickFormat.STAR_RELION4, PickFormat.STAR_RELION5)
    labels = list(sets)
    if is_relion or flavor is PickFormat.CRYOSPARC:
        labels = distinct_names(paths, bare=is_relion)
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
        part: dict[str, object] = {names: [label] * len(picks)}
        for column, values in zip(columns[::-1], coordinates.T[::-1], strict=True):
            part[column] = np.round(values, 4)
        if picks.scores is not None:
            part[SCORE_COLUMN] = np.round(picks.scores.astype(np.float64), 5)
        if picks.tracks is not None:
            # RELION counts from 1, as numbers that were read from its files do already.
            part[TRACK_COLUMN] = picks.tracks + int((picks.tracks < 1).any())
        parts.append(pd.DataFrame(part))
    if not parts:
        raise OutputError(f"{path}: no picks to write.")
    table = pd.concat(parts, ignore_index=True) if len(parts) > 1 else parts[0]
    write_table(path, "particles", table, overwrite=overwrite)


def join_stars(files: Mapping[Path, str], output: Path, *, overwrite: bool = False) -> None:
    """Write the picks of several STAR files as one table, line by line as they are.

    Parameters
    ----------
    files
        As `write_star` wrote them, all of one flavor, each with the name that its image gets where two
        files give one name to two images.
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
        found = dict(read_tables(path, what="STAR of picks"))
        if "particles" not in found:
            raise InputError(f"{path}: holds no table particles. Pick again.")
        tables.append(found["particles"])
    shared = Counter(name for table in tables for name in {*table.iloc[:, 0]})
    for table, label in zip(tables, files.values(), strict=True):
        if any(shared[name] > 1 for name in table.iloc[:, 0]):
            table.iloc[:, 0] = label
    write_table(output, "particles", pd.concat(tables, ignore_index=True), overwrite=overwrite)
