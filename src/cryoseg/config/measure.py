"""Settings of `cryoseg measure`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from cryoseg.config.common import (
    ComponentChoice,
    Mode0,
    StoredOutputs,
    logit_threshold_setting,
    mode0_setting,
    overwrite_setting,
    pixel_size_setting,
)
from cryoseg.config.pick_membrane import read_angstrom
from cryoseg.config.setting import range_setting, setting
from cryoseg.errors import ConfigError

_AMOUNT = re.compile(r"\s*(\d+(?:\.\d*)?)\s*(voxels?|nm3|slices?)?\s*")


class MeshFormat(StrEnum):
    """Formats of meshes."""

    PLY = "ply"
    OBJ = "obj"
    STL = "stl"
    GLB = "glb"


@dataclass(frozen=True, kw_only=True)
class Least:
    """Smallest size of a component: a number of voxels, nm^3, or slices along z."""

    number: float = 0.0
    unit: str = "voxels"

    def __str__(self) -> str:
        return f"{self.number:g}{self.unit}"

    @classmethod
    def read(cls, text: str, *, option: str) -> Least:
        """Read a size such as `500`, `500voxels`, `2000nm3` or `10slices`.

        Raises
        ------
        ConfigError
            If the text has another form.
        """
        match = _AMOUNT.fullmatch(text)
        if match is None:
            raise ConfigError(f"{option} {text}: give a number of voxels, or as 2000nm3 or 10slices.")
        unit = match[2] or "voxels"
        return cls(number=float(match[1]), unit=unit if unit == "nm3" else unit.rstrip("s") + "s")


@dataclass(frozen=True, kw_only=True)
class MeasureConfig(ComponentChoice):
    """What is measured."""

    logit_threshold: float | None = logit_threshold_setting(shown="recorded")
    pixel_size: float | None = pixel_size_setting()
    min_volume: Least = setting(
        Least(),
        help="Leave out components smaller than this: a number of voxels, or a size such as 2000nm3 or "
        "10slices.",
        metavar="SIZE",
        read=Least.read,
        shown="0",
    )
    tilt_range: tuple[float, float] = range_setting(
        (-60.0, 60.0),
        help="Smallest and largest tilt about y in degrees, as LOW:HIGH, for the missing wedge.",
        metavar="LOW:HIGH",
        at_least=-90,
        at_most=90,
    )
    mode0: Mode0 = mode0_setting()
    tomogram: Path | None = setting(
        None,
        help="Tomogram of the mask, or a folder of tomograms, to measure leaflet distances too.",
    )
    picks: Path | None = setting(
        None,
        help="Coordinates whose density and distances on the membranes are measured.",
        flags=("--picks", "-p"),
    )
    picks_within_angstrom: float = setting(
        100.0,
        help="Picks at most this far from the middle of a membrane are on it, such as 100A or 10nm.",
        flags=("--picks-within",),
        above=0,
        unit="angstrom",
        read=read_angstrom,
        metavar="LENGTH",
    )


@dataclass(frozen=True, kw_only=True)
class MeasureOutputs(StoredOutputs):
    """What is written beside the table and the page."""

    labels: bool = setting(False, help="Write the numbers of the components as a volume.")
    split: bool = setting(False, help="Write one mask per component, into a folder.")
    fill_lumen: bool = setting(
        False, help="Write a volume with 1 on membranes and 2 inside of the closed ones."
    )
    midline: bool = setting(False, help="Write a mask of the voxels that the mid-surfaces pass.")
    mesh: tuple[MeshFormat, ...] = setting(
        (), help="Write the mid-surfaces as a mesh in this format; repeat for several."
    )
    mesh_fraction: float = setting(
        1.0, help="Share of the triangles of the meshes that is kept.", above=0, at_most=1
    )
    overwrite: bool = overwrite_setting()
