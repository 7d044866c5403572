"""Coordinate files of tomograms: their names, the frames of RELION, and the formats of one tomogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cryoseg.config.pick import PickFormat, PickOutputs, ThicknessAxis
from cryoseg.errors import InputError
from cryoseg.io.inputs import stem
from cryoseg.io.outputs import ANNOTATION_SUFFIX, folder_of
from cryoseg.io.picks.chimerax import Scene, write_markers, write_scene
from cryoseg.io.picks.copick_project import CopickOutput, copick_output
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import PICKS_TAG, write_picks
from cryoseg.io.picks.portal_annotation import PortalAnnotation
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.records import hash_file
from cryoseg.pipelines.batches.finished import named_outputs
from cryoseg.pipelines.pick.joint import RELION_FORMATS
from cryoseg.types import ListedImage, Picks, Tomogram


@dataclass(frozen=True, kw_only=True)
class PickedObject:
    """What the picks of a tomogram are, for the coordinate files and for ChimeraX.

    Attributes
    ----------
    method
        Words that describe the method, for annotations of the CryoET Data Portal.
    diameter_angstrom, marker_angstrom
        Diameter of the particle, and that of its markers.
    thickness_axis
        Axis along which the tomogram is thin.
    mask
        Mask that the scene shows; None without one.
    """

    method: str
    diameter_angstrom: float
    marker_angstrom: float
    thickness_axis: ThicknessAxis = ThicknessAxis.Z
    mask: Path | None = None


@dataclass(frozen=True, kw_only=True)
class PicksRequest:
    """Request of coordinate files of tomograms.

    Attributes
    ----------
    outputs
        Outputs to write.
    relion
        Frames by name of the tomogram, for the STAR formats of RELION; the name "" matches all.
    pixel_size
        Pixel size in angstrom; overrides the headers.
    tomogram
        Name of the only tomogram in RELION; empty takes the name of the file.
    project
        Output in a copick project; None stores the picks in files only.
    """

    outputs: PickOutputs = field(default_factory=PickOutputs)
    relion: dict[str, RelionFrame] | None = None
    pixel_size: float | None = None
    tomogram: str = ""
    project: CopickOutput | None = None

    @property
    def wants_frames(self) -> bool:
        """Whether an output format needs frames of RELION."""
        return any(flavor in RELION_FORMATS for flavor in self.outputs.written)

    def check_frames(self) -> None:
        """Raise an error if metadata of an annotation, or frames of RELION for a format, are missing."""
        if self.outputs.portal_annotation is not None:
            PortalAnnotation.read(self.outputs.portal_annotation)
        if self.wants_frames and not self.relion:
            raise InputError(
                "--relion and --format star-relion4 and star-relion5 need the tilt series' pixel size and "
                "the unbinned size of the tomogram. Pass --tomograms-star, or --unbinned-pixel-size and "
                "--unbinned-size."
            )

    def prepared(self, inputs: Sequence[str | Path]) -> Self:
        """Return the request with its copick project, after `check_frames`."""
        self.check_frames()
        project = copick_output(self.outputs.copick, inputs, kind="picks", overwrite=self.outputs.overwrite)
        return replace(self, project=project)

    def of_tomogram(self, path: Path, listed: ListedImage | None) -> Self:
        """Return the request with the pixel size and name of one tomogram, as a list of inputs gives them."""
        entry = listed or ListedImage(name="")
        return replace(
            self,
            pixel_size=self.pixel_size or entry.pixel_size,
            tomogram=entry.tomogram or tomogram_name(self.outputs.tomogram_name, path),
        )

    def identity(self, path: Path) -> dict[str, Any]:
        """Return what determines the coordinate files of one tomogram, beside model and settings."""
        metadata = self.outputs.portal_annotation
        return {
            "reading": {"pixel_size": self.pixel_size},
            "relion": self.frame_of(path),
            "tomogram": self.tomogram,
            "copick": None,
            "portal_annotation": None if metadata is None else {"sha256": hash_file(metadata)},
        }

    def options(self, path: Path) -> dict[str, Any]:
        """Return the options by which a command repeats the request for one tomogram."""
        metadata = self.outputs.portal_annotation
        return {
            "inputs": [path.absolute()],
            "pixel-size": self.pixel_size,
            "portal-annotation": None if metadata is None else metadata.absolute(),
            "tomogram-name": tomogram_rule(self.tomogram, path),
        }

    def frame_of(self, path: Path) -> RelionFrame | None:
        """Return the frame of a tomogram, if an output format needs frames.

        Raises
        ------
        InputError
            If no frame has the name of the tomogram.
        """
        if not self.wants_frames:
            return None
        name = self.tomogram or str(path)
        frame = PickFrame(relion=self.relion).relion_for(name)
        if frame is None:
            known = ", ".join(sorted(self.relion or {})[:5])
            raise InputError(
                f"{path}: {name} is not in the tomograms.star, which names {known}. Rename it, or pass "
                "--tomogram-name."
            )
        return replace(frame, name=self.tomogram) if self.tomogram else frame

    def write(
        self, outputs: Mapping[str, Path], tomogram: Tomogram, picks: Picks, about: PickedObject
    ) -> None:
        """Write the picks of a tomogram in all formats, with markers and a scene for ChimeraX.

        `outputs` holds temporary names by kind, as `output_paths`. Picks are in voxels of the tomogram, which
        has its voxel size.
        """
        path, geometry = tomogram.source, tomogram.geometry
        name, own = self.tomogram or stem(path), self.frame_of(path)
        frame = PickFrame(
            voxel_size=geometry.voxel_size[2],
            shape=tomogram.data.shape,
            thickness_axis=about.thickness_axis,
            relion=None if own is None else {"": own},
            diameter_angstrom=about.diameter_angstrom,
        )
        for flavor in PickFormat:
            if flavor.value in outputs:
                write_picks(outputs[flavor.value], {name: picks}, frame, flavor=flavor)
        if self.project is not None:
            self.project.write_picks(path, picks, frame)
        if self.outputs.portal_annotation is not None:
            annotation = PortalAnnotation.read(self.outputs.portal_annotation)
            annotation.write_picks(outputs["annotation"], name, picks, frame, method=about.method)
        if "scene" in outputs:
            write_markers(outputs["markers"], picks, geometry, diameter=about.marker_angstrom)
            folder = folder_of(outputs["scene"])
            markers = folder / outputs["markers"].name
            write_scene(outputs["scene"], Scene(tomogram=tomogram, mask=about.mask, markers=markers), folder)


def tomogram_name(rule: str | None, path: Path) -> str:
    """Return the part of a file name that * of --tomogram-name stands for; empty without a rule.

    Raises
    ------
    InputError
        If the name does not follow the rule.
    """
    if rule is None:
        return ""
    before, after = rule.split("*")
    name = stem(path)
    if not (name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)):
        raise InputError(f"{path}: --tomogram-name {rule} does not fit {name}. Give the pattern of its name.")
    return name[len(before) : len(name) - len(after)]


def tomogram_rule(name: str, path: Path) -> str | None:
    """Return the value of --tomogram-name by which a file has a name; None if there is none."""
    return stem(path).replace(name, "*", 1) if name and name in stem(path) else None


def output_paths(folder: Path, name: str, outputs: PickOutputs) -> dict[str, Path]:
    """Return the output files of one input by kind; the record is the last one."""
    formats = [
        entry
        for one in outputs.written
        for entry in (
            (one.value, (True, f"{one.tag}{one.suffix}")),
            (f"beside_{one}", (bool(one.traits.beside), f"{one.tag}{one.traits.beside}")),
        )
    ]
    return named_outputs(
        folder / f"{name}{PICKS_TAG}",
        {
            **dict(formats),
            "heat_map": (outputs.heat_map, f"_heat_map{outputs.output_format.suffix}"),
            "preview": (outputs.preview, "_preview.png"),
            "markers": (outputs.chimerax, ".cmm"),
            "scene": (outputs.chimerax, ".cxc"),
            "annotation": (outputs.portal_annotation is not None, ANNOTATION_SUFFIX),
        },
    )
