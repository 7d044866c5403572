"""Settings of `cryoseg evaluate`."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError

_LENGTH = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(A|Å|vox|voxels?|px)", re.I)


class Metric(StrEnum):
    """Groups of figures of a segmentation.

    `overlap`: Dice, IoU, precision, recall. `near`: recall within some pixels in the slice plane and
    what is marked where nothing is. `components`: recall of each annotated component. `surface`:
    surface Dice and distances. `cldice`: centerline Dice. `planes`: means over xy, xz and yz slices.
    `theta`: by the angle between membrane normal and beam. `auprc`: area under the
    precision-recall curve and best threshold, from logits. `prompt-sam`: Dice and IoU over five logit
    thresholds as that paper has them, from logits.
    """

    OVERLAP = "overlap"
    NEAR = "near"
    COMPONENTS = "components"
    SURFACE = "surface"
    CLDICE = "cldice"
    PLANES = "planes"
    THETA = "theta"
    AUPRC = "auprc"
    PROMPT_SAM = "prompt-sam"


# Figures that a table of many files has room for, on the terminal; a name that ends in _ is a beginning.
HEADLINES = (
    "dice",
    "iou",
    "precision",
    "recall",
    "recall_",
    "clear_marked",
    "volume_marked",
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
FAST_METRICS = (Metric.OVERLAP, Metric.NEAR, Metric.COMPONENTS, Metric.PLANES, Metric.AUPRC)


@dataclass(frozen=True, kw_only=True)
class Length:
    """A length in angstrom or in voxels, as the user gave it."""

    value: float
    is_angstrom: bool

    @classmethod
    def parse(cls, text: str, *, option: str) -> Length:
        """Read `30A`, `2vox` or `2px`.

        Raises
        ------
        ConfigError
            For a number without unit, another unit or a negative number; `option` is named.
        """
        match = _LENGTH.fullmatch(text.strip())
        if match is None:
            raise ConfigError(f"{option} {text}: give a length with its unit, such as 30A or 2vox.")
        return cls(value=float(match[1]), is_angstrom=match[2].upper() in ("A", "Å"))

    def __str__(self) -> str:
        return f"{self.value:g}{'A' if self.is_angstrom else 'vox'}"


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Everything that changes the figures of `cryoseg evaluate segmentation`.

    Attributes
    ----------
    metrics
        Groups to compute; `overlap` always is.
    logit_threshold
        Predictions of real numbers are logits, and voxels above this are marked. None refuses them.
    truth_label
        The value of the truth that means membrane; None takes the only positive one.
    ignore_label
        Voxels of the truth with this value are left out of everything.
    near_distance_px
        How far in the slice plane a prediction may lie from an annotated voxel to count as found.
    largest_components
        The near-recall of this many largest components of the prediction alone is reported too.
    tolerances
        Of surface Dice; each in angstrom or voxels.
    theta_edges_deg
        Bins of the angle between membrane normal and beam.
    seed, bootstrap_samples
        Of the confidence intervals over files.
    """

    metrics: tuple[Metric, ...] = FAST_METRICS
    logit_threshold: float | None = None
    truth_label: int | None = None
    ignore_label: int = -1
    near_distance_px: float = 3.0
    largest_components: int = 1
    tolerances: tuple[Length, ...] = (
        Length(value=1, is_angstrom=False),
        Length(value=2, is_angstrom=False),
    )
    # Source: jianlin-cheng/ETSAM evaluation/evaluate_etsam_theta_wise.py@58e8df8.
    theta_edges_deg: tuple[float, ...] = (0.0, 30.0, 60.0, 90.0)
    seed: int = 0
    bootstrap_samples: int = 2000

    def __post_init__(self) -> None:
        if self.near_distance_px < 0:
            raise ConfigError(f"--near-distance {self.near_distance_px}: must not be negative.")
        if self.largest_components < 1:
            raise ConfigError(f"--largest-components {self.largest_components}: must be at least 1.")
        if self.truth_label is not None and self.truth_label == self.ignore_label:
            raise ConfigError(f"--truth-label {self.truth_label}: is the ignore label too; choose another.")
        if self.logit_threshold is not None and not math.isfinite(self.logit_threshold):
            raise ConfigError(f"--logit-threshold {self.logit_threshold}: must be a finite number.")
        if self.bootstrap_samples < 100:
            raise ConfigError(f"--bootstrap-samples {self.bootstrap_samples}: must be at least 100.")
