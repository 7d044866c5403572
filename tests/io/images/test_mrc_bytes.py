"""Signed or unsigned bytes without IMOD's stamp."""

import gzip

import numpy as np
import pytest

from cryoseg.config import Mode0
from cryoseg.io.images.mrc import read_mrc
from cryoseg.io.images.mrc_bytes import read_signedness

UNKNOWN = (0.0, 0.0, 0.0)


def _grey(mean: float, spread: float) -> np.ndarray:
    """(2, 60, 60) bytes 0 to 255 of a normal distribution."""
    values = np.random.default_rng(0).normal(mean, spread, (2, 60, 60))
    return values.round().clip(0, 255).astype(np.uint8)


def _signed(mean: float, spread: float) -> np.ndarray:
    values = np.random.default_rng(0).normal(mean, spread, (2, 60, 60))
    return values.round().clip(-128, 127).astype(np.int8)


@pytest.mark.parametrize(
    ("data", "density", "expected", "said"),
    [
        (_grey(140, 30), (20, 240, 140), "u1", "header"),
        (_grey(140, 30), UNKNOWN, "u1", "histogram"),
        (_grey(140, 30), (0, -1, -2), "u1", "histogram"),
        (_grey(140, 30), (-3.2, 511.0, 0.4), "u1", "histogram"),  # of the floats that it was made from
        (_grey(60, 25), UNKNOWN, "u1", "histogram"),
        (_grey(128, 80), UNKNOWN, "u1", "histogram"),  # clipped at both ends
        (np.array([[[0, 255, 255]]], np.uint8), UNKNOWN, "u1", "0 and 255"),
        (np.array([[[0, 255, 255]]], np.uint8), (0, 255, 170), "u1", "header"),
        (_signed(0, 30), (-128, 127, 0), "i1", None),
        (_signed(0, 30), UNKNOWN, "i1", None),
        (_signed(-60, 25), UNKNOWN, "i1", None),
        (_signed(0, 80), UNKNOWN, "i1", None),
        (np.array([[[-1, 0, 1, 1]]], np.int8), (-1, 1, 0.25), "i1", None),
        (np.array([[[-1, 0, 1, 1]]], np.int8), (0, 1, 0.25), "i1", None),  # only the mean is right
        (np.array([[[-1, 0, 1, 1]]], np.int8), UNKNOWN, "i1", "neither"),
        (np.array([[[-128, -127]]], np.int8), UNKNOWN, "i1", "neither"),
        (np.arange(256, dtype=np.uint8).reshape(1, 16, 16), UNKNOWN, "i1", "neither"),
        (_grey(60, 15), UNKNOWN, "i1", None),  # the same numbers in both readings
    ],
)
def test_header_and_histogram_decide(data, density, expected, said):
    dtype, warning = read_signedness(data.view(np.int8), density)
    assert dtype == expected
    assert warning is None if said is None else said in warning


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("order", ["<", ">"])
def test_unstamped_bytes_keep_their_values_and_a_warning_says_so(make_mrc, packed, order, tmp_path):
    data = _grey(140, 30)
    content = make_mrc(data, order=order, dmin=3, dmax=250, dmean=140)
    path = tmp_path / "t.mrc"
    path.write_bytes(gzip.compress(content) if packed else content)
    tomogram = read_mrc(path)
    np.testing.assert_array_equal(tomogram.data, data)
    assert any("read as unsigned" in warning for warning in tomogram.warnings)


@pytest.mark.parametrize("mode0", [Mode0.SIGNED, Mode0.UNSIGNED])
def test_the_user_has_the_last_word(make_mrc, tmp_path, mode0):
    data = _grey(140, 30)
    path = tmp_path / "t.mrc"
    path.write_bytes(make_mrc(data, dmin=3, dmax=250, dmean=140))
    tomogram = read_mrc(path, mode0=mode0)
    assert tomogram.data.dtype == ("u1" if mode0 is Mode0.UNSIGNED else "i1")
    assert tomogram.warnings == ()
