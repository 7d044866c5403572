"""TIFF stacks as volumes, written by tifffile in the forms that programs write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from cryoseg.errors import InputError
from cryoseg.io.images.micrographs import is_single_image, read_micrograph
from cryoseg.io.images.volumes import read_mask, read_tomogram

DATA = np.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "f4", "f8"])
@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_pages_are_slices(tmp_path: Path, kind: str, byteorder: str, compression: str | None) -> None:
    data = DATA.astype(kind)
    tifffile.imwrite(
        tmp_path / "a.tif",
        data,
        byteorder=byteorder,
        compression=compression,
        photometric="minisblack",
        metadata=None,
    )
    found = read_tomogram(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.data, data)
    assert found.data.dtype == np.dtype(kind)
    assert found.data.dtype.isnative
    assert found.geometry.voxel_size == (0.0, 0.0, 0.0)
    assert not found.warnings


def test_uncompressed_pages_are_mapped_not_read(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA.astype("<f4"), photometric="minisblack")
    base = read_tomogram(tmp_path / "a.tif").data
    while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
        base = base.base
    assert isinstance(base, np.memmap)


@pytest.mark.parametrize(
    ("unit", "size", "angstrom"),
    [("Å", 12.5, 12.5), ("nm", 1.25, 12.5), ("µm", 0.00125, 12.5), ("mm", 1.25e-6, 12.5), ("pm", 1250, 12.5)],
)
def test_physical_sizes_of_ome_in_any_unit(tmp_path: Path, unit: str, size: float, angstrom: float) -> None:
    metadata = {"axes": "ZYX"} | {f"PhysicalSize{axis}": size for axis in "XY"} | {"PhysicalSizeZ": 2 * size}
    metadata |= {f"PhysicalSize{axis}Unit": unit for axis in "XYZ"}
    tifffile.imwrite(tmp_path / "a.ome.tif", DATA.astype("f4"), metadata=metadata, photometric="minisblack")
    found = read_tomogram(tmp_path / "a.ome.tif")
    np.testing.assert_array_equal(found.data, DATA)
    assert found.geometry.voxel_size == pytest.approx((2 * angstrom, angstrom, angstrom))


def test_ome_without_unit_is_in_micrometers_and_without_size_not_set(tmp_path: Path) -> None:
    metadata = {"axes": "CZYX", "PhysicalSizeX": 0.001, "PhysicalSizeY": 0.001}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", DATA.astype("u1")[None], metadata=metadata, photometric="minisblack"
    )
    assert read_tomogram(tmp_path / "a.ome.tif").geometry.voxel_size == pytest.approx((0.0, 10.0, 10.0))


def test_imagej_spacing_and_unit(tmp_path: Path) -> None:
    metadata = {"axes": "ZYX", "unit": "nm", "spacing": 2.0}
    tifffile.imwrite(tmp_path / "a.tif", DATA.astype("f4"), imagej=True, resolution=(1, 1), metadata=metadata)
    found = read_tomogram(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.data, DATA)
    assert found.geometry.voxel_size == pytest.approx((20.0, 10.0, 10.0))
    del metadata["spacing"]
    tifffile.imwrite(
        tmp_path / "b.tif", DATA.astype("f4"), imagej=True, resolution=(0.5, 0.5), metadata=metadata
    )
    assert read_tomogram(tmp_path / "b.tif").geometry.voxel_size == pytest.approx((20.0, 20.0, 20.0))
    tifffile.imwrite(
        tmp_path / "c.tif",
        DATA.astype("f4"),
        imagej=True,
        resolution=(1, 1),
        metadata={"axes": "ZYX", "unit": "pixel"},
    )
    assert read_tomogram(tmp_path / "c.tif").geometry.voxel_size == (0.0, 0.0, 0.0)


def test_resolutions_of_print_are_no_voxel_sizes(tmp_path: Path) -> None:
    common = {"photometric": "minisblack", "metadata": None}
    tifffile.imwrite(tmp_path / "a.tif", DATA.astype("u1"), resolution=(72, 72), resolutionunit=2, **common)
    assert read_tomogram(tmp_path / "a.tif").geometry.voxel_size == (0.0, 0.0, 0.0)
    tifffile.imwrite(tmp_path / "b.tif", DATA.astype("u1"), resolution=(1e7, 1e7), resolutionunit=3, **common)
    assert read_tomogram(tmp_path / "b.tif").geometry.voxel_size == pytest.approx((10.0,) * 3)


@pytest.mark.parametrize(("axis", "words"), [("T", "points in time"), ("C", "channels")])
def test_points_in_time_and_many_channels_are_slices_with_a_warning(
    tmp_path: Path, axis: str, words: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", DATA.astype("f4"), imagej=True, metadata={"axes": axis + "YX"})
    tifffile.imwrite(
        tmp_path / "b.ome.tif",
        np.zeros((5, 6, 7), np.uint8),
        metadata={"axes": axis + "YX"},
        photometric="minisblack",
    )
    np.testing.assert_array_equal(read_tomogram(tmp_path / "a.tif").data, DATA)
    for name in ("a.tif", "b.ome.tif"):
        assert any(words in warning for warning in read_tomogram(tmp_path / name).warnings)


def test_one_page_is_one_slice_and_a_micrograph(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((20, 24), np.uint8))
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((3, 20, 24), np.uint8), photometric="minisblack")
    assert is_single_image(tmp_path / "a.tif")
    assert is_single_image(tmp_path / "a.png")
    assert not is_single_image(tmp_path / "b.tif")
    assert not is_single_image(tmp_path / "missing.tif")
    found = read_tomogram(tmp_path / "a.tif")
    assert found.data.shape == (1, 20, 24)
    assert "single image" in found.warnings[0]


def test_pixel_size_of_an_ome_micrograph(tmp_path: Path) -> None:
    metadata = {"axes": "YX", "PhysicalSizeX": 0.17, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.17}
    metadata["PhysicalSizeYUnit"] = "nm"
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((20, 24), np.uint8), metadata=metadata)
    assert read_micrograph(tmp_path / "a.ome.tif").pixel_size == pytest.approx(1.7)


def test_colors_channels_and_several_volumes_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    channels = {"axes": "CYX"}
    tifffile.imwrite(tmp_path / "c.ome.tif", DATA.astype("u1"), metadata=channels, photometric="minisblack")
    with tifffile.TiffWriter(tmp_path / "two.tif") as file:
        for n in (5, 6):
            file.write(np.zeros((3, n, 7), np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "x.tif", DATA.astype("c8"), photometric="minisblack")
    for name, words in (
        ("rgb.tif", "in grey is needed"),
        ("c.ome.tif", "axes C 4, Y 5, X 6"),
        ("two.tif", "one volume a file"),
        ("x.tif", "complex64"),
    ):
        with pytest.raises(InputError, match=words):
            read_tomogram(tmp_path / name)


def test_a_volume_beside_other_images_is_found(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(np.zeros((9, 8), np.uint8))
        file.write(DATA.astype(np.uint8), photometric="minisblack")
    found = read_tomogram(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.data, DATA)
    assert any("1 more images" in warning for warning in found.warnings)


def test_masks_of_true_and_false_are_whole_numbers(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", DATA > 50, photometric="minisblack")
    mask = read_mask(tmp_path / "m.tif")
    assert mask.data.dtype == np.uint8
    np.testing.assert_array_equal(mask.data, DATA > 50)


def test_files_of_several_files_are_refused(tmp_path: Path) -> None:
    xml = tifffile.OmeXml()
    xml.addimage("uint8", (4, 5, 6), (4, 1, 1, 5, 6, 1), axes="ZYX", photometric="minisblack")
    text = xml.tostring()
    assert "<TiffData" in text
    one = '<TiffData FirstZ="0" PlaneCount="2"><UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
    two = '<TiffData FirstZ="2" PlaneCount="2"><UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData>'
    start, end = text.index("<TiffData"), text.index("</Pixels>")
    text = (text[:start] + one + two + text[end:]).replace("<OME ", '<OME UUID="urn:uuid:1" ', 1)
    for name in ("a.ome.tif", "b.ome.tif"):
        tifffile.imwrite(
            tmp_path / name,
            DATA[:2].astype("u1"),
            description=text,
            metadata=None,
            photometric="minisblack",
        )
    with pytest.raises(InputError, match=r"one of several files|cannot be read as TIFF"):
        read_tomogram(tmp_path / "a.ome.tif")


def test_what_a_file_cannot_hold_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, DATA.astype("u1"), photometric="minisblack", compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+b") as file:
        for page in file.pages:
            for name in ("ImageWidth", "ImageLength", "RowsPerStrip"):
                page.tags[name].overwrite(60000)
    with pytest.raises(InputError, match=r"claims 13\.4 GiB"):
        read_tomogram(path)
    (tmp_path / "b.tif").write_bytes(b"II*\0" + bytes(40))
    with pytest.raises(InputError, match="holds no image"):
        read_tomogram(tmp_path / "b.tif")
