"""From masks of discs to centers and back, on discs whose places are known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.picking.micrograph_picks import (
    disc_mask,
    draw_discs,
    grow_cores,
    logits_to_picks,
    mask_centers,
)

DIAMETER = 24.0


def mask_of(centers: list[list[float]], shape: tuple[int, int] = (160, 200)) -> np.ndarray:
    return draw_discs(np.array(centers), shape, diameter_px=DIAMETER) > 0


def by_place(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort((points[:, 1].round(), points[:, 0].round()))]


def test_lone_discs_are_found_between_pixels() -> None:
    centers = [[30.0, 40.0], [80.3, 120.7], [120.5, 60.25]]
    found = mask_centers(mask_of(centers), diameter_px=DIAMETER)
    np.testing.assert_allclose(by_place(found), centers, atol=0.3)


@pytest.mark.parametrize("distance", [22.0, 18.0, 14.0])
def test_touching_and_overlapping_discs_are_split(distance: float) -> None:
    centers = [[60.0, 60.0], [60.0, 60.0 + distance]]
    found = mask_centers(mask_of(centers), diameter_px=DIAMETER)
    assert len(found) == 2
    np.testing.assert_allclose(by_place(found), centers, atol=1.5)


def test_a_cluster_of_seven() -> None:
    angles = np.arange(6) * np.pi / 3
    ring = np.stack([80 + 22 * np.sin(angles), 100 + 22 * np.cos(angles)], axis=1)
    centers = np.concatenate([[[80.0, 100.0]], ring])
    found = mask_centers(mask_of(centers.tolist()), diameter_px=DIAMETER)
    assert len(found) == 7
    nearest = np.linalg.norm(found[:, None] - centers[None], axis=2).min(axis=0)
    assert nearest.max() < 2.0


def test_specks_and_empty_masks_hold_no_particles() -> None:
    mask = mask_of([[60.0, 60.0]])
    mask[100:103, 100:103] = True  # a speck of 9 pixels
    assert len(mask_centers(mask, diameter_px=DIAMETER)) == 1
    assert mask_centers(np.zeros((80, 80), bool), diameter_px=DIAMETER).shape == (0, 2)


def test_the_mask_is_that_of_overlapping_and_cut_discs() -> None:
    centers = np.array([[10.2, 10.0], [12.0, 13.7], [0.0, 39.0], [39.5, -2.0], [60.0, 20.0]])
    mask = disc_mask(centers, (40, 40), diameter_px=9.0)
    np.testing.assert_array_equal(mask, draw_discs(centers, (40, 40), diameter_px=9.0) > 0)
    assert mask[[10, 0, 39], [10, 39, 0]].all()
    assert not mask[20:35].any()


def test_discs_hold_pixels_within_the_radius() -> None:
    mask = draw_discs(np.array([[10.0, 10.0], [0.0, 19.0]]), (20, 20), diameter_px=4.0) > 0
    # Whole-numbered points at most 2 from a whole-numbered center: 13; at the corner y 0..2, x 17..19: 6.
    assert mask.sum() == 13 + 6
    assert mask[10, 12]
    assert not mask[12, 12]


def logits_of(
    centers: list[list[float]], shape: tuple[int, int] = (160, 200), diameter: float = DIAMETER
) -> np.ndarray:
    """Logits that fall by one a pixel across the rim of discs, sub-pixel exact."""
    y, x = np.indices(shape)
    inside = [diameter / 2 - np.hypot(y - cy, x - cx) for cy, cx in centers]
    return np.clip(np.max(inside, axis=0), -6, 6).astype(np.float32)


def test_lone_particles_are_found_between_pixels() -> None:
    centers = [[30.0, 40.0], [80.3, 120.7], [120.5, 60.25]]
    picks = logits_to_picks(logits_of(centers), diameter_px=DIAMETER)
    np.testing.assert_allclose(by_place(picks.centers), centers, atol=0.15)


@pytest.mark.parametrize("distance", [22.0, 18.0, 14.0])
def test_touching_and_overlapping_particles_have_a_peak_each(distance: float) -> None:
    centers = [[60.0, 60.0], [60.0, 60.0 + distance]]
    picks = logits_to_picks(logits_of(centers), diameter_px=DIAMETER)
    assert len(picks) == 2
    np.testing.assert_allclose(by_place(picks.centers), centers, atol=1.5)


def test_specks_and_empty_fields_are_no_particles() -> None:
    logits = logits_of([[60.0, 60.0]])
    logits[100:103, 100:103] = 5.0  # a speck of 9 pixels
    assert len(logits_to_picks(logits, diameter_px=DIAMETER)) == 1
    assert len(logits_to_picks(np.full((80, 80), -3.0, np.float32), diameter_px=DIAMETER)) == 0


def test_scores_order_picks_and_distance_keeps_the_better() -> None:
    logits = logits_of([[60.0, 60.0], [60.0, 86.0]])
    logits[:, 74:] *= 0.5
    picks = logits_to_picks(logits, diameter_px=DIAMETER)
    assert picks.raw_scores[0] > picks.raw_scores[1]
    assert picks.centers[0, 1] < 70
    alone = logits_to_picks(logits, diameter_px=DIAMETER, min_distance_px=30.0)
    assert len(alone) == 1
    assert alone.centers[0, 1] < 70


def test_peaks_below_the_mask_are_candidates_down_to_two_logits() -> None:
    logits = logits_of([[60.0, 60.0]]) - 7.0  # its smoothed peak lies a little above -1.5
    assert len(logits_to_picks(logits, diameter_px=DIAMETER, logit_threshold=0.0)) == 1
    assert len(logits_to_picks(logits, diameter_px=DIAMETER, logit_threshold=1.0)) == 0


def test_a_network_that_is_overly_sure_scores_no_higher() -> None:
    logits = np.full((60, 60), -12.0, np.float32)
    logits[20:40, 20:40] = 12.0
    once = logits_to_picks(logits, diameter_px=DIAMETER)
    again = logits_to_picks(logits * 100, diameter_px=DIAMETER)
    np.testing.assert_array_equal(once.raw_scores, again.raw_scores)


def test_grown_cores_are_the_discs_of_the_particles() -> None:
    centers = np.array([[40.0, 40.0], [40.0, 60.0], [100.5, 120.25]])
    cores = logits_of(centers.tolist(), diameter=0.5 * DIAMETER)
    grown = grow_cores(cores, core=0.5, diameter_px=DIAMETER) > 0
    whole = draw_discs(centers, cores.shape, diameter_px=DIAMETER) > 0
    assert 2 * (grown & whole).sum() / (grown.sum() + whole.sum()) > 0.97
    assert grow_cores(cores, core=1.0, diameter_px=DIAMETER) is cores
