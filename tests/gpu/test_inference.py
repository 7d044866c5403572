"""Inference of every method on the device gives the results of the CPU."""

from __future__ import annotations

import importlib.util
import json
import operator
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import mrcfile
import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from cryoseg.io.images.volumes import write_logits
from cryoseg.io.picks.picks import read_picks
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.device import select_gpus
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import REPLAYED
from cryoseg.types import Geometry

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

Run = Callable[..., str]
SAMPLES = Path(__file__).parents[2] / "src" / "cryoseg" / "samples"
CONFORMANCE = Path(__file__).parents[1] / "conformance"
# The decoders of the vectors are random and amplify every rounding: bfloat16 reaches 0.935 on a CPU.
BFLOAT16_DICE = 0.9
NANO = CONFORMANCE / "sam2_nano.yaml"
VECTORS = sorted(CONFORMANCE.glob("etsam_*.npz"))


@pytest.fixture
def full_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let convolutions on CUDA compute in float32, for which PyTorch takes TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def tomogram(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some slices of the simulated tomogram, of fewer pixels for a CPU."""
    path = tmp_path_factory.mktemp("tomogram") / "slices.mrc"
    values = mrcfile.read(SAMPLES / "sample_0000_tomogram.mrc")[16:20, :96, :96]
    write_logits(path, values.astype(np.float32), Geometry(voxel_size=(12.0,) * 3), label="test")
    return path


@pytest.fixture(scope="module")
def micrograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the simulated micrograph."""
    path = tmp_path_factory.mktemp("micrograph") / "part.mrc"
    values = mrcfile.read(SAMPLES / "particles_0002_micrograph.mrc").squeeze()[256:640, 256:640]
    with mrcfile.new(path, values) as file:
        file.voxel_size = 3.75
    return path


@pytest.fixture(scope="module")
def conformance() -> ModuleType:
    """Module that reads the recorded outputs of ETSAM, with the limits that README.md there explains."""
    spec = importlib.util.spec_from_file_location("conformance", CONFORMANCE / "test_conformance.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(folder: Path, ending: str) -> np.ndarray:
    (path,) = folder.glob(f"*_{ending}.mrc")
    return mrcfile.read(path)


def assert_same_picks(found: Path, expected: Path) -> None:
    """Every pick of one folder is within half a pixel of one of the other."""
    (one,), (other,) = (
        [picks.centers for path in folder.glob("*.csv") for picks in read_picks(path).values()]
        for folder in (found, expected)
    )
    assert len(one) == len(other) > 0
    distances = cdist(one, other)
    assert max(distances.min(axis=0).max(), distances.min(axis=1).max()) <= 0.5


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return float(2 * (one & other).sum() / (one.sum() + other.sum()))


@pytest.mark.usefixtures("full_float32")
def test_membranes(run: Run, tomogram: Path, device: torch.device, tmp_path: Path) -> None:
    common = ("segment", tomogram, "--model", "membrane-tiny", "--store-logits")
    for name in ("cpu", device):
        run(*common, "--precision", "float32", "--device", name, "-o", tmp_path / f"{name}_float32")
    run(*common, "--precision", "bfloat16", "--device", device, "-o", tmp_path / "bfloat16")
    expected = written(tmp_path / "cpu_float32", "logits")
    np.testing.assert_allclose(written(tmp_path / f"{device}_float32", "logits"), expected, atol=1e-3)
    mask, other = (written(tmp_path / name, "membrane_mask") > 0 for name in ("bfloat16", "cpu_float32"))
    assert dice(mask, other) >= 0.999


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("path", VECTORS, ids=lambda path: path.stem)
def test_etsam(
    path: Path, precision: str, conformance: ModuleType, device: torch.device, run: Run, tmp_path: Path
) -> None:
    vector = conformance.read_vector(path)
    choice = conformance.etsam_choice(vector, tmp_path)
    source = tmp_path / "ts.mrc"
    with mrcfile.new(source, vector.arrays["tomogram"]) as file:
        file.voxel_size = vector.meta["voxel_size"]
    preset = conformance.PRESETS[vector.meta["publication_state"]]
    run(
        *("segment", source, "-o", tmp_path / "out", "--preset", preset, *vector.meta["options"]),
        *("--stage1-checkpoint", choice.stage1_checkpoint, "--stage2-checkpoint", choice.stage2_checkpoint),
        *("--sam2-config", choice.sam2_config, "--store-logits"),
        *("--precision", precision, "--device", device),
    )
    mask, recorded = written(tmp_path / "out", "membrane_mask") > 0, vector.arrays["mask"] > 0
    if precision == "float32":
        conformance.assert_logits(written(tmp_path / "out", "logits"), vector.arrays["logits"])
        assert dice(mask, recorded) >= 0.999
    else:
        assert dice(mask, recorded) >= BFLOAT16_DICE


@pytest.mark.usefixtures("full_float32")
@pytest.mark.parametrize("model", ["particle-mixed", "prompted-sam", "promise"])
def test_particles_in_a_micrograph(
    model: str,
    run: Run,
    micrograph: Path,
    device: torch.device,
    trained_on_cpu: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    if model != "particle-mixed":
        (model,) = map(str, trained_on_cpu(model).glob("*.safetensors"))
    common = ("pick", micrograph, "--model", model, "--particle-diameter", 180, "--format", "csv")
    few = ("--store-logits", "--max-picks", 50)
    for name in ("cpu", device):
        run(*common, *few, "--score-threshold", 0.01, "--device", name, "-o", tmp_path / f"on_{name}")
    one, other = (written(tmp_path / f"on_{name}", "logits") for name in (device, "cpu"))
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert_same_picks(tmp_path / f"on_{device}", tmp_path / "on_cpu")


@pytest.mark.usefixtures("full_float32")
def test_particles_in_a_tomogram(
    run: Run, balls: Path, device: torch.device, trained_on_cpu: Callable[[str], Path], tmp_path: Path
) -> None:
    (model,) = trained_on_cpu("cet-pick").glob("*.safetensors")
    common = ("pick", balls / "balls.mrc", "--model", model, "--format", "csv", "--heat-map")
    few = ("--max-picks", 50, "--score-threshold", 0.001)
    for name in ("cpu", device):
        run(*common, *few, "--device", name, "-o", tmp_path / f"on_{name}")
    one, other = (written(tmp_path / f"on_{name}", "heat_map") for name in (device, "cpu"))
    np.testing.assert_allclose(one, other, atol=1e-3)
    assert_same_picks(tmp_path / f"on_{device}", tmp_path / "on_cpu")


def test_the_kernels_of_sam2_are_recorded(device: torch.device) -> None:
    if device.type != "cuda":
        pytest.skip("CUDA graphs exist on CUDA devices only")
    torch.manual_seed(0)
    images = torch.rand(24, 3, 256, 256)
    predictor = build_predictor(NANO).to(device)
    # Random weights find no object, and sam2 then returns one constant instead of logits.
    torch.nn.init.constant_(predictor.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 10.0)
    found = []
    for replays in (False, True):
        if replays:
            replay_on_cuda(predictor, *REPLAYED)
        state = predictor.init_state_from_slices(images, 200, 220)
        predictor.start_without_prompt(state, 0)
        found.append(torch.stack([logits.cpu() for _, logits in predictor.propagate(state)]))
    assert found[0].std() > 0
    torch.testing.assert_close(*found, atol=1e-3, rtol=1e-3)
    for name in REPLAYED:
        function = operator.attrgetter(name)(predictor)
        assert function.graphs
        assert all(function.graphs.values())


def test_a_batch_on_the_first_gpu_and_in_two_processes(
    run: Run, micrograph: Path, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--gpus 0` computes in this process; two names of one device start two worker processes."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for name in ("a.mrc", "b.mrc"):
        shutil.copy(micrograph, inputs / name)
    command = ("pick", inputs, "--particle-diameter", 180, "--format", "csv", "--gpus", 0)
    names = select_gpus("0") if device.type == "cuda" else (str(device),)
    for count in (1, 2):
        monkeypatch.setattr("cryoseg.methods.device.select_gpus", lambda text, count=count: names * count)
        run(*command, "-o", tmp_path / str(count))
        records = [json.loads(path.read_text()) for path in (tmp_path / str(count)).glob("?_*.json")]
        assert len(records) == 2
        assert all(record["device"].startswith(names[0]) for record in records)
