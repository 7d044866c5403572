from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.io.records import hash_file


def write_tomogram(
    path: Path, shape: tuple[int, ...] = (4, 32, 40), voxel_size: float = 12.0, **fields: object
) -> Path:
    data = np.random.default_rng(0).integers(-90, 90, shape).astype(np.int8)
    with mrcfile.new(path, fields.pop("data", data), overwrite=True) as file:
        file.voxel_size = voxel_size
        for name, value in fields.items():
            setattr(file.header, name, value)
    return path


def run(*arguments: object) -> tuple[int, str]:
    outcome = CliRunner().invoke(app, ["segment", *map(str, arguments)])
    text = outcome.output + (str(outcome.exception) if outcome.exception else "")
    return outcome.exit_code, text


def test_outputs_lie_on_the_input_and_tell_how_they_were_made(model: Path, tmp_path: Path) -> None:
    source = write_tomogram(tmp_path / "ts_1.5A.rec", nxstart=3, nystart=-2, nzstart=7)
    with mrcfile.open(source, "r+") as file:
        file.header.origin = (10.0, 20.0, 30.0)
    options = ("--post-process", "--store-logits", "--preview", "--chimerax")
    status, text = run(source, "--model", model, *options, "-o", tmp_path / "o")
    assert status == 0, text
    names = {path.name.removeprefix("ts_1.5A_membrane") for path in (tmp_path / "o").iterdir()}
    assert names == {
        *("_mask.mrc", "_logits.mrc", "_post_processed_mask.mrc", "_preview.png", ".json"),
        *("_components.mrc", ".cxc"),
    }
    scene = (tmp_path / "o" / "ts_1.5A_membrane.cxc").read_text()
    assert f'open "../{source.name}" format mrc\nvolume #1 voxelSize 12,12,12\n' in scene
    assert "\nvolume #1 origin 10,20,30\n" in scene
    assert 'open "ts_1.5A_membrane_post_processed_mask.mrc"' in scene
    with mrcfile.open(tmp_path / "o" / "ts_1.5A_membrane_mask.mrc") as mask, mrcfile.open(source) as tomogram:
        assert mask.data.dtype == np.int8
        assert mask.data.shape == tomogram.data.shape
        assert set(np.unique(mask.data)) <= {0, 1}
        for field in ("nxstart", "nystart", "nzstart", "ispg", "cella", "origin"):
            assert mask.header[field] == tomogram.header[field], field
        assert mask.header.dmean == pytest.approx(mask.data.mean(), abs=1e-6)
        assert b"cryoseg" in mask.header.label[0]
        fraction = mask.data.mean()
    logits = mrcfile.read(tmp_path / "o" / "ts_1.5A_membrane_logits.mrc")
    assert logits.dtype == np.float32
    record = json.loads((tmp_path / "o" / "ts_1.5A_membrane.json").read_text())
    about = {key: record["input"][key] for key in ("name", "sha256", "bytes", "shape_zyx")}
    size = source.stat().st_size
    assert about == {
        "name": source.name,
        "sha256": hash_file(source),
        "bytes": size,
        "shape_zyx": [4, 32, 40],
    }
    assert record["model"]["sha256"] == {model.name: hash_file(model)}
    assert record["pixel_size"] == {"angstrom": pytest.approx(12.0, rel=1e-5), "source": "header"}
    assert record["settings"]["logit_threshold"] == 0.0
    assert record["fraction_marked"] <= fraction
    assert record["peak_memory_bytes"] > 0
    with Image.open(tmp_path / "o" / "ts_1.5A_membrane_preview.png") as picture:
        assert picture.width > 500


def test_finished_outputs_are_kept_until_overwritten(model: Path, tmp_path: Path) -> None:
    source = write_tomogram(tmp_path / "a.mrc")
    assert run(source, "--model", model, "-o", tmp_path)[0] == 0
    mask = tmp_path / "a_membrane_mask.mrc"
    mask.write_bytes(b"mine")
    status, text = run(source, "--model", model, "-o", tmp_path)
    assert status == 0
    assert "skipped" in text
    assert "--overwrite" in text
    assert mask.read_bytes() == b"mine"
    assert run(source, "--model", model, "-o", tmp_path, "--overwrite")[0] == 0
    assert mask.stat().st_size > 1024


