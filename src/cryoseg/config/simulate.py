"""Settings of `cryoseg simulate`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from cryoseg.config.common import overwrite_setting, seed_setting
from cryoseg.config.setting import Settings, range_setting, setting, sizes_setting, write_range
from cryoseg.errors import ConfigError


class TomogramRecipe(StrEnum):
    """Mixtures of specimens and microscopes.

    `train`: all specimens, from easy to very difficult. `heldout`: difficult specimens, with at least three
    kinds of distractors over a tenth of the voxels. `cell`: crowded cells, raw or denoised. `sample`: one
    easy field of vesicles.
    """

    TRAIN = "train"
    HELDOUT = "heldout"
    CELL = "cell"
    SAMPLE = "sample"


class PolarityOnDisk(StrEnum):
    """Whether dense matter is dark or bright in the file; `both` chooses at random for each file."""

    DARK = "dark"
    BRIGHT = "bright"
    BOTH = "both"


_PIXEL_SIZES = {
    TomogramRecipe.TRAIN: (7.5, 17.0),
    TomogramRecipe.HELDOUT: (8.0, 16.0),
    TomogramRecipe.CELL: (7.0, 14.0),
    TomogramRecipe.SAMPLE: (12.0, 12.0),
}
_SNRS = {
    TomogramRecipe.TRAIN: (0.05, 1.2),
    TomogramRecipe.HELDOUT: (0.1, 0.5),
    TomogramRecipe.CELL: (0.1, 1.5),
    TomogramRecipe.SAMPLE: (0.3, 0.3),
}


@dataclass(frozen=True, kw_only=True)
class SimulatedSeries(Settings):
    """Number and names of the simulated files, and the number of processes."""

    count: int = setting(1, help="Number of files to simulate.", flags=("--count", "-n"), at_least=1)
    first: int = setting(0, help="Number of the first file.", at_least=0)
    prefix: str = setting("sim", help="First part of the file names.")
    workers: int = setting(1, help="Number of processes, which does not change the files.", at_least=1)
    overwrite: bool = overwrite_setting()

    @property
    def indices(self) -> range:
        """Numbers of the files."""
        return range(self.first, self.first + self.count)


polarity_on_disk_setting = partial(
    setting,
    PolarityOnDisk.DARK,
    help="Whether membranes or particles are dark or bright in the file; both chooses at random.",
    flags=("--polarity",),
)


@dataclass(frozen=True, kw_only=True)
class SimulateConfig(Settings):
    """Settings of simulated tomograms.

    Tomogram i of a seed does not depend on the number of tomograms and processes. `pixel_size` and `snr` are
    ranges of a uniform distribution in the logarithm; None uses those of the recipe.
    """

    recipe: TomogramRecipe = setting(TomogramRecipe.TRAIN, help="Mixture of specimens and microscopes.")
    shape: tuple[int, int, int] = sizes_setting(
        (64, 256, 256), "ZxYxX", help="Shape in voxels, ZxYxX.", at_least=16
    )
    pixel_size: tuple[float, float] | None = range_setting(
        None,
        help="Pixel size: one number or LOW:HIGH.",
        flags=("--pixel-size", "--voxel-size", "--apix"),
        at_least=2,
        at_most=40,
        unit="angstrom",
        shown="the recipe's",
    )
    snr: tuple[float, float] | None = range_setting(
        None,
        help="Variance of the noise-free reconstruction over that of the noise: one number or LOW:HIGH.",
        at_least=0.001,
        at_most=1000,
        shown="the recipe's",
    )
    polarity: PolarityOnDisk = polarity_on_disk_setting()
    seed: int = seed_setting()

    @property
    def pixel_size_range(self) -> tuple[float, float]:
        """Range of the pixel size in angstrom."""
        return self.pixel_size or _PIXEL_SIZES[self.recipe]

    @property
    def snr_range(self) -> tuple[float, float]:
        """Range of the signal-to-noise ratio."""
        return self.snr or _SNRS[self.recipe]


SMALLEST_SIMULATED_PX = 6.0


class MicrographRecipe(StrEnum):
    """Mixtures of specimens and microscopes.

    `train`: all particles, from easy to hardly visible. `hard`: particles that pickers miss, such as shells,
    rings, faint, elongated and touching particles, with more carbon, crystals and gold. `sample`: one easy
    field.
    """

    TRAIN = "train"
    HARD = "hard"
    SAMPLE = "sample"


@dataclass(frozen=True, kw_only=True)
class SimulateMicrographsConfig(Settings):
    """Settings of simulated micrographs.

    Micrograph i of a seed does not depend on the number of micrographs and processes. Diameters have a
    uniform distribution in the logarithm.
    """

    recipe: MicrographRecipe = setting(MicrographRecipe.TRAIN, help="Mixture of specimens and microscopes.")
    shape: tuple[int, int] = sizes_setting((1024, 1024), "YxX", help="Shape in pixels, YxX.", at_least=64)
    particle_diameter_px: tuple[float, float] = range_setting(
        (18.0, 120.0),
        help="Largest diameter of the particle in pixels: one number or LOW:HIGH.",
        at_least=SMALLEST_SIMULATED_PX,
        unit="pixels",
    )
    particle_diameter: tuple[float, float] = range_setting(
        (80.0, 320.0),
        help="The same diameter in angstrom: one number or LOW:HIGH. With the diameter in pixels it gives "
        "the pixel size.",
        at_least=20,
        at_most=2000,
        unit="angstrom",
    )
    polarity: PolarityOnDisk = polarity_on_disk_setting()
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.particle_diameter_px[1] > min(self.shape) / 2:
            raise ConfigError(
                f"--particle-diameter-px {write_range(self.particle_diameter_px)}: must be at most half of "
                "the image."
            )


class Body(StrEnum):
    """Shape of a particle: a ball or a shell."""

    SOLID = "solid"
    HOLLOW = "hollow"


@dataclass(frozen=True, kw_only=True)
class PhantomConfig(Settings):
    """Settings of phantoms.

    Phantom i of a seed does not depend on the number of phantoms and processes. The tilts about the y axis
    reach from minus to plus `tilt_degrees`. Without `snr`, there is no noise.
    """

    shape: tuple[int, int, int] = sizes_setting(
        (64, 256, 256), "ZxYxX", help="Shape in voxels, ZxYxX.", at_least=16
    )
    voxel_size: float = setting(
        10.0,
        help="Voxel size of the phantom.",
        flags=("--pixel-size", "--voxel-size", "--apix"),
        above=0,
        unit="angstrom",
    )
    body: Body = setting(Body.HOLLOW, help="Whether particles are balls or shells.")
    diameters_angstrom: tuple[float, ...] = setting(
        (160.0,),
        help="Diameter of the particles; repeat to choose among several at random.",
        flags=("--particle-diameter",),
        above=0,
        unit="angstrom",
    )
    distractor_diameter_angstrom: float | None = setting(
        None,
        help="Diameter of the distractors.",
        flags=("--distractor-diameter",),
        above=0,
        unit="angstrom",
        shown="none",
    )
    count: int = setting(
        100,
        help="Number of particles; there are fewer if the volume has no room.",
        flags=("--particles",),
        at_least=0,
    )
    distractors: int = setting(
        0, help="Number of particles of another size, which are not in the truth.", at_least=0
    )
    membranes: int = setting(0, help="Number of walls of large vesicles.", at_least=0)
    gold: int = setting(0, help="Number of gold beads.", at_least=0)
    labels: int = setting(
        0, help="Number of true coordinates that are written to a file of labels as well.", at_least=0
    )
    spacing: float = setting(
        1.1, help="Smallest distance of two particles, in diameters; at 1 they touch.", above=0
    )
    snr: float | None = setting(
        0.1, help="Variance of the volume without noise and gold over that of the noise.", above=0
    )
    tilt_degrees: float = setting(
        60.0,
        help="Largest tilt; the wedge beyond it is missing.",
        flags=("--tilt-range",),
        above=0,
        at_most=90,
        unit="degrees",
    )
    projection: bool = setting(False, help="Sum the volume along z to a micrograph.")
    seed: int = seed_setting()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.diameters_angstrom:
            raise ConfigError("--particle-diameter: give at least one.")
        if self.distractors and self.distractor_diameter_angstrom is None:
            raise ConfigError("--distractors: give their diameter with --distractor-diameter.")
