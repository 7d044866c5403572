"""Settings of `cryoseg convert`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from cryoseg.config.pick import PickFormat, score_threshold_setting
from cryoseg.config.pick_membrane import read_angstrom
from cryoseg.config.setting import Settings, setting, write_sizes
from cryoseg.errors import ConfigError

from_relion4_setting = partial(
    setting, False, help="Coordinates in STAR files are in unbinned pixels, as RELION 4 writes them."
)


class Downsampling(StrEnum):
    """How an image was downsampled by a factor s, which gives the position of its pixel i in the larger one.

    `average`: averages of s x s pixels, with pixel i at s i + (s - 1) / 2, as in most programs. `fourier`:
    cropping of the Fourier transform, with pixel i at s i, as in Topaz.
    """

    AVERAGE = "average"
    FOURIER = "fourier"


class Place(StrEnum):
    """Where a pick lies with respect to membranes.

    `inside`: on the inner side of the nearest membrane, or within any closed one. `outside`: elsewhere.
    `within`: at most a distance from the middle of the nearest membrane.
    """

    INSIDE = "inside"
    OUTSIDE = "outside"
    WITHIN = "within"


@dataclass(frozen=True, kw_only=True)
class PlaceRule:
    """A rule by which picks are kept.

    Attributes
    ----------
    place
        Place of the picks that are kept.
    distance_angstrom
        Largest distance of `Place.WITHIN`.
    """

    place: Place
    distance_angstrom: float = 0.0

    @classmethod
    def read(cls, text: str, *, option: str) -> PlaceRule:
        """Read `inside`, `outside` or `within:100A`.

        Raises
        ------
        ConfigError
            If the text has another form.
        """
        word, colon, length = text.partition(":")
        if word not in set(Place) or (word == Place.WITHIN) != bool(colon):
            raise ConfigError(f"{option} {text}: use inside, outside, or within and a length as within:100A.")
        distance = read_angstrom(length, option=f"{option} within:") if colon else 0.0
        return cls(place=Place(word), distance_angstrom=distance)

    def __str__(self) -> str:
        return f"{self.place}:{self.distance_angstrom:g}A" if self.place is Place.WITHIN else str(self.place)


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
        None, help="Name of the tomogram or image, where IN gives none or only its number.", shown="IN's name"
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
        help="How the smaller image was made. average: its pixel i lies at s i + (s - 1) / 2 of the larger "
        "image. fourier (Topaz): it lies at s i.",
        shown="by the format",
    )
    flip: str = setting("", help="Axes to mirror, such as y or xz; needs the size of the image.")
    flip_y: bool = setting(False, help="The same as --flip y.")
    near: Path | None = setting(
        None,
        help="Mask, logits or labels of membranes, or a folder of masks named after the tomograms; distance, "
        "number and normal of the nearest membrane are added to the picks.",
    )
    keep: tuple[PlaceRule, ...] = setting(
        (),
        help="Keep picks inside or outside of the membranes of --near, or within a distance of one: inside, "
        "outside or within:100A; repeat for several.",
        read=PlaceRule.read,
        metavar="PLACE",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.keep and self.near is None:
            raise ConfigError("--keep: needs the membranes. Pass --near.")
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
