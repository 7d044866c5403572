"""OME-TIFF outputs, read again by cryoseg and by tifffile."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
import tifffile

from cryoseg.config.common import OutputFormat
from cryoseg.io.images import tiff_output
from cryoseg.io.images.volumes import read_tomogram, write_labels, write_logits, write_mask
from cryoseg.types import Geometry

PLACED = Geometry(voxel_size=(13.3, 7.84, 7.84), origin=(-100.25, 3.5, 12.1))


@pytest.mark.parametrize("shape", [(5, 6, 7), (1, 6, 7)])
def test_values_and_geometry_are_read_again_exactly(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    labels = (logits * 20_000).astype(np.int32)
    for name, write, data in (
        ("l", write_logits, logits),
        ("m", write_mask, logits > 0),
        ("n", write_labels, labels),
    ):
        path = tmp_path / f"{name}.ome.tif"
        write(path, data, PLACED, label="cryoseg test", output_format=OutputFormat.TIFF)
        found = read_tomogram(path)
        np.testing.assert_array_equal(found.data, data)
        assert found.geometry == PLACED


def test_tifffile_finds_axes_and_sizes(tmp_path: Path) -> None:
    path = tmp_path / "m.ome.tif"
    mask = np.eye(6, dtype=bool)[None].repeat(3, axis=0)
    write_mask(path, mask, PLACED, label="cryoseg test", output_format=OutputFormat.TIFF)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        (series,) = file.series
        assert (series.axes, series.shape, series.dtype) == ("ZYX", (3, 6, 6), np.int8)
        np.testing.assert_array_equal(series.asarray(), mask)
        pixels = next(one for one in ET.fromstring(file.ome_metadata).iter() if one.tag.endswith("Pixels"))
        assert (pixels.get("PhysicalSizeZ"), pixels.get("PhysicalSizeX")) == ("13.3", "7.84")
        assert pixels.get("PhysicalSizeXUnit") == "Å"
        planes = [one for one in pixels if one.tag.endswith("Plane")]
        assert [float(plane.get("PositionZ", 0)) for plane in planes] == pytest.approx(
            [-100.25, -86.95, -73.65]
        )
        tags = file.pages.first.tags
        above, below = tags["XResolution"].value
        assert 1e8 * below / above == pytest.approx(7.84, rel=1e-6)
        assert tags["Software"].value == "cryoseg test"


def test_unknown_voxel_size_stays_unknown(tmp_path: Path) -> None:
    path = tmp_path / "m.ome.tif"
    write_mask(path, np.ones((2, 2, 2), bool), Geometry(), label="x", output_format=OutputFormat.TIFF)
    assert read_tomogram(path).geometry == Geometry()


def test_large_files_are_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff_output, "_LARGEST_CLASSIC", 7)
    path = tmp_path / "m.ome.tif"
    write_mask(path, np.ones((2, 2, 2), bool), PLACED, label="x", output_format=OutputFormat.TIFF)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
    assert read_tomogram(path).geometry == PLACED
