"""The memory plan, and what follows when memory does not suffice."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryoseg.config import ModelName, SegmentConfig
from cryoseg.errors import InputError
from cryoseg.events import Event, Note, Warn, ignore
from cryoseg.io.images.memory import GIB
from cryoseg.io.images.volumes import write_mask
from cryoseg.io.inputs import InputItem
from cryoseg.methods.particles.files import Loaded, ParticleRecipe
from cryoseg.methods.particles.model import ParticleModel
from cryoseg.methods.prompt_sam.network import TILES_AT_ONCE
from cryoseg.methods.registry import METHODS
from cryoseg.methods.segmenter import Execution, ModelFiles, OnSlice, SegmentInput
from cryoseg.methods.weights import require
from cryoseg.pipelines.batches import memory
from cryoseg.pipelines.segment.model import ResolvedModel
from cryoseg.pipelines.segment.tomogram import segment_tomogram
from cryoseg.types import Geometry, SegmentResult, Tomogram


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * GIB)


def plan(folder: Path, needs: tuple[int, ...], workers: int = 1) -> Event:
    for name, depth in (("small", 2), ("large", 5)):
        path = folder / f"{name}.mrc"
        write_mask(path, np.zeros((depth, 8, 9), bool), Geometry(), label="x")
    (folder / "broken.mrc").write_text("x")
    events: list[Event] = []
    items = [InputItem(path=path) for path in sorted(folder.glob("*.mrc"))]
    items.append(InputItem(path=folder / "absent.mrc", error="absent"))
    memory.tell_plan(
        items, lambda shape: [need * shape[0] // 5 for need in needs], workers=workers, on_event=events.append
    )
    (event,) = events
    return event


@pytest.mark.usefixtures("free")
def test_the_plan_names_the_largest_input(tmp_path: Path) -> None:
    told = plan(tmp_path, (3 * GIB, 2 * GIB))
    assert isinstance(told, Note)
    assert "3.0 GiB for the largest input, large.mrc (5 x 8 x 9); 4.0 GiB are free." in told.text
    tight = plan(tmp_path, (5 * GIB, 3 * GIB))
    assert isinstance(tight, Warn)
    assert "smaller batches" in tight.text
    assert "refused" in plan(tmp_path, (6 * GIB, 5 * GIB)).text  # type: ignore[union-attr]
    assert "2.0 GiB are free for each process" in plan(tmp_path, (GIB, GIB), workers=2).text  # type: ignore[union-attr]


@pytest.mark.usefixtures("free")
def test_the_plan_is_obeyed() -> None:
    path = Path("ts.mrc")
    assert memory.choose_memory_level(path, (GIB, 1)) == 0
    assert memory.choose_memory_level(path, (GIB * 5, GIB * 3, 1)) == 1
    assert memory.choose_memory_level(path, (GIB * 3, GIB * 3, 1), workers=2) == 2
    with pytest.raises(InputError, match=r"ts\.mrc: needs about 5\.0 GiB of memory, and 4\.0 GiB are free"):
        memory.choose_memory_level(path, (GIB * 6, GIB * 5))


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_out_of_memory_steps_down_and_goes_on(error: Exception) -> None:
    tried, released, events = [], [], []

    def run(memory_level: int) -> str:
        tried.append(memory_level)
        if memory_level < 2:
            raise error
        return "done"

    def release() -> None:
        released.append(1)

    assert memory.step_down(run, name="ts", on_event=events.append, release=release) == "done"
    assert (tried, len(released), len(events)) == ([0, 1, 2], 2, 2)


def test_the_last_step_gives_up_and_other_errors_pass() -> None:
    def run(memory_level: int) -> str:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(MemoryError):
        memory.step_down(run, name="ts", first=1, on_event=ignore, release=lambda: None)

    def fail(memory_level: int) -> str:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes"):
        memory.step_down(fail, name="ts", on_event=ignore, release=lambda: None)


def filled(shape: tuple[int, ...]) -> Tomogram:
    data = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return Tomogram(data=data, geometry=Geometry(voxel_size=(10.0,) * 3), source=Path("ts.mrc"))


def test_a_tomogram_is_segmented_with_less_where_memory_ends() -> None:
    asked = []

    def segment(
        volume: SegmentInput,
        config: SegmentConfig,
        files: ModelFiles,
        execution: Execution,
        on_slice: OnSlice,
    ) -> SegmentResult:
        asked.append(execution.memory_level)
        if execution.memory_level < 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return SegmentResult(mask=volume.data > 1, logits=volume.data)

    known = METHODS[ModelName.MEMBRANE_TINY]
    files = ModelFiles(stages=(require("membrane_tiny"),))
    model = ResolvedModel(
        name=ModelName.MEMBRANE_TINY,
        method=SimpleNamespace(**{**vars(known), "segment": segment}),
        files=files,
        reason="test",
    )
    events: list[Event] = []
    result = segment_tomogram(
        filled((3, 8, 8)), SegmentConfig(), model=model, device="cpu", on_event=events.append
    )
    assert asked == [0, 1]
    assert [event.text for event in events if isinstance(event, Warn)] == [
        "ts.mrc: out of memory; continuing with smaller batches."
    ]
    assert result.mask.shape == (3, 8, 8)


class Narrow(torch.nn.Module):
    """Has memory for one tile, and doubles it."""

    geometry = SimpleNamespace(image_size=8)

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.batches: list[int] = []

    def from_grey(self, tiles: torch.Tensor) -> torch.Tensor:
        return tiles[:, None]

    def forward(self, images: torch.Tensor, points: None) -> tuple[torch.Tensor]:
        self.batches.append(len(images))
        if len(images) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return (2 * images,)


def test_a_micrograph_is_picked_tile_by_tile_where_memory_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TILES_AT_ONCE, "cpu", 4)
    network = Narrow()
    recipe = ParticleRecipe(image_size=8, particle_pixels=4.0, overlap=2)
    loaded = Loaded(network=network, recipe=recipe)  # type: ignore[arg-type]
    model = ParticleModel(loaded, name="narrow", device=torch.device("cpu"))
    tiles = np.random.default_rng(1).normal(size=(5, 8, 8)).astype(np.float32)
    done: list[int] = []
    np.testing.assert_allclose(model.tile_logits(tiles, done.append), 2 * tiles, rtol=1e-6)
    assert done == [1, 2, 3, 4, 5]
    assert network.batches[0] == 4
    assert network.batches[-4:] == [1] * 4
    network.forward = lambda images, points: (_ for _ in ()).throw(MemoryError())  # type: ignore[method-assign]
    with pytest.raises(MemoryError):
        model.tile_logits(tiles, done.append)
