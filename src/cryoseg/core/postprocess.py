"""Mask-to-mask steps after the threshold: drop thin components, cut bridges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import PostprocessStep
from cryoseg.core.bridges import remove_bridges
from cryoseg.core.components import find_components
from cryoseg.errors import ConfigError, InputError
from cryoseg.types import BoolArray


@dataclass(frozen=True, kw_only=True)
class PostprocessLengths:
    """Numbers that the steps need.

    Attributes
    ----------
    min_slices
        `thin-noise` keeps components on at least this many slices.
    max_bridge_length, max_spur_length
        `bridges` cuts skeleton segments of up to this many pixels; 0 keeps every spur.
    """

    min_slices: int = 10
    max_bridge_length: int = 5
    max_spur_length: int = 0

    def __post_init__(self) -> None:
        if self.min_slices < 1:
            raise ConfigError(f"min_slices is {self.min_slices}; it must be at least 1.")
        if self.max_bridge_length < 0 or self.max_spur_length < 0:
            raise ConfigError(
                f"max_bridge_length is {self.max_bridge_length} and max_spur_length {self.max_spur_length}; "
                "neither may be negative."
            )


def postprocess_mask(
    mask: NDArray[np.generic],
    steps: Sequence[PostprocessStep],
    *,
    min_slices: int = 10,
    max_bridge_length: int = 5,
    max_spur_length: int = 0,
) -> BoolArray:
    """Apply steps to a mask, in the order given.

    Parameters
    ----------
    mask
        (z, y, x), non-zero on membrane.
    steps
        Any of `PostprocessStep`; none returns a copy.
    min_slices
        `thin-noise` keeps components on at least this many slices.
    max_bridge_length, max_spur_length
        `bridges` cuts skeleton segments of up to this many pixels; 0 keeps every spur.

    Returns
    -------
    BoolArray
        A new array of the same shape; `mask` is not changed.

    Raises
    ------
    ConfigError
        If `min_slices` is below 1 or a length is negative.
    InputError
        If the mask is not 3D.
    """
    lengths = PostprocessLengths(
        min_slices=min_slices, max_bridge_length=max_bridge_length, max_spur_length=max_spur_length
    )
    if mask.ndim != 3:
        raise InputError(f"The mask has shape {mask.shape}; post-processing needs a volume (z, y, x).")
    result: BoolArray = np.not_equal(mask, 0)
    for step in steps:
        result = STEPS[step](result, lengths)
    return result


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

    Source: ETSAM, post-processing of the first release; reference notes, section 6.
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
