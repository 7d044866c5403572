"""Mask-to-mask steps after the threshold: drop thin components, cut bridges."""

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
    """Apply steps to a mask, in the order given.

    Parameters
    ----------
    mask
        (z, y, x), non-zero on membrane.
    steps
        Any of `PostprocessStep`; none returns a copy.
    lengths
        What the steps need; a `SegmentConfig` is one. Defaults if None.
    **numbers
        Single fields of `PostprocessLengths`, in place of those of `lengths`.

    Returns
    -------
    BoolArray
        A new array of the same shape; `mask` is not changed.

    Raises
    ------
    ConfigError
        If a number does not fit.
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
    """A sentence that says why post-processing left nothing of a mask; None if something is left.

    Parameters
    ----------
    mask, processed
        (z, y, x) before and after.
    lengths
        The settings of the steps.
    """
    if processed.any() or not mask.any():
        return None
    return (
        f"post-processing removed every marked voxel. It drops components on fewer than "
        f"{lengths.min_slices} slices, and the volume has {len(mask)}. Lower --post-process-min-slices."
    )


def remove_thin_noise(mask: BoolArray, *, min_slices: int) -> BoolArray:
    """Drop components that span few slices.

    Components are 26-connected; one stays if the box around it is at least `min_slices` slices
    high, whatever its volume.

    Parameters
    ----------
    mask
        (z, y, x).
    min_slices
        Smallest extent along z that stays.

    Returns
    -------
    BoolArray
        A new array of the same shape.

    Source: jianlin-cheng/ETSAM etsam.py@b859060.
    """
    components = find_components(mask)
    return components.select(components.slices >= min_slices)


def _thin_noise_step(mask: BoolArray, lengths: PostprocessLengths) -> BoolArray:
    return remove_thin_noise(mask, min_slices=lengths.min_slices)


def _bridges_step(mask: BoolArray, lengths: PostprocessLengths) -> BoolArray:
    return remove_bridges(
        mask, max_bridge_length=lengths.max_bridge_length, max_spur_length=lengths.max_spur_length
    )


STEPS: dict[PostprocessStep, Callable[[BoolArray, PostprocessLengths], BoolArray]] = {
    PostprocessStep.THIN_NOISE: _thin_noise_step,
    PostprocessStep.BRIDGES: _bridges_step,
}
