"""Dots, empty masks, quadrants."""

import numpy as np
import pytest

from cryoseg.errors import InputError
from cryoseg.methods.etsam.network import empty_mask, grid_mask, prompted_slices, quadrants, whole


def test_grid_begins_at_the_corner() -> None:
    mask = grid_mask((101, 120), 50)
    assert {tuple(map(int, dot)) for dot in np.argwhere(mask)} == {
        (y, x) for y in (0, 50, 100) for x in (0, 50, 100)
    }


def test_grid_of_a_small_slice_is_one_dot() -> None:
    assert np.argwhere(grid_mask((50, 50), 50)).tolist() == [[0, 0]]


def test_empty_mask() -> None:
    assert empty_mask((3, 4)).shape == (3, 4)
    assert not empty_mask((3, 4)).any()


def test_prompted_slices_stay_inside() -> None:
    assert list(prompted_slices(100, 50)) == [0, 50]
    assert list(prompted_slices(101, 50)) == [0, 50, 100]
    assert list(prompted_slices(1, 50)) == [0]


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (2, 2)])
def test_quadrants_cover_every_pixel_once(height: int, width: int) -> None:
    covered = np.zeros((height, width), int)
    for window in quadrants(height, width):
        covered[window] += 1
    assert (covered == 1).all()
    assert quadrants(5, 7)[0] == (slice(0, 2), slice(0, 3))


def test_whole_is_one_window() -> None:
    assert whole(3, 4) == [(slice(0, 3), slice(0, 4))]


@pytest.mark.parametrize(("height", "width"), [(1, 5), (5, 1)])
def test_a_line_cannot_be_split(height: int, width: int) -> None:
    with pytest.raises(InputError, match="--split-processing"):
        quadrants(height, width)
