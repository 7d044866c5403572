"""Do these labels belong to this image? Catch swapped axes before a network learns nonsense."""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from cryoseg.errors import InputError

AXES = ("z", "y", "x")
MOST_OUTSIDE = 0.2  # a larger share of labels outside is a mistake, not a border effect
AT_THE_BORDER = 0.02  # of an axis; labels so little outside do not tell that axes are swapped


def inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """(n,) True for points whose voxel exists; voxel centers lie at whole numbers from 0."""
    return np.asarray(((points >= -0.5) & (points <= np.asarray(shape) - 0.5)).all(axis=1))


def points_outside(
    points: NDArray[np.float64], shape: tuple[int, ...], *, what: str = "points"
) -> str | None:
    """Say how many points lie outside an image, and where the first does, or None.

    Parameters
    ----------
    points
        (n, d) z, y, x or y, x, in voxels.
    shape
        Of the image, in the same order.
    what
        Name of the points in the sentence.
    """
    good = inside(points, shape)
    if good.all():
        return None
    kind, unit = ("volume", "voxels") if len(shape) == len(AXES) else ("image", "pixels")
    return (
        f"{int((~good).sum())} of {len(points)} {what} lie outside the {kind} of {_product(shape)} {unit} "
        f"({', '.join(AXES[-len(shape) :])}), the first at {_product(points[~good][0])}"
    )


def fitting_order(points: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Another order of the columns that puts every point inside, if there is one.

    A plain swap of two columns is the likelier mistake and comes before a turn of all three.

    Returns
    -------
    tuple or None
        Where z, y and x have to come from: (1, 0, 2) means that z and y are swapped.
    """
    axes = range(len(shape))
    orders = sorted(
        permutations(axes), key=lambda order: sum(a != b for a, b in zip(order, axes, strict=True))
    )
    for order in orders[1:]:
        if inside(points[:, list(order)], shape).all():
            return order
    return None


def check_labels(
    points: NDArray[np.float64], shape: tuple[int, ...], *, name: str, remedy: str
) -> tuple[NDArray[np.float64], str | None]:
    """Labels that can be used, and a warning about those that cannot.

    Parameters
    ----------
    points
        (n, 3) z, y, x, voxels; or (n, 2) y, x, pixels.
    shape
        (z, y, x), or (y, x).
    name
        Of the image, for messages.
    remedy
        How coordinates of another binning are converted, a clause for the message.

    Raises
    ------
    InputError
        If labels are not finite, or more than a fifth of them lie outside; the message
        names another order of the axes where that one fits.
    """
    if not np.isfinite(points).all():
        raise InputError(f"{name}: a label's coordinates are not numbers. Check the picks file.")
    good = inside(points, shape)
    if good.all():
        return points, None
    outside = int((~good).sum())
    axes = AXES[-len(shape) :]
    unit = "voxels" if len(shape) == len(AXES) else "pixels"
    found = f"{name}: {points_outside(points, shape, what='labels')}"
    beyond = np.maximum(-points, points - np.asarray(shape)) > AT_THE_BORDER * np.asarray(shape)
    order = fitting_order(points, shape) if beyond.any() else None
    if order is not None:
        read_as = ", ".join(
            f"{axes[axis]} from the column read as {axes[source]}" for axis, source in enumerate(order)
        )
        tables = "" if len(shape) < len(AXES) else "; of CET-pick's tables, --thickness-axis tells the order"
        raise InputError(
            f"{found}. All would fit with swapped axes: {read_as}. Reorder the columns of the file{tables}."
        )
    if outside > MOST_OUTSIDE * len(points):
        raise InputError(
            f"{found}. Check that they belong to it and are in its {unit}, not in angstrom or of another "
            f"binning ({remedy})."
        )
    return points[good], f"{found}. They are left out."


def _product(values: NDArray[np.float64] | tuple[int, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)
