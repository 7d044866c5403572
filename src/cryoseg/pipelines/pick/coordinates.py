"""Coordinate files of tomograms: their names, the frames of RELION, and the formats of one tomogram."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cryoseg.config.pick import PickFormat, PickOutputs
from cryoseg.errors import InputError
from cryoseg.io.inputs import stem
from cryoseg.io.outputs import ANNOTATION_SUFFIX
from cryoseg.io.picks.copick_project import CopickOutput, copick_output
from cryoseg.io.picks.frame import PickFrame
from cryoseg.io.picks.picks import PICKS_TAG, write_picks
from cryoseg.io.picks.portal_annotation import PortalAnnotation
from cryoseg.io.picks.relion_frame import RelionFrame
from cryoseg.io.records import hash_file
from cryoseg.pipelines.pick.joint import RELION_FORMATS
from cryoseg.types import ListedImage, Picks


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
        Where the picks are stored in a copick project; None stores them in files only.
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

    def write_annotation(
        self, outputs: Mapping[str, Path], name: str, picks: Picks, frame: PickFrame, *, method: str
    ) -> None:
        """Write the annotation of the tomogram `name` for the CryoET Data Portal, if it is asked for."""
        if self.outputs.portal_annotation is not None:
            annotation = PortalAnnotation.read(self.outputs.portal_annotation)
            annotation.write_picks(outputs["annotation"], name, picks, frame, method=method)

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
        project = copick_output(self.outputs.copick, inputs, overwrite=self.outputs.overwrite)
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
            "copick": self._stored(),
            "portal_annotation": None if metadata is None else {"sha256": hash_file(metadata)},
        }

    def options(self, path: Path) -> dict[str, Any]:
        """Return the options by which a command repeats the request for one tomogram."""
        metadata = self.outputs.portal_annotation
        return {
            "inputs": [path.absolute()],
            "pixel-size": self.pixel_size,
            "copick": self._stored(),
            "portal-annotation": None if metadata is None else metadata.absolute(),
            "tomogram-name": tomogram_rule(self.tomogram, path),
        }

    def _stored(self) -> str | None:
        return None if self.project is None else self.project.uri("picks")

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
    base = f"{name}{PICKS_TAG}"
    paths: dict[str, Path] = {}
    for flavor in outputs.written:
        name = "_".join(filter(None, (base, flavor.tag)))
        paths[flavor.value] = folder / f"{name}{flavor.suffix}"
        if flavor.traits.beside:
            paths[f"beside_{flavor}"] = folder / f"{name}{flavor.traits.beside}"
    if outputs.heat_map:
        paths["heat_map"] = folder / f"{base}_heat_map{outputs.output_format.suffix}"
    if outputs.preview:
        paths["preview"] = folder / f"{base}_preview.png"
    if outputs.chimerax:
        paths["markers"] = folder / f"{base}.cmm"
        paths["scene"] = folder / f"{base}.cxc"
    if outputs.portal_annotation is not None:
        paths["annotation"] = folder / f"{base}{ANNOTATION_SUFFIX}"
    paths["record"] = folder / f"{base}.json"
    return paths


def write_formats(outputs: Mapping[str, Path], name: str, picks: Picks, frame: PickFrame) -> None:
    """Write the picks of the tomogram `name` in every format that has a path in `outputs`."""
    for flavor in PickFormat:
        if flavor.value in outputs:
            write_picks(outputs[flavor.value], {name: picks}, frame, flavor=flavor)
