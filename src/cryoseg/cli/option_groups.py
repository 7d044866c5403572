"""Options that are derived from the fields of dataclasses.

A command that takes a dataclass has one option for every field that `cryoseg.config.setting` describes:

    def segment(inputs: Inputs, *, config: SegmentConfig, device: Device = "auto") -> None: ...

The default of the parameter gives the defaults of the options. The fields of an inner dataclass are options
too. A command whose other options choose the defaults takes `Changes[Config]`, which holds the given values.
An option of several dataclasses sets the fields of all. A single option is a parameter of the type
`Annotated[str, setting(help=...)]`.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, replace
from enum import Enum
from functools import wraps
from inspect import Parameter
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, Optional, TypeVar, Union, get_args, get_origin, get_type_hints

from typer import BadParameter, Option

from cryoseg.config.setting import Setting, option_of, setting_of

Config = TypeVar("Config")


@dataclass(frozen=True)
class Shown:
    """Defaults that the help of one command shows, as in `Annotated[Changes[Config], Shown(...)]`.

    Attributes
    ----------
    texts
        Texts in place of defaults, by field.
    base
        Dataclass with the other defaults; None uses those of the class.
    """

    texts: Mapping[str, str]
    base: Any = None


class Changes(Generic[Config]):
    """Settings of the command line, which change defaults that other options choose."""

    def __init__(self, kind: type[Config], given: Mapping[str, Any]) -> None:
        self.kind = kind
        self.given = given

    def over(self, base: Config | None = None) -> Config:
        """Return the base with the given settings; None uses the defaults of the class."""
        changed: Config = _made(self.kind, self.given) if base is None else _changed(base, self.given)
        return changed

    def value(self, *path: str, default: Any = None) -> Any:
        """Return the given value of a field, or of a field of an inner dataclass; otherwise `default`."""
        found: Any = self.given
        for name in path:
            found = found.get(name, {})
        return default if found == {} else found

    def differing(self) -> dict[str, bool]:
        """Return for every option whether a value other than the default was given."""
        return {
            one.option: one.value_in(self.given, one.default) != one.default for one in _options(self.kind)
        }


@dataclass(frozen=True, kw_only=True)
class _Field:
    """A field of a dataclass, or of a dataclass within it, that is an option."""

    path: tuple[str, ...]
    option: str
    hint: Any
    setting: Setting
    default: Any
    panel: str

    @property
    def name(self) -> str:
        return self.option.lstrip("-").replace("-", "_")

    @property
    def kind(self) -> Any:
        """Type of the field without None."""
        if get_origin(self.hint) in (Union, UnionType):
            (kind,) = [one for one in get_args(self.hint) if one is not NoneType]
            return kind
        return self.hint

    @property
    def is_repeated(self) -> bool:
        return get_origin(self.kind) is tuple and get_args(self.kind)[-1] is ... and self.setting.repeat

    def value_in(self, values: Mapping[str, Any], missing: Any) -> Any:
        """Return the value of the field in nested mappings."""
        found: Any = values
        for name in self.path:
            if name not in found:
                return missing
            found = found[name]
        return found

    def read(self, typed: Any) -> Any:
        """Convert the value of the option to that of the field."""
        parts = typed if self.is_repeated else [typed]
        if (read := self.setting.read) is not None:
            parts = [read(text, option=self.option) for text in parts]
        return tuple(dict.fromkeys(parts)) if self.is_repeated else parts[0]

    def value(self, typed: Any) -> Any:
        """Return the checked value of a single option, or its default if it was not given."""
        if typed is None or typed == []:
            return self.default
        value = self.read(typed)
        self.setting.check(self.option, value)
        return value

    def parameter(self, *, laid_over: bool, text: str | None) -> Parameter:
        """Return the parameter of the command for the option."""
        setting, default = self.setting, self.default
        kind: Any = get_args(self.kind)[0] if self.is_repeated else self.kind
        kind = str if setting.read else kind
        spelled = text if text is not None else setting.shown
        if spelled is None and default not in (None, False, MISSING, ()) and (laid_over or self.is_repeated):
            spelled = self._spelled()
        if default is not MISSING:
            if laid_over or default is None or self.is_repeated:
                default = None
            elif setting.read:
                default = setting.spell(default)
        text = f"{setting.help.removesuffix('.')} ({setting.limits})." if setting.limits else setting.help
        option = Option(
            *_declared(self),
            help=text,
            show_default=True if spelled is None else spelled,
            metavar=setting.metavar,
            hidden=setting.hidden,
            rich_help_panel=self.panel or None,
        )
        if setting.words:
            option.parser, option.metavar = _reader(kind, setting.words), f"[{'|'.join(kind)}]"
        kind = list[kind] if self.is_repeated else kind
        return Parameter(
            self.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if default is MISSING else default,
            annotation=Annotated[Optional[kind] if default is None else kind, option],  # noqa: UP045
        )

    def _spelled(self) -> str:
        if self.default is True:
            return self.option.removeprefix("--")
        parts = self.default if self.is_repeated else (self.default,)
        return ", ".join(self.setting.spell(one) for one in parts)


@dataclass(frozen=True, kw_only=True)
class _Group:
    """A parameter of a command that is a dataclass."""

    kind: type[Any]
    laid_over: bool
    base: Any
    texts: Mapping[str, str] = field(default_factory=dict)

    def options(self) -> list[_Field]:
        return list(_options(self.kind, self.base))

    def build(self, typed: Mapping[str, Any]) -> Any:
        """Build the dataclass, or the changes to one, from the values of all options."""
        values: dict[str, Any] = {}
        for option in self.options():
            value = typed[option.name]
            if value is not None and value != []:
                inner = values
                for name in option.path[:-1]:
                    inner = inner.setdefault(name, {})
                inner[option.path[-1]] = option.read(value)
        if self.laid_over:
            return Changes(self.kind, values)
        return _made(self.kind, values) if self.base is None else _changed(self.base, values)


def expand(function: Callable[..., None]) -> Callable[..., None]:
    """Convert a command to a function in which every setting is a parameter, as typer needs.

    The parameters of the command are `Annotated[type, Option(...)]`, dataclasses or `Changes`. The function
    has keyword-only parameters, and it expands `~` in paths.

    Raises
    ------
    TypeError
        If an option is described in two ways.
    """
    signature = inspect.signature(function, eval_str=True)
    groups = {name: group for name, one in signature.parameters.items() if (group := _group(one)) is not None}
    parameters: dict[str, Parameter] = {}
    settings: dict[str, _Field] = {}
    singles: dict[str, _Field] = {}
    for name, parameter in signature.parameters.items():
        if (single := _single(parameter)) is not None:
            singles[name] = single
            parameters[single.name] = single.parameter(laid_over=False, text=None)
            continue
        if name not in groups:
            parameters[name] = parameter.replace(kind=Parameter.KEYWORD_ONLY)
            continue
        group = groups[name]
        for one in group.options():
            first = settings.setdefault(one.name, one)
            is_plain = one.name in signature.parameters and one.name not in groups
            if (first.setting, first.kind) != (one.setting, one.kind) or is_plain:
                raise TypeError(f"{function.__name__}: {one.option} is described in two ways.")
            shared = one if first is one or first.panel == one.panel else replace(one, panel="")
            text = group.texts.get(one.path[-1])
            parameters[one.name] = shared.parameter(laid_over=group.laid_over, text=text)

    @wraps(function)
    def command(**values: Any) -> None:
        values = {name: _expand_homes(value) for name, value in values.items()}
        built = {name: one.value(values.pop(one.name)) for name, one in singles.items()}
        built |= {name: group.build(values) for name, group in groups.items()}
        plain = {name: value for name, value in values.items() if name not in settings}
        function(**plain, **built)

    command.__signature__ = inspect.Signature(list(parameters.values()))  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters.values()}
    return command


def given_options(settings: Any) -> dict[str, bool]:
    """Return for every option of a dataclass whether its value differs from the default."""
    return {
        option_of(one): getattr(settings, one.name) != one.default
        for one in dataclasses.fields(settings)
        if setting_of(one) is not None
    }


def _expand_homes(value: Any) -> Any:
    """Expand `~` in a value, which shells do not do in `--output-dir=~/out` and in quotes."""
    from cryoseg.io.inputs import expand_home  # imports numpy, which --help does not need

    match value:
        case Path():
            return expand_home(value)
        case str() if value.startswith("~"):
            return str(expand_home(value))
        case list():
            return [_expand_homes(one) for one in value]
    return value


def _single(parameter: Parameter) -> _Field | None:
    """Return the option of a parameter `Annotated[type, setting(...)]`; None for other parameters."""
    if get_origin(parameter.annotation) is not Annotated:
        return None
    hint, entry = get_args(parameter.annotation)[:2]
    if not isinstance(entry, dataclasses.Field):
        return None
    return _Field(
        path=(parameter.name,),
        option=option_of(entry, parameter.name),
        hint=hint,
        setting=setting_of(entry) or Setting(help=""),
        default=MISSING if parameter.default is Parameter.empty else parameter.default,
        panel="",
    )


def _group(parameter: Parameter) -> _Group | None:
    annotation, shown = parameter.annotation, Shown({})
    if get_origin(annotation) is Annotated:
        annotation, *entries = get_args(annotation)
        shown = next((one for one in entries if isinstance(one, Shown)), shown)
    laid_over = get_origin(annotation) is Changes
    kind = get_args(annotation)[0] if laid_over else annotation
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        return None
    base = parameter.default if isinstance(parameter.default, kind) else None
    return _Group(kind=kind, laid_over=laid_over, base=base or shown.base, texts=shown.texts)


def _options(kind: type[Any], base: Any = None, path: tuple[str, ...] = ()) -> Iterator[_Field]:
    """Yield the options of a dataclass, own fields before inherited ones; `base` may hold the defaults."""
    hints = get_type_hints(kind, include_extras=True)
    for one in sorted(dataclasses.fields(kind), key=lambda one: one.name not in kind.__annotations__):
        if base is not None:
            default = getattr(base, one.name)
        else:
            default = one.default_factory() if one.default_factory is not MISSING else one.default
        setting, hint = setting_of(one), hints[one.name]
        if setting is not None:
            yield _Field(
                path=(*path, one.name),
                option=option_of(one),
                hint=hint,
                setting=setting,
                default=default,
                panel=getattr(kind, "panel", ""),
            )
        elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
            inner = default if isinstance(default, hint) else None
            yield from _options(hint, inner, (*path, one.name))


def _made(kind: type[Any], values: Mapping[str, Any]) -> Any:
    """Build a dataclass; values of an inner dataclass change the default of its field."""
    factories = {one.name: one.default_factory for one in dataclasses.fields(kind)}
    whole = {}
    for name, value in values.items():
        factory = factories[name]
        whole[name] = _changed(factory(), value) if isinstance(value, dict) and callable(factory) else value
    return kind(**whole)


def _changed(base: Any, values: Mapping[str, Any]) -> Any:
    """Replace some fields of a dataclass, also in inner dataclasses."""
    return replace(
        base,
        **{
            name: _changed(getattr(base, name), value)
            if isinstance(value, dict) and dataclasses.is_dataclass(getattr(base, name))
            else value
            for name, value in values.items()
        },
    )


def _declared(one: _Field) -> tuple[str, ...]:
    if one.setting.flags:
        return one.setting.flags
    return (f"{one.option}/--no-{one.option[2:]}" if one.default is True else one.option,)


def _reader(kind: type[Enum], words: Mapping[str, str]) -> Callable[[str], Enum]:
    """Return a parser of an enumeration with alternative spellings."""

    def read(text: str) -> Enum:
        try:
            return kind(words.get(text, text))
        except ValueError:
            names = ", ".join(str(one.value) for one in kind)
            raise BadParameter(f"{text!r} is not one of {names}.") from None

    return read
