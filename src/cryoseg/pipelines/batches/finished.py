"""Jobs, their finished or partial outputs, and the record that marks outputs as finished."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.invocation import current_repetition, recorded_options
from cryoseg.errors import InputError, OutputError
from cryoseg.events import Event, OnEvent, StageProgress, Warn
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.io.outputs import TEMPORARY_PREFIX, remove, shortened_name
from cryoseg.io.records import is_same_input, plain, read_record, write_record

_LABELS = slice(224, 1024)  # bytes of the ten labels of an MRC header
_TIFF_HEAD = 1 << 20  # the metadata of the first page stand before the voxels
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work on one input: its outputs, and everything that decides their content.

    Attributes
    ----------
    path
        The input; None for a simulation, which has no input.
    outputs
        Output files by kind. The last one, `record`, marks completion.
    identity
        Settings and hashes of weights, under their keys in the record.
    options
        Options that limit the command to this input, as the `changes` of `recorded_options`.
    """

    path: Path | None
    outputs: Mapping[str, Path]
    identity: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """Record of the outputs."""
        return self.outputs["record"]


def named_outputs(base: Path, endings: Mapping[str, tuple[bool, str]]) -> dict[str, Path]:
    """Return the output files of one input by kind; the record is the last one.

    Parameters
    ----------
    base
        Folder and first part of the names.
    endings
        For each kind, whether it is written, and the end of its name. The end of the record is `.json` if it
        is not given.
    """
    wanted = {kind: ending for kind, (is_wanted, ending) in endings.items() if is_wanted}
    wanted.setdefault("record", ".json")
    return {kind: base.with_name(f"{base.name}{ending}") for kind, ending in wanted.items()}


def is_finished(job: Job) -> bool:
    """Whether the outputs of a job are complete.

    Outputs without a record, which an interrupted run of cryoseg has left, may be replaced. Files of
    other programs and outputs of a finished run with other settings may not.

    Raises
    ------
    OutputError
        If a file that must be kept would be replaced; the message names the differences.
    """
    existing = [path for path in job.outputs.values() if path.exists()]
    missing = [path for path in job.outputs.values() if not path.exists()]
    if job.record.exists():
        try:
            record = read_record(job.record)
        except InputError as error:
            raise OutputError(
                f"{job.record}: is damaged, or was not written by cryoseg. Pass --overwrite to replace it "
                "and the outputs beside it, or choose another --output-dir."
            ) from error
        if different := all_differences(job, record):
            more = f", and {len(different) - _MOST_NAMED} more" if len(different) > _MOST_NAMED else ""
            raise OutputError(
                f"{job.record}: is of a finished run with another {', '.join(different[:_MOST_NAMED])}{more}"
                ". Pass --overwrite to make its outputs again, or choose another --output-dir."
            )
        if missing and job.path is not None:
            raise OutputError(
                f"{job.record}: a finished run wrote its outputs but not {missing[0].name}. "
                "Pass --overwrite to make them all again, or choose another --output-dir."
            )
        return not missing
    for path in existing:
        if path.suffix in _LABELED and not _LABELED[path.suffix](path):
            raise OutputError(
                f"{path}: exists already and was not made by cryoseg. "
                "Pass --overwrite to replace it, or choose another --output-dir."
            )
    return False


def all_differences(job: Job, record: Mapping[str, Any]) -> list[str]:
    """Return the differences between a record and a job, including those of the input."""
    other_input = [] if job.path is None else _other_input(job.path, record)
    return [*other_input, *differences(job.identity, record)]


def as_recorded(job: Job, on_event: OnEvent) -> Job:
    """Compare a job with the record of the run that it repeats, if any.

    Returns
    -------
    Job
        The job with the recorded names of its outputs, which depend on the other inputs of a batch.

    Raises
    ------
    InputError
        If input, weights or settings differ from those of the record; the message names the differences.
    """
    repetition = current_repetition()
    if repetition is None:
        return job
    different = "; ".join(all_differences(job, repetition.content))
    if different and not repetition.anyway:
        raise InputError(
            f"{repetition.record}: cannot be repeated as it was, with another {different}. "
            "Pass --anyway to run with what is here."
        )
    if different:
        on_event(Warn(text=f"{repetition.record.name}: is repeated with another {different}."))
    names = {**repetition.content.get("outputs", {}), "record": repetition.record.name}
    outputs = {kind: path.with_name(names.get(kind, path.name)) for kind, path in job.outputs.items()}
    return replace(job, outputs=outputs)


def differences(identity: Mapping[str, Any], record: Mapping[str, Any]) -> list[str]:
    """Return the differences between settings and a record, as `name (recorded, now ...)`.

    Parameters
    ----------
    identity
        Settings as in `Job.identity`. Names of files under `sha256` are ignored.
    record
        Content of the record. Keys that it lacks are ignored, since older versions did not write them;
        only the command is required.
    """
    if "command" in identity and "command" not in record:
        return ["origin (it names no command)"]
    return list(_differences(plain(identity), record))


