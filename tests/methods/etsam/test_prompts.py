"""Dots, empty masks, quadrants."""

import numpy as np
import pytest

from cryoseg.config.segment import Stage1Prompt, Stage2Prompt
from cryoseg.errors import InputError
from cryoseg.methods.etsam.network import grid_mask, prompt_mask, quadrants


def test_grid_begins_at_the_corner() -> None:
    mask = grid_mask((101, 120), 50)
    assert {tuple(map(int, dot)) for dot in np.argwhere(mask)} == {
        (y, x) for y in (0, 50, 100) for x in (0, 50, 100)
    }


def test_grid_of_a_small_slice_is_one_dot() -> None:
    assert np.argwhere(grid_mask((50, 50), 50)).tolist() == [[0, 0]]


def test_zero_is_an_empty_mask_and_none_is_no_mask() -> None:
    for kind in (Stage1Prompt.ZERO, Stage2Prompt.ZERO):
        mask = prompt_mask(kind, (3, 4), 50)
        assert mask is not None
        assert mask.shape == (3, 4)
        assert not mask.any()
    assert prompt_mask(Stage2Prompt.NONE, (3, 4), 50) is None


def test_the_masks_of_stage_1_are_its_logits_above_the_threshold() -> None:
    mask = prompt_mask(Stage2Prompt.STAGE1_MASKS, (1, 3), 50, np.array([[-1.0, 0.5, 2.0]]), 0.5)
    assert mask is not None
    assert mask.tolist() == [[False, False, True]]


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (2, 2)])
def test_quadrants_cover_every_pixel_once(height: int, width: int) -> None:
    covered = np.zeros((height, width), int)
    for window in quadrants(height, width):
        covered[window] += 1
    assert (covered == 1).all()
    assert quadrants(5, 7)[0] == (slice(0, 2), slice(0, 3))


@pytest.mark.parametrize(("height", "width"), [(1, 5), (5, 1)])
def test_a_line_cannot_be_split(height: int, width: int) -> None:
    with pytest.raises(InputError, match="--split-processing"):
        quadrants(height, width)
