"""Settings of `cryoseg simulate lesions`."""

from __future__ import annotations

from dataclasses import dataclass

from cryoseg.errors import ConfigError

SMALLEST_SIDE, LARGEST_SIDE = 64, 4096


@dataclass(frozen=True, kw_only=True)
class SimulateLesionsConfig:
    """Everything that changes the simulated pictures of one seed.

    Attributes
    ----------
    shape
        (y, x) in pixels.
    seed
        Picture i of a seed is the same whatever the number of pictures.
    """

    shape: tuple[int, int] = (288, 384)
    seed: int = 0

    def __post_init__(self) -> None:
        if len(self.shape) != 2 or not all(SMALLEST_SIDE <= n <= LARGEST_SIDE for n in self.shape):
            raise ConfigError(
                f"--shape {'x'.join(map(str, self.shape))}: give YxX in pixels, each from {SMALLEST_SIDE} "
                f"to {LARGEST_SIDE}."
            )
        if self.seed < 0:
            raise ConfigError(f"--seed {self.seed}: must not be negative.")
