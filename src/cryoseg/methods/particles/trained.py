"""Choice of the best weights and model file for trainings of promptable networks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.errors import ConfigError
from cryoseg.events import Note
from cryoseg.methods.device import peak_device_memory
from cryoseg.methods.particles.files import BaseModel, note_base, save_particle_model
from cryoseg.methods.particles.fit import TrainedPart
from cryoseg.methods.particles.recipe import ParticleRecipe
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.run import TrainingRun
from cryoseg.methods.training.threshold import best_threshold

UPPER_BOUND = ", an upper bound: points come from the truth"


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """Content of a model file besides the trained tensors.

    Attributes
    ----------
    standalone
        Whether to write the whole network, so that no other file is needed.
    card
        Entries to add to the model's card.
    """

    standalone: bool = False
    card: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Adapted:
    """A trained network before it is written.

    Attributes
    ----------
    network
        Network with its best weights.
    recipe
        Recipe with the threshold.
    dice
        Mean validation Dice at that threshold.
    base
        File and name of the SAM that was adapted; None for a SAM trained from scratch.
    """

    network: PromptSam
    recipe: ParticleRecipe
    dice: float
    base: tuple[Path, BaseModel] | None = None


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """Result of a training.

    Attributes
    ----------
    path
        Model file.
    dice
        Mean validation Dice at the chosen threshold.
    threshold
        Logit threshold chosen on the validation data.
    parameters
        Number of trained parameters.
    seconds
        Duration of this call in seconds.
    """

    path: Path
    dice: float
    threshold: float
    parameters: int
    seconds: float


def fit_by_dice(
    run: TrainingRun,
    module: TrainedPart | PromptSam,
    loss: Callable[[int], Tensor],
    curves: Callable[[], Sequence[NDArray[np.float64]]],
    record: Mapping[str, Any],
) -> tuple[float, float] | None:
    """Train a module, and choose its weights and the threshold by the mean Dice of validation images.

    Parameters
    ----------
    run
        Run of the training.
    module
        Module to train, which has its best weights afterwards.
    loss
        Function from the number of a step to a scalar loss.
    curves
        Function that returns the Dice curve, (bins,), of every validation image for the current weights.
    record
        Record for `TrainingRun.fit`.

    Returns
    -------
    tuple of float or None
        Logit threshold and Dice at it; None if the time limit came first.
    """
    learner = Learner(
        network=module,
        loss=loss,
        validate=lambda network, step: best_threshold(curves())[1],
        clip_together=module.clip_together,
    )
    if not run.fit(learner, record):
        return None
    module.load_state_dict(run.best()[1])
    return best_threshold(curves())


def require_batch(config: TrainSamConfig, network: PromptSam) -> None:
    """Check that a step has enough samples for the batch normalization of the network.

    Raises
    ------
    ConfigError
        If it has not.
    """
    if config.sample.batch < network.smallest_batch:
        raise ConfigError(
            f"--batch {config.sample.batch}: the point network normalizes over the batch and needs "
            f"{network.smallest_batch} samples for images of {network.geometry.image_size} pixels."
        )


def write_model(
    run: TrainingRun, result: Adapted, output: ModelOutput, entries: Mapping[str, Any]
) -> TrainedModel:
    """Write the model file of a finished run, with `entries` in its card."""
    network, recipe = result.network, result.recipe
    if result.base is None:
        name, parameters = "particle_sam", sum(p.numel() for p in network.parameters())
    else:
        name = network.config.method.value
        parameters = sum(p.numel() for p in network.trained_parameters())
    path = run.folder / f"{name}.safetensors"
    seconds = run.seconds
    card = {
        "version": __version__,
        "validation_dice": round(result.dice, 4),
        **entries,
        "trained_parameters": parameters,
        "upper_bound": network.needs_truth,
        "device_bytes": peak_device_memory(run.runtime.device),
        "seconds": round(seconds, 1),
        "training": run.record["config"],
        **(output.card or {}),
    }
    base = None if output.standalone or result.base is None else result.base
    save_particle_model(path, network, recipe, base=None if base is None else base[1], card=card)
    if base is not None:
        note_base(run.folder, base[0])
    bound = UPPER_BOUND if network.needs_truth else ""
    run.runtime.on_event(
        Note(
            text=f"{path}: threshold {recipe.logit_threshold:+.3f}, validation Dice {result.dice:.4f}{bound}"
        )
    )
    return TrainedModel(
        path=path,
        dice=result.dice,
        threshold=recipe.logit_threshold,
        parameters=parameters,
        seconds=seconds,
    )
