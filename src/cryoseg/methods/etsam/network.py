"""ETSAM: SAM 2.1 carried through a tomogram twice, the second time with the logits of the first.

Source: ETSAM (bioRxiv 10.1101/2025.11.23.689996) and the authors' code at its first release
(preset `v1`) and with its later settings (preset `v2`). docs/methods/etsam.md lists where this
implementation deviates: only where the published one has no defined result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cryoseg.config import (
    Direction,
    Normalize,
    Polarity,
    Precision,
    Preset,
    SegmentConfig,
    Stage1Prompt,
    Stage2Prompt,
)
from cryoseg.config.segment import (
    ETSAM_PROMPT_INTERVAL,
    ETSAM_SPLIT_PROMPT_INTERVAL,
    PRESET_LOGIT_THRESHOLD,
    PRESET_STAGE1_THRESHOLD,
    PRESET_STAGE2_PROMPT,
)
from cryoseg.core.grids.blank import set_blank
from cryoseg.core.normalize import PlaneMap, fused_logits_map, intensity_map
from cryoseg.errors import InputError
from cryoseg.methods.device import autocast, release_memory, slices_at_once
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor
from cryoseg.methods.segmenter import ModelFiles, OnSlice, no_progress
from cryoseg.methods.state import load_state_dict, load_strict
from cryoseg.types import BoolArray, FloatArray, SegmentResult

CONFIG = "configs/sam2.1/sam2.1_hiera_b+.yaml"
# Mean and standard deviation of SAM 2's training images, which ETSAM applies to grey values in [0, 1].
IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
# Source: the simulated part of ETSAM's training set. The network does not get the pixel size.
ASSUMED_PIXEL_SIZE_ANGSTROM = 10.0
# Peak of a process on a CPU less its volumes; one slice is encoded at a time there anyway.
HOST_BYTES = (1700 * 2**20, 1700 * 2**20, 1700 * 2**20)

PlaneSource = Callable[[int], NDArray[np.floating[Any]]]


def resolve(config: SegmentConfig, files: ModelFiles) -> SegmentConfig:
    """Fill what is None with the preset's published settings."""
    preset = config.preset
    interval = ETSAM_SPLIT_PROMPT_INTERVAL if config.split_processing else ETSAM_PROMPT_INTERVAL
    defaults: dict[str, Any] = {
        "logit_threshold": PRESET_LOGIT_THRESHOLD[preset],
        "stage1_threshold": PRESET_STAGE1_THRESHOLD[preset],
        "stage1_prompt": Stage1Prompt.GRID_ZERO,
        "stage2_prompt": PRESET_STAGE2_PROMPT[preset],
        "prompt_interval": interval,
        "normalize": Normalize.POSITIVE_MAX,
        "polarity": Polarity.AS_IS,
        "views": (Direction.FORWARD,),
    }
    return replace(
        config, **{name: value for name, value in defaults.items() if getattr(config, name) is None}
    )


