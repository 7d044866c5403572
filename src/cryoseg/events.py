"""Events that a pipeline reports to its caller; the library itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """Status of one input at the end of a batch.

    A dry run would process a `to do` input, another process is processing an `elsewhere` input, and an
    interrupted batch has not reached a `not done` input.
    """

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    TO_DO = "to do"
    ELSEWHERE = "elsewhere"
    NOT_DONE = "not done"


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """Progress of one stage of one input: `done` of `total` units."""

    name: str
    stage: str
    done: int
    total: int
    unit: str = "slices"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A message to the user; details are shown with --verbose only."""

    text: str
    detail: bool = False


@dataclass(frozen=True, kw_only=True)
class Warn:
    """A warning to the user, shown also with --quiet."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the summary.

    Attributes
    ----------
    name
        Short name of the input.
    columns
        Printed value of each column of the table.
    outputs
        Output files of the input, including existing ones.
    message
        Error of a failed input, or a remark.
    path
        Path of the input as the user gave it; None if it is no file.
    """

    name: str
    status: Status
    seconds: float = 0.0
    columns: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    message: str = ""
    path: Path | None = None


Event = StageProgress | Note | Warn | Row
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Ignore an event; an `OnEvent` for callers without a console."""


def warn_of(name: str, warnings: Iterable[str], on_event: OnEvent) -> None:
    """Report the warnings about a file, each after its name."""
    for text in warnings:
        on_event(Warn(text=f"{name}: {text}"))


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a batch.

    Attributes
    ----------
    rows
        Rows in the order of the inputs.
    interrupted_by
        Number of the signal that interrupted the batch; None if it was not interrupted.
    """

    rows: list[Row]
    interrupted_by: int | None = None

    @property
    def exit_status(self) -> int:
        """128 plus the number of the signal if interrupted, 1 if an input failed, otherwise 0."""
        if self.interrupted_by is not None:
            return 128 + self.interrupted_by
        return int(any(row.status is Status.FAILED for row in self.rows))

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each status that occurs."""
        return {one.value: n for one in Status if (n := sum(row.status is one for row in self.rows))}
