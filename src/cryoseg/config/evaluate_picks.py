"""Settings of `cryoseg evaluate picks`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.common import diameter_setting, pixel_size_setting, seed_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

_RADIUS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(A|Å|px|vox|R)", re.I)


class RadiusUnit(StrEnum):
    """Unit of a matching radius; `R` is the radius of the particle."""

    ANGSTROM = "A"
    PIXEL = "px"
    PARTICLE = "R"


class PickMatching(StrEnum):
    """How picks and truths are matched.

    `optimal`: the largest one-to-one matching within the radius. `cetpick`: as in the published script of
    CET-pick, whose effective radius is the given one to the power 1.5.
    """

    OPTIMAL = "optimal"
    CETPICK = "cetpick"


@dataclass(frozen=True, kw_only=True)
class Radius:
    """A length for matching, as the user gave it."""

    value: float
    unit: RadiusUnit

    @classmethod
    def parse(cls, text: str, *, option: str) -> Radius:
        """Read `30A`, `4px` or `0.5R`.

        Raises
        ------
        ConfigError
            If the text has another form; the message names `option`.
        """
        match = _RADIUS.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{option} {text}: give a length with its unit, such as 30A, 4px or 0.5R.")
        units = {"a": RadiusUnit.ANGSTROM, "å": RadiusUnit.ANGSTROM, "r": RadiusUnit.PARTICLE}
        return cls(value=float(match[1]), unit=units.get(match[2].lower(), RadiusUnit.PIXEL))

    def in_pixels(self, *, pixel_size: float | None, diameter_angstrom: float | None, option: str) -> float:
        """Convert the length to pixels.

        Raises
        ------
        ConfigError
            If the pixel size or the diameter is needed but unknown.
        """
        if self.unit is RadiusUnit.PIXEL:
            return self.value
        if not pixel_size:
            raise ConfigError(f"{option} {self}: needs the pixel size. Pass --pixel-size in angstrom.")
        if self.unit is RadiusUnit.ANGSTROM:
            return self.value / pixel_size
        if not diameter_angstrom:
            raise ConfigError(
                f"{option} {self}: needs the diameter of the particle. Pass --particle-diameter in angstrom."
            )
        return self.value * diameter_angstrom / 2 / pixel_size

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


def read_image_shape(text: str, *, option: str) -> tuple[int, ...]:
    """Read Z,Y,X or Y,X, with commas or with x between the numbers.

    Raises
    ------
    ConfigError
        If the text has another form.
    """
    try:
        shape = tuple(int(word) for word in text.replace("x", ",").split(","))
    except ValueError:
        raise ConfigError(f"{option} {text}: give whole numbers, such as 64,256,256.") from None
    if len(shape) not in (2, 3):
        raise ConfigError(f"{option} {text}: give two or three sizes, slowest axis first.")
    return shape


@dataclass(frozen=True, kw_only=True)
class EvaluatePicksConfig(Settings):
    """Settings of `cryoseg evaluate picks`.

    Attributes
    ----------
    bootstrap_samples
        Number of samples for the confidence intervals over images.
    """

    radius: Radius = setting(
        help="Largest distance of a correct pick from its truth: 30A, 4px, or 0.5R (particle radii).",
        read=Radius.parse,
    )
    margin: Radius | None = setting(
        None,
        help="Border of the image that does not count: 30A, 4px or 0.5R.",
        read=Radius.parse,
        shown="none",
    )
    threshold: float | None = setting(
        None, help="Drop picks of a lower score before counting.", shown="keep all"
    )
    # Source: CZII CryoET Object Identification (Kaggle 2024), which weighs recall with beta = 4.
    beta: float = setting(4.0, help="Beta of F-beta; recall weighs more above 1.", above=0)
    diameter_angstrom: float | None = diameter_setting(shown="none")
    pixel_size: float | None = pixel_size_setting()
    shape: tuple[int, ...] | None = setting(
        None,
        help="Shape of the images for --margin: Z,Y,X or Y,X.",
        read=read_image_shape,
        write=lambda shape: ",".join(map(str, shape)),
        repeat=False,
        at_least=1,
        shown="as in the files",
    )
    matching: PickMatching = setting(
        PickMatching.OPTIMAL, help="cetpick: as CET-pick's script matches, to compare with old tables."
    )
    seed: int = seed_setting()
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius.value <= 0:
            raise ConfigError(f"--radius {self.radius}: must be greater than 0.")
