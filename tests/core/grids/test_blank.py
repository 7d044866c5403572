import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cryoseg.core.grids.blank import (
    BLANK_LOGIT,
    find_blank,
    find_blank_pixels,
    set_blank,
    signal_box,
)


def _noise(shape: tuple[int, ...], *, spread: float = 20.0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(0).normal(0, spread, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int8, np.int16])
@pytest.mark.parametrize("fill", ["zero", "mean", "lowest", "highest"])
def test_padding_of_any_value_is_found_and_nothing_else(dtype: type, fill: str) -> None:
    volume = _noise((3, 96, 128), dtype=dtype)
    value = {"zero": 0, "mean": volume.mean(), "lowest": volume.min(), "highest": volume.max()}[fill]
    volume[:, :, 80:] = value
    volume[2, :40] = value
    blank = find_blank(volume)
    assert blank is not None
    expected = np.zeros(volume.shape, bool)
    expected[:, :, 80:] = True
    expected[2, :40] = True
    # Single pixels of the signal that touch the padding can have its value by chance.
    assert blank[expected].all()
    assert (blank & ~expected).mean() < 0.002


def test_each_slice_may_have_padding_of_its_own_mean() -> None:
    volume = _noise((4, 64, 96))
    for image in volume:
        image[:, 70:] = image.mean()
    blank = find_blank(volume)
    assert blank is not None
    assert blank[:, :, 70:].all()
    assert not blank[:, :, :70].any()


def test_the_outside_of_a_mask_with_a_round_border_is_found_to_the_pixel() -> None:
    volume = _noise((2, 200, 200))
    y, x = np.ogrid[:200, :200]
    outside = (y - 100) ** 2 + (x - 100) ** 2 > 90**2
    volume[:, outside] = 0
    blank = find_blank(volume)
    assert blank is not None
    np.testing.assert_array_equal(blank[0], outside)


def test_blank_slices_and_constant_volumes_are_blank() -> None:
    volume = _noise((5, 40, 40))
    volume[0] = volume[4] = 7.5
    blank = find_blank(volume)
    assert blank is not None
    assert blank.all(axis=(1, 2)).tolist() == [True, False, False, False, True]
    assert find_blank(np.full((2, 3, 3), 5)).all()


@pytest.mark.parametrize("spread", [0.7, 1, 2, 5, 30])
@pytest.mark.parametrize("blur", [0, 2, 6])
def test_bytes_without_padding_have_no_blank_region_however_few_their_values(
    spread: float, blur: float
) -> None:
    image = gaussian_filter(_noise((300, 300), dtype=np.float64), blur)
    assert find_blank_pixels((image * spread / image.std()).round().astype(np.int8)) is None


def test_small_constant_patches_and_drawings_of_constants_are_no_blank_regions() -> None:
    volume = _noise((2, 96, 96))
    volume[:, 40:50, 40:50] = -30000
    assert find_blank(volume) is None
    drawing = np.zeros((2, 64, 64), np.int8)
    drawing[:, 20:40] = 1
    assert find_blank(drawing) is None


def test_the_box_contains_all_signal_and_nothing_more() -> None:
    blank = np.ones((5, 6, 7), bool)
    blank[1, 2, 3] = blank[3, 4, 3] = False
    assert signal_box(blank) == (slice(1, 4), slice(2, 5), slice(3, 4))


def test_blank_voxels_get_the_logit_of_blank_voxels() -> None:
    logits = np.zeros((2, 2, 2), np.float32)
    blank = np.arange(8).reshape(2, 2, 2) > 5
    set_blank(logits, blank)
    assert logits[blank].tolist() == [BLANK_LOGIT] * 2
    assert not logits[~blank].any()
