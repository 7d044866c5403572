"""Settings of `cryoseg train cet-pick`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from cryoseg.config.train import LoopConfig
from cryoseg.errors import ConfigError

CHECKPOINT_EVERY = 10  # steps; the progress bar and the log advance with the checkpoints


class Arch(StrEnum):
    """Detectors: two U-Nets over slices, and a small ResNet."""

    UNET_4 = "unet_4"
    UNET_5 = "unet_5"
    RESSMALL_18 = "ressmall_18"


class Risk(StrEnum):
    """`pu`: unlabeled voxels may be particles. `pn`: every particle is labeled."""

    PU = "pu"
    PN = "pn"


class Contrast(StrEnum):
    """Contrastive term on the embeddings.

    `off`; `sampled`: corrected (no self term), on a random sample of anchors and columns;
    `published`: as released, self term and all, every voxel against every voxel in blocks.
    """

    OFF = "off"
    SAMPLED = "sampled"
    PUBLISHED = "published"


class ZPool(StrEnum):
    """What becomes of two slices that are compressed to one; the publication takes the maximum."""

    MEAN = "mean"
    MAX = "max"


class Specimen(StrEnum):
    """`globular`: one point a particle. `filament`: points along a curve."""

    GLOBULAR = "globular"
    FILAMENT = "filament"


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The grid on which the network works.

    Attributes
    ----------
    diameter_px
        Tomograms are averaged down until a particle is this many pixels wide; they are never
        magnified. 0 keeps the voxels of the tomogram.
    z_compression
        Slices of that grid joined into one: 1 or 2.
    z_pool
        How they are joined.
    """

    diameter_px: float = 10.0
    z_compression: int = 1
    z_pool: ZPool = ZPool.MEAN

    def __post_init__(self) -> None:
        if self.z_compression not in (1, 2):
            raise ConfigError(f"--z-compression {self.z_compression}: must be 1 or 2.")
        if self.diameter_px and not 4 <= self.diameter_px <= 64:
            raise ConfigError(f"--working-diameter {self.diameter_px}: must be 0 or from 4 to 64 pixels.")


@dataclass(frozen=True, kw_only=True)
class CetPickConfig:
    """Everything that changes the model that `cryoseg train cet-pick` makes.

    Attributes
    ----------
    particle_diameter_angstrom
        Of the particle, or the width of the filament.
    prior
        Fraction of unlabeled voxels that belong to particles, tau of the publication.
    positive_weight
        Factor of the labeled voxels' risk; None takes the prior, as published.
    target_sigma
        Standard deviation of the Gaussian around a label, in particle diameters.
    hard_positive_above
        Target values from here on count as certain particle.
    contrast_weight, contrast_unsupervised_weight, consistency_weight
        Factors of the contrastive term, of its unsupervised part within it, and of the squared
        difference between two flipped views; all 0 spares the second view.
    temperature, contrast_positive_above
        Of the contrastive term.
    contrast_samples
        Anchors, and columns they are compared with, of `Contrast.SAMPLED`.
    crop
        (z, y, x) of a training crop, on the working grid; y and x multiples of 16.
    background_fraction
        Share of crops at random places; the others hold a label.
    jitter
        A label lies within this fraction of the crop's sides from its center.
    noise, gain
        Augmentation: largest standard deviation of added noise, in units of the normalized
        volume, and largest factor of contrast.
    ema_decay
        Of the averaged weights, which are the ones kept; 0 switches averaging off.
    holdout_fraction
        Labels kept out of training to choose the threshold and to notice over-fitting; none are
        kept out of fewer than `holdout_from`.
    checks
        How often the held-out labels are looked at.
    max_minutes
        Stop, resumable, after this many minutes; None for no limit.
    """

    particle_diameter_angstrom: float
    specimen: Specimen = Specimen.GLOBULAR
    arch: Arch = Arch.UNET_4
    grid: GridConfig = GridConfig()
    risk: Risk = Risk.PU
    prior: float = 0.01
    positive_weight: float | None = 0.1
    target_sigma: float = 0.25
    hard_positive_above: float = 0.7
    contrast: Contrast = Contrast.OFF
    contrast_weight: float = 0.1
    contrast_unsupervised_weight: float = 0.1
    contrast_positive_above: float = 0.5
    contrast_samples: int = 1024
    temperature: float = 0.07
    consistency_weight: float = 0.0
    steps: int = 140
    batch: int = 4
    learning_rate: float = 2e-3
    warmup_steps: int = 20
    weight_decay: float = 1e-4
    ema_decay: float = 0.97
    crop: tuple[int, int, int] = (6, 64, 64)
    background_fraction: float = 0.25
    jitter: float = 0.35
    noise: float = 0.3
    gain: float = 1.25
    holdout_fraction: float = 0.2
    holdout_from: int = 15
    checks: int = 2
    max_minutes: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.particle_diameter_angstrom <= 10_000:
            raise ConfigError(
                f"--particle-diameter {self.particle_diameter_angstrom:g}: must be from 1 to 10000 angstrom."
            )
        if not 0 < self.prior < 1:
            raise ConfigError(f"--prior {self.prior:g}: must lie between 0 and 1.")
        if self.steps < 1 or self.batch < 1:
            raise ConfigError(f"--steps {self.steps}, --batch {self.batch}: must be at least 1.")
        if self.learning_rate <= 0:
            raise ConfigError(f"--learning-rate {self.learning_rate:g}: must be positive.")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"--ema-decay {self.ema_decay:g}: must lie in [0, 1).")
        if not 0 <= self.holdout_fraction <= 0.5:
            raise ConfigError(f"--holdout-fraction {self.holdout_fraction:g}: must lie in [0, 0.5].")
        if self.temperature <= 0:
            raise ConfigError(f"--temperature {self.temperature:g}: must be positive.")
        if not 0 < self.hard_positive_above <= 1:
            raise ConfigError(f"--hard-positive-above {self.hard_positive_above:g}: must lie in (0, 1].")
        if self.target_sigma <= 0:
            raise ConfigError(f"--target-sigma {self.target_sigma:g}: must be positive.")
        if self.crop[0] < 1 or any(side < 32 or side % 16 for side in self.crop[1:]):
            raise ConfigError(f"--crop {self.crop}: y and x must be multiples of 16, at least 32.")

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
        """Plain values for JSON."""
        return {**asdict(self), "crop": list(self.crop)}

    @property
    def needs_second_view(self) -> bool:
        """Whether a step looks at every crop twice."""
        return self.consistency_weight > 0 or (self.contrast is not Contrast.OFF and self.contrast_weight > 0)

    @classmethod
    def preset(cls, specimen: Specimen, particle_diameter_angstrom: float) -> CetPickConfig:
        """The settings of a kind of specimen; every field can be replaced.

        Filaments have a wide hard-positive zone, as the publication's `--fiber`, no held-out labels
        (neighbors on one curve are no independent witnesses), and no label far from the crop's
        center.
        """
        if specimen is Specimen.GLOBULAR:
            return cls(particle_diameter_angstrom=particle_diameter_angstrom)
        return cls(
            particle_diameter_angstrom=particle_diameter_angstrom,
            specimen=specimen,
            hard_positive_above=0.5,
            holdout_fraction=0.0,
        )
