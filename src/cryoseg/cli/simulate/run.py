"""The course of a simulation on the terminal, the same for all that is simulated."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from cryoseg.cli.console import BatchConsole, batch_console
from cryoseg.events import Row, StageProgress, Status

Outcome = TypeVar("Outcome")


def show_made(
    title: str,
    outcomes: Generator[Outcome, None, None],
    describe: Callable[[Outcome], Row],
    *,
    folder: Path,
    count: int,
    unit: str,
    quiet: bool,
    verbose: bool,
    on_each: Callable[[BatchConsole, Outcome], None] | None = None,
) -> None:
    """Go through a simulation with a bar, and print its table, also where it is interrupted.

    Parameters
    ----------
    title
        Of the table.
    outcomes
        What a simulation yields; it makes the next only when it is asked for.
    describe
        The row of one; see `made_row`.
    folder, count, unit
        For the bar: where, how many, of what.
    on_each
        Tells more about one.
    """
    rows: list[Row] = []
    with batch_console(quiet=quiet, verbose=verbose) as console, closing(outcomes):

        def progress() -> None:
            console(
                StageProgress(name=str(folder), stage="simulating", done=len(rows), total=count, unit=unit)
            )

        progress()
        try:
            for outcome in outcomes:
                rows.append(describe(outcome))
                if on_each is not None:
                    on_each(console, outcome)
                progress()
        except KeyboardInterrupt:
            _summarize(console, title, rows)
            raise
        _summarize(console, title, rows)


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


def _summarize(console: BatchConsole, title: str, rows: list[Row]) -> None:
    console.stop()
    console.summary(title, sorted(rows, key=lambda row: row.name))
