"""Lists of images in STAR files of RELION: micrographs.star and tomograms.star, with their pixel sizes.

`rlnMicrographPixelSize` is the pixel size of the micrograph as it is, binned or not. RELION 3.0 gives the
detector pixel size in micrometers and the magnification instead. The pixel size of a reconstructed tomogram
of RELION 5 is that of the tilt series times the binning.

Source: 3dem/relion, descriptions of the labels in src/metadata_label.h.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from cryoseg.errors import InputError
from cryoseg.io.picks.relion_poses import optics_numbers, pixel_sizes
from cryoseg.io.picks.star import Tables, read_tables
from cryoseg.types import ListedImage

# Columns that name whole images; the first of them wins.
_TOMOGRAMS = ("rlnTomoReconstructedTomogram", "rlnTomoReconstructedTomogramDenoised")
_COLUMNS = (*_TOMOGRAMS, "rlnMicrographName")
_PIXEL_SIZE = "rlnMicrographPixelSize"
_BINNED = ("rlnTomoTiltSeriesPixelSize", "rlnTomoTomogramBinning")


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
    if not listed:
        raise InputError(f"{path}: its table has no rows, so that it names no images. Give another list.")
    return list(listed.values())


def _pixel_sizes(table: pd.DataFrame, column: str, tables: Tables, path: Path) -> list[float | None]:
    """Return the pixel size in angstrom of every row; None where the file does not give it."""
    frames = [frame for _, frame in tables]
    if column in _TOMOGRAMS:
        label = " x ".join(_BINNED)
        unbinned, binning = (optics_numbers(table, frames, name, path=path) for name in _BINNED)
        sizes = unbinned * binning
    else:
        label = _PIXEL_SIZE
        sizes = pixel_sizes(table, frames, label, path=path)
    if (low := np.nanmin(sizes, initial=1.0)) <= 0:
        raise InputError(f"{path}: {label} is {low:g}, and must be positive. Correct it.")
    return [None if np.isnan(size) else float(size) for size in sizes]
