"""Settings of `cryoseg pick` on micrographs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from cryoseg.config.common import (
    Mode0,
    OutputFormat,
    diameter_px_setting,
    logit_threshold_setting,
    mode0_setting,
    output_format_setting,
    overwrite_setting,
    pixel_size_setting,
)
from cryoseg.config.pick import (
    MICROGRAPH_FORMATS,
    PickFormat,
    PickLimits,
    formats_setting,
    pick_picture_setting,
    relion_setting,
    with_format,
)
from cryoseg.config.prompt_sam import NativeMode
from cryoseg.config.segment import Polarity, polarity_setting
from cryoseg.config.setting import Settings, setting
from cryoseg.errors import ConfigError

SMALLEST_PARTICLE_PX = 5.0


AUTO_DIAMETER = 0.0  # stands for a diameter that is estimated


def read_diameter(text: str, *, option: str) -> float:
    """Read a diameter in angstrom, or `auto` as `AUTO_DIAMETER`."""
    if text == "auto":
        return AUTO_DIAMETER
    try:
        diameter = float(text)
    except ValueError:
        diameter = AUTO_DIAMETER
    if diameter == AUTO_DIAMETER:
        raise ConfigError(f"{option} {text}: give a positive number of angstrom, or auto.")
    return diameter


def write_diameter(diameter: float) -> str:
    """Return a diameter in angstrom as `read_diameter` reads it."""
    return "auto" if diameter == AUTO_DIAMETER else f"{diameter:g}"


class PickView(StrEnum):
    """Input of the network.

    `tiles`: overlapping tiles at the scale of the network. `whole`: the image resized to one square, as in
    Prompt_sam_cryoPPP, for comparison; small particles are lost.
    """

    TILES = "tiles"
    WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class MicrographPickConfig(PickLimits):
    """Settings of picking in micrographs.

    With calibrated scores, F1 is highest at a score threshold of half of its highest value (Lipton, Elkan
    and Naryanaswamy 2014, arXiv 1402.1892).
    """

    panel: ClassVar[str] = "Micrographs"

    particle_diameter_angstrom: float | None = setting(
        None,
        help="Largest diameter of the particle, or width of the filament; `auto` estimates it in each "
        "micrograph.",
        flags=("--particle-diameter",),
        at_least=0,
        unit="angstrom",
        shown="the model's in tomograms",
        read=read_diameter,
        write=write_diameter,
    )
    particle_diameter_px: float | None = diameter_px_setting(shown="none")
    pixel_size: float | None = pixel_size_setting()
    find_scale: bool = setting(
        True,
        help="Measure the width of the particles at several scales first, and scale the micrograph by it, if "
        "the model was trained on particles of different sizes.",
        flags=("--find-scale/--no-find-scale",),
    )
    mode0: Mode0 = mode0_setting()
    view: PickView = setting(
        PickView.TILES,
        help="Input of the network: overlapping tiles at its scale, or the whole image resized to one "
        "square, as in Prompt_sam_cryoPPP.",
    )
    mode: NativeMode = setting(
        NativeMode.GRID,
        help="Prompts of a published SAM: one mask for a grid of points, or its automatic mask generator.",
    )
    logit_threshold: float | None = logit_threshold_setting(shown="the model's; for micrographs")
    precision: float | None = setting(
        None,
        help="Instead of a score threshold, keep as many picks as have this expected precision, which is the "
        "mean of their scores.",
        above=0,
        at_most=1,
        shown="none",
    )
    false_picks: float | None = setting(
        None,
        help="Instead of a score threshold, keep as many picks of each micrograph as contain this expected "
        "number of false ones.",
        at_least=0,
        shown="none",
    )
    polarity: Polarity = polarity_setting(Polarity.DARK)
    clip_outliers: bool = setting(False, help="Replace isolated extreme pixels first.")
    low_pass_angstrom: float | None = setting(
        None,
        help="Blur details finer than this first.",
        flags=("--low-pass",),
        above=0,
        unit="angstrom",
        shown="none",
    )
    flatten_diameters: float | None = setting(
        None,
        help="Subtract the local mean over this many particle diameters first.",
        flags=("--flatten",),
        above=0,
        shown="five, by the model",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [self.particle_diameter_angstrom, self.particle_diameter_px]
        if given == [None, None]:
            raise ConfigError(
                "Picking in micrographs needs the particle's size. Pass --particle-diameter in angstrom, "
                "--particle-diameter-px in pixels, or --particle-diameter auto."
            )
        if None not in given:
            raise ConfigError("Pass --particle-diameter or --particle-diameter-px, not both.")
        if self.estimates_diameter and self.flatten_diameters is not None:
            raise ConfigError("--flatten: is in particle diameters; pass it with a number for the diameter.")
        if self.estimates_diameter and self.view is PickView.WHOLE:
            raise ConfigError("--particle-diameter auto: needs tiles; leave out --view whole.")
        rules = {
            "--score-threshold": self.score_threshold,
            "--precision": self.precision,
            "--false-picks": self.false_picks,
        }
        chosen = [option for option, value in rules.items() if value is not None]
        if len(chosen) > 1:
            raise ConfigError(f"Pass {' or '.join(chosen)}, not both.")

    @property
    def estimates_diameter(self) -> bool:
        """Whether the diameter is estimated."""
        return self.particle_diameter_angstrom == AUTO_DIAMETER


@dataclass(frozen=True, kw_only=True)
class MicrographPickOptions(Settings):
    """Outputs of picking in micrographs.

    Attributes
    ----------
    combined
        Whether a STAR file of all micrographs is written too.
    """

    panel: ClassVar[str] = "Micrographs"

    formats: tuple[PickFormat, ...] = formats_setting()
    relion: bool = relion_setting()
    mask: bool = setting(True, help="Write the mask.", flags=("--store-mask/--no-store-mask",))
    logits: bool = setting(
        False, help="Write the logits as float32.", flags=("--store-logits/--no-store-logits",)
    )
    output_format: OutputFormat = output_format_setting()
    overlay: bool = pick_picture_setting()
    combined: bool = True
    overwrite: bool = overwrite_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        for flavor in self.formats:
            if flavor not in MICROGRAPH_FORMATS:
                raise ConfigError(
                    f"--format {flavor}: is for tomograms. For micrographs choose from "
                    f"{', '.join(MICROGRAPH_FORMATS)}."
                )

    @property
    def written(self) -> tuple[PickFormat, ...]:
        """Formats that are written, with that of RELION if it is needed."""
        return with_format(self.formats, PickFormat.STAR) if self.relion else self.formats
