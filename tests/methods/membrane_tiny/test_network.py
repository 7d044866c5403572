from __future__ import annotations

import copy
import json
from collections import deque
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cryoseg.config import Direction, Polarity, SegmentConfig
from cryoseg.config.setting import restore
from cryoseg.core.grids.blank import BLANK_LOGIT, find_blank
from cryoseg.core.grids.resample import TileGrid, tile_grid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.core.grids.working_grid import model_shape
from cryoseg.core.masks.widen import widen_logits
from cryoseg.methods.membrane_tiny.network import (
    CHANNELS,
    LOGIT_OFFSETS,
    SLICE_OFFSETS,
    MembraneRecipe,
    TiledVolume,
    build_stage,
    offset_indices,
    propagate,
    run_stages,
    tiles_at_once,
)
from cryoseg.methods.sam.fine_sam2 import FineSam2
from cryoseg.methods.segmenter import Execution, OnSlice, SegmentInput, no_progress

CPU = torch.device("cpu")


def tiled(data: np.ndarray, grid: TileGrid) -> TiledVolume:
    return TiledVolume(data=data, intensity=IntensityMap(center=0.0, spread=1.0), grid=grid, window=4)


def run(
    data: np.ndarray,
    states: dict,
    *,
    pixel_size: float = 12.0,
    polarity: Polarity = Polarity.DARK,
    keep_stages: bool = False,
    on_slice: OnSlice = no_progress,
    recipe: MembraneRecipe = MembraneRecipe(),
) -> tuple:
    return run_stages(
        SegmentInput(data=data, pixel_size=pixel_size, blank=find_blank(data)),
        states.__getitem__,
        recipe,
        SegmentConfig(polarity=polarity, views=(Direction.BACKWARD,)),
        Execution(device=CPU, keep_stages=keep_stages),
        on_slice,
    )


@pytest.fixture(scope="module")
def network() -> FineSam2:
    torch.manual_seed(0)
    return build_stage(1, 64).eval()


def test_masks_have_the_size_of_the_image(network: FineSam2) -> None:
    with torch.inference_mode():
        assert network.track_clip(torch.randn(2, 3, 5, 64, 64)).shape == (2, 3, 64, 64)


