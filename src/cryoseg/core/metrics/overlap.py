"""Overlap of a prediction and a truth: of a volume, of its slices, and at all thresholds of logits."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of right, wrong and missing voxels or picks, and their ratios.

    A ratio of 0/0 is undefined (NaN), except that F scores, Dice and IoU are 1 if prediction and truth are
    both empty.
    """

    true_positives: int
    false_positives: int
    false_negatives: int

    def __add__(self, other: Self) -> Self:
        """Return the sums of the counts, for micro means."""
        return type(self)(**{name: count + getattr(other, name) for name, count in vars(self).items()})

    @property
    def precision(self) -> float:
        """TP / (TP + FP)."""
        return ratio(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """TP / (TP + FN)."""
        return ratio(self.true_positives, self.true_positives + self.false_negatives)

    def f_score(self, beta: float = 1.0) -> float:
        """Return the weighted harmonic mean of precision and recall.

        Source: CZII cryo-ET object identification challenge.
        """
        weight = beta * beta
        hits = (1 + weight) * self.true_positives
        total = hits + weight * self.false_negatives + self.false_positives
        return 1.0 if total == 0 else hits / total


@dataclass(frozen=True, kw_only=True)
class Overlap(Counts):
    """Confusion matrix of the voxels whose truth is known, and its ratios."""

    true_negatives: int

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN)."""
        return self.f_score()

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN)."""
        union = self.true_positives + self.false_positives + self.false_negatives
        return 1.0 if union == 0 else self.true_positives / union


def ratio(part: float, whole: float) -> float:
    """Return `part / whole`; NaN if `whole` is 0."""
    return part / whole if whole else math.nan


def count_overlap(pred: BoolArray, truth: BoolArray, known: BoolArray | None = None) -> Overlap:
    """Count the voxels of a prediction by their truth, where it is known.

    Parameters
    ----------
    pred, truth, known
        Masks of one shape; `known` is None if the truth is annotated everywhere.

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


PLANES = ("xy", "xz", "yz")  # Planes perpendicular to z, y and x.
RATIOS = ("dice", "iou", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class PlaneCounts:
    """Numbers of voxels of every slice of a plane, (slices,) each: in both masks, prediction and truth."""

    both: NDArray[np.int64]
    marked: NDArray[np.int64]
    wanted: NDArray[np.int64]

    def means(self, *, undefined: float | None = None) -> dict[str, float]:
        """Return the means of `RATIOS` over slices; `undefined` is the value of 0/0.

        None ignores such slices, and the mean is NaN if none is left. ETSAM's tables use 0, so that slices
        without membrane reduce the means.
        """
        fractions = {
            "dice": (2 * self.both, self.marked + self.wanted),
            "iou": (self.both, self.marked + self.wanted - self.both),
            "precision": (self.both, self.marked),
            "recall": (self.both, self.wanted),
        }
        means = {}
        for name, (part, whole) in fractions.items():
            values = part[whole > 0] / whole[whole > 0]
            if undefined is not None:
                means[name] = float((values.sum() + undefined * np.sum(whole == 0)) / len(whole))
            else:
                means[name] = float(values.mean()) if values.size else float("nan")
        return means


def count_planes(pred: BoolArray, truth: BoolArray, known: BoolArray) -> dict[str, PlaneCounts]:
    """Count the voxels of every xy, xz and yz slice of (z, y, x) masks, where the truth is known.

    The keys of the result are `PLANES`.

    Source: jianlin-cheng/ETSAM evaluation/evaluate_etsam_plane_wise.py@58e8df8.
    """
    depth, height, width = pred.shape
    counts = [np.zeros((3, size), np.int64) for size in (depth, height, width)]
    for z in range(depth):
        p, t = pred[z] & known[z], truth[z] & known[z]
        for kind, image in enumerate((p & t, p, t)):
            along_y = np.count_nonzero(image, axis=1)
            counts[0][kind, z] = along_y.sum()
            counts[1][kind] += along_y
            counts[2][kind] += np.count_nonzero(image, axis=0)
    return {
        plane: PlaneCounts(both=both, marked=marked, wanted=wanted)
        for plane, (both, marked, wanted) in zip(PLANES, counts, strict=True)
    }


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
    """Compute the histograms of (z, y, x) logits of membrane and of other annotated voxels."""
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
    """Compute the mean Dice and IoU of (z, y, x) logits over five thresholds and over slices.

    The thresholds 0.1 to 0.9 are applied to logits, where they correspond to probabilities from 0.52 to 0.71.
    An empty prediction of an empty slice has a score of 1. The tables of the paper use 256 x 256 pixels.

    Source: yangyang-69/Prompt_sam_cryoPPP notebooks/function_token.py@d4f8b28.
    """
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