def test_a_batch_is_planned_divided_told_and_guarded(model: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        write_tomogram(tmp_path / "in" / f"{name}.mrc")
    common = [tmp_path / "in", "--model", model, "-o", tmp_path / "o"]
    status, text = run(*common, "--dry-run")
    assert (status, text.count("to do")) == (0, 3)
    assert "Memory plan: about" in text
    assert not (tmp_path / "o").exists()
    status, text = run(*common, "--shard", "1/2", "--report", tmp_path / "run.json")
    assert status == 0, text
    told = json.loads((tmp_path / "run_1-of-2.json").read_text())
    assert told["counts"] == {"done": 2}
    assert [Path(row["input"]).name for row in told["rows"]] == ["a.mrc", "c.mrc"]
    status, text = run(*common, "--report", tmp_path / "run.csv")
    assert status == 0, text
    table = (tmp_path / "run.csv").read_text().splitlines()
    assert [line.split(",")[1] for line in table[1:]] == ["skipped", "done", "skipped"]
    status, text = run(*common, "--logit-threshold", "2")
    assert status == 1
    assert "logit_threshold (0.0, now 2.0)" in text.replace("\n", "")
    for wrong in (["--shard", "3/2"], ["--report", "x.txt"], ["--gpus", "a"], ["--gpus", "99"]):
        status, text = run(*common, *wrong)
        assert status == 1
        assert wrong[0] in text


def test_a_broken_input_fails_alone(model: Path, tmp_path: Path) -> None:
    good = write_tomogram(tmp_path / "good.mrc")
    (tmp_path / "page.mrc").write_text("<html><body>404</body></html>")
    listing = tmp_path / "all.txt"
    listing.write_text("good.mrc\nabsent.mrc\npage.mrc\n")
    status, text = run(listing, "--model", model, "-o", tmp_path / "o")
    assert status == 1
    assert (text.count("failed"), text.count("done")) == (2, 1)
    assert {path.name for path in (tmp_path / "o").iterdir()} == {
        "good_membrane_mask.mrc",
        "good_membrane.json",
    }
    assert good.exists()


def test_etsam_names_cut_at_the_first_dot(model: Path, tmp_path: Path) -> None:
    source = write_tomogram(tmp_path / "ts_1.5A.mrc")
    arguments = ("--model", model, "--naming", "etsam", "--post-process", "-o", tmp_path / "o")
    assert run(source, *arguments)[0] == 0
    names = {path.name for path in (tmp_path / "o").glob("*.mrc")}
    assert names == {"ts_1_etsam_predicted_mask.mrc", "ts_1_etsam_predicted_post_processed_mask.mrc"}


@pytest.mark.parametrize("voxel_size", [0.0, 1.0])
def test_an_unset_pixel_size_is_assumed_said_and_recorded(
    voxel_size: float, model: Path, tmp_path: Path
) -> None:
    source = write_tomogram(tmp_path / "a.mrc", voxel_size=voxel_size)
    status, text = run(source, "--model", model, "-o", tmp_path)
    assert status == 0
    assert "--pixel-size" in text
    assert "12 A" in text
    record = json.loads((tmp_path / "a_membrane.json").read_text())
    assert record["pixel_size"] == {"angstrom": 12.0, "source": "assumed"}
    status, text = run(source, "--model", model, "-o", tmp_path, "--overwrite", "--apix", "13.3")
    assert "--pixel-size" not in text
    record = json.loads((tmp_path / "a_membrane.json").read_text())
    assert record["pixel_size"] == {"angstrom": 13.3, "source": "option"}


@pytest.mark.parametrize(
    "data",
    [
        np.zeros((4, 32, 32), np.int8),
        np.full((4, 32, 32), -5.0, np.float32),
        np.ones((1, 32, 32), np.int16),
        np.arange(32 * 32, dtype=np.int16).reshape(32, 32),
        np.arange(4 * 32 * 3, dtype=np.int16).reshape(4, 32, 3),
        np.random.default_rng(0).normal(1e6, 1, (3, 32, 32)).astype(np.float32),
    ],
    ids=["constant", "all negative", "one slice", "2D", "last axis of 3", "huge offset"],
)
def test_degenerate_volumes_have_a_result_on_their_own_grid(
    data: np.ndarray, model: Path, tmp_path: Path
) -> None:
    source = write_tomogram(tmp_path / "a.mrc", data=data)
    status, text = run(source, "--model", model, "-o", tmp_path)
    assert status == 0, text
    assert mrcfile.read(tmp_path / "a_membrane_mask.mrc").size == data.size


def _truncated(folder: Path) -> Path:
    path = write_tomogram(folder / "a.mrc", (4, 32, 32))
    path.write_bytes(path.read_bytes()[:-700])
    return path


def _nan(folder: Path) -> Path:
    data = np.zeros((4, 8, 8), np.float32)
    path = write_tomogram(folder / "a.mrc", data=data)
    with path.open("r+b") as stream:
        stream.seek(1024 + 4 * (2 * 64 + 3 * 8 + 4))
        stream.write(np.float32(np.nan).tobytes())
    return path


def _mode(folder: Path, mode: int) -> Path:
    path = write_tomogram(folder / "a.mrc")
    with path.open("r+b") as stream:
        stream.seek(12)
        stream.write(np.int32(mode).tobytes())
    return path


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "absent.mrc", "no such file"),
        (_truncated, "a.mrc"),
        (_nan, "2, 3, 4"),
        (lambda folder: _mode(folder, 3), "mode 3"),
        (lambda folder: _mode(folder, 4), "mode 4"),
        (lambda folder: _mode(folder, 99), "mode 99"),
    ],
)
def test_inputs_that_cannot_be_used_are_one_sentence(
    make: object, words: str, model: Path, tmp_path: Path
) -> None:
    status, text = run(make(tmp_path), "--model", model, "-o", tmp_path / "o")  # type: ignore[operator]
    assert status == 1
    assert words in text.replace("\n", " ")
    assert "Traceback" not in text
    assert not list((tmp_path / "o").iterdir())


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--device", "tpu"], 1, "unknown device"),
        (["--device", "cuda:17"], 1, "--device"),
        (["--pixel-size", "-3"], 1, "--pixel-size"),
        (["--pixel-size", "nan"], 1, "--pixel-size"),
        (["--post-process-min-slices", "0"], 1, "min-slices"),
        (["--prompt-interval", "0"], 1, "--prompt-interval"),
        (["--preset", "v9"], 2, "v9"),
        (["--stage1-prompt", "circle"], 2, "circle"),
        (["--stage1-prompt", "grid"], 1, "--stage1-prompt"),
        (["--split-processing"], 1, "--split-processing"),
        (["--no-such-option"], 2, "No such option"),
        (["--model", "absent.safetensors"], 1, "absent.safetensors"),
        (["--stage1-checkpoint", "x.pt"], 1, "--stage1-checkpoint"),
    ],
)
def test_settings_that_cannot_be_followed_are_one_sentence(
    arguments: list[str], status: int, words: str, model: Path, tmp_path: Path
) -> None:
    source = write_tomogram(tmp_path / "a.mrc")
    command = [
        source,
        "-o",
        tmp_path / "o",
        *(["--model", model] if "--model" not in arguments else []),
        *arguments,
    ]
    found, text = run(*command)
    assert found == status, text
    assert words in text
    assert "Traceback" not in text
    assert not (tmp_path / "o").exists() or not list((tmp_path / "o").iterdir())


