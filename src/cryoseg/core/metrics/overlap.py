"""Voxel overlap of a prediction and a truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Voxels by what they are and what they were called, and the ratios of these counts.

    Where a ratio is 0/0 it is NaN ("undefined"), with one exception: Dice and IoU of an empty
    prediction of an empty truth are 1, because the two agree.

    Attributes
    ----------
    true_positives, false_positives, false_negatives, true_negatives
        Voxels whose truth is known.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def __add__(self, other: Overlap) -> Overlap:
        """Counts of both together, for micro means."""
        return Overlap(
            true_positives=self.true_positives + other.true_positives,
            false_positives=self.false_positives + other.false_positives,
            false_negatives=self.false_negatives + other.false_negatives,
            true_negatives=self.true_negatives + other.true_negatives,
        )

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        missed = self.false_positives + self.false_negatives
        return (
            1.0
            if self.true_positives + missed == 0
            else ratio(2 * self.true_positives, 2 * self.true_positives + missed)
        )

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN)."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return 1.0 if union == 0 else self.true_positives / union

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)


def ratio(part: float, whole: float) -> float:
    """`part / whole`, NaN for 0/0."""
    return part / whole if whole else math.nan


def count_overlap(pred: BoolArray, truth: BoolArray, known: BoolArray | None = None) -> Overlap:
    """Count the voxels of one prediction.

    Parameters
    ----------
    pred, truth
        Of one shape, any number of dimensions.
    known
        Of their shape, False where the truth is not annotated; None means that all of it is.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    require_one_shape(pred, truth)
    if known is not None:
        require_one_shape(pred, known)
    both = marked = wanted = total = 0
    # Slice by slice, so that no temporary of the size of the volume exists.
    for z in range(len(pred)):
        p, t = pred[z], truth[z]
        if known is not None:
            p, t = p & known[z], t & known[z]
        both += int(np.count_nonzero(p & t))
        marked += int(np.count_nonzero(p))
        wanted += int(np.count_nonzero(t))
        total += int(np.size(p) if known is None else np.count_nonzero(known[z]))
    return Overlap(
        true_positives=both,
        false_positives=marked - both,
        false_negatives=wanted - both,
        true_negatives=total - marked - wanted + both,
    )


def require_one_shape(pred: NDArray[np.generic], truth: NDArray[np.generic]) -> None:
    """Refuse arrays of different shapes.

    Raises
    ------
    InputError
        With both shapes.
    """
    if pred.shape != truth.shape:
        raise InputError(
            f"The prediction has shape {pred.shape} and the truth {truth.shape}; give a pair of one shape."
        )
