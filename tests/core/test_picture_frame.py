from __future__ import annotations

import numpy as np
import pytest

from cryoseg.config.pictures import Morphology, Smoothing
from cryoseg.core.grids.resample import area_weights
from cryoseg.core.picture_frame import close_mask, frame_picture, open_mask, smooth_mask
from cryoseg.errors import ConfigError


def scan() -> np.ndarray:
    """60 x 100, grey inside a black border, with a mark in the top left corner."""
    rgb = np.zeros((60, 100, 3), np.uint8)
    rgb[10:50, 20:90] = 120
    rgb[2:12, 2:18] = 255
    return rgb


def test_a_black_border_is_cut_off_and_the_corner_mark_ignored() -> None:
    assert frame_picture(scan(), crop_black=True).box == (10, 20, 50, 90)
    assert frame_picture(scan(), crop_black=False).box == (0, 0, 60, 100)
    black = np.zeros((30, 40, 3), np.uint8)
    assert frame_picture(black, crop_black=True).box == (0, 0, 30, 40)


def test_ten_bright_pixels_are_no_row() -> None:
    rgb = scan()
    rgb[55, 40:50] = 255
    assert frame_picture(rgb, crop_black=True).box == (10, 20, 50, 90)
    rgb[55, 40:51] = 255
    assert frame_picture(rgb, crop_black=True).box == (10, 20, 56, 90)


def test_the_square_is_filled_on_the_right_and_below() -> None:
    frame = frame_picture(scan(), crop_black=True)
    assert frame.side == 70
    square = frame.square(scan(), 35)
    assert square.shape == (35, 35, 3)
    assert (square[:20] == 120).all()
    assert (square[20:] == 0).all()


def test_area_weights_are_shares_of_pixels() -> None:
    np.testing.assert_allclose(
        area_weights(3, 2).toarray(), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]], rtol=1e-6
    )
    np.testing.assert_allclose(area_weights(5, 5).toarray(), np.eye(5))
    np.testing.assert_allclose(area_weights(2, 4).toarray(), np.repeat(np.eye(2), 2, axis=0))


def test_what_goes_into_the_square_comes_back_to_its_place() -> None:
    frame = frame_picture(scan(), crop_black=True)
    y, x = np.mgrid[:60, :100]
    disc = np.hypot(y - 30, x - 50) < 12
    back = frame.restore(frame.square(disc, 140) - 0.5, outside=-0.5)
    assert back.shape == (60, 100)
    assert ((back > 0) == disc).mean() > 0.995
    assert (back[:10] == -0.5).all()
    np.testing.assert_array_equal(frame.restore(frame.square(disc, 70), outside=0.0), disc)


def test_opening_and_closing_do_opposite_things_also_at_the_border() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[6, 12:18] = True
    mask[5:7, 5:7] = False
    assert not open_mask(mask, 3)[6, 14]
    assert close_mask(mask, 3)[5:7, 5:7].all()
    full = np.ones((6, 6), bool)
    assert close_mask(full, 5).all()
    assert open_mask(full, 5).all()
    assert smooth_mask(mask, Smoothing()) is mask
    np.testing.assert_array_equal(
        smooth_mask(mask, Smoothing(morphology=Morphology.OPEN, kernel=3)), open_mask(mask, 3)
    )
    with pytest.raises(ConfigError, match="--kernel 0"):
        Smoothing(kernel=0)
