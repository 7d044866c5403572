"""Fields of dataclasses with a help text, a range and an option.

    @dataclass(frozen=True, kw_only=True)
    class DrawConfig(Settings):
        side: int = setting(64, help="Side of the picture in pixels.", at_least=1)

The range is checked when the dataclass is made, and `cryoseg.cli.option_groups` makes the option
`--side` of every command that takes a `DrawConfig`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from cryoseg.errors import ConfigError

_KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Option of a field, and the range of its values.

    Attributes
    ----------
    help
        Text of the help, without the range.
    flags
        Names of the option, of which messages use the first; empty for the name of the field.
    at_least, at_most
        Smallest and largest value.
    above, below
        Exclusive limits.
    unit
        Unit of the limits, for texts.
    shown
        Text in place of the default in the help; None shows the default.
    metavar
        Name of the value in the help.
    hidden
        Whether the help leaves the option out.
    words
        Alternative spellings of the members of an enumeration.
    read
        Function from a text and `option=`, the name of the option, to the value; it raises `ConfigError` for
        other forms. None converts by type.
    write
        Inverse of `read`.
    is_range
        Whether the first of two numbers must not exceed the second.
    repeat
        Whether a tuple is given by repeating the option, and not as one text for `read`.
    """

    help: str
    flags: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    above: float | None = None
    below: float | None = None
    unit: str = ""
    shown: str | None = None
    metavar: str | None = None
    hidden: bool = False
    words: Mapping[str, str] = dataclasses.field(default_factory=dict)
    read: Callable[..., Any] | None = None
    write: Callable[[Any], str] = str
    is_range: bool = False
    repeat: bool = True

    @property
    def limits(self) -> str:
        """The range in words, such as "from 0.1 to 1000 angstrom"; empty if there is none."""
        unit = f" {self.unit}" if self.unit else ""
        if self.at_least is not None and self.at_most is not None:
            return f"from {self.at_least:g} to {self.at_most:g}{unit}"
        words = {
            "at least": self.at_least,
            "greater than": self.above,
            "at most": self.at_most,
            "less than": self.below,
        }
        parts = [f"{word} {limit:g}" for word, limit in words.items() if limit is not None]
        return " and ".join(parts) + unit if parts else ""

    def check(self, option: str, value: Any) -> None:
        """Check that numbers are finite and within the range, and that the ends of a range are in order.

        Raises
        ------
        ConfigError
            If one is not; the message begins with `option`.
        """
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, bool) or not isinstance(number, int | float):
                continue
            if not math.isfinite(number):
                raise ConfigError(f"{option} {number}: must be a finite number.")
            if not (
                (self.at_least is None or number >= self.at_least)
                and (self.at_most is None or number <= self.at_most)
                and (self.above is None or number > self.above)
                and (self.below is None or number < self.below)
            ):
                raise ConfigError(f"{option} {self.spell(value)}: must be {self.limits}.")
        if self.is_range and value is not None and value[0] > value[1]:
            raise ConfigError(f"{option} {self.spell(value)}: the first number must not exceed the second.")

    def spell(self, value: Any) -> str:
        """Format a value as it is typed on the command line."""
        if self.write is str and isinstance(value, float):
            return f"{value:g}"
        return self.write(value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of dataclasses whose fields are settings; it checks their ranges."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            if (found := setting_of(one)) is not None:
                found.check(option_of(one), getattr(self, one.name))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return dataclasses.asdict(self)


def setting(default: Any = MISSING, *, help: str, **attributes: Any) -> Any:  # noqa: A002
    """Return a field of a dataclass with the option that sets it.

    Without a default, the field and the option are required. Further attributes are those of `Setting`.
    """
    return dataclasses.field(default=default, metadata={_KEY: Setting(help=help, **attributes)})


def setting_of(field: dataclasses.Field[Any]) -> Setting | None:
    """Return the setting of a field; None for other fields."""
    return field.metadata.get(_KEY)


def option_of(field: dataclasses.Field[Any], name: str | None = None) -> str:
    """Return the name of the option of a field, such as `--pixel-size`; `name` replaces that of the field."""
    found = setting_of(field)
    if found is None or not found.flags:
        return f"--{(name or field.name).replace('_', '-')}"
    return found.flags[0].partition("/")[0]


def read_sizes(axes: str, example: str) -> Callable[..., tuple[int, ...]]:
    """Return a reader of sizes such as `6x64x64`; messages name the form `axes` and an example."""

    def read(text: str, *, option: str) -> tuple[int, ...]:
        try:
            sizes = tuple(int(part) for part in text.lower().split("x"))
        except ValueError:
            sizes = ()
        if len(sizes) != axes.count("x") + 1:
            raise ConfigError(f"{option} {text}: write {axes}, such as {example}.")
        return sizes

    return read


def write_list(values: Sequence[Any]) -> str:
    """Return values with commas between them, as several readers of options take them."""
    return ",".join(map(str, values))


def write_sizes(sizes: Sequence[int]) -> str:
    """Invert the reader of `read_sizes`."""
    return "x".join(map(str, sizes))


def read_range(text: str, *, option: str) -> tuple[float, float]:
    """Read one number, or a range as LOW:HIGH."""
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ConfigError(f"{option} {text}: give one number, or a range as LOW:HIGH.") from None


def write_range(ends: tuple[float, float]) -> str:
    """Invert `read_range`."""
    return f"{ends[0]:g}:{ends[1]:g}"


def sizes_setting(default: tuple[int, ...], axes: str, *, help: str, at_least: int) -> Any:  # noqa: A002
    """Return a setting of sizes in the order of `axes`, such as ZxYxX."""
    read = read_sizes(axes, write_sizes(default))
    return setting(default, help=help, read=read, write=write_sizes, at_least=at_least)


def range_setting(default: Any, *, help: str, **attributes: Any) -> Any:  # noqa: A002
    """Return a setting of one number or of a range, whose first number must not exceed the second."""
    return setting(default, help=help, read=read_range, write=write_range, is_range=True, **attributes)


Kind = TypeVar("Kind")


def restore(kind: type[Kind], values: Mapping[str, Any], *, source: str) -> Kind:
    """Build settings of a kind from plain values by field, as JSON holds them.

    Enumerations are given by their values, and tuples as lists. Missing fields have their defaults.

    Raises
    ------
    ConfigError
        If a field is unknown, or a value has a wrong type; the message begins with `source`.
    """
    hints = get_type_hints(kind)
    extra = sorted(set(values) - set(hints))
    if extra:
        raise ConfigError(
            f"{source}: holds the setting {extra[0]}, which this version of cryoseg does not know. "
            "Use the version that wrote it."
        )
    given = {name: _fit(hints[name], value, f"{source}: {name}") for name, value in values.items()}
    try:
        return kind(**given)
    except TypeError as error:
        raise ConfigError(f"{source}: lacks a setting ({error}). Make the file again.") from error


def _fit(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None and NoneType in arguments:
            return None
        (hint,) = [one for one in arguments if one is not NoneType]
        return _fit(hint, value, where)
    if origin is tuple and isinstance(value, list):
        parts = arguments[:1] * len(value) if arguments[-1] is ... else arguments
        if len(parts) == len(value):
            return tuple(_fit(part, one, where) for part, one in zip(parts, value, strict=True))
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return restore(hint, value, source=where)
    elif isinstance(hint, type) and issubclass(hint, Enum):
        if value in {one.value for one in hint}:
            return hint(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(
        f"{where} is {value!r}, which is not valid. Make the file again, or use the version that wrote it."
    )
