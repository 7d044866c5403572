"""Check that a prediction and a truth, or labels and their image, agree in axes, shape and voxel size."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.metrics.matching import assign, find_neighbors
from cryoseg.core.metrics.overlap import count_overlap
from cryoseg.errors import InputError
from cryoseg.types import BoolArray, Points

AXES = ("z", "y", "x")
# Axes count as exchanged if the Dice is below GIVEN_DICE as given and at least EXCHANGED_DICE exchanged.
EXCHANGED_DICE = 0.5
GIVEN_DICE = 0.25
_SMALL = 32
_FEW_PICKS = 5
_MANY_PICKS = 300  # Largest number of points whose pairs are compared to find a mirror.


def orders_of_axes(dimensions: int) -> list[tuple[int, ...]]:
    """Return all orders of the axes; the unchanged order comes first, then exchanges of two axes."""
    axes = range(dimensions)
    return sorted(permutations(axes), key=lambda order: sum(a != b for a, b in zip(order, axes, strict=True)))


def shape_mismatch(pred: tuple[int, ...], truth: tuple[int, ...]) -> str | None:
    """Explain why a prediction and a truth of two (z, y, x) shapes cannot be compared; None if they agree."""
    if pred == truth:
        return None
    shapes = f"the prediction has {_shape(pred)} voxels (z, y, x) and the truth {_shape(truth)}"
    if (pred[0] == 1) != (truth[0] == 1) and pred[1:] == truth[1:]:
        image, volume = ("prediction", "truth") if pred[0] == 1 else ("truth", "prediction")
        return f"{shapes}: the {image} is a single image, the {volume} a volume. Give both of one kind."
    if sorted(pred) == sorted(truth):
        return (
            f"{shapes}: the axes are exchanged ({_order(pred, truth)}). Write the prediction in the order of "
            "the truth."
        )
    return f"{shapes}. Give a pair of one shape."


def can_exchange_axes(shape: tuple[int, ...]) -> bool:
    """Return whether two axes have the same length, so that their exchange keeps the shape."""
    return len(set(shape)) < len(shape)


def find_exchanged_axes(pred: BoolArray, truth: BoolArray) -> str | None:
    """Find an order of axes in which a prediction overlaps the truth much better than as given.

    Only orders that keep the (z, y, x) shape of the masks are tried, such as exchanged x and y in square
    slices. The result names the axes, such as "z, x, y"; it is None if there is no such order.
    """
    orders = [
        order
        for order in permutations(range(3))
        if order != (0, 1, 2) and tuple(pred.shape[axis] for axis in order) == truth.shape
    ]
    if not orders or not truth.any():
        return None
    # A subset of the slices is sufficient and fast.
    step = max(1, len(truth) // _SMALL)
    chosen = truth[::step]
    if count_overlap(pred[::step], chosen).dice >= GIVEN_DICE:
        return None
    for order in orders:
        if count_overlap(pred.transpose(order)[::step], chosen).dice >= EXCHANGED_DICE:
            return ", ".join(AXES[axis] for axis in order)
    return None


def find_changed_axes(
    pred: Points, truth: Points, *, radius_px: float, shape: tuple[int, ...] | None = None
) -> str | None:
    """Find exchanged or mirrored axes with which picks match the truth much better than as given.

    At least five picks must match; at least ten if the position of the mirror is unknown.

    Parameters
    ----------
    pred, truth
        (n, d) and (m, d) positions, z, y, x or y, x, in pixels.
    radius_px
        Largest distance of a match in pixels.
    shape
        Shape of the image; None estimates the position of the mirror from the points.

    Returns
    -------
    str or None
        Clause such as "with their axes taken in the order x, y" or "with y mirrored"; None if the picks
        match as given or in no way.
    """
    dimensions = truth.shape[1]
    smaller = min(len(pred), len(truth))
    if smaller < _FEW_PICKS:
        return None

    def matches(points: Points) -> int:
        return int((assign(find_neighbors(points, truth, radius_px=radius_px)) >= 0).sum())

    if matches(pred) >= GIVEN_DICE * smaller:
        return None
    axes = range(dimensions)
    names = AXES[-dimensions:]
    for count in range(dimensions + 1):
        for order in orders_of_axes(dimensions):
            turned = pred[:, order]
            for mirrored in map(list, combinations(axes, count)):
                needed = _FEW_PICKS if shape is not None or not mirrored else 2 * _FEW_PICKS
                points = turned.copy()
                if mirrored:
                    ends = (
                        _mirror(turned, truth, mirrored, radius_px)
                        if shape is None
                        else np.asarray(shape, np.float64)[mirrored] - 1
                    )
                    points[:, mirrored] = ends - points[:, mirrored]
                if matches(points) < max(EXCHANGED_DICE * smaller, min(needed, smaller)):
                    continue
                changes = []
                if order != tuple(axes):
                    changes.append(
                        f"their axes taken in the order {', '.join(names[axis] for axis in order)}"
                    )
                if mirrored:
                    changes.append(f"{' and '.join(names[axis] for axis in mirrored)} mirrored")
                return f"with {' and '.join(changes)}" if changes else None
    return None


def _mirror(pred: Points, truth: Points, axes: list[int], radius_px: float) -> NDArray[np.float64]:
    """Return the most frequent sum of a coordinate and its mirror image on each of `axes`."""
    pred, truth = pred[:_MANY_PICKS], truth[:_MANY_PICKS]
    others = [axis for axis in range(pred.shape[1]) if axis not in axes]
    near = (np.abs(pred[:, None, others] - truth[None, :, others]) <= radius_px).all(axis=2)
    sums = (pred[:, None, axes] + truth[None, :, axes])[near]
    if not len(sums):
        return np.zeros(len(axes))
    bins = np.round(sums / (2 * radius_px)).astype(np.int64)
    places, counts = np.unique(bins, axis=0, return_counts=True)
    best = places[counts.argmax()]
    return np.asarray(np.median(sums[(np.abs(bins - best) <= 1).all(axis=1)], axis=0))


def voxel_size_mismatch(pred: tuple[float, float, float], truth: tuple[float, float, float]) -> str | None:
    """Report two (z, y, x) voxel sizes in angstrom that differ by more than one percent.

    None is returned if they agree or if one is not set (0, or 1 A on all axes).
    """
    for sizes in (pred, truth):
        if 0.0 in sizes or all(size == 1.0 for size in sizes):
            return None
    if np.all(np.abs(np.subtract(pred, truth)) <= 0.01 * np.asarray(truth)):
        return None
    return (
        f"the prediction has voxels of {_shape(pred)} A (z, y, x) and the truth of {_shape(truth)} A. "
        "Resample one of them, or pass --pixel-size if a header is wrong."
    )


def _shape(values: NDArray[np.float64] | tuple[float, ...]) -> str:
    return " x ".join(f"{value:g}" for value in values)


def _order(pred: tuple[int, ...], truth: tuple[int, ...]) -> str:
    """Name the first order of the axes of the truth that gives the shape of the prediction."""
    for order in permutations(range(3)):
        if tuple(truth[axis] for axis in order) == pred:
            return "the prediction's z, y, x are the truth's " + ", ".join(AXES[axis] for axis in order)
    raise AssertionError("shapes are no permutation of each other")


MOST_OUTSIDE = 0.2  # Largest share of labels outside the image that is accepted at its border.
AT_THE_BORDER = 0.02  # Labels outside by a smaller share of an axis do not indicate swapped axes.


def inside(points: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return the (n,) points that lie in a voxel of the image; the center of the first voxel is 0."""
    return np.asarray(((points >= -0.5) & (points <= np.asarray(shape) - 0.5)).all(axis=1))


def points_outside(
    points: NDArray[np.float64], shape: tuple[int, ...], *, what: str = "points"
) -> str | None:
    """Report how many points lie outside an image and the first of them; None if there are none.

    `points` are (n, d) positions in voxels in the axis order of `shape`; `what` names them in the message.
    """
    good = inside(points, shape)
    if good.all():
        return None
    kind, unit = ("volume", "voxels") if len(shape) == len(AXES) else ("image", "pixels")
    return (
        f"{int((~good).sum())} of {len(points)} {what} lie outside the {kind} of {_shape(shape)} {unit} "
        f"({', '.join(AXES[-len(shape) :])}), the first at {_shape(points[~good][0])}"
    )


def fitting_order(points: NDArray[np.float64], shape: tuple[int, ...]) -> tuple[int, ...] | None:
    """Find another order of the columns with which all (n, d) points lie in an image of (d,) `shape`.

    (1, 0, 2) means that z and y are swapped. The result is None if no order fits.
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
