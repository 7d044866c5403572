"""The width of bands of known width, whatever is annotated around them."""

from __future__ import annotations

import numpy as np
import pytest

from cryoseg.core.metrics.width import compare_widths, mean_width

Z, Y, X = np.indices((44, 44, 44)) - 21.5
ALL = np.arange(44)


def shell(width: float) -> np.ndarray:
    """A hollow sphere with a radius of 16 voxels."""
    return np.abs(np.sqrt(Z**2 + Y**2 + X**2) - 16) < width / 2


@pytest.mark.parametrize("width", [2, 3, 5])
def test_a_sphere(width: float) -> None:
    assert mean_width(shell(width), ALL) == pytest.approx(width, rel=0.03)


@pytest.mark.parametrize("distance", [Z, X, 0.6 * X + 0.8 * Z])
def test_a_plane_in_any_direction(distance: np.ndarray) -> None:
    assert mean_width(np.abs(distance) < 2, ALL) == pytest.approx(4, rel=0.09)


def test_slices_without_annotation_and_unknown_voxels_in_others() -> None:
    truth = np.abs(X) < 2
    truth[:10] = truth[20:] = False
    known = truth.copy()
    known[10:20, :5] = True
    pred = np.abs(X) < 1
    pred[20:] = True
    found = compare_widths(pred, truth, known, voxel_size=(10.0, 10.0, 10.0))
    assert found.unit == "nm"
    assert found.truth == pytest.approx(4, rel=0.09)
    assert found.pred == pytest.approx(2, rel=0.09)


def test_nothing_marked_or_a_single_slice_has_no_width() -> None:
    assert np.isnan(mean_width(np.zeros((4, 8, 8), bool), np.arange(4)))
    assert np.isnan(mean_width(shell(3), np.array([20])))
