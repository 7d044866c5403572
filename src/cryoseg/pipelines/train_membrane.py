"""`cryoseg train`: from pairs of tomogram and labels to a model file that `segment --model` takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.segment import Polarity
from cryoseg.config.train import TrainMembraneConfig
from cryoseg.errors import InputError, WeightsError
from cryoseg.io.outputs import make_folder
from cryoseg.models.fine_sam2 import FineVolumePredictor
from cryoseg.models.membrane_tiny import CONFIG, Recipe, build_stage
from cryoseg.models.model_file import read_model_metadata, read_model_tensors, write_model_file
from cryoseg.pipelines.events import Note, OnEvent, StageProgress, ignore
from cryoseg.pipelines.training_data import Pair, find_pairs, load_volume
from cryoseg.training.clips import TrainingVolume
from cryoseg.training.loop import BEST, StepResult, fit
from cryoseg.training.membrane import (
    LOGIT_BINS,
    clip_loss,
    dice_by_threshold,
    validation,
    volume_logits,
    widen_input,
)

VALIDATION_TILE = 256
RUN_CONFIG = "config.json"


def split_pairs(
    data: Sequence[str], validation_data: Sequence[str], *, seed: int, fraction: float = 0.1
) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs; without validation data a tenth of the volumes is held out.

    Raises
    ------
    InputError
        If nothing would be left to train on.
    """
    pairs = find_pairs(data)
    if validation_data:
        held_out = find_pairs(validation_data)
        known = {pair.tomogram.resolve() for pair in held_out}
        return [pair for pair in pairs if pair.tomogram.resolve() not in known], held_out
    if len(pairs) < 2:
        raise InputError(
            f"{data[0]}: one volume alone cannot be split into training and validation; "
            "name a second one with --validation."
        )
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = max(1, round(fraction * len(pairs)))
    return [pairs[i] for i in order[count:]], [pairs[i] for i in order[:count]]


def load_start(path: Path, stage: int) -> dict[str, Tensor]:
    """Weights of one stage from a packaged model or from a run's `best.pt`."""
    if path.suffix == ".safetensors":
        read_model_metadata(path)
        return {name: value.float() for name, value in read_model_tensors(path, f"stage{stage}.").items()}
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "model" not in state:
        raise WeightsError(f"{path}: is neither a packaged model nor a run's {BEST}.")
    weights: dict[str, Tensor] = state["model"]
    return weights


def train_stage(
    config: TrainMembraneConfig,
    training: Sequence[Pair],
    held_out: Sequence[Pair],
    run: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    polarity: Polarity = Polarity.DARK,
    logits: Path | None = None,
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
    }
    (run / RUN_CONFIG).write_text(json.dumps(document, indent=2) + "\n")
    volumes = _load(training, polarity, logits, "reading training volumes", on_event)
    judged = _load(held_out, polarity, logits, "reading validation volumes", on_event)

    torch.manual_seed(config.loop.seed)
    model = build_stage(config.stage, config.clip.size)
    if start is not None:
        model.load_state_dict(widen_input(dict(start), 5 * config.stage))
    judge = build_stage(config.stage, VALIDATION_TILE).eval()
    score = validation(judged, window=config.clip.length, reverse=config.stage == 2)

    def validate(trained: torch.nn.Module) -> float:
        judge.load_state_dict(trained.state_dict())
        return score(judge)

    # The time limit does not change what is learned, so a resumed run may have another one.
    frozen = replace(config, loop=replace(config.loop, max_minutes=None))
    fingerprint = {"config": json.dumps(frozen.to_dict(), sort_keys=True), "training": document["training"]}
    step = 0
    for result in fit(
        model,
        clip_loss(model, lambda: volumes, config),
        config.loop,
        run,
        validate=validate,
        fingerprint=fingerprint,
    ):
        step = result.step
        on_event(
            StageProgress(
                name=f"stage {config.stage}",
                stage="training",
                done=step,
                total=config.loop.steps,
                unit="steps",
            )
        )
        on_event(Note(text=_line(config.stage, result)))
    return step in (0, config.loop.steps)


def _line(stage: int, result: StepResult) -> str:
    score = (
        ""
        if result.score is None
        else f"  validation Dice {result.score:.4f}{' (best)' if result.best else ''}"
    )
    return (
        f"stage {stage}  step {result.step:5d}  loss {result.loss:.4f}  "
        f"learning rate {result.learning_rate:.1e}  {result.seconds:6.0f} s{score}"
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


def best_network(run: Path, config: TrainMembraneConfig, size: int) -> FineVolumePredictor:
    """The best averaged network of a run, ready for tiles of `size` pixels."""
    path = run / BEST
    if not path.exists():
        raise WeightsError(f"{path}: missing; the run has not reached its first validation.")
    network = build_stage(config.stage, size)
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True)["model"])
    network.eval()
    return network


