"""Write scenes and markers for ChimeraX, at the positions that ChimeraX derives from MRC headers.

Notes
-----
ChimeraX places the center of voxel (i, j, k) at origin + (i, j, k) * voxel size. The origin is that of the
header, or the start indices times the voxel size if that is zero; an unset voxel size is 1 A.

Sources, all in RBVI/ChimeraX: src/bundles/map_data/src/mrc/mrc_format.py@31ebcdf (origin and voxel size),
src/bundles/map/src/volumecommand.py@0db4c3c (`volume`), src/bundles/markers/src/cmmfiles.py@1bb3759
(markers), docs/user/commands/segmentation.html@03b1498 (`segmentation surfaces`). `open_command_script` runs
a script in the folder of the script, so that relative names work.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from cryoseg import __version__
from cryoseg.io.images.micrographs import MRC_SUFFIXES
from cryoseg.io.images.volumes import known_suffix
from cryoseg.io.outputs import atomic_text
from cryoseg.types import Geometry, Picks, Tomogram

MEMBRANE_COLOR = "#4f97d9"
_LOW_SCORE, _HIGH_SCORE = np.array([0.2, 0.4, 0.9]), np.array([1.0, 0.85, 0.1])


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Files that ChimeraX shows together; None leaves one out.

    Attributes
    ----------
    tomogram
        Tomogram, of which the middle slice is shown if it is an MRC file. All volumes get its geometry.
    logits, threshold
        Logits and the level of their surface.
    mask
        Mask, shown as a surface, or hidden if there are labels.
    labels
        Labels, shown as surfaces in different colors.
    markers
        Marker file.
    """

    tomogram: Tomogram
    logits: Path | None = None
    threshold: float = 0.0
    mask: Path | None = None
    labels: Path | None = None
    markers: Path | None = None


def chimerax_frame(geometry: Geometry) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the origin and the voxel size (x, y, z) in angstrom with which ChimeraX shows an MRC file."""
    step = np.array(geometry.voxel_size[::-1], np.float64)
    if not (step > 0).all():
        step = np.ones(3)
    origin = np.array(geometry.origin[::-1], np.float64)
    return (origin if origin.any() else np.array(geometry.start[::-1]) * step), step


def write_scene(path: Path, scene: Scene, folder: Path, *, overwrite: bool = False) -> None:
    """Write a ChimeraX script (.cxc).

    Parameters
    ----------
    path
        File to write.
    scene
        Files to show.
    folder
        Folder from which the script is opened; file names are relative to it.
    overwrite
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    lines = [
        f"# {_one_line(scene.tomogram.source.name)}, written by cryoseg {__version__}",
        "# The script closes what is open.",
        "close session",
    ]
    origin, step = chimerax_frame(scene.tomogram.geometry)
    models = 0

    def add(volume: Path | None, *commands: str) -> bool:
        """Open a volume at the place of the tomogram; return whether ChimeraX can."""
        nonlocal models
        if volume is None:
            return False
        if known_suffix(volume, (*MRC_SUFFIXES, ".mrcs")) is None:
            lines.append(f"# {_one_line(volume.name)} is no MRC file; convert it to see it here.")
            return False
        models += 1
        lines.append(f"open {_quoted(volume, folder)} format mrc")
        settings = (f"voxelSize {_triple(step)}", f"origin {_triple(origin)}", *commands)
        lines.extend(f"volume #{models} {setting}" for setting in settings)
        return True

    z, y, x = scene.tomogram.data.shape
    add(scene.tomogram.source, f"style image step 1 region 0,0,{z // 2},{x - 1},{y - 1},{z // 2}")
    surface = f"style surface step 1 color {MEMBRANE_COLOR}"
    add(scene.logits, f"{surface} level {scene.threshold:g}")
    add(scene.mask, f"{surface} level 0.5", *(("hide",) if scene.labels else ()))
    if add(scene.labels, "hide"):
        lines.append(f"segmentation surfaces #{models}")
    if scene.markers is not None:
        lines.append(f"open {_quoted(scene.markers, folder)}")
    lines.append("view")
    with atomic_text(path, overwrite=overwrite) as stream:
        stream.write("\n".join(lines) + "\n")


def write_markers(
    path: Path, picks: Picks, geometry: Geometry, *, diameter: float = 0.0, overwrite: bool = False
) -> None:
    """Write picks as a marker file (.cmm).

    Parameters
    ----------
    path
        File to write.
    picks
        Picks in voxels (z, y, x) of a tomogram. Points of one track are joined by links.
    geometry
        Geometry of the tomogram.
    diameter
        Diameter of the markers in angstrom; 0.0 stands for four voxels.
    overwrite
        Whether an existing file is replaced.

    Raises
    ------
    OutputError
        If the file exists or cannot be written.
    """
    origin, step = chimerax_frame(geometry)
    radius = diameter / 2 or 2 * float(step.min())
    scores = None if picks.scores is None else np.clip(picks.scores.astype(np.float64), 0, 1)
    lines = [f"<marker_set name={quoteattr(_one_line(path.stem))}>"]
    for number, center in enumerate(picks.centers):
        share = 1.0 if scores is None else float(scores[number])
        position = "".join(
            f' {name}="{value:.3f}"' for name, value in zip("xyz", origin + center[::-1] * step, strict=True)
        )
        color = _color(share)
        score = "" if scores is None else f' score="{share:.6g}"'
        lines.append(f'<marker id="{number + 1}"{position}{color} radius="{radius:.4g}"{score}/>')
    if picks.tracks is not None:
        for track in np.unique(picks.tracks):
            for one, other in pairwise(np.flatnonzero(picks.tracks == track) + 1):
                lines.append(f'<link id1="{one}" id2="{other}"{_color(1.0)} radius="{radius / 2:.4g}"/>')
    lines.append("</marker_set>")
    with atomic_text(path, overwrite=overwrite) as stream:
        stream.write("\n".join(lines) + "\n")


def _color(share: float) -> str:
    color = _LOW_SCORE + share * (_HIGH_SCORE - _LOW_SCORE)
    return "".join(f' {name}="{value:.3g}"' for name, value in zip("rgb", color, strict=True))


def _quoted(path: Path, folder: Path) -> str:
    """Return the quoted name of a file relative to a folder."""
    try:
        name = os.path.relpath(path.absolute(), folder.absolute())
    except ValueError:  # The file is on another drive.
        name = str(path.absolute())
    name = name.replace(os.sep, "/").replace("\\", "\\\\")
    return f"'{name}'" if '"' in name else f'"{name}"'


def _triple(values: NDArray[np.float64]) -> str:
    return ",".join(f"{value:.7g}" for value in values)


def _one_line(text: str) -> str:
    return " ".join(text.split())
