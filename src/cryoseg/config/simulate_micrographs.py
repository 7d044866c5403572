"""Settings of `cryoseg simulate micrographs`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.common import seed_setting
from cryoseg.config.setting import (
    Settings,
    read_range,
    read_sizes,
    require_rising,
    setting,
    write_range,
    write_sizes,
)
from cryoseg.config.simulate import PolarityOnDisk, polarity_on_disk_setting
from cryoseg.errors import ConfigError

SMALLEST_SIMULATED_PX = 6.0


class MicrographRecipe(StrEnum):
    """Mixtures of specimens and microscopes.

    `train`: everything, from easy to hardly visible. `sample`: one friendly field for trying out.
    """

    TRAIN = "train"
    SAMPLE = "sample"


@dataclass(frozen=True, kw_only=True)
class SimulateMicrographsConfig(Settings):
    """Everything that changes the simulated micrographs of one seed.

    Micrograph i of a seed is the same whatever the number of micrographs and of processes. Diameters are
    drawn evenly in the logarithm.
    """

    recipe: MicrographRecipe = setting(
        MicrographRecipe.TRAIN, help="Mixture of specimens and microscopes to draw from."
    )
    shape: tuple[int, int] = setting(
        (1024, 1024),
        help="Shape in pixels, YxX.",
        read=read_sizes("YxX", "1024x1024"),
        write=write_sizes,
        at_least=64,
    )
    particle_diameter_px: tuple[float, float] = setting(
        (18.0, 120.0),
        help="Largest diameter of the particle in pixels: one number or LOW:HIGH.",
        read=read_range,
        write=write_range,
        at_least=SMALLEST_SIMULATED_PX,
        unit="pixels",
    )
    particle_diameter: tuple[float, float] = setting(
        (80.0, 320.0),
        help="The same diameter in angstrom: one number or LOW:HIGH. With the diameter in pixels it gives "
        "the pixel size.",
        read=read_range,
        write=write_range,
        at_least=20,
        at_most=2000,
        unit="angstrom",
    )
    polarity: PolarityOnDisk = polarity_on_disk_setting()
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rising("--particle-diameter-px", self.particle_diameter_px)
        require_rising("--particle-diameter", self.particle_diameter)
        if self.particle_diameter_px[1] > min(self.shape) / 2:
            raise ConfigError(
                f"--particle-diameter-px {write_range(self.particle_diameter_px)}: must be at most half of "
                "the image."
            )
