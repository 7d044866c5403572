"""`cryoseg train etsam-stage1|etsam-stage2 --recipe etsam`: any SAM 2 network, on whole slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.segment import (
    PRESET_STAGE1_THRESHOLD,
    Polarity,
    Preset,
    SegmentConfig,
    Stage1Prompt,
    Stage2Prompt,
)
from cryoseg.config.train_sam2 import ClipPrompts, TrainSam2Config
from cryoseg.core.blank import find_blank
from cryoseg.core.normalize import fused_logits_map, intensity_map
from cryoseg.errors import InputError
from cryoseg.events import OnEvent, StageProgress, ignore
from cryoseg.io.images.volumes import check_finite, read_tomogram
from cryoseg.io.outputs import atomic_output, make_folder
from cryoseg.methods.device import autocast
from cryoseg.methods.etsam.clips import SliceVolume, sample_batch
from cryoseg.methods.etsam.loss import clip_loss, etsam_loss
from cryoseg.methods.etsam.network import StagePass, empty_mask, grid_mask, whole
from cryoseg.methods.etsam.training_network import build_clip_network, layered_groups
from cryoseg.methods.membranes.data import Pair, logits_path, read_labels
from cryoseg.methods.membranes.losses import dice_by_threshold
from cryoseg.methods.sam.sam2_config import build_predictor
from cryoseg.methods.sam.sam2_volume import VolumePredictor
from cryoseg.methods.training.loop import fit
from cryoseg.methods.training.processes import ALONE, Processes
from cryoseg.methods.training.report import report_steps
from cryoseg.methods.weights import load_state_dict, load_strict


def train_sam2_stage(
    config: TrainSam2Config,
    training: Sequence[Pair],
    held_out: Sequence[Pair],
    run: Path,
    *,
    start: Path | None = None,
    polarity: Polarity = Polarity.AS_IS,
    logits: Path | None = None,
    device: torch.device,
    processes: Processes = ALONE,
    tensorboard: bool = False,
    on_event: OnEvent = ignore,
) -> bool:
    """Train one stage in the folder `run`, going on where an earlier call stopped.

    Parameters
    ----------
    config
        Everything that decides the result.
    training, held_out
        Pairs to learn from, and to choose the best weights by.
    run
        Receives `config.json`, `log.csv`, `last.pt` and `best.pt`, which `cryoseg segment
        --stage1-checkpoint` takes with the same `--sam2-config`.
    start
        Checkpoint of SAM 2.1, of ETSAM or of a run; None starts from nothing.
    polarity
        Where a pair does not say.
    logits
        Folder of stage-1 logits, for stage 2.
    device
        To train on.
    processes
        Those that train together.
    tensorboard
        Write event files too.
    on_event
        Receives a note per line of the log.

    Returns
    -------
    bool
        True when all steps are done, False when the time limit ended the run earlier.
    """
    make_folder(run)
    document = {
        "version": __version__,
        "recipe": "etsam",
        "config": config.to_dict(),
        "training": [pair.name for pair in training],
        "validation": [pair.name for pair in held_out],
        "polarity": str(polarity),
        "start": None if start is None else start.name,
    }
    torch.manual_seed(config.loop.seed)
    network = build_clip_network(
        config.sam2_config, prompts=config.prompts, drop_path=config.drop_path, freeze=config.freeze
    )
    if start is not None:
        load_strict(network, load_state_dict(start), start)
    network.to(device)
    volumes = [_slice_volume(pair, config, polarity, logits) for pair in training]
    criterion = etsam_loss()
    part = processes.share(config.clip.batch)

    def loss(step: int) -> Tensor:
        clips = sample_batch(
            volumes, config.clip, side=network.image_size, seed=config.loop.seed, step=step, part=part
        ).to(device)
        network.reseed([config.loop.seed, step, processes.rank])
        with autocast(device, config.precision):
            outputs = network(clips)
        return clip_loss(criterion, outputs, clips)

    judge = build_predictor(config.sam2_config).to(device) if processes.first else None

    def validate(trained: torch.nn.Module) -> float:
        assert judge is not None
        judge.load_state_dict(trained.state_dict())
        curves = [
            dice_by_threshold(
                stage_logits(judge, pair, config, polarity=polarity, logits=logits, device=device),
                read_labels(pair, read_tomogram(pair.tomogram)),
            )
            for pair in held_out
        ]
        return float(np.mean(curves, axis=0).max())

    frozen = replace(config, loop=replace(config.loop, max_minutes=None))
    fingerprint = {
        "config": json.dumps(frozen.to_dict(), sort_keys=True),
        **{key: document[key] for key in ("training", "validation", "polarity", "start")},
    }
    groups = layered_groups(
        network,
        weight_decay=config.loop.weight_decay,
        encoder_rate=config.encoder_rate,
        layer_decay=config.layer_decay,
    )
    steps = fit(
        network,
        loss,
        config.loop,
        run,
        validate=validate,
        fingerprint=fingerprint,
        record=document,
        groups=groups,
        processes=processes,
    )
    return report_steps(
        steps,
        config.stage,
        config.loop,
        on_event=on_event,
        tensorboard=run if tensorboard and processes.first else None,
    )


def write_sam2_logits(
    config: TrainSam2Config,
    checkpoint: Path,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    polarity: Polarity = Polarity.AS_IS,
    device: torch.device,
    processes: Processes = ALONE,
    on_event: OnEvent = ignore,
) -> None:
    """ETSAM's preparation for stage 2: stage-1 logits of every volume, `.npy`, float16.

    Files that exist are kept; several processes deal the volumes among themselves.
    """
    make_folder(folder)
    first = replace(config, stage=1)
    missing = [pair for pair in pairs if not logits_path(folder, pair).exists()]
    mine = missing[processes.rank :: processes.count]
    if mine:
        predictor = build_predictor(config.sam2_config)
        load_strict(predictor, load_state_dict(checkpoint), checkpoint)
        predictor.to(device)
        for i, pair in enumerate(mine, start=1):
            found = stage_logits(predictor, pair, first, polarity=polarity, device=device)
            target = logits_path(folder, pair)
            with atomic_output(target, overwrite=True) as temporary, temporary.open("wb") as stream:
                np.save(stream, found.astype(np.float16))
            on_event(
                StageProgress(name="data", stage="stage-1 logits", done=i, total=len(mine), unit="volumes")
            )
    processes.wait()


def stage_logits(
    predictor: VolumePredictor,
    pair: Pair,
    config: TrainSam2Config,
    *,
    polarity: Polarity,
    logits: Path | None = None,
    device: torch.device,
) -> NDArray[np.float32]:
    """(z, y, x) logits of a pair's tomogram, by the propagation that `cryoseg segment` uses."""
    data = read_tomogram(pair.tomogram).data
    out = np.empty(data.shape, np.float32)
    if config.stage == 2:
        assert logits is not None
        out[:] = np.load(logits_path(logits, pair))
    grey = intensity_map(data, config.normalize, blank=find_blank(data), invert=_inverted(pair, polarity))
    settings = SegmentConfig(
        stage1_prompt=config.stage1_prompt,
        stage2_prompt=config.stage2_prompt,
        prompt_interval=config.prompt_interval,
        normalize=config.normalize,
        stage1_threshold=PRESET_STAGE1_THRESHOLD[Preset.V1],
    )
    (window,) = whole(*data.shape[1:])
    stage = StagePass(grey=grey, data=data, logits=out, kept=None)
    for _ in stage.run(predictor, config.stage, window, settings, device, config.precision):
        pass
    return out


