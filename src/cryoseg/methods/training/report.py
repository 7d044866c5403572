"""What a training of membrane networks tells while it runs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cryoseg.config.train import LoopConfig
from cryoseg.errors import ConfigError
from cryoseg.events import Note, OnEvent, StageProgress
from cryoseg.methods.training.loop import StepResult


def report_steps(
    results: Iterable[StepResult],
    stage: int,
    loop: LoopConfig,
    *,
    on_event: OnEvent,
    tensorboard: Path | None = None,
) -> bool:
    """Run a training loop to its end and tell of every line of its log.

    Parameters
    ----------
    results
        Of `fit`.
    stage
        For the messages.
    loop
        Tells when all is done.
    on_event
        Receives progress and a note per line.
    tensorboard
        Folder for event files, or None.

    Returns
    -------
    bool
        Whether all steps are done.

    Raises
    ------
    ConfigError
        If event files are asked for and TensorBoard is not installed.
    """
    writer = None if tensorboard is None else _tensorboard_writer(tensorboard)
    step = 0
    for result in results:
        step = result.step
        on_event(
            StageProgress(name=f"stage {stage}", stage="training", done=step, total=loop.steps, unit="steps")
        )
        on_event(Note(text=_line(stage, result)))
        if writer is not None:
            writer.add_scalar("loss", result.loss, step)
            writer.add_scalar("learning rate", result.learning_rate, step)
            if result.score is not None:
                writer.add_scalar("validation Dice", result.score, step)
    if writer is not None:
        writer.close()
    return step in (0, loop.steps)


def _tensorboard_writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError('--tensorboard needs TensorBoard; run pip install "cryoseg[train]".') from error
    return SummaryWriter(str(folder))


def _line(stage: int, result: StepResult) -> str:
    score = (
        ""
        if result.score is None
        else f"  validation Dice {result.score:.4f}{' (best)' if result.best else ''}"
    )
    return (
        f"stage {stage}  step {result.step:5d}  loss {result.loss:.4f}  "
        f"learning rate {result.learning_rate:.1e}  {result.seconds:6.0f} s{score}"
    )
