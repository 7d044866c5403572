"""Files by which RELION finds coordinates: autopick.star of micrographs, and the import index of tomograms.

Since RELION 4, autopick.star names the coordinate file of every micrograph. RELION 3.1 finds it by folder and
name: the folder of the job, the path of the micrograph without that of the job that wrote it, and a suffix.
The import index names the coordinate file of every tomogram, and either all of them or none have angles.

Sources in 3dem/relion: src/preprocessing.cpp, `extractParticlesFromOneMicrograph` (whole pixels), and
src/apps/tomo_import_particles.cpp (import index).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from cryoseg.errors import OutputError
from cryoseg.io.outputs import make_folder
from cryoseg.io.picks.relion_poses import ANGLES
from cryoseg.io.picks.star import numbers, read_tables, write_table

AUTOPICK = "autopick.star"
AUTOPICK_SUFFIX = "_autopick.star"
IMPORT_INDEX = "import_index.star"
# The joint coordinate file of tomograms in the frame of RELION 5.
RELION_PARTICLES = "particles_relion5.star"
PIXELS = ("rlnCoordinateX", "rlnCoordinateY")
_JOB = re.compile(r"^.*?/job\d{3,}/")  # Folder of the job that wrote a micrograph.


def write_autopick(
    folder: Path, picked: Mapping[str, Path], *, project: Path, reversed_rows: Mapping[str, int] = {}
) -> None:
    """Write the coordinates of micrographs under the names that RELION expects, and autopick.star.

    Coordinates are rounded here, since RELION extracts boxes around whole pixels and truncates coordinates.

    Parameters
    ----------
    folder
        Folder of the job.
    picked
        STAR file of each micrograph by the name of the micrograph in RELION.
    project
        Folder to which names in RELION are relative.
    reversed_rows
        Number of rows of those micrographs whose rows RELION counts from the last one, which are TIFF files.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    files = [folder / path for path in _coordinate_paths([*picked])]
    for (micrograph, source), file in zip(picked.items(), files, strict=True):
        (name, coordinates), *_ = read_tables(source, what="STAR of picks")
        whole = np.floor(numbers(coordinates, PIXELS, source) + 0.5).astype(int)
        if micrograph in reversed_rows:
            whole[:, 1] = reversed_rows[micrograph] - 1 - whole[:, 1]
        make_folder(file.parent)
        write_table(file, name, coordinates.assign(**dict(zip(PIXELS, whole.T, strict=True))))
    table = {
        "rlnMicrographName": [*picked],
        "rlnMicrographCoordinates": [in_project(file, project) for file in files],
    }
    write_table(folder / AUTOPICK, "coordinate_files", table)


def _coordinate_paths(names: Sequence[str]) -> list[Path]:
    """Return the path of each coordinate file in the folder of the job."""
    short = [_JOB.sub("", name) for name in names]
    shared = Counter(short)
    paths = []
    for name, own in zip(names, short, strict=True):
        parts = PurePosixPath(own if shared[own] == 1 else name).with_suffix("").parts
        *folders, last = (part for part in parts if part not in ("/", ".."))
        paths.append(Path(*folders, f"{last}{AUTOPICK_SUFFIX}"))
    return paths


def write_import_index(path: Path, files: Sequence[Path], *, project: Path) -> None:
    """Write the import index of tomograms; those without particles are left out.

    Parameters
    ----------
    path
        The index.
    files
        STAR files of one tomogram each, whose first column is its name.
    project
        Folder to which names in RELION are relative.

    Raises
    ------
    OutputError
        If some of the files have angles and others have none, or the index cannot be written.
    """
    rows: list[tuple[str, str]] = []
    angles: dict[bool, Path] = {}
    for file in files:
        (_, table), *_ = read_tables(file, what="STAR of picks")
        if len(table):
            rows.append((str(table.iloc[0, 0]), in_project(file, project)))
            angles.setdefault({*ANGLES} <= {*table.columns}, file)
    if len(angles) == 2:
        raise OutputError(
            f"{path}: {angles[True].name} has angles and {angles[False].name} has none, and RELION imports "
            "both or neither. Pick again with --overwrite."
        )
    names, particles = zip(*rows, strict=True) if rows else ((), ())
    write_table(path, "particles", {"rlnTomoName": names, "rlnTomoImportParticleFile": particles})


def in_project(file: Path, project: Path) -> str:
    """Return a file name relative to the project, or the absolute one of a file outside of it."""
    file, project = file.absolute(), project.absolute()
    return os.fspath(file.relative_to(project) if file.is_relative_to(project) else file)
