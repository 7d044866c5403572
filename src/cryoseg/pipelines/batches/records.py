"""The record of one finished output: what every command's record tells, in one place."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.invocation import recorded_options
from cryoseg.io.paths import expand_home, is_file
from cryoseg.io.provenance import write_provenance
from cryoseg.pipelines.batches.finished import Job


def write_record(job: Job, content: Mapping[str, Any]) -> None:
    """Write the record that marks a job's outputs as finished, in place of an older one.

    Parameters
    ----------
    job
        What was done.
    content
        What came of it: `input`, figures, seconds; in place of what the job itself tells under the same
        keys.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    record = {
        "cryoseg": __version__,
        "python": platform.python_version(),
        "outputs": {kind: path.name for kind, path in job.outputs.items() if kind != "record"},
        **job.identity,
        **recorded_options(str(job.identity.get("command")), job.options),
    }
    if "torch" in sys.modules:  # not every command computes with it
        record["torch"] = sys.modules["torch"].__version__
    write_provenance(job.record, {**record, **content}, overwrite=True)


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
