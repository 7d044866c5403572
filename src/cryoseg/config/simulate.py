"""Settings of `cryoseg simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError


class Recipe(StrEnum):
    """Mixtures of specimens and microscopes.

    `train`: everything, from easy to hopeless. `heldout`: harder and narrower, each volume with at
    least three kinds of distractor over a tenth of its voxels. `sample`: one friendly field of
    vesicles.
    """

    TRAIN = "train"
    HELDOUT = "heldout"
    SAMPLE = "sample"


class PolarityOnDisk(StrEnum):
    """Whether dense matter is dark or bright in the file; `both` draws one for each volume."""

    DARK = "dark"
    BRIGHT = "bright"
    BOTH = "both"


@dataclass(frozen=True, kw_only=True)
class SimulateConfig:
    """Everything that changes the simulated volumes of one seed.

    Attributes
    ----------
    recipe
        The mixture to draw from.
    shape
        (z, y, x) in voxels.
    pixel_size
        Range in angstrom, drawn evenly in the logarithm; None takes the recipe's.
    snr
        Range of var(noise-free reconstruction) / var(noise), drawn evenly in the logarithm; None
        takes the recipe's.
    polarity
        See `PolarityOnDisk`.
    seed
        Volume i of a seed is the same whatever the number of volumes and of processes.
    """

    recipe: Recipe = Recipe.TRAIN
    shape: tuple[int, int, int] = (64, 256, 256)
    pixel_size: tuple[float, float] | None = None
    snr: tuple[float, float] | None = None
    polarity: PolarityOnDisk = PolarityOnDisk.DARK
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise ConfigError(
                f"--shape {'x'.join(map(str, self.shape))}: give ZxYxX in voxels, each at least 16."
            )
        if self.pixel_size is not None:
            low, high = self.pixel_size
            if not 2.0 <= low <= high <= 40.0:
                raise ConfigError(
                    f"--pixel-size {low:g}:{high:g}: the range must rise and lie within 2 to 40 angstrom."
                )
        if self.snr is not None:
            low, high = self.snr
            if not 0.001 <= low <= high <= 1000.0:
                raise ConfigError(
                    f"--snr {low:g}:{high:g}: the range must rise and lie within 0.001 to 1000."
                )
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: must not be negative.")

    @property
    def pixel_size_range(self) -> tuple[float, float]:
        """The range in angstrom that volumes are drawn from."""
        if self.pixel_size is not None:
            return self.pixel_size
        return {Recipe.TRAIN: (7.5, 17.0), Recipe.HELDOUT: (8.0, 16.0), Recipe.SAMPLE: (12.0, 12.0)}[
            self.recipe
        ]

    @property
    def snr_range(self) -> tuple[float, float]:
        """The range of the signal-to-noise ratio that volumes are drawn from."""
        if self.snr is not None:
            return self.snr
        return {Recipe.TRAIN: (0.05, 1.2), Recipe.HELDOUT: (0.1, 0.5), Recipe.SAMPLE: (0.3, 0.3)}[self.recipe]
