"""One volume in every format: each command gives for each what it gives for MRC."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.io.images.volumes import read_mask, read_tomogram, write_logits
from cryoseg.types import Geometry

h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
VOXEL = 12.0


def as_tiff(path: Path, data: np.ndarray) -> Path:
    sizes = {f"PhysicalSize{axis}": VOXEL for axis in "XYZ"}
    units = {f"PhysicalSize{axis}Unit": "Å" for axis in "XYZ"}
    tifffile.imwrite(
        path.with_suffix(".ome.tif"), data, metadata={"axes": "ZYX"} | sizes | units, photometric="minisblack"
    )
    return path.with_suffix(".ome.tif")


def as_hdf5(path: Path, data: np.ndarray) -> Path:
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file.create_dataset("a/volume", data=data).attrs["element_size_um"] = (VOXEL / 1e4,) * 3
        file["other"] = data[::-1]
    return Path(f"{path.with_suffix('.h5')}:/a/volume")


def as_em(path: Path, data: np.ndarray) -> Path:
    header = bytearray(512)
    header[0], header[3] = 6, 5
    struct.pack_into("<3i", header, 4, *data.shape[::-1])
    struct.pack_into("<i", header, 120, int(VOXEL * 1000))
    path.with_suffix(".em").write_bytes(bytes(header) + data.astype("<f4").tobytes())
    return path.with_suffix(".em")


def as_zarr(path: Path, data: np.ndarray) -> Path:
    group = zarr.open_group(path.with_suffix(".zarr"), mode="w", zarr_format=2)
    group.create_array("0", data=data)
    scale = [{"type": "scale", "scale": [VOXEL / 10] * 3}]
    axes = [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"]
    dataset = {"path": "0", "coordinateTransformations": scale}
    group.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": [dataset]}]
    return path.with_suffix(".zarr")


FORMATS: dict[str, Callable[[Path, np.ndarray], Path]] = {
    "tiff": as_tiff,
    "hdf5": as_hdf5,
    "em": as_em,
    "zarr": as_zarr,
}
each_format = pytest.mark.parametrize("save", FORMATS.values(), ids=FORMATS)


@pytest.fixture(scope="module")
def logits() -> np.ndarray:
    """A vesicle of 3 voxels' thickness, as smooth logits."""
    z, y, x = np.indices((12, 40, 44)) - np.array([6, 20, 22]).reshape(3, 1, 1, 1)
    return (3 - 2 * np.abs(np.sqrt(4 * z**2 + y**2 + x**2) - 11)).astype(np.float32)


def run(*arguments: object) -> str:
    outcome = CliRunner().invoke(app, [*map(str, arguments)])
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def test_segment(logits: np.ndarray, tmp_path: Path) -> None:
    mrc = tmp_path / "plain.mrc"
    write_logits(mrc, -logits, Geometry(voxel_size=(VOXEL,) * 3), label="x")
    others = {name: save(tmp_path / name, -logits) for name, save in FORMATS.items()}
    arguments = ["segment", mrc, *others.values(), "-o", tmp_path / "out", "--device", "cpu"]
    run(*arguments)
    expected = read_mask(tmp_path / "out" / "plain_membrane_mask.mrc")
    for name in others:
        found = read_mask(tmp_path / "out" / f"{name}_membrane_mask.mrc")
        np.testing.assert_array_equal(found.data, expected.data)
        assert found.geometry.voxel_size == pytest.approx((VOXEL,) * 3, rel=1e-6)
        record = json.loads((tmp_path / "out" / f"{name}_membrane.json").read_text())
        assert record["pixel_size"]["source"] == "header"
        assert record["input"]["shape_zyx"] == list(logits.shape)
        assert record["input"]["name"].startswith(name)
    assert "kept" in run(*arguments)


@each_format
def test_postprocess_evaluate_and_view(
    save: Callable[[Path, np.ndarray], Path], logits: np.ndarray, tmp_path: Path
) -> None:
    source = save(tmp_path / "ts_01", logits)
    run("postprocess", source, "-o", tmp_path, "--logit-threshold", "0", "--step", "thin-noise")
    mask = read_mask(tmp_path / "ts_01_post_processed_mask.mrc")
    np.testing.assert_array_equal(mask.data, logits > 0)
    truth = save(tmp_path / "truth", (logits > 0).astype(np.float32))
    told = tmp_path / "scores.json"
    run("evaluate", "segmentation", source, truth, "--logit-threshold", 0, "-o", told)
    assert '"dice": 1.0' in told.read_text()
    page = tmp_path / "page.html"
    run("view", source, "--logits", source, "--mask", truth, "--logit-threshold", "0", "-o", page)
    assert "ts_01" in page.read_text()
    assert read_tomogram(source).geometry.voxel_size == pytest.approx((VOXEL,) * 3)


def test_a_file_without_voxel_size_is_named_with_the_mend(logits: np.ndarray, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "ts_01.tif", logits, photometric="minisblack", metadata=None)
    source, mend = tmp_path / "ts_01.tif", "no voxel size (0 A). Pass --pixel-size in angstrom."
    assert mend in " ".join(run("view", source, "-o", tmp_path / "page.html").split())
    scoring = ["evaluate", "segmentation", source, source, "--logit-threshold", "0"]
    with h5py.File(tmp_path / "truth.h5", "w") as file:
        file["truth"] = logits > 0
    scoring[3] = tmp_path / "truth.h5"
    told = " ".join(run(*scoring, "--metrics", "surface").split())
    assert mend in told
    assert "Distances are in voxels." in told
    assert mend not in run(*scoring, "--metrics", "surface", "--pixel-size", "10")
    refused = [*map(str, scoring), "--metrics", "surface", "--tolerance", "20A"]
    outcome = CliRunner().invoke(app, refused)
    assert outcome.exit_code != 0
    assert "--pixel-size" in outcome.output


@pytest.mark.parametrize("output_format", ["zarr", "tiff"])
def test_a_scene_shows_the_components_of_masks_in_other_formats(
    logits: np.ndarray, tmp_path: Path, output_format: str
) -> None:
    source, out = tmp_path / "a.mrc", tmp_path / "out"
    write_logits(source, -logits, Geometry(voxel_size=(VOXEL,) * 3), label="x")
    run("segment", source, "-o", out, "--device", "cpu", "--chimerax", "--output-format", output_format)
    scene = (out / "a_membrane.cxc").read_text()
    (mask,) = (path.name for path in out.glob("a_membrane_mask.*"))
    assert f"# {mask} is no MRC file; convert it to see it here.\n" in scene
    assert 'open "a_membrane_components.mrc" format mrc\n' in scene
    components = read_mask(out / "a_membrane_components.mrc").data
    np.testing.assert_array_equal(components > 0, read_mask(out / mask).data > 0)
