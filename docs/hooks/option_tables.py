"""Generate the tables of options from the commands when the site is built.

The line `<!-- options: train membrane -->` in a page is replaced by a collapsed table of all arguments and
options of `cryoseg train membrane`. The texts and defaults are those of the help.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any

MARKER = re.compile(r"^<!-- options: ([a-z0-9 -]+?) -->$", re.MULTILINE)


def leaves(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Yield all commands of a group, as ('train membrane', command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*words, name))
        else:
            yield " ".join((*words, name)), command


@cache
def commands() -> dict[str, Any]:
    """Return all commands of cryoseg by name."""
    import typer

    from cryoseg.cli.app import app

    return dict(leaves(typer.main.get_command(app)))


def shown(command: Any) -> list[Any]:
    """Return the arguments and options that the help of a command lists."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def names(parameter: Any) -> list[str]:
    """Return the spellings of a parameter: `--store-mask`, `--no-store-mask`, or `INPUTS...`."""
    if parameter.param_type_name == "argument":
        return [parameter.name.upper() + ("..." if parameter.nargs == -1 else "")]
    return [*parameter.opts, *parameter.secondary_opts]


def _plain(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    shown_default = getattr(parameter, "show_default", None)
    if isinstance(shown_default, str):
        return _plain(shown_default)
    value = parameter.default
    if value is None or value == () or value == [] or value is False or callable(value):
        return ""
    if isinstance(value, (list, tuple)):
        value = ", ".join(str(one.value if isinstance(one, Enum) else one) for one in value)
    return _plain(str(value.value if isinstance(value, Enum) else value))


def table(words: str) -> str:
    """Return the collapsed table of one command as Markdown."""
    command = commands()[words]
    rows = [
        f'??? info "All options of `cryoseg {words}`"',
        "",
        "    | name | description | default |",
        "    |---|---|---|",
    ]
    for parameter in shown(command):
        typed = ", ".join(f"`{name}`" for name in names(parameter))
        rows.append(f"    | {typed} | {_plain(parameter.help or '')} | {_default(parameter)} |")
    return "\n".join([*rows, ""])


def with_tables(markdown: str) -> str:
    """Replace the markers in a page by tables.

    Raises
    ------
    KeyError
        If a marker names an unknown command; the build then fails.
    """
    return MARKER.sub(lambda found: table(found.group(1)), markdown)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace the markers in a page; mkdocs calls this function for every page."""
    return with_tables(markdown)
