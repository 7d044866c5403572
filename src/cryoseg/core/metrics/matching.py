"""One-to-one matching of predicted and true positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import KDTree

from cryoseg.types import BoolArray, Points


@dataclass(frozen=True, kw_only=True)
class Neighbors:
    """Pairs of a predicted and a true point within a radius.

    Attributes
    ----------
    pred, truth, distance_px
        (n,) indices of the points of each pair, and (n,) distances in pixels.
    pred_count, truth_count
        Number of all predicted and of all true points.
    """

    pred: NDArray[np.int64]
    truth: NDArray[np.int64]
    distance_px: NDArray[np.float64]
    pred_count: int
    truth_count: int


def find_neighbors(pred: Points, truth: Points, *, radius_px: float) -> Neighbors:
    """Find all pairs of (n, d) and (m, d) points in pixels within a radius, which is inclusive."""
    rows, columns, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)], [np.empty(0)]
    if len(pred) and len(truth):
        # The tolerance allows for rounding errors of a radius such as 3 x 0.7.
        reach = radius_px * (1 + 1e-9)
        found = KDTree(truth).query_ball_point(pred, reach, return_sorted=True)
        sizes = np.array([len(one) for one in found])
        rows.append(np.repeat(np.arange(len(pred)), sizes))
        columns.append(np.concatenate([np.asarray(one, np.int64) for one in found]))
        distances.append(np.linalg.norm(pred[rows[-1]] - truth[columns[-1]], axis=1))
    return Neighbors(
        pred=np.concatenate(rows),
        truth=np.concatenate(columns),
        distance_px=np.concatenate(distances),
        pred_count=len(pred),
        truth_count=len(truth),
    )


def assign(neighbors: Neighbors) -> NDArray[np.int64]:
    """Find the largest one-to-one matching with the smallest sum of distances.

    The result is the (pred_count,) index of the true point of each prediction; -1 without a match.
    """
    return _assign(neighbors, neighbors.distance_px, must_match=True)


def assign_cetpick(neighbors: Neighbors, *, radius_px: float) -> NDArray[np.int64]:
    """Find the matching of CET-pick's evaluation, for comparison with published tables.

    It minimizes the sum of squared distance minus `radius_px` cubed, so that pairs up to a distance of
    `radius_px` to the power of 1.5 count (22.6 voxels for a radius of 8). `neighbors` must contain these
    pairs. The result has the shape of that of `assign`: (n,) for the n picks.

    Source: nextpyp/cet_pick cet_pick/precision_recall_curve.py@a905da6.
    """
    cost = neighbors.distance_px**2 - radius_px**3
    return _assign(neighbors, cost, must_match=False)


def _assign(neighbors: Neighbors, cost: NDArray[np.float64], *, must_match: bool) -> NDArray[np.int64]:
    """Solve the assignment of each connected component of pairs separately."""
    assigned = np.full(neighbors.pred_count, -1, np.int64)
    if not len(cost):
        return assigned
    from scipy.optimize import linear_sum_assignment  # slow to import

    size = neighbors.pred_count + neighbors.truth_count
    graph = coo_array(
        (np.ones(len(cost), np.bool_), (neighbors.pred, neighbors.pred_count + neighbors.truth)),
        shape=(size, size),
    )
    _, cluster = connected_components(graph, directed=False)
    edge_cluster = cluster[neighbors.pred]
    order = np.argsort(edge_cluster, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(edge_cluster[order]) > 0])
    for edges in np.split(order, starts[1:]):
        preds, rows = np.unique(neighbors.pred[edges], return_inverse=True)
        truths, columns = np.unique(neighbors.truth[edges], return_inverse=True)
        table = np.zeros((len(preds), len(truths)))
        # An additional pair must reduce the cost more than any difference in distance.
        bonus = (min(table.shape) + 1) * (np.abs(cost[edges]).max() + 1) if must_match else 0.0
        table[rows, columns] = np.minimum(cost[edges] - bonus, 0.0)
        for row, column in zip(*linear_sum_assignment(table), strict=True):
            if table[row, column] < 0:
                assigned[preds[row]] = truths[column]
    return assigned


def matched_in_order(neighbors: Neighbors, order: NDArray[np.int64]) -> BoolArray:
    """Find the predictions that enlarge the largest matching when they are added one by one.

    The number of them among the first k of `order`, (pred_count,) indices from the highest score on, is the
    size of the largest one-to-one matching of these k predictions, which is the number of true positives at
    that score threshold. The result is a (pred_count,) mask.
    """
    by_pred = np.argsort(neighbors.pred, kind="stable")
    ends = np.searchsorted(neighbors.pred[by_pred], np.arange(neighbors.pred_count + 1))
    choices = [neighbors.truth[by_pred[ends[i] : ends[i + 1]]].tolist() for i in range(neighbors.pred_count)]
    owner = [-1] * neighbors.truth_count
    grows = np.zeros(neighbors.pred_count, np.bool_)
    for pred in order:
        grows[pred] = _augment(int(pred), choices, owner)
    return grows


def _augment(start: int, choices: list[list[int]], owner: list[int]) -> bool:
    """Match `start` to a free true point along an augmenting path; return whether there is one."""
    came_from: dict[int, int] = {}  # truth -> the prediction that reached it
    queue = [start]
    for pred in queue:
        for truth in choices[pred]:
            if truth in came_from:
                continue
            came_from[truth] = pred
            if owner[truth] < 0:
                _shift(start, truth, came_from, owner)
                return True
            queue.append(owner[truth])
    return False


def _shift(start: int, truth: int, came_from: dict[int, int], owner: list[int]) -> None:
    held = {owner[t]: t for t in came_from if owner[t] >= 0}
    while True:
        pred = came_from[truth]
        owner[truth] = pred
        if pred == start:
            return
        truth = held[pred]
