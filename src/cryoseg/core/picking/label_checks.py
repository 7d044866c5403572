"""Check that labels lie in their image, so that swapped axes are found before the training."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.grids.axes import orders_of_axes
from cryoseg.errors import InputError

AXES = ("z", "y", "x")
MOST_OUTSIDE = 0.2  # Largest share of labels outside the image that is accepted at its border.
AT_THE_BORDER = 0.02  # Labels outside by a smaller share of an axis do not indicate swapped axes.


def inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the (n,) points that lie in a voxel of the image; the center of the first voxel is 0."""
    return np.asarray(((points >= -0.5) & (points <= np.asarray(shape) - 0.5)).all(axis=1))


def points_outside(
    points: NDArray[np.float64], shape: tuple[int, ...], *, what: str = "points"
) -> str | None:
    """Report how many points lie outside an image and the first of them; None if there are none.

    Parameters
    ----------
    points
        (n, d) positions z, y, x or y, x in voxels.
    shape
        (d,) shape of the image.
    what
        Name of the points in the message.
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
    """Find another order of the columns with which all (n, d) points lie in an image of (d,) `shape`.

    Returns
    -------
    tuple or None
        Columns of z, y and x: (1, 0, 2) means that z and y are swapped. None if no order fits.
    """
    for order in orders_of_axes(len(shape))[1:]:
        if inside(points[:, list(order)], shape).all():
            return order
    return None


def check_labels(
    points: NDArray[np.float64], shape: tuple[int, ...], *, name: str, remedy: str
) -> tuple[NDArray[np.float64], str | None]:
    """Return the labels inside an image, and a warning if some lie outside.

    Parameters
    ----------
    points
        (n, 3) positions z, y, x in voxels, or (n, 2) positions y, x in pixels.
    shape
        Shape of the image in the same order.
    name
        Name of the image in messages.
    remedy
        Clause of the message on how to convert coordinates of another binning.

    Raises
    ------
    InputError
        If labels are not finite, if all of them lie inside with swapped axes, or if more than a fifth of
        them lie outside.
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
        tables = "" if len(shape) < len(AXES) else "; for CET-pick's tables, --thickness-axis sets the order"
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
