"""From what a file holds to a mask, refusing what is neither a mask nor logits."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError, WeightsError
from cryoseg.types import BoolArray


class VoxelKind(StrEnum):
    """What the values of a volume can be."""

    MASK = "mask"
    LOGITS = "logits"
    LABELS = "labels"


def voxel_kind(data: NDArray[np.generic]) -> VoxelKind:
    """Tell a mask from logits and from labels by the values; reads slice by slice.

    Parameters
    ----------
    data
        (z, y, x).

    Returns
    -------
    VoxelKind
        `MASK`: 0 and at most one positive value (of any type). Else `LOGITS` for real numbers and
        `LABELS` for integers.
    """
    other = VoxelKind.LOGITS if data.dtype.kind == "f" else VoxelKind.LABELS
    positive: float | None = None
    for image in data:
        if image.dtype.kind == "b":
            continue
        low, high = float(image.min()), float(image.max())
        if low == high == 0:
            continue
        positive = high if positive is None else positive
        if low < 0 or high != positive:
            return other
        # Counting is several times faster than combining comparisons.
        if np.count_nonzero(image) != np.count_nonzero(image == image.dtype.type(high)):
            return other
    if data.dtype.kind == "f" and positive not in (None, 1.0, 255.0):
        return other
    return VoxelKind.MASK


def check_logits(logits: NDArray[np.generic], source: Path) -> None:
    """Refuse the output of a network that holds NaN, of which no mask and no pick can be made.

    Parameters
    ----------
    logits
        (z, y, x) or (y, x).
    source
        The image, for the message.

    Raises
    ------
    WeightsError
        With the number of NaN.
    """
    # The minimum of what holds NaN is NaN; it is found much faster than NaN are counted.
    if not any(np.isnan(image.min()) for image in logits):
        return
    count = sum(int(np.isnan(image).sum()) for image in logits)
    raise WeightsError(
        f"{source}: the network gives NaN for {count} of {logits.size} values, so that its weights are "
        "damaged or overflow at this precision. Pass --precision float32, or other weights."
    )


def threshold_logits(logits: NDArray[np.generic], threshold: float) -> BoolArray:
    """Where logits (z, y, x) are greater than `threshold`.

    Raises
    ------
    InputError
        If a value is NaN.
    """
    mask = np.empty(logits.shape, np.bool_)
    for z, image in enumerate(logits):
        values = image.astype(np.float32, copy=False)
        if np.isnan(values).any():
            raise InputError(f"slice {z} holds NaN; these are no logits. Segment again.")
        # The comparison is made in float32, the type of the logits, as the segmentation makes it.
        np.greater(values, np.float32(threshold), out=mask[z])
    return mask


def to_mask(data: NDArray[np.generic], *, logit_threshold: float | None) -> BoolArray:
    """A mask from a mask or from logits.

    Parameters
    ----------
    data
        (z, y, x).
    logit_threshold
        For logits; None refuses them.

    Raises
    ------
    InputError
        For labels of several values, NaN, and for logits without a threshold. The text lacks the
        name of the file, which the caller knows.
    """
    match voxel_kind(data):
        case VoxelKind.MASK:
            mask: BoolArray = np.not_equal(data, 0)
            return mask
        case VoxelKind.LOGITS if logit_threshold is not None:
            return threshold_logits(data, logit_threshold)
        case VoxelKind.LOGITS:
            raise InputError("holds real numbers, not a mask. If they are logits, pass --logit-threshold.")
        case _:
            found = np.unique(data)
            values = ", ".join(str(value) for value in found[:5]) + (", ..." if found.size > 5 else "")
            raise InputError(
                f"holds {found.size} different values ({values}), not a mask of 0 and 1. "
                "Give a mask, or real-valued logits."
            )
