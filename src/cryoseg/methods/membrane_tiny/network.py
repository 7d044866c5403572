"""The bundled membrane model: two passes of a fine SAM 2.1 with everything recorded in its file.

Stage 1 runs upward through z, stage 2 downward with the logits of stage 1 beside the tomogram, so
that every slice is judged with context from both sides. Intensities are mapped by median and
interquartile range, and a tomogram whose pixel size lies outside the range of the training data is
seen on a grid at the nearest end of that range.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor

from cryoseg.config import (
    Direction,
    Normalize,
    Polarity,
    Precision,
    SegmentConfig,
    Stage1Prompt,
    Stage2Prompt,
)
from cryoseg.config.restore import restore
from cryoseg.core.grids.blank import FilledSlices, set_blank, signal_box
from cryoseg.core.grids.resample import Resampled, Slices, nearest, tile_grid, tile_side
from cryoseg.core.grids.slicestack import CHANNELS
from cryoseg.core.grids.working_grid import model_shape
from cryoseg.core.robust import robust_map
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.methods.device import autocast
from cryoseg.methods.membrane_tiny.propagation import TILES_AT_ONCE, propagate
from cryoseg.methods.membranes.recipe import MembraneRecipe
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors
from cryoseg.methods.sam.fine_sam2 import FineSam2
from cryoseg.methods.segmenter import ModelFiles, OnSlice, no_progress
from cryoseg.methods.state import load_strict
from cryoseg.types import BoolArray, FloatArray, SegmentResult

METHOD = "membrane-tiny"
CONFIG = "membrane_tiny.yaml"
STRIDE = 32  # of the coarsest map; tiles are multiples of it
# Peak of a process on a CPU less its volumes, with 4, 2 and 1 tiles at once; see `Method.host_bytes`.
HOST_BYTES = (850 * 2**20, 720 * 2**20, 650 * 2**20)


def build_stage(stage: int, size: int) -> FineSam2:
    """An untrained network for stage 1 or 2 and square inputs of `size` pixels."""
    text = resources.files("cryoseg.weights").joinpath(CONFIG).read_text(encoding="utf-8")
    config = OmegaConf.create(text)
    config.model.image_size = size
    config.model.image_encoder.in_channels = CHANNELS[stage]
    network = instantiate(config.model)
    assert isinstance(network, FineSam2)
    return network


def run_stages(
    data: NDArray[Any],
    load_stage: Callable[[int], dict[str, Tensor]],
    recipe: MembraneRecipe,
    *,
    pixel_size: float,
    blank: BoolArray | None = None,
    invert: bool = False,
    views: tuple[bool, ...] = (True,),
    keep_stage1: bool = False,
    device: torch.device,
    precision: Precision = Precision.FLOAT32,
    tiles_at_once: int = TILES_AT_ONCE,
    on_slice: Callable[[str], None] = lambda stage: None,
) -> tuple[FloatArray, FloatArray | None]:
    """Logits of a volume.

    Parameters
    ----------
    data
        (z, y, x), any numeric type, finite.
    load_stage
        Gives the weights of stage 1 or 2; called when that stage begins, so that only one network
        is in memory.
    recipe
        Of the model file.
    pixel_size
        In angstrom.
    blank
        (z, y, x), True where there is no signal. Only the box that contains all signal is computed,
        and what is blank in it has the median of the signal.
    invert
        Membranes are bright.
    views
        Directions of stage 2 whose logits are averaged; True is downward.
    keep_stage1
        Return the logits of stage 1 too.
    device, precision
        Where and how to compute.
    tiles_at_once
        Tiles that go through a network together.
    on_slice
        Called with the stage's name after every slice.

    Returns
    -------
    tuple
        (z, y, x) float32 logits on the volume's own grid, and those of stage 1 or None.
    """
    whole = np.empty(data.shape, np.float32)
    box: tuple[slice, ...] = (slice(None),) * 3
    hidden: BoolArray | None = None
    if blank is not None:
        box = signal_box(blank)
        data, hidden = data[box], blank[box]
    shape = model_shape(data.shape, pixel_size, recipe.pixel_size_range)
    intensity = robust_map(data, invert=invert, blank=hidden)
    source: Slices = data if hidden is None else FilledSlices(data, hidden, intensity.center)
    seen: Slices = source if shape == data.shape else Resampled(source, shape)
    plane = (shape[1], shape[2])
    side = tile_side(plane, limit=recipe.tile, overlap=recipe.overlap, multiple=STRIDE)
    grid = tile_grid(plane, side, recipe.overlap)
    if hidden is not None:
        grid = grid.over(nearest(np.asarray(~hidden.all(axis=0)), plane))

    def one_pass(stage: int, out: FloatArray, stage1: FloatArray | None, reverse: bool) -> None:
        network = build_stage(stage, side)
        load_strict(network, load_stage(stage), f"stage {stage}")
        network.to(device).eval()
        with autocast(device, precision):
            propagate(
                network,
                seen,
                intensity,
                grid,
                window=recipe.window,
                out=out,
                stage1=stage1,
                reverse=reverse,
                tiles_at_once=tiles_at_once,
                on_slice=lambda: on_slice(f"stage {stage}"),
            )

    stage1 = whole[box] if shape == data.shape else np.empty(shape, np.float32)
    one_pass(1, stage1, None, False)
    kept = stage1.copy() if keep_stage1 else None
    if len(views) == 1:
        logits = stage1  # overwritten slice by slice behind the propagation
        one_pass(2, logits, stage1, views[0])
    else:
        logits = np.zeros(shape, np.float32)
        for reverse in views:
            one = np.empty(shape, np.float32)
            one_pass(2, one, stage1, reverse)
            logits += one / len(views)
    _put(logits, whole, box, blank)
    if kept is None:
        return whole, None
    first = np.empty(whole.shape, np.float32)
    _put(kept, first, box, blank)
    return whole, first


def _put(logits: FloatArray, whole: FloatArray, box: tuple[slice, ...], blank: BoolArray | None) -> None:
    """Write logits of the network's grid into the box of a volume that they cover; the rest is blank."""
    part = whole[box]
    shape = (part.shape[0], part.shape[1], part.shape[2])
    for z, slice_ in enumerate(logits if shape == logits.shape else Resampled(logits, shape)):
        part[z] = slice_
    if blank is not None:
        set_blank(whole, blank)


