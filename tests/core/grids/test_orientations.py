"""Orientations are undone exactly, and mean and spread are those of a direct computation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from cryoseg.core.grids.orientations import ORIENTATIONS, OrientationMean

VOLUME = np.arange(2 * 3 * 4).reshape(2, 3, 4)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_orientation_is_undone(orientation) -> None:
    turned = orientation.apply(VOLUME)
    assert turned.base is not None  # no copy
    np.testing.assert_array_equal(orientation.undo(turned), VOLUME)


def test_orientations_differ_and_both_directions_are_equally_frequent() -> None:
    cube = np.arange(27).reshape(3, 3, 3)
    assert len({orientation.apply(cube).tobytes() for orientation in ORIENTATIONS}) == 8
    for count in (2, 4, 8):
        assert sum(one.upside_down for one in ORIENTATIONS[:count]) == count / 2
    # The first four keep the axes y and x.
    assert [one.apply(VOLUME).shape for one in ORIENTATIONS] == [(2, 3, 4)] * 4 + [(2, 4, 3)] * 4


def test_a_quarter_turn_moves_the_first_row_to_the_first_column_from_below() -> None:
    turned = ORIENTATIONS[4].apply(np.array([[[1, 2], [3, 4]]]))
    np.testing.assert_array_equal(turned, [[[2, 4], [1, 3]]])


def test_mean_of_logits_and_spread_of_probabilities() -> None:
    parts = np.random.default_rng(0).normal(0, 4, (5, 2, 3, 4)).astype(np.float32)
    mean = OrientationMean(with_spread=True)
    for part in parts:
        mean.add(part.copy())
    np.testing.assert_allclose(mean.logits, parts.mean(0), atol=1e-5)
    spread = mean.spread()
    assert spread is not None
    np.testing.assert_allclose(spread, expit(parts).std(0), atol=1e-6)
    assert OrientationMean(with_spread=False).spread() is None
