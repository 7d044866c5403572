"""Memory of the device: its peak, and what happens when it does not suffice."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import torch

from cryoseg.methods.prompt_sam.network import TILES_AT_ONCE

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

Run = Callable[..., str]
# What computes a batch; the stand-in for a full device raises on its first call.
COMPUTES = {
    "membrane-tiny": "cryoseg.methods.sam.fine_sam2.FineSam2.track_slice",
    "etsam": "cryoseg.methods.sam.sam2_volume.VolumePredictor.forward_image",
    "particle-mixed": "cryoseg.methods.prompt_sam.network.PromptSam.forward",
    "cet-pick": "cryoseg.methods.cet_pick.inference._symmetric_logits",
}
# Share of the peak of an unlimited run that a limited one may use on CUDA. With half of the batch
# the activations, most of the memory of these runs, fit in.
SHARE = 0.8
LIMITED = ("membrane-tiny", "particle-mixed")
PEAK = 3 * 2**30  # bytes; docs/results/gpu.md


def noise(path: Path, shape: tuple[int, ...]) -> Path:
    values = np.random.default_rng(0).integers(-60, 60, shape).astype(np.int8)
    with mrcfile.new(path, values) as file:
        file.voxel_size = 12.0
    return path


@contextmanager
def first_call_fails(place: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Raise `torch.OutOfMemoryError` at the first call of a function, as a full device does."""
    owner, name = _resolved(place)
    calls = 0

    def failing(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise torch.OutOfMemoryError("no memory left, says the test")
            return original(*given, **named)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, failing(getattr(owner, name)))
        yield
    assert calls > 1


def _resolved(place: str) -> tuple[Any, str]:
    """The module or class of a function, and the name of the function in it."""
    owner, _, name = place.rpartition(".")
    try:
        return importlib.import_module(owner), name
    except ModuleNotFoundError:
        module, _, kind = owner.rpartition(".")
        return getattr(importlib.import_module(module), kind), name


@contextmanager
def limited(device: torch.device, peak: int) -> Iterator[None]:
    """Let this process allocate no more than a part of `peak` bytes on a CUDA device."""
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(SHARE * peak / total)
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)


@pytest.fixture
def commands(
    run: Run, trained_on_cpu: Callable[[str], Path], device: torch.device, tmp_path: Path
) -> Callable[[str, str], np.ndarray]:
    """Function that runs a model on noise into a folder and returns the logits or probabilities."""
    large = device.type == "cuda"
    tomogram = noise(tmp_path / "tomogram.mrc", (6, 928, 960) if large else (2, 96, 96))
    micrograph = noise(tmp_path / "micrograph.mrc", (4096, 4096) if large else (480, 480))

    def call(model: str, name: str) -> np.ndarray:
        folder = tmp_path / name
        if model == "membrane-tiny":
            command: tuple[object, ...] = ("segment", tomogram, "--model", model, "--store-logits")
        elif model == "etsam":
            weights = trained_on_cpu("etsam") / "best.pt"
            nano = Path(__file__).parents[1] / "conformance" / "sam2_nano.yaml"
            command = ("segment", tomogram, "--stage1-checkpoint", weights, "--sam2-config", nano)
            command = (*command, "--stage2-checkpoint", weights, "--store-logits")
        elif model == "particle-mixed":
            command = ("pick", micrograph, "--model", model, "--store-logits")
            command = (*command, "--particle-diameter", 384, "--max-picks", 5)
        else:
            (weights,) = trained_on_cpu(model).glob("*.safetensors")
            command = ("pick", tomogram, "--model", weights, "--max-picks", 5, "--heat-map")
        run(*command, "--device", device, "-o", folder)
        (path,) = [*folder.glob("*_logits.mrc"), *folder.glob("*_heat_map.mrc")]
        return mrcfile.read(path)

    return call


@pytest.mark.parametrize("model", COMPUTES)
def test_a_full_device_leads_to_smaller_batches_and_the_same_result(
    model: str, commands: Callable[[str, str], np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TILES_AT_ONCE, "cpu", 2)  # a rehearsal cannot halve single tiles
    expected = commands(model, "plenty")
    with first_call_fails(COMPUTES[model], monkeypatch):
        found = commands(model, "full")
    # Batches of another size are summed in another order, on CUDA in bfloat16.
    assert np.median(np.abs(found - expected)) <= 1e-2
    assert np.quantile(np.abs(found - expected), 0.99) <= 0.1


@pytest.mark.parametrize("model", LIMITED)
def test_less_memory_than_a_run_needs(
    model: str, commands: Callable[[str, str], np.ndarray], device: torch.device
) -> None:
    if device.type != "cuda":
        pytest.skip("PyTorch limits the memory of CUDA devices only")
    torch.cuda.reset_peak_memory_stats()
    expected = commands(model, "plenty")
    with limited(device, torch.cuda.max_memory_allocated()):
        found = commands(model, "limited")
    assert np.median(np.abs(found - expected)) <= 1e-2


def test_the_peak_of_the_bundled_model_is_that_of_the_docs(
    commands: Callable[[str, str], np.ndarray], device: torch.device
) -> None:
    if device.type != "cuda":
        pytest.skip("PyTorch counts the memory of CUDA devices only")
    torch.cuda.reset_peak_memory_stats()
    commands("membrane-tiny", "run")
    assert 0 < torch.cuda.max_memory_allocated() <= PEAK
