"""Labels that do not belong to their volume are told apart from those that do."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.grids.axes import (
    check_labels,
    find_changed_axes,
    find_exchanged_axes,
    fitting_order,
    inside,
    shape_mismatch,
    voxel_size_mismatch,
)

SHAPE = (300, 400)
TRUTH = np.random.default_rng(0).uniform(0, [300, 400], (40, 2))
DEEP_SHAPE = (60, 300, 400)
DEEP = np.random.default_rng(1).uniform(0, DEEP_SHAPE, (40, 3))


def mirrored(points: np.ndarray, shape: tuple[int, ...], *axes: int) -> np.ndarray:
    points = points.copy()
    for axis in axes:
        points[:, axis] = shape[axis] - 1 - points[:, axis]
    return points


@pytest.mark.parametrize("shape", [SHAPE, None])
@pytest.mark.parametrize(
    ("pred", "words"),
    [
        (TRUTH, None),
        (TRUTH[:, ::-1], "with their axes taken in the order x, y"),
        (mirrored(TRUTH, SHAPE, 0), "with y mirrored"),
        (mirrored(TRUTH, SHAPE, 1), "with x mirrored"),
        (mirrored(TRUTH, SHAPE, 0, 1), "with y and x mirrored"),
        (mirrored(TRUTH, SHAPE, 0)[:, ::-1], "with their axes taken in the order x, y and y mirrored"),
        (np.random.default_rng(5).uniform(0, [300, 400], (40, 2)), None),
    ],
)
def test_micrographs(pred: np.ndarray, words: str | None, shape: tuple[int, int] | None) -> None:
    assert find_changed_axes(pred, TRUTH, radius_px=6, shape=shape) == words


@pytest.mark.parametrize("shape", [DEEP_SHAPE, None])
@pytest.mark.parametrize(
    ("pred", "words"),
    [
        (DEEP, None),
        (DEEP[:, [2, 1, 0]], "with their axes taken in the order x, y, z"),
        (mirrored(DEEP, DEEP_SHAPE, 0), "with z mirrored"),
        (mirrored(DEEP, DEEP_SHAPE, 0, 1), "with z and y mirrored"),
    ],
)
def test_tomograms(pred: np.ndarray, words: str | None, shape: tuple[int, ...] | None) -> None:
    assert find_changed_axes(pred, DEEP, radius_px=6, shape=shape) == words


def test_few_picks_do_not_tell_an_unknown_mirror() -> None:
    pred = mirrored(TRUTH, SHAPE, 0)[:6]
    assert find_changed_axes(pred, TRUTH[:6], radius_px=6, shape=SHAPE) == "with y mirrored"
    assert find_changed_axes(pred[:4], TRUTH[:4], radius_px=6, shape=SHAPE) is None


def test_chance_does_not_look_like_a_mirror() -> None:
    """Of 200 pairs of unrelated sets, dense as particles lie, none is taken for a mirror."""
    generator = np.random.default_rng(2)
    for _ in range(50):
        pred, truth = (generator.uniform(0, 1000, (count, 2)) for count in (30, 200))
        assert find_changed_axes(pred, truth, radius_px=12) is None


def test_shapes_that_do_not_fit_are_named() -> None:
    assert shape_mismatch((3, 4, 5), (3, 4, 5)) is None
    assert "exchanged (the prediction's z, y, x are the truth's x, y, z)" in str(
        shape_mismatch((5, 4, 3), (3, 4, 5))
    )
    assert "single image" in str(shape_mismatch((1, 4, 5), (9, 4, 5)))
    assert "one shape" in str(shape_mismatch((3, 4, 5), (3, 4, 6)))


def test_exchanged_axes_of_equal_shape_are_named() -> None:
    truth = np.zeros((5, 30, 30), bool)
    truth[:, 3:5, :] = True
    assert find_exchanged_axes(truth.transpose(0, 2, 1), truth) == "z, x, y"
    assert find_exchanged_axes(truth, truth) is None
    assert find_exchanged_axes(np.zeros_like(truth), truth) is None
    assert find_exchanged_axes(truth, np.zeros_like(truth)) is None
    oblong = np.zeros((5, 30, 31), bool)
    oblong[:, 2] = True
    assert find_exchanged_axes(~oblong, oblong) is None


def test_voxel_sizes_that_differ_are_named() -> None:
    assert voxel_size_mismatch((10.0,) * 3, (10.09,) * 3) is None
    assert "10.5 x 10.5 x 10.5" in str(voxel_size_mismatch((10.5,) * 3, (10.0,) * 3))
    assert voxel_size_mismatch((0.0,) * 3, (10.0,) * 3) is None
    assert voxel_size_mismatch((1.0,) * 3, (10.0,) * 3) is None


VOLUME = (20, 100, 200)


def test_labels_on_the_outermost_voxels_are_inside() -> None:
    points = np.array([[0.0, 0, 0], [19, 99, 199], [19.5, 99.5, 199.5], [-0.6, 0, 0]])
    assert inside(points, VOLUME).tolist() == [True, True, True, False]


def test_swapped_axes_are_named() -> None:
    points = np.array([[150.0, 50, 10], [120, 99, 19]])  # x, y, z
    assert fitting_order(points, VOLUME) == (2, 1, 0)
    with pytest.raises(Exception, match="z from the column read as x"):
        check_labels(points, VOLUME, name="ts.mrc", remedy="x converts")


def test_a_few_labels_outside_are_left_out_with_a_warning() -> None:
    points = np.tile([[10.0, 50, 100]], (9, 1))
    points = np.concatenate([points, [[10.0, 50, 300]]])
    kept, warning = check_labels(points, VOLUME, name="ts.mrc", remedy="x converts")
    assert len(kept) == 9
    assert warning is not None
    assert "1 of 10 labels lie outside" in warning


def test_many_labels_outside_in_every_order_are_refused() -> None:
    with pytest.raises(Exception, match=r"2 of 2 labels lie outside .* another binning"):
        check_labels(
            np.array([[500.0, 500, 500], [600, 600, 600]]), VOLUME, name="ts.mrc", remedy="x converts"
        )


def test_labels_that_are_no_numbers() -> None:
    with pytest.raises(Exception, match="not numbers"):
        check_labels(np.array([[np.nan, 1, 2]]), VOLUME, name="ts.mrc", remedy="x converts")


def test_a_swap_is_suggested_before_a_turn_of_all_axes() -> None:
    points = np.array([[15.0, 12, 7], [34, 30, 9], [12, 33, 6]])  # x, y, z; a turn would fit as well
    assert fitting_order(points, (17, 46, 51)) == (2, 1, 0)


def test_points_in_an_image_are_spoken_of_in_pixels() -> None:
    points = np.array([[150.0, 50], [120, 99]])  # x, y
    with pytest.raises(
        Exception, match=r"of 100 x 200 pixels \(y, x\).*y from the column read as x.*file\.$"
    ):
        check_labels(points, VOLUME[1:], name="mic.mrc", remedy="x converts")


def test_a_label_just_outside_does_not_tell_of_swapped_axes() -> None:
    points = np.tile([[50.0, 60]], (9, 1))
    kept, warning = check_labels(np.concatenate([points, [[101.0, 30]]]), (100, 104), name="a", remedy="x")
    assert len(kept) == 9
    assert warning is not None
    assert "left out" in warning
