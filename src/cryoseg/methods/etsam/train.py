"""Train a stage of ETSAM: any SAM 2 network on whole slices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cryoseg.config.segment import (
    PRESET_STAGE1_THRESHOLD,
    Polarity,
    Preset,
    SegmentConfig,
    Stage1Prompt,
    Stage2Prompt,
)
from cryoseg.config.train_sam2 import ClipPrompts, TrainSam2Config
from cryoseg.core.grids.blank import find_blank
from cryoseg.core.normalize import fused_logits_map, intensity_map
from cryoseg.errors import InputError
from cryoseg.events import OnEvent
from cryoseg.io.images.volumes import check_finite, read_tomogram
from cryoseg.methods.device import autocast
from cryoseg.methods.etsam.clips import SliceVolume, sample_slice_clips
from cryoseg.methods.etsam.loss import clip_loss, etsam_loss
from cryoseg.methods.etsam.network import StagePass, empty_mask, grid_mask, whole
from cryoseg.methods.etsam.training_network import build_clip_network, layered_groups
from cryoseg.methods.membranes.data import Pair, TrainingPairs, read_labels, write_stage1_logits
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor
from cryoseg.methods.segmenter import Execution
from cryoseg.methods.state import load_state_dict, load_strict
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.run import Runtime, TrainingRun
from cryoseg.methods.training.threshold import best_threshold, dice_by_threshold


def train_sam2_stage(
    config: TrainSam2Config,
    data: TrainingPairs,
    folder: Path,
    *,
    start: Path | None = None,
    runtime: Runtime = Runtime(),
) -> bool:
    """Train one stage in a folder; continue where an earlier call stopped.

    Parameters
    ----------
    config
        Settings of the stage.
    data
        Pairs, with the folder of stage-1 logits for stage 2.
    folder
        Folder of `config.json`, `log.csv`, `last.pt` and `best.pt`, which `cryoseg segment
        --stage1-checkpoint` reads with the same `--sam2-config`.
    start
        Checkpoint of SAM 2.1, ETSAM or a run to start with; None to train from scratch.
    runtime
        Device, processes and receiver of events.

    Returns
    -------
    bool
        Whether all steps are done; False if the time limit came first.
    """
    run = TrainingRun(folder, f"stage {config.stage}", config.loop, runtime)
    device, processes = runtime.device, runtime.processes
    network = build_clip_network(
        config.sam2_config, prompts=config.prompts, drop_path=config.drop_path, freeze=config.freeze
    )
    if start is not None:
        load_strict(network, load_state_dict(start), start)
    network.to(device)
    volumes = [_slice_volume(pair, config, data, runtime.on_event) for pair in data.training]
    criterion = etsam_loss()
    part = processes.share(config.clip.batch)

    def loss(step: int) -> Tensor:
        clips = sample_slice_clips(
            volumes, config.clip, side=network.image_size, seed=config.loop.seed, step=step, part=part
        ).to(device)
        network.reseed([config.loop.seed, step, processes.rank])
        with autocast(device, config.precision):
            outputs = network(clips)
        return clip_loss(criterion, outputs, clips)

    predictor = build_predictor(config.sam2_config).to(device) if processes.first else None

    def validate(trained: nn.Module, step: int) -> float:
        assert predictor is not None
        predictor.load_state_dict(trained.state_dict())
        curves = [
            dice_by_threshold(
                stage_logits(predictor, pair, config, data, device),
                read_labels(pair, read_tomogram(pair.tomogram, mode0=pair.mode0)),
            )
            for pair in data.held_out
        ]
        return best_threshold(curves)[1]

    groups = layered_groups(
        network,
        weight_decay=config.loop.weight_decay,
        encoder_rate=config.encoder_rate,
        layer_decay=config.layer_decay,
    )
    record = {
        "recipe": "etsam",
        "config": config.to_dict(),
        **data.record(),
        "start": None if start is None else start.name,
    }
    return run.fit(Learner(network=network, loss=loss, validate=validate, groups=groups), record)


def write_sam2_logits(
    config: TrainSam2Config, checkpoint: Path, data: TrainingPairs, runtime: Runtime
) -> None:
    """Write the stage-1 logits of every pair for stage 2; existing files are kept."""
    first = replace(config, stage=1)

    def build() -> Callable[[Pair], NDArray[np.float32]]:
        predictor = build_predictor(config.sam2_config)
        load_strict(predictor, load_state_dict(checkpoint), checkpoint)
        predictor.to(runtime.device)
        return lambda pair: stage_logits(predictor, pair, first, data, runtime.device)

    write_stage1_logits(data, runtime, build)


def stage_logits(
    predictor: VolumePredictor,
    pair: Pair,
    config: TrainSam2Config,
    data: TrainingPairs,
    device: torch.device,
) -> NDArray[np.float32]:
    """Compute the (z, y, x) logits of a pair's tomogram as `cryoseg segment` does."""
    values = read_tomogram(pair.tomogram, mode0=pair.mode0).data
    out = np.empty(values.shape, np.float32)
    if config.stage == 2:
        out[:] = np.load(data.stage1_logits(pair))
    grey = intensity_map(
        values, config.normalize, blank=find_blank(values), invert=_inverted(pair, data.polarity)
    )
    settings = SegmentConfig(
        stage1_prompt=config.stage1_prompt,
        stage2_prompt=config.stage2_prompt,
        prompt_interval=config.prompt_interval,
        normalize=config.normalize,
        stage1_threshold=PRESET_STAGE1_THRESHOLD[Preset.V1],
    )
    (window,) = whole(*values.shape[1:])
    stage = StagePass(grey=grey, data=values, logits=out, kept=None)
    execution = Execution(device=device, precision=config.precision)
    for _ in stage.run(predictor, config.stage, window, settings, execution):
        pass
    return out


