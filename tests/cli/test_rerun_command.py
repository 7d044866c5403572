"""`cryoseg rerun`: the same outputs again, or a reason why not."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.common import Precision
from cryoseg.errors import CryosegError
from cryoseg.methods.particles import model as particle_model
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.pipelines.segment import image as segment_image

RUNNER = CliRunner()


def run(*arguments: object) -> tuple[int, str]:
    """Exit status and text of a command, in one line."""
    outcome = RUNNER.invoke(app, list(map(str, arguments)))
    if isinstance(outcome.exception, CryosegError):
        return 1, str(outcome.exception)
    assert outcome.exception is None or isinstance(outcome.exception, SystemExit), outcome.exception
    return outcome.exit_code, " ".join(outcome.output.split())


def edit(record: Path, change: Any) -> None:
    values = json.loads(record.read_text())
    change(values)
    record.write_text(json.dumps(values))


def rows(path: Path) -> list[str]:
    """Lines of a coordinate file without the comment that tells the time."""
    return [line for line in path.read_text().splitlines() if not line.startswith("#")]


def same_files(one: Path, two: Path) -> None:
    """Two folders hold files of the same names and, apart from records and dates, the same bytes."""
    names = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(two) for path in two.rglob("*") if path.is_file())
    for name in names:
        if name.suffix == ".star":
            assert rows(one / name) == rows(two / name), name
        elif name.suffix != ".json":
            assert (one / name).read_bytes() == (two / name).read_bytes(), name


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a tomogram and a run over it, with options that are no defaults."""
    folder = tmp_path_factory.mktemp("first")
    data = np.random.default_rng(0).normal(0, 1, (6, 64, 64)).astype(np.float32)
    data[:, 28:34] -= 4
    with mrcfile.new(folder / "ts.mrc", data) as file:
        file.voxel_size = 12.0
    arguments = ["--model", "membrane-tiny", "--logit-threshold", "-1.5", "--step", "thin-noise"]
    arguments += ["--post-process-min-slices", "2", "--store-logits", "--pixel-size", "11", "--device", "cpu"]
    status, text = run("segment", folder / "ts.mrc", *arguments, "-o", folder / "out")
    assert status == 0, text
    return folder


@pytest.fixture
def copy(first: Path, tmp_path: Path) -> Path:
    """A record beside a copy of its input; there is none where the record says."""
    shutil.copy(first / "ts.mrc", tmp_path / "ts.mrc")
    shutil.copy(first / "out" / "ts_membrane.json", tmp_path / "ts_membrane.json")
    edit(tmp_path / "ts_membrane.json", lambda record: record["options"].update(inputs=["/moved/ts.mrc"]))
    return tmp_path / "ts_membrane.json"