def test_inference_repeats_a_training_clip_exactly(network: FineSam2) -> None:
    clip = torch.randn(1, 4, 5, 64, 64)
    memory: deque = deque(maxlen=3)
    with torch.inference_mode():
        expected = network.track_clip(clip)
        found = torch.stack([network.track_slice(clip[:, t], memory) for t in range(4)], dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_memory_reaches_no_further_than_the_window(network: FineSam2) -> None:
    memory: deque = deque(maxlen=3)
    for _ in range(6):
        network.track_slice(torch.randn(1, 5, 64, 64), memory)
    assert len(memory) == 3


def test_downward_is_upward_on_the_turned_volume(network: FineSam2) -> None:
    volume = np.random.default_rng(0).normal(size=(6, 64, 64)).astype(np.float32)
    grid = tile_grid((64, 64), 64, 16)
    down, up = np.empty_like(volume), np.empty_like(volume)
    propagate(network, tiled(volume, grid), down, reverse=True)
    propagate(network, tiled(volume[::-1].copy(), grid), up)
    np.testing.assert_allclose(down[::-1], up, atol=1e-4)


def test_stage_1_logits_may_be_overwritten_while_stage_2_reads_them() -> None:
    torch.manual_seed(1)
    second = build_stage(2, 64).eval()
    rng = np.random.default_rng(1)
    volume = rng.normal(size=(20, 70, 64)).astype(np.float32)
    stage1 = rng.normal(scale=3, size=volume.shape).astype(np.float32)
    grid = tile_grid((70, 64), 64, 16)
    apart = np.empty_like(volume)
    propagate(second, tiled(volume, grid), apart, stage1=stage1, reverse=True)
    propagate(second, tiled(volume, grid), stage1, stage1=stage1, reverse=True)
    np.testing.assert_array_equal(stage1, apart)


def test_the_grid_changes_only_outside_the_range_of_pixel_sizes() -> None:
    limits = (8.0, 16.0)
    assert model_shape((10, 20, 30), 12.0, limits) == (10, 20, 30)
    assert model_shape((10, 20, 30), 4.0, limits) == (5, 10, 15)
    assert model_shape((10, 20, 30), 32.0, limits) == (20, 40, 60)


@pytest.mark.parametrize("shape", [(1, 33, 40), (3, 40, 3)])
@pytest.mark.parametrize("pixel_size", [12.0, 40.0])
def test_results_lie_on_the_grid_of_the_input(shape: tuple[int, int, int], pixel_size: float) -> None:
    torch.manual_seed(0)
    states = {stage: build_stage(stage, 64).state_dict() for stage in (1, 2)}
    data = np.random.default_rng(0).integers(-50, 50, size=shape).astype(np.int8)
    slices: dict[str, tuple[int, int]] = {}

    def on_slice(stage: str, done: int, total: int) -> None:
        slices[stage] = (done, total)

    logits, stage1 = run(data, states, pixel_size=pixel_size, keep_stages=True, on_slice=on_slice)
    assert logits.shape == shape
    assert logits.dtype == np.float32
    assert np.isfinite(logits).all()
    assert stage1 is not None
    assert stage1.shape == shape
    assert set(slices) == {"stage 1", "stage 2"}
    assert all(done == total for done, total in slices.values())


def test_inverting_the_input_and_saying_so_changes_nothing() -> None:
    torch.manual_seed(0)
    states = {stage: build_stage(stage, 64).state_dict() for stage in (1, 2)}
    data = np.random.default_rng(0).normal(size=(3, 64, 64)).astype(np.float32)
    dark, _ = run(data, states)
    bright, _ = run(-data, states, polarity=Polarity.BRIGHT)
    np.testing.assert_allclose(dark, bright, atol=2e-4)


@pytest.mark.parametrize("tiles", [1, 3])
def test_the_layout_of_the_channels_changes_nothing(network: FineSam2, tiles: int) -> None:
    images = torch.randn(tiles, CHANNELS[1], 64, 64, generator=torch.Generator().manual_seed(0))
    expected = network.track_slice(images, deque(maxlen=0))
    other = copy.deepcopy(network).to(memory_format=torch.channels_last)
    np.testing.assert_allclose(other.track_slice(images, deque(maxlen=0)), expected, atol=1e-4)


def test_without_memory_a_slice_does_not_depend_on_earlier_ones(network: FineSam2) -> None:
    volume = np.random.default_rng(0).normal(size=(9, 64, 64)).astype(np.float32)
    grid = tile_grid((64, 64), 64, 16)
    whole, part = np.empty_like(volume), np.empty((5, 64, 64), np.float32)
    for data, out in ((volume, whole), (volume[4:], part)):
        propagate(network, replace(tiled(data, grid), window=1), out)
    np.testing.assert_allclose(whole[6:], part[2:], atol=1e-4)


def test_a_recipe_widens_the_final_logits_only() -> None:
    torch.manual_seed(0)
    states = {stage: build_stage(stage, 64).state_dict() for stage in (1, 2)}
    data = np.random.default_rng(0).normal(size=(3, 40, 50)).astype(np.float32)
    expected, first = run(data, states, keep_stages=True)
    widened, same = run(data, states, keep_stages=True, recipe=MembraneRecipe(widening=0.5))
    np.testing.assert_array_equal(same, first)
    assert (widened > expected).any()
    widen_logits(expected, 0.5)
    np.testing.assert_array_equal(widened, expected)


def test_a_recipe_survives_its_metadata() -> None:
    recipe = MembraneRecipe(window=5, logit_threshold=-0.25, pixel_size_range=(6.0, 20.0), widening=1.5)
    assert restore(MembraneRecipe, json.loads(json.dumps(asdict(recipe))), source="card") == recipe


@pytest.mark.parametrize("pixel_size", [12.0, 6.0])
def test_padding_changes_no_logit_of_the_signal_and_is_not_computed(pixel_size: float) -> None:
    torch.manual_seed(0)
    states = {stage: build_stage(stage, 64).state_dict() for stage in (1, 2)}
    signal = np.random.default_rng(0).normal(size=(3, 60, 64)).astype(np.float32)
    padded = np.full((6, 60, 200), signal.mean(), np.float32)
    padded[2:5, :, 10:74] = signal
    seen: list[str] = []
    bare, bare1 = run(signal, states, pixel_size=pixel_size, keep_stages=True)
    logits, stage1 = run(
        padded,
        states,
        pixel_size=pixel_size,
        keep_stages=True,
        on_slice=lambda stage, done, total: seen.append(stage),
    )
    assert bare1 is not None
    assert stage1 is not None
    for whole, part in ((logits, bare), (stage1, bare1)):
        np.testing.assert_array_equal(whole[2:5, :, 10:74], part)
        whole[2:5, :, 10:74] = BLANK_LOGIT
        assert (whole == BLANK_LOGIT).all()
    assert len(seen) <= 2 * len(signal)


def test_tiles_without_signal_inside_the_box_are_left_out() -> None:
    torch.manual_seed(0)
    states = {stage: build_stage(stage, 64).state_dict() for stage in (1, 2)}
    volume = np.random.default_rng(0).normal(size=(2, 150, 150)).astype(np.float32)
    volume[:, :80, :80] = 0
    blank = find_blank(volume)
    assert blank is not None
    logits, _ = run(volume, states)
    assert np.isfinite(logits).all()
    assert (logits[blank] == BLANK_LOGIT).all()
    assert (logits[~blank] != BLANK_LOGIT).all()


class Recorder(nn.Module):
    """A network that keeps its input, and returns the channel of the current slice."""

    def __init__(self) -> None:
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))
        self.seen: list[Tensor] = []

    def track_slice(self, images: Tensor, memory: object) -> Tensor:
        self.seen.append(images)
        return images[:, 2]