def assumed_pixel_size(files: ModelFiles) -> float:
    """The scale in angstrom that is recorded where a header gives none."""
    return ASSUMED_PIXEL_SIZE_ANGSTROM


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
    """Run both stages.

    Parameters
    ----------
    data
        (z, y, x), any real type, finite. Read slice by slice, not copied.
    config
        Resolved.
    files
        Checkpoints of stage 1 and stage 2, and the SAM 2 configuration that they belong to.
    pixel_size
        Not used: ETSAM sees every tomogram at its own scale.
    device, precision
        Where and in what arithmetic the networks run.
    blank
        (z, y, x), True where there is no signal; None if there is signal everywhere. The network sees
        these voxels as they are, but they are left out of the statistics and never marked.
    on_slice
        Told of every slice of every stage.
    keep_stages
        Keep the logits of stage 1 and the input of stage 2 of the first view.
    memory_level
        Step 1 encodes one slice at a time on a GPU too; step 2 keeps the memories of slices on the host.

    Returns
    -------
    SegmentResult
        Without post-processing.

    Raises
    ------
    WeightsError, ConfigError
        If a checkpoint or the configuration cannot be used.
    InputError
        If slices are too small to be split.
    """
    assert config.normalize
    assert config.views
    assert config.logit_threshold is not None
    height, width = data.shape[1:]
    windows = quadrants(height, width) if config.split_processing else whole(height, width)
    if blank is not None:
        windows = [window for window in windows if not blank[:, *window].all()]
    grey = intensity_map(
        data,
        config.normalize,
        blank=blank,
        invert=config.polarity is Polarity.BRIGHT,
        as_float32=config.preset is not Preset.V1,
    )
    volumes = {view: np.empty(data.shape, np.float32) for view in dict.fromkeys(config.views)}
    total = len(data) * len(windows) * len(volumes)
    stage1_logits: FloatArray | None = None
    stage2_input = np.empty(data.shape, np.float32) if keep_stages else None
    for stage, checkpoint in enumerate(files.stages, start=1):
        predictor = _load(checkpoint, files.sam2_config or CONFIG, device)
        done = 0
        for view, logits in volumes.items():
            backward = view is Direction.BACKWARD
            part = StagePass(
                grey=grey,
                data=data[::-1] if backward else data,
                logits=logits[::-1] if backward else logits,
                kept=stage2_input if stage == 2 and logits is next(iter(volumes.values())) else None,
            )
            for window in windows:
                for _ in part.run(predictor, stage, window, config, device, precision, memory_level):
                    done += 1
                    on_slice(f"stage {stage}", done, total)
        del predictor
        release_memory(device)
        if stage == 1 and keep_stages:
            stage1_logits = next(iter(volumes.values())).copy()
    logits = _mean(list(volumes.values()))
    if blank is not None:
        for kept in (logits, stage1_logits):
            if kept is not None:
                set_blank(kept, blank)
    return SegmentResult(
        mask=logits > np.float32(config.logit_threshold),
        logits=logits,
        stage1_logits=stage1_logits,
        stage2_input=stage2_input,
    )


class NetworkInput:
    """Slices resized to the network's square and normalized as its training images were.

    Parameters
    ----------
    plane
        Gives slice z as (y, x) floats.
    depth
        Number of slices.
    side
        Of the network's image, in pixels.
    """

    def __init__(self, plane: PlaneSource, depth: int, side: int) -> None:
        self._plane = plane
        self._depth = depth
        self._side = side
        self._mean = torch.tensor(IMAGE_MEAN)[:, None, None]
        self._std = torch.tensor(IMAGE_STD)[:, None, None]

    def __len__(self) -> int:
        return self._depth

    def __getitem__(self, z: int) -> torch.Tensor:
        """(3, side, side) float32: bicubic with antialiasing, sides stretched alike or not, not clipped."""
        image = Image.fromarray(self._plane(z).astype(np.float32))
        # Pillow's bicubic is part of the model: torch's antialiased bicubic gives other bits.
        square = np.array(image.resize((self._side, self._side), Image.Resampling.BICUBIC))
        return (torch.from_numpy(square).expand(3, -1, -1) - self._mean) / self._std


class StagePass:
    """One view: data and logits in the order in which slices are visited.

    Parameters
    ----------
    grey
        Map from the grey values of `data` to what the network sees.
    data
        (z, y, x).
    logits
        (z, y, x) float32, written by each stage; stage 2 reads those of stage 1 from it.
    kept
        Receives the input of stage 2, or None.
    """

    def __init__(
        self, *, grey: PlaneMap, data: NDArray[Any], logits: FloatArray, kept: FloatArray | None
    ) -> None:
        self._grey = grey
        self._data = data
        self._logits = logits
        self._kept = kept

    def run(
        self,
        predictor: VolumePredictor,
        stage: int,
        window: Window,
        config: SegmentConfig,
        device: torch.device,
        precision: Precision,
        memory_level: int = 0,
    ) -> Iterator[None]:
        """Write the logits of a stage over those of the stage before, slice by slice; yields after each.

        A slice is read for stage 2 before it is written, so one volume holds both.
        """
        logits = self._logits[:, window[0], window[1]]
        source = self._stage1_plane(window) if stage == 1 else self._stage2_plane(window, logits)
        depth, height, width = logits.shape
        slices = NetworkInput(source, depth, predictor.image_size)
        ahead = 1 if memory_level else slices_at_once(device)
        state = predictor.init_state_from_slices(slices, height, width, offload_state=memory_level > 1)
        with autocast(device, precision):
            prompts = _prompts(config.stage1_prompt if stage == 1 else config.stage2_prompt, config, logits)
            if prompts is None:
                predictor.start_without_prompt(state, 0)
            else:
                for z, mask in prompts:
                    predictor.prompt_with_mask(state, z, torch.from_numpy(mask))
            for z, found in predictor.propagate(state, encode_ahead=ahead):
                logits[z] = found.cpu().numpy()
                yield

    def _stage1_plane(self, window: Window) -> PlaneSource:
        return lambda z: self._grey(self._data[z][window])

    def _stage2_plane(self, window: Window, logits: FloatArray) -> PlaneSource:
        fused = fused_logits_map(logits)

        def plane(z: int) -> NDArray[np.floating[Any]]:
            both = self._grey(self._data[z][window]) + fused(logits[z])
            if self._kept is not None:
                self._kept[z][window] = both
            return both

        return plane


