from __future__ import annotations

import json
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from cryoseg.config import PostprocessStep
from cryoseg.config.common import OutputFormat, StoredOutputs
from cryoseg.config.segment import PostprocessConfig
from cryoseg.core.masks.binarize import VoxelKind, to_mask, voxel_kind
from cryoseg.core.masks.postprocess import postprocess_mask
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, Status
from cryoseg.io.images.volumes import read_mask
from cryoseg.pipelines.batches.run import Batch
from cryoseg.pipelines.segment.postprocess import output_name, postprocess_files


def write(path: Path, data: np.ndarray, voxel_size: float = 10.0) -> Path:
    with mrcfile.new(path, data) as mrc:
        mrc.voxel_size = voxel_size
        mrc.header.origin = (1.0, 2.0, 3.0)
    return path


def read(path: Path) -> np.ndarray:
    with mrcfile.open(path) as mrc:
        return mrc.data.copy()


@pytest.fixture
def logits() -> np.ndarray:
    volume = np.full((6, 12, 14), -3.0, np.float32)
    volume[:, 2, 2:9] = 1.0  # six slices high
    volume[1:3, 8, 8] = 2.0  # two slices high
    volume[:, 5, 2] = -0.4
    return volume


def test_logits_are_thresholded_filtered_and_recorded(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "ts.1_membrane_logits.mrc", logits)
    out = tmp_path / "out"
    config = PostprocessConfig(logit_threshold=0.0, min_slices=4)
    report = postprocess_files([source], out, config)
    assert report.exit_status == 0
    path = out / "ts.1_membrane_post_processed_mask.mrc"
    assert report.rows[0].outputs[0] == path
    expected = postprocess_mask(logits > 0, [PostprocessStep.THIN_NOISE], min_slices=4)
    result = read(path)
    assert result.dtype == np.int8
    np.testing.assert_array_equal(result, expected)
    assert result.sum() == 42
    with mrcfile.open(path) as mrc:
        assert float(mrc.voxel_size.x) == pytest.approx(10)
        assert float(mrc.header.origin.y) == 2
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["settings"]["min_slices"] == 4
    assert record["settings"]["steps"] == ["thin-noise"]
    assert record["fraction_marked"] == pytest.approx(42 / logits.size)
    assert sorted(p.name for p in out.iterdir()) == [path.with_suffix(".json").name, path.name]


def test_the_recorded_threshold_is_used_and_told(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "a_membrane_logits.mrc", logits)
    (tmp_path / "a_membrane.json").write_text('{"settings": {"logit_threshold": -0.3}}')
    notes: list[str] = []
    config = PostprocessConfig(steps=())
    listen = lambda event: notes.append(event.text) if isinstance(event, Note) else None  # noqa: E731
    postprocess_files([source], tmp_path / "recorded", config, on_event=listen)
    assert "recorded in a_membrane.json" in notes[-1]
    assert read(tmp_path / "recorded" / "a_membrane_mask.mrc").sum() == 44
    (tmp_path / "a_membrane.json").unlink()
    postprocess_files([source], tmp_path / "default", config, on_event=listen)
    assert "-0.5" in notes[-1]
    assert read(tmp_path / "default" / "a_membrane_mask.mrc").sum() == 50


@pytest.mark.parametrize(
    ("settings", "steps", "origin"),
    [
        (
            {"preset": "v2", "postprocess": []},
            ["thin-noise", "bridges"],
            "of preset v2, which m_membrane",
        ),
        ({"preset": "v2", "postprocess": ["bridges"]}, ["bridges"], "recorded in m_membrane.json"),
        ({"preset": "v1"}, ["thin-noise"], "of preset v1"),
        ({"other": 1}, ["thin-noise"], "default; --step"),
        (None, ["thin-noise"], "default; --step"),
    ],
)
@pytest.mark.parametrize("kind", ["logits", "mask"])
def test_the_steps_are_those_of_the_record(
    tmp_path: Path, logits: np.ndarray, settings: dict | None, steps: list[str], origin: str, kind: str
) -> None:
    data = logits if kind == "logits" else (logits > 0).astype(np.int8)
    source = write(tmp_path / f"m_membrane_{kind}.mrc", data)
    if settings is not None:
        record = {"settings": {"logit_threshold": -0.25, **settings}}
        (tmp_path / "m_membrane.json").write_text(json.dumps(record))
    notes: list[str] = []
    listen = lambda event: notes.append(event.text) if isinstance(event, Note) else None  # noqa: E731
    config = PostprocessConfig(min_slices=4)
    for _ in range(2):
        report = postprocess_files([source], tmp_path / "out", config, on_event=listen)
    assert report.rows[0].status is Status.SKIPPED
    assert origin in notes[0]
    written = json.loads((tmp_path / "out" / "m_membrane_post_processed_mask.json").read_text())["settings"]
    assert written["steps"] == steps
    if kind == "logits":
        assert written["logit_threshold"] == (-0.5 if settings is None else -0.25)


