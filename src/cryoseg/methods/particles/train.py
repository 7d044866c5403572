"""`cryoseg train head-prompt|prefix-prompt|encoder-prompt|finetune|sam`: from micrographs to a model file."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cryoseg import __version__
from cryoseg.config.train import LoopConfig
from cryoseg.config.train_sam import PretrainConfig, TrainSamConfig, TrainView
from cryoseg.errors import ConfigError, InputError, WeightsError
from cryoseg.events import Note, OnEvent, StageProgress, ignore
from cryoseg.io.outputs import make_folder
from cryoseg.io.paths import expand_home, is_file
from cryoseg.methods.device import peak_device_memory, select_device
from cryoseg.methods.model_file import is_model_file
from cryoseg.methods.particles.calibrate import fit_picks
from cryoseg.methods.particles.data import MicrographPair, ReadOptions, find_micrographs, load_micrograph
from cryoseg.methods.particles.files import adapt, base_state, note_base, save_particle_model
from cryoseg.methods.particles.fit import (
    LOGIT_BINS,
    TrainedPart,
    adaptation_loss,
    pretraining_loss,
    validation,
    validation_curves,
)
from cryoseg.methods.particles.recipe import ParticleRecipe
from cryoseg.methods.particles.samples import TrainingMicrograph
from cryoseg.methods.prompt_sam.network import PromptSam
from cryoseg.methods.sam.geometry import TINY, SamGeometry
from cryoseg.methods.state import load_strict
from cryoseg.methods.training.loop import BEST, StepResult, fit
from cryoseg.methods.weights import canonical_name, require

VALIDATION_SHARE = 0.2
UPPER_BOUND = ", an upper bound: points come from the truth"


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What one training gave.

    Attributes
    ----------
    path
        The model file.
    dice
        Mean validation Dice at the chosen threshold.
    threshold
        Chosen on the validation micrographs.
    parameters
        Trained ones.
    seconds
        Of this call.
    """

    path: Path
    dice: float
    threshold: float
    parameters: int
    seconds: float


def split_micrographs(
    data: Sequence[str],
    validation_data: Sequence[str],
    picks: Sequence[Path] = (),
    *,
    seed: int,
    share: float = VALIDATION_SHARE,
) -> tuple[list[MicrographPair], list[MicrographPair]]:
    """Training and validation micrographs; without any of the latter a fifth is held out.

    Raises
    ------
    InputError
        If nothing would be left to train on.
    """
    training, held_out = find_micrographs(data, picks)
    if validation_data:
        more, apart = find_micrographs(validation_data, picks)
        held_out = [*more, *apart]
    if held_out:
        known = {pair.image.resolve() for pair in held_out}
        training = [pair for pair in training if pair.image.resolve() not in known]
    elif len(training) > 1:
        order = np.random.default_rng(seed).permutation(len(training))
        count = max(1, round(share * len(training)))
        held_out = [training[i] for i in sorted(order[:count])]
        training = [training[i] for i in sorted(order[count:])]
    if not training or not held_out:
        raise InputError(
            f"{data[0]}: one micrograph alone cannot be split into training and validation; "
            "give more, or name others with --validation."
        )
    return training, held_out


def find_base(name_or_path: str, checkpoints_dir: Path | None = None) -> Path:
    """File of the SAM to adapt, by name (`particle-tiny`, `sam_vit_b`) or path.

    Raises
    ------
    WeightsError
        If there is none.
    """
    path = expand_home(name_or_path)
    if is_file(path):
        return path
    if canonical_name(name_or_path) is None:
        raise WeightsError(f"{name_or_path}: is neither a file nor the name of known weights.")
    return require(name_or_path, checkpoints_dir=checkpoints_dir)


def load_all(
    pairs: Sequence[MicrographPair], options: ReadOptions, stage: str, on_event: OnEvent
) -> tuple[list[TrainingMicrograph], float]:
    """Read many; also the median diameter in pixels of the files."""
    found, diameters = [], []
    for i, pair in enumerate(pairs, start=1):
        micrograph, diameter = load_micrograph(pair, options, on_event=on_event)
        found.append(micrograph)
        diameters.append(diameter)
        on_event(StageProgress(name="data", stage=stage, done=i, total=len(pairs), unit="micrographs"))
    return found, float(np.median(diameters))


