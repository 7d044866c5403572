"""One training in its folder: seed, loop, messages, TensorBoard and best weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from cryoseg import __version__
from cryoseg.config.train import LoopConfig
from cryoseg.errors import ConfigError
from cryoseg.events import Note, OnEvent, StageProgress, ignore
from cryoseg.io.outputs import make_folder
from cryoseg.methods.training.learner import Learner
from cryoseg.methods.training.loop import BEST, StepResult, TrainingLoop
from cryoseg.methods.training.processes import ALONE, Processes

CPU = torch.device("cpu")

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Device, processes and reporting of a training.

    Attributes
    ----------
    device
        Device to compute on.
    processes
        Processes that train together.
    tensorboard
        Whether to write event files of TensorBoard into the folder of the run.
    on_event
        Receiver of progress, notes and warnings.
    sample_workers
        Number of forked processes that prepare tiles or clips ahead; 0 for none.
    """

    device: torch.device = CPU
    processes: Processes = ALONE
    tensorboard: bool = False
    on_event: OnEvent = ignore
    sample_workers: int = 0

    def progress(self, items: Sequence[T], stage: str, unit: str) -> Iterator[T]:
        """Yield the items and report each as done when the next one is requested."""
        for done, item in enumerate(items, start=1):
            yield item
            self.on_event(StageProgress(name="data", stage=stage, done=done, total=len(items), unit=unit))


class TrainingRun:
    """One training of one network in its folder.

    A method creates the run first, since this seeds torch. Then it builds its network, reads its data,
    calls `fit`, and reads the weights from `best` if `fit` returns True.

    Parameters
    ----------
    folder
        Folder of `config.json`, `log.csv`, `last.pt` and `best.pt`; created if it is missing.
    label
        Name of the run in messages.
    loop
        Settings of the loop.
    runtime
        Device, processes and receiver of events.

    Attributes
    ----------
    record
        Content of `config.json`, set by `fit`.
    validations
        Results of every validation with its `step`, set by `fit`.
    """

    def __init__(self, folder: Path, label: str, loop: LoopConfig, runtime: Runtime) -> None:
        self.folder, self.label, self.loop, self.runtime = folder, label, loop, runtime
        self.record: dict[str, Any] = {}
        self.validations: Sequence[Mapping[str, float]] = ()
        self._begun = time.monotonic()
        make_folder(folder)
        torch.manual_seed(loop.seed)

    @property
    def seconds(self) -> float:
        """Seconds since the run was created, including the time to read the data."""
        return time.monotonic() - self._begun

    def fit(self, learner: Learner, record: Mapping[str, Any]) -> bool:
        """Train until all steps are done or the time is over; return whether all steps are done.

        If not, an equal call continues.

        Parameters
        ----------
        learner
            Network, loss and validation of the method.
        record
            Settings, names of the data and whatever else determines the result, as plain JSON.

        Raises
        ------
        TrainingError
            If the folder contains another run, or the loss is not finite.
        """
        on_event, processes = self.runtime.on_event, self.runtime.processes
        self.record = {"version": __version__, **record}
        loop = TrainingLoop(learner, self.loop, self.folder, record=self.record, processes=processes)
        if 0 < loop.step < self.loop.steps:
            on_event(Note(text=f"{self.label}: resuming at step {loop.step}."))
        writer = _tensorboard_writer(self.folder) if self.runtime.tensorboard and processes.first else None
        for result in loop.run():
            step = result.step
            on_event(
                StageProgress(
                    name=self.label, stage="training", done=step, total=self.loop.steps, unit="steps"
                )
            )
            on_event(Note(text=self._line(result, learner.score_name)))
            if writer is not None:
                writer.add_scalar("loss", result.loss, step)
                writer.add_scalar("learning rate", result.learning_rate, step)
                for name, value in result.terms.items():
                    writer.add_scalar(name, value, step)
                if result.score is not None:
                    writer.add_scalar(f"validation {learner.score_name}", result.score, step)
        if writer is not None:
            writer.close()
        self.validations = loop.validations
        return loop.is_finished

    def best(self) -> tuple[int, dict[str, Tensor]]:
        """Return the step and the weights (on the CPU) of the best validation."""
        state = torch.load(self.folder / BEST, map_location="cpu", weights_only=True)
        return state["step"], state["model"]

    def _line(self, result: StepResult, score_name: str) -> str:
        score = ""
        if result.score is not None:
            score = f"  validation {score_name} {result.score:.4f}{' (best)' if result.best else ''}"
        return (
            f"{self.label}  step {result.step:5d}  loss {result.loss:.4f}  "
            f"learning rate {result.learning_rate:.1e}  {result.seconds:6.0f} s{score}"
        )


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('--tensorboard needs TensorBoard; run pip install "cryoseg[train]".') from error
    return SummaryWriter(str(folder))