def logits_path(folder: Path, pair: Pair) -> Path:
    """Where the stage-1 logits of a pair are kept; two folders may hold volumes of one name."""
    place = hashlib.sha256(str(pair.tomogram.resolve()).encode()).hexdigest()[:10]
    return folder / f"{pair.name}_{place}.npy"


def write_stage1_logits(
    config: TrainMembraneConfig,
    run: Path,
    pairs: Sequence[Pair],
    folder: Path,
    *,
    polarity: Polarity = Polarity.DARK,
    on_event: OnEvent = ignore,
) -> None:
    """Stage-1 logits of every volume as `.npy`, float16; those that exist are kept."""
    make_folder(folder)
    network = best_network(run, config, VALIDATION_TILE)
    for i, pair in enumerate(pairs, start=1):
        target = logits_path(folder, pair)
        if not target.exists():
            logits = volume_logits(network, load_volume(pair, polarity=polarity), window=config.clip.length)
            partial = target.with_suffix(".part")
            with partial.open("wb") as stream:
                np.save(stream, logits.astype(np.float16))
            partial.replace(target)
        on_event(StageProgress(name="data", stage="stage-1 logits", done=i, total=len(pairs), unit="volumes"))


def package(
    configs: tuple[TrainMembraneConfig, TrainMembraneConfig],
    runs: tuple[Path, Path],
    held_out: Sequence[Pair],
    logits: Path,
    output: Path,
    *,
    polarity: Polarity = Polarity.DARK,
    card: Mapping[str, Any] | None = None,
) -> tuple[float, float]:
    """Write both stages as one model file, with the threshold that suits the validation volumes.

    Returns
    -------
    tuple of float
        The logit threshold and the mean validation Dice at it.
    """
    second = best_network(runs[1], configs[1], VALIDATION_TILE)
    curves = []
    for pair in held_out:
        volume = load_volume(pair, polarity=polarity, stage1_logits=logits_path(logits, pair))
        found = volume_logits(second, volume, window=configs[1].clip.length, reverse=True)
        curves.append(dice_by_threshold(found, volume.labels))
    mean = np.mean(curves, axis=0)
    threshold, dice = float(LOGIT_BINS[mean.argmax()]), float(mean.max())
    tensors = {
        f"stage{config.stage}.{name}": value
        for config, run in zip(configs, runs, strict=True)
        for name, value in torch.load(run / BEST, map_location="cpu", weights_only=True)["model"].items()
    }
    recipe = Recipe(window=configs[1].clip.length, logit_threshold=threshold)
    metadata = {
        "method": "membrane-tiny",
        "version": __version__,
        "network": CONFIG,
        "recipe": recipe.to_metadata(),
        "logit_threshold": threshold,
        "card": {
            "validation_dice": round(dice, 4),
            "validation_volumes": len(held_out),
            "training": [_history(run) for run in runs],
            **(card or {}),
        },
    }
    write_model_file(output, tensors, metadata, precision="float16")
    return threshold, dice


def _history(run: Path) -> dict[str, Any]:
    """What a run says about itself, with the number of its volumes instead of their names."""
    record: dict[str, Any] = json.loads((run / RUN_CONFIG).read_text())
    return {**record, **{key: len(record[key]) for key in ("training", "validation")}}


def train_membrane(
    configs: tuple[TrainMembraneConfig, TrainMembraneConfig],
    data: Sequence[str],
    validation_data: Sequence[str],
    output_dir: Path,
    *,
    start: Path | None = None,
    polarity: Polarity = Polarity.DARK,
    card: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore,
) -> Path | None:
    """From data to one model file: stage 1, its logits, stage 2, threshold, package.

    Every part that is done is kept, so the same call goes on after a crash or a time limit.

    Returns
    -------
    Path or None
        The model file, or None if the time limit came first.
    """
    training, held_out = split_pairs(data, validation_data, seed=configs[0].loop.seed)
    runs = (output_dir / "stage1", output_dir / "stage2")
    logits, model_file = output_dir / "stage1_logits", output_dir / "membrane.safetensors"
    first = load_start(start, 1) if start is not None else None
    if not train_stage(
        configs[0], training, held_out, runs[0], start=first, polarity=polarity, on_event=on_event
    ):
        return None
    write_stage1_logits(
        configs[0], runs[0], [*training, *held_out], logits, polarity=polarity, on_event=on_event
    )
    second = load_start(start, 2) if start is not None else load_start(runs[0] / BEST, 1)
    if not train_stage(
        configs[1],
        training,
        held_out,
        runs[1],
        start=second,
        polarity=polarity,
        logits=logits,
        on_event=on_event,
    ):
        return None
    threshold, dice = package(configs, runs, held_out, logits, model_file, polarity=polarity, card=card)
    on_event(Note(text=f"{model_file}: threshold {threshold:+.3f}, validation Dice {dice:.4f}"))
    return model_file
