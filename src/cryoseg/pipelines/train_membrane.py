"""`cryoseg train`: from pairs of tomogram and labels to a model file that `segment --model` takes."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, LoopConfig, TrainMembraneConfig
from cryoseg.core.slicestack import CHANNELS
from cryoseg.errors import ConfigError, WeightsError
from cryoseg.io.outputs import atomic_output, make_folder
from cryoseg.models.fine_sam2 import FineVolumePredictor
from cryoseg.models.membrane_tiny import CONFIG, Recipe, build_stage
from cryoseg.models.model_file import read_model_metadata, read_model_tensors, write_model_file
from cryoseg.models.weights import canonical_name, load_strict, require
from cryoseg.pipelines.events import Note, OnEvent, StageProgress, ignore
from cryoseg.pipelines.training_data import Fold, Pair, find_pairs, load_volume
from cryoseg.training.clips import TrainingVolume
from cryoseg.training.loop import BEST, RUN_CONFIG, StepResult, fit
from cryoseg.training.membrane import (
    LOGIT_BINS,
    STEM,
    clip_loss,
    dice_by_threshold,
    validation,
    volume_logits,
    widen_input,
)
from cryoseg.training.processes import ALONE, Processes

VALIDATION_TILE = 256
CPU = torch.device("cpu")


def split_pairs(
    data: Sequence[str], validation_data: Sequence[str], *, seed: int, fraction: float = 0.1
) -> tuple[list[Pair], list[Pair]]:
    """Training and validation pairs.

    Without validation data a tenth of the volumes is held out, or, of a single volume, every fourth
    labeled slice.
    """
    pairs = find_pairs(data)
    if validation_data:
        held_out = find_pairs(validation_data)
        known = {pair.tomogram.resolve() for pair in held_out}
        training = [pair for pair in pairs if pair.tomogram.resolve() not in known]
        if not training:
            raise ConfigError(
                "--validation: holds every training volume, so nothing is left to learn from. Give other "
                "volumes, or leave it out: a tenth is held out then."
            )
        return training, held_out
    if len(pairs) == 1:
        return [replace(pairs[0], fold=Fold.TRAINING)], [replace(pairs[0], fold=Fold.VALIDATION)]
    order = np.random.default_rng(seed).permutation(len(pairs))
    count = max(1, round(fraction * len(pairs)))
    return [pairs[i] for i in order[count:]], [pairs[i] for i in order[:count]]


def load_start(path: Path, stage: int) -> dict[str, Tensor]:
    """Weights of one stage from a packaged model (file or `membrane-tiny`) or from a run's `best.pt`."""
    if not path.exists():
        known = canonical_name(str(path))
        if known is None:
            raise WeightsError(
                f"{path}: not found; --start takes a model file, a run's {BEST} or membrane-tiny."
            )
        path = require(known)
    if path.suffix == ".safetensors":
        read_model_metadata(path)
        return {name: value.float() for name, value in read_model_tensors(path, f"stage{stage}.").items()}
    state = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(state, dict) or "model" not in state or STEM not in state["model"]:
        raise WeightsError(f"{path}: is neither a packaged membrane model nor the {BEST} of its training.")
    weights: dict[str, Tensor] = state["model"]
    return weights


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Of weights by content; the files that hold them may have any name."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


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
        "start": None if start is None else _digest(start),
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


def report_steps(
    results: Iterable[StepResult],
    stage: int,
    loop: LoopConfig,
    *,
    on_event: OnEvent,
    tensorboard: Path | None = None,
) -> bool:
    """Run a training loop to its end and tell of every line of its log.

    Parameters
    ----------
    results
        Of `fit`.
    stage
        For the messages.
    loop
        Tells when all is done.
    on_event
        Receives progress and a note per line.
    tensorboard
        Folder for event files, or None.

    Returns
    -------
    bool
        Whether all steps are done.

    Raises
    ------
    ConfigError
        If event files are asked for and TensorBoard is not installed.
    """
    writer = None if tensorboard is None else _tensorboard_writer(tensorboard)
    step = 0
    for result in results:
        step = result.step
        on_event(
            StageProgress(name=f"stage {stage}", stage="training", done=step, total=loop.steps, unit="steps")
        )
        on_event(Note(text=_line(stage, result)))
        if writer is not None:
            writer.add_scalar("loss", result.loss, step)
            writer.add_scalar("learning rate", result.learning_rate, step)
            if result.score is not None:
                writer.add_scalar("validation Dice", result.score, step)
    if writer is not None:
        writer.close()
    return step in (0, loop.steps)


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('--tensorboard needs TensorBoard; run pip install "cryoseg[train]".') from error
    return SummaryWriter(str(folder))


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


def run_settings(run: Path, stage: int) -> tuple[TrainMembraneConfig, Polarity]:
    """Settings of a finished stage, and the polarity where its pairs did not say.

    Raises
    ------
    WeightsError
        If the folder holds no run of this stage.
    """
    require_run(run)
    record = json.loads((run / RUN_CONFIG).read_text())
    config = record["config"]
    if record.get("recipe") or config["stage"] != stage:
        raise WeightsError(f"{run}: is no run of the bundled model's stage {stage}.")
    clip = ClipConfig(**config["clip"])
    return TrainMembraneConfig(stage=stage, clip=clip), Polarity(record.get("polarity", Polarity.DARK))


def require_run(run: Path) -> None:
    """Stop if a folder holds no weights of a training.

    Raises
    ------
    WeightsError
        With what to do.
    """
    if not (run / BEST).exists():
        raise WeightsError(
            f"{run / BEST}: missing. Check the folder; a run has it after its first validation."
        )


def best_network(
    run: Path, config: TrainMembraneConfig, size: int, device: torch.device = CPU
) -> FineVolumePredictor:
    """The best averaged network of a run, ready for tiles of `size` pixels."""
    require_run(run)
    path = run / BEST
    network = build_stage(config.stage, size)
    load_strict(network, load_start(path, config.stage), path)
    network.to(device).eval()
    return network


def logits_folder(run: Path, stage1: Path, polarity: Polarity) -> Path:
    """Where a stage-2 run keeps the logits of one stage 1; another one has another folder.

    Raises
    ------
    WeightsError
        If there are no such weights.
    """
    if not stage1.is_file():
        raise WeightsError(
            f"{stage1}: missing. Give the weights of stage 1, or its run after the first validation."
        )
    with stage1.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()[:10]
    return run / "stage1_logits" / f"{digest}_{polarity}"


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
    device: torch.device = CPU,
    on_event: OnEvent = ignore,
) -> None:
    """Stage-1 logits of every volume as `.npy`, float16; those that exist are kept."""
    make_folder(folder)
    network = best_network(run, config, VALIDATION_TILE, device)
    for i, pair in enumerate(pairs, start=1):
        target = logits_path(folder, pair)
        if not target.exists():
            logits = volume_logits(network, load_volume(pair, polarity=polarity), window=config.clip.length)
            with atomic_output(target, overwrite=True) as temporary, temporary.open("wb") as stream:
                np.save(stream, logits.astype(np.float16))
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
    device: torch.device = CPU,
) -> tuple[float, float]:
    """Write both stages as one model file, with the threshold that suits the validation volumes.

    Returns
    -------
    tuple of float
        The logit threshold and the mean validation Dice at it.
    """
    second = best_network(runs[1], configs[1], VALIDATION_TILE, device)
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