def _differences(identity: Mapping[str, Any], record: Mapping[str, Any], inside: str = "") -> Iterator[str]:
    for key, now in identity.items():
        if key not in record:
            continue
        then = record[key]
        if key == "sha256":
            if _digests(then) != _digests(now):
                yield "model (other weights)" if inside == "model" else f"{inside} (other content)"
        elif isinstance(now, Mapping) and isinstance(then, Mapping):
            yield from _differences(now, then, key)
        elif then != now:
            yield f"{key} ({_words(then)}, now {_words(now)})"


def _digests(value: Any) -> list[str]:
    return sorted(map(str, value.values())) if isinstance(value, Mapping) else [str(value)]


def _words(value: Any) -> str:
    text = "none" if value is None or value == [] else str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _other_input(path: Path, record: Mapping[str, Any]) -> list[str]:
    recorded = record.get("input")
    if not isinstance(recorded, Mapping) or "sha256" not in recorded:
        return ["input (its hash is not recorded)"]
    if is_same_input(path, recorded):
        return []
    return [f"input ({recorded.get('name', 'unnamed')} had other content)"]


def _is_own_mrc(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"cryoseg" in stream.read(_LABELS.stop)[_LABELS]


def _is_own_tiff(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"cryoseg" in stream.read(_TIFF_HEAD)


def _is_own_zarr(path: Path) -> bool:
    attributes = (path / name for name in (".zattrs", "zarr.json"))
    return any(b"cryoseg" in file.read_bytes() for file in attributes if file.is_file())


# Whether a volume without a record names this program.
_LABELED = {".mrc": _is_own_mrc, ".tif": _is_own_tiff, ".zarr": _is_own_zarr}


class Leftovers:
    """Temporary files of processes that were killed before the batch began."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, list[Path]] = {}
        with suppress(OSError):
            for path in folder.iterdir():
                # .cryoseg-0a1b2c3d-<name>, as `io.outputs.temporary_path` makes them
                words = path.name.removeprefix(TEMPORARY_PREFIX).split("-", 1)
                if path.name.startswith(TEMPORARY_PREFIX) and len(words) == 2 and len(words[0]) == 8:
                    self._files.setdefault(words[1], []).append(path)

    def remove(self, outputs: Iterable[Path]) -> None:
        """Delete the temporary files of some outputs; the caller holds the lock of the outputs."""
        for output in outputs:
            for path in self._files.pop(shortened_name(output.name), []):
                remove(path)


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of the work on one input.

    Attributes
    ----------
    record
        Content that is added to the record, as in `write_job_record`.
    columns
        Printed value of each column in the table of the run.
    message
        Remark in the table.
    name
        Name of the row; None uses the name of the input.
    """

    record: Mapping[str, Any] = field(default_factory=dict)
    columns: dict[str, str] = field(default_factory=dict)
    message: str = ""
    name: str | None = None


def write_job_record(job: Job, content: Mapping[str, Any]) -> None:
    """Write the record of a job.

    `content` holds results of the work, such as metrics and seconds. It replaces entries of the job with the
    same keys; two mappings are joined.
    """
    record = {
        "cryoseg": __version__,
        "python": platform.python_version(),
        "outputs": {kind: path.name for kind, path in job.outputs.items() if kind != "record"},
        **job.identity,
        **recorded_options(str(job.identity.get("command")), job.options),
    }
    if "model" in job.identity and "torch" in sys.modules:
        record["torch"] = sys.modules["torch"].__version__
    write_record(job.record, joined(record, content), overwrite=True)


def joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return the second content over the first; mappings under the same key are joined."""
    both = {
        key: {**first[key], **second[key]}
        for key in first.keys() & second.keys()
        if isinstance(first[key], Mapping) and isinstance(second[key], Mapping)
    }
    return {**first, **second, **both}


def why_no_picks(dropped: Mapping[str, int]) -> str:
    """Return the message for an input without picks, with the number of picks that each rule dropped."""
    rules = [f"--{rule} dropped {count}" for rule, count in dropped.items() if rule != "score-threshold"]
    return f"no particle left: {', '.join(rules)}" if rules else "no particle above the thresholds"


def own_file(model: str) -> Path | str:
    """Return the absolute path of a model file, or the unchanged name of a known model."""
    path = expand_home(model)
    return path.resolve() if is_file(path) else model


def peak_bytes() -> int:
    """Return the peak memory of this process in bytes, without that of a device."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024


class Stopwatch:
    """Pass events on and measure the time that each stage takes."""

    def __init__(self, on_event: OnEvent) -> None:
        self._on_event = on_event
        self._last = time.monotonic()
        self._spent: dict[str, float] = {}

    def __call__(self, event: Event) -> None:
        """Pass an event on; one of progress adds the time since the last one to its stage."""
        if isinstance(event, StageProgress):
            now = time.monotonic()
            self._spent[event.stage] = self._spent.get(event.stage, 0.0) + now - self._last
            self._last = now
        self._on_event(event)

    def seconds(self) -> dict[str, float]:
        """Return the seconds by stage; the first stage includes the time before it."""
        return {stage: round(spent, 2) for stage, spent in self._spent.items()}
