from __future__ import annotations

import numpy as np
import pytest

from cryoseg.methods.training.learner import LOGIT_BINS, best_threshold, dice_by_threshold


def test_dice_at_every_threshold_by_hand() -> None:
    logits = np.array([[[4.0, 1.0, -1.0, 2.0, 5.0]]], np.float32)
    labels = np.array([[[1, 1, 0, 0, -1]]], np.int8)
    dice = dice_by_threshold(logits, labels)
    at = dict(zip(LOGIT_BINS.tolist(), dice.tolist(), strict=True))
    assert at[-2.0] == pytest.approx(2 * 2 / (4 + 2))  # all four known voxels are marked
    assert at[0.0] == pytest.approx(2 * 2 / (3 + 2))
    assert at[1.5] == pytest.approx(2 * 1 / (2 + 2))
    assert at[3.0] == pytest.approx(2 * 1 / (1 + 2))
    assert at[5.0] == 0


def test_the_threshold_suits_all_images_together() -> None:
    low, high = (np.where(place == LOGIT_BINS, 1.0, 0.0) for place in (-1.0, 2.0))
    both = 0.75 * (LOGIT_BINS == 0.5)
    threshold, dice = best_threshold([low + both, high + both])
    assert (threshold, dice) == (0.5, 0.75)


def test_the_lowest_threshold_within_the_tolerance_is_chosen() -> None:
    curve = np.interp(LOGIT_BINS, [-2, 1], [0.4, 0.7])  # a tenth per unit up to 1, then constant
    assert best_threshold([curve], tolerance=0.05) == (0.5, pytest.approx(0.65))
    assert best_threshold([curve]) == (1.0, pytest.approx(0.7))
