from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cryoseg.config import EvaluateConfig, Metric
from cryoseg.core.masks.postprocess import find_components
from cryoseg.core.metrics.distance import (
    measure_component_recall,
    measure_plane_distance,
    near_hits,
    near_in_plane,
)
from cryoseg.core.metrics.masks import evaluate_mask, metrics_of
from cryoseg.core.metrics.overlap import Overlap, count_overlap
from cryoseg.errors import InputError


def test_overlap_counted_by_hand() -> None:
    #  truth  1 1 1 0 0 0 ? ?      pred  1 1 0 1 0 0 1 0
    truth = np.array([[[1, 1, 1, 0, 0, 0, -1, -1]]])
    pred = np.array([[[1, 1, 0, 1, 0, 0, 1, 0]]])
    score = evaluate_mask(pred, truth)
    assert score.overlap == Overlap(true_positives=2, false_positives=1, false_negatives=1, true_negatives=2)
    assert score.dice == pytest.approx(4 / 6)
    assert score.iou == pytest.approx(2 / 4)
    assert score.precision == pytest.approx(2 / 3)
    assert score.recall == pytest.approx(2 / 3)


def test_empty_cases_are_defined() -> None:
    nothing, something = np.zeros((1, 2, 2), int), np.ones((1, 2, 2), int)
    both_empty = evaluate_mask(nothing, nothing)
    assert (both_empty.dice, both_empty.iou) == (1.0, 1.0)
    assert math.isnan(both_empty.precision)
    assert math.isnan(both_empty.recall)
    false_alarm = evaluate_mask(something, nothing)
    assert (false_alarm.dice, false_alarm.iou, false_alarm.precision) == (0, 0, 0)
    assert math.isnan(false_alarm.recall)
    missed = evaluate_mask(nothing, something)
    assert (missed.dice, missed.iou, missed.recall) == (0, 0, 0)
    assert math.isnan(missed.precision)
    unknown = evaluate_mask(something, -something)
    assert unknown.dice == 1.0
    assert unknown.near is not None
    assert math.isnan(unknown.near.recall)
    assert unknown.near.volume_fraction == 1.0


