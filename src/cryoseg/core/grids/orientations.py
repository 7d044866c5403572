"""Orientations of a volume, and the mean and spread of logits over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cryoseg.types import FloatArray

Voxel = TypeVar("Voxel", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class Orientation:
    """A mirror image of a volume along z, and its turn or mirror image in the slice plane.

    Attributes
    ----------
    upside_down
        Whether the order of the slices is reversed.
    mirror
        Whether y is mirrored, before the turn.
    quarter_turns
        Number of quarter turns from y to x.
    """

    upside_down: bool = False
    mirror: bool = False
    quarter_turns: int = 0

    def apply(self, volume: NDArray[Voxel]) -> NDArray[Voxel]:
        """Return a view of a (z, y, x) volume in this orientation."""
        volume = volume[::-1] if self.upside_down else volume
        volume = volume[:, ::-1] if self.mirror else volume
        return np.rot90(volume, self.quarter_turns, axes=(1, 2))

    def undo(self, volume: NDArray[Voxel]) -> NDArray[Voxel]:
        """Return a view of a (z, y, x) volume in this orientation as it was before."""
        volume = np.rot90(volume, -self.quarter_turns, axes=(1, 2))
        volume = volume[:, ::-1] if self.mirror else volume
        return volume[::-1] if self.upside_down else volume


# Half of the first 2, 4 and 8 are upside down, so that the propagation goes in both directions. The first
# four keep the tilt axis parallel to itself.
ORIENTATIONS = (
    Orientation(),
    Orientation(upside_down=True, quarter_turns=2),
    Orientation(mirror=True),
    Orientation(upside_down=True, mirror=True, quarter_turns=2),
    Orientation(quarter_turns=1),
    Orientation(upside_down=True, quarter_turns=3),
    Orientation(mirror=True, quarter_turns=1),
    Orientation(upside_down=True, mirror=True, quarter_turns=3),
)


class OrientationMean:
    """The mean of logits over orientations, and the standard deviation of their probabilities.

    Parameters
    ----------
    with_spread
        Whether the standard deviation is computed, which needs two more volumes.
    """

    def __init__(self, *, with_spread: bool) -> None:
        self._with_spread = with_spread
        self._count = 0
        self._logits = np.empty(0, np.float32)
        self._mean = np.empty(0, np.float32)
        self._squares = np.empty(0, np.float32)

    def add(self, logits: FloatArray) -> None:
        """Add (z, y, x) float32 logits in the orientation of the volume; the first array is changed later."""
        self._count += 1
        if self._count == 1:
            self._logits = logits
            if self._with_spread:
                self._mean, self._squares = expit(logits), np.zeros_like(logits)
            return
        share = np.float32(1 / self._count)
        for z, image in enumerate(logits):
            self._logits[z] += (image - self._logits[z]) * share
            if self._with_spread:
                # Source: Welford, Note on a method for calculating corrected sums of squares, 1962.
                probability = expit(image)
                before = probability - self._mean[z]
                self._mean[z] += before * share
                self._squares[z] += before * (probability - self._mean[z])

    @property
    def logits(self) -> FloatArray:
        """(z, y, x) mean of the logits."""
        return self._logits

    def spread(self) -> FloatArray | None:
        """Return the (z, y, x) standard deviation of the probability; None if it was not requested."""
        if not self._with_spread:
            return None
        self._squares /= np.float32(self._count)
        return np.sqrt(self._squares, out=self._squares)
