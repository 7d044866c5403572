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
    line
        Command line as typed, without the name of the program.
    """

    command: str
    options: Mapping[str, Any]
    line: str = ""


_CURRENT: ContextVar[Invocation | None] = ContextVar("invocation", default=None)


def current_invocation() -> Invocation | None:
    """Return the command of this process; None in a program that calls the functions of cryoseg."""
    return _CURRENT.get()


def command_line() -> str:
    """Return the command line of this process; empty in a program that calls the functions of cryoseg."""
    current = current_invocation()
    return "" if current is None else current.line


@contextmanager
def invoked(invocation: Invocation | None) -> Iterator[None]:
    """Make an invocation the current one within the block, in a worker that of its first process."""
    token = _CURRENT.set(invocation)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def recorded_options(command: str | None = None, changes: Mapping[str, Any] = {}) -> dict[str, Any]:
    """Return the entry `options` of a record; an empty one if `command` is not that of this process.

    Without a command, the record is a table of all outputs of this process. `changes` are options that limit
    the command to one output, in place of the given ones; None removes an option.
    """
    current = current_invocation()
    if current is None or command not in (None, current.command):
        return {}
    options = {**current.options, **changes}
    return {"options": {name: value for name, value in options.items() if value is not None}}


@dataclass(frozen=True, kw_only=True)
class Repetition:
    """The record that a command must agree with, and the records that the command has written.

    Attributes
    ----------
    record, content
        File name and content of the record of the earlier run.
    anyway
        Whether differences give a warning instead of an error.
    written
        Records of the outputs that the command has written.
    """

    record: Path
    content: Mapping[str, Any]
    anyway: bool = False
    written: list[Path] = field(default_factory=list)


_REPETITION: ContextVar[Repetition | None] = ContextVar("repetition", default=None)


def current_repetition() -> Repetition | None:
    """Return the earlier run that this process repeats; None for a new run."""
    return _REPETITION.get()


@contextmanager
def repeating(repetition: Repetition) -> Iterator[None]:
    """Make a repetition of an earlier run the current one within the block."""
    token = _REPETITION.set(repetition)
    try:
        yield
    finally:
        _REPETITION.reset(token)


def note_written(record: Path) -> None:
    """Add a written record to the repetition, if an earlier run is repeated."""
    if (repetition := current_repetition()) is not None:
        repetition.written.append(record)
