from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from scipy import ndimage

from cryoseg.core.metrics.picture import score_picture
from cryoseg.errors import InputError

# (seed, quantile) of the prediction and of the truth; S, E (its threshold at one half), weighted F and
# MAE as PySODMetrics 1.6.2 gave them for the same masks.
RECORDED = [
    ((1, 0.7), (2, 0.6), 0.33799557309383454, 0.5303492297997274, 0.33802044861067015, 0.45535714285714285),
    ((1, 0.7), (1, 0.75), 0.8503288532033937, 0.9400769993987748, 0.8969728351443965, 0.05),
    ((3, 0.5), (4, 0.9), 0.3287720302911448, 0.3350515599948747, 0.1874934496069199, 0.4455357142857143),
    ((5, 0.95), (5, 0.8), 0.49334423509747427, 0.5107701632539645, 0.5004151623591696, 0.15),
    ((6, 0.6), (6, 0.6), 1.0, 1.0004466279589097, 1.0, 0.0),
]


def blobs(seed: int, quantile: float) -> np.ndarray:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 56)), 5)
    return field > np.quantile(field, quantile)


@pytest.mark.parametrize(("first", "second", "s", "e", "f", "mae"), RECORDED)
def test_metrics_are_those_of_an_independent_library(
    first: tuple[int, float], second: tuple[int, float], s: float, e: float, f: float, mae: float
) -> None:
    score = score_picture(blobs(*first), blobs(*second))
    assert score.s_measure == pytest.approx(s, abs=1e-9)
    # That library divides by one pixel less than there are, so that equal masks come out above 1.
    assert score.e_measure == pytest.approx(e * (40 * 56 - 1) / (40 * 56), abs=1e-9)
    assert score.weighted_f == pytest.approx(f, abs=1e-9)
    assert score.mae == pytest.approx(mae)


def test_overlap_metrics_by_hand() -> None:
    prediction, truth = np.zeros((4, 5), bool), np.zeros((4, 5), bool)
    prediction[0, :3] = True  # 3 marked
    truth[0, 1:] = True  # 4 true, 2 of them marked
    score = score_picture(prediction, truth)
    assert score.dice == pytest.approx(4 / 7)
    assert score.iou == pytest.approx(2 / 5)
    assert score.mae == pytest.approx(3 / 20)
    precision, recall = 2 / 3, 2 / 4
    assert score.f_beta == pytest.approx(1.3 * precision * recall / (0.3 * precision + recall))


def test_empty_and_full_masks_are_defined() -> None:
    empty, full = np.zeros((8, 8), bool), np.ones((8, 8), bool)
    nothing = score_picture(empty, empty)
    assert (nothing.dice, nothing.iou, nothing.mae, nothing.f_beta) == (1, 1, 0, 1)
    assert (nothing.s_measure, nothing.e_measure) == (1, 1)
    assert np.isnan(nothing.weighted_f)
    assert astuple(score_picture(full, full)) == pytest.approx((1, 1, 0, 1, 1, 1, 1))
    for prediction, truth in ((empty, full), (full, empty)):
        wrong = score_picture(prediction, truth)
        assert (wrong.dice, wrong.iou, wrong.mae) == (0, 0, 1)
        assert (wrong.s_measure, wrong.e_measure, wrong.f_beta) == (0, 0, 0)
    with pytest.raises(InputError, match="one shape"):
        score_picture(empty, np.ones((8, 9), bool))


def test_false_marks_far_away_weigh_more_than_those_beside_the_truth() -> None:
    truth = np.zeros((60, 60), bool)
    truth[5:15, 5:15] = True
    near, far = truth.copy(), truth.copy()
    near[5:15, 15:18] = True
    far[5:15, 50:53] = True
    beside, away = score_picture(near, truth), score_picture(far, truth)
    assert beside.dice == away.dice
    assert beside.weighted_f > away.weighted_f
