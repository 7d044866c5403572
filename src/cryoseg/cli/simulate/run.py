"""The course of a simulation on the terminal, the same for all that is simulated."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from cryoseg.cli.console import BatchConsole
from cryoseg.cli.options import Verbosity
from cryoseg.events import Row, StageProgress, Status

Outcome = TypeVar("Outcome")


@dataclass(frozen=True, kw_only=True)
class Shown(Generic[Outcome]):
    """How a simulation is shown.

    Attributes
    ----------
    title
        Title of the table.
    unit
        Name of what is simulated, for the progress bar.
    describe
        Function that makes the row of an outcome; see `made_row`.
    on_each
        Function that prints more about an outcome.
    """

    title: str
    unit: str
    describe: Callable[[Outcome], Row]
    on_each: Callable[[BatchConsole, Outcome], None] | None = None


def show_made(
    shown: Shown[Outcome],
    outcomes: Generator[Outcome, None, None],
    *,
    folder: Path,
    count: int,
    verbosity: Verbosity,
) -> None:
    """Run a simulation with a progress bar, and print its table, also where it is interrupted.

    Parameters
    ----------
    shown
        What is printed.
    outcomes
        What the simulation yields; it makes the next outcome only when it is asked for.
    folder, count
        Where how many are made.
    """
    rows: list[Row] = []
    with verbosity.console() as console, closing(outcomes):

        def progress() -> None:
            console(
                StageProgress(
                    name=str(folder), stage="simulating", done=len(rows), total=count, unit=shown.unit
                )
            )

        def summarize() -> None:
            console.stop()
            console.summary(shown.title, sorted(rows, key=lambda row: row.name))

        progress()
        try:
            for outcome in outcomes:
                rows.append(shown.describe(outcome))
                if shown.on_each is not None:
                    shown.on_each(console, outcome)
                progress()
        except KeyboardInterrupt:
            summarize()
            raise
        summarize()


def made_row(
    name: str, *, made: bool, seconds: float, figures: dict[str, str], outputs: tuple[Path, ...]
) -> Row:
    """The row of something that was made now, or lay there already."""
    return Row(
        name=name,
        status=Status.DONE if made else Status.SKIPPED,
        seconds=seconds,
        figures=figures,
        outputs=outputs,
        message="" if made else "kept",
    )