def test_only_the_region_and_the_chosen_label_count() -> None:
    truth = np.array([[[1, 2, 2, 0]]])
    pred = np.array([[[1, 1, 0, 1]]])
    region = np.array([[[1, 1, 1, 0]]])
    overlap = evaluate_mask(pred, truth, EvaluateConfig(truth_label=2), region=region).overlap
    assert overlap == Overlap(true_positives=1, false_positives=1, false_negatives=1, true_negatives=0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_overlap_keeps_its_laws(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pred, truth, known = rng.random((3, 4, 5, 6)) < rng.random((3, 1, 1, 1))
    overlap = count_overlap(pred, truth, known)
    swapped = count_overlap(truth, pred, known)
    p, t = pred[known], truth[known]
    assert overlap.true_positives == (p & t).sum()
    assert overlap.true_negatives == (~p & ~t).sum()
    assert overlap.dice == swapped.dice
    assert overlap.precision == pytest.approx(swapped.recall, nan_ok=True)
    assert overlap.dice == pytest.approx(2 * overlap.iou / (1 + overlap.iou))


@pytest.mark.parametrize("distance", [0, 0.5, 1, 1.5, 3, 5.9, 6.0, 12, 20, 21])
def test_near_equals_the_distance_transform(distance: float) -> None:
    rng = np.random.default_rng(5)
    for shape in [(40, 31), (3, 50), (1, 9)]:
        mask = rng.random(shape) < 0.02
        mask[0, 0] = True
        expected = ndimage.distance_transform_edt(~mask) <= distance
        np.testing.assert_array_equal(near_in_plane(mask, distance), expected)
        assert not near_in_plane(np.zeros(shape, bool), distance).any()


def test_plane_distance_counted_by_hand() -> None:
    truth = np.full((3, 20, 20), -1)
    truth[:, 10, :] = 1
    truth[:, 15:, :] = 0
    pred = np.zeros((3, 20, 20), int)
    pred[0, 13, :] = 1  # 3 px away: found
    pred[1, 14, :] = 1  # 4 px away: not found, though slice 0 is marked near
    pred[0, 19, :5] = 1  # 5 clear voxels marked, and a component of its own
    near = evaluate_mask(pred, truth, EvaluateConfig(near_distance_px=3)).near
    assert near is not None
    assert near.recall == pytest.approx(20 / 60)
    assert near.clear_fraction == pytest.approx(5 / 300)
    assert near.volume_fraction == pytest.approx(45 / 1200)
    assert near.recall_by_largest == pytest.approx(20 / 60)
    wider = evaluate_mask(pred, truth, EvaluateConfig(near_distance_px=4)).near
    assert wider is not None
    assert wider.recall == pytest.approx(40 / 60)


def test_recall_by_largest_leaves_small_pieces_out() -> None:
    truth = np.zeros((1, 9, 40), int)
    truth[0, 4, :] = 1
    pred = np.zeros_like(truth)
    pred[0, 4, :18] = 1
    pred[0, 4, 25:40] = 1
    components = find_components(pred > 0)
    hits = near_hits(pred > 0, truth > 0, distance_px=2)
    one = measure_plane_distance(components, truth > 0, truth >= 0, hits, distance_px=2)
    assert one.recall == pytest.approx((20 + 17) / 40)
    assert one.recall_by_largest == pytest.approx(20 / 40)
    two = measure_plane_distance(components, truth > 0, truth >= 0, hits, distance_px=2, largest_components=2)
    assert two.recall_by_largest == two.recall


def test_component_recall_counted_by_hand() -> None:
    truth = np.zeros((2, 20, 30), bool)
    truth[:, 2, 0:10] = True  # 20 voxels, of which 10 are found
    truth[0, 10, 0:4] = True  # 4 voxels, of which 1 is found
    truth[1, 18, 0:2] = True  # not found
    pred = np.zeros_like(truth)
    pred[0, 2, 0:10] = True
    pred[0, 10, 0] = True
    result = measure_component_recall(pred & truth, find_components(truth))
    assert result.sizes == (20, 4, 2)
    assert result.recalls == (0.5, 0.25, 0.0)
    assert result.found == pytest.approx(1 / 3)
    assert result.mean == pytest.approx(0.25)


def test_groups_that_nobody_asked_for_are_left_out() -> None:
    score = evaluate_mask(np.ones((1, 3, 3)), np.ones((1, 3, 3)), EvaluateConfig(metrics=(Metric.OVERLAP,)))
    assert score.near is None
    assert score.components is None
    assert score.dice == 1


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(1, 2, 3\).*\(1, 3, 2\)"):
        evaluate_mask(np.ones((1, 2, 3)), np.ones((1, 3, 2)))
    with pytest.raises(InputError, match="volumes"):
        evaluate_mask(np.ones((2, 3)), np.ones((2, 3)))


def test_hits_are_those_of_whole_slices() -> None:
    rng = np.random.default_rng(8)
    mask, membrane = rng.random((2, 3, 40, 30)) < 0.02
    membrane[1] = False
    membrane[2, :30] = False
    expected = np.stack([near_in_plane(image, 4) for image in mask]) & membrane
    np.testing.assert_array_equal(near_hits(mask, membrane, distance_px=4), expected)


def test_all_groups_of_logits_and_of_a_mask() -> None:
    rng = np.random.default_rng(3)
    truth = np.zeros((4, 30, 32), int)
    truth[:, 10:13] = 1
    logits = (4.0 * truth - 2 + rng.normal(size=truth.shape)).astype(np.float32)
    config = EvaluateConfig(metrics=tuple(Metric), logit_threshold=0.0)
    names = metrics_of(evaluate_mask(logits, truth, config), config)
    assert {"dice", "recall_3px", "components", "surface_dice_1vox", "cldice", "xy_dice"} <= set(names)
    assert {"theta_60_90_recall", "auprc", "best_threshold", "dice_prompt_sam"} <= set(names)
    of_mask = metrics_of(evaluate_mask(logits > 0, truth, config), config)
    assert set(names) - set(of_mask) == {
        "auprc",
        "best_threshold",
        "best_dice",
        "dice_prompt_sam",
        "iou_prompt_sam",
    }
    assert all(of_mask[name] == pytest.approx(names[name], nan_ok=True) for name in of_mask)
