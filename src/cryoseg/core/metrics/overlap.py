"""Overlap of the voxels of a prediction and a truth."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Overlap:
    """Confusion matrix of voxels and its ratios.

    A ratio of 0/0 is undefined (NaN), except that Dice and IoU are 1 if prediction and truth are both empty.

    Attributes
    ----------
    true_positives, false_positives, false_negatives, true_negatives
        Numbers of voxels whose truth is known.
    """

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int

    def __add__(self, other: Overlap) -> Overlap:
        """Return the sums of the counts, for micro means."""
        return Overlap(**{name: count + getattr(other, name) for name, count in vars(self).items()})

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        total = 2 * self.true_positives + self.false_positives + self.false_negatives
        return 1.0 if total == 0 else 2 * self.true_positives / total

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
    """Return `part / whole`; NaN if `whole` is 0."""
    return part / whole if whole else math.nan


def count_overlap(pred: BoolArray, truth: BoolArray, known: BoolArray | None = None) -> Overlap:
    """Count the voxels of a prediction by their truth.

    Parameters
    ----------
    pred, truth
        Masks of one shape.
    known
        Mask of the same shape, True where the truth is annotated; None if it is annotated everywhere.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    require_one_shape(pred, truth, *() if known is None else (known,))
    both = marked = wanted = total = 0
    # Slices are counted one by one to avoid temporary arrays of the size of the volume.
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


def require_one_shape(pred: NDArray[np.generic], *truths: NDArray[np.generic]) -> None:
    """Raise an `InputError` if a prediction and arrays of its truth differ in shape."""
    for truth in truths:
        if pred.shape != truth.shape:
            raise InputError(
                f"The prediction has shape {pred.shape} and the truth {truth.shape}; "
                "give a pair of one shape."
            )
