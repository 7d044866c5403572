"""`cryoseg rerun`: a run again, from the record that it left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.errors import CryosegError, InputError
from cryoseg.events import OnEvent, Report
from cryoseg.io.provenance import read_provenance
from cryoseg.methods.device import describe, select_device
from cryoseg.pipelines.reruns import arithmetic, networks
from cryoseg.pipelines.reruns.findings import Elsewhere, Findings, Run

__all__ = ["Elsewhere", "Rerun", "plan_rerun", "require_same"]

# The command of a record to what makes its run: of one input, and of settings alone.
FROM_INPUT: dict[str, Callable[[Findings, Path], Run]] = {
    "segment": networks.segment,
    "pick": networks.pick,
    "segment-image": networks.segment_image,
    "postprocess": arithmetic.postprocess,
    "evaluate segmentation": arithmetic.evaluate,
}
FROM_SETTINGS: dict[str, Callable[[Findings], Run]] = {
    "simulate tomograms": arithmetic.simulate_tomogram,
    "simulate micrographs": arithmetic.simulate_micrograph,
    "simulate phantoms": arithmetic.simulate_phantom,
}
# Figures that two records of a run are held against each other by: where they stand, and their unit.
_FIGURES = (
    (("fraction_marked",), "marked"),
    (("membrane_fraction",), "membrane"),
    (("picks",), "picks"),
    (("particles",), "particles"),
    (("figures", "dice"), "Dice"),
)


@dataclass(frozen=True, kw_only=True)
class Rerun:
    """A run that is ready to be repeated.

    Attributes
    ----------
    record
        The file that tells of the first run.
    input
        Where its input lies; None of a simulation, which has none.
    folder
        Where its outputs lie.
    differences
        What is not as it was: input, weights, settings. A run with any is no repetition.
    notes
        What is different and need not change the result: versions, the device.
    """

    record: Path
    input: Path | None
    folder: Path
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    _run: Run
    _first: Mapping[str, Any]

    def __call__(self, output_dir: Path, *, overwrite: bool = False, on_event: OnEvent) -> Report:
        """Do it.

        Parameters
        ----------
        output_dir
            Made if missing.
        overwrite
            Replace finished outputs.
        on_event
            Told everything.
        """
        return self._run(output_dir, overwrite, on_event)

    def compare(self, second: Path) -> str:
        """One sentence that holds the figures of two records against each other."""
        again = read_provenance(second)
        for keys, unit in _FIGURES:
            before, now = _value(self._first, keys), _value(again, keys)
            if before is not None and now is not None:
                same = "as before" if before == now else f"the record had {_figure(before, unit)}"
                return f"{second.name}: {_figure(now, unit)}{',' if before == now else ';'} {same}."
        return f"{second.name}: has no figure to compare."


def plan_rerun(record: Path, *, device: str = "auto", elsewhere: Elsewhere = Elsewhere()) -> Rerun:
    """Read a record and find what its run needs; nothing is computed yet.

    Parameters
    ----------
    record
        The .json beside an output.
    device
        Where to compute.
    elsewhere
        Where input and weights lie now.

    Raises
    ------
    CryosegError
        If the file is no such record, or of a run that is not repeated from it, or input or weights are
        missing.
    """
    found = Findings(path=record, record=read_provenance(record), device=device, elsewhere=elsewhere)
    command = found.part("command")
    source: Path | None = None
    if command in FROM_INPUT and "input" in found.record:
        source = found.input()
        run = FROM_INPUT[command](found, source)
    elif command in FROM_SETTINGS and "config" in found.record:
        run = FROM_SETTINGS[command](found)
    else:
        raise InputError(f"{record}: {_why_not(found)}")
    notes = [("cryoseg", __version__), ("device", describe(select_device(device)))]
    for what, now in notes:
        before = found.part(what)
        if before is not None and before != now:
            found.notes.append(f"{what}: {now}; the record has {before}")
    return Rerun(
        record=record,
        input=source,
        folder=record.parent,
        differences=tuple(found.differences),
        notes=tuple(found.notes),
        _run=run,
        _first=found.record,
    )


def _why_not(found: Findings) -> str:
    """Why a run is not repeated from this file, and what to do instead."""
    command = str(found.part("command") or "")
    if "rows" in found.record and command:
        return f"is the table of a batch. Run `cryoseg {command}` again; finished outputs are kept."
    if command.startswith("train") or {"config", "training"} <= set(found.record):
        return (
            "is of a training, which goes on from its folder. Run the same `cryoseg train` command again, "
            "with another folder to begin anew."
        )
    if command.startswith("evaluate"):
        return f"is the table of an evaluation. Run `cryoseg {command}` again, with --overwrite."
    if command.startswith("data") or ({"name", "files"} <= set(found.record) and not command):
        return "tells what was fetched. Run `cryoseg data fetch` again; complete files are kept."
    made = f"was written by `cryoseg {command}`" if command else "is no record of a run"
    return f"{made}; rerun repeats {', '.join([*FROM_INPUT, *FROM_SETTINGS])}. Give one of theirs."


def require_same(rerun: Rerun) -> None:
    """Refuse a run that would not be a repetition.

    Raises
    ------
    CryosegError
        If anything differs; everything that does is named.
    """
    if rerun.differences:
        raise CryosegError(
            f"{rerun.record}: cannot be repeated as it was. {'; '.join(rerun.differences)}. "
            "Pass --anyway to run with what is here."
        )


def _value(record: Mapping[str, Any], keys: tuple[str, ...]) -> float | None:
    value: Any = record
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _figure(value: float, unit: str) -> str:
    if unit == "Dice":
        return f"Dice {value:.4f}"
    return f"{100 * value:.4g} % {unit}" if isinstance(value, float) else f"{value} {unit}"