def test_a_config_cannot_call_what_it_likes(tmp_path: Path) -> None:
    source = write_tomogram(tmp_path / "a.mrc")
    for name in ("1.safetensors", "2.safetensors"):
        save_file({"a": torch.zeros(1)}, tmp_path / name)
    config = tmp_path / "evil.yaml"
    config.write_text(f"model:\n  _target_: os.system\n  command: touch {tmp_path / 'owned'}\n")
    weights = [
        "--stage1-checkpoint",
        tmp_path / "1.safetensors",
        "--stage2-checkpoint",
        tmp_path / "2.safetensors",
    ]
    status, text = run(source, *weights, "--sam2-config", config, "-o", tmp_path / "o")
    assert status == 1
    assert "os.system" in text
    assert not (tmp_path / "owned").exists()


def test_the_real_command_has_no_traceback_and_a_true_exit_status(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cryoseg", "segment", "a.mrc", "--device", "tpu"]
    outcome = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert outcome.returncode == 1
    assert outcome.stderr.startswith("Error: ")
    assert "Traceback" not in outcome.stderr


def test_help_starts_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from cryoseg.cli.app import app; "
        "r = [CliRunner().invoke(app, a) for a in (['--help'], ['segment', '--help'])]; "
        "assert all(x.exit_code == 0 for x in r); "
        "bad = {'torch', 'sam2', 'numpy', 'scipy', 'hydra'} & set(sys.modules); assert not bad, bad"
    )
    environment = {**os.environ, "COLUMNS": "200"}
    begun = time.monotonic()
    outcome = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert time.monotonic() - begun < 30  # a hang, not a benchmark: benchmarks/help_speed.py measures
