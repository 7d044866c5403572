"""Decide whether the bytes of an MRC file of mode 0 are signed, if no stamp says so.

In the standard they are signed, but many programs write unsigned bytes. Bytes from 128 differ; for these, the
statistics in the header and the histogram decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

# Grey values on either side of a border of the histogram that are compared. The border itself is left
# out: clipped values gather there.
BORDER_LEVELS = 7
# The histogram decides where it is so many times more even across one border than across the other.
DECISIVE_RATIO = 2
# A stated mean decides if it fits one reading within this and the other one not, in grey values.
MEAN_TOLERANCE = 1.0

UNSIGNED = (
    "The bytes (mode 0) have no stamp that says whether they are signed; they are read as unsigned, "
    "because {}."
)
UNKNOWN = (
    "The bytes (mode 0) have no stamp that says whether they are signed, and neither the header nor the "
    "histogram tells; they are read as signed. Pass --mode0 unsigned if the values lie between 0 and 255."
)


def read_signedness(
    stored: NDArray[Any], density: tuple[float, float, float]
) -> tuple[np.dtype[Any], str | None]:
    """Decide whether bytes without a stamp are signed.

    Parameters
    ----------
    stored
        Bytes (sections, rows, columns) as int8.
    density
        Minimum, maximum and mean in the header.

    Returns
    -------
    tuple
        int8 or uint8, and a warning if the bytes are read as unsigned or nothing decides; otherwise None.
    """
    histogram = np.zeros(256, np.int64)
    for section in stored.view(np.uint8):
        histogram += np.bincount(section.reshape(-1), minlength=256)
    if not histogram[128:].any():
        return np.dtype("i1"), None
    signed = _told_by_header(histogram, density)
    reason = f"the header gives values from {density[0]:g} to {density[1]:g}, {density[2]:g} on average"
    if signed is None:
        signed, reason = _told_by_histogram(histogram)
    if signed is None:
        return np.dtype("i1"), UNKNOWN
    return (np.dtype("i1"), None) if signed else (np.dtype("u1"), UNSIGNED.format(reason))


def _told_by_header(histogram: NDArray[np.int64], density: tuple[float, float, float]) -> bool | None:
    low, high, mean = density
    # MRC2014 marks unknown statistics by a maximum below the minimum; other programs write zeros.
    if not (np.isfinite(density).all() and low <= mean <= high and low < high):
        return None
    if low < -128 or high > 255 or (low < 0 and high > 127):
        return None  # These are the statistics of other data.
    if high > 127 or low < 0:
        return low < 0
    levels = np.arange(256)
    unsigned_mean = float(histogram @ levels / histogram.sum())
    signed_mean = unsigned_mean - 256 * float(histogram[128:].sum() / histogram.sum())
    fits = [abs(mean - found) <= MEAN_TOLERANCE for found in (signed_mean, unsigned_mean)]
    return fits[0] if fits[0] != fits[1] else None


def _told_by_histogram(histogram: NDArray[np.int64]) -> tuple[bool | None, str]:
    """Return whether bytes are signed, None if nothing decides, and the reason if they are not.

    In the right reading the two ends of the histogram are far from each other, while the values beside
    the border of the wrong reading, 127 and 128 or -1 and 0, are neighbors and about equally frequent.
    """
    if not histogram[1:255].any():
        return False, "all values are 0 and 255"
    n = BORDER_LEVELS
    across_128 = min(histogram[127 - n : 127].sum(), histogram[129 : 129 + n].sum())
    across_0 = min(histogram[255 - n : 255].sum(), histogram[1 : 1 + n].sum())
    if across_128 > DECISIVE_RATIO * across_0:
        return False, "their histogram continues from 127 to 128"
    return (True, "") if across_0 > DECISIVE_RATIO * across_128 else (None, "")