def test_the_same_bytes_from_the_recorded_options(first: Path, tmp_path: Path) -> None:
    record = first / "out" / "ts_membrane.json"
    status, text = run("rerun", record, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 0, text
    assert "% marked, as before" in text
    same_files(first / "out", tmp_path / "again")
    old, new = (json.loads(path.read_text()) for path in (record, tmp_path / "again" / record.name))
    assert old["settings"] == new["settings"]
    assert old["settings"]["min_slices"] == 2
    assert old["model"]["sha256"] == new["model"]["sha256"]
    assert old["options"] == new["options"]
    assert old["options"]["inputs"] == [str((first / "ts.mrc").resolve())]
    # Defaults are recorded, and what concerns the batch and not this input is not.
    assert {"preset": "v1", "precision": "float32", "store-logits": True}.items() <= old["options"].items()
    assert not {"output-dir", "device", "overwrite", "shard", "quiet"} & set(old["options"])


def test_the_options_are_those_that_config_reads(first: Path, tmp_path: Path) -> None:
    options = json.loads((first / "out" / "ts_membrane.json").read_text())["options"]
    lines = [f"{name} = {json.dumps(value)}" for name, value in options.items()]
    (tmp_path / "run.toml").write_text("\n".join(lines))
    status, text = run("segment", "--config", tmp_path / "run.toml", "-o", tmp_path / "again")
    assert status == 0, text
    same_files(first / "out", tmp_path / "again")


def test_finished_outputs_in_the_record_s_folder_are_kept(first: Path) -> None:
    status, text = run("rerun", first / "out" / "ts_membrane.json", "--device", "cpu")
    assert status == 0, text
    assert "skipped" in text


def test_dry_run_checks_and_writes_nothing(copy: Path, tmp_path: Path) -> None:
    status, text = run("rerun", copy, "--dry-run", "-o", tmp_path / "none", "--device", "cpu")
    assert status == 0, text
    assert "would run on" in text
    assert not (tmp_path / "none").exists()


def test_another_input_is_refused_unless_asked_for(copy: Path, tmp_path: Path) -> None:
    with mrcfile.open(copy.with_name("ts.mrc"), "r+") as file:
        file.data[0, 0, 0] += 1
    status, text = run("rerun", copy, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 1
    assert "cannot be repeated as it was, with another input (ts.mrc had other content)" in text
    assert "--anyway" in text
    assert not list((tmp_path / "again").glob("*"))
    status, text = run("rerun", copy, "-o", tmp_path / "again", "--device", "cpu", "--anyway")
    assert status == 0, text
    assert "Warning: ts_membrane.json: is repeated with another input" in text
    assert (tmp_path / "again" / "ts_membrane.json").exists()


def test_a_missing_input_is_refused_and_may_lie_elsewhere(copy: Path, tmp_path: Path) -> None:
    moved = copy.with_name("ts.mrc").rename(tmp_path / "moved.mrc")
    status, text = run("rerun", copy, "--dry-run", "--device", "cpu")
    assert status == 1
    assert "the input of this run was not found" in text
    assert "--input FILE" in text
    options = ["--input", moved, "-o", tmp_path / "again", "--device", "cpu"]
    status, text = run("rerun", copy, *options)
    assert status == 0, text
    assert (tmp_path / "again" / "ts_membrane_mask.mrc").exists()
    status, text = run("rerun", copy, "--dry-run", "--input", tmp_path / "nowhere.mrc")
    assert status == 1
    assert "nowhere.mrc: no such file" in text


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda record: record["model"].update(sha256={"a.safetensors": "0" * 64}), "model (other weights)"),
        (lambda record: record["model"].update(sha256={}), "model (other weights)"),
        (lambda record: record["settings"].update(min_slices=3), "min_slices (3, now 2)"),
        (lambda record: record["input"].pop("sha256"), "input (its hash is not recorded)"),
        (lambda record: record["options"].update(magic=1), "has no option magic"),
        (lambda record: record["options"].update(preset="v9"), "preset = 'v9'"),
        (
            lambda record: record["options"].update(model="/no/such.safetensors"),
            "the model of this run was not found",
        ),
        (lambda record: record.update(command="invent"), "there is no command `cryoseg invent`"),
        (lambda record: record.pop("options"), "or `cryoseg rerun` of version 0.1.0"),
        (lambda record: record.pop("command"), "is not a record of a run"),
    ],
)
def test_what_differs_is_named(change: Any, told: str, copy: Path) -> None:
    edit(copy, change)
    status, text = run("rerun", copy, "--dry-run", "--device", "cpu")
    assert status == 1
    assert told in text


def test_another_version_is_told_and_does_not_stop_it(copy: Path) -> None:
    edit(copy, lambda record: record.update(cryoseg="0.0.9"))
    status, text = run("rerun", copy, "--dry-run", "--device", "cpu", "-o", copy.parent / "none")
    assert status == 0, text
    assert "the record has 0.0.9" in text


