"""Read the runs of the membrane model and write its packaged file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.segment import Polarity
from cryoseg.config.train import ClipConfig, TrainMembraneConfig
from cryoseg.errors import WeightsError
from cryoseg.methods.membrane_tiny.network import CONFIG, build_stage
from cryoseg.methods.membrane_tiny.samples import STEM, volume_logits
from cryoseg.methods.membranes.data import Pair, TrainingPairs, load_volume, write_stage1_logits
from cryoseg.methods.membranes.recipe import MembraneRecipe
from cryoseg.methods.model_file import read_model_metadata, read_model_tensors, write_model_file
from cryoseg.methods.sam.fine_sam2 import FineSam2
from cryoseg.methods.state import load_strict
from cryoseg.methods.training.loop import BEST, RUN_CONFIG
from cryoseg.methods.training.run import CPU, Runtime
from cryoseg.methods.training.threshold import best_threshold, dice_by_threshold
from cryoseg.methods.weights import canonical_name, require

VALIDATION_TILE = 256


def load_start(path: Path, stage: int) -> dict[str, Tensor]:
    """Read the weights of one stage from a packaged model, by file or name, or from a run's `best.pt`."""
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


def run_settings(run: Path, stage: int) -> tuple[TrainMembraneConfig, Polarity]:
    """Read the settings of a finished stage, and the polarity where its pairs did not say.

    Raises
    ------
    WeightsError
        If the folder contains no run of this stage.
    """
    require_run(run)
    record = json.loads((run / RUN_CONFIG).read_text(encoding="utf-8"))
    config = record["config"]
    if record.get("recipe") or config["stage"] != stage:
        raise WeightsError(f"{run}: is not a run of stage {stage} of the bundled model.")
    clip = ClipConfig(**config["clip"])
    return TrainMembraneConfig(stage=stage, clip=clip), Polarity(record.get("polarity", Polarity.DARK))


def require_run(run: Path) -> None:
    """Check that a folder contains the weights of a training.

    Raises
    ------
    WeightsError
        If it does not.
    """
    if not (run / BEST).exists():
        raise WeightsError(
            f"{run / BEST}: missing. Check the folder; a run has it after its first validation."
        )


def best_network(run: Path, config: TrainMembraneConfig, size: int, device: torch.device = CPU) -> FineSam2:
    """Load the best averaged network of a run, for tiles of `size` pixels."""
    require_run(run)
    path = run / BEST
    network = build_stage(config.stage, size)
    load_strict(network, load_start(path, config.stage), path)
    network.to(device).eval()
    return network


def write_logits_of_run(
    config: TrainMembraneConfig, folder: Path, data: TrainingPairs, runtime: Runtime
) -> None:
    """Write the stage-1 logits of every pair with the best weights of a run; existing files are kept."""

    def build() -> Callable[[Pair], NDArray[np.float32]]:
        network = best_network(folder, config, VALIDATION_TILE, runtime.device)
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
    """Write both stages as one model file, with the best threshold of the validation volumes.

    Parameters
    ----------
    configs, runs
        Settings and folders of both stages.
    data
        Held-out pairs and their stage-1 logits.
    output
        The model file.
    card
        Entries to add to its card.
    device
        Device to compute on.

    Returns
    -------
    tuple of float
        The logit threshold and the mean validation Dice at it.
    """
    second = best_network(runs[1], configs[1], VALIDATION_TILE, device)
    curves = []
    for pair in data.held_out:
        volume = load_volume(pair, polarity=data.polarity, stage1_logits=data.stage1_logits(pair))
        found = volume_logits(second, volume, window=configs[1].clip.length, reverse=True)
        curves.append(dice_by_threshold(found, volume.labels))
    threshold, dice = best_threshold(curves)
    tensors = {
        f"stage{config.stage}.{name}": value
        for config, run in zip(configs, runs, strict=True)
        for name, value in torch.load(run / BEST, map_location="cpu", weights_only=True)["model"].items()
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
