"""Repeat the run of a record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cryoseg import __version__
from cryoseg.config import Precision
from cryoseg.errors import DeviceError, InputError
from cryoseg.io.inputs import is_input
from cryoseg.io.records import read_record
from cryoseg.methods.device import describe, select_device, select_precision

# Names of the argument for the input, in the commands that have one.
_INPUT_ARGUMENTS = ("inputs", "pred")
# Keys of the metric by which two runs are compared, and its unit.
_METRICS = (
    (("fraction_marked",), "marked"),
    (("membrane_fraction",), "membrane"),
    (("picks",), "picks"),
    (("particles",), "particles"),
    (("metrics", "dice"), "Dice"),
)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Input and model, if they are not where the record says.

    Attributes
    ----------
    input
        File of the input.
    model
        Name or file of the model.
    """

    input: Path | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that can be repeated.

    Attributes
    ----------
    record, content
        File name and content of the record.
    command
        Names of the command and of its groups.
    options
        Plain values of the options, as `--config` reads them.
    input
        Input of the run; None for a simulation.
    notes
        Differences in versions and device, which may change the result.
    """

    record: Path
    content: Mapping[str, Any]
    command: str
    options: dict[str, Any]
    input: Path | None
    notes: tuple[str, ...]

    def compare(self, second: Path) -> str:
        """Compare the main metric of the record with that of another one, in one sentence."""
        again = read_record(second)
        for keys, unit in _METRICS:
            before, now = _number(self.content, keys), _number(again, keys)
            if before is not None and now is not None:
                same = ", as before" if before == now else f"; the record had {_show(before, unit)}"
                return f"{second.name}: {_show(now, unit)}{same}."
        return f"{second.name}: has no metric to compare."


def plan_rerun(record: Path, *, device: str = "auto", elsewhere: Elsewhere = Elsewhere()) -> Rerun:
    """Read a record and find the input and the options of its run.

    Raises
    ------
    CryosegError
        If the file is not the record of one output, or the input or model file is missing.
    """
    content = read_record(record)
    if (reason := _why_not(content)) is not None:
        raise InputError(f"{record}: {reason}")
    options = dict(content["options"])
    source: Path | None = None
    if argument := next((name for name in _INPUT_ARGUMENTS if name in options), None):
        source = _find_input(record, content, options[argument], elsewhere.input)
        options[argument] = [str(source)] if isinstance(options[argument], list) else str(source)
    if elsewhere.model is not None:
        options["model"] = elsewhere.model
    elif (model := Path(options.get("model", ""))).is_absolute() and not model.is_file():
        raise InputError(f"{record}: the model of this run was not found ({model}). Pass --model FILE.")
    notes = []
    chosen = select_device(device)
    for name, now in (("cryoseg", __version__), ("torch", torch.__version__), ("device", describe(chosen))):
        before = content.get(name)
        if before is not None and before != now:
            notes.append(f"{name}: {now}; the record has {before}")
    if "precision" in options:
        try:
            select_precision(Precision(options["precision"]), chosen)
        except DeviceError:
            notes.append(f"precision: not {options.pop('precision')}, which this device does not offer")
    return Rerun(
        record=record,
        content=content,
        command=content["command"],
        options=options,
        input=source,
        notes=tuple(notes),
    )


def _find_input(record: Path, content: Mapping[str, Any], recorded: Any, given: Path | None) -> Path:
    """Find the input: the given file, its recorded path, or a file of its name beside the record.

    Coordinate files hold the path of a micrograph as it was given, so a relative path stays relative if it
    still leads to the same file.
    """
    if given is not None:
        if not is_input(given):
            raise InputError(f"--input {given}: no such file.")
        return given
    entry = content.get("input") or {}
    places = [Path(one) for one in (recorded if isinstance(recorded, list) else [recorded])]
    if (first := Path(entry.get("given", ""))).absolute() in places:
        places = [first]
    if "name" in entry:
        places.append(record.parent / entry["name"])
    for place in places:
        if is_input(place):
            return place
    searched = " or ".join(map(str, dict.fromkeys(places)))
    raise InputError(f"{record}: the input of this run was not found ({searched}). Pass --input FILE.")


def _why_not(content: Mapping[str, Any]) -> str | None:
    """Return why a run cannot be repeated from this file, and an alternative; None if it can."""
    command = str(content.get("command") or "")
    if "rows" in content and command:
        return f"is the table of a batch. Run `cryoseg {command}` again; finished outputs are kept."
    if command.startswith("train") or {"config", "training"} <= set(content):
        return (
            "is the record of a training. Repeat it with `cryoseg train` and `--config` followed by the "
            "command.toml in its folder."
        )
    if command.startswith("evaluate") and "files" in content:
        return f"is the table of an evaluation. Run `cryoseg {command}` again, with --overwrite."
    if command and isinstance(content.get("options"), Mapping):
        return None
    if command.startswith("data") or ({"name", "files"} <= set(content) and not command):
        return "is the list of a download. Run `cryoseg data fetch` again; complete files are kept."
    version = content.get("cryoseg") or str(content.get("software", "")).removeprefix("cryoseg ")
    if not command or not version:
        return "is not a record of a run. Give the .json file beside an output of cryoseg."
    return (
        f"holds no options of `cryoseg {command}`, since a Python program called the functions of "
        f"cryoseg {version}, or that version does not keep them. Run the program again, or "
        f"`cryoseg rerun` of version {version}."
    )


def _number(record: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _show(value: float, unit: str) -> str:
    if unit == "Dice":
        return f"Dice {value:.4f}"
    return f"{100 * value:.4g} % {unit}" if isinstance(value, float) else f"{value} {unit}"
