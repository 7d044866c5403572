"""Peaks, centers, suppression and matching on maps small enough to check by eye."""

from __future__ import annotations

import numpy as np

from cryoseg.config.pick import Side
from cryoseg.core.picking.detection import (
    by_mask,
    clear_of_borders,
    local_maxima,
    refine_centers,
    suppress_nonmaxima,
)


def ball(shape: tuple[int, int, int], center: tuple[float, float, float], sigma: float) -> np.ndarray:
    grid = np.indices(shape).astype(float)
    distance = sum((g - c) ** 2 for g, c in zip(grid, center, strict=True))
    return np.exp(-distance / 2 / sigma**2).astype(np.float32)


def test_maxima_come_best_first_and_not_below_the_floor() -> None:
    scores = np.zeros((5, 6, 7), np.float32)
    scores[1, 1, 1], scores[3, 4, 5], scores[4, 1, 6] = 0.5, 0.9, 0.1
    assert local_maxima(scores, floor=0.2).tolist() == [[3, 4, 5], [1, 1, 1]]


def test_maxima_at_the_border_do_not_wrap_around() -> None:
    scores = np.zeros((3, 4, 4), np.float32)
    scores[1, 1, 3], scores[1, 2, 0] = 1.0, 0.9
    assert len(local_maxima(scores, floor=0.5)) == 2


def test_center_of_a_symmetric_peak_is_found_between_voxels() -> None:
    true = (6.3, 7.6, 8.45)
    scores = ball((14, 16, 18), true, 1.2)
    (peak,) = local_maxima(scores, floor=0.5)
    center = refine_centers(scores, peak[None], reach=(4, 4, 4))
    np.testing.assert_allclose(center[0], true, atol=0.06)


def test_peak_at_the_border_is_not_drawn_inward() -> None:
    scores = ball((9, 9, 9), (0, 4, 8), 2.0)
    center = refine_centers(scores, np.array([[0, 4, 8]]), reach=(3, 3, 3))
    np.testing.assert_allclose(center[0], [0, 4, 8], atol=1e-6)


def test_peaks_are_refined_independently_of_each_other() -> None:
    scores = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    scores[:, 25:] = 0
    peaks = np.concatenate([local_maxima(scores, floor=0.5), [[20, 40]]])
    together = refine_centers(scores, peaks, reach=(3.5, 5))
    alone = [refine_centers(scores, peak[None], reach=(3.5, 5))[0] for peak in peaks]
    np.testing.assert_allclose(together, alone, atol=1e-9)
    assert together[-1].tolist() == [20, 40]  # there is no weight around it


def test_suppression_keeps_the_best_and_points_at_exactly_the_distance() -> None:
    centers = np.array([[0.0, 0, 0], [0, 0, 3], [0, 0, 8], [0, 0, 9]])
    kept = suppress_nonmaxima(centers, np.array([0.5, 0.4, 0.1, 0.9], np.float32), min_distance=3.0)
    assert kept.tolist() == [3, 0, 1]


def test_a_suppressed_point_suppresses_nobody() -> None:
    centers = np.array([[0.0], [2.0], [4.0]])
    assert suppress_nonmaxima(centers, np.array([3.0, 2.0, 1.0]), min_distance=3).tolist() == [0, 2]


SIZE = (10.0, 10.0, 10.0)


def test_zero_border_keeps_everything() -> None:
    centers = np.array([[-0.5, 0, 0], [9.4, 19, 29]])
    assert clear_of_borders(centers, (10, 20, 30), border_voxels=(0, 0, 0)).all()


def test_border_counts_from_the_faces() -> None:
    centers = np.array([[5.0, 1.4, 10], [5, 1.5, 10], [5, 17.5, 10], [5, 17.6, 10]])
    kept = clear_of_borders(centers, (10, 20, 30), border_voxels=(0, 2, 2))
    assert kept.tolist() == [False, True, True, False]


def test_distance_to_a_mask_in_angstrom() -> None:
    mask = np.zeros((40, 20, 20), bool)
    mask[20] = True
    centers = np.array([[20.0, 5, 5], [23, 5, 5], [24, 5, 5], [2, 5, 5]])
    within = by_mask(centers, mask, side=Side.WITHIN, distance_angstrom=30, voxel_size=SIZE)
    assert within.tolist() == [True, True, False, False]
    outside = by_mask(centers, mask, side=Side.OUTSIDE, distance_angstrom=30, voxel_size=SIZE)
    assert outside.tolist() == [False, False, True, True]


def test_negative_distance_shrinks_the_mask() -> None:
    mask = np.zeros((40, 20, 20), bool)
    mask[10:30] = True
    centers = np.array([[10.0, 5, 5], [12, 5, 5], [13, 5, 5]])
    kept = by_mask(centers, mask, side=Side.WITHIN, distance_angstrom=-30, voxel_size=SIZE)
    assert kept.tolist() == [False, False, True]


def test_empty_mask_holds_nothing() -> None:
    mask = np.zeros((4, 4, 4), bool)
    centers = np.array([[1.0, 1, 1]])
    for distance in (0.0, 20.0, -20.0):
        kept = by_mask(centers, mask, side=Side.WITHIN, distance_angstrom=distance, voxel_size=SIZE)
        assert not kept.any()
