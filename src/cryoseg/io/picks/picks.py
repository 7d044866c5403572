"""The one way in and out for coordinates, whatever their format.

A format is a reader and a writer in a file of its own and one line per suffix in the two tables.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cryoseg.config.pick import FLAT_FORMATS, PickFormat
from cryoseg.errors import InputError, OutputError
from cryoseg.io.picks.box import read_box, read_cbox, write_box, write_cbox, write_cryoppp
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.imod_model import read_imod_model, write_imod_model
from cryoseg.io.picks.ndjson import read_ndjson, write_ndjson
from cryoseg.io.picks.relion_star import read_star, write_star
from cryoseg.io.picks.sets import PickSets
from cryoseg.io.picks.text import read_coords, read_table, write_coords, write_csv
from cryoseg.types import Picks

Reader = Callable[[Path, PickFrame], PickSets]


def _alone(read: Callable[[Path], Picks]) -> Reader:
    return lambda path, frame: {"": read(path)}


READERS: dict[str, Reader] = {
    ".star": read_star,
    ".csv": read_table,
    ".tsv": read_table,
    ".txt": read_table,
    ".point": read_table,
    ".coords": lambda path, frame: {"": read_coords(path, frame)},
    ".mod": _alone(read_imod_model),
    ".ndjson": _alone(read_ndjson),
    ".box": _alone(read_box),
    ".cbox": _alone(read_cbox),
}
SUFFIXES = {
    PickFormat.STAR: ".star",
    PickFormat.STAR_RELION4: ".star",
    PickFormat.STAR_RELION5: ".star",
    PickFormat.CSV: ".csv",
    PickFormat.MOD: ".mod",
    PickFormat.NDJSON: ".ndjson",
    PickFormat.COORDS: ".coords",
    PickFormat.BOX: ".box",
    PickFormat.CBOX: ".cbox",
    PickFormat.CRYOPPP: ".csv",
    PickFormat.CRYOSPARC: ".star",
}
PICK_SUFFIXES = tuple(READERS)
PICKS_TAG = "_particles"  # behind an image's name in what `cryoseg pick` writes
_FLAT_WRITERS = {
    PickFormat.BOX: write_box,
    PickFormat.CBOX: write_cbox,
    PickFormat.CRYOPPP: write_cryoppp,
}
_ONE_TOMOGRAM = (PickFormat.MOD, PickFormat.NDJSON, PickFormat.COORDS, *_FLAT_WRITERS)
DEFAULT_RADIUS_VOXELS = 5.0


def read_picks(path: Path | str, frame: PickFrame | None = None, *, unbinned: bool = False) -> PickSets:
    """Read coordinates of a known format.

    Parameters
    ----------
    path
        The file; its suffix names the format.
    frame
        Of the tomogram, where the format leaves something unsaid.
    unbinned
        STAR coordinates are RELION 4's unbinned pixels, not voxels of the tomogram.

    Returns
    -------
    dict
        By the tomogram's or micrograph's name as the file has it, "" where it names none. Voxels, z, y,
        x, or pixels, y, x; centers at whole numbers from 0, rows as the file of the image has them.

    Raises
    ------
    InputError
        If the suffix is unknown, or the file is missing or damaged.
    """
    path, frame = Path(path), frame or PickFrame()
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise InputError(f"{path}: unknown format of picks. Known suffixes are {', '.join(PICK_SUFFIXES)}.")
    if not path.is_file():
        raise InputError(f"{path}: no such file. Check the name.")
    if unbinned and path.suffix.lower() == ".star":
        return read_star(path, frame, unbinned=True)
    return reader(path, frame)


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
        With the suffix of the format.
    sets
        By the name of the tomogram or micrograph; only STAR and CSV hold several.
    frame
        Of the tomogram.
    flavor
        The format.
    overwrite
        Replace an existing file.

    Raises
    ------
    OutputError
        If the format holds one tomogram and there are more, or the file cannot be written.
    """
    path, frame = Path(path), frame or PickFrame()
    if path.suffix.lower() != SUFFIXES[flavor]:
        raise OutputError(f"{path}: {flavor} files end in {SUFFIXES[flavor]}.")
    if flavor in FLAT_FORMATS and any(picks.centers.shape[1] != 2 for picks in sets.values()):
        raise OutputError(
            f"{path}: {flavor} holds points of micrographs, and these have a z. Write STAR or CSV."
        )
    if flavor is PickFormat.CSV:
        write_csv(path, sets, overwrite=overwrite)
        return
    if flavor not in _ONE_TOMOGRAM:
        write_star(path, sets, frame, flavor=flavor, overwrite=overwrite)
        return
    if len(sets) != 1:
        raise OutputError(f"{path}: {flavor} holds one image, and these are {len(sets)}. Write STAR or CSV.")
    (picks,) = sets.values()
    if flavor in _FLAT_WRITERS:
        _FLAT_WRITERS[flavor](path, picks, overwrite=overwrite)
        return
    if picks.centers.shape[1] != 3:
        raise OutputError(f"{path}: {flavor} holds points in three dimensions. Write STAR or CSV.")
    if flavor is PickFormat.MOD:
        radius = DEFAULT_RADIUS_VOXELS
        if frame.diameter_angstrom and frame.voxel_size:
            radius = frame.diameter_angstrom / frame.voxel_size / 2
        write_imod_model(path, picks, radius_voxels=radius, overwrite=overwrite)
    elif flavor is PickFormat.NDJSON:
        write_ndjson(path, picks, overwrite=overwrite)
    else:
        write_coords(path, picks, frame, overwrite=overwrite)
