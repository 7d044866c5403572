"""Print progress, notes, warnings and the table of a batch.

On a terminal, progress is a bar with rate and remaining time; otherwise it is a line at every tenth of a
stage. Other programs can ask for one line of JSON per event.
"""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from cryoseg.config.common import ProgressStyle
from cryoseg.config.evaluate import HEADLINES
from cryoseg.events import Event, Note, Row, StageProgress, Status, Warn

if TYPE_CHECKING:
    from cryoseg.pipelines.evaluate.segmentations import Evaluation

_STYLE = {
    Status.DONE: "green",
    Status.SKIPPED: "yellow",
    Status.FAILED: "bold red",
    Status.TO_DO: "cyan",
    Status.ELSEWHERE: "cyan",
    Status.NOT_DONE: "magenta",
}


# Names of the events in lines of JSON.
_EVENT_NAMES = {StageProgress: "progress", Note: "note", Warn: "warning", Row: "row"}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.1f}/s" if speed else "", style="progress.data.speed")


class BatchConsole:
    """Print the events of a pipeline."""

    def __init__(
        self, *, quiet: bool = False, verbose: bool = False, progress: ProgressStyle = ProgressStyle.AUTO
    ) -> None:
        self.out = Console(highlight=False, soft_wrap=True)
        self.err = Console(stderr=True, highlight=False, soft_wrap=True)
        self._quiet = quiet
        self._verbose = verbose
        self._style = progress
        self._progress: Progress | None = None
        self._bar: tuple[str, int] | None = None  # key and rich's task id of the current stage
        self._plain: tuple[str, float, int] | None = None  # key, start time, tenths printed

    def start(self) -> None:
        """Start the progress bar if there is a terminal."""
        if self._style is ProgressStyle.AUTO and self.err.is_terminal and not self._quiet:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                _Rate(),
                TimeRemainingColumn(),
                console=self.err,
            )
            self._progress.start()

    def stop(self) -> None:
        """Remove the progress bar."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def __call__(self, event: Event) -> None:
        """Print one event."""
        match event:
            case StageProgress() if self._quiet or self._style is ProgressStyle.NONE:
                pass
            case Note(detail=detail) if self._quiet or (detail and not self._verbose):
                pass
            case _ if self._style is ProgressStyle.JSON:
                line = {"event": _EVENT_NAMES[type(event)], **asdict(event)}
                self.err.out(json.dumps(line, ensure_ascii=False, default=str))
            case StageProgress():
                self._show_progress(event)
            case Note(text=text):
                self.err.print(text, markup=False)
            case Warn(text=text):
                self.err.print(f"Warning: {text}", style="yellow", markup=False)
            case Row(status=Status.FAILED):
                self.err.print(f"Error: {event.message}", style="bold red", markup=False)
            case Row():
                pass

    def _show_progress(self, event: StageProgress) -> None:
        key = f"{event.name} {event.stage}"
        if self._progress is not None:
            if self._bar is None or self._bar[0] != key:
                if self._bar is not None:
                    self._progress.remove_task(self._bar[1])  # type: ignore[arg-type]
                self._bar = (key, self._progress.add_task(key, total=event.total))
            self._progress.update(self._bar[1], completed=event.done)  # type: ignore[arg-type]
            return
        now = time.monotonic()
        if self._plain is None or self._plain[0] != key:
            self._plain = (key, now, 0)
        _, begun, printed = self._plain
        tenth = 10 * event.done // max(event.total, 1)
        if tenth > printed:
            rate = f" ({event.done / (now - begun):.1f}/s)" if now > begun else ""
            self.err.print(f"{key}: {event.done}/{event.total} {event.unit}{rate}", markup=False)
            self._plain = (key, begun, tenth)

    def summary(self, title: str, rows: list[Row], columns: tuple[str, ...] | None = None) -> None:
        """Print the table of a batch.

        `columns` names the columns of `Row.columns` to show between status and seconds; None shows all.
        """
        from cryoseg.pipelines.batches.report import row_names  # imports numpy, which --help does not need

        if columns is None:
            columns = tuple(dict.fromkeys(name for row in rows for name in row.columns))
        cells: list[Sequence[str | Text]] = [
            (
                name,
                Text(row.status.value, style=_STYLE[row.status]),
                *(row.columns.get(column, "") for column in columns),
                f"{row.seconds:.1f}",
                row.message,
            )
            for row, name in zip(rows, row_names(rows), strict=True)
        ]
        header = ("file", "status", *columns, "seconds", "message")
        print_table(title, header, cells, right=(*columns, "seconds"))


def print_table(
    title: str,
    header: Sequence[str],
    rows: Iterable[Sequence[str | Text]],
    *,
    right: Collection[str] = (),
    width: int = 160,
) -> None:
    """Print a table.

    The columns in `right` are aligned on the right. `width` is the width in characters if the output is no
    terminal.
    """
    table = Table(title=title, title_justify="left")
    for name in header:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in row))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(width=width, highlight=False)
    console.print(table)


def print_evaluation(evaluation: Evaluation) -> None:
    """Print every metric of a single pair, or a row per file and the means of several."""
    from cryoseg.pipelines.evaluate.report import comparison_rows, means_rows
    from cryoseg.pipelines.evaluate.segmentations import show_metric

    good = [file for file in evaluation.files if not file.error]
    if len(evaluation.files) == 1 and good:
        rows = [(name, show_metric(value)) for name, value in good[0].metrics.items()]
        print_table(good[0].name, ("metric", "value"), rows, right=("value",), width=200)
        return
    prefixes = tuple(name for name in HEADLINES if name.endswith("_"))
    present = dict.fromkeys(name for file in evaluation.files for name in file.metrics)
    columns = [name for name in present if name in HEADLINES or name.startswith(prefixes)]
    files: list[Sequence[str | Text]] = [
        (
            file.method,
            file.name,
            *(show_metric(file.metrics[name]) if name in file.metrics else "" for name in columns),
            Text(file.error, style="red"),
        )
        for file in evaluation.files
    ]
    files += [
        ("", row.name, *[""] * len(columns), Text(f"{row.status.value}: {row.message}", style="cyan"))
        for row in evaluation.unscored
    ]
    print_table("Scores", ("method", "file", *columns, "error"), files, right=columns, width=200)
    if good:
        numbers = ("macro", "95 % interval", "files", "undefined", "micro")
        header = ("metric", "method", *numbers)
        print_table("Means over files", header, means_rows(evaluation), right=numbers, width=200)
    if evaluation.comparisons:
        title = "Comparison (two-sided Wilcoxon signed-rank over files, Holm-corrected over pairs of methods)"
        compared = ("difference", "files", "p", "p corrected")
        print_table(
            title, ("metric", "methods", *compared), comparison_rows(evaluation), right=compared, width=200
        )


@contextmanager
def batch_console(
    *, quiet: bool = False, verbose: bool = False, progress: ProgressStyle = ProgressStyle.AUTO
) -> Iterator[BatchConsole]:
    """Yield a `BatchConsole`, whose progress bar is removed at the end of the block."""
    console = BatchConsole(quiet=quiet, verbose=verbose, progress=progress)
    console.start()
    try:
        yield console
    finally:
        console.stop()
