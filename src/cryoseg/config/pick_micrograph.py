"""Settings of `cryoseg pick` on micrographs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.pick import FLAT_FORMATS, PickFormat
from cryoseg.config.prompt_sam import NativeMode
from cryoseg.config.segment import Polarity
from cryoseg.errors import ConfigError

SMALLEST_PARTICLE_PX = 5.0
MICROGRAPH_FORMATS = (PickFormat.STAR, PickFormat.CSV, *FLAT_FORMATS)


class PickView(StrEnum):
    """How a network sees a micrograph.

    `tiles`: scaled to the network's particle size, in overlapping tiles. `whole`: squeezed into one
    square, as in Prompt_sam_cryoPPP; its small particles are lost, so this is for comparison.
    """

    TILES = "tiles"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class MicrographPickConfig:
    """Everything that changes the picks of one micrograph.

    Attributes
    ----------
    particle_diameter_angstrom, particle_diameter_px
        Largest diameter of the particle; one of the two is needed.
    pixel_size
        In angstrom; None believes the file.
    view
        See `PickView`.
    mode
        See `NativeMode`; only a published SAM has another than the grid.
    logit_threshold
        Pixels above it are particle; None takes the model's.
    score_threshold
        In [0, 1]: picks with a lower score are dropped. With calibrated scores, F1 is highest at half
        of its highest value (Lipton, Elkan and Naryanaswamy 2014, arXiv 1402.1892).
    min_distance_angstrom
        Of two picks, the better is kept; None takes 0.4 diameters.
    border_angstrom
        Picks nearer than this to the sides are dropped.
    max_picks
        Keep the best so many; None keeps all.
    polarity
        Whether particles are dark or bright in the file; `as-is` does what the model wants.
    clip_outliers
        Replace lonely extreme pixels first.
    low_pass_angstrom
        Blur detail finer than this first; None does not.
    flatten_diameters
        Take away the local mean over so many particle diameters first; None leaves it to the model's
        own view, which does so over five.
    """

    particle_diameter_angstrom: float | None = None
    particle_diameter_px: float | None = None
    pixel_size: float | None = None
    view: PickView = PickView.TILES
    mode: NativeMode = NativeMode.GRID
    logit_threshold: float | None = None
    score_threshold: float = 0.4
    min_distance_angstrom: float | None = None
    border_angstrom: float = 0.0
    max_picks: int | None = None
    polarity: Polarity = Polarity.DARK
    clip_outliers: bool = False
    low_pass_angstrom: float | None = None
    flatten_diameters: float | None = None

    def __post_init__(self) -> None:
        given = [self.particle_diameter_angstrom, self.particle_diameter_px]
        if given == [None, None]:
            raise ConfigError(
                "Picking in micrographs needs the particle's size. Pass --particle-diameter in angstrom, or "
                "--particle-diameter-px in pixels."
            )
        if None not in given:
            raise ConfigError("Pass --particle-diameter or --particle-diameter-px, not both.")
        for option, value in (
            ("--particle-diameter", self.particle_diameter_angstrom),
            ("--particle-diameter-px", self.particle_diameter_px),
            ("--pixel-size", self.pixel_size),
            ("--low-pass", self.low_pass_angstrom),
            ("--flatten", self.flatten_diameters),
        ):
            if value is not None and not 0 < value < float("inf"):
                raise ConfigError(f"{option} {value:g}: must be positive.")
        if not 0 <= self.score_threshold <= 1:
            raise ConfigError(f"--score-threshold {self.score_threshold:g}: must lie in [0, 1].")
        if self.max_picks is not None and self.max_picks < 1:
            raise ConfigError(f"--max-picks {self.max_picks}: must be at least 1.")
        if self.min_distance_angstrom is not None and self.min_distance_angstrom < 0:
            raise ConfigError(f"--min-distance {self.min_distance_angstrom:g}: must not be negative.")
        if self.border_angstrom < 0:
            raise ConfigError(f"--border {self.border_angstrom:g}: must not be negative.")


@dataclass(frozen=True, kw_only=True)
class MicrographPickOptions:
    """What is written for every micrograph.

    Attributes
    ----------
    formats
        Coordinate files.
    mask, logits, overlay
        The mask and the logits as MRC at the micrograph's size; a picture with circles.
    combined
        One STAR of all micrographs of the run as well.
    overwrite
        Replace finished outputs; they are kept otherwise.
    """

    formats: tuple[PickFormat, ...] = (PickFormat.STAR,)
    mask: bool = True
    logits: bool = False
    overlay: bool = True
    combined: bool = True
    overwrite: bool = False

    def __post_init__(self) -> None:
        for flavor in self.formats:
            if flavor not in MICROGRAPH_FORMATS:
                raise ConfigError(
                    f"--format {flavor}: is for tomograms. For micrographs choose from "
                    f"{', '.join(MICROGRAPH_FORMATS)}."
                )