def read_recipe(files: ModelFiles) -> MembraneRecipe:
    """The recipe in a model file.

    Raises
    ------
    WeightsError
        If the file is no packaged membrane model.
    """
    path = files.stages[0]
    metadata = read_model_metadata(path)
    if metadata["method"] != METHOD:
        raise WeightsError(f"{path}: is a model for {metadata['method']}, not for {METHOD}.")
    return restore(MembraneRecipe, metadata["recipe"], source=f"{path}: recipe")


def assumed_pixel_size(files: ModelFiles) -> float:
    """Pixel size in angstrom that is taken where a header gives none."""
    return read_recipe(files).assumed_pixel_size


def resolve(config: SegmentConfig, files: ModelFiles) -> SegmentConfig:
    """Fill what is None with the settings of the model file.

    Raises
    ------
    ConfigError
        For ETSAM's settings that this model has no place for.
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
    data: NDArray[Any],
    config: SegmentConfig,
    files: ModelFiles,
    *,
    pixel_size: float,
    device: torch.device,
    precision: Precision,
    blank: BoolArray | None = None,
    on_slice: OnSlice = no_progress,
    keep_stages: bool = False,
    memory_level: int = 0,
) -> SegmentResult:
    """Segment a tomogram with a packaged two-stage membrane model.

    Parameters
    ----------
    data
        (z, y, x), any real type, finite.
    config
        From `resolve`.
    files
        One packaged model file with both stages.
    pixel_size
        In angstrom.
    device, precision
        Where and how to compute.
    blank
        (z, y, x), True where there is no signal; None if there is signal everywhere.
    on_slice
        Told of every slice.
    keep_stages
        Keep the logits of stage 1.
    memory_level
        Each step halves the tiles that are in memory at once.

    Returns
    -------
    SegmentResult
        On the grid of `data`, without post-processing.
    """
    assert config.logit_threshold is not None
    assert config.views is not None
    path = files.stages[0]
    recipe = read_recipe(files)
    slices: Counter[str] = Counter()
    passes = {"stage 1": 1, "stage 2": len(config.views)}
    signal = data if blank is None else data[signal_box(blank)]
    depth = model_shape(signal.shape, pixel_size, recipe.pixel_size_range)[0]

    def count(stage: str) -> None:
        slices[stage] += 1
        on_slice(stage, slices[stage], depth * passes[stage])

    logits, stage1 = run_stages(
        data,
        lambda stage: read_model_tensors(path, f"stage{stage}."),
        recipe,
        pixel_size=pixel_size,
        blank=blank,
        invert=config.polarity is Polarity.BRIGHT,
        views=tuple(view is Direction.BACKWARD for view in config.views),
        keep_stage1=keep_stages,
        device=device,
        precision=precision,
        tiles_at_once=max(1, TILES_AT_ONCE >> memory_level),
        on_slice=count,
    )
    return SegmentResult(mask=logits > config.logit_threshold, logits=logits, stage1_logits=stage1)
