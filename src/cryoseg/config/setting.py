"""Settings that describe themselves: a field carries its help text, its range and its option.

    @dataclass(frozen=True, kw_only=True)
    class DrawConfig(Settings):
        side: int = setting(64, help="Side of the picture in pixels.", at_least=1)

The field is checked when the dataclass is made, and `cryoseg.cli.option_groups` makes the option
`--side` of every command that takes a `DrawConfig`.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any

from cryoseg.errors import ConfigError

_KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The option of a field and the values that it takes.

    Attributes
    ----------
    help
        Text of the help, without the range.
    flags
        Names of the option, the first of which names it in errors. Empty: `--` and the field's name.
    at_least, at_most
        Smallest and largest value.
    above, below
        Limits that are not values themselves.
    unit
        Unit of the limits, for texts.
    shown
        Text that stands for the default in the help; None shows the default itself.
    metavar
        Name of the value in the help.
    hidden
        Whether the help leaves the option out.
    words
        Further spellings of the members of an enumeration.
    read
        Function from a text and `option=`, the option's name, to the value. None: the type decides.
    write
        Inverse of `read`.
    repeat
        Whether a tuple is given by repeating the option; otherwise `read` makes it of one text.
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
    repeat: bool = True

    @property
    def limits(self) -> str:
        """The range in words, such as "from 0.1 to 1000 angstrom"; empty where there is none."""
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
        """Stop at a number outside the range, or at one that is not finite.

        Raises
        ------
        ConfigError
            In one sentence that begins with `option`.
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

    def spell(self, value: Any) -> str:
        """A value as it is typed on the command line."""
        if self.write is str and isinstance(value, float):
            return f"{value:g}"
        return self.write(value)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of the dataclasses whose fields are settings; it checks the range of each of them."""

    def __post_init__(self) -> None:
        for one in dataclasses.fields(self):
            if (about := setting_of(one)) is not None:
                about.check(option_of(one), getattr(self, one.name))


def setting(default: Any = MISSING, *, help: str, **about: Any) -> Any:  # noqa: A002
    """Field of a dataclass with the option that sets it.

    Parameters
    ----------
    default
        Value of the field. Without it the field and the option are required.
    help
        Text of the help.
    about
        Further attributes of `Setting`.
    """
    return dataclasses.field(default=default, metadata={_KEY: Setting(help=help, **about)})


def setting_of(field: dataclasses.Field[Any]) -> Setting | None:
    """What `setting` says about a field; None for other fields."""
    return field.metadata.get(_KEY)


def option_of(field: dataclasses.Field[Any], name: str | None = None) -> str:
    """Name of the option of a field, such as `--pixel-size`; `name` stands for that of the field."""
    about = setting_of(field)
    if about is None or not about.flags:
        return f"--{(name or field.name).replace('_', '-')}"
    return about.flags[0].partition("/")[0]


def read_sizes(axes: str, example: str) -> Callable[..., tuple[int, ...]]:
    """Reader of sizes such as `6x64x64`.

    Parameters
    ----------
    axes
        The form that is asked for, such as `ZxYxX`.
    example
        A text of that form.
    """

    def read(text: str, *, option: str) -> tuple[int, ...]:
        try:
            sizes = tuple(int(part) for part in text.lower().split("x"))
        except ValueError:
            sizes = ()
        if len(sizes) != axes.count("x") + 1:
            raise ConfigError(f"{option} {text}: write {axes}, such as {example}.")
        return sizes

    return read


def write_sizes(sizes: Sequence[int]) -> str:
    """The inverse of what `read_sizes` makes."""
    return "x".join(map(str, sizes))


def read_range(text: str, *, option: str) -> tuple[float, float]:
    """One number, or a range as LOW:HIGH.

    Raises
    ------
    ConfigError
        For any other text.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise ConfigError(f"{option} {text}: give one number, or a range as LOW:HIGH.") from None


def write_range(ends: tuple[float, float]) -> str:
    """The inverse of `read_range`."""
    return f"{ends[0]:g}:{ends[1]:g}"


def require_rising(option: str, ends: tuple[float, float] | None) -> None:
    """Stop at a range whose upper end is below the lower one.

    Raises
    ------
    ConfigError
        With the name of the option.
    """
    if ends is not None and ends[0] > ends[1]:
        raise ConfigError(f"{option} {write_range(ends)}: the range must rise.")