def test_outputs_are_kept_unless_told(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "m_membrane_mask.mrc", (logits > 0).astype(np.int8))
    postprocess_files([source], tmp_path, PostprocessConfig(min_slices=1))
    kept = postprocess_files([source], tmp_path, PostprocessConfig(min_slices=1))
    assert kept.rows[0].status is Status.SKIPPED
    assert kept.exit_status == 0
    other = postprocess_files([source], tmp_path, PostprocessConfig(min_slices=5))
    assert other.rows[0].status is Status.FAILED
    assert "another min_slices (1, now 5)" in other.rows[0].message
    output = tmp_path / "m_membrane_post_processed_mask.mrc"
    assert read(output).sum() == 44
    replaced = postprocess_files(
        [source], tmp_path, PostprocessConfig(min_slices=5), batch=Batch(overwrite=True)
    )
    assert replaced.rows[0].status is Status.DONE
    assert read(output).sum() == 42


def test_a_mask_that_segment_wrote_is_not_replaced(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "m_membrane_logits.mrc", logits)
    output = write(tmp_path / "m_membrane_post_processed_mask.mrc", (logits > 1).astype(np.int8))
    report = postprocess_files([source], tmp_path, PostprocessConfig(min_slices=1))
    assert report.rows[0].status is Status.FAILED
    assert "without a record of `cryoseg postprocess`" in report.rows[0].message
    assert read(output).sum() == (logits > 1).sum()


def test_another_recorded_threshold_is_another_run(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "a_membrane_logits.mrc", logits)
    config = PostprocessConfig(steps=())
    for threshold, status in ((-0.3, Status.DONE), (-0.3, Status.SKIPPED), (0.0, Status.FAILED)):
        (tmp_path / "a_membrane.json").write_text(f'{{"settings": {{"logit_threshold": {threshold}}}}}')
        report = postprocess_files([source], tmp_path / "out", config)
        assert report.rows[0].status is status
    assert "logit_threshold (-0.3, now 0.0)" in report.rows[0].message


def test_the_input_is_never_replaced(tmp_path: Path, logits: np.ndarray) -> None:
    source = write(tmp_path / "m_membrane_mask.mrc", (logits > 0).astype(np.int8))
    report = postprocess_files([source], tmp_path, PostprocessConfig(steps=()), batch=Batch(overwrite=True))
    assert report.rows[0].status is Status.FAILED
    assert "replace the input" in report.rows[0].message


def test_logits_go_before_the_mask_of_the_same_tomogram(tmp_path: Path, logits: np.ndarray) -> None:
    write(tmp_path / "m_membrane_mask.mrc", np.zeros(logits.shape, np.int8))
    write(tmp_path / "m_membrane_logits.mrc", logits)
    write(tmp_path / "m_membrane_post_processed_mask.mrc", np.zeros(logits.shape, np.int8))
    write(tmp_path / "m_membrane_components.mrc", np.zeros(logits.shape, np.int8))
    report = postprocess_files([tmp_path], tmp_path / "out", PostprocessConfig(min_slices=1))
    status = {row.name: row.status for row in report.rows}
    assert status == {"m_membrane_mask.mrc": Status.SKIPPED, "m_membrane_logits.mrc": Status.DONE}
    assert read(tmp_path / "out" / "m_membrane_post_processed_mask.mrc").sum() == 50


def test_a_broken_input_stops_nothing(tmp_path: Path, logits: np.ndarray) -> None:
    (tmp_path / "bad.mrc").write_bytes(b"nothing")
    labels = write(tmp_path / "labels.mrc", np.arange(60, dtype=np.int8).reshape(3, 4, 5))
    good = write(tmp_path / "good.mrc", (logits > 0).astype(np.int8))
    report = postprocess_files(
        [tmp_path / "bad.mrc", tmp_path / "none.mrc", labels, good], tmp_path / "out", PostprocessConfig()
    )
    assert report.exit_status == 1
    assert [row.status for row in report.rows] == [Status.FAILED] * 3 + [Status.DONE]
    assert "60 different values" in report.rows[2].message
    assert all(str(tmp_path) in row.message for row in report.rows[:3])
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "good_post_processed_mask.mrc",
        "good_post_processed_mask.json",
    }


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("ts_membrane_logits", "ts_membrane_post_processed_mask"),
        ("ts_membrane_mask", "ts_membrane_post_processed_mask"),
        ("ts_etsam_predicted_mask", "ts_etsam_predicted_post_processed_mask"),
        (
            "ts_etsam_predicted_split_processing_logits",
            "ts_etsam_predicted_split_processing_post_processed_mask",
        ),
        ("anything", "anything_post_processed_mask"),
    ],
)
def test_names_follow_those_of_segment(stem: str, expected: str) -> None:
    assert output_name(stem, has_steps=True) == expected