def _prompts(
    kind: Stage1Prompt | Stage2Prompt | None, config: SegmentConfig, stage1_logits: FloatArray
) -> Iterator[tuple[int, BoolArray]] | None:
    """Slices and masks to start from; None for a start from the image alone."""
    assert kind is not None
    assert config.prompt_interval is not None
    depth, height, width = stage1_logits.shape
    shape, interval = (height, width), config.prompt_interval
    match kind.value:
        case Stage1Prompt.ZERO.value:
            return iter([(0, empty_mask(shape))])
        case Stage1Prompt.GRID_ZERO.value:
            return iter([(0, grid_mask(shape, interval))])
        case Stage1Prompt.GRID.value:
            return ((z, grid_mask(shape, interval)) for z in prompted_slices(depth, interval))
        case Stage2Prompt.STAGE1_MASKS.value:
            threshold = config.stage1_threshold
            return ((z, stage1_logits[z] > threshold) for z in prompted_slices(depth, interval))
        case Stage1Prompt.NONE.value:
            return None
    raise AssertionError(kind)


def _load(checkpoint: Path, config: str, device: torch.device) -> VolumePredictor:
    predictor = build_predictor(config)
    load_strict(predictor, load_state_dict(checkpoint), checkpoint)
    return predictor.to(device)


def _mean(volumes: list[FloatArray]) -> FloatArray:
    total = volumes[0]
    for volume in volumes[1:]:
        total += volume
    if len(volumes) > 1:
        total /= np.float32(len(volumes))
    return total


Window = tuple[slice, slice]


def quadrants(height: int, width: int) -> list[Window]:
    """Cut a plane into four, without overlap.

    Parameters
    ----------
    height, width
        In pixels; an odd size gives the later part one more.

    Returns
    -------
    list
        (y, x) slices, row by row.

    Raises
    ------
    InputError
        If a side has fewer than two pixels.

    Notes
    -----
    Source: ETSAM, `--split-processing`.
    """
    if min(height, width) < 2:
        raise InputError(
            f"slices of {height} x {width} pixels cannot be split into quadrants. "
            "Leave out --split-processing."
        )
    rows = (slice(0, height // 2), slice(height // 2, height))
    columns = (slice(0, width // 2), slice(width // 2, width))
    return [(y, x) for y in rows for x in columns]


def whole(height: int, width: int) -> list[Window]:
    """The one window that covers everything, for when nothing is split."""
    return [(slice(0, height), slice(0, width))]


def grid_mask(shape: tuple[int, int], interval: int) -> BoolArray:
    """Single True pixels at every multiple of `interval` in y and x, beginning with 0.

    Parameters
    ----------
    shape
        (y, x).
    interval
        In pixels.

    Notes
    -----
    Source: ETSAM, prompts `grid` and `grid_zero` (50 px; 10 px in split processing).
    """
    mask = np.zeros(shape, bool)
    mask[::interval, ::interval] = True
    return mask


def empty_mask(shape: tuple[int, int]) -> BoolArray:
    """No membrane anywhere on a (y, x) slice: ETSAM's prompt `zero`."""
    return np.zeros(shape, bool)


def prompted_slices(depth: int, interval: int) -> range:
    """Slices 0, interval, 2 * interval, ... of a volume of `depth` slices."""
    return range(0, depth, interval)
