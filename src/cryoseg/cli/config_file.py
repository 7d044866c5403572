"""Read options from `--config FILE.toml`, and write the options of a command to files and records.

`cryoseg.cli.command_group` adds the option `--config` to every command.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Optional

import typer

from cryoseg import __version__
from cryoseg.config.invocation import Invocation
from cryoseg.errors import ConfigError
from cryoseg.io.outputs import atomic_text

HELP = "Read options from a TOML file; options on the command line have priority."
# Options that do not affect the content of the outputs.
OF_THE_RUN = frozenset(
    {"cluster", "cluster-option", "cluster-tasks", "device", "dry-run", "gpus", "output", "output-dir"}
    | {"overwrite", "progress", "quiet", "report", "scores", "shard", "verbose", "workers"}
)


@cache
def config_option() -> Any:
    """Return the option `--config`, built by typer, whose classes differ between versions."""
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
        from cryoseg.io.inputs import expand_home

        path = expand_home(value)
        options = read_options(_load(path), context, source=path)
        context.default_map = {**(context.default_map or {}), **options}
    return value


def read_options(table: Mapping[str, Any], context: typer.Context, *, source: Path) -> dict[str, Any]:
    """Convert plain values of a TOML or JSON file to options of a command.

    Keys before any table belong to the command that is run. A table is named after a command, such as
    `[segment]` or `[train.membrane]`, and has priority. Tables of other commands are ignored. The result has
    texts, or lists of texts, as on the command line, by name of the parameter; flags are bool. Messages name
    the file `source`.

    Raises
    ------
    ConfigError
        If a key is not an option or a command, or a value cannot be used.
    """
    words = _words(context)
    options = option_parameters(context.command)
    found: dict[str, Any] = {}
    group: Any = context.find_root().command
    for depth in range(len(words) + 1):
        commands = list(getattr(group, "commands", {}))
        level: dict[str, str] = {}
        for key, value in table.items():
            where = ".".join((*words[:depth], key))
            if isinstance(value, Mapping) and key in commands:
                continue
            name = key.replace("_", "-")
            if isinstance(value, Mapping) or name not in options:
                raise ConfigError(_unknown(source, where, key, words, [*options, *commands]))
            parameter = options[name]
            if parameter.name in level:
                raise ConfigError(f"{source}: {level[parameter.name]} and {key} are one option; give one.")
            level[parameter.name] = key
            found[parameter.name] = _value(source, where, parameter, value, context)
        if depth < len(words):
            group, table = group.commands[words[depth]], table.get(words[depth], {})
    return found


def write_options(path: Path, context: typer.Context) -> None:
    """Write the options of a command to a file for `--config`.

    Defaults are written too, since they may differ in other versions.
    """
    words = " ".join(_words(context))
    lines = [
        f"# cryoseg {__version__}. To repeat this run from the same folder, with another output folder:",
        f"# cryoseg {words} --config {path.name} -o OTHER",
        f"[{words.replace(' ', '.')}]",
    ]
    lines += [f"{name} = {json.dumps(value)}" for name, value in _plain_options(context).items()]
    with atomic_text(path, overwrite=True) as stream:
        stream.write("\n".join(lines) + "\n")


def read_invocation(context: typer.Context) -> Invocation:
    """Return the command of a context with the options that affect its outputs; paths are absolute."""
    options = {
        name: value
        for name, value in _plain_options(context, folder=Path.cwd()).items()
        if name not in OF_THE_RUN
    }
    if options.pop("contact-sheet", False):  # a picture of all previews
        options["preview"] = True
    line = shlex.join(sys.argv[1:])
    return Invocation(command=" ".join(_words(context)), options=options, line=line)


def find_command(root: Any, command: str, *, source: Path) -> Any:
    """Return the context of a command without options."""
    context: Any = root
    for word in command.split():
        inner = getattr(context.command, "commands", {}).get(word)
        if inner is None:
            raise ConfigError(
                f"{source}: there is no command `cryoseg {command}`. Use the version that wrote the file."
            )
        context = inner.make_context(word, [], parent=context, resilient_parsing=True)
    return context


def with_options(context: Any, options: Mapping[str, Any], *, source: Path) -> Any:
    """Return the context of a command with options in place of a command line."""
    values = read_options(options, context, source=source)
    return context.command.make_context(context.info_name, [], parent=context.parent, default_map=values)


def _plain_options(context: typer.Context, *, folder: Path | None = None) -> dict[str, Any]:
    """Return the options that have a value, by long name; with a folder, paths are absolute."""
    names = {parameter.name: name for name, parameter in reversed(option_parameters(context.command).items())}
    values = {names[name]: _plain(value, folder) for name, value in context.params.items() if name in names}
    return {name: value for name, value in values.items() if value not in (None, [])}


def _plain(value: Any, folder: Path | None) -> Any:
    """Convert the value of an option to a form that JSON and TOML support."""
    if isinstance(value, list | tuple):
        return [_plain(part, folder) for part in value]
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        from cryoseg.io.inputs import expand_home  # imports numpy, which --help does not need

        return str(value if folder is None else folder / expand_home(value))
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def _words(context: typer.Context) -> list[str]:
    """Return the names of the command and of its groups, without the name of the program."""
    words: list[str] = []
    here: Any = context
    while here.parent is not None:
        words.insert(0, here.info_name)
        here = here.parent
    return words


def option_parameters(command: Any) -> dict[str, Any]:
    """Return the parameters of a command by the long names of options, and by the names of arguments."""
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
            f"--config {path}: is not TOML ({error}). Write one `option = value` a line, texts in quotes."
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
