"""Events that a pipeline sends to its caller while it works; the library itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """How one input ended.

    `to do` is what a dry run would do, `elsewhere` what another process does at this moment, and
    `not done` what an interrupt left.
    """

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    TO_DO = "to do"
    ELSEWHERE = "elsewhere"
    NOT_DONE = "not done"


@dataclass(frozen=True, kw_only=True)
class StageProgress:
    """`done` of `total` units of one stage of one input."""

    name: str
    stage: str
    done: int
    total: int
    unit: str = "slices"


@dataclass(frozen=True, kw_only=True)
class Note:
    """A sentence for the user; `detail` ones are shown with --verbose only."""

    text: str
    detail: bool = False


@dataclass(frozen=True, kw_only=True)
class Warn:
    """A sentence that the user should read even with --quiet."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the summary.

    Attributes
    ----------
    name
        The input, short.
    figures
        Column name to printed value.
    outputs
        Files that were written or kept.
    message
        The error of a failed row; a remark otherwise.
    path
        The input as the user spelled it, where it is a file.
    """

    name: str
    status: Status
    seconds: float = 0.0
    figures: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    message: str = ""
    path: Path | None = None


Event = StageProgress | Note | Warn | Row
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `OnEvent` that drops everything."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows of a batch.

    Attributes
    ----------
    rows
        In the order of the inputs.
    interrupted_by
        Number of the signal that ended the batch early; None if it ran to its end.
    """

    rows: list[Row]
    interrupted_by: int | None = None

    @property
    def exit_status(self) -> int:
        """128 and the signal's number if interrupted, else 1 if a row failed, else 0."""
        if self.interrupted_by is not None:
            return 128 + self.interrupted_by
        return int(any(row.status is Status.FAILED for row in self.rows))

    def counts(self) -> dict[str, int]:
        """Rows of each status that occurs."""
        return {one.value: n for one in Status if (n := sum(row.status is one for row in self.rows))}