def test_slices_repeat_at_both_ends() -> None:
    assert offset_indices(0, 10, SLICE_OFFSETS).tolist() == [0, 0, 0, 1, 2]
    assert offset_indices(9, 10, SLICE_OFFSETS).tolist() == [7, 8, 9, 9, 9]
    assert offset_indices(0, 1, SLICE_OFFSETS).tolist() == [0, 0, 0, 0, 0]
    assert offset_indices(20, 100, LOGIT_OFFSETS).tolist() == [6, 12, 16, 18, 19, 20, 21, 22, 24, 28, 34]


def test_logits_follow_the_slices_scaled_to_one_and_both_turn_around() -> None:
    depth = 40
    volume = np.broadcast_to(np.arange(depth, dtype=np.float32)[:, None, None] / 10, (depth, 8, 8)).copy()
    stage1 = np.broadcast_to(
        np.linspace(-8, 11.5, depth, dtype=np.float32)[:, None, None], volume.shape
    ).copy()
    network = Recorder()
    propagate(network, tiled(volume, tile_grid((8, 8), 8, 0)), stage1, stage1=stage1, reverse=True)  # type: ignore[arg-type]
    (image,) = network.seen[depth - 1 - 20]  # the slice z = 20
    assert image.shape == (CHANNELS[2], 8, 8)
    expected = [2.2, 2.1, 2.0, 1.9, 1.8]
    # The logit of slice z is z / 2 - 8, clipped to 5 and divided by it.
    expected += [min(1.0, (z / 2 - 8) / 5) for z in (34, 28, 24, 22, 21, 20, 19, 18, 16, 12)] + [-1.0]
    np.testing.assert_allclose(image[:, 0, 0].detach(), expected, rtol=1e-5)
    np.testing.assert_allclose(stage1, volume, rtol=1e-6)  # the result replaced the logits of stage 1


def test_tiles_are_blended_as_on_the_grid() -> None:
    volume = np.random.default_rng(0).normal(size=(3, 21, 30)).astype(np.float32)
    network, out = Recorder(), np.empty_like(volume)
    part = tiled(volume, tile_grid((21, 30), 16, 4))
    propagate(network, part, out)  # type: ignore[arg-type]
    assert len(part.grid.corners) == 6
    for z in range(3):
        expected = part.grid.stitch(part.grid.cut(volume[z][None])[:, 0])
        np.testing.assert_array_equal(out[z], expected)
        np.testing.assert_allclose(out[z], volume[z], rtol=1e-5)


def test_less_memory_means_fewer_tiles_at_once() -> None:
    assert [tiles_at_once(CPU, level) for level in range(4)] == [4, 2, 1, 1]
    assert [tiles_at_once(torch.device("cuda"), level) for level in range(3)] == [16, 8, 4]
