"""The training loop of every method: steps, averaged weights, validation, checkpoints and the log.

The loop makes no random choice itself. If the random choices of a method follow from the seed and the
number of the step, an interrupted training ends with exactly the weights of an uninterrupted one.
"""

from __future__ import annotations

import csv
import json
import math
import pickle
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cryoseg.config.train import LoopConfig
from cryoseg.errors import CryosegError
from cryoseg.io.outputs import atomic_output, atomic_text
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.processes import ALONE, Processes

CHECKPOINT = "last.pt"
BEST = "best.pt"
LOG = "log.csv"
RUN_CONFIG = "config.json"
_COLUMNS = ("step", "loss", "learning_rate", "score", "best", "seconds")


class TrainingError(CryosegError):
    """Error that ends a training; its message says what to change."""


@dataclass(frozen=True, kw_only=True)
class StepResult:
    """One line of the log.

    Attributes
    ----------
    step
        Number of steps done.
    loss
        Mean loss of the steps since the last line.
    learning_rate
        Learning rate of the last step.
    score
        Validation score (higher is better), or None between validations.
    best
        Whether the weights of this validation are kept.
    seconds
        Seconds since the run or its resumed part began.
    terms
        Means of the other terms of the loss since the last line, by name.
    """

    step: int
    loss: float
    learning_rate: float
    score: float | None
    best: bool
    seconds: float
    terms: Mapping[str, float] = field(default_factory=dict)


