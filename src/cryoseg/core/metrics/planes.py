"""Overlap of the slices of a volume in three planes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.metrics.overlap import require_one_shape
from cryoseg.types import BoolArray

PLANES = ("xy", "xz", "yz")  # Planes perpendicular to z, y and x.
RATIOS = ("dice", "iou", "precision", "recall")


@dataclass(frozen=True, kw_only=True)
class PlaneCounts:
    """Numbers of voxels of every slice of one plane.

    Attributes
    ----------
    both, marked, wanted
        (slices,) numbers of voxels in prediction and truth, in the prediction, and in the truth.
    """

    both: NDArray[np.int64]
    marked: NDArray[np.int64]
    wanted: NDArray[np.int64]

    def means(self, *, undefined: float | None = None) -> dict[str, float]:
        """Return the means of `RATIOS` over slices.

        Parameters
        ----------
        undefined
            Value of 0/0; None ignores such slices, and the mean is NaN if none is left. ETSAM's tables use
            0, so that slices without membrane reduce the means.
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
    """Count the voxels of every xy, xz and yz slice, where the truth is known.

    Parameters
    ----------
    pred, truth, known
        (z, y, x) masks.

    Returns
    -------
    dict
        Counts by the names in `PLANES`.

    Raises
    ------
    InputError
        If the shapes differ.

    Notes
    -----
    Source: jianlin-cheng/ETSAM evaluation/evaluate_etsam_plane_wise.py@58e8df8.
    """
    require_one_shape(pred, truth, known)
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
