"""Images in: formats, pixel sizes, colors, and what is refused."""

from __future__ import annotations

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile
from PIL import Image

from cryoseg.config import Mode0
from cryoseg.errors import InputError
from cryoseg.io.images.micrographs import read_micrograph, read_warnings

GREY = (np.arange(20 * 24).reshape(20, 24) % 251).astype(np.uint8)


def write_mrc_image(path: Path, data: np.ndarray, voxel_size: float = 1.7) -> Path:
    with mrcfile.new(path, data) as file:
        file.voxel_size = voxel_size
    return path


def test_mrc_keeps_rows_values_and_pixel_size(tmp_path: Path) -> None:
    data = GREY.astype(np.float32) * 2.5 - 3
    found = read_micrograph(write_mrc_image(tmp_path / "a.mrc", data))
    np.testing.assert_array_equal(found.data, data)
    assert found.data.dtype == np.float32
    assert found.pixel_size == pytest.approx(1.7)
    assert not found.warnings


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int16, np.float32])
def test_tiff_of_every_depth(tmp_path: Path, kind: type) -> None:
    data = GREY.astype(kind) * 100 if kind is np.uint16 else GREY.astype(kind)
    tifffile.imwrite(tmp_path / "a.tif", data)
    found = read_micrograph(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.data, data.astype(np.float32))
    assert found.pixel_size == 0.0
    assert "--pixel-size" in found.warnings[0]


def test_tiff_resolution_in_centimeters_and_imagej_units(tmp_path: Path) -> None:
    # 1e8 A in a cm, 2 A a pixel.
    tifffile.imwrite(tmp_path / "a.tif", GREY, resolution=(5e7, 5e7), resolutionunit="CENTIMETER")
    assert read_micrograph(tmp_path / "a.tif").pixel_size == pytest.approx(2.0)
    tifffile.imwrite(tmp_path / "b.tif", GREY, imagej=True, resolution=(4, 4), metadata={"unit": "nm"})
    assert read_micrograph(tmp_path / "b.tif").pixel_size == pytest.approx(2.5)
    tifffile.imwrite(tmp_path / "c.tif", GREY, resolution=(72, 72), resolutionunit="INCH")
    assert read_micrograph(tmp_path / "c.tif").pixel_size == 0.0


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_grey_pictures_and_their_rgb_copies_are_the_same(tmp_path: Path, name: str) -> None:
    Image.fromarray(GREY).save(tmp_path / name)
    plain = read_micrograph(tmp_path / name)
    Image.fromarray(plain.data.astype(np.uint8)).convert("RGB").save(tmp_path / "rgb.png")
    assert plain.data.shape == GREY.shape
    found = read_micrograph(tmp_path / "rgb.png", pixel_size=1.1)
    np.testing.assert_array_equal(found.data, plain.data)
    assert found.pixel_size == 1.1
    assert not found.warnings
    if name == "a.png":
        np.testing.assert_array_equal(plain.data, GREY)


def test_color_is_told(tmp_path: Path) -> None:
    rgb = np.stack([GREY, GREY // 2, np.zeros_like(GREY)], axis=-1)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    found = read_micrograph(tmp_path / "a.png", pixel_size=1.5)
    np.testing.assert_allclose(found.data[1, 2], 26 * 0.299 + 13 * 0.587, rtol=1e-5)
    assert "in color" in found.warnings[0]


def test_sixteen_bit_png(tmp_path: Path) -> None:
    data = GREY.astype(np.uint16) * 200
    Image.fromarray(data).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_micrograph(tmp_path / "a.png").data, data.astype(np.float32))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.mrc", b"", "empty"),
        ("a.tif", b"not a tiff at all", "cannot be read as TIFF"),
        ("a.png", b"not a png at all", "cannot be read as a picture"),
        ("a.bmp", b"BM", "unknown format"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_micrograph(tmp_path / name)


def test_a_truncated_picture_is_refused(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:1500])
    with pytest.raises(InputError, match="cannot be read as a picture"):
        read_micrograph(tmp_path / "a.png")


def test_movies_tomograms_and_missing_files_are_refused(tmp_path: Path) -> None:
    write_mrc_image(tmp_path / "a.mrc", np.zeros((3, 20, 24), np.float32))
    with pytest.raises(InputError, match="holds 3 images"):
        read_micrograph(tmp_path / "a.mrc")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 20, 24), np.uint8), photometric="minisblack")
    with pytest.raises(InputError, match="holds 5 images"):
        read_micrograph(tmp_path / "a.tif")
    with pytest.raises(InputError, match="no such file"):
        read_micrograph(tmp_path / "b.png")
    with pytest.raises(InputError, match="too few"):
        read_micrograph(write_mrc_image(tmp_path / "small.mrc", np.zeros((8, 24), np.float32)))


def test_nan_is_refused_with_its_place(tmp_path: Path) -> None:
    data = GREY.astype(np.float32)
    data[7, 3] = np.nan
    tifffile.imwrite(tmp_path / "a.tif", data)
    with pytest.raises(InputError, match="y, x = 7, 3"):
        read_micrograph(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("size", "words"), [(1.0, "exactly 1.0 A"), (0.0, "no pixel size"), (4000.0, "improbable")]
)
def test_doubtful_pixel_sizes_are_named_unless_given(tmp_path: Path, size: float, words: str) -> None:
    path = write_mrc_image(tmp_path / "a.mrc", GREY.astype(np.float32), size)
    assert any(words in warning for warning in read_micrograph(path).warnings)
    given = read_micrograph(path, pixel_size=1.3)
    assert given.pixel_size == 1.3
    assert not any("pixel size" in warning for warning in given.warnings)


def test_real_micrographs(real_data: Path) -> None:
    jpeg = read_micrograph(sorted((real_data / "empiar10017" / "images").iterdir())[0])
    assert jpeg.data.shape == (4096, 4096)
    ice = read_micrograph(real_data / "micrograph_ice" / "Ucsf_stack_1142_DW.mrc")
    assert ice.data.shape == (927, 959)
    assert ice.data.mean() == pytest.approx(6802, abs=1)


def test_unstamped_bytes_of_a_micrograph_are_told_and_can_be_overruled(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(140, 30, (1, 64, 64)).clip(0, 255).astype(np.uint8)
    path = tmp_path / "m.mrc"
    with mrcfile.new(path, values.view(np.int8)) as mrc:
        mrc.header.dmin, mrc.header.dmax, mrc.header.dmean = 10, 250, 140
    micrograph = read_micrograph(path, pixel_size=2.0)
    np.testing.assert_array_equal(micrograph.data, values[0])
    assert any("read as unsigned" in text for text in read_warnings(micrograph, needs_pixel_size=False))
    signed = read_micrograph(path, pixel_size=2.0, mode0=Mode0.SIGNED)
    np.testing.assert_array_equal(signed.data, values[0].view(np.int8))
    doubtful = read_micrograph(path)
    assert any("pixel size" in text for text in read_warnings(doubtful, needs_pixel_size=True))
    assert not any("pixel size" in text for text in read_warnings(doubtful, needs_pixel_size=False))
