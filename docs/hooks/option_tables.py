"""Tables of a command's options, read from the command itself when the site is built.

A line `<!-- options: train membrane -->` in a page becomes a folded table of every argument and
option of `cryoseg train membrane`. Texts and defaults thus have one source, the help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any

MARKER = re.compile(r"^<!-- options: ([a-z0-9 -]+?) -->$", re.MULTILINE)


def leaves(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Every command below a group, as ('train membrane', command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


@cache
def commands() -> dict[str, Any]:
    """Every command of cryoseg by its words."""
    import typer

    from cryoseg.cli.app import app

    return dict(leaves(typer.main.get_command(app)))


def shown(command: Any) -> list[Any]:
    """The arguments and options of a command that its help lists."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def names(parameter: Any) -> list[str]:
    """How a parameter is typed: `--store-mask`, `--no-store-mask`, or `INPUTS...`."""
    if parameter.param_type_name == "argument":
        return [parameter.name.upper() + ("..." if parameter.nargs == -1 else "")]
    return [*parameter.opts, *parameter.secondary_opts]


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    told = getattr(parameter, "show_default", None)
    if isinstance(told, str):
        return _plain(told)
    value = parameter.default
    if value is None or value == () or value == [] or value is False or callable(value):
        return ""
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(one.value if isinstance(one, Enum) else one) for one in value)
    return _plain(str(value.value if isinstance(value, Enum) else value))


def table(words: str) -> str:
    """The folded table of one command, as Markdown of the site."""
    command = commands()[words]
    rows = [
        f'??? info "Every option of `cryoseg {words}`"',
        "",
        "    | name | meaning | default |",
        "    |---|---|---|",
    ]
    for parameter in shown(command):
        typed = ", ".join(f"`{name}`" for name in names(parameter))
        rows.append(f"    | {typed} | {_plain(parameter.help or '')} | {_default(parameter)} |")
    return "\n".join([*rows, ""])


def with_tables(markdown: str) -> str:
    """A page with its markers replaced.

    Raises
    ------
    KeyError
        If a marker names no command; the build stops there.
    """
    return MARKER.sub(lambda found: table(found.group(1)), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for every page."""
    return with_tables(markdown)
