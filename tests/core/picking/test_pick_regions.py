"""Borders and masks keep what they should."""

from __future__ import annotations

import numpy as np

from cryoseg.config.pick import Side
from cryoseg.core.picking.pick_regions import by_mask, clear_of_borders

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
