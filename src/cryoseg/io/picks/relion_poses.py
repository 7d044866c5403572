"""Orientations, shifts and filaments in the columns of RELION's STAR files.

A particle of a tomogram may have two triples of angles, of which RELION multiplies the matrices,
`A_subtomogram @ A_particle`, and its origin offset has the axes that the first one turns.
Source: `ParticleSet::getMatrix3x3` and `getPosition` in src/jaz/tomography/particle_set.cpp of 3dem/relion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.io.picks.angles import RELION
from cryoseg.io.picks.star import numbers, optional_numbers
from cryoseg.types import Picks

if TYPE_CHECKING:
    import pandas as pd

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
SUBTOMOGRAM = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
SHIFTS = ("rlnOriginZAngst", "rlnOriginYAngst", "rlnOriginXAngst")
PIXEL_SHIFTS = ("rlnOriginZ", "rlnOriginY", "rlnOriginX")  # RELION 3.0; pixels of extracted images.
TRACK_LENGTH = "rlnHelicalTrackLengthAngst"
TILT_PRIOR, PSI_PRIOR, FLIP_RATIO = "rlnAngleTiltPrior", "rlnAnglePsiPrior", "rlnAnglePsiFlipRatio"
PRIORS = (TILT_PRIOR, PSI_PRIOR, FLIP_RATIO)
GROUP = "rlnOpticsGroup"
ANGSTROM_PER_MICROMETER = 1e4
# A filament in a tomogram has the angles 0, 90, 0 in the frame of its subtomogram, so that refinement
# searches around images in which it lies in the plane. Source: 3dem/relion,
# tomography_python_programs/get_particle_poses/filaments.py, as quoted in copick/copick@243ac6d,
# src/copick/util/relion.py.
IN_PLANE = (0.0, 90.0, 0.0)
UNKNOWN_POLARITY = 0.5

Matrices = NDArray[np.float64]  # (n, 3, 3)


def rotations_of(rows: pd.DataFrame, path: Path) -> tuple[Matrices | None, Matrices | None]:
    """Return the rotations of particles, and those of their subtomograms alone; None if there are none."""
    particle, subtomogram = (_matrices(rows, names, path) for names in (ANGLES, SUBTOMOGRAM))
    if particle is None or subtomogram is None:
        return (subtomogram if particle is None else particle), subtomogram
    return subtomogram @ particle, subtomogram


def _matrices(rows: pd.DataFrame, names: Sequence[str], path: Path) -> Matrices | None:
    given = [name for name in names if name in rows.columns]
    if not given:
        return None
    angles = np.zeros((len(rows), 3))
    angles[:, [names.index(name) for name in given]] = numbers(rows, given, path)
    return RELION.matrices(angles)


def optics_numbers(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], label: str, *, path: Path | None = None
) -> NDArray[np.float64]:
    """Return (n,) values of a column of the rows or of their optics groups; NaN if there are none.

    With the `path` of the file, a value that is no number, an unknown group, or rows without a group although
    groups differ raise an `InputError`.
    """
    own = _column(rows, label, path)
    if own is not None:
        return own
    for table in tables:
        values = _column(table, label, path)
        if values is None or GROUP not in table.columns:
            continue
        if GROUP not in rows.columns:
            if len({*values}) == 1:
                return np.full(len(rows), values[0])
            if path is not None:
                raise InputError(
                    f"{path}: {label} differs between the optics groups, and the table of images has no "
                    f"column {GROUP}. Add the column."
                )
            return np.full(len(rows), np.nan)
        by_group = dict(zip(_groups(table), values, strict=True))
        groups = _groups(rows)
        unknown = [name for name, group in zip(rows[GROUP], groups, strict=True) if group not in by_group]
        if path is not None and unknown:
            raise InputError(
                f"{path}: images have the {GROUP} {unknown[0]}, which is not in the optics table. Correct it."
            )
        return np.array([by_group.get(group, np.nan) for group in groups])
    return np.full(len(rows), np.nan)


def _groups(table: pd.DataFrame) -> list[float | str]:
    """Return the optics group of every row as a number, so that 01 is 1, or as text."""
    values = optional_numbers(table, GROUP)
    assert values is not None
    return [text if np.isnan(value) else value for text, value in zip(table[GROUP], values, strict=True)]


def _column(table: pd.DataFrame, label: str, path: Path | None) -> NDArray[np.float64] | None:
    if path is None or label not in table.columns:
        return optional_numbers(table, label)
    return numbers(table, [label], path)[:, 0]


def pixel_sizes(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], label: str, *, path: Path | None = None
) -> NDArray[np.float64]:
    """Return (n,) pixel sizes in angstrom from a column, or as RELION 3.0 gives them; NaN where unknown.

    The parameters are those of `optics_numbers`. RELION 3.0 gives the detector pixel size in micrometers and
    the magnification.
    """
    sizes = optics_numbers(rows, tables, label, path=path)
    if not np.isnan(sizes).any():
        return sizes
    detector = optics_numbers(rows, tables, "rlnDetectorPixelSize", path=path)
    magnification = optics_numbers(rows, tables, "rlnMagnification", path=path)
    older = ANGSTROM_PER_MICROMETER * detector / np.where(magnification > 0, magnification, np.nan)
    return np.where(np.isnan(sizes), older, sizes)


def shifts_of(
    rows: pd.DataFrame, tables: Sequence[pd.DataFrame], path: Path, voxel_sizes: NDArray[np.float64]
) -> tuple[NDArray[np.float64] | None, tuple[str, ...]]:
    """Return the shifts (n, 3) z, y, x in voxels, and a warning if some cannot be used.

    The position of a particle is its coordinate minus its origin offset.

    Parameters
    ----------
    rows
        Table of the particles.
    tables
        All tables of the file, for the pixel sizes of optics groups.
    path
        Path of the file, for messages.
    voxel_sizes
        (n,) voxel sizes of the images in angstrom; NaN where unknown.
    """
    for columns in (SHIFTS, PIXEL_SHIFTS):
        given = [name for name in columns if name in rows.columns]
        offsets = np.zeros((len(rows), 3))
        offsets[:, [columns.index(name) for name in given]] = numbers(rows, given, path) if given else 0
        if not offsets.any():
            continue
        found = f"{path.name}: points have shifts ({given[-1]} and so on)"
        if columns is PIXEL_SHIFTS:
            sizes = pixel_sizes(rows, tables, "rlnImagePixelSize")
            if np.isnan(sizes).any():
                return None, (f"{found} in pixels of extracted images, which are not applied.",)
            offsets *= sizes[:, None]
        if np.isnan(voxel_sizes).any():
            return None, (f"{found}, which are not applied: the pixel size is unknown (--pixel-size).",)
        _, subtomogram = rotations_of(rows, path)
        if subtomogram is not None:
            offsets = np.einsum("nij,nj->ni", subtomogram, offsets[:, ::-1])[:, ::-1]
        return -offsets / voxel_sizes[:, None], ()
    return None, ()


def pose_columns(picks: Picks, voxel_size: float) -> dict[str, NDArray[np.float64]]:
    """Return the columns of orientations and, if the picks have tracks, of filaments.

    Parameters
    ----------
    picks
        Picks of one image. Without rotations, filaments have the direction of their points.
    voxel_size
        Voxel size in angstrom; if it is 0, there is no length along filaments.
    """
    columns: dict[str, NDArray[np.float64]] = {}
    rotations, count = picks.rotations, len(picks)
    if picks.tracks is not None and PSI_PRIOR not in picks.columns:
        directions, lengths = along_tracks(picks)
        if voxel_size > 0:
            columns[TRACK_LENGTH] = lengths * voxel_size
        x, y, z = directions.T
        psi_prior = np.zeros(count)
        if picks.centers.shape[1] == 3:
            if rotations is None:
                # The last column of RELION's matrix is the direction of the z axis of the particle.
                tilt = np.degrees(np.arccos(np.clip(z, -1, 1)))
                rotations = RELION.matrices(
                    np.stack([np.zeros(count), tilt, np.degrees(np.arctan2(y, -x))], axis=1)
                )
            in_plane = RELION.matrices(np.array([IN_PLANE]))
            frames = RELION.angles(rotations @ in_plane.transpose(0, 2, 1))
            columns |= dict(zip(SUBTOMOGRAM, frames.T, strict=True))
            columns |= {name: np.full(count, angle) for name, angle in zip(ANGLES, IN_PLANE, strict=True)}
            rotations = None
        else:
            # RELION's psi turns the other way than the image's axes.
            psi_prior = -np.degrees(np.arctan2(y, x))
        columns |= {
            TILT_PRIOR: np.full(count, 90.0),
            PSI_PRIOR: psi_prior + 0.0,
            FLIP_RATIO: np.full(count, UNKNOWN_POLARITY),
        }
    if rotations is not None:
        columns |= dict(zip(ANGLES, RELION.angles(rotations).T, strict=True))
    return columns


def along_tracks(picks: Picks) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the directions (n, 3) x, y, z of tracks in the order of points, and lengths (n,) in voxels."""
    assert picks.tracks is not None
    points = np.zeros((len(picks), 3))
    points[:, 3 - picks.centers.shape[1] :] = picks.centers
    directions, lengths = np.zeros((len(picks), 3)), np.zeros(len(picks))
    directions[:, 0] = 1.0  # Direction of a single point.
    for track in np.unique(picks.tracks):
        at = np.flatnonzero(picks.tracks == track)
        if len(at) < 2:
            continue
        steps = np.gradient(points[at], axis=0)[:, ::-1]
        sizes = np.linalg.norm(steps, axis=1, keepdims=True)
        directions[at] = np.where(sizes > 0, steps / np.maximum(sizes, 1e-12), directions[at])
        lengths[at[1:]] = np.cumsum(np.linalg.norm(np.diff(points[at], axis=0), axis=1))
    return directions, lengths
