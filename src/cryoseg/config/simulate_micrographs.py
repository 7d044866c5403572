"""Settings of `cryoseg simulate micrographs`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.simulate import PolarityOnDisk
from cryoseg.errors import ConfigError

SMALLEST_PARTICLE_PX = 6.0


class MicrographRecipe(StrEnum):
    """Mixtures of specimens and microscopes.

    `train`: everything, from easy to hardly visible. `sample`: one friendly field for trying out.
    """

    TRAIN = "train"
    SAMPLE = "sample"


@dataclass(frozen=True, kw_only=True)
class SimulateMicrographsConfig:
    """Everything that changes the simulated micrographs of one seed.

    Attributes
    ----------
    recipe
        The mixture to draw from.
    shape
        (y, x) in pixels.
    particle_diameter_px
        Range of the particle's largest diameter in pixels, drawn evenly in the logarithm.
    particle_diameter
        The same in angstrom; with the diameter in pixels it gives the pixel size.
    polarity
        Whether particles are dark or bright in the file.
    seed
        Micrograph i of a seed is the same whatever the number of micrographs and of processes.
    """

    recipe: MicrographRecipe = MicrographRecipe.TRAIN
    shape: tuple[int, int] = (1024, 1024)
    particle_diameter_px: tuple[float, float] = (18.0, 120.0)
    particle_diameter: tuple[float, float] = (80.0, 320.0)
    polarity: PolarityOnDisk = PolarityOnDisk.DARK
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or min(self.shape) < 64:
            raise ConfigError(
                f"--shape {'x'.join(map(str, self.shape))}: give YxX in pixels, each at least 64."
            )
        low, high = self.particle_diameter_px
        if not SMALLEST_PARTICLE_PX <= low <= high <= min(self.shape) / 2:
            raise ConfigError(
                f"--particle-diameter-px {low:g}:{high:g}: the range must rise and lie within "
                f"{SMALLEST_PARTICLE_PX:g} pixels and half of the image."
            )
        low, high = self.particle_diameter
        if not 20.0 <= low <= high <= 2000.0:
            raise ConfigError(
                f"--particle-diameter {low:g}:{high:g}: the range must rise and lie within 20 to 2000 A."
            )
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: must not be negative.")
