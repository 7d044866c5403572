"""Finished outputs, partial outputs and files of other programs in an output folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryoseg.config.invocation import current_repetition
from cryoseg.errors import InputError, OutputError
from cryoseg.events import OnEvent, Warn
from cryoseg.io.outputs import TEMPORARY_PREFIX, shortened_name
from cryoseg.io.records import is_same_input, plain, read_record

_LABELS = slice(224, 1024)  # bytes of the ten labels of an MRC header
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
        record = read_record(job.record)
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
        if path.suffix == ".mrc" and not _made_by_cryoseg(path):
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


def _made_by_cryoseg(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"cryoseg" in stream.read(_LABELS.stop)[_LABELS]


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
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                    continue
                with suppress(OSError):
                    path.unlink()
