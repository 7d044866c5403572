"""What a pipeline tells its caller while it works; the library itself prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """How one input ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


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
    """

    name: str
    status: Status
    seconds: float = 0.0
    figures: dict[str, str] = field(default_factory=dict)
    outputs: tuple[Path, ...] = ()
    message: str = ""


Event = StageProgress | Note | Warn | Row
OnEvent = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `OnEvent` that drops everything."""


@dataclass(frozen=True, kw_only=True)
class Report:
    """All rows of a batch."""

    rows: list[Row]

    @property
    def exit_status(self) -> int:
        """0 if no row failed, else 1."""
        return int(any(row.status is Status.FAILED for row in self.rows))
