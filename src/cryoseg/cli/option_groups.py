"""Options that go together as one parameter of a command.

A command that takes `batch: BatchOptions` has one option for every field of that class, in its place:

    @dataclass(frozen=True, kw_only=True)
    class BatchOptions(OptionGroup):
        dry_run: Annotated[bool, Option("--dry-run", help="...")] = False

    def segment(inputs: Inputs, batch: BatchOptions = BatchOptions()) -> None: ...

A field without default is a required option.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import copy
from dataclasses import MISSING, dataclass, fields
from functools import wraps
from inspect import Parameter
from typing import Annotated, Any, ClassVar, get_type_hints


@dataclass(frozen=True, kw_only=True)
class OptionGroup:
    """Base of the classes whose fields are options.

    `panel` is the heading under which the help shows them; "" leaves them among the others.
    """

    panel: ClassVar[str] = ""

    def values(self) -> dict[str, Any]:
        """Name of every field to its value."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def given(self) -> dict[str, bool]:
        """Every option, by the name of its field, to whether it differs from its default."""
        return {
            f"--{one.name.replace('_', '-')}": getattr(self, one.name) != one.default for one in fields(self)
        }


def expand(function: Callable[..., None]) -> Callable[..., None]:
    """A command line's form of a function: every field of a group is a parameter of its own.

    Parameters
    ----------
    function
        Of a command, with annotations as `Annotated[type, Option(...)]` or groups of such.

    Returns
    -------
    Callable
        The function itself if it takes no group; else one that takes keywords only.
    """
    signature = inspect.signature(function, eval_str=True)
    groups: dict[str, type[OptionGroup]] = {
        name: parameter.annotation
        for name, parameter in signature.parameters.items()
        if isinstance(parameter.annotation, type) and issubclass(parameter.annotation, OptionGroup)
    }
    if not groups:
        return function
    parameters: list[Parameter] = []
    for name, parameter in signature.parameters.items():
        if name in groups:
            parameters += options_of(groups[name])
        else:
            parameters.append(parameter.replace(kind=Parameter.KEYWORD_ONLY))

    @wraps(function)
    def command(**values: Any) -> None:
        for name, group in groups.items():
            values[name] = group(**{one.name: values.pop(one.name) for one in fields(group)})
        function(**values)

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {one.name: one.annotation for one in parameters}
    return command


def options_of(group: type[OptionGroup]) -> list[Parameter]:
    """The fields of a group as parameters, in order."""
    hints = get_type_hints(group, include_extras=True)
    return [
        Parameter(
            one.name,
            Parameter.KEYWORD_ONLY,
            default=Parameter.empty if one.default is MISSING else one.default,
            annotation=_under(group.panel, hints[one.name]),
        )
        for one in fields(group)
    ]


def _under(panel: str, annotation: Any) -> Any:
    """The annotation of an option, shown in a panel of the help."""
    if not panel:
        return annotation
    option = copy(annotation.__metadata__[0])
    option.rich_help_panel = panel
    return Annotated[annotation.__origin__, option]
