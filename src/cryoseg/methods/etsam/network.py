"""ETSAM: two passes of SAM 2.1 through a tomogram, of which the second reads the logits of the first.

Source: ETSAM (bioRxiv 10.1101/2025.11.23.689996) and the authors' code at its first release
(preset `v1`) and with its later settings (preset `v2`). docs/methods/etsam.md lists the deviations
of this implementation, all where the published one has no defined result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from cryoseg.config import Direction, Normalize, Polarity, Preset, SegmentConfig, Stage1Prompt, Stage2Prompt
from cryoseg.config.segment import (
    ETSAM_PROMPT_INTERVAL,
    ETSAM_SPLIT_PROMPT_INTERVAL,
    PRESET_LOGIT_THRESHOLD,
    PRESET_STAGE1_THRESHOLD,
    PRESET_STAGE2_PROMPT,
)
from cryoseg.core.grids.blank import set_blank
from cryoseg.core.grids.robust import PlaneMap, fused_logits_map, intensity_map
from cryoseg.errors import InputError
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.device import autocast, release_memory, to_host
from cryoseg.methods.model_file import load_state_dict, load_strict
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import REPLAYED, VolumePredictor
from cryoseg.methods.segmenter import Execution, ModelFiles, OnSlice, SegmentInput, no_progress
from cryoseg.types import BoolArray, FloatArray, SegmentResult

WEIGHTS: tuple[str, ...] = ("etsam_stage1", "etsam_stage2")
CONFIG = "configs/sam2.1/sam2.1_hiera_b+.yaml"
# Source: the simulated part of the training set of ETSAM.
ASSUMED_PIXEL_SIZE_ANGSTROM = 10.0
# Number of slices that the image encoder processes together on a GPU; on a CPU more than one are no faster.
GPU_SLICES = 4
# Peak memory of a process on a CPU without its volumes; a CPU always encodes one slice at a time.
HOST_BYTES = (1700 * 2**20, 1700 * 2**20, 1700 * 2**20)

# Prompts of several slices; all others prompt the first slice only.
REPEATED_PROMPTS = (Stage1Prompt.GRID.value, Stage2Prompt.STAGE1_MASKS.value)

PlaneSource = Callable[[int], NDArray[np.floating[Any]]]
Window = tuple[slice, slice]
WHOLE: Window = (slice(None), slice(None))


def resolve(config: SegmentConfig, files: ModelFiles) -> SegmentConfig:
    """Replace settings that are None by the published ones of the preset."""
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
    """Return the pixel size in angstrom to record for tomograms whose header gives none."""
    return ASSUMED_PIXEL_SIZE_ANGSTROM


def segment(
    volume: SegmentInput,
    config: SegmentConfig,
    files: ModelFiles,
    execution: Execution,
    on_slice: OnSlice = no_progress,
) -> SegmentResult:
    """Segment a tomogram with both stages of ETSAM, without post-processing.

    Parameters
    ----------
    volume
        Tomogram to segment. Its pixel size is not used, since ETSAM processes every tomogram at its own
        scale. The network reads blank voxels as they are, but the statistics leave them out.
    config
        Settings from `resolve`.
    files
        Checkpoints of stage 1 and stage 2, and the SAM 2 configuration that they belong to.
    execution
        Device, precision and memory level. Level 1 encodes one slice at a time on a GPU too; level 2 also
        keeps the memories of slices on the host. With `keep_stages` the result holds the logits of stage 1
        and the input of stage 2 of the first view.
    on_slice
        Function to call after each slice of each stage.
    """
    assert config.normalize
    assert config.views
    assert config.logit_threshold is not None
    data, blank, device = volume.data, volume.blank, execution.device
    height, width = data.shape[1:]
    windows = quadrants(height, width) if config.split_processing else [WHOLE]
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
    stage2_input = np.empty(data.shape, np.float32) if execution.keep_stages else None
    for stage, checkpoint in enumerate(files.stages, start=1):
        predictor = load_predictor(checkpoint, files.sam2_config or CONFIG, device)
        if not execution.memory_level:
            replay_on_cuda(predictor, *REPLAYED)
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
                for _ in part.run(predictor, stage, window, config, execution):
                    done += 1
                    on_slice(f"stage {stage}", done, total)
        del predictor
        release_memory(device)
        if stage == 1 and execution.keep_stages:
            stage1_logits = next(iter(volumes.values())).copy()
    logits, *others = volumes.values()
    for other in others:
        logits += other
    if others:
        logits /= np.float32(len(volumes))
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


@dataclass(frozen=True)
class NetworkInput:
    """Slices resized to the network's square of `side` pixels.

    `plane` returns slice z of `depth` slices as (y, x) floats.
    """

    plane: PlaneSource
    depth: int
    side: int

    def __len__(self) -> int:
        return self.depth

    def __getitem__(self, z: int) -> torch.Tensor:
        """Return slice z as (1, side, side) float32, resized to a square."""
        image = Image.fromarray(self.plane(z).astype(np.float32))
        # Pillow's bicubic is part of the model: torch's antialiased bicubic gives other bits.
        square = np.array(image.resize((self.side, self.side), Image.Resampling.BICUBIC))
        return torch.from_numpy(square)[None]


@dataclass(frozen=True, kw_only=True)
class StagePass:
    """One pass through a volume in one direction.

    Attributes
    ----------
    grey
        Map from the grey values of `data` to the network's input.
    data
        (z, y, x) grey values, in the order in which slices are visited.
    logits
        (z, y, x) float32 logits in the same order, which each stage writes; stage 2 reads those of stage 1.
    kept
        (z, y, x) array that receives the input of stage 2, or None.
    """

    grey: PlaneMap
    data: NDArray[Any]
    logits: FloatArray
    kept: FloatArray | None = None

    def run(
        self,
        predictor: VolumePredictor,
        stage: int,
        window: Window,
        config: SegmentConfig,
        execution: Execution,
    ) -> Iterator[None]:
        """Overwrite the logits of the previous stage slice by slice, and yield after each slice.

        A slice is read for stage 2 before it is written, so one volume holds both. The last slice is written
        after the last yield.
        """
        logits = self.logits[:, *window]
        kept = None if self.kept is None else self.kept[:, *window]
        source = stage_input(self.grey, self.data[:, *window], logits if stage == 2 else None, kept=kept)
        depth, height, width = logits.shape
        slices = NetworkInput(source, depth, predictor.image_size)
        ahead = GPU_SLICES if execution.device.type == "cuda" and not execution.memory_level else 1
        state = predictor.init_state_from_slices(
            slices, height, width, offload_state=execution.memory_level > 1
        )
        with autocast(execution.device, execution.precision):
            kind = config.stage1_prompt if stage == 1 else config.stage2_prompt
            threshold, interval = config.stage1_threshold, config.prompt_interval
            assert kind is not None
            assert interval is not None
            for z in range(0, depth, interval) if kind.value in REPEATED_PROMPTS else (0,):
                mask = prompt_mask(kind, (height, width), interval, logits[z], threshold)
                if mask is None:
                    predictor.start_without_prompt(state, z)
                else:
                    predictor.prompt_with_mask(state, z, torch.from_numpy(mask))
            copying: deque[tuple[int, Callable[[], FloatArray]]] = deque()
            for z, found in predictor.propagate(state, encode_ahead=ahead):
                copying.append((z, to_host(found)))
                if len(copying) > 1:
                    done, copied = copying.popleft()
                    logits[done] = copied()
                yield
            for done, copied in copying:
                logits[done] = copied()


def stage_input(
    grey: PlaneMap,
    data: NDArray[Any],
    stage1_logits: NDArray[np.floating[Any]] | None = None,
    *,
    kept: FloatArray | None = None,
) -> PlaneSource:
    """Return the function from z to the (y, x) input of stage 1, or of stage 2 if logits are given.

    The other parameters are those of `StagePass`.
    """
    if stage1_logits is None:
        return lambda z: grey(data[z])
    fused = fused_logits_map(stage1_logits)

    def plane(z: int) -> NDArray[np.floating[Any]]:
        both = grey(data[z]) + fused(stage1_logits[z])
        if kept is not None:
            kept[z] = both
        return both

    return plane


def prompt_mask(
    kind: Stage1Prompt | Stage2Prompt,
    shape: tuple[int, int],
    interval: int,
    stage1_logits: NDArray[np.floating[Any]] | None = None,
    threshold: float | None = None,
) -> BoolArray | None:
    """Return the mask that prompts a slice, or None to start from the image alone.

    Parameters
    ----------
    kind
        Kind of the prompt; those in `REPEATED_PROMPTS` prompt every slice at a multiple of `interval`.
    shape
        (y, x) shape of the slice in pixels.
    interval
        Distance of the pixels of a grid.
    stage1_logits, threshold
        (y, x) logits of stage 1 and their threshold, for `Stage2Prompt.STAGE1_MASKS`.
    """
    match kind.value:
        case Stage1Prompt.NONE.value:
            return None
        case Stage1Prompt.ZERO.value:
            return np.zeros(shape, bool)
        case Stage1Prompt.GRID.value | Stage1Prompt.GRID_ZERO.value:
            return grid_mask(shape, interval)
        case Stage2Prompt.STAGE1_MASKS.value:
            assert stage1_logits is not None
            assert threshold is not None
            return np.asarray(stage1_logits > threshold)
    raise AssertionError(kind)


def load_predictor(checkpoint: Path, config: str, device: torch.device) -> VolumePredictor:
    """Build the predictor of a SAM 2 configuration with the weights of a checkpoint."""
    predictor = build_predictor(config)
    load_strict(predictor, load_state_dict(checkpoint), checkpoint)
    return predictor.to(device)


def quadrants(height: int, width: int) -> list[Window]:
    """Cut a plane into four (y, x) windows without overlap, row by row.

    With an odd size the second part is one pixel larger. An `InputError` is raised if a side has fewer than
    two pixels.

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


def grid_mask(shape: tuple[int, int], interval: int) -> BoolArray:
    """Return a (y, x) mask of single pixels at every multiple of `interval` in y and x, from 0 on.

    Source: ETSAM, prompts `grid` and `grid_zero` (50 px; 10 px in split processing).
    """
    mask = np.zeros(shape, bool)
    mask[::interval, ::interval] = True
    return mask
