"""Choice of weights, threshold and calibration of promptable networks, and their model file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.train_sam import TrainSamConfig
from cryoseg.core.metrics.picks import MatchCriteria, PickCurve, evaluate_picks, join_curves
from cryoseg.core.picking.calibration import expected_calibration_error, fit_calibration
from cryoseg.core.picking.micrograph_picks import PEAK_SIGMAS, logits_to_picks
from cryoseg.errors import ConfigError
from cryoseg.events import Note
from cryoseg.methods.device import peak_device_memory
from cryoseg.methods.particles.files import BaseModel, ParticleRecipe, adapt, note_base, save_particle_model
from cryoseg.methods.particles.fit import TrainedPart, micrograph_logits
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.training.learner import Learner, best_threshold
from cryoseg.methods.training.run import Runtime, TrainingRun
from cryoseg.types import FloatArray

MATCH_RADIUS = 0.25  # largest distance of a correct pick from a particle, in diameters


def pick_curve(
    micrographs: Sequence[TrainingMicrograph], logits: Sequence[FloatArray], recipe: ParticleRecipe
) -> PickCurve:
    """Return raw scores and hits of all picks in (y, x) logits on pixels with a known label."""
    curves = []
    for micrograph, found in zip(micrographs, logits, strict=True):
        picks = logits_to_picks(
            found,
            diameter_px=recipe.particle_pixels,
            logit_threshold=recipe.logit_threshold,
            peak_sigma=recipe.peak_sigma,
        )
        rows, columns = np.rint(picks.centers).astype(int).T
        picks = picks.take(micrograph.labels[rows, columns] >= 0)
        criteria = MatchCriteria(radius_px=MATCH_RADIUS * recipe.particle_pixels)
        score = evaluate_picks(picks.centers, micrograph.centers, criteria, scores=picks.raw_scores)
        assert score.curve is not None
        curves.append(score.curve)
    return join_curves(curves)


def with_scores(
    network: PromptSam,
    micrographs: Sequence[TrainingMicrograph],
    recipe: ParticleRecipe,
    device: torch.device,
) -> tuple[ParticleRecipe, dict[str, float]]:
    """Calibrate the scores of a trained network's picks on validation micrographs.

    The result is the recipe with the blur, calibration and score threshold that have the best F1, and
    metrics of the picks for the model card.
    """
    logits = [micrograph_logits(network, micrograph, device) for micrograph in micrographs]
    curves = {
        sigma: pick_curve(micrographs, logits, replace(recipe, peak_sigma=sigma)) for sigma in PEAK_SIGMAS
    }
    # Without a single hit F1 is not a number, and the first width is used.
    peak_sigma = max(curves, key=lambda sigma: np.nan_to_num(curves[sigma].best_f1[1], nan=-1.0))
    curve = curves[peak_sigma]
    calibration = fit_calibration(curve.scores, curve.is_hit)
    scores = calibration(curve.scores).astype(np.float64)
    threshold, f1 = PickCurve(scores=scores, is_hit=curve.is_hit, truths=curve.truths).best_f1
    recipe = replace(
        recipe,
        peak_sigma=peak_sigma,
        score_slope=calibration.slope,
        score_intercept=calibration.intercept,
        # Rounded down, so that in float32 the pick with this score is above the threshold.
        score_threshold=0.0 if np.isnan(threshold) else float(np.floor(threshold * 1e4) / 1e4),
    )
    error = expected_calibration_error(scores, curve.is_hit)
    metrics = {"validation_f1": f1, "validation_calibration_error": error}
    return recipe, {name: round(value, 4) for name, value in metrics.items() if np.isfinite(value)}


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
    """A network before its model file is written.

    Attributes
    ----------
    network, recipe
        Network and recipe; after the training with the best weights and the threshold.
    base
        File and name of the SAM that was adapted; None for a SAM trained from scratch.
    dice
        Mean validation Dice at the threshold.
    """

    network: PromptSam
    recipe: ParticleRecipe
    base: tuple[Path, BaseModel] | None = None
    dice: float = 0.0

    @property
    def base_record(self) -> dict[str, str] | None:
        """Name and hash of the SAM that was adapted as plain JSON."""
        return None if self.base is None else asdict(self.base[1])


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """Result of a training.

    Attributes
    ----------
    path
        Model file.
    dice, threshold
        Mean validation Dice at the logit threshold that was chosen on the validation data.
    parameters, seconds
        Number of trained parameters, and duration of this call.
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

    The result is the logit threshold and the Dice at it; None if the time limit came first.

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


def begin_adaptation(
    config: TrainSamConfig, base: Path, folder: Path, runtime: Runtime
) -> tuple[TrainingRun, Adapted, TrainSamConfig]:
    """Create a run, and adapt a SAM for it; return the settings with those of the base too."""
    run = TrainingRun(folder, config.prompt.label, config.loop, runtime)
    network, recipe, base_model = adapt(base, config.prompt)
    if config.sample.batch < network.smallest_batch:
        raise ConfigError(
            f"--batch {config.sample.batch}: the point network normalizes over the batch and needs "
            f"{network.smallest_batch} samples for images of {network.geometry.image_size} pixels."
        )
    start = Adapted(network=network, recipe=recipe, base=(base, base_model))
    return run, start, replace(config, prompt=network.config)


def write_model(
    run: TrainingRun, result: Adapted, output: ModelOutput, entries: Mapping[str, Any]
) -> TrainedModel:
    """Write the model file of a finished run, with `entries` in its card."""
    network, recipe = result.network, result.recipe
    name = "particle_sam" if result.base is None else network.config.method.value
    parameters = sum(p.numel() for p in network.parameters() if p.requires_grad)
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
        path=path, dice=result.dice, threshold=recipe.logit_threshold, parameters=parameters, seconds=seconds
    )
