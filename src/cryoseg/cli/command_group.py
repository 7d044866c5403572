"""Group of commands that imports a command when it is called, and not for the help of the group."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup

from cryoseg.cli.config_file import config_option, read_invocation
from cryoseg.cli.option_groups import expand
from cryoseg.config.invocation import invoked


@dataclass(frozen=True)
class Entry:
    """A command that is not imported yet.

    Attributes
    ----------
    place
        `module:name` of the function, or of the `typer.Typer` of a group, in `cryoseg.cli`.
    summary
        First paragraph of the help of the command.
    """

    place: str
    summary: str

    def load(self, name: str) -> Any:
        """Import the command, and add the option `--config` to it."""
        module, _, attribute = self.place.partition(":")
        found = getattr(importlib.import_module(f"cryoseg.cli.{module}"), attribute)
        if isinstance(found, typer.Typer):
            command: Any = typer.main.get_group(_prepared_group(found))
        else:
            single = typer.Typer(add_completion=False)
            single.command(name)(_prepared(found))
            command = typer.main.get_command(single)
        command.name = name
        for one in _commands(command):
            one.params.append(config_option())
            one.invoke = _recorded(one.invoke)
        return command

    def stub(self, name: str) -> TyperCommand:
        """Return a command with the summary only, for lists of commands."""
        return TyperCommand(name, help=self.summary)


class CommandGroup(TyperGroup):
    """A group whose commands are listed in `table` and imported one by one."""

    table: ClassVar[dict[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Loaded(self.table)

    def format_help(self, *arguments: Any) -> None:
        """Write the help with the summaries of the commands."""
        super(CommandGroup, self._listing()).format_help(*arguments)

    def shell_complete(self, context: Any, incomplete: str) -> Any:
        """Return the names of commands that complete a word."""
        context.command = listing = self._listing()
        try:
            return super(CommandGroup, listing).shell_complete(context, incomplete)
        finally:
            context.command = self

    def _listing(self) -> CommandGroup:
        listing = copy.copy(self)
        listing.commands = {name: entry.stub(name) for name, entry in self.table.items()}
        return listing


class _Loaded(MutableMapping[str, Any]):
    """Commands by name, which are imported at their first use."""

    def __init__(self, table: dict[str, Entry]) -> None:
        self._found: dict[str, Any] = dict(table)

    def __getitem__(self, name: str) -> Any:
        if isinstance(entry := self._found[name], Entry):
            self._found[name] = entry.load(name)
        return self._found[name]

    def __setitem__(self, name: str, command: Any) -> None:
        self._found[name] = command

    def __delitem__(self, name: str) -> None:
        del self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._found

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)


def _commands(command: Any) -> Iterator[Any]:
    """Yield a command, or all commands within a group."""
    if not hasattr(command, "commands"):
        yield command
    else:
        for inner in command.commands.values():
            yield from _commands(inner)


def _recorded(invoke: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Wrap a command so that every record that it writes holds its options."""

    def run(context: Any) -> Any:
        with invoked(read_invocation(context)):
            return invoke(context)

    return run


def _prepared(function: Callable[..., None]) -> Callable[..., None]:
    # Annotations are evaluated once, which typer would do four times.
    function.__annotations__ = inspect.get_annotations(function, eval_str=True)
    return expand(function)


def _prepared_group(group: typer.Typer) -> typer.Typer:
    for command in group.registered_commands:
        if command.callback is not None:
            # The expanded function keeps its name, from which the name of the command is derived.
            command.callback = _prepared(command.callback)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _prepared_group(inner.typer_instance)
    return group
