"""Quadrants of the (y, x) plane."""

from __future__ import annotations

from cryoseg.errors import InputError

Window = tuple[slice, slice]


def quadrants(height: int, width: int) -> list[Window]:
    """Cut a plane into four, without overlap.

    Parameters
    ----------
    height, width
        In pixels; an odd size gives the later part one more.

    Returns
    -------
    list
        (y, x) slices, row by row.

    Raises
    ------
    InputError
        If a side has fewer than two pixels.

    Notes
    -----
    Source: ETSAM, `--split-processing`.
    """
    if min(height, width) < 2:
        raise InputError(
            f"slices of {height} x {width} pixels cannot be split into quadrants. "
            "Leave out --split-processing."
        )
    rows = (slice(0, height // 2), slice(height // 2, height))
    columns = (slice(0, width // 2), slice(width // 2, width))
    return [(y, x) for y in rows for x in columns]


def whole(height: int, width: int) -> list[Window]:
    """The one window that covers everything, for when nothing is split."""
    return [(slice(0, height), slice(0, width))]
