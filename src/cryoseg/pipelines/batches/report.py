"""The table of a batch as CSV and JSON."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryoseg import __version__
from cryoseg.config.batch import Shard
from cryoseg.errors import ConfigError, InputError
from cryoseg.events import Report, Row, Status
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.names import distinct_names
from cryoseg.io.records import read_record, write_record

REPORT_SUFFIXES = (".csv", ".json")


def check_report_names(paths: Sequence[Path]) -> None:
    """Refuse names that say no format, before any work is done.

    Raises
    ------
    ConfigError
        For a suffix that is neither .csv nor .json.
    """
    for path in paths:
        if path.suffix.lower() not in REPORT_SUFFIXES:
            raise ConfigError(f"--report {path}: the name must end in {' or '.join(REPORT_SUFFIXES)}.")


def report_name(path: Path, shard: Shard | None) -> Path:
    """The name of a shard's report: `run_3-of-10.csv`."""
    if shard is None or shard.count == 1:
        return path
    return path.with_name(f"{path.stem}_{shard.index}-of-{shard.count}{path.suffix}")


def row_names(rows: Sequence[Row]) -> list[str]:
    """Names of rows, with as many folders in front as tell rows of one name apart."""
    paths = [row.path or Path("/", row.name) for row in rows]
    return distinct_names(paths, names=[row.name for row in rows])


def read_report(path: Path) -> Report:
    """Read a report in JSON.

    Raises
    ------
    InputError
        If it is none.
    """
    content = read_record(path)
    try:
        rows = [
            Row(
                name=Path(row["input"]).name,
                status=Status(row["status"]),
                seconds=row["seconds"],
                figures=row["figures"],
                outputs=tuple(map(Path, row["outputs"])),
                message=row["message"],
                path=Path(row["input"]),
            )
            for row in content["rows"]
        ]
        status = int(content["exit_status"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no report of a batch. Run the batch again.") from error
    return Report(rows=rows, interrupted_by=status - 128 if status > 128 else None)


def write_report(path: Path, report: Report, *, command: str, shard: Shard | None = None) -> Path:
    """Write every row; a report of an earlier run is replaced.

    Parameters
    ----------
    path
        Ends in .csv or .json.
    report
        Of the run.
    command
        What was run, for the JSON.
    shard
        Puts its number into the name, so that the shards of a run do not replace each other's report.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    path = report_name(path, shard)
    if path.suffix.lower() == ".json":
        content = {
            "cryoseg": __version__,
            "command": command,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "shard": None if shard is None else str(shard),
            "exit_status": report.exit_status,
            "counts": report.counts(),
            "rows": [_plain_row(row) for row in report.rows],
        }
        write_record(path, content, overwrite=True)
        return path
    figures = list(dict.fromkeys(name for row in report.rows for name in row.figures))
    with atomic_text(path, overwrite=True) as stream:
        table = csv.writer(stream)
        table.writerow(["input", "status", *figures, "seconds", "message", "outputs"])
        for row in report.rows:
            table.writerow(
                [
                    row.name if row.path is None else row.path,
                    row.status.value,
                    *(row.figures.get(name, "") for name in figures),
                    f"{row.seconds:.2f}",
                    row.message,
                    " ".join(output.name for output in row.outputs),
                ]
            )
    return path


def _plain_row(row: Row) -> dict[str, Any]:
    return {
        "input": row.name if row.path is None else str(row.path),
        "status": row.status.value,
        "seconds": round(row.seconds, 2),
        "figures": row.figures,
        "outputs": [str(path) for path in row.outputs],
        "message": row.message,
    }
