"""Settings of `cryoseg evaluate`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.common import (
    Mode0,
    diameter_setting,
    logit_threshold_setting,
    mode0_setting,
    pixel_size_setting,
    seed_setting,
)
from cryoseg.config.setting import Settings, setting, write_list
from cryoseg.errors import ConfigError

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(A|Å|vox|voxels?|px)", re.I)


class Metric(StrEnum):
    """Groups of metrics of a segmentation.

    `overlap`: Dice, IoU, precision, recall. `near`: recall within some pixels in the slice plane and
    what is marked where nothing is. `width`: mean widths of the bands. `components`: recall of each
    annotated component. `surface`: surface Dice and distances. `cldice`: centerline Dice. `planes`:
    means over xy, xz and yz slices. `theta`: by the angle between membrane normal and beam. `auprc`:
    area under the precision-recall curve and best threshold, from logits. `prompt-sam`: Dice and IoU
    over five logit thresholds as in that paper, from logits.
    """

    OVERLAP = "overlap"
    NEAR = "near"
    WIDTH = "width"
    COMPONENTS = "components"
    SURFACE = "surface"
    CLDICE = "cldice"
    PLANES = "planes"
    THETA = "theta"
    AUPRC = "auprc"
    PROMPT_SAM = "prompt-sam"


# Metrics in the table of many files on the terminal; a name that ends in _ is a prefix.
HEADLINES = (
    "dice",
    "iou",
    "precision",
    "recall",
    "recall_",
    "clear_marked",
    "volume_marked",
    "width_",
    "truth_width_",
    "surface_",
    "auprc",
    "cldice",
    "picks",
    "truths",
    "f1",
    "f4",
    "average_precision",
    "best_f1",
    "error_mean_px",
)
FAST_METRICS = (Metric.OVERLAP, Metric.NEAR, Metric.WIDTH, Metric.COMPONENTS, Metric.PLANES, Metric.AUPRC)


@dataclass(frozen=True, kw_only=True)
class Length:
    """A length in angstrom or in voxels, as the user gave it."""

    value: float
    is_angstrom: bool

    @classmethod
    def parse(cls, text: str, *, option: str) -> Length:
        """Read `30A`, `2vox` or `2px`."""
        match = _LENGTH.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{option} {text}: give a length with its unit, such as 30A or 2vox.")
        return cls(value=float(match[1]), is_angstrom=match[2].upper() in ("A", "Å"))

    def __str__(self) -> str:
        return f"{self.value:g}{'A' if self.is_angstrom else 'vox'}"


def read_metrics(text: str, *, option: str) -> tuple[Metric, ...]:
    """Read `all`, or groups separated by commas."""
    words = [word.strip() for word in text.split(",") if word.strip()]
    if words == ["all"]:
        return tuple(Metric)
    if unknown := [word for word in words if word not in set(Metric)]:
        raise ConfigError(f"{option} {unknown[0]}: unknown; use all, or some of {', '.join(Metric)}.")
    return tuple(Metric(word) for word in words)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig(Settings):
    """Settings of `cryoseg evaluate segmentation`.

    Attributes
    ----------
    metrics
        Groups of metrics to compute; `overlap` is always computed.
    theta_edges_deg
        Edges in degrees of the bins of the angle between membrane normal and beam.
    bootstrap_samples
        Number of samples for the confidence intervals over files.
    """

    metrics: tuple[Metric, ...] = setting(
        FAST_METRICS,
        help=f"Groups of metrics with commas between them, or all: {', '.join(Metric)}.",
        read=read_metrics,
        write=write_list,
        repeat=False,
    )
    logit_threshold: float | None = logit_threshold_setting(shown="predictions are masks")
    truth_label: int | None = setting(
        None, help="Value of the truth that is membrane.", shown="its only positive value"
    )
    ignore_label: int = setting(-1, help="Voxels of the truth with this value are left out.")
    mode0: Mode0 = mode0_setting()
    allow_empty: bool = setting(
        False, help="Score a truth without marked voxels, which is an error otherwise."
    )
    near_distance_px: float = setting(
        3.0,
        help="Truth that is this near to a prediction in the slice plane counts as found.",
        flags=("--near-distance",),
        at_least=0,
        unit="pixels",
    )
    largest_components: int = setting(
        1,
        help="Also report the near recall of this number of largest components of the prediction.",
        at_least=1,
    )
    tolerances: tuple[Length, ...] = setting(
        (Length(value=1, is_angstrom=False), Length(value=2, is_angstrom=False)),
        help="Tolerance of surface Dice, such as 30A or 2vox; repeat for several.",
        flags=("--tolerance",),
        read=Length.parse,
    )
    # Source: jianlin-cheng/ETSAM evaluation/evaluate_etsam_theta_wise.py@58e8df8.
    theta_edges_deg: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0)
    seed: int = seed_setting()
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.truth_label is not None and self.truth_label == self.ignore_label:
            raise ConfigError(f"--truth-label {self.truth_label}: is the ignore label too; choose another.")


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
        """Read `30A`, `4px` or `0.5R`."""
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
    """Read Z,Y,X or Y,X, with commas or with x between the numbers."""
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
        None, help="Drop picks with a lower score than this before counting.", shown="keep all"
    )
    # Source: CZII CryoET Object Identification (Kaggle 2024), which weighs recall with beta = 4.
    beta: float = setting(4.0, help="Beta of F-beta; recall weighs more above 1.", above=0)
    diameter_angstrom: float | None = diameter_setting(shown="none")
    pixel_size: float | None = pixel_size_setting()
    shape: tuple[int, ...] | None = setting(
        None,
        help="Shape of the images for --margin: Z,Y,X or Y,X.",
        read=read_image_shape,
        write=write_list,
        repeat=False,
        at_least=1,
        shown="as in the files",
    )
    matching: PickMatching = setting(
        PickMatching.OPTIMAL,
        help="How picks and truth are matched; cetpick matches as the script of CET-pick does.",
    )
    seed: int = seed_setting()
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius.value <= 0:
            raise ConfigError(f"--radius {self.radius}: must be greater than 0.")