class _Average:
    """Exponential moving average of the trainable parameters and of all buffers."""

    def __init__(self, network: nn.Module, decay: float, warmup: int) -> None:
        self.decay, self.warmup = decay, warmup
        self.values = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def restore(self, values: Mapping[str, Tensor]) -> None:
        """Replace the averages by saved values, each on the device of its parameter."""
        self.values = {name: values[name].to(old.device) for name, old in self.values.items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Add the weights after a step."""
        decay = min(self.decay, (1 + step) / (self.warmup + step))
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                self.values[name].lerp_(value, 1 - decay)
            else:
                self.values[name].copy_(value)


class TrainingLoop:
    """Training of a network in a folder, continued from the checkpoint in it if there is one.

    `best.pt` holds the averaged weights of the best validation, `last.pt` the state to resume from, and
    `log.csv` a line for every checkpoint and validation.

    Parameters
    ----------
    learner
        Network, loss and validation of the method.
    config
        Settings of the loop.
    folder
        Existing folder for the checkpoints and the log.
    record
        Everything that determines the result, as plain JSON, which is written to `config.json`. A run is
        resumed only with an equal record; only `version` and `max_minutes` may differ.
    processes
        The processes that train together. The first one validates and writes.

    Attributes
    ----------
    step
        Number of steps done.
    validations
        Results of every validation so far, with its `step`.

    Raises
    ------
    TrainingError
        If the folder contains a run with other settings, or a checkpoint that cannot be read.
    """

    def __init__(
        self,
        learner: Learner,
        config: LoopConfig,
        folder: Path,
        *,
        record: Mapping[str, Any],
        processes: Processes = ALONE,
    ) -> None:
        self.step = 0
        self.validations: list[dict[str, float]] = []
        self._learner, self._config, self._folder, self._processes = learner, config, folder, processes
        self._begun = time.monotonic()
        self._best_score = -math.inf
        self._fingerprint = json.dumps(_comparable(record), sort_keys=True)
        self._optimizer = torch.optim.AdamW(
            learner.parameter_groups(config.weight_decay), lr=config.learning_rate
        )
        self._average = (
            _Average(learner.network, config.ema_decay, learner.average_warmup) if config.ema_decay else None
        )
        self._parts = [
            [value for name, value in learner.network.named_parameters() if name.startswith(begin)]
            for begin in learner.clip_together
        ]
        self._resume()
        if processes.first:
            _cut_log(folder / LOG, self.step)
            with atomic_text(folder / RUN_CONFIG, overwrite=True) as stream:
                stream.write(json.dumps(record, indent=2) + "\n")

    @property
    def is_finished(self) -> bool:
        """Whether all steps are done."""
        return self.step >= self._config.steps

    def run(self) -> Iterator[StepResult]:
        """Take the remaining steps, as far as the time limit allows.

        Yields the result at every checkpoint and validation. A `TrainingError` is raised if the loss is not
        finite.
        """
        config, processes = self._config, self._processes
        values: list[dict[str, float]] = []
        while not self.is_finished:
            rate = self._learner.learning_rate(self.step, config)
            values.append(self._advance(rate))
            out_of_time = config.max_minutes is not None and processes.broadcast(
                time.monotonic() - self._begun > 60 * config.max_minutes
            )
            validating = self._is_validation()
            last = self.is_finished or out_of_time
            if not (self.step % config.checkpoint_every == 0 or validating or last):
                continue
            score, is_best = self._validate() if validating and processes.first else (None, False)
            score, is_best = processes.broadcast((score, is_best))
            means = {name: sum(each[name] for each in values) / len(values) for name in values[0]}
            values.clear()
            result = StepResult(
                step=self.step,
                loss=means.pop("loss"),
                learning_rate=rate,
                score=score,
                best=is_best,
                seconds=time.monotonic() - self._begun,
                terms=means,
            )
            if processes.first:
                # A resumed run removes log lines after its checkpoint, so the line is written first.
                _log(self._folder / LOG, result)
                self._save()
            yield result
            if out_of_time:
                return

    def _advance(self, rate: float) -> dict[str, float]:
        """Take one step and return the values of the loss and its terms."""
        network = self._learner.network
        network.train()
        for group in self._optimizer.param_groups:
            group["lr"] = rate * group.get("scale", 1.0)
        loss = self._learner.loss(self.step)
        terms = loss if isinstance(loss, Mapping) else {"loss": loss}
        self._optimizer.zero_grad(set_to_none=True)
        terms["loss"].backward()
        self._processes.average_gradients(network)
        if self._config.clip_norm is not None:
            for part in self._parts:
                nn.utils.clip_grad_norm_(part, self._config.clip_norm)
        self._optimizer.step()
        if self._average is not None:
            self._average.update(network, self.step)
        # Reading a value waits for the device, so the whole step is queued first.
        values = {name: float(term.detach()) for name, term in terms.items()}
        if not math.isfinite(values["loss"]):
            raise TrainingError(
                f"loss is {values['loss']} at step {self.step}: look for extreme values in the training "
                "data, and begin in another folder with a lower --learning-rate."
            )
        self.step += 1
        return values

    def _is_validation(self) -> bool:
        if self._learner.validate is None:
            return False
        if self._learner.validate_after is not None:
            return self.step in self._learner.validate_after
        return self.step % self._config.validate_every == 0 or self.is_finished

    def _validate(self) -> tuple[float, bool]:
        """Return the score of the averaged weights and whether it is the best; save the best weights."""
        network, validate = self._learner.network, self._learner.validate
        assert validate is not None
        network.eval()
        trained = {name: value.clone() for name, value in network.state_dict().items()}
        weights = trained if self._average is None else self._average.values
        network.load_state_dict(weights)
        try:
            found = validate(network, self.step)
        finally:
            network.load_state_dict(trained)
        values = dict(found) if isinstance(found, Mapping) else {"score": found}
        self.validations.append({"step": self.step, **values})
        score = values["score"]
        is_best = score > self._best_score - self._learner.tolerance
        self._best_score = max(self._best_score, score)
        if is_best:
            _write(self._folder / BEST, {"step": self.step, "score": score, "model": weights})
        return score, is_best

    def _save(self) -> None:
        _write(
            self._folder / CHECKPOINT,
            {
                "step": self.step,
                "best_score": self._best_score,
                "validations": self.validations,
                "model": self._learner.network.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "average": {} if self._average is None else self._average.values,
                "fingerprint": self._fingerprint,
            },
        )

    def _resume(self) -> None:
        path = self._folder / CHECKPOINT
        if not path.exists():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            is_ours = state["fingerprint"] == self._fingerprint
        except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
            raise TrainingError(
                f"{path}: is damaged or not a checkpoint of a training; delete it to start again."
            ) from error
        if not is_ours:
            raise TrainingError(
                f"{path}: this run was started with other settings or data; choose another folder or delete "
                "it."
            )
        self._learner.network.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._average is not None:
            self._average.restore(state["average"])
        self.step, self._best_score = state["step"], state["best_score"]
        self.validations = state["validations"]


def _comparable(record: Any) -> Any:
    """Remove from a record, at any depth, the entries that may differ when a run is resumed."""
    if not isinstance(record, Mapping):
        return record
    return {key: _comparable(value) for key, value in record.items() if key not in ("version", "max_minutes")}


def _write(path: Path, content: dict[str, Any]) -> None:
    with atomic_output(path, overwrite=True) as temporary:
        torch.save(content, temporary)


def _cut_log(path: Path, step: int) -> None:
    """Remove the lines of steps that will be repeated."""
    if step == 0:
        path.unlink(missing_ok=True)
    elif path.exists():
        header, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_text(path, overwrite=True) as stream:
            stream.writelines([header, *(x for x in lines if int(x.split(",")[0]) <= step)])


def _log(path: Path, result: StepResult) -> None:
    new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        if new:
            writer.writerow([*_COLUMNS, *result.terms])
        writer.writerow(
            [
                result.step,
                f"{result.loss:.5f}",
                f"{result.learning_rate:.3e}",
                "" if result.score is None else f"{result.score:.5f}",
                int(result.best),
                f"{result.seconds:.0f}",
                *(f"{value:.5f}" for value in result.terms.values()),
            ]
        )
