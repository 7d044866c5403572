"""The device of these tests, the command line, and small data and models that train in seconds."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.config.prompt_sam import InputScale, PromptConfig
from cryoseg.io.images.volumes import write_logits, write_mask
from cryoseg.methods.particles.files import ParticleRecipe, save_particle_model
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import SamGeometry
from cryoseg.types import Geometry

NANO = Path(__file__).parents[1] / "conformance" / "sam2_nano.yaml"
GEOMETRY = Geometry(voxel_size=(10.0, 10.0, 10.0))
DIAMETER = 24  # of the particles in the micrographs, in pixels

Run = Callable[..., str]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """The CUDA device, or the one that CRYOSEG_TEST_DEVICE names, which rehearses the tests without a GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    name = os.environ.get("CRYOSEG_TEST_DEVICE")
    if not name:
        pytest.skip("no CUDA device; CRYOSEG_TEST_DEVICE=cpu rehearses the test on the CPU")
    return torch.device(name)


@pytest.fixture(scope="session")
def run() -> Run:
    """Function that calls `cryoseg` with arguments, requires success and returns what was printed."""

    def call(*arguments: object) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.output

    return call


@pytest.fixture(scope="session")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two tomograms with a dark ring, and their labels."""
    folder = tmp_path_factory.mktemp("pairs")
    _, y, x = np.mgrid[:6, :64, :64]
    ring = np.abs(np.hypot(y - 32, x - 32) - 18) < 2
    for seed in range(2):
        noise = np.random.default_rng(seed).normal(size=ring.shape)
        values = (0.5 * noise - 3 * ring).astype(np.float32)
        write_logits(folder / f"ring{seed}_tomogram.mrc", values, GEOMETRY, label="test")
        write_mask(folder / f"ring{seed}_labels.mrc", ring, GEOMETRY, label="test")
    return folder


@pytest.fixture(scope="session")
def micrographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of three micrographs with dark discs, and their labels, in the layout of CryoPPP."""
    folder = tmp_path_factory.mktemp("micrographs")
    y, x = np.mgrid[:192, :192]
    discs = np.hypot((y % 64) - 32, (x % 64) - 32) < DIAMETER / 2
    for sub in ("images", "labels"):
        (folder / sub).mkdir()
    for seed, name in enumerate("abc"):
        noise = np.random.default_rng(seed).normal(0, 20, discs.shape)
        grey = np.clip(150 + noise - 60 * discs, 0, 255).astype(np.uint8)
        Image.fromarray(grey).save(folder / "images" / f"{name}.png")
        Image.fromarray(discs).save(folder / "labels" / f"{name}.png")
    return folder


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tomogram, `balls.mrc`, with dark balls of 80 A, and the centers of half of them."""
    folder = tmp_path_factory.mktemp("balls")
    centers = np.array([(12, y, x) for y in range(12, 96, 24) for x in range(12, 96, 24)], float)
    grid = np.indices((24, 96, 96)).astype(np.float32)
    values = np.random.default_rng(0).normal(0, 1, grid.shape[1:]).astype(np.float32)
    for center in centers:
        distance = sum((g - c) ** 2 for g, c in zip(grid, center, strict=True))
        values -= 6 * np.exp(-distance / 2 / 2.5**2).astype(np.float32)
    write_logits(folder / "balls.mrc", values, GEOMETRY, label="test")
    rows = "".join(f"{x:g},{y:g},{z:g}\n" for z, y, x in centers[::2])
    (folder / "balls.csv").write_text("x,y,z\n" + rows)
    return folder


@pytest.fixture(scope="session")
def base(small_sam: SamGeometry, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model file of a small SAM with random weights."""
    torch.manual_seed(0)
    network = PromptSam(small_sam, PromptConfig(input_scale=InputScale.GREY, grid_side=4))
    path = tmp_path_factory.mktemp("base") / "small_sam.safetensors"
    recipe = ParticleRecipe(image_size=64, particle_pixels=12.0, overlap=8)
    save_particle_model(path, network, recipe, base=None)
    return path


@pytest.fixture(scope="session")
def trainings(pairs: Path, micrographs: Path, balls: Path, base: Path) -> dict[str, tuple[object, ...]]:
    """Arguments of `cryoseg train` for every method, without folder and device."""
    clips = ("--clip-length", 3, "--batch", 1)
    tiles = ("--base", base, "--batch", 2, "--standalone")
    return {
        "membrane": ("membrane", pairs, "--stage", 1, "--crop-size", 64, *clips),
        "etsam": ("etsam-stage1", pairs, "--sam2-config", NANO, *clips, "--precision", "float32"),
        "prompted-sam": ("encoder-prompt", micrographs, *tiles),
        "promise": ("promise", micrographs, "--points", 4, *tiles),
        "cet-pick": (
            *("cet-pick", "--tomograms", balls / "balls.mrc", "--picks", balls / "balls.csv"),
            *("--particle-diameter", 80, "--crop", "6x48x48", "--batch", 2, "--checks", 2, "--no-pictures"),
        ),
    }


@pytest.fixture(scope="session")
def train(run: Run, trainings: dict[str, tuple[object, ...]], device: torch.device) -> Callable[..., Path]:
    """Function that trains a few steps of a method in a folder on a device and returns the folder."""
    steps = 4 if device.type == "cpu" else 10

    def call(method: str, folder: Path, device: object, *options: object) -> Path:
        every = () if method == "cet-pick" else ("--validate-every", steps // 2)
        common = ("-o", folder, "--steps", steps, "--device", device, "--quiet")
        run("train", *trainings[method], *common, *every, *options)
        return folder

    return call


@pytest.fixture(scope="session")
def trained_on_cpu(
    train: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Path]:
    """Function that returns the folder of a method's training on the CPU, which takes place once."""
    done: dict[str, Path] = {}

    def folder(method: str) -> Path:
        if method not in done:
            done[method] = train(method, tmp_path_factory.mktemp(method) / "run", "cpu")
        return done[method]

    return folder
