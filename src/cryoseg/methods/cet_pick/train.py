"""Train a 3D detector from a few labels: tomograms and points in, a packaged model out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from cryoseg.config.cet_pick import CetPickConfig, Specimen
from cryoseg.core.picking.pick_threshold import expected_f1_threshold
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Note, OnEvent, StageProgress, Warn, ignore
from cryoseg.methods.cet_pick.detector import MIN_DISTANCE, Detector, settings_for
from cryoseg.methods.cet_pick.fit import StepResult, Trainer
from cryoseg.methods.cet_pick.labels import (
    FEW_LABELS,
    LabeledTomogram,
    Prepared,
    checked,
    held_out_labels,
    known_voxel_size,
    prepare,
)
from cryoseg.methods.cet_pick.samples import CropSampler

if TYPE_CHECKING:
    from torch import Tensor

LABEL_RADIUS = 0.35  # a peak this near to a label, in particle diameters, is the label's
FIRST_CHECK = 0.6  # of all steps; an earlier network is not worth a look
SAME_VOXEL_SIZE = 0.02


@dataclass(frozen=True, kw_only=True)
class Check:
    """A look at the held-out labels during training.

    Attributes
    ----------
    step
        When.
    threshold_logit
        The threshold that would be chosen now.
    recall
        Share of the held-out labels found above it; of all labels where none are held out.
    peaks
        Peaks above the threshold, in all training tomograms.
    """

    step: int
    threshold_logit: float
    recall: float
    peaks: int


@dataclass(frozen=True, kw_only=True)
class TrainedDetector:
    """A detector and how it came about."""

    detector: Detector
    weights: dict[str, Tensor]
    checks: tuple[Check, ...]
    selected_step: int
    held_out: int
    labels: int

    def card(self, config: CetPickConfig) -> dict[str, Any]:
        """What the model file says about its training, as plain JSON."""
        return {
            "labels": self.labels,
            "held_out_labels": self.held_out,
            "selected_step": self.selected_step,
            "checks": [asdict(check) for check in self.checks],
            "training": _plain(asdict(config)),
        }


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _check(prepared: list[Prepared], detector: Detector, step: int) -> Check:
    """Peaks of all training tomograms, the threshold they suggest, and who is found above it."""
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
    threshold = expected_f1_threshold(
        peaks, np.asarray(known + trained if len(known) < FEW_LABELS else known)
    )
    return Check(
        step=step,
        threshold_logit=threshold,
        recall=float(np.mean(np.asarray(known) > threshold)),
        peaks=int((peaks > threshold).sum()) + int((np.asarray(trained) > threshold).sum()),
    )


def train_detector(
    items: list[LabeledTomogram],
    config: CetPickConfig,
    *,
    device: torch.device,
    on_event: OnEvent = ignore,
    on_step: Callable[[StepResult], None] | None = None,
    on_state: Callable[[dict[str, Any]], None] | None = None,
    state_every: int = 25,
    on_check: Callable[[int, Detector], None] | None = None,
    resume: dict[str, Any] | None = None,
) -> TrainedDetector:
    """Train from arrays.

    Parameters
    ----------
    items
        Tomograms of one voxel size, at least one of them with a label.
    config
        All settings.
    device
        Where to compute.
    on_event
        Receives progress, notes and warnings.
    on_step
        Called after every step.
    on_state
        Given all that a resumed run needs, every `state_every` steps; plain values and tensors.
    state_every
        Steps.
    on_check
        Called at every check, also where no labels are held out, with the step and the detector as
        it is then, threshold included.
    resume
        What `on_state` was given, in a run with the same items and config.

    Raises
    ------
    InputError
        If there is no label, or labels do not fit their tomogram; see `check_labels`.
    """
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
    items = checked(items, config, on_event)
    held = held_out_labels(items, config)
    prepared = [prepare(item, config, settings, flags) for item, flags in zip(items, held, strict=True)]
    on_event(
        Note(
            text=f"Training {config.arch} on {sum(len(p.train_labels) for p in prepared)} labels in "
            f"{len(prepared)} tomogram(s), {sum(len(p.held_labels) for p in prepared)} held out; "
            f"working grid {' x '.join(map(str, prepared[0].volume.data.shape))}."
        )
    )
    trainer = Trainer(CropSampler(volumes=[p.volume for p in prepared], config=config), config, device)
    checks: list[Check] = []
    snapshots: list[dict[str, Tensor]] = []
    if resume is not None:
        trainer.restore(resume["trainer"])
        checks = [Check(**check) for check in resume["checks"]]
        snapshots = list(resume["snapshots"])
    watched = on_check is not None or any(flags.any() for flags in held)
    check_steps = _check_steps(config, watched=watched)

    def snapshot() -> None:
        detector = Detector(network=trainer.averaged_network(), settings=settings, device=device)
        checks.append(_check(prepared, detector, trainer.step))
        snapshots.append({name: value.cpu() for name, value in trainer.averaged_weights().items()})
        last = checks[-1]
        on_event(
            Note(
                text=f"Step {last.step}: {last.peaks} peaks above {_sigmoid(last.threshold_logit):.3f}, "
                f"which finds {last.recall:.0%} of the "
                f"{'held-out ' if any(f.any() for f in held) else ''}labels."
            )
        )
        if on_check is not None:
            threshold = _sigmoid(last.threshold_logit)
            on_check(last.step, replace(detector, settings=replace(settings, score_threshold=threshold)))

    for result in trainer.run():
        on_event(
            StageProgress(
                name="cet-pick", stage="training", done=result.step, total=config.steps, unit="steps"
            )
        )
        if result.step in check_steps:
            snapshot()
        if on_step is not None:
            on_step(result)
        if on_state is not None and result.step % state_every == 0:
            on_state(
                {
                    "trainer": trainer.state(),
                    "checks": [asdict(check) for check in checks],
                    "snapshots": snapshots,
                }
            )
    chosen = _select(checks, sum(int(flags.sum()) for flags in held))
    if checks[chosen].step != config.steps:
        on_event(
            Warn(
                text="The held-out labels were found less often after step "
                f"{checks[chosen].step} (over-fitting); the weights of that step are kept."
            )
        )
    settings = replace(settings, score_threshold=_sigmoid(checks[chosen].threshold_logit))
    network = trainer.averaged_network()
    network.load_state_dict(snapshots[chosen])
    return TrainedDetector(
        detector=Detector(network=network.to(device).eval(), settings=settings, device=device),
        weights=snapshots[chosen],
        checks=tuple(checks),
        selected_step=checks[chosen].step,
        held_out=sum(int(flags.sum()) for flags in held),
        labels=sum(len(item.labels) for item in items),
    )


def _check_steps(config: CetPickConfig, *, watched: bool) -> set[int]:
    """Steps after which the labels are looked at; only the last one if nobody watches."""
    if not watched or config.checks < 2:
        return {config.steps}
    first = max(1, round(FIRST_CHECK * config.steps))
    return {int(step) for step in np.linspace(first, config.steps, config.checks).round()}


def _select(checks: list[Check], held_out: int) -> int:
    """The latest check that finds as many held-out labels as the best one, give or take one."""
    best = max(check.recall for check in checks)
    tolerance = 1.0 / held_out if held_out else 1.0
    good = [index for index, check in enumerate(checks) if check.recall >= best - tolerance - 1e-9]
    return good[-1]


def _sigmoid(logit: float) -> float:
    return float(1 / (1 + np.exp(-logit)))
