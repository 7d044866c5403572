"""Compute precision and recall at all thresholds of logits from two histograms."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.metrics.overlap import require_one_shape
from cryoseg.types import BoolArray

# Thresholds have a distance of 1/512 of a logit. Beyond 16 the sigmoid is 1 or 0 to seven digits, so that
# these logits share the last bin. The bins are the same for all files, so that histograms can be added.
LOWEST_LOGIT, HIGHEST_LOGIT = -16.0, 16.0
BINS_PER_LOGIT = 512
PAPER_THRESHOLDS = (0.1, 0.3, 0.5, 0.7, 0.9)
PAPER_DICE_SMOOTHING, PAPER_IOU_SMOOTHING = 1e-4, 1e-6
_BINS = int((HIGHEST_LOGIT - LOWEST_LOGIT) * BINS_PER_LOGIT)


@dataclass(frozen=True, kw_only=True)
class ThresholdSweep:
    """Histograms of logits by truth.

    Attributes
    ----------
    membrane, clear
        (bins + 1,) numbers of voxels that are membrane or not. Entry k counts logits above threshold k - 1
        and up to threshold k; the first entry has no lower and the last no upper limit.
    """

    membrane: NDArray[np.int64]
    clear: NDArray[np.int64]

    def __add__(self, other: ThresholdSweep) -> ThresholdSweep:
        """Return the sums of the histograms, for the micro curve."""
        return ThresholdSweep(membrane=self.membrane + other.membrane, clear=self.clear + other.clear)

    @property
    def thresholds(self) -> NDArray[np.float64]:
        """(bins,) thresholds, ascending; a voxel is membrane if its logit is greater."""
        return LOWEST_LOGIT + np.arange(_BINS) / BINS_PER_LOGIT

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return precision, recall and Dice, each (bins,), at `thresholds`; undefined values are NaN."""
        found = _above(self.membrane)
        marked = found + _above(self.clear)
        total = self.membrane.sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            return found / marked, found / np.float64(total), 2 * found / (marked + total)

    @property
    def average_precision(self) -> float:
        """Average precision as scikit-learn defines it; NaN if the truth is empty."""
        membrane, clear = self.membrane[::-1], self.clear[::-1]
        total = int(membrane.sum())
        if total == 0:
            return float("nan")
        found = np.cumsum(membrane)
        precision = found / np.maximum(found + np.cumsum(clear), 1)
        return float(np.sum(precision * membrane) / total)

    @property
    def best_dice(self) -> tuple[float, float]:
        """Threshold with the highest Dice (the middle one of several equal thresholds), and this Dice."""
        dice = self.curve()[2]
        if np.isnan(dice).all():
            return float("nan"), float("nan")
        best = np.flatnonzero(dice == np.nanmax(dice))
        index = int(best[len(best) // 2])
        return float(self.thresholds[index]), float(dice[index])


def _above(histogram: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the numbers of voxels above each threshold."""
    return np.cumsum(histogram[:0:-1])[::-1].astype(np.float64)


def sweep_thresholds(
    logits: NDArray[np.floating[Any]], membrane: BoolArray, known: BoolArray
) -> ThresholdSweep:
    """Compute the histograms of logits of membrane and of other voxels.

    Parameters
    ----------
    logits
        (z, y, x) logits, which are read slice by slice.
    membrane, known
        (z, y, x) masks of membrane and of annotated voxels.

    Raises
    ------
    InputError
        If the shapes differ.
    """
    require_one_shape(logits, membrane, known)
    histograms = np.zeros((2, _BINS + 1), np.int64)
    for z, image in enumerate(logits):
        for kind, chosen in enumerate((membrane[z] & known[z], known[z] > membrane[z])):
            # The bins are finer than the precision of float16.
            values = (image[chosen].astype(np.float64) - LOWEST_LOGIT) * BINS_PER_LOGIT
            bins = np.clip(np.ceil(values), 0, _BINS).astype(np.int64)
            histograms[kind] += np.bincount(bins, minlength=_BINS + 1)
    return ThresholdSweep(membrane=histograms[0], clear=histograms[1])


@dataclass(frozen=True, kw_only=True)
class PaperScore:
    """Dice and IoU of the script of the Prompt-SAM paper, for comparison with its tables."""

    dice: float
    iou: float


def prompt_sam_score(logits: NDArray[np.floating[Any]], membrane: BoolArray, known: BoolArray) -> PaperScore:
    """Compute the mean Dice and IoU over five thresholds of the logits and over slices.

    The thresholds 0.1 to 0.9 are applied to logits, where they correspond to probabilities from 0.52 to 0.71.
    An empty prediction of an empty slice has a score of 1. The tables of the paper use 256 x 256 pixels.

    Parameters
    ----------
    logits, membrane, known
        (z, y, x) logits, mask of membrane and mask of annotated voxels.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
    """
    require_one_shape(logits, membrane, known)
    dice, iou = [], []
    for image, truth, here in zip(logits, membrane, known, strict=True):
        wanted = truth & here
        for threshold in PAPER_THRESHOLDS:
            marked = (image > threshold) & here
            both = np.count_nonzero(marked & wanted)
            total = np.count_nonzero(marked) + np.count_nonzero(wanted)
            dice.append((2 * both + PAPER_DICE_SMOOTHING) / (total + PAPER_DICE_SMOOTHING))
            iou.append((both + PAPER_IOU_SMOOTHING) / (total - both + PAPER_IOU_SMOOTHING))
    return PaperScore(dice=float(np.mean(dice)), iou=float(np.mean(iou)))