def test_pieces_of_a_killed_rerun_are_replaced(first: Path, tmp_path: Path) -> None:
    record = first / "out" / "ts_membrane.json"
    (tmp_path / "again").mkdir()
    shutil.copy(first / "out" / "ts_membrane_logits.mrc", tmp_path / "again" / "ts_membrane_mask.mrc")
    status, text = run("rerun", record, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 0, text
    same_files(first / "out", tmp_path / "again")


def test_a_function_called_from_python_leaves_no_options(first: Path, tmp_path: Path) -> None:
    from cryoseg.config import PostprocessStep
    from cryoseg.config.segment import PostprocessConfig
    from cryoseg.pipelines.segment.postprocess import postprocess_files

    logits = first / "out" / "ts_membrane_logits.mrc"
    postprocess_files([logits], tmp_path, PostprocessConfig(steps=(PostprocessStep.THIN_NOISE,)))
    (record,) = tmp_path.glob("*.json")
    assert "options" not in json.loads(record.read_text())
    status, text = run("rerun", record)
    assert status == 1
    assert "holds no options of `cryoseg postprocess`, since a Python program called" in text


def test_one_bad_record_does_not_stop_the_next(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("[]")
    status, text = run("rerun", tmp_path / "bad.json", copy, "--dry-run", "--device", "cpu")
    assert status == 1
    assert "bad.json: holds no JSON object" in text
    assert "ts_membrane.json: would run on" in text
    assert "would run on" in text


@dataclass
class StandIn:
    """Marks what is dark; speaks the language of `ParticleModel`."""

    recipe: ParticleRecipe = field(
        default_factory=lambda: ParticleRecipe(image_size=96, particle_pixels=16.0, overlap=24)
    )
    name: str = "stand-in"
    hashes: dict[str, str] = field(default_factory=lambda: {"stand-in": "0" * 64})
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = Precision.FLOAT32
    weight_bytes: int = 0
    remarks: tuple[str, ...] = ()

    def require_prompter(self) -> None: ...

    def tile_logits(self, tiles: np.ndarray, on_done: Callable[[int], None]) -> np.ndarray:
        return np.asarray(-4 * (tiles + 1.2), np.float32)


def test_picks_of_a_micrograph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(particle_model, "load_particle_model", lambda *_, **__: StandIn())
    y, x = np.indices((128, 128))
    image = np.random.default_rng(4).normal(100, 4, y.shape)
    for cy, cx in ((40, 40), (80, 90)):
        image[np.hypot(y - cy, x - cx) < 16] -= 40
    with mrcfile.new(tmp_path / "m.mrc", image.astype(np.float32)) as file:
        file.voxel_size = 2.5
    arguments = ["-m", "stand-in", "--particle-diameter", "80", "-f", "star", "-f", "box", "--no-preview"]
    status, text = run("pick", tmp_path / "m.mrc", *arguments, "-o", tmp_path / "out", "--device", "cpu")
    assert status == 0, text
    record = tmp_path / "out" / "m_particles.json"
    status, text = run("rerun", record, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 0, text
    assert "picks, as before" in text
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in (tmp_path / "again").iterdir()}
    assert {"m_particles.star", "m_particles.box", "m_particles_mask.mrc"} <= names
    for name in ("m_particles.star", "m_particles.box"):
        assert rows(tmp_path / "out" / name) == rows(tmp_path / "again" / name)


def test_names_do_not_depend_on_the_rest_of_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Equal names in two folders, given as relative paths, which the files of coordinates repeat."""
    monkeypatch.setattr(particle_model, "load_particle_model", lambda *_, **__: StandIn())
    monkeypatch.chdir(tmp_path)
    y, x = np.indices((128, 128))
    for place in (40, 70):
        image = np.random.default_rng(place).normal(100, 4, y.shape)
        image[np.hypot(y - place, x - 50) < 16] -= 40
        Path(f"grid{place}").mkdir()
        with mrcfile.new(f"grid{place}/m.mrc", image.astype(np.float32)) as file:
            file.voxel_size = 2.5
    options = ["-m", "stand-in", "--particle-diameter", "80", "--no-preview", "--device", "cpu"]
    assert run("pick", "grid40", "grid70", *options, "-o", "out")[0] == 0
    Path("out/particles.star").unlink()
    records = sorted(Path("out").glob("*.json"))
    assert [path.name for path in records] == ["grid40_m_particles.json", "grid70_m_particles.json"]
    assert "grid40/m.mrc" in Path("out/grid40_m_particles.star").read_text()
    status, text = run("rerun", *records, "-o", "again", "--device", "cpu")
    assert status == 0, text
    assert "grid40_m_particles.json: 1 picks, as before. " in text
    same_files(Path("out"), Path("again"))
    status, text = run("rerun", *records, "--device", "cpu")
    assert (status, text.count("skipped")) == (0, 2)
    assert len(list(Path("out").iterdir())) == len(list(Path("again").iterdir()))


def test_picks_of_a_tomogram_with_mask_and_relion_s_frame(tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(0, 1, (17, 46, 51)).astype(np.float32)
    with mrcfile.new(tmp_path / "ts.mrc", data) as file:
        file.voxel_size = 10.0
    mask = np.ones(data.shape, np.int8)
    mask[:, :20] = 0
    with mrcfile.new(tmp_path / "mask.mrc", mask) as file:
        file.voxel_size = 10.0
    (tmp_path / "labels.csv").write_text("x,y,z\n15,12,7\n34,30,9\n12,33,6\n37,14,8\n")
    train = [
        "train",
        "cet-pick",
        "-t",
        tmp_path / "ts.mrc",
        "-p",
        tmp_path / "labels.csv",
        "-o",
        tmp_path / "r",
    ]
    train += [
        "--particle-diameter",
        "50",
        "--steps",
        "2",
        "--batch",
        "1",
        "--crop",
        "2x32x32",
        "--device",
        "cpu",
    ]
    assert run(*train, "--no-pictures", "--quiet")[0] == 0
    pick = ["pick", tmp_path / "ts.mrc", "-m", tmp_path / "r" / "cet_pick.safetensors", "--device", "cpu"]
    pick += [
        "--score-threshold",
        "0",
        "--max-picks",
        "5",
        "--mask",
        tmp_path / "mask.mrc",
        "--pixel-size",
        "10",
    ]
    pick += [
        "-f",
        "star",
        "-f",
        "star-relion5",
        "--unbinned-pixel-size",
        "2.5",
        "--unbinned-size",
        "204x184x68",
    ]
    status, text = run(*pick, "--no-preview", "-o", tmp_path / "out")
    assert status == 0, text
    record = tmp_path / "out" / "ts_particles.json"
    status, text = run("rerun", record, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 0, text
    assert "picks, as before" in text
    for path in (tmp_path / "out").glob("*.star"):
        assert rows(path) == rows(tmp_path / "again" / path.name), path.name
    model = ["--model", tmp_path / "r" / "cet_pick.safetensors", "--model-output", tmp_path / "first"]
    score = ["evaluate", "picks", tmp_path / "ts.mrc", tmp_path / "labels.csv", "--radius", "4px", *model]
    run(*score, "--device", "cpu", "--quiet")
    status, text = run("rerun", tmp_path / "first" / "ts_particles.json", "-o", tmp_path / "second")
    assert status == 0, text
    same_files(tmp_path / "first", tmp_path / "second")
    (tmp_path / "mask.mrc").unlink()
    status, text = run("rerun", record, "-o", tmp_path / "third", "--device", "cpu")
    assert status == 1
    assert "mask.mrc" in text


@pytest.fixture
def logits(tmp_path: Path) -> Path:
    values = np.random.default_rng(3).normal(-3, 1, (6, 20, 22)).astype(np.float32)
    values[:, 8:12] += 5
    with mrcfile.new(tmp_path / "ts_membrane_logits.mrc", values) as file:
        file.voxel_size = 10.0
    return tmp_path / "ts_membrane_logits.mrc"


def test_a_filter_of_saved_logits(logits: Path, tmp_path: Path) -> None:
    options = ["--logit-threshold", "-0.2", "--post-process-min-slices", "3"]
    assert run("postprocess", logits, *options, "-o", tmp_path / "out")[0] == 0
    record = tmp_path / "out" / "ts_membrane_post_processed_mask.json"
    status, text = run("rerun", record, "-o", tmp_path / "again")
    assert status == 0, text
    assert "% marked, as before" in text
    same_files(tmp_path / "out", tmp_path / "again")
    status, text = run("rerun", record)
    assert "finished outputs are kept" in text


def test_a_kept_score(logits: Path, tmp_path: Path) -> None:
    truth = (mrcfile.read(logits) > 0.5).astype(np.int8)
    with mrcfile.new(tmp_path / "labels.mrc", truth) as file:
        file.voxel_size = 10.0
    options = ["--logit-threshold", "0", "--metrics", "overlap", "--scores", tmp_path / "scores"]
    assert run("evaluate", "segmentation", logits, tmp_path / "labels.mrc", *options)[0] == 0
    (record,) = (tmp_path / "scores").iterdir()
    status, text = run("rerun", record, "-o", tmp_path / "again")
    assert status == 0, text
    assert "Dice 0." in text
    assert "as before" in text
    same_files(tmp_path / "scores", tmp_path / "again")
    with mrcfile.open(tmp_path / "labels.mrc", "r+") as file:
        file.data[0, 0, 0] = 1
    status, text = run("rerun", record, "-o", tmp_path / "third")
    assert status == 1
    assert "truth (other content)" in text


def test_masks_and_score_of_a_model_that_is_evaluated(first: Path, tmp_path: Path) -> None:
    shutil.copy(first / "out" / "ts_membrane_mask.mrc", tmp_path / "labels.mrc")
    options = ["--model", "membrane-tiny", "--logit-threshold", "-1", "--pixel-size", "11", "--device", "cpu"]
    options += ["--model-output", tmp_path / "masks", "--scores", tmp_path / "scores"]
    status, text = run("evaluate", "segmentation", first / "ts.mrc", tmp_path / "labels.mrc", *options)
    assert status == 0, text
    status, text = run("rerun", tmp_path / "masks" / "ts_membrane.json", "-o", tmp_path / "again")
    assert status == 0, text
    same_files(tmp_path / "masks", tmp_path / "again")
    (record,) = (tmp_path / "scores").iterdir()
    status, text = run("rerun", record, "-o", tmp_path / "rescored")
    assert status == 0, text
    assert "as before" in text


@pytest.mark.parametrize(
    ("words", "record", "told"),
    [
        ("simulate tomograms --shape 16x32x32 -n 2", "sim_0001.json", "% membrane, as before"),
        (
            "simulate micrographs --shape 64x64 -n 2 --particle-diameter-px 10:14 --workers 2",
            "sim_0001.json",
            "particles, as before",
        ),
        (
            "simulate phantoms --shape 16x48x48 -n 2 --prefix a_b --labels 2 --particles 5",
            "a_b_0001.json",
            "particles, as before",
        ),
    ],
)
def test_a_simulation(words: str, record: str, told: str, tmp_path: Path) -> None:
    status, text = run(*words.split(), "-o", tmp_path / "out", "--seed", "5")
    assert status == 0, text
    whole = {path.relative_to(tmp_path / "out") for path in (tmp_path / "out").rglob("*") if path.is_file()}
    status, text = run("rerun", tmp_path / "out" / record, "-o", tmp_path / "again")
    assert status == 0, text
    assert told in text
    for path in whole:
        if "0001" not in path.name:
            (tmp_path / "out" / path).unlink()
    same_files(tmp_path / "out", tmp_path / "again")
    status, text = run("rerun", tmp_path / "out" / record)
    assert status == 0, text
    assert "skipped" in text


def test_masks_of_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load(*arguments: Any, **options: Any) -> StandIn:
        asked.append((*map(str, arguments), options["base"]))
        return StandIn()

    monkeypatch.setattr(particle_model, "load_particle_model", load)
    monkeypatch.setattr(
        segment_image, "segment_picture", lambda rgb, *_, **__: rgb[..., 0].astype(np.float32) - 100
    )
    gray = np.random.default_rng(0).integers(0, 200, (24, 30, 3)).astype(np.uint8)
    Image.fromarray(gray).save(tmp_path / "p.png")
    options = ["-m", "stand-in", "--base", tmp_path / "sam.pth", "--overlay", "--device", "cpu"]
    options += ["--logit-threshold", "12", "--morphology", "open", "--kernel", "2", "--no-prepare"]
    assert run("segment-image", tmp_path / "p.png", *options, "-o", tmp_path / "out")[0] == 0
    record = tmp_path / "out" / "p_mask.json"
    status, text = run("rerun", record, "-o", tmp_path / "again", "--device", "cpu")
    assert status == 0, text
    assert "% marked, as before" in text
    same_files(tmp_path / "out", tmp_path / "again")
    assert asked == [("stand-in", "cpu", tmp_path / "sam.pth")] * 2
    old, new = (
        json.loads((folder / "p_mask.json").read_text()) for folder in (record.parent, tmp_path / "again")
    )
    assert old["smoothing"] == new["smoothing"] == {"kernel": 2, "morphology": "open"}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            {"command": "segment a.mrc", "rows": []},
            "is the table of a batch. Run `cryoseg segment a.mrc` again",
        ),
        (
            {"command": "train cet-pick", "model": {}, "options": {}},
            "Repeat it with `cryoseg train` and `--config`",
        ),
        ({"config": {}, "training": [], "version": "1"}, "is the record of a training"),
        ({"command": "simulate lesions", "software": "cryoseg 0.1.0"}, "`cryoseg rerun` of version 0.1.0"),
        (
            {"command": "evaluate picks a b -o c.json", "files": [], "options": {"pred": "a"}},
            "is the table of an evaluation. Run `cryoseg evaluate picks a b -o c.json` again",
        ),
        ({"name": "x", "files": []}, "Run `cryoseg data fetch` again"),
    ],
)
def test_what_is_no_run_to_repeat_says_what_to_do(content: Any, told: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(json.dumps(content))
    status, text = run("rerun", tmp_path / "r.json")
    assert status == 1
    assert told in text
