"""From masks to picks, on discs whose places are known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.mask_picks import draw_discs, mask_to_picks, raw_scores

DIAMETER = 24.0


def logits_of(centers: list[list[float]], shape: tuple[int, int] = (160, 200)) -> np.ndarray:
    """Logits that fall by one a pixel across the rim of discs, sub-pixel exact."""
    y, x = np.indices(shape)
    inside = [DIAMETER / 2 - np.hypot(y - cy, x - cx) for cy, cx in centers]
    return np.clip(np.max(inside, axis=0), -6, 6).astype(np.float32)


def by_place(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort((points[:, 1].round(), points[:, 0].round()))]


def test_lone_discs_are_found_between_pixels() -> None:
    centers = [[30.0, 40.0], [80.3, 120.7], [120.5, 60.25]]
    picks = mask_to_picks(logits_of(centers), diameter_px=DIAMETER)
    np.testing.assert_allclose(by_place(picks.centers), centers, atol=0.15)
    np.testing.assert_allclose(picks.areas, np.pi * 144, rtol=0.05)


@pytest.mark.parametrize("distance", [22.0, 18.0, 14.0])
def test_touching_and_overlapping_discs_are_split(distance: float) -> None:
    centers = [[60.0, 60.0], [60.0, 60.0 + distance]]
    picks = mask_to_picks(logits_of(centers), diameter_px=DIAMETER)
    assert len(picks) == 2
    np.testing.assert_allclose(by_place(picks.centers), centers, atol=1.5)


def test_a_cluster_of_seven() -> None:
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([80 + 22 * np.sin(angles), 100 + 22 * np.cos(angles)], axis=1)
    centers = np.concatenate([[[80.0, 100.0]], ring])
    picks = mask_to_picks(logits_of(centers.tolist()), diameter_px=DIAMETER)
    assert len(picks) == 7
    nearest = np.linalg.norm(picks.centers[:, None] - centers[None], axis=2).min(axis=0)
    assert nearest.max() < 2.0


def test_specks_and_fields_are_no_particles() -> None:
    logits = logits_of([[60.0, 60.0]])
    logits[100:103, 100:103] = 5.0  # a speck of 9 pixels
    assert len(mask_to_picks(logits, diameter_px=DIAMETER)) == 1
    assert len(mask_to_picks(np.full((80, 80), -3.0, np.float32), diameter_px=DIAMETER)) == 0


def test_scores_order_picks_and_distance_keeps_the_better() -> None:
    logits = logits_of([[60.0, 60.0], [60.0, 86.0]])
    logits[:, 74:] *= 0.5
    picks = mask_to_picks(logits, diameter_px=DIAMETER)
    assert picks.raw_scores[0] > picks.raw_scores[1]
    assert picks.centers[0, 1] < 70
    alone = mask_to_picks(logits, diameter_px=DIAMETER, min_distance_px=30.0)
    assert len(alone) == 1
    assert alone.centers[0, 1] < 70


def test_raw_score_is_the_mean_logit_of_the_core_also_at_the_border() -> None:
    logits = np.full((50, 60), 3.0, np.float32)
    centers = np.array([[0.0, 0.0], [25.0, 30.0], [49.0, 59.0]])
    np.testing.assert_allclose(raw_scores(logits, centers, diameter_px=DIAMETER), 3.0)
    np.testing.assert_allclose(raw_scores(logits * 100, centers, diameter_px=DIAMETER), 12.0)


def test_discs_hold_pixels_within_the_radius() -> None:
    mask = draw_discs(np.array([[10.0, 10.0], [0.0, 19.0]]), (20, 20), diameter_px=4.0)
    # Whole-numbered points at most 2 from a whole-numbered center: 13; at the corner y 0..2, x 17..19: 6.
    assert mask.sum() == 13 + 6
    assert mask[10, 12]
    assert not mask[12, 12]
