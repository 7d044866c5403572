"""The record that marks the outputs of one input as finished."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.invocation import recorded_options
from cryoseg.io.inputs import expand_home, is_file
from cryoseg.io.records import write_record
from cryoseg.pipelines.batches.finished import Job


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of the work on one input.

    Attributes
    ----------
    record
        Content of the record besides what the job knows, joined as in `write_job_record`.
    columns
        Column name to printed value in the table of the run.
    message
        A remark for the table.
    name
        Name of the row; None takes the name of the input.
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
        The job; its entry `record` in `outputs` is the file.
    content
        What the work adds: `input`, metrics, seconds. It replaces entries of the job with the same keys;
        where both are mappings, they are joined.

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
    """Both contents of a record; mappings under the same key are joined, other values are the second's."""
    both = {
        key: {**first[key], **second[key]}
        for key in first.keys() & second.keys()
        if isinstance(first[key], Mapping) and isinstance(second[key], Mapping)
    }
    return {**first, **second, **both}


def why_no_picks(dropped: Mapping[str, int]) -> str:
    """For the row of an input without picks, where each rule dropped so many of them."""
    rules = [f"--{rule} dropped {count}" for rule, count in dropped.items() if rule != "score-threshold"]
    return f"no particle left: {', '.join(rules)}" if rules else "no particle above the thresholds"


def own_file(model: str) -> Path | str:
    """The whole path of a model that was given as a file; else its name."""
    path = expand_home(model)
    return path.resolve() if is_file(path) else model


def peak_bytes() -> int:
    """Largest memory that this process has held so far, without that of a device."""
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if sys.platform == "darwin" else kilobytes * 1024
