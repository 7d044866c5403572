"""Settings of `cryoseg simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryoseg.config.common import overwrite_setting, seed_setting
from cryoseg.config.setting import (
    Settings,
    read_range,
    read_sizes,
    require_rising,
    setting,
    write_range,
    write_sizes,
)


class TomogramRecipe(StrEnum):
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


_PIXEL_SIZES = {
    TomogramRecipe.TRAIN: (7.5, 17.0),
    TomogramRecipe.HELDOUT: (8.0, 16.0),
    TomogramRecipe.SAMPLE: (12.0, 12.0),
}
_SNRS = {
    TomogramRecipe.TRAIN: (0.05, 1.2),
    TomogramRecipe.HELDOUT: (0.1, 0.5),
    TomogramRecipe.SAMPLE: (0.3, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class SimulatedSeries(Settings):
    """How many are simulated, under which names, and by how many processes."""

    count: int = setting(1, help="How many to make.", flags=("--count", "-n"), at_least=1)
    first: int = setting(0, help="Number of the first one to make.", at_least=0)
    prefix: str = setting("sim", help="First part of the file names.")
    workers: int = setting(1, help="Number of processes, which does not change what is made.", at_least=1)
    overwrite: bool = overwrite_setting()

    @property
    def indices(self) -> range:
        """The numbers of those to make."""
        return range(self.first, self.first + self.count)


def polarity_on_disk_setting() -> Any:
    """Whether what is simulated is dark or bright."""
    return setting(
        PolarityOnDisk.DARK,
        help="Whether membranes or particles are dark or bright in the file; both draws one for each file.",
        flags=("--polarity",),
    )


@dataclass(frozen=True, kw_only=True)
class SimulateConfig(Settings):
    """Everything that changes the simulated volumes of one seed.

    Volume i of a seed is the same whatever the number of volumes and of processes.

    Attributes
    ----------
    pixel_size, snr
        Ranges, drawn evenly in the logarithm; None takes those of the recipe.
    """

    recipe: TomogramRecipe = setting(
        TomogramRecipe.TRAIN, help="Mixture of specimens and microscopes to draw from."
    )
    shape: tuple[int, int, int] = setting(
        (64, 256, 256),
        help="Shape in voxels, ZxYxX.",
        read=read_sizes("ZxYxX", "64x256x256"),
        write=write_sizes,
        at_least=16,
    )
    pixel_size: tuple[float, float] | None = setting(
        None,
        help="Pixel size: one number or LOW:HIGH.",
        flags=("--pixel-size", "--voxel-size", "--apix"),
        read=read_range,
        write=write_range,
        at_least=2,
        at_most=40,
        unit="angstrom",
        shown="the recipe's",
    )
    snr: tuple[float, float] | None = setting(
        None,
        help="Variance of the noise-free reconstruction over that of the noise: one number or LOW:HIGH.",
        read=read_range,
        write=write_range,
        at_least=0.001,
        at_most=1000,
        shown="the recipe's",
    )
    polarity: PolarityOnDisk = polarity_on_disk_setting()
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_rising("--pixel-size", self.pixel_size)
        require_rising("--snr", self.snr)

    @property
    def pixel_size_range(self) -> tuple[float, float]:
        """The range in angstrom that volumes are drawn from."""
        return self.pixel_size or _PIXEL_SIZES[self.recipe]

    @property
    def snr_range(self) -> tuple[float, float]:
        """The range of the signal-to-noise ratio that volumes are drawn from."""
        return self.snr or _SNRS[self.recipe]