def train_prompt(
    config: TrainSamConfig,
    base: Path,
    training: Sequence[MicrographPair],
    held_out: Sequence[MicrographPair],
    run: Path,
    *,
    read: ReadOptions | None = None,
    standalone: bool = False,
    device: str = "auto",
    card: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore,
) -> TrainedModel | None:
    """Adapt a SAM to micrographs, going on where an earlier call in `run` stopped.

    Parameters
    ----------
    config
        Method, loop and samples.
    base
        The SAM: a published file or a whole particle model of ours.
    training, held_out
        Micrographs to learn from, and to choose the best weights and the threshold by.
    run
        Receives `config.json`, `log.csv`, `last.pt`, `best.pt` and `<method>.safetensors`.
    read
        How micrographs are read; its scale and square are set by the model.
    standalone
        Write the whole network, not the trained tensors alone.
    device
        See `select_device`.
    card
        Facts to add to the model's card.
    on_event
        Receives progress and a note per line of the log.

    Returns
    -------
    TrainedModel or None
        None if the time limit came first.

    Raises
    ------
    InputError
        If data are unusable.
    WeightsError
        If the base is no SAM.
    ConfigError
        If the method does not fit it.
    """
    begun = time.monotonic()
    place = select_device(device)
    torch.manual_seed(config.loop.seed)
    network, recipe, base_model = adapt(base, config.prompt)
    recipe = replace(recipe, core=config.core)
    config = replace(config, prompt=network.config)
    if config.sample.batch < network.smallest_batch:
        raise ConfigError(
            f"--batch {config.sample.batch}: the point network normalizes over the batch and needs "
            f"{network.smallest_batch} samples for tiles of {network.geometry.image_size} pixels."
        )
    view = config.sample.view
    geometry = network.geometry
    options = replace(
        read or ReadOptions(particle_pixels=recipe.particle_pixels),
        particle_pixels=recipe.particle_pixels,
        core=config.core,
        square=(geometry.image_size, geometry.logit_side) if view is TrainView.WHOLE else None,
    )
    make_folder(run)
    known = _document(config.to_dict(), training, held_out, base=asdict(base_model))
    micrographs, diameter = load_all(training, options, "reading training micrographs", on_event)
    judged, _ = load_all(held_out, options, "reading validation micrographs", on_event)

    network.to(place).eval()
    part = TrainedPart(network)
    loss = adaptation_loss(network, micrographs, config, place)
    score = validation(network, judged, view, place)
    fingerprint = fingerprint_of(config, known)
    label = config.prompt.method.value
    told = config.prompt.label
    if not run_loop(part, loss, config.loop, run, score, fingerprint, told, known, on_event):
        return None
    state = torch.load(run / BEST, map_location="cpu", weights_only=True)["model"]
    part.load_state_dict(state)
    threshold, dice = best_threshold(network, judged, view, place)
    parameters = sum(p.numel() for p in network.trained_parameters())
    seconds = time.monotonic() - begun
    recipe, picked = with_scores(network, judged, replace(recipe, logit_threshold=threshold), place)
    facts = {
        **_facts(known, dice, diameter, parameters, seconds),
        **picked,
        "upper_bound": network.needs_truth,
        "device_bytes": peak_device_memory(place),
        **(card or {}),
    }
    path = run / f"{label}.safetensors"
    save_particle_model(path, network, recipe, base=None if standalone else base_model, card=facts)
    if not standalone:
        note_base(run, base)
    bound = UPPER_BOUND if network.needs_truth else ""
    on_event(Note(text=f"{path}: threshold {threshold:+.3f}, validation Dice {dice:.4f}{bound}"))
    return TrainedModel(path=path, dice=dice, threshold=threshold, parameters=parameters, seconds=seconds)


def pretrain(
    config: PretrainConfig,
    training: Sequence[MicrographPair],
    held_out: Sequence[MicrographPair],
    run: Path,
    *,
    geometry: SamGeometry = TINY,
    start: Path | None = None,
    read: ReadOptions | None = None,
    device: str = "auto",
    card: Mapping[str, Any] | None = None,
    on_event: OnEvent = ignore,
) -> TrainedModel | None:
    """Train a small promptable SAM from nothing: grids, points and boxes to masks.

    Parameters
    ----------
    config
        Loop, samples and prompts.
    training, held_out
        Micrographs with numbered particles, as simulated.
    run
        As for `train_prompt`; the model is `particle_sam.safetensors`.
    geometry
        Of the network.
    start
        A model file of the same geometry whose weights are taken first.
    read, device, card, on_event
        As for `train_prompt`.

    Returns
    -------
    TrainedModel or None
        None if the time limit came first.
    """
    begun = time.monotonic()
    place = select_device(device)
    torch.manual_seed(config.loop.seed)
    network = PromptSam(geometry, config.prompt)
    if start is not None:
        if not is_model_file(start):
            raise WeightsError(f"{start}: is no model file of ours; training can begin with those only.")
        load_strict(network, base_state(start), start)
    options = replace(
        read or ReadOptions(particle_pixels=config.particle_pixels), particle_pixels=config.particle_pixels
    )
    make_folder(run)
    known = _document({**config.to_dict(), "geometry": asdict(geometry)}, training, held_out)
    micrographs, diameter = load_all(training, options, "reading training micrographs", on_event)
    judged, _ = load_all(held_out, options, "reading validation micrographs", on_event)
    network.to(place)
    loss = pretraining_loss(network, micrographs, config, place)
    score = validation(network, judged, TrainView.TILES, place)
    fingerprint = fingerprint_of(config, known)
    if not run_loop(network, loss, config.loop, run, score, fingerprint, "sam", known, on_event):
        return None
    network.load_state_dict(torch.load(run / BEST, map_location="cpu", weights_only=True)["model"])
    threshold, dice = best_threshold(network, judged, TrainView.TILES, place)
    parameters = sum(p.numel() for p in network.parameters())
    seconds = time.monotonic() - begun
    recipe = ParticleRecipe(
        image_size=geometry.image_size,
        particle_pixels=config.particle_pixels,
        overlap=geometry.image_size // 8,
        logit_threshold=threshold,
        normalization=config.prompt.input_scale,
    )
    recipe, picked = with_scores(network, judged, recipe, place)
    facts = {**_facts(known, dice, diameter, parameters, seconds), **picked, **(card or {})}
    path = run / "particle_sam.safetensors"
    save_particle_model(path, network, recipe, base=None, card=facts)
    on_event(Note(text=f"{path}: threshold {threshold:+.3f}, validation Dice {dice:.4f}"))
    return TrainedModel(path=path, dice=dice, threshold=threshold, parameters=parameters, seconds=seconds)


