"""The bundled membrane model: two passes of a small SAM 2.1 that works at full resolution.

Stage 1 goes upward through z. Stage 2 goes downward and reads the logits of stage 1 beside the tomogram, so
that every slice is segmented with context from both sides. Intensities are normalized by median and
interquartile range. A tomogram whose pixel size lies outside the range of the training data is resampled to
the nearest end of that range.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf

from cryoseg.config import Direction, Normalize, Polarity, SegmentConfig, Stage1Prompt, Stage2Prompt
from cryoseg.config.setting import restore
from cryoseg.core.grids.blank import set_blank, signal_box
from cryoseg.core.grids.resample import Resampled, Slices, TileGrid, nearest, tile_grid, tile_side
from cryoseg.core.grids.robust import FilledSlices, IntensityMap, robust_map
from cryoseg.core.grids.working_grid import model_shape
from cryoseg.core.masks.widen import widen_logits
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.device import autocast, to_host
from cryoseg.methods.model_file import load_strict, read_model_metadata, read_model_tensors
from cryoseg.methods.sam.fine_sam2 import FineSam2, SliceMemory
from cryoseg.methods.sam.sam2_volume import REPLAYED
from cryoseg.methods.segmenter import Execution, ModelFiles, OnSlice, SegmentInput, no_progress
from cryoseg.types import BoolArray, FloatArray, SegmentResult


@dataclass(frozen=True, kw_only=True)
class MembraneRecipe:
    """Settings of preprocessing and thresholding, which the metadata of the model file contain.

    Attributes
    ----------
    window
        Number of slices of a training clip, and so of the memory of inference.
    tile, overlap
        Largest side of the square tiles and overlap of neighboring tiles in pixels.
    pixel_size_range
        Lowest and highest pixel size of the training data in angstrom.
    assumed_pixel_size
        Pixel size in angstrom for tomograms whose header gives none.
    logit_threshold
        Threshold chosen on validation volumes.
    widening
        Largest amount, in logits, by which the final logits are raised beside confident voxels.
    """

    window: int = 4
    tile: int = 320
    overlap: int = 32
    pixel_size_range: tuple[float, float] = (7.0, 18.0)
    assumed_pixel_size: float = 12.0
    logit_threshold: float = 0.0
    widening: float = 0.0


METHOD = "membrane-tiny"
WEIGHTS: tuple[str, ...] = ("membrane_tiny",)
CONFIG = "membrane_tiny.yaml"
STRIDE = 32  # stride of the coarsest feature map; the side of a tile is a multiple of it
# Peak memory of a process on a CPU without its volumes, with 4, 2 and 1 tiles at once.
HOST_BYTES = (850 * 2**20, 720 * 2**20, 650 * 2**20)
SLICE_OFFSETS = (-2, -1, 0, 1, 2)
# Stage 2 also reads the stage-1 logits of distant slices: the change of a ring from slice to slice shows
# where the missing wedge hides the pole of a vesicle.
LOGIT_OFFSETS = (-14, -8, -4, -2, -1, 0, 1, 2, 4, 8, 14)
REACH = {1: SLICE_OFFSETS[-1], 2: LOGIT_OFFSETS[-1]}  # Slices on either side that a stage reads.
CHANNELS = {1: len(SLICE_OFFSETS), 2: len(SLICE_OFFSETS) + len(LOGIT_OFFSETS)}
CPU_TILES = 4  # Tiles that a CPU processes together; more are no faster and need more memory.
LOGIT_CLIP = 5.0  # Stage-1 logits are clipped as in ETSAM and scaled to [-1, 1] for stage 2.


def offset_indices(z: int, depth: int, offsets: tuple[int, ...]) -> NDArray[np.intp]:
    """Return the (n,) indices of the slices at `offsets` from `z`, clipped to the `depth` slices."""
    return np.clip(np.add(z, offsets, dtype=np.intp), 0, depth - 1)


def tiles_at_once(device: torch.device, memory_level: int) -> int:
    """Return the number of tiles that the network processes together; each memory level halves it."""
    return max(1, (CPU_TILES if device.type == "cpu" else 16) >> memory_level)


@dataclass(frozen=True, kw_only=True)
class TiledVolume:
    """A volume and how the network reads it.

    Attributes
    ----------
    data
        (z, y, x) grey values of any type.
    intensity
        Map from grey values to the network's input, applied slice by slice.
    grid
        Tiles of a slice.
    window
        Length of the clips that the network was trained on, in slices.
    tiles_at_once
        Number of tiles that the network processes together.
    """

    data: Slices
    intensity: IntensityMap
    grid: TileGrid
    window: int
    tiles_at_once: int = CPU_TILES


def propagate(
    model: FineSam2,
    volume: TiledVolume,
    out: FloatArray,
    *,
    stage1: FloatArray | None = None,
    reverse: bool = False,
    on_slice: Callable[[], None] = lambda: None,
) -> None:
    """Compute the logits of every slice of a volume.

    Parameters
    ----------
    model
        Network in evaluation mode, built for tiles of `volume.grid.side` pixels.
    volume
        Volume to segment.
    out
        (z, y, x) float32 array that receives the logits. It may be `stage1` itself: a slice of stage-1
        logits is overwritten only when no later step reads it.
    stage1
        (z, y, x) logits of the first stage, for the second stage.
    reverse
        Whether to go from the last slice to the first.
    on_slice
        Function to call after each slice.
    """
    depth, at_once = len(volume.data), volume.tiles_at_once
    order = range(depth - 1, -1, -1) if reverse else range(depth)
    grid, device = volume.grid, next(model.parameters()).device
    starts = range(0, len(grid.corners), at_once)
    memories: list[SliceMemory] = [deque(maxlen=volume.window - 1) for _ in starts]
    window, weight = (torch.from_numpy(part).to(device) for part in (grid.window(), grid.weight()))
    grey = _SliceCache(lambda z: volume.intensity(volume.data[z]), grid, device)
    inputs: list[tuple[_SliceCache, tuple[int, ...]]] = [(grey, SLICE_OFFSETS)]
    if stage1 is not None:
        logits_of_stage1 = stage1
        scaled = _SliceCache(
            lambda z: np.clip(logits_of_stage1[z], -LOGIT_CLIP, LOGIT_CLIP) / np.float32(LOGIT_CLIP),
            grid,
            device,
        )
        inputs.append((scaled, LOGIT_OFFSETS))
    pending: deque[tuple[int, Callable[[], FloatArray]]] = deque()
    for z in order:
        # The slice that comes first in the direction of propagation is the first channel.
        channels = torch.cat(
            [cache.stack(offset_indices(z, depth, offsets)[:: order.step]) for cache, offsets in inputs]
        )
        tiles = torch.stack(grid.views(channels))
        logits = [
            model.track_slice(tiles[start : start + at_once], memory)
            for start, memory in zip(starts, memories, strict=True)
        ]
        total = torch.zeros_like(weight)
        grid.add_tiles(total, torch.cat(logits), window)
        merged = torch.where(weight > 0, total / weight, 0)[: grid.shape[0], : grid.shape[1]]
        pending.append((z, to_host(merged.contiguous())))
        if len(pending) > REACH[2]:
            done, copied = pending.popleft()
            out[done] = copied()
        on_slice()
    for done, copied in pending:
        out[done] = copied()


class _SliceCache:
    """Slices on the device, each of which is computed and copied there once."""

    def __init__(self, read: Callable[[int], FloatArray], grid: TileGrid, device: torch.device) -> None:
        self._read, self._grid, self._device = read, grid, device
        self._kept: dict[int, torch.Tensor] = {}

    def stack(self, indices: NDArray[np.intp]) -> torch.Tensor:
        """Return slices as (n, y, x) float32 of at least the size of a tile, and forget those left behind."""
        wanted = [int(i) for i in indices]
        low, high = min(wanted), max(wanted)
        self._kept = {z: kept for z, kept in self._kept.items() if low <= z <= high}
        for z in wanted:
            if z not in self._kept:
                plane = torch.from_numpy(self._grid.padded(self._read(z)[None])[0])
                # A device copies from pinned memory while it computes.
                plane = plane.pin_memory() if self._device.type == "cuda" else plane
                self._kept[z] = plane.to(self._device, non_blocking=True)
        return torch.stack([self._kept[z] for z in wanted])


def build_stage(stage: int, size: int) -> FineSam2:
    """Build an untrained network for stage 1 or 2 and square inputs of `size` pixels."""
    text = resources.files("cryoseg.weights").joinpath(CONFIG).read_text(encoding="utf-8")
    config = OmegaConf.create(text)
    config.model.image_size = size
    config.model.image_encoder.in_channels = CHANNELS[stage]
    network = instantiate(config.model)
    assert isinstance(network, FineSam2)
    return network


def run_stages(
    volume: SegmentInput,
    load_stage: Callable[[int], dict[str, torch.Tensor]],
    recipe: MembraneRecipe,
    config: SegmentConfig,
    execution: Execution,
    on_slice: OnSlice = no_progress,
) -> tuple[FloatArray, FloatArray | None]:
    """Compute the logits of a volume.

    Only the box that contains all signal is computed; blank voxels in it get the median of the signal.

    Parameters
    ----------
    volume
        Tomogram to segment.
    load_stage
        Function that returns the weights of stage 1 or 2. It is called when that stage begins, so that only
        one network is in memory.
    recipe
        Recipe in the model file.
    config
        Resolved settings, of which `polarity` and `views` are used: the logits of stage 2 are averaged over
        its views.
    execution
        Device, precision and memory level, which sets the number of tiles in memory.
    on_slice
        Function to call after each slice.

    Returns
    -------
    tuple
        (z, y, x) float32 logits on the grid of the volume, and those of stage 1 or None.
    """
    data, blank = volume.data, volume.blank
    whole = np.empty(data.shape, np.float32)
    box: tuple[slice, ...] = (slice(None),) * 3
    hidden: BoolArray | None = None
    if blank is not None:
        box = signal_box(blank)
        data, hidden = data[box], blank[box]
    shape = model_shape(data.shape, volume.pixel_size, recipe.pixel_size_range)
    intensity = robust_map(data, invert=config.polarity is Polarity.BRIGHT, blank=hidden)
    source: Slices = data if hidden is None else FilledSlices(data, hidden, intensity.center)
    plane = (shape[1], shape[2])
    side = tile_side(plane, limit=recipe.tile, overlap=recipe.overlap, multiple=STRIDE)
    grid = tile_grid(plane, side, recipe.overlap)
    if hidden is not None:
        grid = grid.over(nearest(np.asarray(~hidden.all(axis=0)), plane))
    tiled = TiledVolume(
        data=source if shape == data.shape else Resampled(source, shape),
        intensity=intensity,
        grid=grid,
        window=recipe.window,
        tiles_at_once=tiles_at_once(execution.device, execution.memory_level),
    )
    views = config.views or (Direction.BACKWARD,)
    slices: Counter[int] = Counter()

    def one_pass(stage: int, out: FloatArray, stage1: FloatArray | None, direction: Direction) -> None:
        network = build_stage(stage, side)
        load_strict(network, load_stage(stage), f"stage {stage}")
        network.to(execution.device).eval()
        if execution.device.type == "cpu":
            # Convolutions with few channels are up to ten times faster on this layout.
            network.to(memory_format=torch.channels_last)
        if not execution.memory_level:
            replay_on_cuda(network, *REPLAYED)

        def count() -> None:
            slices[stage] += 1
            on_slice(f"stage {stage}", slices[stage], shape[0] * (1 if stage == 1 else len(views)))

        with autocast(execution.device, execution.precision):
            propagate(
                network, tiled, out, stage1=stage1, reverse=direction is Direction.BACKWARD, on_slice=count
            )

    stage1 = whole[box] if shape == data.shape else np.empty(shape, np.float32)
    one_pass(1, stage1, None, Direction.FORWARD)
    kept = stage1.copy() if execution.keep_stages else None
    if len(views) == 1:
        logits = stage1  # propagation overwrites each slice once no later slice reads it
        one_pass(2, logits, stage1, views[0])
    else:
        logits = np.zeros(shape, np.float32)
        for direction in views:
            one = np.empty(shape, np.float32)
            one_pass(2, one, stage1, direction)
            logits += one / len(views)
    if recipe.widening:
        widen_logits(logits, recipe.widening)
    _put(logits, whole, box, blank)
    if kept is None:
        return whole, None
    first = np.empty(whole.shape, np.float32)
    _put(kept, first, box, blank)
    return whole, first


def _put(logits: FloatArray, whole: FloatArray, box: tuple[slice, ...], blank: BoolArray | None) -> None:
    """Resample logits into a box of a volume, and set blank voxels to `BLANK_LOGIT`."""
    part = whole[box]
    shape = (part.shape[0], part.shape[1], part.shape[2])
    for z, slice_ in enumerate(logits if shape == logits.shape else Resampled(logits, shape)):
        part[z] = slice_
    if blank is not None:
        set_blank(whole, blank)


def read_recipe(files: ModelFiles) -> MembraneRecipe:
    """Read the recipe of a packaged membrane model; raise a `WeightsError` for another file."""
    path = files.stages[0]
    metadata = read_model_metadata(path)
    if metadata["method"] != METHOD:
        raise WeightsError(f"{path}: is a model for {metadata['method']}, not for {METHOD}.")
    return restore(MembraneRecipe, metadata["recipe"], source=f"{path}: recipe")


def assumed_pixel_size(files: ModelFiles) -> float:
    """Return the pixel size in angstrom for tomograms whose header gives none."""
    return read_recipe(files).assumed_pixel_size


def resolve(config: SegmentConfig, files: ModelFiles) -> SegmentConfig:
    """Replace settings that are None by those of the model file.

    A `ConfigError` names settings that only ETSAM has.
    """
    unfit = {
        "--normalize": config.normalize not in (None, Normalize.ROBUST),
        "--stage1-prompt": config.stage1_prompt not in (None, Stage1Prompt.NONE),
        "--stage2-prompt": config.stage2_prompt not in (None, Stage2Prompt.NONE),
        "--prompt-interval": config.prompt_interval is not None,
        "--split-processing": config.split_processing,
    }
    if any(unfit.values()):
        names = ", ".join(name for name, wrong in unfit.items() if wrong)
        raise ConfigError(
            f"{names}: {METHOD} needs no prompt and has its own normalization and tiles; "
            "leave the option out, or use --model etsam."
        )
    recipe = read_recipe(files)
    threshold = config.logit_threshold
    return replace(
        config,
        logit_threshold=recipe.logit_threshold if threshold is None else threshold,
        stage1_threshold=0.0 if config.stage1_threshold is None else config.stage1_threshold,
        stage1_prompt=Stage1Prompt.NONE,
        stage2_prompt=Stage2Prompt.NONE,
        normalize=Normalize.ROBUST,
        polarity=config.polarity or Polarity.DARK,
        views=config.views or (Direction.BACKWARD,),
    )


def segment(
    volume: SegmentInput,
    config: SegmentConfig,
    files: ModelFiles,
    execution: Execution,
    on_slice: OnSlice = no_progress,
) -> SegmentResult:
    """Segment a tomogram with a packaged membrane model of two stages, without post-processing.

    The parameters are those of `cryoseg.methods.segmenter`. Each memory level halves the number of tiles in
    memory.
    """
    assert config.logit_threshold is not None
    path = files.stages[0]

    def load_stage(stage: int) -> dict[str, torch.Tensor]:
        return read_model_tensors(path, f"stage{stage}.")

    logits, stage1 = run_stages(volume, load_stage, read_recipe(files), config, execution, on_slice)
    return SegmentResult(mask=logits > config.logit_threshold, logits=logits, stage1_logits=stage1)
