"""`cryoseg train cet-pick`, `pick` and `convert` from the command line, on volumes of a few voxels."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import tifffile
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.errors import CryosegError, InputError, OutputError
from cryoseg.methods.cet_pick.detector import read_settings
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors, write_model_file

RUNNER = CliRunner()
PLACES = [[7, 12, 15], [9, 30, 34], [6, 33, 12], [8, 14, 37]]  # z, y, x
SHORT = ["--steps", "2", "--batch", "1", "--crop", "2x32x32", "--device", "cpu", "--no-pictures", "--quiet"]


def write_volume(path: Path, shape: tuple[int, int, int] = (17, 46, 51), voxel_size: float = 10.0) -> Path:
    data = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    for z, y, x in PLACES:
        data[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] -= 3
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, data) as file:
        file.voxel_size = voxel_size
    return path


def write_labels(path: Path, places: list[list[int]] = PLACES) -> Path:
    rows = "".join(f"{x},{y},{z}\n" for z, y, x in places)
    path.write_text("x,y,z\n" + rows)
    return path


def train(tmp_path: Path, *more: str, labels: list[list[int]] = PLACES, volume: Path | None = None) -> Path:
    """The model of a short training; errors come out as exceptions."""
    tomogram = volume or write_volume(tmp_path / "ts_01.mrc")
    picks = write_labels(tmp_path / "labels.csv", labels)
    arguments = ["train", "cet-pick", "-t", str(tomogram), "-p", str(picks), "-o", str(tmp_path / "run")]
    arguments += ["--particle-diameter", "50", *SHORT, *more]
    outcome = RUNNER.invoke(app, arguments, catch_exceptions=True)
    if isinstance(outcome.exception, CryosegError):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return tmp_path / "run" / "cet_pick.safetensors"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("model"))


def test_model_carries_its_recipe(model: Path) -> None:
    settings = read_settings(model)
    assert settings.particle_diameter_angstrom == 50.0
    assert settings.voxel_size == (10.0, 10.0, 10.0)
    assert 0 <= settings.score_threshold <= 1
    check = read_model_metadata(model)["card"]["checks"][-1]
    assert (settings.score_slope, settings.score_intercept) == (
        check["score_slope"],
        check["score_intercept"],
    )
    logit = settings.score_slope * check["threshold_logit"] + settings.score_intercept
    assert settings.score_threshold == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)
    record = json.loads(model.with_suffix(".json").read_text())
    assert record["labels"] == 4
    assert record["tomograms"] == ["ts_01.mrc"]
    (row,) = csv.DictReader((model.parent / "log.csv").read_text().splitlines())
    assert (row["step"], row["best"]) == ("2", "1")
    assert float(row["risk"]) == pytest.approx(float(row["loss"]))
    assert not list(model.parent.glob("*.pt"))


def test_a_model_without_calibration_has_the_sigmoid_as_score(model: Path, tmp_path: Path) -> None:
    metadata = read_model_metadata(model)
    del metadata["score_calibration"]
    old = tmp_path / "old.safetensors"
    write_model_file(old, read_model_tensors(model), metadata)
    settings = read_settings(old)
    np.testing.assert_allclose(settings.scores(np.array([0.0, np.log(3)])), [0.5, 0.75], atol=1e-7)


def test_model_remembers_the_thickness_axis(tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "ts_01.mrc", (51, 17, 46))
    labels = [[x, z, y] for z, y, x in PLACES]
    model = train(tmp_path, "--thickness-axis", "y", labels=labels, volume=tomogram)
    picked = []
    for more in ([], ["--thickness-axis", "y"], ["--thickness-axis", "z"]):
        out = tmp_path / f"out{len(picked)}"
        arguments = ["pick", str(tomogram), "-m", str(model), "-o", str(out), "--device", "cpu", "--quiet"]
        outcome = RUNNER.invoke(app, [*arguments, "--score-threshold", "0", "--no-preview", *more])
        assert outcome.exit_code == 0, outcome.output
        picked.append(starfile.read(out / "ts_01_particles.star"))
    assert picked[0].equals(picked[1])
    assert not picked[0].equals(picked[2])


def test_pick_writes_every_format_and_keeps_what_is_there(model: Path, tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "in" / "ts_1.5A.mrc")
    out = tmp_path / "out"
    formats = ["star", "star-relion4", "star-relion5", "csv", "mod", "ndjson", "coords"]
    arguments = ["pick", str(tomogram), "-m", str(model), "-o", str(out), "--heat-map", "--device", "cpu"]
    arguments += ["--score-threshold", "0.0", "--max-picks", "5"]
    arguments += ["--unbinned-pixel-size", "2.5", "--unbinned-size", "204x184x68", "--chimerax"]
    for name in formats:
        arguments += ["-f", name]
    outcome = RUNNER.invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    names = {path.name for path in out.iterdir()}
    base = "ts_1.5A_particles"
    assert names == {
        *(f"{base}{suffix}" for suffix in (".star", ".csv", ".mod", ".ndjson", ".coords", ".json")),
        *(f"{base}{suffix}" for suffix in (".cmm", ".cxc")),
        *(f"{base}_relion4.star", f"{base}_relion5.star", f"{base}_heat_map.mrc", f"{base}_preview.png"),
    }
    plain, unbinned = (starfile.read(out / f"{base}{end}.star") for end in ("", "_relion4"))
    assert len(plain) == 5
    np.testing.assert_allclose(unbinned["rlnCoordinateX"], plain["rlnCoordinateX"] * 4, atol=1e-3)
    with mrcfile.open(out / f"{base}_heat_map.mrc") as heat:
        assert heat.data.shape == (17, 23, 26)
        assert float(heat.voxel_size.x) == 20.0
        assert float(heat.voxel_size.z) == 10.0
    marker = (out / f"{base}.cmm").read_text().splitlines()[1]
    first = plain["rlnCoordinateX"][0] * 10.0  # the header gives 10 A and no origin
    assert f' x="{first:.3f}" ' in marker
    assert f'open "{base}.cmm"' in (out / f"{base}.cxc").read_text()
    record = json.loads((out / f"{base}.json").read_text())
    assert record["picks"] == 5
    again = RUNNER.invoke(app, arguments)
    assert again.exit_code == 0
    assert "kept" in again.output


def test_relion_formats_without_the_unbinned_size_are_refused(model: Path, tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "ts.mrc")
    arguments = ["pick", str(tomogram), "-m", str(model), "-o", str(tmp_path / "o"), "-f", "star-relion5"]
    outcome = RUNNER.invoke(app, arguments)
    assert isinstance(outcome.exception, InputError)
    assert "--unbinned-size" in str(outcome.exception)
    assert not (tmp_path / "o").exists()


def test_a_broken_input_is_a_failed_row(model: Path, tmp_path: Path) -> None:
    good = write_volume(tmp_path / "good.mrc")
    image = write_volume(tmp_path / "image.mrc")
    with mrcfile.open(image, "r+") as file:
        file.set_data(file.data[:1].copy())
    arguments = ["pick", str(good), str(image), str(tmp_path / "none.mrc"), "-m", str(model)]
    outcome = RUNNER.invoke(app, [*arguments, "-o", str(tmp_path / "out"), "--device", "cpu"])
    assert outcome.exit_code == 1
    assert "single image" in outcome.output
    assert (tmp_path / "out" / "good_particles.star").exists()


def test_another_kind_of_model_is_told_apart(tmp_path: Path) -> None:
    import torch

    from cryoseg.methods.model_file import write_model_file

    other = tmp_path / "other.safetensors"
    write_model_file(other, {"a": torch.zeros(1)}, {"method": "membrane-tiny"})
    tomogram = write_volume(tmp_path / "ts.mrc")
    outcome = RUNNER.invoke(app, ["pick", str(tomogram), "-m", str(other)])
    assert "does not pick particles in tomograms" in str(outcome.exception)


def test_one_label_is_enough_to_run(tmp_path: Path) -> None:
    assert train(tmp_path, labels=PLACES[:1]).exists()


def test_validation_tomograms_are_pictured_at_every_check(tmp_path: Path) -> None:
    other = write_volume(tmp_path / "ts_02.mrc")
    model = train(tmp_path, "--validation", str(other), "--checks", "2")
    pictures = {path.name for path in model.parent.glob("*.png")}
    assert pictures == {"ts_02_step_000001.png", "ts_02_step_000002.png"}


def test_no_label_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no labels"):
        train(tmp_path, labels=[])


def test_labels_of_another_tomogram_are_no_labels(tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "ts_01.mrc")
    picks = tmp_path / "coords.txt"
    picks.write_text("image_name\tx_coord\ty_coord\tz_coord\nts_99\t15\t12\t7\n")
    arguments = ["train", "cet-pick", "-t", str(tomogram), "-p", str(picks), "-o", str(tmp_path / "run")]
    outcome = RUNNER.invoke(app, [*arguments, "--particle-diameter", "50", *SHORT])
    assert "no labels" in str(outcome.exception)


def test_swapped_axes_are_suggested(tmp_path: Path) -> None:
    swapped = [[x, y, z] for z, y, x in PLACES]
    with pytest.raises(InputError, match="z from the column read as x"):
        train(tmp_path, labels=swapped)


def test_labels_outside_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="4 of 4 labels lie outside"):
        train(tmp_path, labels=[[z * 10, y * 10, x * 10] for z, y, x in PLACES])


def test_nan_is_refused_with_its_place(tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "ts_01.mrc")
    with mrcfile.open(tomogram, "r+") as file:
        file.data[3, 4, 5] = np.nan
    with pytest.raises(InputError, match="3, 4, 5"):
        train(tmp_path, volume=tomogram)


def test_missing_voxel_size_is_refused_and_can_be_given(tmp_path: Path) -> None:
    for size in (0.0, 1.0, 5000.0):
        tomogram = write_volume(tmp_path / f"ts_{size:g}.mrc", voxel_size=size)
        with pytest.raises(InputError, match=r"voxel size.*Pass --pixel-size in angstrom\.$"):
            train(tmp_path, volume=tomogram)
    assert train(tmp_path, "--pixel-size", "10", volume=tomogram).exists()


@pytest.mark.parametrize("size", [0.0, 1.0, 5000.0])
def test_picking_needs_a_voxel_size_that_can_be_believed(model: Path, tmp_path: Path, size: float) -> None:
    tomogram = write_volume(tmp_path / "ts_01.mrc", voxel_size=size)
    arguments = ["pick", str(tomogram), "-m", str(model), "-o", str(tmp_path), "--device", "cpu"]
    refused = RUNNER.invoke(app, arguments)
    assert refused.exit_code == 1
    told = " ".join(refused.output.split())
    assert "voxel size" in told
    assert "Pass --pixel-size in angstrom." in told
    assert RUNNER.invoke(app, [*arguments, "--pixel-size", "10"]).exit_code == 0
    assert (tmp_path / "ts_01_particles.star").exists()


def test_volume_smaller_than_a_crop(tmp_path: Path) -> None:
    small = write_volume(tmp_path / "ts_01.mrc", shape=(17, 46, 51))
    assert train(tmp_path, "--crop", "20x64x64", "--steps", "1", volume=small).exists()


def test_finished_model_is_kept(model: Path) -> None:
    with pytest.raises(OutputError, match="--overwrite"):
        train(model.parent.parent, volume=model.parent.parent / "ts_01.mrc")


def test_interrupted_run_goes_on_to_the_same_model(tmp_path: Path) -> None:
    from cryoseg.config.cet_pick import CetPickConfig
    from cryoseg.methods.training.loop import TrainingError
    from cryoseg.pipelines.train_cet_pick import DetectorOutput, TrainingFiles, train_files

    given = TrainingFiles(
        tomograms=[write_volume(tmp_path / "ts_01.mrc")], picks=[write_labels(tmp_path / "labels.csv")]
    )
    config = CetPickConfig(
        particle_diameter_angstrom=50.0, steps=3, batch=1, crop=(2, 32, 32), holdout_from=4, checks=2
    )
    whole, cut = (DetectorOutput(folder=tmp_path / name, pictures=False) for name in ("whole", "cut"))
    first = train_files(given, config, whole)
    piece = replace(config, max_minutes=0.0)  # one step per call
    assert train_files(given, piece, cut) is None
    with pytest.raises(TrainingError, match="other settings or data"):
        train_files(given, replace(config, seed=1), cut)
    assert train_files(given, piece, cut) is None
    second = train_files(given, piece, cut)
    assert first is not None
    assert second is not None
    assert first.read_bytes() == second.read_bytes()
    records = [json.loads(path.with_suffix(".json").read_text()) for path in (first, second)]
    assert records[0]["checks"] == records[1]["checks"]
    assert [check["step"] for check in records[0]["checks"]] == [2, 3]


def test_convert_scales_flips_and_names(tmp_path: Path) -> None:
    source = tmp_path / "a.csv"
    source.write_text("x,y,z\n1,2,3\n")
    target = tmp_path / "b.star"
    outcome = RUNNER.invoke(
        app,
        [
            "convert",
            str(source),
            str(target),
            "--scale",
            "2",
            "--flip-y",
            "--size",
            "100x50x20",
            "--name",
            "ts",
        ],
    )
    assert outcome.exit_code == 0, outcome.output
    table = starfile.read(target)
    # (1 + 0.5) * 2 - 0.5 = 2.5 in x; y: (2 + 0.5) * 2 - 0.5 = 4.5, mirrored in 50: 49 - 4.5
    assert [float(table[f"rlnCoordinate{axis}"].iloc[0]) for axis in "XYZ"] == [2.5, 44.5, 6.5]
    assert list(table["rlnTomoName"]) == ["ts"]


def test_convert_takes_size_and_voxel_size_from_the_tomogram(tmp_path: Path) -> None:
    tomogram = write_volume(tmp_path / "ts_01.mrc")
    source = write_labels(tmp_path / "labels.csv", PLACES[:1])
    target = tmp_path / "out.star"
    arguments = ["convert", str(source), str(target), "--tomogram", str(tomogram), "-f", "star-relion5"]
    arguments += ["--unbinned-pixel-size", "2.5", "--unbinned-size", "204x184x68"]
    outcome = RUNNER.invoke(app, arguments)
    assert outcome.exit_code == 0, outcome.output
    table = starfile.read(target)
    # x = 15: (15 * 4 - (102 - 1)) * 2.5
    assert float(table["rlnCenteredCoordinateXAngst"].iloc[0]) == (60 - 101) * 2.5
    back = tmp_path / "back.csv"
    outcome = RUNNER.invoke(app, ["convert", str(target), str(back), *arguments[3:5], *arguments[7:]])
    assert outcome.exit_code == 0, outcome.output
    assert back.read_text().splitlines()[1].startswith("ts_01,15.0000,12.0000,7.0000")


def test_flip_without_size_is_refused(tmp_path: Path) -> None:
    source = write_labels(tmp_path / "labels.csv")
    outcome = RUNNER.invoke(app, ["convert", str(source), str(tmp_path / "b.csv"), "--flip", "xz"])
    assert "--size" in str(outcome.exception)


def test_picks_are_the_same_in_every_format(model: Path, tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs the extra hdf5")
    tomogram = write_volume(tmp_path / "ts_01.mrc")
    with mrcfile.open(tomogram) as file, h5py.File(tmp_path / "ts_02.hdf", "w") as other:
        other["MDF/images/0/image"] = file.data
        for axis in "xyz":
            other["MDF/images/0"].attrs[f"EMAN.apix_{axis}"] = 10.0
        units = {f"PhysicalSize{axis}Unit": "nm" for axis in "XYZ"} | {
            f"PhysicalSize{axis}": 1 for axis in "XYZ"
        }
        tifffile.imwrite(
            tmp_path / "ts_03.ome.tif", file.data, metadata={"axes": "ZYX"} | units, photometric="minisblack"
        )
    sources = [
        str(tomogram),
        f"{tmp_path / 'ts_02.hdf'}:/MDF/images/0/image",
        str(tmp_path / "ts_03.ome.tif"),
    ]
    arguments = [
        "pick",
        *sources,
        "-m",
        str(model),
        "-o",
        str(tmp_path),
        "--device",
        "cpu",
        "--format",
        "csv",
    ]
    assert RUNNER.invoke(app, [*arguments, "--score-threshold", "0", "--max-picks", "5"]).exit_code == 0
    tables = [(tmp_path / f"ts_0{number}_particles.csv").read_text() for number in (1, 2, 3)]
    places = [[line.split(",")[1:] for line in table.splitlines()] for table in tables]
    assert len(places[0]) == 6
    assert places[0] == places[1] == places[2]


def test_a_tiff_of_one_page_is_no_tomogram(model: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((40, 40), np.uint8))
    arguments = ["pick", str(tmp_path / "a.tif"), "-m", str(model), "-o", str(tmp_path), "--device", "cpu"]
    outcome = RUNNER.invoke(app, arguments)
    assert outcome.exit_code == 1
    assert "is a single image" in " ".join(outcome.output.split())


TOMOGRAMS = """
data_global