def _inverted(pair: Pair, polarity: Polarity) -> bool:
    """Whether to invert grey values: only if the membranes are known to be bright."""
    return (pair.polarity or polarity) is Polarity.BRIGHT


def _slice_volume(pair: Pair, config: TrainSam2Config, data: TrainingPairs, on_event: OnEvent) -> SliceVolume:
    """Return a pair as a volume whose slices are read when they are needed."""
    tomogram = read_tomogram(pair.tomogram, mode0=pair.mode0)
    check_finite(tomogram)
    labels = read_labels(pair, tomogram, on_event)
    values = tomogram.data
    grey = intensity_map(
        values, config.normalize, blank=find_blank(values), invert=_inverted(pair, data.polarity)
    )
    shape = (values.shape[1], values.shape[2])
    if config.stage == 1:
        return SliceVolume(
            name=pair.name,
            plane=lambda z: grey(values[z]),
            labels=labels,
            prompt=_prompter(config, config.stage1_prompt, shape, None),
        )
    if data.logits is None:
        raise InputError(f"{pair.name}: stage 2 needs stage-1 logits; give the run with --stage1.")
    first: NDArray[np.float16] = np.load(data.stage1_logits(pair), mmap_mode="r")
    fused = fused_logits_map(np.array([first.min(), first.max()], np.float32))
    return SliceVolume(
        name=pair.name,
        plane=lambda z: grey(values[z]) + fused(first[z].astype(np.float32)),
        labels=labels,
        prompt=_prompter(config, config.stage2_prompt, shape, first),
    )


def _prompter(
    config: TrainSam2Config,
    kind: Stage1Prompt | Stage2Prompt,
    shape: tuple[int, int],
    first: NDArray[np.float16] | None,
) -> Callable[[int], Any]:
    """Return the function from slice z to the mask that prompts it in inference."""
    if config.prompts is ClipPrompts.SAM2 or kind.value == Stage1Prompt.NONE.value:
        return lambda z: None
    if kind.value == Stage1Prompt.ZERO.value:
        return lambda z: empty_mask(shape)
    if kind.value == Stage2Prompt.STAGE1_MASKS.value:
        assert first is not None
        return lambda z: first[z] > PRESET_STAGE1_THRESHOLD[Preset.V1]
    return lambda z: grid_mask(shape, config.prompt_interval)
