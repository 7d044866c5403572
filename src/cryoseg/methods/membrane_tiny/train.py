"""Train one stage of the membrane model, or both up to a packaged file."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from cryoseg.config.train import TrainMembraneConfig
from cryoseg.core.grids.slicestack import CHANNELS
from cryoseg.events import Note
from cryoseg.methods.membrane_tiny.network import build_stage
from cryoseg.methods.membrane_tiny.runs import VALIDATION_TILE, load_start, package, write_logits_of_run
from cryoseg.methods.membrane_tiny.samples import loss_of_clips, validation_score, widen_input
from cryoseg.methods.membranes.clips import TrainingVolume
from cryoseg.methods.membranes.data import Pair, TrainingPairs, digest, load_volume, logits_folder
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.loop import BEST
from cryoseg.methods.training.run import Runtime, TrainingRun


def train_stage(
    config: TrainMembraneConfig,
    data: TrainingPairs,
    folder: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    runtime: Runtime = Runtime(),
) -> bool:
    """Train one stage in a folder; continue where an earlier call stopped.

    Parameters
    ----------
    config
        Stage, loop and clips.
    data
        Pairs, with the folder of stage-1 logits for stage 2.
    folder
        Receives `config.json`, `log.csv`, `last.pt` and `best.pt`.
    start
        Weights to start with; stage-1 weights are widened for stage 2.
    runtime
        Device, processes and receiver of events.

    Returns
    -------
    bool
        Whether all steps are done; False if the time limit came first.
    """
    run = TrainingRun(folder, f"stage {config.stage}", config.loop, runtime)
    network = build_stage(config.stage, config.clip.size)
    if start is not None:
        network.load_state_dict(widen_input(dict(start), CHANNELS[config.stage]))
    network.to(runtime.device)
    validated = build_stage(config.stage, VALIDATION_TILE).eval().to(runtime.device)
    volumes = _load(data, data.training, "reading training volumes", runtime)
    held_out = _load(data, data.held_out, "reading validation volumes", runtime)

    def validate(trained: nn.Module, step: int) -> float:
        validated.load_state_dict(trained.state_dict())
        return validation_score(validated, held_out, window=config.clip.length, reverse=config.stage == 2)

    learner = Learner(
        network=network,
        loss=loss_of_clips(network, volumes, config, runtime.processes),
        validate=validate,
    )
    record = {
        "config": config.to_dict(),
        **data.record(),
        "start": None if start is None else digest(start),
    }
    return run.fit(learner, record)


def _load(data: TrainingPairs, pairs: Sequence[Pair], stage: str, runtime: Runtime) -> list[TrainingVolume]:
    return [
        load_volume(
            pair,
            polarity=data.polarity,
            stage1_logits=None if data.logits is None else data.stage1_logits(pair),
            on_event=runtime.on_event,
        )
        for pair in runtime.progress(pairs, stage, "volumes")
    ]


def train_membrane(
    configs: tuple[TrainMembraneConfig, TrainMembraneConfig],
    data: TrainingPairs,
    output_dir: Path,
    *,
    start: Path | None = None,
    card: Mapping[str, Any] | None = None,
    runtime: Runtime = Runtime(),
) -> Path | None:
    """Train stage 1, write its logits, train stage 2, choose the threshold and write the model file.

    Finished parts are kept, so that an equal call continues after a crash or a time limit. The time limit
    in the settings of stage 2 holds for the whole call, which takes at least one step.

    Parameters
    ----------
    configs
        Settings of both stages.
    data
        Pairs of both stages.
    output_dir
        Folder of the runs of the stages and of `membrane.safetensors`.
    start
        Model file or name of the weights that both stages start with.
    card
        Entries to add to the model's card.
    runtime
        Device and receiver of events.

    Returns
    -------
    Path or None
        The model file, or None if the time limit came first.
    """
    begun = time.monotonic()
    runs = (output_dir / "stage1", output_dir / "stage2")
    model_file = output_dir / "membrane.safetensors"
    first = load_start(start, 1) if start is not None else None
    if not train_stage(configs[0], data, runs[0], start=first, runtime=runtime):
        return None
    data = replace(data, logits=logits_folder(runs[1], runs[0] / BEST, data.polarity))
    write_logits_of_run(configs[0], runs[0], data, runtime)
    second = load_start(start, 2) if start is not None else load_start(runs[0] / BEST, 1)
    loop = configs[1].loop
    if loop.max_minutes is not None:
        left = max(0.0, loop.max_minutes - (time.monotonic() - begun) / 60)
        loop = replace(loop, max_minutes=left)
    if not train_stage(replace(configs[1], loop=loop), data, runs[1], start=second, runtime=runtime):
        return None
    threshold, dice = package(configs, runs, data, model_file, card=card, device=runtime.device)
    runtime.on_event(Note(text=f"{model_file}: threshold {threshold:+.3f}, validation Dice {dice:.4f}"))
    return model_file
