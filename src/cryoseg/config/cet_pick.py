"""Settings of `cryoseg train cet-pick`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from cryoseg.config.common import Mode0, mode0_setting, picks_setting, pixel_size_setting, seed_setting
from cryoseg.config.convert import from_relion4_setting
from cryoseg.config.pick import (
    CoordsOrder,
    ThicknessAxis,
    coords_order_setting,
    mask_setting,
    thickness_axis_setting,
)
from cryoseg.config.setting import Settings, setting, sizes_setting, write_sizes
from cryoseg.config.train import (
    LoopConfig,
    batch_setting,
    learning_rate_setting,
    max_minutes_setting,
    steps_setting,
    validation_setting,
)
from cryoseg.errors import ConfigError

CHECKPOINT_EVERY = 10  # steps between checkpoints, updates of the progress bar and lines of the log


class Arch(StrEnum):
    """Architectures: two U-Nets over slices, and a small ResNet."""

    UNET_4 = "unet_4"
    UNET_5 = "unet_5"
    RESSMALL_18 = "ressmall_18"


class Risk(StrEnum):
    """`pu`: unlabeled voxels may be particles. `pn`: every particle is labeled."""

    PU = "pu"
    PN = "pn"


class Contrast(StrEnum):
    """Contrastive term on the embeddings.

    `off`: no term. `sampled`: without the self term, on a random sample of anchors and columns.
    `published`: as released, with the self term, between all voxels.
    """

    OFF = "off"
    SAMPLED = "sampled"
    PUBLISHED = "published"


class ZPool(StrEnum):
    """How two slices are joined into one; the publication uses the maximum."""

    MEAN = "mean"
    MAX = "max"


class Specimen(StrEnum):
    """`globular`: one point per particle. `filament`: points along a curve."""

    GLOBULAR = "globular"
    FILAMENT = "filament"


@dataclass(frozen=True, kw_only=True)
class GridConfig(Settings):
    """Grid of the network."""

    diameter_px: float = setting(
        10.0,
        help="Bin tomograms until a particle is this many pixels wide, from 4 to 64; 0 bins nothing.",
        flags=("--working-diameter",),
        at_least=0,
        at_most=64,
        unit="pixels",
    )
    z_compression: int = setting(
        1, help="Number of slices of that grid that are joined into one.", at_least=1, at_most=2
    )
    z_pool: ZPool = setting(ZPool.MEAN, help="How slices are joined; the publication takes the maximum.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if 0 < self.diameter_px < 4:
            raise ConfigError(f"--working-diameter {self.diameter_px:g}: must be 0 or from 4 to 64 pixels.")


@dataclass(frozen=True, kw_only=True)
class CetPickFiles(Settings):
    """Tomograms and labels of a training of CET-pick."""

    tomograms: tuple[str, ...] = setting(
        help="Tomograms, folders, globs or CET-pick's tab-separated list; repeat for several.",
        flags=("--tomograms", "-t"),
    )
    picks: tuple[Path, ...] = picks_setting()
    negatives: tuple[Path, ...] = setting(
        (), help="Centers of what must not be picked, in the same formats as --picks."
    )
    validation: tuple[str, ...] = validation_setting(shown="none")
    mask: Path | None = mask_setting()
    thickness_axis: ThicknessAxis = thickness_axis_setting(ThicknessAxis.Z)
    coords_order: CoordsOrder | None = coords_order_setting()
    picks_pixel_size: float | None = setting(
        None,
        help="Voxel size in which the labels are counted, if it is not that of the tomograms.",
        above=0,
        unit="angstrom",
    )
    unbinned: bool = from_relion4_setting()
    mode0: Mode0 = mode0_setting()
    pixel_size: float | None = pixel_size_setting()


@dataclass(frozen=True, kw_only=True)
class CetPickConfig(Settings):
    """Settings of a training of CET-pick.

    Attributes
    ----------
    positive_weight
        Weight of the risk of labeled voxels; None uses the prior, as published.
    contrast_unsupervised_weight
        Weight of the unsupervised part of the contrastive term.
    noise, gain
        Largest standard deviation of added noise in units of the normalized volume, and largest factor of
        contrast, for augmentation.
    ema_decay
        Decay of the averaged weights, which the model holds; 0 disables averaging.
    holdout_from
        Smallest number of labels of which some are held out.
    """

    particle_diameter_angstrom: float = setting(
        help="Largest diameter of the particle, or width of the filament.",
        flags=("--particle-diameter",),
        at_least=1,
        at_most=10_000,
        unit="angstrom",
    )
    specimen: Specimen = setting(
        Specimen.GLOBULAR,
        help="Kind of particles: globular ones, or filaments (--fiber of CET-pick).",
        flags=("--preset", "--specimen"),
    )
    arch: Arch = setting(Arch.UNET_4, help="Architecture of the network.")
    grid: GridConfig = GridConfig()
    risk: Risk = setting(
        Risk.PU,
        help="Estimate of the risk. pu: unlabeled voxels may be particles. pn: every particle is labeled.",
    )
    prior: float = setting(
        0.01,
        help="Fraction of the unlabeled voxels that belong to particles.",
        flags=("--prior", "--tau"),
        above=0,
        below=1,
    )
    positive_weight: float | None = setting(
        0.1, help="Weight of the labeled voxels; the publication takes the prior.", at_least=0
    )
    target_sigma: float = setting(
        0.25, help="Standard deviation of the Gaussian at a label, in diameters.", above=0
    )
    hard_positive_above: float = setting(
        0.7,
        help="Voxels whose target is at least this are certain to be particle.",
        above=0,
        at_most=1,
        shown="0.7; 0.5 of filaments",
    )
    contrast: Contrast = setting(Contrast.OFF, help="Contrastive term of the loss.")
    contrast_weight: float = setting(0.1, help="Weight of the contrastive term.", at_least=0)
    contrast_unsupervised_weight: float = 0.1
    contrast_positive_above: float = setting(
        0.5, help="Voxels whose target is above this are particles for the contrastive term."
    )
    contrast_samples: int = setting(
        1024,
        help="With --contrast sampled: number of anchors, and of voxels that are compared with them.",
        at_least=1,
    )
    temperature: float = setting(0.07, help="Temperature of the contrastive term.", above=0)
    consistency_weight: float = setting(
        0.0, help="Weight of the term for the difference between two flipped views.", at_least=0
    )
    steps: int = steps_setting(140)
    batch: int = batch_setting(4)
    learning_rate: float = learning_rate_setting(2e-3)
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    ema_decay: float = 0.97
    crop: tuple[int, int, int] = sizes_setting(
        (6, 64, 64),
        "ZxYxX",
        help="Shape of a training crop on the working grid, ZxYxX; y and x are multiples of 16, at least 32.",
        at_least=1,
    )
    background_fraction: float = setting(
        0.25, help="Fraction of crops at random places; the others hold a label.", at_least=0, at_most=1
    )
    jitter: float = setting(
        0.35,
        help="Largest distance of a label from the center of its crop, as a fraction of the crop.",
        at_least=0,
        at_most=1,
    )
    noise: float = 0.3
    gain: float = 1.25
    holdout_fraction: float = setting(
        0.2,
        help="Fraction of the labels that are held out to set the threshold.",
        at_least=0,
        at_most=0.5,
        shown="0.2; 0 of filaments",
    )
    holdout_from: int = 15
    checks: int = setting(
        2, help="How often held-out labels and validation data are evaluated during training.", at_least=0
    )
    max_minutes: float | None = max_minutes_setting()
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"ema_decay {self.ema_decay:g}: must be at least 0 and less than 1.")
        if any(side < 32 or side % 16 for side in self.crop[1:]):
            raise ConfigError(
                f"--crop {write_sizes(self.crop)}: y and x must be multiples of 16, at least 32."
            )

    @property
    def loop(self) -> LoopConfig:
        """Settings of the training loop; the gradients are not clipped, as published."""
        return LoopConfig(
            steps=self.steps,
            warmup_steps=self.warmup_steps,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            clip_norm=None,
            ema_decay=self.ema_decay,
            checkpoint_every=CHECKPOINT_EVERY,
            max_minutes=self.max_minutes,
            seed=self.seed,
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**super().to_dict(), "crop": list(self.crop)}

    @property
    def needs_second_view(self) -> bool:
        """Whether a training step needs two views of every crop."""
        return self.consistency_weight > 0 or (self.contrast is not Contrast.OFF and self.contrast_weight > 0)

    @classmethod
    def preset(cls, specimen: Specimen, particle_diameter_angstrom: float) -> CetPickConfig:
        """Return the defaults for a kind of specimen.

        For filaments, the zone of hard positives is wide, as with `--fiber` of the publication, and no labels
        are held out, since neighbors on a curve are not independent.
        """
        if specimen is Specimen.GLOBULAR:
            return cls(particle_diameter_angstrom=particle_diameter_angstrom)
        return cls(
            particle_diameter_angstrom=particle_diameter_angstrom,
            specimen=specimen,
            hard_positive_above=0.5,
            holdout_fraction=0.0,
        )
