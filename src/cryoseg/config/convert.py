"""Settings of `cryoseg convert`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.pick import PickFormat, score_threshold_setting
from cryoseg.config.setting import Settings, setting, write_sizes
from cryoseg.errors import ConfigError


def from_relion4_setting() -> bool:
    """Whether STAR files are those of RELION 4."""
    flag: bool = setting(
        False, help="Coordinates in STAR files are unbinned pixels, as RELION 4 writes them."
    )
    return flag


class Downsampling(StrEnum):
    """How an image was downsampled by a factor s, which gives the position of its pixel i in the larger one.

    `average`: averages of s x s pixels, with pixel i at s i + (s - 1) / 2, as in most programs. `fourier`:
    cropping of the Fourier transform, with pixel i at s i, as in Topaz.
    """

    AVERAGE = "average"
    FOURIER = "fourier"


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(Settings):
    """Settings of the conversion of coordinates."""

    flavor: PickFormat | None = setting(
        None,
        help="Format of OUT, where several have its suffix.",
        flags=("--format", "-f"),
        shown="by the suffix",
    )
    from_relion4: bool = from_relion4_setting()
    keep_shifts: bool = setting(
        False,
        help="Keep shifts of a refinement beside the coordinates, where OUT can hold them; else they are "
        "added to the coordinates.",
    )
    name: str | None = setting(
        None, help="Name of the tomogram or image, where IN gives none.", shown="IN's name"
    )
    diameter_px: float | None = setting(
        None,
        help="Diameter of the particle in OUT, for .box, .cbox and CryoPPP's CSV.",
        flags=("--particle-diameter-px",),
        above=0,
        unit="pixels",
        shown="IN's, scaled",
    )
    score_threshold: float | None = score_threshold_setting(None, shown="all")
    scale: float = setting(1.0, help="Factor from the voxels of IN to those of OUT.", above=0)
    downsampling: Downsampling | None = setting(
        None,
        help="How the smaller image was made: average puts its pixel i at s i + (s - 1) / 2 of the larger, "
        "fourier (Topaz) at s i.",
        shown="by the format",
    )
    flip: str = setting("", help="Axes to mirror, such as y or xz; needs the size of the image.")
    flip_y: bool = setting(False, help="Short for --flip y.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if set(self.flip.lower()) - set("xyz"):
            raise ConfigError(f"--flip {self.flip}: name axes out of x, y and z.")

    @property
    def mirrored(self) -> str:
        """Axes to mirror, each once."""
        return "".join(dict.fromkeys(self.flip.lower() + ("y" if self.flip_y else "")))


def read_image_size(text: str, *, option: str) -> tuple[int, ...]:
    """Read XxYxZ or XxY as (z, y, x) or (y, x)."""
    if not re.fullmatch(r"\d+([xX,]\d+){1,2}", text):
        raise ConfigError(f"{option} {text}: write it as XxYxZ or XxY, such as 1024x1024x300.")
    return tuple(int(part) for part in reversed(re.split("[xX,]", text)))


def write_image_size(shape: tuple[int, ...]) -> str:
    """Invert `read_image_size`."""
    return write_sizes(shape[::-1])
