"""The record that marks the outputs of one input as finished."""

from __future__ import annotations

import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.invocation import recorded_options
from cryoseg.events import Event, OnEvent, StageProgress
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.io.records import write_record
from cryoseg.pipelines.batches.finished import Job


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

    Parameters
    ----------
    job
        The job; `outputs["record"]` is the file.
    content
        Results of the work, such as metrics and seconds. They replace entries of the job with the same
        keys; two mappings are joined.

    Raises
    ------
    OutputError
        If the file cannot be written.
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