@pytest.mark.parametrize("output_format", OutputFormat)
def test_every_format_of_outputs_holds_the_same_mask(
    tmp_path: Path, logits: np.ndarray, output_format: OutputFormat
) -> None:
    source = write(tmp_path / "a_membrane_logits.mrc", logits)
    config = PostprocessConfig(logit_threshold=0.0, min_slices=4)
    written = StoredOutputs(output_format=output_format)
    for status in (Status.DONE, Status.SKIPPED):
        report = postprocess_files([source], tmp_path / "out", config, written=written)
        assert [row.status for row in report.rows] == [status]
    base = tmp_path / "out" / "a_membrane_post_processed_mask"
    mask = read_mask(base.with_name(base.name + output_format.suffix))
    assert mask.data.sum() == 42
    assert mask.geometry.voxel_size == (10, 10, 10)
    assert mask.geometry.origin == (3, 2, 1)
    assert base.with_name(base.name + ".json").is_file()


def test_what_a_volume_holds() -> None:
    zeros = np.zeros((2, 3, 3))
    assert voxel_kind(zeros) is VoxelKind.MASK
    assert voxel_kind(zeros > 1) is VoxelKind.MASK
    one = zeros.copy()
    one[1, 1, 1] = 255
    assert voxel_kind(one) is VoxelKind.MASK
    assert voxel_kind(one.astype(np.uint8)) is VoxelKind.MASK
    one[0, 0, 0] = 3
    assert voxel_kind(one.astype(np.int16)) is VoxelKind.LABELS
    assert voxel_kind(one) is VoxelKind.LOGITS
    assert voxel_kind(-(zeros + 1).astype(np.int8)) is VoxelKind.LABELS
    with pytest.raises(InputError, match="logit-threshold"):
        to_mask(one, logit_threshold=None)
    one[0, 1, 1] = np.nan
    with pytest.raises(InputError, match="NaN"):
        to_mask(one, logit_threshold=0.0)


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="min-slices"):
        PostprocessConfig(min_slices=0)
    with pytest.raises(ConfigError, match="finite"):
        PostprocessConfig(logit_threshold=float("nan"))


def test_components_are_dropped_after_the_steps(tmp_path: Path) -> None:
    mask = np.zeros((6, 9, 9), np.int8)
    mask[:, 1:3, 1:3] = 1  # 24 voxels
    mask[2:4, 4:8, 4:8] = 1  # 32 voxels
    mask[0, 8, 0] = 1
    source = write(tmp_path / "a_mask.mrc", mask)
    for steps, wanted in (((), mask[:, 4:8, 4:8].sum() + 1), ((PostprocessStep.THIN_NOISE,), 0)):
        config = PostprocessConfig(steps=steps, min_slices=3, drop_components=(1,) if steps else (2,))
        (row,) = postprocess_files([source], tmp_path / f"out{len(steps)}", config).rows
        assert row.status is Status.DONE
        (written,) = (tmp_path / f"out{len(steps)}").glob("*.mrc")
        assert read(written).sum() == wanted
    (row,) = postprocess_files([source], tmp_path, PostprocessConfig(steps=(), keep_components=(4,))).rows
    assert row.status is Status.FAILED
    assert "has 3 components, and none with the number 4" in row.message


def test_a_sheet_gets_the_width_in_nm_and_a_small_component_goes(tmp_path: Path) -> None:
    sheet = np.zeros((24, 24, 24), np.int8)
    sheet[:, 9:14] = 1
    sheet[3:5, 20:22, 3:5] = 1
    source = write(tmp_path / "a_membrane_mask.mrc", sheet)
    config = PostprocessConfig(steps=(PostprocessStep.THIN_NOISE,), band_width_nm=3)
    assert postprocess_files([source], tmp_path / "out", config).exit_status == 0
    band = read(tmp_path / "out" / "a_membrane_post_processed_mask.mrc")
    expected = np.zeros_like(sheet)
    expected[:, 10:13] = 1
    np.testing.assert_array_equal(band, expected)
    record = json.loads((tmp_path / "out" / "a_membrane_post_processed_mask.json").read_text())
    assert record["settings"]["band_width_nm"] == 3
    assert record["fraction_marked"] == pytest.approx(3 / 24)


@pytest.mark.parametrize("is_dry", [True, False])
def test_a_band_needs_a_voxel_size(tmp_path: Path, is_dry: bool) -> None:
    sheet = np.zeros((24, 24, 24), np.int8)
    sheet[:, 9:14] = 1
    source = write(tmp_path / "a_membrane_mask.mrc", sheet, voxel_size=0.0)
    unknown = PostprocessConfig(steps=(), band_width_nm=3)
    thin = PostprocessConfig(steps=(), band_width_nm=3, pixel_size=31)
    for config, message in (
        (unknown, "no voxel size, which --band-width needs"),
        (thin, "Give at least 3.1"),
    ):
        (row,) = postprocess_files([source], tmp_path / "out", config, batch=Batch(is_dry=is_dry)).rows
        assert row.status is Status.FAILED
        assert message in row.message
    if not is_dry:
        known = PostprocessConfig(steps=(), band_width_nm=3, pixel_size=10)
        assert postprocess_files([source], tmp_path / "out", known).exit_status == 0


def test_a_pixel_size_without_a_band_is_refused() -> None:
    with pytest.raises(ConfigError, match="--band-width"):
        PostprocessConfig(pixel_size=10)
