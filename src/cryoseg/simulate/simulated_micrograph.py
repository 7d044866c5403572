"""What the simulation of micrographs gives, and the files it is written to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class SimulatedMicrograph:
    """One micrograph and all that is known about it.

    Attributes
    ----------
    data
        (y, x) float32 as it goes to disk.
    labels
        (y, x) int16: 0 where there is no particle, else its number. Numbers 1 to n are those of
        `centers`; higher ones belong to particles whose center lies outside of the field.
    centers
        (n, 2) y, x in pixels.
    pixel_size
        Angstrom.
    record
        Every parameter, ready for JSON.
    """

    data: FloatArray
    labels: NDArray[np.int16]
    centers: NDArray[np.float64]
    pixel_size: float
    record: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class MicrographPaths:
    """Files of one simulated micrograph."""

    micrograph: Path
    labels: Path
    particles: Path
    record: Path

    @property
    def all(self) -> tuple[Path, ...]:
        """Every one of them."""
        return self.micrograph, self.labels, self.particles, self.record


@dataclass(frozen=True, kw_only=True)
class MicrographOutcome:
    """How one micrograph of a batch ended.

    Attributes
    ----------
    paths
        Its files.
    made
        False if it was there already.
    seconds
        Time to make it.
    record
        The JSON's content.
    """

    paths: MicrographPaths
    made: bool
    seconds: float
    record: dict[str, Any]
