from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial.distance import cdist

from cryoseg.core.metrics.overlap import BINS_PER_LOGIT, count_planes, prompt_sam_score, sweep_thresholds
from cryoseg.core.metrics.surface import (
    CenterlineScore,
    compare_centerlines,
    compare_surfaces,
    measure_theta,
    normal_angles,
)


def test_threshold_sweep_counted_by_hand() -> None:
    logits = np.array([[[3.0, 1.0, 1.0, -2.0, -1024.0, 5.0]]])
    membrane = np.array([[[1, 1, 0, 1, 0, 0]]], bool)
    known = np.array([[[1, 1, 1, 1, 1, 0]]], bool)  # the 5.0 is not annotated
    sweep = sweep_thresholds(logits, membrane, known)
    # Descending: 3 (hit), 1 (hit and miss together), -2 (hit), -1024 (miss).
    assert sweep.average_precision == pytest.approx(1 / 3 * 1 + 1 / 3 * 2 / 3 + 1 / 3 * 3 / 4)
    precision, recall, dice = sweep.curve()
    at = {t: int(np.flatnonzero(sweep.thresholds == t)[0]) for t in (2.0, 1.0, 0.0, -2.0)}
    assert (precision[at[2.0]], recall[at[2.0]]) == (1.0, pytest.approx(1 / 3))
    assert recall[at[1.0]] == pytest.approx(1 / 3)  # strictly greater
    assert dice[at[0.0]] == pytest.approx(2 * 2 / (3 + 3))
    threshold, best = sweep.best_dice
    assert best == pytest.approx(2 * 3 / (4 + 3))
    assert -16 <= threshold < -2
    both = sweep + sweep
    assert both.average_precision == pytest.approx(sweep.average_precision)


def test_average_precision_equals_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    truth = rng.random((3, 20, 30)) < 0.2
    logits = (rng.normal(size=truth.shape) + 1.5 * truth).astype(np.float32)
    logits = np.round(logits * BINS_PER_LOGIT) / BINS_PER_LOGIT
    sweep = sweep_thresholds(logits, truth, np.ones_like(truth))
    expected = metrics.average_precision_score(truth.ravel(), logits.ravel())
    assert sweep.average_precision == pytest.approx(expected)
    threshold, dice = sweep.best_dice
    assert dice == pytest.approx(metrics.f1_score(truth.ravel(), (logits > threshold).ravel()))


def test_no_truth_has_no_average_precision() -> None:
    nothing = np.zeros((1, 2, 2), bool)
    sweep = sweep_thresholds(np.zeros((1, 2, 2)), nothing, ~nothing)
    assert math.isnan(sweep.average_precision)


def test_prompt_sam_score_by_hand() -> None:
    logits = np.array([[[0.2, 0.6, 2.0, -1.0]], [[-3.0, -3.0, -3.0, -3.0]]])
    truth = np.array([[[0, 1, 1, 1]], [[0, 0, 0, 0]]], bool)
    score = prompt_sam_score(logits, truth, np.ones_like(truth))
    # Above 0.1: 3 marked, 2 right; 0.3 and 0.5: 2 and 2; 0.7 and 0.9: 1 and 1. The empty slice scores 1.
    first = (4 / 6 + 4 / 5 + 4 / 5 + 2 / 4 + 2 / 4) / 5
    assert score.dice == pytest.approx((first + 1) / 2, abs=1e-4)
    assert score.iou == pytest.approx(((2 / 4 + 2 / 3 + 2 / 3 + 1 / 3 + 1 / 3) / 5 + 1) / 2, abs=1e-5)


def test_planes_counted_by_hand() -> None:
    truth = np.zeros((2, 3, 4), bool)
    truth[0, 0] = True  # a row of 4
    pred = np.zeros_like(truth)
    pred[0, 0, :2] = True
    pred[1, 2, 0] = True
    planes = count_planes(pred, truth, np.ones_like(truth))
    # xy: slice 0 has Dice 4/6, slice 1 has 0. xz: y 0 has 4/6, y 1 is empty, y 2 has 0.
    assert planes["xy"].means()["dice"] == pytest.approx((4 / 6 + 0) / 2)
    assert planes["xz"].means()["dice"] == pytest.approx((4 / 6 + 0) / 2)
    assert planes["xz"].means(undefined=0)["dice"] == pytest.approx(4 / 6 / 3)
    # yz: x 0 has 2 * 1 / (2 + 1), x 1 has 1, x 2 and x 3 have 0.
    assert planes["yz"].means()["dice"] == pytest.approx((2 / 3 + 1) / 4)
    assert planes["yz"].means()["recall"] == pytest.approx(2 / 4)
    assert planes["yz"].means()["precision"] == pytest.approx((1 / 2 + 1) / 2)
    assert planes["yz"].means(undefined=0)["precision"] == pytest.approx((1 / 2 + 1) / 4)
    unknown = count_planes(pred, truth, np.zeros_like(truth))
    assert math.isnan(unknown["xy"].means()["iou"])
    assert unknown["xy"].means(undefined=0)["iou"] == 0


def _surface(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask & ~ndimage.binary_erosion(mask))