def best_threshold(
    network: PromptSam, judged: list[TrainingMicrograph], view: TrainView, device: torch.device
) -> tuple[float, float]:
    """Logit threshold with the best mean Dice over micrographs, and that Dice."""
    network.eval()
    mean = np.mean(validation_curves(network, judged, view, device), axis=0)
    return float(LOGIT_BINS[mean.argmax()]), float(mean.max())


def with_scores(
    network: PromptSam, judged: list[TrainingMicrograph], recipe: ParticleRecipe, device: torch.device
) -> tuple[ParticleRecipe, dict[str, float]]:
    """The recipe with calibrated scores, and facts about them for the card."""
    fitted = fit_picks(
        network,
        judged,
        logit_threshold=recipe.logit_threshold,
        particle_pixels=recipe.particle_pixels,
        device=device,
    )
    recipe = replace(
        recipe,
        peak_sigma=fitted.peak_sigma,
        score_slope=fitted.calibration.slope,
        score_intercept=fitted.calibration.intercept,
        score_threshold=fitted.score_threshold,
    )
    found = {"validation_f1": fitted.f1, "validation_calibration_error": fitted.error}
    return recipe, {name: round(value, 4) for name, value in found.items() if np.isfinite(value)}


def _facts(
    known: Mapping[str, Any], dice: float, diameter: float, parameters: int, seconds: float
) -> dict[str, Any]:
    return {
        "version": __version__,
        "validation_dice": round(dice, 4),
        "validation_micrographs": len(known["validation"]),
        "training_micrographs": len(known["training"]),
        "particle_diameter_px": round(diameter, 2),
        "trained_parameters": parameters,
        "seconds": round(seconds, 1),
        "training": known["config"],
    }


def _document(
    config: dict[str, Any],
    training: Sequence[MicrographPair],
    held_out: Sequence[MicrographPair],
    **more: Any,
) -> dict[str, Any]:
    return {
        "version": __version__,
        "config": config,
        "training": [pair.name for pair in training],
        "validation": [pair.name for pair in held_out],
        **more,
    }


def fingerprint_of(config: TrainSamConfig | PretrainConfig, known: Mapping[str, Any]) -> dict[str, Any]:
    """What must agree between a run and its resumption."""
    # The time limit does not change what is learned, so a resumed run may have another one.
    frozen = replace(config, loop=replace(config.loop, max_minutes=None))
    return {
        "config": json.dumps(frozen.to_dict(), sort_keys=True),
        "training": known["training"],
        "base": json.dumps(known.get("base")),
    }


def run_loop(
    module: TrainedPart | PromptSam,
    loss: Any,
    loop: LoopConfig,
    run: Path,
    score: Any,
    fingerprint: dict[str, Any],
    label: str,
    known: Mapping[str, Any],
    on_event: OnEvent,
) -> bool:
    """Train, telling every line of the log; whether it came to its end before the time limit."""
    step = 0
    steps = fit(
        module,
        loss,
        loop,
        run,
        validate=score,
        fingerprint=fingerprint,
        record=known,
        clip_together=module.clip_together,
    )
    for result in steps:
        step = result.step
        on_event(StageProgress(name=label, stage="training", done=step, total=loop.steps, unit="steps"))
        on_event(Note(text=_line(label, result)))
    return step in (0, loop.steps)


def _line(label: str, result: StepResult) -> str:
    score = ""
    if result.score is not None:
        score = f"  validation Dice {result.score:.4f}{' (best)' if result.best else ''}"
    return (
        f"{label}  step {result.step:5d}  loss {result.loss:.4f}  "
        f"learning rate {result.learning_rate:.1e}  {result.seconds:6.0f} s{score}"
    )
