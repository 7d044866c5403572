"""Labels that do not belong to their volume are told apart from those that do."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.picking.label_checks import check_labels, fitting_order, inside

SHAPE = (20, 100, 200)


def test_labels_on_the_outermost_voxels_are_inside() -> None:
    points = np.array([[0.0, 0, 0], [19, 99, 199], [19.5, 99.5, 199.5], [-0.6, 0, 0]])
    assert inside(points, SHAPE).tolist() == [True, True, True, False]


def test_swapped_axes_are_named() -> None:
    points = np.array([[150.0, 50, 10], [120, 99, 19]])  # x, y, z
    assert fitting_order(points, SHAPE) == (2, 1, 0)
    with pytest.raises(Exception, match="z from the column read as x"):
        check_labels(points, SHAPE, name="ts.mrc", remedy="x converts")


def test_a_few_labels_outside_are_left_out_with_a_warning() -> None:
    points = np.tile([[10.0, 50, 100]], (9, 1))
    points = np.concatenate([points, [[10.0, 50, 300]]])
    kept, warning = check_labels(points, SHAPE, name="ts.mrc", remedy="x converts")
    assert len(kept) == 9
    assert warning is not None
    assert "1 of 10 labels lie outside" in warning


def test_many_labels_outside_in_every_order_are_refused() -> None:
    with pytest.raises(Exception, match=r"2 of 2 labels lie outside .* another binning"):
        check_labels(
            np.array([[500.0, 500, 500], [600, 600, 600]]), SHAPE, name="ts.mrc", remedy="x converts"
        )


def test_labels_that_are_no_numbers() -> None:
    with pytest.raises(Exception, match="not numbers"):
        check_labels(np.array([[np.nan, 1, 2]]), SHAPE, name="ts.mrc", remedy="x converts")


def test_a_swap_is_suggested_before_a_turn_of_all_axes() -> None:
    points = np.array([[15.0, 12, 7], [34, 30, 9], [12, 33, 6]])  # x, y, z; a turn would fit as well
    assert fitting_order(points, (17, 46, 51)) == (2, 1, 0)


def test_points_in_an_image_are_spoken_of_in_pixels() -> None:
    points = np.array([[150.0, 50], [120, 99]])  # x, y
    with pytest.raises(
        Exception, match=r"of 100 x 200 pixels \(y, x\).*y from the column read as x.*file\.$"
    ):
        check_labels(points, SHAPE[1:], name="mic.mrc", remedy="x converts")


def test_a_label_just_outside_does_not_tell_of_swapped_axes() -> None:
    points = np.tile([[50.0, 60]], (9, 1))
    kept, warning = check_labels(np.concatenate([points, [[101.0, 30]]]), (100, 104), name="a", remedy="x")
    assert len(kept) == 9
    assert warning is not None
    assert "left out" in warning
