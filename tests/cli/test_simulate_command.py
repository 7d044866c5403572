"""`cryoseg simulate` and `cryoseg sample` as the user calls them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli import sample
from cryoseg.cli.app import app
from cryoseg.errors import ConfigError
from cryoseg.io.images.micrographs import read_micrograph
from cryoseg.io.images.volumes import read_mask, read_tomogram
from cryoseg.io.picks.picks import read_picks

RUN = CliRunner()


def test_command_writes_volumes_and_keeps_them_the_second_time(tmp_path: Path) -> None:
    arguments = ["tomograms", "-o", str(tmp_path), "-n", "1", "--seed", "2", "--shape", "16x32x32", "--quiet"]
    first = RUN.invoke(app, ["simulate", *arguments])
    assert first.exit_code == 0, first.output
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sim_0000.json",
        "sim_0000_labels.mrc.gz",
        "sim_0000_tomogram.mrc",
    ]
    second = RUN.invoke(app, ["simulate", *arguments])
    assert "skipped" in second.output


@pytest.mark.parametrize(
    ("option", "value"),
    [("--shape", "64,256,256"), ("--shape", "64x256"), ("--pixel-size", "ten"), ("--snr", "0.1-0.5")],
)
def test_misspelt_values_name_their_option(tmp_path: Path, option: str, value: str) -> None:
    result = RUN.invoke(app, ["simulate", "tomograms", "-o", str(tmp_path / "out"), option, value])
    assert isinstance(result.exception, ConfigError)
    assert f"{option} {value}" in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_sample_paths_lead_to_a_tomogram_and_its_labels() -> None:
    printed = [RUN.invoke(sample.app, [name]).stdout.replace("\n", "") for name in ("tomogram", "labels")]
    tomogram, labels = read_tomogram(printed[0]), read_mask(printed[1])
    assert tomogram.data.shape == labels.data.shape == (40, 192, 192)
    assert tomogram.geometry.voxel_size == (12.0, 12.0, 12.0)
    assert 0.03 < labels.data.mean() < 0.12


def test_sample_micrograph_has_its_particles() -> None:
    printed = [
        RUN.invoke(sample.app, [name]).stdout.replace("\n", "") for name in ("micrograph", "particles")
    ]
    image = read_micrograph(printed[0])
    (picks,) = read_picks(printed[1]).values()
    assert image.data.shape == (1024, 1024)
    assert image.pixel_size == 3.75
    assert Path(printed[0]).stat().st_size < 1.5e6
    assert len(picks) == 88
    index = tuple(picks.centers.round().astype(int).T)
    # Particles are dark.
    assert float(image.data[index].mean()) < float(image.data.mean())


def test_micrographs_are_made_and_kept(tmp_path: Path) -> None:
    arguments = ["micrographs", "-o", str(tmp_path), "--shape", "96x128", "--particle-diameter-px", "12:20"]
    assert RUN.invoke(app, ["simulate", *arguments]).exit_code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "sim_0000.json",
        "sim_0000_labels.mrc",
        "sim_0000_micrograph.mrc",
        "sim_0000_particles.star",
    ]
    assert "skipped" in RUN.invoke(app, ["simulate", *arguments]).output
    wrong = RUN.invoke(app, ["simulate", *arguments, "--particle-diameter", "wide"])
    assert "--particle-diameter wide" in str(wrong.exception)


@pytest.mark.parametrize("projection", [False, True])
def test_particles_of_phantoms_are_dark_where_the_truth_says(tmp_path: Path, projection: bool) -> None:
    arguments = ["phantoms", "-o", str(tmp_path), "-n", "2", "--shape", "24x80x96", "--pixel-size", "10"]
    arguments += ["--particles", "9", "--particle-diameter", "120", "--body", "solid", "--labels", "3"]
    arguments += ["--snr", "10", "--tilt-range", "90"] + ["--projection"] * projection
    done = RUN.invoke(app, ["simulate", *arguments])
    assert done.exit_code == 0, done.output
    image = tmp_path / f"sim_0001_{'micrograph' if projection else 'tomogram'}.mrc"
    data = read_micrograph(image).data if projection else read_tomogram(image).data
    assert data.shape == ((80, 96) if projection else (24, 80, 96))
    (truth,) = read_picks(tmp_path / "sim_0001_truth.csv").values()
    (labels,) = read_picks(tmp_path / "sim_0001_labels.csv").values()
    assert len(truth) == 9
    assert np.array_equal(labels.centers, truth.centers[:3])
    index = tuple(truth.centers.round().astype(int).T)
    assert float(data[index].max()) < float(data.mean()) - 2 * float(data.std())
    assert "skipped" in RUN.invoke(app, ["simulate", *arguments]).output
    assert json.loads((tmp_path / "sim_0001.json").read_text())["particles"] == 9
    for option, value in (("--snr", "0"), ("--tilt-range", "91"), ("--distractors", "3")):
        wrong = RUN.invoke(app, ["simulate", *arguments, option, value])
        assert isinstance(wrong.exception, ConfigError)
        assert option in str(wrong.exception)
