"""Training of the bundled membrane model: one stage, or both up to a file that `segment --model` takes."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.segment import Polarity
from cryoseg.config.train import TrainMembraneConfig
from cryoseg.core.grids.slicestack import CHANNELS
from cryoseg.events import Note, OnEvent, StageProgress, ignore
from cryoseg.io.outputs import make_folder
from cryoseg.methods.membrane_tiny.network import build_stage
from cryoseg.methods.membrane_tiny.runs import CPU, VALIDATION_TILE, load_start, package, write_stage1_logits
from cryoseg.methods.membrane_tiny.samples import clip_loss, validation, widen_input
from cryoseg.methods.membranes.clips import TrainingVolume
from cryoseg.methods.membranes.data import Pair, digest, load_volume, logits_folder, logits_path, split_pairs
from cryoseg.methods.training.loop import BEST, fit
from cryoseg.methods.training.processes import ALONE, Processes
from cryoseg.methods.training.report import report_steps


def train_stage(
    config: TrainMembraneConfig,
    training: Sequence[Pair],
    held_out: Sequence[Pair],
    run: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    polarity: Polarity = Polarity.DARK,
    logits: Path | None = None,
    device: torch.device = CPU,
    processes: Processes = ALONE,
    tensorboard: bool = False,
    on_event: OnEvent = ignore,
) -> bool:
    """Train one stage in the folder `run`, going on where an earlier call stopped.

    Parameters
    ----------
    config
        Stage, loop and clips.
    training, held_out
        Pairs to learn from and to choose the best weights by.
    run
        Receives `config.json`, `log.csv`, `last.pt` and `best.pt`.
    start
        Weights to begin with; stage-1 weights are widened for stage 2.
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
        "config": config.to_dict(),
        "training": [pair.name for pair in training],
        "validation": [pair.name for pair in held_out],
        "polarity": str(polarity),
        "start": None if start is None else digest(start),
    }
    volumes = _load(training, polarity, logits, "reading training volumes", on_event)
    judged = _load(held_out, polarity, logits, "reading validation volumes", on_event)

    torch.manual_seed(config.loop.seed)
    model = build_stage(config.stage, config.clip.size)
    if start is not None:
        model.load_state_dict(widen_input(dict(start), CHANNELS[config.stage]))
    model.to(device)
    judge = build_stage(config.stage, VALIDATION_TILE).eval().to(device)
    score = validation(judged, window=config.clip.length, reverse=config.stage == 2)

    def validate(trained: torch.nn.Module) -> float:
        judge.load_state_dict(trained.state_dict())
        return score(judge)

    # The time limit does not change what is learned, so a resumed run may have another one.
    frozen = replace(config, loop=replace(config.loop, max_minutes=None))
    fingerprint = {
        "config": json.dumps(frozen.to_dict(), sort_keys=True),
        **{key: document[key] for key in ("training", "validation", "polarity", "start")},
    }
    steps = fit(
        model,
        clip_loss(model, volumes, config, processes),
        config.loop,
        run,
        validate=validate,
        fingerprint=fingerprint,
        record=document,
        processes=processes,
    )
    return report_steps(
        steps,
        config.stage,
        config.loop,
        on_event=on_event,
        tensorboard=run if tensorboard and processes.first else None,
    )


def _load(
    pairs: Sequence[Pair], polarity: Polarity, logits: Path | None, stage: str, on_event: OnEvent
) -> list[TrainingVolume]:
    volumes = []
    for i, pair in enumerate(pairs, start=1):
        file = None if logits is None else logits_path(logits, pair)
        volumes.append(load_volume(pair, polarity=polarity, stage1_logits=file))
        on_event(StageProgress(name="data", stage=stage, done=i, total=len(pairs), unit="volumes"))
    return volumes


class _Shared(TypedDict):
    polarity: Polarity
    device: torch.device
    on_event: OnEvent


def train_membrane(
    configs: tuple[TrainMembraneConfig, TrainMembraneConfig],
    data: Sequence[str],
    validation_data: Sequence[str],
    output_dir: Path,
    *,
    start: Path | None = None,
    polarity: Polarity = Polarity.DARK,
    card: Mapping[str, Any] | None = None,
    device: torch.device = CPU,
    tensorboard: bool = False,
    on_event: OnEvent = ignore,
) -> Path | None:
    """From data to one model file: stage 1, its logits, stage 2, threshold, package.

    Every part that is done is kept, so the same call goes on after a crash or a time limit. The limit of
    stage 2's settings is that of the whole call, which makes at least one step.

    Returns
    -------
    Path or None
        The model file, or None if the time limit came first.
    """
    begun = time.monotonic()
    training, held_out = split_pairs(data, validation_data, seed=configs[0].loop.seed)
    runs = (output_dir / "stage1", output_dir / "stage2")
    model_file = output_dir / "membrane.safetensors"
    first = load_start(start, 1) if start is not None else None
    shared: _Shared = {
        "polarity": polarity,
        "device": device,
        "on_event": on_event,
    }
    if not train_stage(
        configs[0], training, held_out, runs[0], start=first, tensorboard=tensorboard, **shared
    ):
        return None
    logits = logits_folder(runs[1], runs[0] / BEST, polarity)
    write_stage1_logits(configs[0], runs[0], [*training, *held_out], logits, **shared)
    second = load_start(start, 2) if start is not None else load_start(runs[0] / BEST, 1)
    loop = configs[1].loop
    if loop.max_minutes is not None:
        left = max(0.0, loop.max_minutes - (time.monotonic() - begun) / 60)
        loop = replace(loop, max_minutes=left)
    if not train_stage(
        replace(configs[1], loop=loop),
        training,
        held_out,
        runs[1],
        start=second,
        logits=logits,
        tensorboard=tensorboard,
        **shared,
    ):
        return None
    threshold, dice = package(
        configs, runs, held_out, logits, model_file, polarity=polarity, card=card, device=device
    )
    on_event(Note(text=f"{model_file}: threshold {threshold:+.3f}, validation Dice {dice:.4f}"))
    return model_file
