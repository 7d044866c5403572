"""Settings of `cryoseg simulate phantoms`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.config.common import seed_setting
from cryoseg.config.setting import Settings, read_sizes, setting, write_sizes
from cryoseg.errors import ConfigError


class Body(StrEnum):
    """What a particle is made of."""

    SOLID = "solid"
    HOLLOW = "hollow"


@dataclass(frozen=True, kw_only=True)
class PhantomConfig(Settings):
    """What a phantom contains and how it is imaged.

    Phantom i of a seed is the same whatever the number of phantoms and of processes. The tilts reach to
    plus and minus `tilt_degrees` about the y axis.

    Attributes
    ----------
    snr
        Variance of the noise-free volume without gold over the variance of the noise; None for no noise.
    """

    shape: tuple[int, int, int] = setting(
        (64, 256, 256),
        help="Shape in voxels, ZxYxX.",
        read=read_sizes("ZxYxX", "64x256x256"),
        write=write_sizes,
        at_least=16,
    )
    voxel_size: float = setting(
        10.0,
        help="Voxel size.",
        flags=("--pixel-size", "--voxel-size", "--apix"),
        above=0,
        unit="angstrom",
    )
    body: Body = setting(Body.HOLLOW, help="Whether particles are balls or shells.")
    diameters_angstrom: tuple[float, ...] = setting(
        (160.0,),
        help="Diameter of the particles; repeat to draw from several.",
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
        help="Number of particles; there are fewer where there is no room.",
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
        help="Largest tilt; the wedge beyond is missing.",
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
