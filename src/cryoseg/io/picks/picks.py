"""Read and write coordinates of all formats.

The table `cryoseg.config.pick.PickFormat` contains the module of each format. That has a function
`read_<format>(path, frame)` that returns `PickSets`, a function `write_<format>(path, sets, frame)`, or both,
with the parameters and errors of `read_picks` and `write_picks`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from cryoseg.config.pick import PICK_SUFFIXES, PickFormat
from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.outputs import refuse_existing
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.sets import PickSets, applied_shifts

# Suffixes of the files that are looked for in folders.
LISTED_SUFFIXES = tuple(
    dict.fromkeys(suffix for one in PickFormat if one.traits.in_folders for suffix in one.traits.suffixes)
)
PICKS_TAG = "_particles"  # End of the names of outputs of `cryoseg pick`.
LARGEST_COORDINATE = 1e9  # Voxels; no image is as large.
MARKED_BYTES = 4096  # Number of bytes in which the marker of a format is searched.


def format_of(path: Path) -> PickFormat:
    """Return the format of a file that is read, by its suffix, and by its content where several share it.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file is missing.
    """
    suffix = path.suffix.lower()
    known = [one for one in PickFormat if one.traits.is_read and suffix in one.traits.suffixes]
    if not known:
        raise InputError(f"{path}: unknown format of picks. Known suffixes are {', '.join(PICK_SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the name.")
    marked = [one for one in known if one.traits.marker]
    if marked:
        with reading(path), path.open("rb") as file:
            beginning = file.read(MARKED_BYTES)
        for one in marked:
            if one.traits.marker.encode() in beginning:
                return one
    return next((one for one in known if not one.traits.marker), known[0])


def read_picks(path: Path | str, frame: PickFrame | None = None) -> PickSets:
    """Read coordinates of a known format.

    Parameters
    ----------
    path
        File whose suffix determines the format.
    frame
        Properties of the tomogram that the format does not contain.

    Returns
    -------
    dict
        Picks by the name of the tomogram or micrograph in the file, "" without names. Centers are in voxels
        z, y, x or pixels y, x, which have whole numbers from 0, with rows in the order of the image file.
        Shifts are added to the centers unless `frame.keep_shifts`.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file is missing or damaged.
    """
    path, frame = Path(path), frame or PickFrame()
    sets: PickSets = _function("read", format_of(path))(path, frame)
    for picks in sets.values():
        if (far := picks.centers[np.abs(picks.centers) > LARGEST_COORDINATE]).size:
            raise InputError(f"{path}: a coordinate is {far[0]:g}, which is in no image. Correct it.")
    return sets if frame.keep_shifts else applied_shifts(sets)


def write_picks(
    path: Path | str,
    sets: PickSets,
    frame: PickFrame | None = None,
    *,
    flavor: PickFormat,
    overwrite: bool = False,
) -> None:
    """Write coordinates.

    Parameters
    ----------
    path
        File to write, with the suffix of the format.
    sets
        Picks by the name of the tomogram or micrograph; some formats hold only one.
    frame
        Coordinate frame of the tomogram.
    flavor
        Format to write.
    overwrite
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the format holds one tomogram and there are more, or the file cannot be written.
    """
    path, frame, traits = Path(path), frame or PickFrame(), flavor.traits
    if path.suffix.lower() != flavor.suffix:
        raise OutputError(f"{path}: {flavor} files end in {flavor.suffix}.")
    if any(picks.centers.shape[1] not in traits.dimensions for picks in sets.values()):
        raise OutputError(
            f"{path}: {flavor} holds points of micrographs, and these have a z. Write STAR or CSV."
            if traits.dimensions == (2,)
            else f"{path}: {flavor} holds points in three dimensions. Write STAR or CSV."
        )
    if len(sets) != 1 and not traits.several:
        raise OutputError(f"{path}: {flavor} holds one image, and these are {len(sets)}. Write STAR or CSV.")
    for written in (path, *([path.with_suffix(traits.beside)] if traits.beside else [])):
        refuse_existing(written, overwrite=overwrite)
    _function("write", flavor)(path, sets, frame)


def held_columns(flavor: PickFormat) -> tuple[str, ...]:
    """Return the further columns that files of a format hold, where they do not hold all."""
    columns: tuple[str, ...] = getattr(_module(flavor), f"{_name(flavor).upper()}_COLUMNS", ())
    return columns


def _function(verb: str, flavor: PickFormat) -> Any:
    return getattr(_module(flavor), f"{verb}_{_name(flavor)}")


def _module(flavor: PickFormat) -> ModuleType:
    return import_module(f"cryoseg.io.picks.{flavor.traits.module}")


def _name(flavor: PickFormat) -> str:
    return flavor.value.replace("-", "_")
