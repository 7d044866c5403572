"""The root command: it imports a sub-command when that is called, and not for its own help."""

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
    """A sub-command that is not imported yet.

    Attributes
    ----------
    place
        `module:name` of its function, or of the `typer.Typer` of a group, in `cryoseg.cli`.
    summary
        The first paragraph of its help.
    """

    place: str
    summary: str

    def load(self, name: str) -> Any:
        """The command, every part of which takes `--config`."""
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
        """What a list of commands shows of it."""
        return TyperCommand(name, help=self.summary)


class CommandGroup(TyperGroup):
    """A group whose commands are named in `table`, and imported one by one."""

    table: ClassVar[dict[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = _Loaded(self.table)

    def format_help(self, *arguments: Any) -> None:
        """Write the help, for which summaries suffice."""
        super(CommandGroup, self._listing()).format_help(*arguments)

    def shell_complete(self, context: Any, incomplete: str) -> Any:
        """Names that complete a word, for which summaries suffice."""
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
    """Name to command, imported when it is first asked for."""

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
    """The command itself, or all within a group."""
    if not hasattr(command, "commands"):
        yield command
    else:
        for inner in command.commands.values():
            yield from _commands(inner)


def _recorded(invoke: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Run a command so that every record that it writes holds its options."""

    def run(context: Any) -> Any:
        with invoked(read_invocation(context)):
            return invoke(context)

    return run


def _prepared(function: Callable[..., None]) -> Callable[..., None]:
    # typer would evaluate the text of each annotation four times, which takes longer than the import.
    function.__annotations__ = inspect.get_annotations(function, eval_str=True)
    return expand(function)


def _prepared_group(group: typer.Typer) -> typer.Typer:
    for command in group.registered_commands:
        if command.callback is not None:
            # The name comes from the function, which an expanded one keeps.
            command.callback = _prepared(command.callback)
    for inner in group.registered_groups:
        if inner.typer_instance is not None:
            _prepared_group(inner.typer_instance)
    return group
