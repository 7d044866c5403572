"""Check that the axes, shapes and voxel sizes of a prediction and a truth agree."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from cryoseg.core.metrics.matching import assign, find_neighbors
from cryoseg.core.metrics.overlap import count_overlap
from cryoseg.types import BoolArray, Points

_AXES = "zyx"
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

    Only orders that keep the shape are tried, such as exchanged x and y in square slices.

    Parameters
    ----------
    pred, truth
        (z, y, x) masks of one shape.

    Returns
    -------
    str or None
        Names of the axes in that order, such as "z, x, y"; None if there is no such order.
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
            return ", ".join(_AXES[axis] for axis in order)
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
    names = _AXES[-dimensions:]
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


def voxel_size_mismatch(
    pred: tuple[float, float, float], truth: tuple[float, float, float], *, tolerance: float = 0.01
) -> str | None:
    """Report two (z, y, x) voxel sizes in angstrom that differ by more than `tolerance`, a fraction.

    None is returned if they agree or if one is not set (0, or 1 A on all axes).
    """
    for sizes in (pred, truth):
        if 0.0 in sizes or all(size == 1.0 for size in sizes):
            return None
    if np.all(np.abs(np.subtract(pred, truth)) <= tolerance * np.asarray(truth)):
        return None
    return (
        f"the prediction has voxels of {_shape(pred)} A (z, y, x) and the truth of {_shape(truth)} A. "
        "Resample one of them, or pass --pixel-size if a header is wrong."
    )


def _shape(values: tuple[float, ...]) -> str:
    return " x ".join(f"{value:.5g}" for value in values)


def _order(pred: tuple[int, ...], truth: tuple[int, ...]) -> str:
    """Name the first order of the axes of the truth that gives the shape of the prediction."""
    for order in permutations(range(3)):
        if tuple(truth[axis] for axis in order) == pred:
            return "the prediction's z, y, x are the truth's " + ", ".join(_AXES[axis] for axis in order)
    raise AssertionError("shapes are no permutation of each other")
