"""What earlier runs left in the output folder: finished outputs, pieces, and other people's files."""

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

_LABELS = slice(224, 1024)  # the ten label lines of an MRC header, in bytes
_MOST_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is known about one input before the work begins.

    Attributes
    ----------
    path
        The input; None for a simulation, which reads none.
    outputs
        Every file that the run writes, by kind. `record` is the last one and marks completion.
    identity
        What decides the result besides the input: settings and hashes of weights, under the keys that
        they have in the record.
    options
        Options of the command that limit it to this input, in place of those that were given; see
        `config.invocation.recorded_options`.
    """

    path: Path | None
    outputs: Mapping[str, Path]
    identity: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def record(self) -> Path:
        """The record of the outputs."""
        return self.outputs["record"]


def is_finished(job: Job) -> bool:
    """Whether the outputs of a job are complete, so that the input need not be done.

    Pieces that an interrupted run of cryoseg left without a record may be replaced. Files of other
    programs and outputs of a finished run with other settings may not.

    Raises
    ------
    OutputError
        If a file that must be kept would be replaced; the message names what differs.
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
    """Where a record disagrees with a job: the input, and as in `differences`."""
    other_input = [] if job.path is None else _other_input(job.path, record)
    return [*other_input, *differences(job.identity, record)]


def as_recorded(job: Job, on_event: OnEvent) -> Job:
    """Compare a job with the record of the run that it repeats, if it repeats one.

    Returns
    -------
    Job
        The job with the recorded names of its outputs, which depend on the other inputs of a batch.

    Raises
    ------
    InputError
        If input, weights or settings are not those of the record; the message names what differs.
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
    """What a record says otherwise, as `name (then, now ...)`.

    Parameters
    ----------
    identity
        As `Job.identity`; values as `write_record` takes them. Under `sha256`, names of files
        do not count.
    record
        As read. What it does not name, an older cryoseg did not know, and is passed over; only the
        command must be there.
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
    about = record.get("input")
    if not isinstance(about, Mapping) or "sha256" not in about:
        return ["input (its hash is not recorded)"]
    if is_same_input(path, about):
        return []
    return [f"input ({about.get('name', 'unnamed')} had other content)"]


def _made_by_cryoseg(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"cryoseg" in stream.read(_LABELS.stop)[_LABELS]


class Leftovers:
    """Half-written files of processes that were killed before the batch began."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, list[Path]] = {}
        with suppress(OSError):
            for path in folder.iterdir():
                # .cryoseg-0a1b2c3d-<name>, as `io.outputs.temporary_path` makes them
                words = path.name.removeprefix(TEMPORARY_PREFIX).split("-", 1)
                if path.name.startswith(TEMPORARY_PREFIX) and len(words) == 2 and len(words[0]) == 8:
                    self._files.setdefault(words[1], []).append(path)

    def remove(self, outputs: Iterable[Path]) -> None:
        """Delete those of `outputs`; the caller holds their lock, so that no process is writing them."""
        for output in outputs:
            for path in self._files.pop(shortened_name(output.name), []):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                    continue
                with suppress(OSError):
                    path.unlink()
