"""One plain training loop for every method.

The caller gives a function from step number to loss; the loop owns the optimizer, the learning
rate, the averaged weights, checkpoints and the log. Nothing random lives here: a caller that
derives its choices from the step number resumes to the bit.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cryoseg.config.train import LoopConfig
from cryoseg.errors import CryosegError
from cryoseg.io.outputs import atomic_output, atomic_text
from cryoseg.methods.training.processes import ALONE, Processes

CHECKPOINT = "last.pt"
BEST = "best.pt"
LOG = "log.csv"
RUN_CONFIG = "config.json"


class TrainingError(CryosegError):
    """Training cannot go on; the text says why and what helps."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One line of the log.

    Attributes
    ----------
    step
        Steps done.
    loss
        Mean over the steps since the last line.
    learning_rate
        Of the step just done.
    score
        Validation score (higher is better), or None between validations.
    best
        Whether this validation is the best so far.
    seconds
        Since the run, or its resumed part, began.
    """

    step: int
    loss: float
    learning_rate: float
    score: float | None
    best: bool
    seconds: float


def learning_rate(step: int, config: LoopConfig) -> float:
    """Linear warm-up, then cosine to `final_learning_rate_fraction` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    low = config.final_learning_rate_fraction
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels decay, norms and biases do not."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0},
    ]


def _save(path: Path, content: dict[str, Any]) -> None:
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(content, temporary)


class _Average:
    """Exponential moving average of the trainable parameters and of all buffers."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Take up saved values, each on the device where its parameter is."""
        self.values = {name: values[name].to(old.device) for name, old in self.values.items()}

    def update(self, model: nn.Module, step: int) -> None:
        # A short memory at first, so that the random start is forgotten.
        decay = min(self.decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in model.state_dict().items():
                if value.is_floating_point():
                    self.values[name].lerp_(value, 1 - decay)
                else:
                    self.values[name].copy_(value)


def fit(
    model: nn.Module,
    loss_of_step: Callable[[int], Tensor],
    config: LoopConfig,
    folder: Path,
    *,
    validate: Callable[[nn.Module], float] | None = None,
    fingerprint: dict[str, Any] | None = None,
    record: Mapping[str, Any] | None = None,
    groups: list[dict[str, Any]] | None = None,
    clip_together: Sequence[str] = ("",),
    processes: Processes = ALONE,
) -> Iterator[StepResult]:
    """Train `model`, yielding a line of the log every now and then.

    The best averaged weights (by `validate`) lie in `folder/best.pt`, the state to resume from in
    `folder/last.pt`; a run that finds the latter goes on from there.

    Parameters
    ----------
    model
        Trained in place.
    loss_of_step
        Loss of step n, a scalar tensor with gradient.
    config
        The loop's settings.
    folder
        Exists; receives checkpoints and `log.csv`.
    validate
        Score of a model, higher is better; called with the averaged weights in evaluation mode.
    fingerprint
        Settings that must agree between a run and its resumption.
    record
        Written to `folder/config.json`, once the folder is known to be this run's.
    groups
        Of parameters, for the optimizer; `scale` in a group multiplies its learning rate. None
        takes `parameter_groups`.
    clip_together
        Beginnings of parameter names. The gradients of each such part are clipped by their own
        norm, so that a part whose gradient explodes does not silence the others; every parameter
        belongs to one.
    processes
        Those that train together; the first one validates and writes.

    Yields
    ------
    StepResult
        At every checkpoint and validation.

    Raises
    ------
    TrainingError
        If the loss is not finite, or if the folder holds a run with other settings.
    """
    begun = time.monotonic()
    optimizer = torch.optim.AdamW(
        parameter_groups(model, config.weight_decay) if groups is None else groups, lr=config.learning_rate
    )
    average = _Average(model, config.ema_decay) if config.ema_decay else None
    parts = [
        [value for name, value in model.named_parameters() if name.startswith(begin)]
        for begin in clip_together
    ]
    step, best_score = 0, -math.inf
    checkpoint = folder / CHECKPOINT
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)
        if state["fingerprint"] != (fingerprint or {}):
            raise TrainingError(
                f"{checkpoint}: this run was started with other settings; choose another folder or delete it."
            )
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        if average is not None:
            average.restore(state["average"])
        step, best_score = state["step"], state["best_score"]
    if record is not None and processes.first:
        with atomic_text(folder / RUN_CONFIG, overwrite=True) as stream:
            stream.write(json.dumps(record, indent=2) + "\n")

    def save() -> None:
        _save(
            checkpoint,
            {
                "step": step,
                "best_score": best_score,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "average": average.values if average is not None else {},
                "fingerprint": fingerprint or {},
            },
        )

    losses: list[float] = []
    while step < config.steps:
        model.train()
        rate = learning_rate(step, config)
        for group in optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        loss = loss_of_step(step)
        value = float(loss.detach())
        if not math.isfinite(value):
            good = f", with --start {folder / BEST}" if (folder / BEST).exists() else ""
            raise TrainingError(
                f"loss is {value} at step {step}: look for extreme values in the training data, and begin "
                f"in another folder with a lower --learning-rate{good}."
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        processes.average_gradients(model)
        for part in parts:
            nn.utils.clip_grad_norm_(part, config.clip_norm)
        optimizer.step()
        if average is not None:
            average.update(model, step)
        losses.append(value)
        step += 1

        out_of_time = config.max_minutes is not None and processes.broadcast(
            time.monotonic() - begun > 60 * config.max_minutes
        )
        last = step == config.steps or out_of_time
        validating = validate is not None and (step % config.validate_every == 0 or step == config.steps)
        if not (step % config.checkpoint_every == 0 or validating or last):
            continue
        score, is_best = None, False
        if processes.first:
            if validating and validate is not None:
                score = _validate(model, average, validate)
                is_best = score > best_score
                if is_best:
                    best_score = score
                    weights = average.values if average is not None else model.state_dict()
                    _save(folder / BEST, {"step": step, "score": score, "model": weights})
            save()
        score, is_best = processes.broadcast((score, is_best))
        result = StepResult(
            step=step,
            loss=sum(losses) / len(losses),
            learning_rate=rate,
            score=score,
            best=is_best,
            seconds=time.monotonic() - begun,
        )
        losses.clear()
        if processes.first:
            _log(folder / LOG, result)
        yield result
        if out_of_time:
            return


def _validate(model: nn.Module, average: _Average | None, validate: Callable[[nn.Module], float]) -> float:
    model.eval()
    if average is None:
        return validate(model)
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(average.values)
    try:
        return validate(model)
    finally:
        model.load_state_dict(kept)


def _log(path: Path, result: StepResult) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow(["step", "loss", "learning_rate", "score", "best", "seconds"])
        score = "" if result.score is None else f"{result.score:.5f}"
        writer.writerow(
            [
                result.step,
                f"{result.loss:.5f}",
                f"{result.learning_rate:.3e}",
                score,
                int(result.best),
                f"{result.seconds:.0f}",
            ]
        )
