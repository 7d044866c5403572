"""Convert masks and logits to boolean masks, and reject other data."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError, WeightsError
from cryoseg.types import BoolArray


class VoxelKind(StrEnum):
    """Kinds of values in a volume."""

    MASK = "mask"
    LOGITS = "logits"
    LABELS = "labels"


def voxel_kind(data: NDArray[np.generic]) -> VoxelKind:
    """Classify a (z, y, x) volume as mask, logits or labels by its values.

    A mask contains 0 and at most one positive value: any for integers, 1 or 255 for real numbers. Other
    real numbers are logits, and other integers are labels.
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
    """Raise a `WeightsError` that names `source` if (z, y, x) or (y, x) logits contain NaN."""
    # The minimum of values with a NaN is NaN. Computing it is much faster than counting NaN.
    if not any(np.isnan(image.min()) for image in logits):
        return
    count = sum(int(np.isnan(image).sum()) for image in logits)
    raise WeightsError(
        f"{source}: the network gives NaN for {count} of {logits.size} values, so that its weights are "
        "damaged or overflow at this precision. Use float32, or other weights."
    )


def threshold_logits(logits: NDArray[np.generic], threshold: float) -> BoolArray:
    """Return where (z, y, x) logits are greater than `threshold`; raise an `InputError` for NaN."""
    mask = np.empty(logits.shape, np.bool_)
    for z, image in enumerate(logits):
        values = image.astype(np.float32, copy=False)
        if np.isnan(values).any():
            raise InputError(f"slice {z} contains NaN, which logits must not. Run the segmentation again.")
        # The segmentation compares in float32 too.
        np.greater(values, np.float32(threshold), out=mask[z])
    return mask


def to_mask(data: NDArray[np.generic], *, logit_threshold: float | None) -> BoolArray:
    """Convert a (z, y, x) mask of any type, or logits, to a boolean mask.

    Without `logit_threshold`, logits are rejected.

    Raises
    ------
    InputError
        If the volume contains labels of several values or NaN, or logits without a threshold. The caller
        prepends the name of the file to the message.
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
