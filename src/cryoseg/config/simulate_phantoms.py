"""Settings of `cryoseg simulate phantoms`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryoseg.errors import ConfigError


class Body(StrEnum):
    """What a particle is made of."""

    SOLID = "solid"
    HOLLOW = "hollow"


@dataclass(frozen=True, kw_only=True)
class PhantomConfig:
    """What a phantom contains and how it is imaged.

    Attributes
    ----------
    shape
        (z, y, x) in voxels.
    voxel_size
        Voxel size in angstrom.
    body
        Whether particles are balls or shells.
    diameters_angstrom
        Diameters of the particles to pick; each particle takes one of them at random.
    distractor_diameter_angstrom
        Diameter of the particles that are not to be picked; None for none.
    count, distractors, membranes, gold
        Number of each; fewer where there is no room left.
    labels
        Number of particles that the file of labels names; 0 writes no such file.
    spacing
        Least distance between two particles, in units of their mean diameter: 1 is touching.
    snr
        Variance of the noise-free volume without gold over the variance of the noise; None for
        no noise.
    tilt_degrees
        Tilts reach to plus and minus this angle about the y axis; the wedge beyond is empty.
    projection
        Whether the volume is summed along z to a micrograph.
    seed
        Phantom i of a seed is the same whatever the number of phantoms and of processes.
    """

    shape: tuple[int, int, int] = (64, 256, 256)
    voxel_size: float = 10.0
    body: Body = Body.HOLLOW
    diameters_angstrom: tuple[float, ...] = (160.0,)
    distractor_diameter_angstrom: float | None = None
    count: int = 100
    distractors: int = 0
    membranes: int = 0
    gold: int = 0
    labels: int = 0
    spacing: float = 1.1
    snr: float | None = 0.1
    tilt_degrees: float = 60.0
    projection: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 16:
            raise ConfigError(
                f"--shape {'x'.join(map(str, self.shape))}: give ZxYxX in voxels, each at least 16."
            )
        lengths = {
            "--pixel-size": (self.voxel_size,),
            "--particle-diameter": self.diameters_angstrom,
            "--distractor-diameter": (self.distractor_diameter_angstrom or 1.0,),
            "--spacing": (self.spacing,),
            "--snr": (1.0 if self.snr is None else self.snr,),
        }
        for option, values in lengths.items():
            if not values or min(values) <= 0:
                raise ConfigError(f"{option} {' '.join(map(str, values))}: must be positive.")
        if min(self.count, self.distractors, self.membranes, self.gold, self.labels, self.seed) < 0:
            raise ConfigError("Phantoms: numbers of objects and the seed must not be negative.")
        if self.distractors and self.distractor_diameter_angstrom is None:
            raise ConfigError("--distractors: give their diameter with --distractor-diameter.")
        if not 0 < self.tilt_degrees <= 90:
            raise ConfigError(f"--tilt-range {self.tilt_degrees:g}: must lie in (0, 90] degrees.")