loop_
_rlnTomoName #1
_rlnTomoTiltSeriesPixelSize #2
_rlnTomoTomogramBinning #3
_rlnTomoSizeX #4
_rlnTomoSizeY #5
_rlnTomoSizeZ #6
_rlnTomoReconstructedTomogram #7
TS_02 2.5 4 204 184 68 rec/second_Vol.mrc
TS_01 2.5 4 204 184 68 rec/first_Vol.mrc
"""


@pytest.fixture
def relion_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for name in ("first", "second"):
        write_volume(Path(f"rec/{name}_Vol.mrc"), voxel_size=1.0)  # not set: the list gives 10 A
    Path("Tomograms/job007").mkdir(parents=True)
    Path("Tomograms/job007/tomograms.star").write_text(TOMOGRAMS)
    return tmp_path


LIST = "Tomograms/job007/tomograms.star"
LOOSE = ["--score-threshold", "0", "--max-picks", "5", "--no-preview", "--device", "cpu"]


def test_particles_of_tomograms_that_relion_lists(model: Path, relion_project: Path) -> None:
    words = ["relion", "pick", "--in_tomograms", LIST, "--o", "External/job008/", "--j", "1"]
    outcome = RUNNER.invoke(app, [*words, "--model", str(model), *LOOSE])
    assert outcome.exit_code == 0, outcome.output
    job = Path("External/job008")
    assert (job / "RELION_JOB_EXIT_SUCCESS").exists()
    index = starfile.read(job / "import_index.star")
    assert index.to_numpy().tolist() == [
        ["TS_02", "External/job008/second_Vol_particles_relion5.star"],
        ["TS_01", "External/job008/first_Vol_particles_relion5.star"],
    ]
    joint = starfile.read(job / "particles_relion5.star")
    assert [*joint.rlnTomoName] == ["TS_02"] * 5 + ["TS_01"] * 5
    plain = starfile.read(job / "first_Vol_particles.star")
    assert [*plain.rlnTomoName] == ["TS_01"] * 5
    # Angstrom from pixel N / 2 - 1 of the unbinned tomogram, whose pixels are 4 times smaller.
    for axis, size in (("X", 204), ("Y", 184), ("Z", 68)):
        expected = (plain[f"rlnCoordinate{axis}"] * 4 - (size / 2 - 1)) * 2.5
        found = joint[f"rlnCenteredCoordinate{axis}Angst"][5:]
        np.testing.assert_allclose(found, expected, atol=0.002)
    chosen = starfile.read(job / "optimisation_set.star")
    assert (chosen["rlnTomoParticlesFile"] == f"{job}/particles_relion5.star").all()
    record = json.loads((job / "first_Vol_particles.json").read_text())
    assert record["input"]["voxel_size_zyx"] == [10.0, 10.0, 10.0]


def test_the_name_in_relion_is_a_part_of_the_file_name(model: Path, relion_project: Path) -> None:
    Path(LIST).write_text(TOMOGRAMS.replace("TS_02", "second").replace("TS_01", "third"))
    words = ["pick", "rec", "-m", str(model), "-o", "out", "--relion", "--tomograms-star", LIST, *LOOSE]
    words += ["--pixel-size", "10"]
    for rule, name in (("*_Vol", "first is not in the tomograms.star"), ("rec_*", "does not fit first_Vol")):
        for dry in ([], ["--dry-run"]):
            outcome = RUNNER.invoke(app, [*words, "--tomogram-name", rule, *dry, "--overwrite"])
            assert outcome.exit_code == 1
            assert name in " ".join(outcome.output.split())
    assert [*starfile.read(Path("out/particles_relion5.star")).rlnTomoName] == ["second"] * 5
    outcome = RUNNER.invoke(app, [*words, "--tomogram-name", "Vol"])
    assert "write one *" in str(outcome.exception)
