"""Lists of images in STAR files of RELION: micrographs.star and tomograms.star, with their pixel sizes.

`rlnMicrographPixelSize` is the pixel size of the micrograph as it is, binned or not. RELION 3.0 gives the
detector pixel size in micrometers and the magnification instead. The pixel size of a reconstructed tomogram
of RELION 5 is that of the tilt series times the binning.

Source: 3dem/relion, descriptions of the labels in src/metadata_label.h.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from cryoseg.errors import InputError
from cryoseg.io.picks.star import Tables, numbers, read_tables
from cryoseg.types import ListedImage

# Columns that name whole images; the first of them wins.
_TOMOGRAMS = ("rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised")
_COLUMNS = (*_TOMOGRAMS, "rlnMicrographName")
_GROUP, _PIXEL_SIZE = "rlnOpticsGroup", "rlnMicrographPixelSize"
_BINNED = ("rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning")
_MAGNIFIED = ("rlnDetectorPixelSize", "rlnMagnification")  # micrometers; RELION 3.0
_ANGSTROM_PER_MICROMETER = 1e4


def read_image_list(path: Path) -> list[ListedImage]:
    """Read the images that a STAR file names, in its order, each once.

    Raises
    ------
    InputError
        If the file cannot be read or names no images, or a pixel size is missing, no number, or ambiguous.
    """
    tables = read_tables(path)
    column = next((one for one in _COLUMNS for _, table in tables if one in table.columns), None)
    if column is None:
        raise InputError(
            f"{path}: names no images; a list of inputs is a STAR file with one of the columns "
            f"{', '.join(_COLUMNS)}, or a .txt file with one path a line."
        )
    listed: dict[str, ListedImage] = {}
    for _, table in tables:
        if column not in table.columns:
            continue
        series = table.get("rlnTomoName", pd.Series([""] * len(table)))
        for name, size, tomogram in zip(
            table[column], _pixel_sizes(table, column, tables, path), series, strict=True
        ):
            found = listed.setdefault(name, ListedImage(name=name, pixel_size=size, tomogram=tomogram))
            if found.pixel_size and size and found.pixel_size != size:
                raise InputError(
                    f"{path}: gives {name} the pixel sizes {found.pixel_size:g} A and {size:g} A. Correct it."
                )
    return list(listed.values())


def _pixel_sizes(table: pd.DataFrame, column: str, tables: Tables, path: Path) -> Sequence[float | None]:
    """Return the pixel size in angstrom of every row; None where the file does not give it."""
    if column in _TOMOGRAMS:
        if not {*_BINNED} <= {*table.columns}:
            return [None] * len(table)
        return _positive(numbers(table, _BINNED, path).prod(axis=1).tolist(), " x ".join(_BINNED), path)
    if _PIXEL_SIZE in table.columns:
        return _positive(numbers(table, [_PIXEL_SIZE], path)[:, 0].tolist(), _PIXEL_SIZE, path)
    if {*_MAGNIFIED} <= {*table.columns}:
        detector, magnification = numbers(table, _MAGNIFIED, path).T
        _positive(magnification.tolist(), _MAGNIFIED[1], path)
        return _positive((_ANGSTROM_PER_MICROMETER * detector / magnification).tolist(), _MAGNIFIED[0], path)
    optics = next((one for _, one in tables if {_GROUP, _PIXEL_SIZE} <= {*one.columns}), None)
    if optics is None:
        return [None] * len(table)
    sizes = _positive(numbers(optics, [_PIXEL_SIZE], path)[:, 0].tolist(), _PIXEL_SIZE, path)
    size_of = dict(zip(optics[_GROUP], sizes, strict=True))
    if _GROUP not in table.columns:
        if len({*sizes}) != 1:
            raise InputError(
                f"{path}: the optics groups have different pixel sizes, and the table of images has no "
                f"column {_GROUP}. Add the column."
            )
        return [sizes[0]] * len(table)
    if unknown := sorted({*table[_GROUP]} - {*size_of}):
        raise InputError(
            f"{path}: images have the {_GROUP} {unknown[0]}, which is not in the optics table. Correct it."
        )
    return [size_of[group] for group in table[_GROUP]]


def _positive(values: list[float], what: str, path: Path) -> list[float]:
    if (low := min(values, default=1.0)) <= 0:
        raise InputError(f"{path}: {what} is {low:g}, and must be positive. Correct it.")
    return values
