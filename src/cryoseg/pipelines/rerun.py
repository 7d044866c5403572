"""`cryoseg rerun`: what a record says about a run, and what of it has changed since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cryoseg import __version__
from cryoseg.config import Precision
from cryoseg.errors import DeviceError, InputError
from cryoseg.io.images.volumes import is_volume
from cryoseg.io.records import read_record
from cryoseg.methods.device import describe, select_device, select_precision

# Names of the argument that takes the input, by the commands that have one.
_INPUT_ARGUMENTS = ("inputs", "pred")
# Where a record holds the metric that two runs are compared by, and its unit.
_METRICS = (
    (("fraction_marked",), "marked"),
    (("membrane_fraction",), "membrane"),
    (("picks",), "picks"),
    (("particles",), "particles"),
    (("metrics", "dice"), "Dice"),
)


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Where input and weights are now, if not where the record says.

    Attributes
    ----------
    input
        The input.
    model
        The model, by name or file.
    """

    input: Path | None = None
    model: str | None = None


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that can be repeated.

    Attributes
    ----------
    record, content
        The record of the first run.
    command
        Names of the command and of its groups.
    options
        Plain values of the options, as `--config` reads them.
    input
        The input; None for a simulation, which has none.
    notes
        Differences that need not change the result: versions and the device.
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

    Parameters
    ----------
    record
        The .json beside an output.
    device
        Where to compute.
    elsewhere
        Where input and weights are now.

    Raises
    ------
    CryosegError
        If the file is no record of one output, or its input or model file is missing.
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
        raise InputError(f"{record}: the model of this run is gone ({model}). Pass --model FILE.")
    notes = []
    chosen = select_device(device)
    for name, now in (
        ("cryoseg", __version__),
        ("torch", torch.__version__),
        ("device", describe(chosen)),
    ):
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
    """The input as given, where it was, or beside the record.

    Files of coordinates name a micrograph as it was given, so that a relative path that still leads to the
    same place stays relative.
    """
    if given is not None:
        if not is_volume(given):
            raise InputError(f"--input {given}: no such file.")
        return given
    about = content.get("input") or {}
    places = [Path(one) for one in (recorded if isinstance(recorded, list) else [recorded])]
    if (first := Path(about.get("given", ""))).absolute() in places:
        places = [first]
    if "name" in about:
        places.append(record.parent / about["name"])
    for place in places:
        if is_volume(place):
            return place
    looked = " or ".join(map(str, dict.fromkeys(places)))
    raise InputError(f"{record}: the input of this run is gone ({looked}). Pass --input FILE.")


def _why_not(content: Mapping[str, Any]) -> str | None:
    """Why a run is not repeated from this file, and what to do instead; None if it can be repeated."""
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
        return "lists what was fetched. Run `cryoseg data fetch` again; complete files are kept."
    version = content.get("cryoseg") or str(content.get("software", "")).removeprefix("cryoseg ")
    if not command or not version:
        return "is no record of a run. Give the .json beside an output of cryoseg."
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
