"""Every metric against a library that computes it in its own way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial.distance import cdist
from skimage.feature import structure_tensor

from cryoseg.config import EvaluateConfig, Length, Metric
from cryoseg.core.metrics.masks import evaluate_mask, metrics_of
from cryoseg.core.metrics.overlap import PAPER_THRESHOLDS, prompt_sam_score
from cryoseg.core.metrics.picks import MatchCriteria, evaluate_picks
from cryoseg.core.metrics.surface import compare_centerlines, compare_surfaces, normal_angles

RATIOS = ("dice", "iou", "precision", "recall")


@pytest.fixture(scope="module")
def membranes() -> tuple[np.ndarray, np.ndarray]:
    """Curved sheets (z, y, x) and a prediction that differs from them in places."""
    rng = np.random.default_rng(5)
    field, other = ndimage.gaussian_filter(rng.normal(size=(2, 14, 36, 40)), (0, 2, 3, 3))
    truth = np.abs(field) < 0.25 * field.std()
    pred = np.abs(0.9 * field + 0.25 * other) < 0.3 * field.std()
    return pred, truth


@pytest.fixture(scope="module")
def sklearn_metrics() -> Any:
    return pytest.importorskip("sklearn.metrics")


@pytest.fixture(scope="module")
def tensors(membranes: tuple[np.ndarray, np.ndarray]) -> tuple[Any, Any]:
    """The same as MONAI takes them: batch, channel, z, y, x."""
    pytest.importorskip("monai.metrics")
    torch = pytest.importorskip("torch")
    pred, truth = (torch.from_numpy(mask[None, None].astype(np.float32)) for mask in membranes)
    return pred, truth


def four_of(module: Any, truth: np.ndarray, pred: np.ndarray) -> list[float]:
    functions = (module.f1_score, module.jaccard_score, module.precision_score, module.recall_score)
    return [float(function(truth, pred)) for function in functions]


def test_overlap_equals_scikit_learn(membranes: tuple[np.ndarray, np.ndarray], sklearn_metrics: Any) -> None:
    pred, truth = membranes
    labels = truth.astype(np.int8)
    labels[:, :, 30:] = -1
    score = evaluate_mask(pred, labels)
    expected = four_of(sklearn_metrics, truth[:, :, :30].ravel(), pred[:, :, :30].ravel())
    assert [score.dice, score.iou, score.precision, score.recall] == pytest.approx(expected)


def test_overlap_equals_monai(membranes: tuple[np.ndarray, np.ndarray], tensors: tuple[Any, Any]) -> None:
    from monai.metrics import compute_dice, compute_iou

    score = evaluate_mask(*membranes)
    assert score.dice == pytest.approx(float(compute_dice(*tensors)), rel=1e-6)
    assert score.iou == pytest.approx(float(compute_iou(*tensors)), rel=1e-6)


def test_planes_equal_scikit_learn(membranes: tuple[np.ndarray, np.ndarray], sklearn_metrics: Any) -> None:
    pred, truth = membranes
    config = EvaluateConfig(metrics=(Metric.PLANES,))
    metrics = metrics_of(evaluate_mask(pred, truth, config), config)
    for axis, plane in enumerate(("xy", "xz", "yz")):
        slices = [
            four_of(sklearn_metrics, t.ravel(), p.ravel())
            for t, p in zip(np.moveaxis(truth, axis, 0), np.moveaxis(pred, axis, 0), strict=True)
        ]
        ours = [metrics[f"{plane}_{name}"] for name in RATIOS]
        assert ours == pytest.approx(np.mean(slices, axis=0).tolist()), plane


def test_components_equal_scipy(membranes: tuple[np.ndarray, np.ndarray]) -> None:
    pred, truth = membranes
    config = EvaluateConfig(metrics=(Metric.COMPONENTS,), near_distance_px=0)
    metrics = metrics_of(evaluate_mask(pred, truth, config), config)
    labels, count = ndimage.label(truth, structure=np.ones((3, 3, 3)))
    assert count > 1
    recalls = ndimage.mean(pred & truth, labels, np.arange(1, count + 1))
    assert metrics["components"] == count
    assert metrics["component_recall"] == pytest.approx(np.mean(recalls))
    assert metrics["components_found"] == pytest.approx(np.mean(recalls >= 0.5))


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (13.0, 10.0, 10.5)])
def test_surfaces_equal_monai(
    membranes: tuple[np.ndarray, np.ndarray], tensors: tuple[Any, Any], spacing: tuple[float, float, float]
) -> None:
    from monai.metrics import (
        compute_average_surface_distance,
        compute_hausdorff_distance,
        compute_surface_dice,
    )

    pred, truth = membranes
    limits = (1.0, 2.5, 15.0)
    ours = compare_surfaces(pred, truth, np.ones_like(truth), tolerances=limits, spacing=spacing)
    theirs: dict[str, Any] = {"include_background": True, "spacing": list(spacing)}
    dice = [float(compute_surface_dice(*tensors, class_thresholds=[limit], **theirs)) for limit in limits]
    assert ours.dice == pytest.approx(dice, rel=1e-5)
    mean = compute_average_surface_distance(*tensors, symmetric=True, **theirs)
    assert ours.mean_distance == pytest.approx(float(mean), rel=1e-5)
    far = compute_hausdorff_distance(*tensors, percentile=95, **theirs)
    assert ours.hausdorff_95 == pytest.approx(float(far), rel=1e-4)


def test_surface_metrics_carry_their_unit(membranes: tuple[np.ndarray, np.ndarray]) -> None:
    lengths = (Length.parse("30A", option="--tolerance"), Length.parse("2vox", option="--tolerance"))
    config = EvaluateConfig(metrics=(Metric.SURFACE,), tolerances=lengths)
    metrics = metrics_of(evaluate_mask(*membranes, config, voxel_size=(15.0,) * 3), config)
    assert metrics["surface_dice_30A"] == metrics["surface_dice_2vox"]
    in_voxels = EvaluateConfig(metrics=(Metric.SURFACE,), tolerances=lengths[1:])
    plain = metrics_of(evaluate_mask(*membranes, in_voxels), in_voxels)
    assert metrics["surface_distance_mean_A"] == pytest.approx(15 * plain["surface_distance_mean_vox"])


def test_centerlines_equal_those_of_monai() -> None:
    """On lines one pixel wide, where the soft skeleton that MONAI computes is the line."""
    losses = pytest.importorskip("monai.losses.cldice")
    torch = pytest.importorskip("torch")
    truth, pred = np.zeros((2, 1, 40, 40), bool)
    truth[0, 10, 2:30] = truth[0, 5:35, 36] = True
    pred[0, 10, 12:34] = pred[0, 20, 5:15] = True
    ours = compare_centerlines(pred, truth, np.ones_like(truth))
    loss = losses.SoftclDiceLoss(iter_=3, smooth_nr=0.0, smooth_dr=1e-9, smooth=1e-9)
    theirs = loss(*(torch.from_numpy(mask[None].astype(np.float32)) for mask in (pred, truth)))
    assert ours.cldice == pytest.approx(1 - float(theirs), abs=1e-5)
    assert ours.precision == pytest.approx(18 / 32)


def test_normals_agree_with_the_structure_tensor() -> None:
    """Of scikit-image, which looks at gray values, not at points."""
    z, y, x = np.indices((40, 56, 56)) - 10.0
    distance = np.sqrt((2 * z) ** 2 + y**2 + (0.7 * x) ** 2)
    mask = np.abs(distance - 36) < 3
    points = np.argwhere(mask)[::53]
    inside = np.all((points > 5) & (points < np.array(mask.shape) - 6), axis=1)
    points = points[inside]
    parts = structure_tensor(ndimage.gaussian_filter(mask.astype(float), 2), sigma=3, order="rc")
    matrix = np.empty((len(points), 3, 3))
    for (row, column), part in zip(((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)), parts, strict=True):
        matrix[:, row, column] = matrix[:, column, row] = part[tuple(points.T)]
    steepest = np.linalg.eigh(matrix)[1][:, :, -1]
    theirs = np.degrees(np.arccos(np.clip(np.abs(steepest[:, 0]), 0, 1)))
    ours = normal_angles(mask, points, np.random.default_rng(0))
    assert len(points) > 100
    assert np.ptp(theirs) > 60
    # Either estimate is good to a few degrees on a sheet that is five voxels thick.
    assert np.median(np.abs(ours - theirs)) < 6


def test_curve_and_best_threshold_equal_scikit_learn(
    membranes: tuple[np.ndarray, np.ndarray], sklearn_metrics: Any
) -> None:
    _, truth = membranes
    noise = np.random.default_rng(2).normal(size=truth.shape)
    # The bins are 1/512 wide, so that these logits fall apart as they do for scikit-learn.
    logits = (np.round((3 * truth - 1.5 + noise) * 64) / 64).astype(np.float32)
    config = EvaluateConfig(metrics=(Metric.AUPRC,), logit_threshold=0.0)
    metrics = metrics_of(evaluate_mask(logits, truth, config), config)
    expected = sklearn_metrics.average_precision_score(truth.ravel(), logits.ravel())
    assert metrics["auprc"] == pytest.approx(expected)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(truth.ravel(), logits.ravel())
    assert metrics["best_dice"] == pytest.approx(np.max(2 * precision * recall / (precision + recall)))
    best = logits > metrics["best_threshold"]
    assert sklearn_metrics.f1_score(truth.ravel(), best.ravel()) == pytest.approx(metrics["best_dice"])


def test_paper_variant_equals_scikit_learn(
    membranes: tuple[np.ndarray, np.ndarray], sklearn_metrics: Any
) -> None:
    pred, truth = (mask[:4] for mask in membranes)
    logits = ndimage.gaussian_filter(pred.astype(np.float32), (0, 1, 1)) * 3 - 0.4
    values = [
        (
            sklearn_metrics.f1_score(t.ravel(), (image > threshold).ravel()),
            sklearn_metrics.jaccard_score(t.ravel(), (image > threshold).ravel()),
        )
        for image, t in zip(logits, truth, strict=True)
        for threshold in PAPER_THRESHOLDS
    ]
    score = prompt_sam_score(logits, truth, np.ones_like(truth))
    assert (score.dice, score.iou) == pytest.approx(tuple(np.mean(values, axis=0)), abs=1e-5)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_matched_picks_equal_scipys_bipartite_matching(dimensions: int, sklearn_metrics: Any) -> None:
    rng = np.random.default_rng(dimensions)
    truth = rng.uniform(0, 60, (80, dimensions))
    pred = np.concatenate(
        [truth[:60] + rng.normal(0, 2, (60, dimensions)), rng.uniform(0, 60, (40, dimensions))]
    )
    scores = rng.random(len(pred))
    score = evaluate_picks(pred, truth, MatchCriteria(radius_px=4.0), scores=scores)
    near = cdist(pred, truth) <= 4.0

    def matched(chosen: np.ndarray) -> int:
        return int((maximum_bipartite_matching(coo_array(near[chosen]).tocsr()) >= 0).sum())

    hits = matched(np.ones(len(pred), bool))
    assert score.counts.true_positives == hits
    # The same counts as labels: hits, false alarms, misses.
    wanted = np.repeat([1, 0, 1], [hits, len(pred) - hits, len(truth) - hits])
    found = np.repeat([1, 1, 0], [hits, len(pred) - hits, len(truth) - hits])
    assert score.counts.f_score(4) == pytest.approx(sklearn_metrics.fbeta_score(wanted, found, beta=4))
    assert [score.counts.precision, score.counts.recall] == pytest.approx(
        [sklearn_metrics.precision_score(wanted, found), sklearn_metrics.recall_score(wanted, found)]
    )
    assert score.curve is not None
    thresholds, precision, recall = score.curve.points()
    for index in (0, 20, 55, len(pred) - 1):
        chosen = scores >= thresholds[index]
        assert recall[index] == pytest.approx(matched(chosen) / len(truth))
        assert precision[index] == pytest.approx(matched(chosen) / chosen.sum())
