"""`measure_files`: inputs of every kind, outputs, and refusals in one sentence."""

import csv
import json

import numpy as np
import pytest

from cryoseg.config.common import OutputFormat
from cryoseg.config.measure import Least, MeasureConfig, MeasureOutputs, MeshFormat
from cryoseg.errors import ConfigError
from cryoseg.events import Status
from cryoseg.io.images.volumes import read_tomogram, write_labels, write_logits, write_mask
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.measure.files import measure_files
from cryoseg.types import Geometry

GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0), origin=(30.0, 20.0, 10.0))


@pytest.fixture(scope="module")
def mask():
    """A shell of radius 10 voxels and a block of 27 voxels."""
    volume = np.zeros((32, 32, 40), bool)
    radius = np.linalg.norm(np.mgrid[:32, :32, :32] - 15.5, axis=0)
    volume[:, :, :32] = np.abs(radius - 10) < 2
    volume[2:5, 2:5, 35:38] = True
    return volume


def rows_of(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_mask_gives_table_record_page_volumes_and_meshes(tmp_path, mask):
    write_mask(tmp_path / "a.mrc", mask, GEOMETRY, label="test")
    outputs = MeasureOutputs(
        labels=True, split=True, fill_lumen=True, midline=True, mesh=(MeshFormat.PLY,), mesh_fraction=0.5
    )
    report = measure_files([tmp_path / "a.mrc"], tmp_path / "out", written=outputs)
    assert [row.status for row in report.rows] == [Status.DONE]
    assert report.rows[0].columns == {
        "components": "2",
        "closed": "1",
        "no sheet": "1",
        "area": report.rows[0].columns["area"],
    }
    shell, block = rows_of(tmp_path / "out" / "a_measures.csv")
    assert float(shell["area_nm2"]) == pytest.approx(4 * np.pi * 100, rel=0.02)
    assert float(shell["diameter_nm"]) == pytest.approx(20, rel=0.02)
    assert shell["is_closed"] == "yes"
    assert (block["voxels"], block["is_sheet"], block["area_nm2"]) == ("27", "no", "")
    record = json.loads((tmp_path / "out" / "a_measures.json").read_text())
    assert record["command"] == "measure"
    assert [one["voxels"] for one in record["components"]] == [int(shell["voxels"]), 27]
    assert record["components"][1]["area_nm2"] is None
    page = (tmp_path / "out" / "a_measures.html").read_text()
    assert "2 components; 1 are closed" in page
    assert page.count("<img") > 3
    labels = read_tomogram(tmp_path / "out" / "a_labels.mrc")
    assert labels.data[3, 3, 36] == 2
    assert labels.geometry.voxel_size == pytest.approx((10, 10, 10))
    assert labels.geometry.origin == pytest.approx((30, 20, 10))
    assert read_tomogram(tmp_path / "out" / "a_lumen.mrc").data[15, 15, 15] == 2
    line = read_tomogram(tmp_path / "out" / "a_midline.mrc")
    assert 0 < line.data.sum() < mask.sum() / 2
    assert line.geometry.voxel_size == pytest.approx((10, 10, 10))
    parts = sorted((tmp_path / "out" / "a_components").iterdir())
    assert [int(read_tomogram(path).data.sum()) for path in parts] == [int(shell["voxels"]), 27]
    again = measure_files([tmp_path / "a.mrc"], tmp_path / "out", written=outputs)
    assert [row.status for row in again.rows] == [Status.SKIPPED]
    other = measure_files([tmp_path / "a.mrc"], tmp_path / "out", MeasureConfig(tilt_range=(-50, 50)))
    assert [row.status for row in other.rows] == [Status.FAILED]


def test_labels_are_written_as_ome_zarr_too(tmp_path, mask):
    write_mask(tmp_path / "a.mrc", mask, GEOMETRY, label="test")
    outputs = MeasureOutputs(labels=True, output_format=OutputFormat.ZARR)
    measure_files([tmp_path / "a.mrc"], tmp_path, written=outputs)
    assert read_tomogram(tmp_path / "a_labels.ome.zarr").data.max() == 2


@pytest.mark.parametrize(("least", "count"), [("28", 1), ("27voxels", 2), ("28nm3", 1), ("4slices", 1)])
def test_small_components_are_left_out_by_voxels_volume_or_slices(tmp_path, mask, least, count):
    write_mask(tmp_path / "a.mrc", mask, GEOMETRY, label="test")
    config = MeasureConfig(min_volume=Least.read(least, option="--min-volume"))
    measure_files([tmp_path / "a.mrc"], tmp_path, config)
    assert len(rows_of(tmp_path / "a_measures.csv")) == count


def test_a_size_without_a_known_unit_is_refused():
    with pytest.raises(ConfigError, match="--min-volume 5kg: give a number of voxels"):
        Least.read("5kg", option="--min-volume")


def test_logits_need_a_threshold_from_the_record_or_the_option(tmp_path, mask):
    logits = np.where(mask, 3.0, -4.0).astype(np.float32)
    write_logits(tmp_path / "a_membrane_logits.mrc", logits, GEOMETRY, label="test")
    report = measure_files([tmp_path / "a_membrane_logits.mrc"], tmp_path / "out")
    assert "Pass --logit-threshold if they are logits" in report.rows[0].message
    measure_files([tmp_path / "a_membrane_logits.mrc"], tmp_path / "out", MeasureConfig(logit_threshold=0.0))
    assert len(rows_of(tmp_path / "out" / "a_membrane_logits_measures.csv")) == 2
    (tmp_path / "a_membrane.json").write_text(json.dumps({"settings": {"logit_threshold": 5.0}}))
    report = measure_files([tmp_path / "a_membrane_logits.mrc"], tmp_path / "recorded")
    assert report.rows[0].columns["components"] == "0"


def test_each_label_is_measured_as_one_object(tmp_path, mask):
    labels = mask.astype(np.int16) * 5
    labels[2:5, 2:5, 35:38] = 9
    write_labels(tmp_path / "a.mrc", labels, GEOMETRY, label="test")
    measure_files([tmp_path / "a.mrc"], tmp_path)
    assert [row["voxels"] for row in rows_of(tmp_path / "a_measures.csv")][1] == "27"


def test_what_is_not_annotated_is_background_of_a_mask(tmp_path, mask):
    labels = mask.astype(np.int16)
    labels[:, :, 33] = -1
    write_labels(tmp_path / "a.mrc", labels, GEOMETRY, label="test")
    measure_files([tmp_path / "a.mrc"], tmp_path)
    assert len(rows_of(tmp_path / "a_measures.csv")) == 2


def test_gray_values_are_no_labels(tmp_path):
    gray = np.random.default_rng(0).integers(0, 255, (8, 9, 10)).astype(np.int16)
    write_labels(tmp_path / "a.mrc", gray, GEOMETRY, label="test")
    report = measure_files([tmp_path / "a.mrc"], tmp_path)
    assert "these are gray values and no labels" in report.rows[0].message


def test_an_unset_voxel_size_is_refused_and_can_be_given(tmp_path, mask):
    write_mask(tmp_path / "a.mrc", mask, Geometry(), label="test")
    report = measure_files([tmp_path / "a.mrc"], tmp_path)
    assert "Pass --pixel-size in angstrom" in report.rows[0].message
    measure_files([tmp_path / "a.mrc"], tmp_path, MeasureConfig(pixel_size=20.0))
    assert float(rows_of(tmp_path / "a_measures.csv")[0]["diameter_nm"]) == pytest.approx(40, rel=0.02)


@pytest.mark.parametrize("marked", [0, 1])
def test_an_empty_mask_and_a_single_voxel_give_a_table(tmp_path, marked):
    volume = np.zeros((6, 7, 8), bool)
    volume[3, 3, 3] = bool(marked)
    write_mask(tmp_path / "a.mrc", volume, GEOMETRY, label="test")
    report = measure_files([tmp_path / "a.mrc"], tmp_path, written=MeasureOutputs(labels=True, midline=True))
    assert report.rows[0].status is Status.DONE
    assert report.rows[0].columns["components"] == str(marked)
    rows = rows_of(tmp_path / "a_measures.csv")
    assert [row["volume_nm3"] for row in rows] == ["1"] * marked
    assert (tmp_path / "a_measures.csv").read_text().startswith("component,voxels,volume_nm3")


def test_a_mesh_of_no_sheet_is_refused(tmp_path):
    write_mask(tmp_path / "a.mrc", np.ones((3, 3, 3), bool), GEOMETRY, label="test")
    report = measure_files([tmp_path / "a.mrc"], tmp_path, written=MeasureOutputs(mesh=(MeshFormat.PLY,)))
    assert "no component is a sheet" in report.rows[0].message


def test_the_tomogram_gives_leaflet_distances_and_must_fit(tmp_path, mask):
    radius = np.linalg.norm(np.mgrid[:32, :32, :40] - 15.5, axis=0)
    density = -sum(np.exp(-0.5 * ((radius - 10 - side) / 0.8) ** 2) for side in (-2, 2))
    write_mask(tmp_path / "ts_1_membrane_mask.mrc", mask, GEOMETRY, label="test")
    (tmp_path / "tomograms").mkdir()
    write_logits(tmp_path / "tomograms" / "ts_1.mrc", density.astype(np.float32), GEOMETRY, label="test")
    write_logits(tmp_path / "tomograms" / "ts_2.mrc", density[1:].astype(np.float32), GEOMETRY, label="test")
    path = tmp_path / "ts_1_membrane_mask.mrc"
    measure_files([path], tmp_path, MeasureConfig(tomogram=tmp_path / "tomograms"))
    row = rows_of(tmp_path / "ts_1_membrane_mask_measures.csv")[0]
    assert float(row["density_thickness_nm"]) == pytest.approx(4, abs=0.3)
    assert int(row["density_patches_measured"]) > 5
    outputs = MeasureOutputs(overwrite=True)
    report = measure_files(
        [path], tmp_path, MeasureConfig(tomogram=tmp_path / "tomograms" / "ts_2.mrc"), written=outputs
    )
    assert "Give the tomogram of this mask" in report.rows[0].message


def test_a_dry_run_writes_nothing_and_refuses_what_the_run_refuses(tmp_path, mask):
    write_mask(tmp_path / "a.mrc", mask, GEOMETRY, label="test")
    write_mask(tmp_path / "b.mrc", mask, Geometry(), label="test")
    report = measure_files(
        [tmp_path / "a.mrc", tmp_path / "b.mrc"], tmp_path / "out", batch=Batch(is_dry=True)
    )
    assert [row.status for row in report.rows] == [Status.TO_DO, Status.FAILED]
    assert not (tmp_path / "out").exists()


def test_dropped_components_are_neither_measured_nor_written(tmp_path, mask):
    write_mask(tmp_path / "a.mrc", mask, GEOMETRY, label="test")
    config = MeasureConfig(drop_components=(1,))
    measure_files([tmp_path / "a.mrc"], tmp_path / "out", config, written=MeasureOutputs(labels=True))
    (block,) = rows_of(tmp_path / "out" / "a_measures.csv")
    assert (block["component"], block["voxels"]) == ("1", "27")
    assert np.count_nonzero(read_tomogram(tmp_path / "out" / "a_labels.mrc").data) == 27
    report = measure_files([tmp_path / "a.mrc"], tmp_path / "no", MeasureConfig(keep_components=(9,)))
    assert "a.mrc: has 2 components, and none with the number 9." in report.rows[0].message
