"""OME-Zarr outputs, read again by cryoseg, by zarr and by the package ome-zarr."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import zarr

from cryoseg.config.common import OutputFormat
from cryoseg.errors import OutputError
from cryoseg.io.images import omezarr_output
from cryoseg.io.images.volumes import read_tomogram, write_labels, write_logits, write_mask
from cryoseg.io.outputs import staged_outputs
from cryoseg.types import Geometry

PLACED = Geometry(voxel_size=(13.3, 7.84, 7.84), origin=(-100.25, 3.5, 12.1))
ZARR_FORMATS = [
    OutputFormat.ZARR,
    pytest.param(
        OutputFormat.ZARR_05,
        marks=pytest.mark.skipif(zarr.__version__.startswith("2."), reason="zarr 2 has no format 3"),
    ),
]


def multiscale(path: Path) -> dict:
    if (path / ".zattrs").exists():
        return json.loads((path / ".zattrs").read_text())["multiscales"][0]
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]["multiscales"][0]


@pytest.mark.parametrize("output_format", ZARR_FORMATS)
@pytest.mark.parametrize("shape", [(70, 131, 65), (1, 20, 30), (33, 40, 1)])
def test_values_and_geometry_are_read_again_exactly(
    tmp_path: Path, output_format: OutputFormat, shape: tuple[int, int, int]
) -> None:
    logits = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    for name, write, data in (("l", write_logits, logits), ("m", write_mask, logits > 1)):
        path = tmp_path / f"{name}.ome.zarr"
        write(path, data, PLACED, label="cryoseg test", output_format=output_format)
        found = read_tomogram(path)
        np.testing.assert_array_equal(found.data, data)
        assert found.geometry == PLACED


@pytest.mark.parametrize("output_format", ZARR_FORMATS)
def test_coarse_masks_keep_thin_membranes_and_their_place(
    tmp_path: Path, output_format: OutputFormat
) -> None:
    mask = np.zeros((5, 6, 7), bool)
    mask[4, 1, 6] = True
    geometry = Geometry(voxel_size=(10.0, 4.0, 4.0), origin=(100.0, 0.0, -8.0))
    write_mask(tmp_path / "m.zarr", mask, geometry, label="x", output_format=output_format)
    coarse = zarr.open(str(tmp_path / "m.zarr" / "1"), mode="r")[...]
    coarsest = zarr.open(str(tmp_path / "m.zarr" / "2"), mode="r")[...]
    assert coarse.shape == (3, 3, 4)
    assert np.argwhere(coarse).tolist() == [[2, 0, 3]]
    assert coarsest.shape == (2, 2, 2)
    assert np.argwhere(coarsest).tolist() == [[1, 0, 1]]
    about = multiscale(tmp_path / "m.zarr")
    assert [axis["unit"] for axis in about["axes"]] == ["angstrom"] * 3
    # The first voxel of level 1 is the middle of two voxels, at half a voxel; of level 2, at 1.5.
    places = [one["coordinateTransformations"] for one in about["datasets"]]
    assert [place[0]["scale"] for place in places] == [[10, 4, 4], [20, 8, 8], [40, 16, 16]]
    assert [place[1]["translation"] for place in places] == [[100, 0, -8], [105, 2, -6], [115, 6, -2]]


def test_coarse_logits_are_means(tmp_path: Path) -> None:
    logits = np.arange(8, dtype=np.float32).reshape(2, 2, 2)
    write_logits(tmp_path / "l.zarr", logits, PLACED, label="x", output_format=OutputFormat.ZARR)
    assert zarr.open(str(tmp_path / "l.zarr" / "1"), mode="r")[...].tolist() == [[[3.5]]]


def test_slices_are_asked_for_once_and_in_order(tmp_path: Path) -> None:
    asked = []

    class Source:
        shape = (40, 8, 8)

        def __getitem__(self, z: int) -> np.ndarray:
            asked.append(z)
            return np.full((8, 8), z, np.float32)

    write_logits(tmp_path / "l.zarr", Source(), PLACED, label="x", output_format=OutputFormat.ZARR)
    assert asked == list(range(40))
    assert read_tomogram(tmp_path / "l.zarr").data[:, 3, 4].tolist() == list(range(40))


def test_the_largest_label_chooses_the_type(tmp_path: Path) -> None:
    for largest, dtype in ((32767, "int16"), (65535, "uint16"), (65536, "int32")):
        labels = np.array([[[0, largest]]])
        write_labels(tmp_path / f"{largest}.zarr", labels, PLACED, label="x", output_format=OutputFormat.ZARR)
        found = read_tomogram(tmp_path / f"{largest}.zarr").data
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, labels)
    write_labels(tmp_path / "l.mrc", np.array([[[0, 65535]]]), PLACED, label="x")
    with pytest.raises(OutputError, match="labels from 0 to 65536 do not fit into mrc"):
        write_labels(tmp_path / "l2.mrc", np.array([[[0, 65536]]]), PLACED, label="x")


def test_unknown_voxel_size_stays_unknown(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.zarr", np.ones((2, 2, 2), bool), Geometry(), label="x",
               output_format=OutputFormat.ZARR)  # fmt: skip
    assert read_tomogram(tmp_path / "m.zarr").geometry == Geometry()


def test_a_failed_output_leaves_the_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "m.zarr"
    ones = np.ones((2, 2, 2), bool)

    def write(mask: np.ndarray) -> None:
        write_mask(path, mask, PLACED, label="x", output_format=OutputFormat.ZARR)

    write(ones)
    with pytest.raises(OutputError, match="do not fit into int8"):
        write(np.full((2, 2, 2), 200))
    assert read_tomogram(path).data.all()
    write(~ones)
    assert not read_tomogram(path).data.any()
    assert [one.name for one in tmp_path.iterdir()] == ["m.zarr"]


def test_staged_folders_replace_each_other(tmp_path: Path) -> None:
    outputs = {"mask": tmp_path / "m.zarr", "record": tmp_path / "m.json"}
    for value in (1, 2):
        with staged_outputs(outputs) as staged:
            data = np.full((2, 2, 2), value)
            write_mask(staged["mask"], data, PLACED, label="x", output_format=OutputFormat.ZARR)
            staged["record"].write_text(str(value))
        assert (read_tomogram(outputs["mask"]).data == value).all()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["m.json", "m.zarr"]


def test_memory_is_that_of_a_row_of_chunks(tmp_path: Path) -> None:
    """Of 512 slices of 64 KiB, 32 MiB in all, 32 are held at once, with copies for the pyramid."""

    class Source:
        shape = (512, 128, 128)

        def __getitem__(self, z: int) -> np.ndarray:
            return np.random.default_rng(z).normal(size=(128, 128)).astype(np.float32)

    def write(name: str) -> None:
        write_logits(tmp_path / name, Source(), PLACED, label="x", output_format=OutputFormat.ZARR)

    write("first.zarr")  # imports
    tracemalloc.start()
    try:
        write("second.zarr")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    row = omezarr_output.CHUNK[0] * 128 * 128 * 4
    assert peak < 7 * row < 512 * 128 * 128 * 4 / 2


@pytest.mark.parametrize("output_format", ZARR_FORMATS)
def test_ome_zarr_opens_the_outputs(tmp_path: Path, output_format: OutputFormat) -> None:
    pytest.importorskip("ome_zarr", reason="needs the package ome-zarr")
    from ome_zarr.io import parse_url
    from ome_zarr.reader import Reader

    mask = np.random.default_rng(0).random((9, 10, 11)) > 0.5
    write_mask(tmp_path / "m.ome.zarr", mask, PLACED, label="x", output_format=output_format)
    (node,) = Reader(parse_url(tmp_path / "m.ome.zarr"))()
    assert [level.shape for level in node.data] == [(9, 10, 11), (5, 5, 6), (3, 3, 3)]
    np.testing.assert_array_equal(np.asarray(node.data[0]), mask)
    assert [axis["name"] for axis in node.metadata["axes"]] == ["z", "y", "x"]
    first = node.metadata["coordinateTransformations"][0]
    assert first == [
        {"type": "scale", "scale": [13.3, 7.84, 7.84]},
        {"type": "translation", "translation": [-100.25, 3.5, 12.1]},
    ]
