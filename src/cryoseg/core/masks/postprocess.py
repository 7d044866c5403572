"""Post-process masks: remove thin components and bridges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import PostprocessStep
from cryoseg.config.segment import PostprocessLengths
from cryoseg.core.masks.bridges import remove_bridges
from cryoseg.core.masks.components import find_components
from cryoseg.errors import InputError
from cryoseg.types import BoolArray


def postprocess_mask(
    mask: NDArray[np.generic],
    steps: Sequence[PostprocessStep],
    lengths: PostprocessLengths | None = None,
    **numbers: int,
) -> BoolArray:
    """Apply post-processing steps to a mask in the given order.

    Parameters
    ----------
    mask
        (z, y, x) mask, non-zero on membrane, which is not changed.
    steps
        Steps to apply; an empty sequence returns a copy.
    lengths
        Settings of the steps, such as a `SegmentConfig`; None uses the defaults.
    **numbers
        Fields of `PostprocessLengths` that replace those of `lengths`.

    Returns
    -------
    BoolArray
        New array of the same shape.

    Raises
    ------
    ConfigError
        If a setting is out of range.
    InputError
        If the mask is not 3D.
    """
    lengths = replace(lengths or PostprocessLengths(), **numbers)
    if mask.ndim != 3:
        raise InputError(f"The mask has shape {mask.shape}; post-processing needs a volume (z, y, x).")
    result: BoolArray = np.not_equal(mask, 0)
    for step in steps:
        result = STEPS[step](result, lengths)
    return result


def why_emptied(mask: BoolArray, processed: BoolArray, lengths: PostprocessLengths) -> str | None:
    """Explain why post-processing removed all of a mask; None if it did not.

    Parameters
    ----------
    mask, processed
        (z, y, x) masks before and after post-processing.
    lengths
        Settings of the steps.
    """
    if processed.any() or not mask.any():
        return None
    return (
        f"post-processing removed every marked voxel. It removes components on fewer than "
        f"{lengths.min_slices} slices, and the volume has {len(mask)}. Lower --post-process-min-slices."
    )


def remove_thin_noise(mask: BoolArray, *, min_slices: int) -> BoolArray:
    """Return a (z, y, x) mask without the 26-connected components on fewer than `min_slices` slices.

    Notes
    -----
    Source: jianlin-cheng/ETSAM etsam.py@b859060.
    """
    components = find_components(mask)
    return components.select(components.slices >= min_slices)


STEPS: dict[PostprocessStep, Callable[[BoolArray, PostprocessLengths], BoolArray]] = {
    PostprocessStep.THIN_NOISE: lambda mask, lengths: remove_thin_noise(mask, min_slices=lengths.min_slices),
    PostprocessStep.BRIDGES: lambda mask, lengths: remove_bridges(
        mask, max_bridge_length=lengths.max_bridge_length, max_spur_length=lengths.max_spur_length
    ),
}
