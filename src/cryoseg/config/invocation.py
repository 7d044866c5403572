"""The command that this process runs, and the earlier run that it repeats, for the records of outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Invocation:
    """A command of cryoseg with its options as plain values.

    Attributes
    ----------
    command
        Names of the command and of its groups, such as `simulate tomograms`.
    options
        Long name of an option, without dashes, to its value as `--config` reads it. Defaults are
        included; options without a value are not.
    """

    command: str
    options: Mapping[str, Any]


_CURRENT: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def current_invocation() -> Invocation | None:
    """The command that this process runs; None in a program that calls the functions of cryoseg."""
    return _CURRENT.get()


@contextmanager
def invoked(invocation: Invocation | None) -> Iterator[None]:
    """Make an invocation the current one for the length of the block.

    Parameters
    ----------
    invocation
        The command; worker processes are given that of the process that started them.
    """
    token = _CURRENT.set(invocation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def recorded_options(command: str | None = None, changes: Mapping[str, Any] = {}) -> dict[str, Any]:
    """The entry `options` of a record.

    Parameters
    ----------
    command
        The command that the record names; None for a table of all that this process does.
    changes
        Options that limit the command to one output, in place of those that were given; None removes
        an option.

    Returns
    -------
    dict
        Empty if `command` is not what this process runs.
    """
    current = current_invocation()
    if current is None or command not in (None, current.command):
        return {}
    options = {**current.options, **changes}
    return {"options": {name: value for name, value in options.items() if value is not None}}


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """The record that a command must agree with, and what the command has written.

    Attributes
    ----------
    record, content
        The record of the earlier run.
    anyway
        Warn of differences instead of refusing them.
    written
        Records of the outputs that the command has made.
    """

    record: Path
    content: Mapping[str, Any]
    anyway: bool = False
    written: list[Path] = field(default_factory=list)


_REPETITION: ContextVar[Repetition | None] = ContextVar("repetition", default=None)


def current_repetition() -> Repetition | None:
    """The earlier run that this process repeats; None for a new run."""
    return _REPETITION.get()


@contextmanager
def repeating(repetition: Repetition) -> Iterator[None]:
    """Let the block repeat an earlier run."""
    token = _REPETITION.set(repetition)
    try:
        yield
    finally:
        _REPETITION.reset(token)


def note_written(record: Path) -> None:
    """Remember a record that was written, if an earlier run is repeated."""
    if (repetition := current_repetition()) is not None:
        repetition.written.append(record)
