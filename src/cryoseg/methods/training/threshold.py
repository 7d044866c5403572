"""The logit threshold with the best Dice on validation data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOGIT_BINS = np.linspace(-6, 6, 97)  # candidate thresholds, an eighth apart


def dice_by_threshold(
    logits: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Compute the Dice at each threshold of `LOGIT_BINS`.

    Parameters
    ----------
    logits, labels
        (z, y, x) or (y, x) arrays. Labels above 0 are positive, 0 is negative, -1 is ignored.

    Returns
    -------
    NDArray
        (bins,) Dice; 1 where neither labels nor prediction contain a positive.
    """
    edges = np.concatenate([[-np.inf], LOGIT_BINS, [np.inf]])
    positive = np.histogram(logits[labels > 0], edges)[0]
    negative = np.histogram(logits[labels == 0], edges)[0]
    hits = positive[::-1].cumsum()[::-1][1:]
    false = negative[::-1].cumsum()[::-1][1:]
    both = hits + false + positive.sum()
    return np.where(both > 0, 2 * hits / np.maximum(both, 1), 1.0)


def best_threshold(curves: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """Return the threshold with the highest mean Dice, and that Dice.

    Parameters
    ----------
    curves
        Dice curves of all images or volumes, (bins,) each, from `dice_by_threshold`.
    """
    mean = np.mean(curves, axis=0)
    return float(LOGIT_BINS[mean.argmax()]), float(mean.max())
