from __future__ import annotations

import csv
from pathlib import Path

import mrcfile
import numpy as np
from typer.testing import CliRunner

from cryoseg.cli.app import app


def test_a_model_is_run_and_scored_by_one_command(model: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for kind, data in (("tomogram", rng.integers(-90, 90, (4, 32, 40))), ("labels", np.zeros((4, 32, 40)))):
        for name in ("a", "b"):
            with mrcfile.new(tmp_path / f"{name}_{kind}.mrc", data.astype(np.int8)) as file:
                file.voxel_size = 12.0
    (tmp_path / "b_tomogram.mrc").write_bytes(b"broken")
    table = tmp_path / "scores.csv"
    arguments = ["evaluate", "segmentation", str(tmp_path / "*_tomogram.mrc"), str(tmp_path / "*_labels.mrc")]
    arguments += ["--model", str(model), "--model-output", str(tmp_path / "out"), "-o", str(table)]
    arguments += ["--allow-empty"]
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu", "--quiet"])
    assert result.exit_code == 1  # b is broken
    rows = {row["name"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert (tmp_path / "out" / "a_tomogram_membrane_mask.mrc").is_file()
    assert rows["a"]["error"] == ""
    assert rows["a"]["dice"] in ("0", "1")  # nothing is there: 1 if nothing was found
    assert "no prediction" in rows["b"]["error"]


def test_a_picking_model_is_run_and_scored_by_one_command(tmp_path: Path) -> None:
    places = [[7, 12, 15], [9, 30, 34], [6, 33, 12], [8, 14, 37]]  # z, y, x
    data = np.random.default_rng(1).normal(0, 1, (17, 46, 51)).astype(np.float32)
    for z, y, x in places:
        data[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 3
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        with mrcfile.new(tmp_path / "images" / f"{name}.mrc", data) as file:
            file.voxel_size = 10.0
    labels = tmp_path / "labels.csv"
    labels.write_text("x,y,z\n" + "".join(f"{x},{y},{z}\n" for z, y, x in places))
    short = [
        "--steps",
        "2",
        "--batch",
        "1",
        "--crop",
        "2x32x32",
        "--device",
        "cpu",
        "--no-pictures",
        "--quiet",
    ]
    arguments = ["train", "cet-pick", "-t", str(tmp_path / "images" / "a.mrc"), "-p", str(labels), *short]
    arguments += ["--particle-diameter", "50", "-o", str(tmp_path / "run")]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    (tmp_path / "images" / "b.mrc").write_bytes(b"broken")
    truth = tmp_path / "truth.csv"
    rows = [f"{name},{x},{y},{z}\n" for name in ("a", "b") for z, y, x in places]
    truth.write_text("image,x,y,z\n" + "".join(rows))
    table = tmp_path / "scores.csv"
    arguments = [
        "evaluate",
        "picks",
        str(tmp_path / "images"),
        str(truth),
        "--radius",
        "4px",
        "-o",
        str(table),
    ]
    arguments += ["--model", str(tmp_path / "run" / "cet_pick.safetensors"), "--device", "cpu", "--quiet"]
    result = CliRunner().invoke(app, [*arguments, "--model-output", str(tmp_path / "picks")])
    assert result.exit_code == 1  # b is broken
    scored = {row["name"]: row for row in csv.DictReader(table.read_text().splitlines())}
    assert (scored["a"]["error"], scored["a"]["truths"]) == ("", "4")
    assert "b.mrc" in scored["b"]["error"]
    assert scored["b"]["recall"] == ""


def test_bad_options_are_refused_before_the_work(tmp_path: Path) -> None:
    for extra, words in (
        (["--tolerance", "3"], "30A or 2vox"),
        (["--near-distance", "-1"], "at least 0 pixels"),
        (["--also", "x"], "NAME=PRED"),
        (["--metrics", "dise"], "unknown"),
    ):
        result = CliRunner().invoke(app, ["evaluate", "segmentation", "a.mrc", "b.mrc", *extra])
        assert words in str(result.exception)
    result = CliRunner().invoke(app, ["evaluate", "picks", "a.csv", "b.csv", "--radius", "3"])
    assert "4px" in str(result.exception)
    result = CliRunner().invoke(app, ["postprocess", "a.mrc", "--no-steps", "--step", "bridges"])
    assert "contradict" in str(result.exception)


def test_postprocess_takes_etsam_spellings(tmp_path: Path) -> None:
    mask = np.zeros((4, 20, 20), np.int8)
    mask[:, 5] = 1
    mask[0, 15, 15] = 1
    with mrcfile.new(tmp_path / "x_etsam_predicted_mask.mrc", mask) as file:
        file.voxel_size = 10.0
    arguments = ["postprocess", str(tmp_path / "x_etsam_predicted_mask.mrc"), "-o", str(tmp_path / "out")]
    arguments += ["--post-process-min-slices", "3", "--post-process-max-bridge-len", "5"]
    arguments += ["--post-process-max-spur-len", "0", "--postprocess-remove-thin-noise"]
    arguments += ["--postprocess-remove-parallel-membrane-misconnections"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    with mrcfile.open(tmp_path / "out" / "x_etsam_predicted_post_processed_mask.mrc") as file:
        assert file.data.sum() == 80
