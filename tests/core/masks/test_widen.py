"""Raise logits beside confident voxels."""

import numpy as np
import pytest
from scipy import ndimage

from cryoseg.core.masks.widen import widen_logits


def test_a_neighbor_is_raised_by_the_amount_and_not_above_the_highest() -> None:
    logits = np.full((1, 3, 5), -5, np.float32)
    logits[0, 1] = [-5, -1.5, 1, 0, -3]
    widen_logits(logits, 2)
    assert logits[0, 1].tolist() == [-3, 0.5, 1, 1, -1]  # each by 2, but not above the highest neighbor
    assert logits[0, 0].tolist() == [-5, -3, -3, -3, -3]
    assert logits[0, 0, 0] == -5  # all of its neighbors are as low


@pytest.mark.parametrize("shape", [(6, 9, 7), (1, 8, 8), (5, 1, 6)])
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 1.0])
def test_masks_are_those_of_hysteresis_with_a_reach_of_one_voxel(
    shape: tuple[int, int, int], threshold: float
) -> None:
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    widened = logits.copy()
    widen_logits(widened, 1.5)
    beside = ndimage.binary_dilation(logits > threshold, ndimage.generate_binary_structure(3, 1))
    expected = beside & (logits + np.float32(1.5) > threshold)
    assert np.array_equal(widened > threshold, expected)


def test_nothing_changes_without_an_amount() -> None:
    logits = np.random.default_rng(1).normal(size=(4, 5, 6)).astype(np.float32)
    same = logits.copy()
    widen_logits(same, 0)
    assert np.array_equal(same, logits)
