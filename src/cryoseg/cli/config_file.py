"""`--config FILE.toml` for every command: options from a file, under those of the command line.

`cryoseg.cli.command_group` gives every command the option, so that no command knows of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from cryoseg import __version__
from cryoseg.errors import ConfigError
from cryoseg.io.outputs import atomic_text
from cryoseg.io.paths import expand_home

HELP = "Read options from a TOML file; those on the command line win."


@cache
def config_option() -> Any:
    """The option as typer makes it, whatever arguments its class takes in this version."""
    single = typer.Typer(add_completion=False)

    @single.command()
    def _template(
        config: Annotated[
            Optional[Path],  # noqa: UP045
            typer.Option("--config", metavar="FILE.toml", help=HELP, is_eager=True, callback=_apply),
        ] = None,
    ) -> None: ...

    option: Any = typer.main.get_command(single).params[0]
    option.expose_value = False
    return option


def _apply(context: typer.Context, value: Path | None) -> Path | None:
    if value is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **read_options(expand_home(value), context)}
    return value


def read_options(path: Path, context: typer.Context) -> dict[str, Any]:
    """What a TOML file says for the command of a context.

    Keys before any table are for the command that is run; a table is named as a command, `[segment]`
    or `[train.membrane]`, and wins over them. Tables of other commands are passed over.

    Parameters
    ----------
    path
        The file.
    context
        Of the command, none of whose parameters need be known yet.

    Returns
    -------
    dict
        Name of the parameter to the text, or list of texts, that the command line would have held;
        flags are bool.

    Raises
    ------
    ConfigError
        If the file cannot be read, or names an option or a command that there is not, or a value
        does not fit.
    """
    words = _words(context)
    options = _options(context.command)
    found: dict[str, Any] = {}
    group: Any = context.find_root().command
    table: Any = _load(path)
    for depth in range(len(words) + 1):
        known = list(getattr(group, "commands", {}))
        level: dict[str, str] = {}
        for key, value in table.items():
            where = ".".join((*words[:depth], key))
            if isinstance(value, Mapping) and key in known:
                continue
            name = key.replace("_", "-")
            if isinstance(value, Mapping) or name not in options:
                raise ConfigError(_unknown(path, where, key, words, [*options, *known]))
            parameter = options[name]
            if parameter.name in level:
                raise ConfigError(f"{path}: {level[parameter.name]} and {key} are one option; give one.")
            level[parameter.name] = key
            found[parameter.name] = _value(path, where, parameter, value, context)
        if depth < len(words):
            group, table = group.commands[words[depth]], table.get(words[depth], {})
    return found


def write_options(path: Path, context: typer.Context) -> None:
    """Write the options of a command so that `--config` reads them back.

    What was left to a default is written too, lest another version have another one.

    Parameters
    ----------
    path
        The file; replaced if it is there.
    context
        Of the command, with all its parameters.
    """
    words = " ".join(_words(context))
    lines = [
        f"# cryoseg {__version__}. The same again, from the same folder and into another one:",
        f"# cryoseg {words} --config {path.name} -o OTHER",
        f"[{words.replace(' ', '.')}]",
    ]
    names = {parameter.name: name for name, parameter in reversed(_options(context.command).items())}
    for name, value in context.params.items():
        plain = _plain(value)
        if name in names and plain not in (None, []):
            lines.append(f"{names[name]} = {json.dumps(plain)}")
    with atomic_text(path, overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")


def _plain(value: Any) -> Any:
    """Of an option's value: what JSON and TOML write alike."""
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, Enum):
        return value.value
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _words(context: typer.Context) -> list[str]:
    """Names of the command and of the groups around it, without the program's."""
    words: list[str] = []
    here: Any = context
    while here.parent is not None:
        words.insert(0, here.info_name)
        here = here.parent
    return words


def _options(command: Any) -> dict[str, Any]:
    """Every long name that a key may have, with its parameter; arguments by their own name."""
    names: dict[str, Any] = {}
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            names[parameter.name.replace("_", "-")] = parameter
        elif parameter.expose_value:
            names |= {text[2:]: parameter for text in parameter.opts if text.startswith("--")}
    return names


def _load(path: Path) -> dict[str, Any]:
    import tomllib  # not at --help

    try:
        with path.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigError(f"--config {path}: cannot be read ({error.strerror}). Check the name.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"--config {path}: is no TOML ({error}). Write one `option = value` a line, texts in quotes."
        ) from error


def _unknown(path: Path, where: str, key: str, words: list[str], known: list[str]) -> str:
    near = get_close_matches(key.replace("_", "-"), known, n=1, cutoff=0.0)
    hint = f"the nearest is {near[0]}" if near else "it takes none"
    return f"{path}: `cryoseg {' '.join(words)}` has no option {where}; {hint}."


def _value(path: Path, where: str, parameter: Any, value: Any, context: typer.Context) -> Any:
    if getattr(parameter, "is_bool_flag", False):
        if not isinstance(value, bool):
            raise ConfigError(f"{path}: {where} = {value!r}: is a switch; write true or false.")
        return value
    several = getattr(parameter, "multiple", False) or parameter.nargs == -1
    parts = value if isinstance(value, list) else [value]
    if len(parts) != 1 and not several:
        raise ConfigError(f"{path}: {where} = {value!r}: takes one value, not a list.")
    for part in parts:
        if isinstance(part, bool) or not isinstance(part, str | int | float):
            raise ConfigError(f"{path}: {where} = {value!r}: write a number or a text in quotes.")
    texts = [str(part) for part in parts]
    given = texts if several else texts[0]
    try:
        parameter.process_value(context, given)
    except typer.BadParameter as error:
        raise ConfigError(f"{path}: {where} = {value!r}: {error.message.rstrip('.')}.") from error
    return given
