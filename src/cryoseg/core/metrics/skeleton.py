"""Centerline Dice (clDice) of membranes, which are curves in every slice."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from skimage.morphology import skeletonize

from cryoseg.core.metrics.overlap import ratio, require_one_shape
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class CenterlineScore:
    """Numbers of skeleton pixels of both masks, and of those inside the other mask.

    Attributes
    ----------
    pred_pixels, pred_inside
        Number of skeleton pixels of the prediction where the truth is known, and of those inside the truth.
    truth_pixels, truth_inside
        Number of skeleton pixels of the truth, and of those inside the prediction.
    """

    pred_pixels: int
    pred_inside: int
    truth_pixels: int
    truth_inside: int

    @property
    def precision(self) -> float:
        """Topology precision; NaN without a predicted skeleton."""
        return ratio(self.pred_inside, self.pred_pixels)

    @property
    def sensitivity(self) -> float:
        """Topology sensitivity; NaN without a true skeleton."""
        return ratio(self.truth_inside, self.truth_pixels)

    @property
    def cldice(self) -> float:
        """Harmonic mean of precision and sensitivity; 1 if both skeletons are empty, 0 if one is."""
        if self.pred_pixels == self.truth_pixels == 0:
            return 1.0
        if self.pred_pixels == 0 or self.truth_pixels == 0:
            return 0.0
        total = self.precision + self.sensitivity
        return 2 * self.precision * self.sensitivity / total if total else 0.0


def compare_centerlines(pred: BoolArray, truth: BoolArray, known: BoolArray) -> CenterlineScore:
    """Compare the skeleton of each mask with the other mask in every z slice.

    Membranes are sheets in 3D, which have no meaningful curve skeleton. Therefore the slices are skeletonized
    and the counts of all slices are added.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: Shit et al. 2021, clDice.
    """
    require_one_shape(pred, truth, known)

    def count(z: int) -> tuple[int, int, int, int]:
        pred_skeleton: BoolArray = skeletonize(pred[z]) & known[z]  # type: ignore[no-untyped-call]
        truth_skeleton: BoolArray = skeletonize(truth[z]) & known[z]  # type: ignore[no-untyped-call]
        return (
            int(np.count_nonzero(pred_skeleton)),
            int(np.count_nonzero(pred_skeleton & truth[z])),
            int(np.count_nonzero(truth_skeleton)),
            int(np.count_nonzero(truth_skeleton & pred[z])),
        )

    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        sums = [sum(column) for column in zip(*pool.map(count, range(len(pred))), strict=True)]
    return CenterlineScore(
        pred_pixels=sums[0], pred_inside=sums[1], truth_pixels=sums[2], truth_inside=sums[3]
    )
