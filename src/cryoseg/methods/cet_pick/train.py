"""Train a 3D detector from tomograms with a few labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from torch import nn

from cryoseg.config.cet_pick import CetPickConfig, Specimen
from cryoseg.core.picking.calibration import analyze_peaks
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.methods.cet_pick.detector import MIN_DISTANCE, Detector, DetectorSettings, settings_for
from cryoseg.methods.cet_pick.losses import AVERAGE_WARMUP, loss_of_crops, schedule
from cryoseg.methods.cet_pick.network import build
from cryoseg.methods.cet_pick.samples import (
    FEW_LABELS,
    CropSampler,
    LabeledTomogram,
    Prepared,
    checked,
    held_out_labels,
    known_voxel_size,
    prepare,
)
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.run import Runtime, TrainingRun

LABEL_RADIUS = 0.35  # a peak within this distance of a label, in particle diameters, belongs to it
FIRST_CHECK = 0.6  # fraction of all steps; earlier networks are not checked
SAME_VOXEL_SIZE = 0.02


@dataclass(frozen=True, kw_only=True)
class TrainedDetector:
    """A detector and the results of its training.

    Attributes
    ----------
    detector
        Detector with its threshold.
    checks
        Results of `examine` at every check, with its `step`.
    selected_step
        Step of the check whose weights and threshold the detector has.
    held_out, labels
        Number of held-out labels and of all labels.
    """

    detector: Detector
    checks: list[dict[str, float]]
    selected_step: int
    held_out: int
    labels: int

    def card(self, config: CetPickConfig) -> dict[str, Any]:
        """Return the entries of the model card about the training as plain JSON."""
        training = config.to_dict()
        del training["max_minutes"]  # it does not change the model
        return {
            "labels": self.labels,
            "held_out_labels": self.held_out,
            "selected_step": self.selected_step,
            "checks": self.checks,
            "training": training,
        }


def examine(prepared: list[Prepared], detector: Detector) -> dict[str, float]:
    """Apply a detector to all training tomograms, and choose its threshold and calibration.

    The result has `threshold_logit`, the threshold chosen from the peaks; `score_slope` and
    `score_intercept`, the calibration of the logits; `recall`, the fraction of the held-out labels (of all
    labels if none are held out) above the threshold; and `peaks`, the number of peaks above it.
    """
    diameter, specimen = detector.settings.particle_diameter_angstrom, detector.settings.specimen
    unknown: list[NDArray[np.floating[Any]]] = []
    held: list[float] = []
    trained: list[float] = []
    for item in prepared:
        voxel_size = known_voxel_size(item.source)
        scores = detector.score(item.source.tomogram.data, voxel_size, intensity=item.intensity)
        centers, logits = scores.candidates(
            diameter_angstrom=diameter,
            min_distance_angstrom=MIN_DISTANCE[specimen] * diameter,
            ridge=specimen is Specimen.FILAMENT,
        )
        held += scores.near(item.held_labels, radius_angstrom=LABEL_RADIUS * diameter).tolist()
        trained += scores.near(item.train_labels, radius_angstrom=LABEL_RADIUS * diameter).tolist()
        distance = cdist(centers * np.asarray(voxel_size), item.train_labels * np.asarray(voxel_size))
        free = distance.min(axis=1, initial=np.inf) > LABEL_RADIUS * diameter
        unknown.append(logits[free])
    known = held if held else trained
    peaks = np.concatenate(unknown)
    threshold, calibration = analyze_peaks(
        peaks,
        np.asarray(known + trained if len(known) < FEW_LABELS else known),
        labels=len(held) + len(trained),
    )
    return {
        "threshold_logit": threshold,
        "score_slope": calibration.slope,
        "score_intercept": calibration.intercept,
        "recall": float(np.mean(np.asarray(known) > threshold)),
        "peaks": int((peaks > threshold).sum()) + int((np.asarray(trained) > threshold).sum()),
    }


def train_detector(
    items: list[LabeledTomogram],
    config: CetPickConfig,
    folder: Path,
    *,
    runtime: Runtime = Runtime(),
    on_check: Callable[[int, Detector], None] | None = None,
) -> TrainedDetector | None:
    """Train from arrays; continue where an earlier call in `folder` stopped.

    The result is None if the time limit came first. An `InputError` is raised if there is no label, or if
    labels do not fit their tomogram (see `check_labels`).

    Parameters
    ----------
    items
        Tomograms of one voxel size, at least one of them with a label.
    config
        All settings.
    folder
        Folder of `config.json`, `log.csv`, `last.pt` and `best.pt`.
    runtime
        Device and receiver of events.
    on_check
        Function to call at every check with the step and the detector of that step. With it, checks are
        made even if no labels are held out.
    """
    on_event, device = runtime.on_event, runtime.device
    settings = _settings(items, config, on_event)
    record = {"config": config.to_dict(), "training": [item.name for item in items], "data": _digest(items)}
    items = checked(items, config, on_event)
    held = held_out_labels(items, config)
    prepared = [prepare(item, config, settings, flags) for item, flags in zip(items, held, strict=True)]
    held_out = sum(int(flags.sum()) for flags in held)
    on_event(
        Note(
            text=f"Training {config.arch} on {sum(len(p.train_labels) for p in prepared)} labels in "
            f"{len(prepared)} tomogram(s), {held_out} held out; "
            f"working grid {' x '.join(map(str, prepared[0].volume.data.shape))}."
        )
    )
    run = TrainingRun(folder, "cet-pick", config.loop, runtime)
    network = build(config.arch).to(device)

    def validate(averaged: nn.Module, step: int) -> dict[str, float]:
        detector = Detector(network=averaged, settings=settings, device=device)
        found = examine(prepared, detector)
        calibrated = _calibrated(settings, found)
        on_event(
            Note(
                text=f"Step {step}: {found['peaks']} peaks above {calibrated.score_threshold:.3f}, which "
                f"finds {found['recall']:.0%} of the {'held-out ' if held_out else ''}labels."
            )
        )
        if on_check is not None:
            on_check(step, replace(detector, settings=calibrated))
        return {"score": found["recall"], **found}

    learner = Learner(
        network=network,
        loss=loss_of_crops(
            network, CropSampler(volumes=[p.volume for p in prepared], config=config), config, device
        ),
        validate=validate,
        validate_after=_check_steps(config, watched=on_check is not None or held_out > 0),
        score_name="recall",
        # The latest check that finds at most one held-out label fewer than the best is selected.
        tolerance=(1 / held_out if held_out else 1.0) + 1e-9,
        groups=[{"params": list(network.parameters()), "weight_decay": config.weight_decay}],
        learning_rate=schedule,
        average_warmup=AVERAGE_WARMUP,
    )
    if not run.fit(learner, record):
        return None
    checks = [{name: value for name, value in each.items() if name != "score"} for each in run.validations]
    selected_step, weights = run.best()
    if selected_step != config.steps:
        on_event(
            Warn(
                text=f"The held-out labels were found less often after step {selected_step} "
                "(over-fitting); the weights of that step are kept."
            )
        )
    network.load_state_dict(weights)
    (selected,) = (check for check in checks if check["step"] == selected_step)
    settings = _calibrated(settings, selected)
    return TrainedDetector(
        detector=Detector(network=network.eval(), settings=settings, device=device),
        checks=checks,
        selected_step=selected_step,
        held_out=held_out,
        labels=sum(len(item.labels) for item in items),
    )


def _settings(items: list[LabeledTomogram], config: CetPickConfig, on_event: OnEvent) -> DetectorSettings:
    """Return the settings for the voxel size of the first tomogram; the others are resampled to it."""
    if not items:
        raise InputError("No tomograms to train from. Pass --tomograms.")
    voxel_sizes = [known_voxel_size(item) for item in items]
    reference = np.asarray(voxel_sizes[0])
    for item, size in zip(items, voxel_sizes, strict=True):
        if np.abs(np.asarray(size) / reference - 1).max() > SAME_VOXEL_SIZE:
            on_event(
                Note(text=f"{item.name}: voxels of {size[2]:g} A are resampled to those of {items[0].name}.")
            )
    settings = settings_for(config, voxel_sizes[0])
    narrowest = config.particle_diameter_angstrom / max(settings.voxel_size)
    if narrowest < 3:
        raise ConfigError(
            f"--particle-diameter {config.particle_diameter_angstrom:g}: that is only {narrowest:.1f} "
            f"voxels of {max(settings.voxel_size):g} A. The value is in angstrom; a particle so small needs "
            "a finer binning."
        )
    return settings


def _digest(items: list[LabeledTomogram]) -> str:
    """Return a hash of the labels and of the names and shapes of their tomograms."""
    found = hashlib.sha256()
    for item in items:
        found.update(item.name.encode() + repr(item.tomogram.data.shape).encode())
        found.update(np.ascontiguousarray(item.labels).tobytes())
        found.update(np.ascontiguousarray(item.negatives).tobytes())
    return found.hexdigest()


def _check_steps(config: CetPickConfig, *, watched: bool) -> set[int]:
    """Return the steps with a check; only the last one if its result would not be used."""
    if not watched or config.checks < 2:
        return {config.steps}
    first = max(1, round(FIRST_CHECK * config.steps))
    return {int(step) for step in np.linspace(first, config.steps, config.checks).round()}


def _calibrated(settings: DetectorSettings, found: Mapping[str, float]) -> DetectorSettings:
    """Return settings with the threshold and the calibration that `examine` found."""
    settings = replace(settings, score_slope=found["score_slope"], score_intercept=found["score_intercept"])
    return replace(settings, score_threshold=float(settings.scores(np.array(found["threshold_logit"]))))