def _inverted(pair: Pair, polarity: Polarity) -> bool:
    """ETSAM takes grey values as they are; only membranes known to be bright are inverted."""
    return (pair.polarity or polarity) is Polarity.BRIGHT


def _slice_volume(
    pair: Pair, config: TrainSam2Config, polarity: Polarity, logits: Path | None
) -> SliceVolume:
    """A pair whose slices are read when they are asked for."""
    tomogram = read_tomogram(pair.tomogram)
    check_finite(tomogram)
    labels = read_labels(pair, tomogram)
    data = tomogram.data
    grey = intensity_map(data, config.normalize, blank=find_blank(data), invert=_inverted(pair, polarity))
    shape = (data.shape[1], data.shape[2])
    if config.stage == 1:
        return SliceVolume(
            name=pair.name,
            plane=lambda z: grey(data[z]),
            labels=labels,
            prompt=_prompter(config, config.stage1_prompt, shape, None),
        )
    if logits is None:
        raise InputError(f"{pair.name}: stage 2 learns from stage-1 logits; name the run with --stage1.")
    first: NDArray[np.float16] = np.load(logits_path(logits, pair), mmap_mode="r")
    fused = fused_logits_map(np.array([first.min(), first.max()], np.float32))
    return SliceVolume(
        name=pair.name,
        plane=lambda z: grey(data[z]) + fused(first[z].astype(np.float32)),
        labels=labels,
        prompt=_prompter(config, config.stage2_prompt, shape, first),
    )


def _prompter(
    config: TrainSam2Config,
    kind: Stage1Prompt | Stage2Prompt,
    shape: tuple[int, int],
    first: NDArray[np.float16] | None,
) -> Callable[[int], Any]:
    """The mask with which inference would prompt slice z."""
    if config.prompts is ClipPrompts.SAM2 or kind.value == Stage1Prompt.NONE.value:
        return lambda z: None
    if kind.value == Stage1Prompt.ZERO.value:
        return lambda z: empty_mask(shape)
    if kind.value == Stage2Prompt.STAGE1_MASKS.value:
        assert first is not None
        return lambda z: first[z] > PRESET_STAGE1_THRESHOLD[Preset.V1]
    return lambda z: grid_mask(shape, config.prompt_interval)
