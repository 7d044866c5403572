from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryoseg.core.metrics.matching import assign, assign_cetpick, find_neighbors, matched_in_order
from cryoseg.core.metrics.overlap import Counts
from cryoseg.core.metrics.picks import MatchCriteria, PickCurve, evaluate_picks, join_curves
from cryoseg.errors import InputError


def points(*values: float) -> np.ndarray:
    return np.array([[value, 0.0] for value in values])


def test_the_largest_matching_goes_before_the_shortest() -> None:
    # Taking the pair at distance 0 first would leave the pick at -2 without a truth.
    neighbors = find_neighbors(points(0, -2), points(0, 2), radius_px=2)
    assert assign(neighbors).tolist() == [1, 0]
    # Without need the nearest is taken.
    neighbors = find_neighbors(points(1.5, 0), points(0, 2), radius_px=2)
    assert assign(neighbors).tolist() == [1, 0]


def test_a_distance_of_exactly_the_radius_matches() -> None:
    assert assign(find_neighbors(points(0.3), points(0.1 * 3 + 2.1), radius_px=0.7 * 3)).tolist() == [0]
    assert assign(find_neighbors(points(0), points(2.2), radius_px=2.1)).tolist() == [-1]


def _best_by_trying(pred: np.ndarray, truth: np.ndarray, radius: float) -> tuple[int, float]:
    if len(pred) > len(truth):
        pred, truth = truth, pred
    best = (0, 0.0)
    for chosen in permutations(range(len(truth)), len(pred)):
        distance = np.linalg.norm(pred - truth[list(chosen)], axis=1)
        good = distance <= radius
        best = max(best, (int(good.sum()), -float(distance[good].sum())))
    return best[0], -best[1]


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 100_000), n=st.integers(0, 5), m=st.integers(0, 5))
def test_matching_equals_trying_all(seed: int, n: int, m: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth = rng.uniform(0, 4, (n, 3)), rng.uniform(0, 4, (m, 3))
    neighbors = find_neighbors(pred, truth, radius_px=1.8)
    assigned = assign(neighbors)
    hit = assigned >= 0
    count, distance = _best_by_trying(pred, truth, 1.8)
    assert hit.sum() == count
    assert len(set(assigned[hit])) == count
    assert np.linalg.norm(pred[hit] - truth[assigned[hit]], axis=1).sum() == pytest.approx(distance)
    order = rng.permutation(n)
    grows = matched_in_order(neighbors, order)
    for k in range(n + 1):
        alone = find_neighbors(pred[order[:k]], truth, radius_px=1.8)
        assert grows[order[:k]].sum() == (assign(alone) >= 0).sum()


def test_counts_and_their_empty_cases() -> None:
    counts = Counts(true_positives=3, false_positives=1, false_negatives=2)
    assert counts.precision == 0.75
    assert counts.recall == 0.6
    assert counts.f_score() == pytest.approx(2 * 0.75 * 0.6 / 1.35)
    assert counts.f_score(4) == pytest.approx(17 * 0.75 * 0.6 / (16 * 0.75 + 0.6))
    nothing = Counts(true_positives=0, false_positives=0, false_negatives=0)
    assert math.isnan(nothing.precision)
    assert math.isnan(nothing.recall)
    assert nothing.f_score() == 1.0
    assert Counts(true_positives=0, false_positives=2, false_negatives=0).f_score() == 0.0


def test_average_precision_by_hand() -> None:
    # Descending: hit, miss, hit and miss at one score, hit. Five truths.
    curve = PickCurve(
        scores=np.array([0.9, 0.8, 0.7, 0.7, 0.2]),
        is_hit=np.array([True, False, True, False, True]),
        truths=5,
    )
    assert curve.average_precision == pytest.approx((1 + 2 / 4 + 3 / 5) / 5)
    threshold, f1 = curve.best_f1
    assert threshold == 0.2
    assert f1 == pytest.approx(2 * 3 / (5 + 5))
    twice = join_curves([curve, curve])
    assert twice.average_precision == pytest.approx(curve.average_precision)
    assert math.isnan(PickCurve(scores=np.empty(0), is_hit=np.empty(0, bool), truths=0).average_precision)
    assert PickCurve(scores=np.empty(0), is_hit=np.empty(0, bool), truths=3).average_precision == 0.0


def test_average_precision_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(4)
    hits = rng.random(200) < 0.4
    scores = np.round(rng.normal(size=200) + hits, 1)
    order = np.argsort(-scores, kind="stable")
    curve = PickCurve(scores=scores[order], is_hit=hits[order], truths=int(hits.sum()))
    assert curve.average_precision == pytest.approx(metrics.average_precision_score(hits, scores))


def test_picks_counted_by_hand() -> None:
    truth = np.array([[5.0, 5, 5], [5, 5, 20], [5, 20, 5]])
    pred = np.array([[5.0, 5, 6], [5, 6, 5], [6, 5, 20], [5, 12, 12]])
    scores = np.array([0.9, 0.8, 0.4, 0.7], np.float32)
    score = evaluate_picks(pred, truth, MatchCriteria(radius_px=3), scores=scores)
    assert score.counts == Counts(true_positives=2, false_positives=2, false_negatives=1)
    assert score.duplicates == 1
    assert score.mean_error_px == pytest.approx(1)
    assert score.bias_px == pytest.approx((0.5, 0, 0.5))
    assert score.curve is not None
    assert score.curve.is_hit.tolist() == [True, False, False, True]
    above = evaluate_picks(pred, truth, MatchCriteria(radius_px=3), scores=scores, threshold=0.5)
    assert above.counts == Counts(true_positives=1, false_positives=2, false_negatives=2)
    assert above.curve is not None
    assert len(above.curve.scores) == 4
    unscored = evaluate_picks(pred, truth, MatchCriteria(radius_px=3))
    assert unscored.curve is None


def test_the_margin_counts_neither_way() -> None:
    shape, margin = (100, 100), 10.0
    truth = np.array([[50.0, 50], [5, 50], [11, 80]])  # the second is in the margin
    pred = np.array(
        [
            [50.0, 51],  # right
            [6, 50],  # at the truth in the margin: ignored
            [12, 52],  # within 8 px of that truth, outside the margin: ignored
            [3, 20],  # in the margin: ignored
            [8, 80],  # in the margin, but right: counts
            [60, 20],  # wrong
        ]
    )
    score = evaluate_picks(pred, truth, MatchCriteria(radius_px=8, margin_px=margin, shape=shape))
    assert score.counts == Counts(true_positives=2, false_positives=1, false_negatives=0)
    assert score.ignored == 3
    with pytest.raises(InputError, match="shape"):
        evaluate_picks(pred, truth, MatchCriteria(radius_px=8, margin_px=margin))


def test_cetpick_counts_pairs_up_to_the_power_one_and_a_half() -> None:
    truth = points(0)
    far = points(22.6)  # 8 ** 1.5 is 22.63
    assert evaluate_picks(far, truth, MatchCriteria(radius_px=8)).counts.true_positives == 0
    assert evaluate_picks(far, truth, MatchCriteria(radius_px=8, is_cetpick=True)).counts.true_positives == 1
    assert (
        evaluate_picks(points(22.7), truth, MatchCriteria(radius_px=8, is_cetpick=True)).counts.true_positives
        == 0
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_cetpick_equals_its_published_cost(seed: int) -> None:
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    pred, truth = rng.uniform(0, 15, (7, 3)), rng.uniform(0, 15, (5, 3))
    radius = 4.0
    squared = ((pred[:, None] - truth[None]) ** 2).sum(axis=2)
    cost = np.minimum(squared - radius**3, 0)
    rows, columns = linear_sum_assignment(cost)
    assigned = assign_cetpick(find_neighbors(pred, truth, radius_px=radius**1.5), radius_px=radius)
    hit = assigned >= 0
    assert hit.sum() == (cost[rows, columns] < 0).sum()
    assert cost[np.flatnonzero(hit), assigned[hit]].sum() == pytest.approx(cost[rows, columns].sum())


def test_pairs_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="2D or both in 3D"):
        evaluate_picks(np.zeros((2, 2)), np.zeros((2, 3)), MatchCriteria(radius_px=1))
    with pytest.raises(InputError, match="3 scores for 2 picks"):
        evaluate_picks(np.zeros((2, 2)), np.zeros((2, 2)), MatchCriteria(radius_px=1), scores=np.zeros(3))
    empty = evaluate_picks(np.zeros((0, 3)), np.zeros((0, 3)), MatchCriteria(radius_px=1), scores=np.zeros(0))
    assert empty.counts.f_score() == 1.0
    assert math.isnan(empty.mean_error_px)
