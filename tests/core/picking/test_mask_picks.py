"""From masks of discs to centers and back, on discs whose places are known."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.picking.mask_picks import draw_discs, mask_centers

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


def test_discs_hold_pixels_within_the_radius() -> None:
    mask = draw_discs(np.array([[10.0, 10.0], [0.0, 19.0]]), (20, 20), diameter_px=4.0) > 0
    # Whole-numbered points at most 2 from a whole-numbered center: 13; at the corner y 0..2, x 17..19: 6.
    assert mask.sum() == 13 + 6
    assert mask[10, 12]
    assert not mask[12, 12]
