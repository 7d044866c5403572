"""Train one stage of the membrane model, or both up to a packaged file."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from cryoseg import __version__
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, TrainMembraneConfig
from cryoseg.core.grids.resample import tile_grid
from cryoseg.core.grids.robust import IntensityMap
from cryoseg.errors import WeightsError
from cryoseg.events import Note
from cryoseg.methods.cuda_graphs import replay_on_cuda
from cryoseg.methods.membrane_tiny.clips import TrainingVolume, load_volume, sample_clips
from cryoseg.methods.membrane_tiny.network import (
    CHANNELS,
    CONFIG,
    MembraneRecipe,
    TiledVolume,
    build_stage,
    propagate,
)
from cryoseg.methods.membranes import Pair, TrainingPairs, logits_folder, write_stage1_logits
from cryoseg.methods.model_file import load_state_dict, load_strict, read_model_tensors, write_model_file
from cryoseg.methods.sam.fine_sam2 import FineSam2
from cryoseg.methods.sam.sam2_volume import REPLAYED
from cryoseg.methods.training.ahead import ahead
from cryoseg.methods.training.learner import Learner, best_threshold, dice_by_threshold
from cryoseg.methods.training.loop import BEST, RUN_CONFIG
from cryoseg.methods.training.processes import ALONE, Processes
from cryoseg.methods.training.run import CPU, Runtime, TrainingRun
from cryoseg.methods.weights import find_weights

IDENTITY = IntensityMap(center=0.0, spread=1.0)  # training volumes are normalized when they are read
STEM = "image_encoder.stem.to_full.0.weight"
VALIDATION_TILE = 256
# Annotated bands are often wider than simulated labels, and a low threshold finds more faint membrane.
TOLERANCE = 0.003  # mean validation Dice that the threshold of a packaged model may give up to be lower


def membrane_loss(logits: Tensor, labels: Tensor, *, processes: Processes = ALONE) -> Tensor:
    """Return the sum of mean cross-entropy and soft Dice loss over all voxels with a label of 0 or more.

    Parameters
    ----------
    logits, labels
        Tensors of one shape; labels are 1, 0 or -1 (ignored).
    processes
        Processes whose batches form one batch.
    """
    target, weight = (labels > 0).float(), (labels >= 0).float()
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    summed, count = processes.total(torch.stack([(entropy * weight).sum(), weight.sum()]))
    probability, target = torch.sigmoid(logits) * weight, target * weight
    sums = torch.stack([(probability * target).sum(), probability.sum() + target.sum()])
    overlap, both = processes.total(sums)
    # The added 1 gives an empty batch without false positives a Dice loss of 0.
    return summed / count.clamp(min=1) + (1 - (2 * overlap + 1) / (both + 1))


def volume_logits(
    model: FineSam2, volume: TrainingVolume, *, window: int, reverse: bool = False
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Compute the (z, y, x) logits of a training volume as inference does."""
    out = np.empty(volume.data.shape, np.float32)
    stage1 = None if volume.stage1_logits is None else volume.stage1_logits.astype(np.float32)
    grid = tile_grid((volume.data.shape[1], volume.data.shape[2]), model.image_size, model.image_size // 8)
    tiled = TiledVolume(data=volume.data, intensity=IDENTITY, grid=grid, window=window)
    propagate(model, tiled, out, stage1=stage1, reverse=reverse)
    return out


def _widened(state: dict[str, Tensor], in_channels: int) -> dict[str, Tensor]:
    """Return the weights of stage 1 as a start for stage 2, with zeros for the new input channels."""
    kernel = state[STEM]
    given = kernel.shape[1]
    if given not in (CHANNELS[1], in_channels):
        raise WeightsError(
            f"the weights to start with take {given} input channels, not {CHANNELS[1]} or {in_channels}; "
            "they are of another version. Start with membrane-tiny or with stage 1."
        )
    wide = torch.zeros(kernel.shape[0], in_channels, *kernel.shape[2:])
    wide[:, :given] = kernel
    return {**state, STEM: wide}


def train_stage(
    config: TrainMembraneConfig,
    data: TrainingPairs,
    folder: Path,
    *,
    start: Mapping[str, Tensor] | None = None,
    runtime: Runtime = Runtime(),
) -> bool:
    """Train one stage in a folder, or continue an earlier call; return whether all steps are done.

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
    """
    run = TrainingRun(folder, f"stage {config.stage}", config.loop, runtime)
    network = build_stage(config.stage, config.clip.size)
    if start is not None:
        network.load_state_dict(_widened(dict(start), CHANNELS[config.stage]))
    device, processes = runtime.device, runtime.processes
    network.to(device)
    validated = build_stage(config.stage, VALIDATION_TILE).eval().to(device)
    replay_on_cuda(validated, *REPLAYED)
    volumes = _load(data, data.training, "reading training volumes", runtime)
    held_out = _load(data, data.held_out, "reading validation volumes", runtime)

    part = processes.share(config.clip.batch)

    def draw(step: int) -> tuple[NDArray[Any], ...]:
        clips = sample_clips(volumes, config.clip, seed=config.loop.seed, step=step, part=part)
        return tuple(values.numpy() for values in clips)

    drawn = ahead(draw, runtime.sample_workers)

    def loss(step: int) -> Tensor:
        images, labels = map(torch.from_numpy, drawn(step))
        return membrane_loss(network.track_clip(images.to(device)), labels.to(device), processes=processes)

    def validate(trained: nn.Module, step: int) -> float:
        validated.load_state_dict(trained.state_dict())
        return best_threshold(_curves(validated, held_out, config))[1]

    start_hash = None if start is None else _digest(start)
    record = {"config": config.to_dict(), **data.record(), "start": start_hash}
    return run.fit(Learner(network=network, loss=loss, validate=validate), record)


def _curves(
    network: FineSam2, volumes: Iterable[TrainingVolume], config: TrainMembraneConfig
) -> list[NDArray[np.float64]]:
    """Return the Dice curve, (bins,), of every volume."""
    window, reverse = config.clip.length, config.stage == 2
    return [
        dice_by_threshold(volume_logits(network, one, window=window, reverse=reverse), one.labels)
        for one in volumes
    ]


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

    The result is the model file, or None if the time limit came first. Finished parts are kept, so that an
    equal call continues after a crash or a time limit. The time limit in the settings of stage 2 holds for
    the whole call, which takes at least one step.

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


def _digest(weights: Mapping[str, Tensor]) -> str:
    """Return a hash of the values of weights, which does not depend on their file."""
    found = hashlib.sha256()
    for name in sorted(weights):
        found.update(weights[name].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def load_start(path: Path, stage: int) -> dict[str, Tensor]:
    """Read the weights of one stage from a packaged model, by file or name, or from a run's `best.pt`."""
    path = find_weights(path)
    if path.suffix == ".safetensors":
        return {name: value.float() for name, value in read_model_tensors(path, f"stage{stage}.").items()}
    weights = load_state_dict(path)
    if STEM not in weights:
        raise WeightsError(f"{path}: is neither a packaged membrane model nor the {BEST} of its training.")
    return weights


def run_settings(run: Path, stage: int) -> tuple[TrainMembraneConfig, Polarity]:
    """Read the settings of a finished stage, and the polarity where its pairs did not say.

    A `WeightsError` is raised if the folder contains no run of this stage.
    """
    require_run(run)
    record = json.loads((run / RUN_CONFIG).read_text(encoding="utf-8"))
    config = record["config"]
    if record.get("recipe") or config["stage"] != stage:
        raise WeightsError(f"{run}: is not a run of stage {stage} of the bundled model.")
    clip = ClipConfig(**config["clip"])
    return TrainMembraneConfig(stage=stage, clip=clip), Polarity(record.get("polarity", Polarity.DARK))


def require_run(run: Path) -> None:
    """Raise a `WeightsError` if a folder does not contain the weights of a training."""
    if not (run / BEST).exists():
        raise WeightsError(
            f"{run / BEST}: missing. Check the folder; a run has it after its first validation."
        )


def best_network(run: Path, stage: int, device: torch.device = CPU) -> FineSam2:
    """Load the best averaged network of a run of a stage, for tiles of `VALIDATION_TILE` pixels."""
    require_run(run)
    network = build_stage(stage, VALIDATION_TILE)
    load_strict(network, load_start(run / BEST, stage), run / BEST)
    network.to(device).eval()
    replay_on_cuda(network, *REPLAYED)
    return network


def write_logits_of_run(
    config: TrainMembraneConfig, folder: Path, data: TrainingPairs, runtime: Runtime
) -> None:
    """Write the stage-1 logits of every pair with the best weights of a run; existing files are kept."""

    def build() -> Callable[[Pair], NDArray[np.float32]]:
        network = best_network(folder, 1, runtime.device)
        return lambda pair: volume_logits(
            network, load_volume(pair, polarity=data.polarity), window=config.clip.length
        )

    write_stage1_logits(data, runtime, build)


def package(
    configs: tuple[TrainMembraneConfig, TrainMembraneConfig],
    runs: tuple[Path, Path],
    data: TrainingPairs,
    output: Path,
    *,
    card: Mapping[str, Any] | None = None,
    device: torch.device = CPU,
) -> tuple[float, float]:
    """Write both stages as one model file; return its logit threshold and the mean validation Dice at it.

    Parameters
    ----------
    configs, runs
        Settings and folders of both stages.
    data
        Held-out pairs and their stage-1 logits.
    output
        The model file.
    card
        Entries to add to its model card.
    device
        Device to compute on.
    """
    second = best_network(runs[1], 2, device)
    volumes = (
        load_volume(pair, polarity=data.polarity, stage1_logits=data.stage1_logits(pair))
        for pair in data.held_out
    )
    threshold, dice = best_threshold(_curves(second, volumes, configs[1]), tolerance=TOLERANCE)
    tensors = {
        f"stage{stage}.{name}": value
        for stage, run in enumerate(runs, start=1)
        for name, value in load_state_dict(run / BEST).items()
    }
    recipe = MembraneRecipe(window=configs[1].clip.length, logit_threshold=threshold)
    metadata = {
        "method": "membrane-tiny",
        "version": __version__,
        "network": CONFIG,
        "recipe": asdict(recipe),
        "logit_threshold": threshold,
        "card": {
            "validation_dice": round(dice, 4),
            "validation_volumes": len(data.held_out),
            "training": [_history(run) for run in runs],
            **(card or {}),
        },
    }
    write_model_file(output, tensors, metadata, precision="float16")
    return threshold, dice


def _history(run: Path) -> dict[str, Any]:
    """Return the record of a run, with the numbers of its volumes instead of their names."""
    record: dict[str, Any] = json.loads((run / RUN_CONFIG).read_text(encoding="utf-8"))
    return {**record, **{key: len(record[key]) for key in ("training", "validation")}}
