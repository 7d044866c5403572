"""A data set inside an HDF5 file, written as one path: `volumes.h5:/group/tomogram`."""

from __future__ import annotations

import re
from pathlib import Path

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
_INSIDE = re.compile(rf"(?i)(?P<file>.+(?:{'|'.join(map(re.escape, HDF5_SUFFIXES))})):(?P<inside>.*)", re.S)


def split_dataset(path: Path) -> tuple[Path, str]:
    """The file, and the name of the data set in it; "" where the path names none.

    Parameters
    ----------
    path
        As the user typed it; of any format.
    """
    match = _INSIDE.fullmatch(str(path))
    return (Path(match["file"]), match["inside"]) if match else (path, "")


def with_dataset(file: Path, inside: str) -> Path:
    """The path of a data set in a file; the file's own where `inside` is ""."""
    return Path(f"{file}:{inside}") if inside else file
