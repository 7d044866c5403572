"""Settings of `cryoseg evaluate picks`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError

_RADIUS = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(A|Å|px|vox|R)", re.I)


class RadiusUnit(StrEnum):
    """What a matching radius is given in; `R` is the particle's radius."""

    ANGSTROM = "A"
    PIXEL = "px"
    PARTICLE = "R"


class PickMatching(StrEnum):
    """How picks and truths are matched.

    `optimal`: the largest one-to-one matching within the radius. `cetpick`: as CET-pick's published
    script does, whose radius is in effect the given one to the power 1.5.
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
            For anything else; `option` is named.
        """
        match = _RADIUS.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{option} {text}: give a length with its unit, such as 30A, 4px or 0.5R.")
        units = {"a": RadiusUnit.ANGSTROM, "å": RadiusUnit.ANGSTROM, "r": RadiusUnit.PARTICLE}
        return cls(value=float(match[1]), unit=units.get(match[2].lower(), RadiusUnit.PIXEL))

    def in_pixels(self, *, pixel_size: float | None, diameter_angstrom: float | None, option: str) -> float:
        """The length in pixels.

        Raises
        ------
        ConfigError
            If it needs a pixel size or a diameter that is not known.
        """
        if self.unit is RadiusUnit.PIXEL:
            return self.value
        if not pixel_size:
            raise ConfigError(f"{option} {self}: needs the pixel size. Pass --pixel-size in angstrom.")
        if self.unit is RadiusUnit.ANGSTROM:
            return self.value / pixel_size
        if not diameter_angstrom:
            raise ConfigError(f"{option} {self}: needs the particle. Pass --particle-diameter in angstrom.")
        return self.value * diameter_angstrom / 2 / pixel_size

    def __str__(self) -> str:
        return f"{self.value:g}{self.unit}"


@dataclass(frozen=True, kw_only=True)
class EvaluatePicksConfig:
    """Everything that changes the figures of `cryoseg evaluate picks`.

    Attributes
    ----------
    radius
        A pick is right if it lies at most this far from a truth of its own.
    margin
        Border of the image that does not count; None counts all.
    threshold
        Picks with a lower score are dropped for the counts; None keeps all.
    beta
        Of F-beta; 4 as in the CZII challenge.
    diameter_angstrom
        Of the particle; needed for lengths in R.
    pixel_size
        In angstrom; overrides the files.
    shape
        Of the images, in axis order; needed for a margin where the files do not tell it.
    matching
        `optimal`, or a published variant.
    seed, bootstrap_samples
        Of the confidence intervals over images.
    """

    radius: Radius
    margin: Radius | None = None
    threshold: float | None = None
    beta: float = 4.0
    diameter_angstrom: float | None = None
    pixel_size: float | None = None
    shape: tuple[int, ...] | None = None
    matching: PickMatching = PickMatching.OPTIMAL
    seed: int = 0
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        if self.radius.value <= 0:
            raise ConfigError(f"--radius {self.radius}: must be greater than 0.")
        if self.beta <= 0:
            raise ConfigError(f"--beta {self.beta}: must be greater than 0.")
        if self.shape is not None and (len(self.shape) not in (2, 3) or min(self.shape) < 1):
            raise ConfigError(f"--shape {self.shape}: give two or three positive sizes, slowest axis first.")
