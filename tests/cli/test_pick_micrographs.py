"""`cryoseg pick` on micrographs from the command line, with a stand-in for the network."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import tifffile
import torch
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.common import Precision
from cryoseg.errors import CryosegError
from cryoseg.io.picks.picks import read_picks
from cryoseg.methods.model_file import write_model_file
from cryoseg.methods.particles import model as particle_model
from cryoseg.methods.particles.files import ParticleRecipe
from cryoseg.pipelines.pick import micrograph_checks

RUNNER = CliRunner()
DIAMETER = 32.0
YX = np.array([[60.0, 70.0], [64.0, 180.0], [150.0, 120.0], [200.0, 201.0], [200.0, 230.0]])


@dataclass
class StandIn:
    """Finds what is dark at the scale of a particle; speaks the language of `ParticleModel`."""

    recipe: ParticleRecipe = field(
        default_factory=lambda: ParticleRecipe(
            image_size=96,
            particle_pixels=16.0,
            overlap=24,
            score_slope=1.0,
            score_intercept=-1.0,
            score_threshold=0.3,
        )
    )
    name: str = "stand-in"
    hashes: dict[str, str] = field(default_factory=lambda: {"stand-in": "0" * 64})
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Precision = Precision.FLOAT32
    weight_bytes: int = 0
    remarks: tuple[str, ...] = ("prompts: 2 sets of tokens; took the first",)

    def require_prompter(self) -> None: ...

    def tile_logits(self, tiles: np.ndarray, on_done: Callable[[int], None]) -> np.ndarray:
        assert tiles.shape[1:] == (96, 96)
        return np.stack([-4 * (ndimage.gaussian_filter(tile, 1.5) + 1.2) for tile in tiles]).astype(
            np.float32
        )

    def whole_image_logits(self, rgb: np.ndarray) -> np.ndarray:
        assert rgb.dtype == np.uint8
        small = ndimage.zoom(
            rgb[..., 0].astype(np.float32), (256 / rgb.shape[0], 256 / rgb.shape[1]), order=1
        )
        dark = ndimage.gaussian_filter(small, 2) < np.median(small) - 20
        return ndimage.distance_transform_edt(dark).astype(np.float32) - 1


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(particle_model, "load_particle_model", lambda *_, **__: StandIn())


def draw(*, bright: bool = False, offset: float = 120.0) -> np.ndarray:
    y, x = np.indices((256, 280))
    image = np.random.default_rng(4).normal(offset, 8, y.shape)
    for cy, cx in YX:
        inside = np.hypot(y - cy, x - cx) < DIAMETER / 2
        image[inside] += 40 if bright else -40
    return image.astype(np.float32)


def save_mrc(path: Path, data: np.ndarray, pixel_size: float = 2.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with mrcfile.new(path, data) as file:
        file.voxel_size = pixel_size
    return path


def pick(*arguments: object) -> str:
    """Output of a run that must end well; errors come out as exceptions."""
    outcome = RUNNER.invoke(app, ["pick", *map(str, arguments), "-m", "stand-in", "--device", "cpu"])
    if isinstance(outcome.exception, CryosegError):
        raise outcome.exception
    assert outcome.exit_code == 0, outcome.output
    return outcome.output


def failed(*arguments: object) -> str:
    """Output of a run one of whose rows must fail, in one line."""
    outcome = RUNNER.invoke(app, ["pick", *map(str, arguments), "-m", "stand-in", "--device", "cpu"])
    if isinstance(outcome.exception, CryosegError):
        return str(outcome.exception)
    assert outcome.exit_code == 1, outcome.output
    return " ".join(outcome.output.split())


def by_place(points: np.ndarray) -> np.ndarray:
    return points[np.lexsort((points[:, 1].round(), points[:, 0].round(-1)))]


def test_everything_is_written_and_lies_over_the_micrograph(tmp_path: Path) -> None:
    source = save_mrc(tmp_path / "in" / "mic_1.5A.mrc", draw())
    out = tmp_path / "out"
    formats = [word for name in ("star", "box", "cbox", "csv", "cryosparc") for word in ("-f", name)]
    arguments = [source, "-o", out, "--particle-diameter", "80", "--store-logits", *formats]
    said = pick(*arguments)
    base = "mic_1.5A_particles"
    endings = (
        ".star",
        ".box",
        ".cbox",
        ".csv",
        "_cryosparc.star",
        "_mask.mrc",
        "_logits.mrc",
        "_overlay.png",
        ".json",
    )
    assert {path.name for path in out.iterdir()} == {base + ending for ending in endings}
    (found,) = read_picks(out / f"{base}.star").values()
    np.testing.assert_allclose(by_place(found.centers), by_place(YX), atol=2.5)
    assert next(iter(starfile.read(out / f"{base}.star")["rlnMicrographName"])) == source.as_posix()
    assert next(iter(starfile.read(out / f"{base}_cryosparc.star")["rlnMicrographName"])) == source.name
    assert found.scores is not None
    assert (np.diff(found.scores) <= 1e-5).all()
    with mrcfile.open(out / f"{base}_mask.mrc") as mask, mrcfile.open(out / f"{base}_logits.mrc") as logits:
        assert mask.data.squeeze().shape == (256, 280)
        assert mask.data.dtype == np.int8
        assert float(mask.voxel_size.x) == pytest.approx(2.5)
        record = json.loads((out / f"{base}.json").read_text())
        np.testing.assert_array_equal(mask.data > 0, logits.data > record["logit_threshold"])
        y, x = np.indices((256, 280))
        truth = np.min([np.hypot(y - cy, x - cx) for cy, cx in YX], axis=0) < DIAMETER / 2
        dice = 2 * np.sum(truth & (mask.data.squeeze() > 0)) / (truth.sum() + (mask.data > 0).sum())
        assert dice > 0.85
    assert record["picks"] == len(YX)
    # What is printed, what is recorded and what is used are one.
    used, recommended = record["score_threshold"], record["recommended_score_threshold"]
    assert record["settings"]["score_threshold"] in (None, used)
    assert used <= min(found.scores)
    assert recommended == record["model"]["recipe"]["score_threshold"] > 0
    assert f"score threshold {used:g}, on its validation micrographs {recommended:g} was best" in said
    assert record["particle_diameter_px"] == pytest.approx(32.0)
    with Image.open(out / f"{base}_overlay.png") as picture:
        assert picture.size == (280, 256)
    assert "kept" in pick(*arguments)


def test_a_run_has_one_star_also_with_kept_outputs(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_mrc(tmp_path / "in" / f"{name}.mrc", draw())
    arguments = [tmp_path / "in", "-o", tmp_path / "out", "--particle-diameter-px", "32", "--no-save-overlay"]
    pick(*arguments, "--no-store-mask")
    assert not list((tmp_path / "out").glob("*.png")) + list((tmp_path / "out").glob("*mask*"))
    table = starfile.read(tmp_path / "out" / "particles.star")
    assert table["rlnMicrographName"].nunique() == 2
    assert len(table) == 2 * len(YX)
    (tmp_path / "out" / "b_particles.json").unlink()
    pick(*arguments, "--no-store-mask")
    assert len(starfile.read(tmp_path / "out" / "particles.star")) == 2 * len(YX)


@pytest.mark.parametrize("kind", ["rgb.png", "grey.jpg", "deep.tif"])
def test_pictures_and_16_bit_tiff_need_no_pixel_size_with_a_diameter_in_pixels(
    tmp_path: Path, kind: str
) -> None:
    image = np.clip(draw(), 0, 255).astype(np.uint8)
    path = tmp_path / kind
    if kind == "rgb.png":
        Image.fromarray(image).convert("RGB").save(path)
    elif kind == "grey.jpg":
        Image.fromarray(image).save(path, quality=95)
    else:
        tifffile.imwrite(path, image.astype(np.uint16) * 200 + 1000)
    output = pick(path, "-o", tmp_path / "out", "--particle-diameter-px", "32")
    (found,) = read_picks(next((tmp_path / "out").glob("*_particles.star"))).values()
    assert len(found) == len(YX)
    assert ("RELION and EMAN reverse it" in " ".join(output.split())) is (kind == "deep.tif")


def test_bright_particles_hot_pixels_and_large_offsets(tmp_path: Path) -> None:
    image = draw(bright=True, offset=6800)
    image[5, 7] = 1e6
    source = save_mrc(tmp_path / "a.mrc", image)
    arguments = [source, "-o", tmp_path / "out", "--particle-diameter-px", "32"]
    pick(*arguments, "--polarity", "bright", "--clip-outliers", "--low-pass", "20", "--flatten", "4")
    (found,) = read_picks(tmp_path / "out" / "a_particles.star").values()
    assert len(found) == len(YX)
    assert "--polarity bright" in pick(*arguments, "--overwrite")


def test_limits(tmp_path: Path) -> None:
    source = save_mrc(tmp_path / "a.mrc", draw())
    arguments = [source, "-o", tmp_path / "out", "--particle-diameter", "80", "--overwrite", "-v"]
    assert "--max-picks dropped 3" in pick(*arguments, "--max-picks", "2")
    # 65 pixels of 2.5 A: two of the five lie nearer to a side.
    output = pick(*arguments, "--border", "162.5")
    (found,) = read_picks(tmp_path / "out" / "a_particles.star").values()
    assert (found.centers >= 64).all()
    assert "--border dropped" in output
    # The closest two are 29 pixels apart.
    pick(*arguments, "--min-distance", "80")
    (found,) = read_picks(tmp_path / "out" / "a_particles.star").values()
    assert len(found) == 4
    output = pick(*arguments, "--score-threshold", "1")
    assert "no particle above the thresholds" in " ".join(output.split())
    assert "stand-in: prompts: 2 sets of tokens; took the first." in " ".join(output.split())
    output = pick(*arguments, "--border", "1000")
    assert "no particle left: --border dropped 5" in " ".join(output.split())
    assert (tmp_path / "out" / "a_particles.star").exists()


def test_a_small_particle_is_said_to_take_long(tmp_path: Path) -> None:
    source = save_mrc(tmp_path / "a.mrc", draw())
    output = " ".join(pick(source, "-o", tmp_path / "out", "--particle-diameter-px", "6").split())
    assert "the image is enlarged to 747 x 683, which takes long and adds no detail" in output


def test_the_whole_image_goes_in_squeezed(tmp_path: Path) -> None:
    source = tmp_path / "a.png"
    Image.fromarray(np.clip(draw(), 0, 255).astype(np.uint8)).save(source)
    pick(source, "-o", tmp_path / "out", "--particle-diameter-px", "32", "--view", "whole")
    (found,) = read_picks(tmp_path / "out" / "a_particles.star").values()
    np.testing.assert_allclose(by_place(found.centers), by_place(YX), atol=3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "--particle-diameter in angstrom"),
        (["--particle-diameter", "80", "--particle-diameter-px", "32"], "not both"),
        (["--particle-diameter", "4000"], "1600 pixels wide (--particle-diameter 4000 A at 2.5 A per pixel)"),
        (["--particle-diameter", "80", "--pixel-size", "0.1"], "800 pixels wide"),
        (["--particle-diameter", "80", "--pixel-size", "250"], "too small to be seen"),
        (["--particle-diameter-px", "5.1"], "enlarged to 878 x 803; that needs 0.0 GiB of memory"),
        (["--particle-diameter-px", "32", "-f", "mod"], "--format mod: is for tomograms"),
        (["--particle-diameter-px", "32", "--filaments"], "--filaments: is for tomograms"),
    ],
)
def test_impossible_requests_are_refused_in_a_sentence(
    tmp_path: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(micrograph_checks, "available_memory", lambda: 25 * 2**20)
    source = save_mrc(tmp_path / "a.mrc", draw())
    assert words in failed(source, "-o", tmp_path / "out", *arguments)
    assert not list(tmp_path.glob("out/*particles*"))


def test_files_that_cannot_be_picked_stop_nothing(tmp_path: Path) -> None:
    good = save_mrc(tmp_path / "good.mrc", draw())
    constant = save_mrc(tmp_path / "constant.mrc", np.full((128, 128), 7, np.float32))
    unscaled = save_mrc(tmp_path / "unscaled.mrc", draw(), 0.0)
    tomogram = save_mrc(tmp_path / "tomogram.mrc", np.zeros((4, 64, 64), np.float32))
    (tmp_path / "empty.png").write_bytes(b"")
    files = [good, constant, unscaled, tomogram, tmp_path / "empty.png", tmp_path / "none.mrc"]
    output = failed(*files, "-o", tmp_path / "out", "--particle-diameter", "80")
    for words in (
        "every pixel has the value 7",
        "the file gives no pixel size",
        "holds 4 images",
        "0 bytes",
        "no such file",
    ):
        assert words in output
    assert (tmp_path / "out" / "good_particles.star").exists()


def test_models_for_tomograms_refuse_micrographs_and_their_options(tmp_path: Path) -> None:
    model = tmp_path / "other.safetensors"
    write_model_file(model, {"a": torch.zeros(1)}, {"method": "cet-pick"})
    for option in (["--particle-diameter", "80"], ["-f", "box"]):
        outcome = RUNNER.invoke(app, ["pick", "a.png", "-m", str(model), *option])
        assert isinstance(outcome.exception, CryosegError)
        assert "is for micrographs" in str(outcome.exception)


def test_micrographs_that_relion_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    save_mrc(Path("MotionCorr/job002/raw/b 1.mrc"), draw(), pixel_size=1.0)
    save_mrc(Path("MotionCorr/job002/raw/a.mrc"), draw(), pixel_size=1.0)
    optics = "data_optics\nloop_\n_rlnOpticsGroup #1\n_rlnMicrographPixelSize #2\n1 2.5\n2 2.0\n"
    names = "data_micrographs\nloop_\n_rlnMicrographName #1\n_rlnOpticsGroup #2\n"
    rows = (
        '"MotionCorr/job002/raw/b 1.mrc" 2\nMotionCorr/job002/raw/a.mrc 1\nMotionCorr/job002/raw/gone.mrc 1\n'
    )
    Path("CtfFind/job003").mkdir(parents=True)
    Path("CtfFind/job003/mics.star").write_text((optics + names + rows).replace("\n", "\r\n"), newline="")
    options = ["--particle-diameter", "80", "-m", "stand-in", "--device", "cpu", "--no-store-mask"]
    words = ["relion", "pick", "--in_mics", "CtfFind/job003/mics.star", "--o", "External/job004/", "--j", "1"]
    outcome = RUNNER.invoke(app, [*words, *options])
    assert outcome.exit_code == 1
    assert "gone.mrc" in outcome.output
    assert Path("External/job004/RELION_JOB_EXIT_FAILURE").exists()
    index = starfile.read("External/job004/autopick.star")
    assert index.to_numpy().tolist() == [
        [f"MotionCorr/job002/raw/{name}.mrc", f"External/job004/raw/{name}_autopick.star"]
        for name in ("b 1", "a")
    ]
    found = starfile.read("External/job004/raw/a_autopick.star")
    assert len(found) == len(YX)
    assert (found.rlnCoordinateX == found.rlnCoordinateX.round()).all()
    sizes = {}
    for name in ("b 1", "a"):
        record = json.loads(Path(f"External/job004/{name}_particles.json").read_text())
        sizes[name] = (record["settings"]["pixel_size"], record["options"]["pixel-size"])
        again = RUNNER.invoke(app, ["rerun", f"External/job004/{name}_particles.json", "-o", "again"])
        assert again.exit_code == 0, again.output
    assert sizes == {"b 1": (2.0, 2.0), "a": (2.5, 2.5)}


def test_relion_counts_the_rows_of_a_tiff_file_from_the_last_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_mrc(Path("in/a.mrc"), draw())
    tifffile.imwrite("in/b.tif", draw())
    pick("in", "-o", "out", "--relion", "--particle-diameter-px", DIAMETER)
    mrc, tif = (starfile.read(f"out/in/{name}_autopick.star") for name in "ab")
    assert [*tif.rlnCoordinateX] == [*mrc.rlnCoordinateX]
    assert [*tif.rlnCoordinateY] == [*(255 - mrc.rlnCoordinateY)]
    assert [*starfile.read("out/autopick.star").rlnMicrographName] == ["in/a.mrc", "in/b.tif"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--o", "job"], "give one of them, not 0"),
        (["--o", "job", "--in_mics", "a.star", "--in_3dref", "b.mrc"], "give one of them, not 2"),
        (["--o", "job", "--in_mics", "a.star", "--in_coords", "c.star"], "--in_coords: is not used"),
        (["--o", "job", "--in_mics", "gone.star"], "gone.star: cannot be read"),
        (["--o", "job", "--in_3dref", "a.mrc", "--cluster", "slurm"], "--cluster: RELION submits"),
    ],
)
def test_jobs_of_relion_that_cannot_start(
    words: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    outcome = RUNNER.invoke(app, ["relion", "pick", *words])
    assert message in str(outcome.exception)
    assert Path("job/RELION_JOB_EXIT_FAILURE").exists()
