"""ETSAM's intensity normalization, with statistics per volume and slice-wise application."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cryoseg.config import Normalize
from cryoseg.core.grids.robust import robust_map
from cryoseg.types import BoolArray, FloatArray

STAGE1_CLIP = 5.0  # Source: jianlin-cheng/ETSAM etsam.py@b859060, between the stages.

PlaneMap = Callable[[NDArray[Any]], NDArray[np.floating[Any]]]


def intensity_map(
    volume: NDArray[Any],
    method: Normalize,
    *,
    blank: BoolArray | None = None,
    invert: bool = False,
    as_float32: bool = True,
) -> PlaneMap:
    """Return the map from the grey values of a volume to the input of the network.

    Parameters
    ----------
    volume
        (z, y, x) volume of any real type with finite values.
    method
        Normalization method.
    blank
        (z, y, x) array that is True where there is no signal, which the statistics ignore; None if there
        is signal everywhere.
    invert
        Whether dark and bright are exchanged first: volumes with negative values are negated, others are
        mirrored within their range.
    as_float32
        Whether integers are converted to float32; False uses double precision, as ETSAM's first release.

    Returns
    -------
    PlaneMap
        Function from any part of `volume` to floats of the same shape. It returns 0 for a volume without
        positive values under `positive-max` and for a constant volume under `softplus` and `robust`.

    Notes
    -----
    Source: ETSAM, `--normalize-method`. The authors' code returns NaN for constant volumes.
    """
    if method is Normalize.ROBUST:
        return robust_map(volume, invert=invert, blank=blank)
    low, high = _extremes(volume, blank)
    double = not as_float32 and volume.dtype.kind in "iu"
    kind = np.dtype(np.float64 if double else np.float32).type
    mirror = None if not invert else kind(0) if low < 0 else kind(low) + kind(high)

    def prepared(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
        if blank is not None:  # Blank voxels can lie outside the range of the signal.
            plane = np.clip(plane, low, high)
        values: NDArray[np.floating[Any]] = plane.astype(kind)
        if mirror is not None:
            values = np.asarray(mirror - values)
        return values

    first, last = np.sort(prepared(np.array([low, high])))
    if method is Normalize.POSITIVE_MAX:

        def positive_max(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
            values = np.clip(prepared(plane), 0, None)
            return np.asarray(values / last) if last > 0 else values

        return positive_max
    assert method is Normalize.SOFTPLUS
    floor, ceiling = _softplus(first), _softplus(last)
    span = ceiling - floor

    def softplus(plane: NDArray[Any]) -> NDArray[np.floating[Any]]:
        raised = _softplus(prepared(plane)) - floor
        return np.asarray(raised / span if span > 0 else np.zeros_like(raised))

    return softplus


def fused_logits_map(logits: FloatArray) -> Callable[[FloatArray], FloatArray]:
    """Return the map of stage-1 logits to [0, 1]: clipped to +-5, then scaled by the range of the volume.

    Parameters
    ----------
    logits
        (z, y, x) logits.

    Returns
    -------
    Callable
        Function from any part of `logits` to values in [0, 1]; constant logits give 0.

    Notes
    -----
    Source: jianlin-cheng/ETSAM etsam.py@b859060.
    """
    clip = np.float32(STAGE1_CLIP)
    low, high = (np.clip(value, -clip, clip) for value in (logits.min(), logits.max()))
    span = high - low

    def fused(part: FloatArray) -> FloatArray:
        raised: FloatArray = np.clip(part, -clip, clip) - low
        return raised / span if span > 0 else np.zeros_like(raised)

    return fused


def _extremes(volume: NDArray[Any], blank: BoolArray | None) -> tuple[Any, Any]:
    if blank is None:
        return volume.min(), volume.max()
    signal = [image[~where] for image, where in zip(volume, blank, strict=True) if not where.all()]
    return min(part.min() for part in signal), max(part.max() for part in signal)


def _softplus(x: Any) -> Any:
    # This is log(1 + exp(x)) without the overflow of exp in float32 above 88.
    return np.logaddexp(x.dtype.type(0), x)