def test_surface_distances_equal_those_of_all_pairs() -> None:
    rng = np.random.default_rng(2)
    smooth = ndimage.gaussian_filter(rng.normal(size=(2, 18, 20, 22)), (0, 2, 2, 2))
    pred, truth = np.abs(smooth) < 0.02
    spacing = (2.0, 1.0, 1.5)
    score = compare_surfaces(pred, truth, np.ones_like(pred), tolerances=(0.0, 2.0, 4.5), spacing=spacing)
    distances = cdist(_surface(pred) * spacing, _surface(truth) * spacing)
    one, two = distances.min(axis=1), distances.min(axis=0)
    both = np.concatenate([one, two])
    assert score.mean_distance == pytest.approx(both.mean(), rel=1e-5)
    assert score.hausdorff_95 == pytest.approx(max(np.percentile(one, 95), np.percentile(two, 95)), rel=1e-5)
    assert score.dice == pytest.approx([(both <= limit).mean() for limit in (0.0, 2.0, 4.5)])
    assert (score.pred_voxels, score.truth_voxels) == (len(one), len(two))


def test_surface_of_a_shifted_plane_counted_by_hand() -> None:
    truth = np.zeros((9, 5, 5), bool)
    pred = truth.copy()
    truth[3], pred[5] = True, True
    known = np.ones_like(truth)
    score = compare_surfaces(pred, truth, known, tolerances=(26.95, 26.96), spacing=(13.48, 13.48, 13.48))
    assert score.dice == (0.0, 1.0)
    assert score.mean_distance == pytest.approx(26.96)
    known[5] = False
    ignored = compare_surfaces(pred, truth, known, tolerances=(1.0,))
    assert ignored.pred_voxels == 0
    assert ignored.dice == (0.0,)


def test_surface_of_nothing() -> None:
    nothing, something = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    both = compare_surfaces(nothing, nothing, something, tolerances=(1.0,))
    assert both.dice == (1.0,)
    assert math.isnan(both.mean_distance)
    one = compare_surfaces(something, nothing, something, tolerances=(1.0,))
    assert one.dice == (0.0,)
    assert math.isinf(one.hausdorff_95)
    full = compare_surfaces(something, something, something, tolerances=(0.0,))
    assert full.pred_voxels == 26  # all but the voxel in the middle
    assert full.dice == (1.0,)


def test_centerlines_counted_by_hand() -> None:
    truth = np.zeros((2, 11, 30), bool)
    truth[0, 4:7, :] = True
    pred = np.zeros_like(truth)
    pred[0, 5, 5:25] = True  # a line of 20 px inside the truth: its own skeleton
    score = compare_centerlines(pred, truth, np.ones_like(truth))
    assert score.precision == 1.0
    assert score.pred_pixels == 20
    assert score.truth_inside == 20
    assert score.sensitivity == pytest.approx(20 / score.truth_pixels)
    assert 24 <= score.truth_pixels <= 30
    swapped = compare_centerlines(truth, pred, np.ones_like(truth))
    assert swapped.cldice == pytest.approx(score.cldice)
    thick = compare_centerlines(truth, truth, np.ones_like(truth))
    assert thick.cldice == 1.0


def test_centerlines_of_nothing() -> None:
    empty = CenterlineScore(pred_pixels=0, pred_inside=0, truth_pixels=0, truth_inside=0)
    assert empty.cldice == 1.0
    missed = CenterlineScore(pred_pixels=0, pred_inside=0, truth_pixels=4, truth_inside=0)
    assert missed.cldice == 0.0
    assert math.isnan(missed.precision)
    wrong = CenterlineScore(pred_pixels=3, pred_inside=0, truth_pixels=4, truth_inside=0)
    assert wrong.cldice == 0.0


def _shell(radius: float, size: int) -> np.ndarray:
    z, y, x = np.indices((size, size, size)) - (size - 1) / 2
    distance = np.sqrt(z * z + y * y + x * x)
    return np.abs(distance - radius) <= 2.0


def test_normals_of_a_sphere_point_outward() -> None:
    shell = _shell(26, 61)
    points = np.argwhere(shell)[::97]
    direction = points - 30.0
    expected = np.degrees(np.arccos(np.abs(direction[:, 0]) / np.linalg.norm(direction, axis=1)))
    error = np.abs(normal_angles(shell, points, np.random.default_rng(0)) - expected)
    assert np.median(error) < 5
    assert np.percentile(error, 95) < 15


def test_theta_tells_flat_from_upright_membrane() -> None:
    truth = np.zeros((40, 60, 60), bool)
    truth[18:22, :, :25] = True  # flat: normal along z
    truth[:, :, 45:49] = True  # upright: normal along x
    pred = np.zeros_like(truth)
    pred[:, :, 45:49] = True
    pred[:20, :, 45:49] = False
    flat, tilted, upright = measure_theta(pred, truth, np.ones_like(truth))
    assert flat.recall == 0
    assert upright.recall == pytest.approx(0.5, abs=0.05)
    assert upright.precision == 1.0
    assert upright.dice == pytest.approx(2 / 3, abs=0.05)
    assert upright.iou == pytest.approx(upright.dice / (2 - upright.dice))
    assert tilted.truth < 0.1 * upright.truth


def test_theta_of_nothing_is_undefined() -> None:
    nothing = np.zeros((3, 4, 5), bool)
    assert all(math.isnan(one.recall) for one in measure_theta(nothing, nothing, ~nothing))
