"""The table of a batch as CSV and JSON, and its contact sheet."""

from __future__ import annotations

import csv
import os
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import UnidentifiedImageError

from cryoseg import __version__
from cryoseg.config.batch import ALL, Shard
from cryoseg.config.invocation import command_line
from cryoseg.errors import InputError
from cryoseg.events import Report, Row, Status
from cryoseg.io.outputs import atomic_text
from cryoseg.io.picks.names import distinct_names
from cryoseg.io.records import read_record, write_record
from cryoseg.view.contact_sheet import Tile, draw_contact_sheet
from cryoseg.view.sections import write_png

REPORT_SUFFIXES = (".csv", ".json")


def report_name(path: Path, shard: Shard | None) -> Path:
    """Return the name of the report of a shard, such as `run_3-of-10.csv`."""
    if shard is None or shard.count == 1:
        return path
    return path.with_name(f"{path.stem}_{shard.index}-of-{shard.count}{path.suffix}")


def row_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of rows, with parent folders where rows have the same name."""
    paths = [row.path or Path("/", row.name) for row in rows]
    return distinct_names(paths, names=[row.name for row in rows])


def read_report(path: Path) -> Report:
    """Read a report in JSON.

    Raises
    ------
    InputError
        If the file is not a report of a batch.
    """
    content = read_record(path)
    try:
        rows = [
            Row(
                name=Path(row["input"]).name,
                status=Status(row["status"]),
                seconds=row["seconds"],
                columns=row["columns"],
                outputs=tuple(map(Path, row["outputs"])),
                message=row["message"],
                path=Path(row["input"]),
            )
            for row in content["rows"]
        ]
        status = int(content["exit_status"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not a report of a batch. Run the batch again.") from error
    return Report(rows=rows, interrupted_by=status - 128 if status > 128 else None)


def write_report(path: Path, report: Report, *, shard: Shard | None = None) -> Path:
    """Write every row of a report to a .csv or .json file, and return the name of the file.

    The file of an earlier run is replaced. The number of the shard is added to the name, so that shards do
    not replace each other's report.
    """
    path = report_name(path, shard)
    if path.suffix.lower() == ".json":
        content = {
            "cryoseg": __version__,
            "command": command_line(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "shard": None if shard is None else str(shard),
            "exit_status": report.exit_status,
            "counts": report.counts(),
            "rows": [_plain_row(row) for row in report.rows],
        }
        write_record(path, content, overwrite=True)
        return path
    columns = list(dict.fromkeys(name for row in report.rows for name in row.columns))
    with atomic_text(path, overwrite=True) as stream:
        table = csv.writer(stream)
        table.writerow(["input", "status", *columns, "seconds", "message", "outputs"])
        for row in report.rows:
            table.writerow(
                [
                    row.name if row.path is None else row.path,
                    row.status.value,
                    *(row.columns.get(name, "") for name in columns),
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
        "columns": row.columns,
        "outputs": [str(path) for path in row.outputs],
        "message": row.message,
    }


PREVIEW_ENDINGS = ("_preview.png", "_overlay.png")


def sheet_path(folder: Path, shard: Shard | None = None) -> Path:
    """Return the file of the contact sheet; the tasks of an array have different names."""
    shard = shard or ALL
    part = "" if shard.count == 1 else f"_{shard.index}_of_{shard.count}"
    return folder / f"contact_sheet{part}.png"


def write_contact_sheet(path: Path, report: Report) -> Path | None:
    """Write the contact sheet of a run with previews; return None if there are no tiles.

    Finished, skipped and failed inputs have a tile. An existing PNG file is replaced.

    Raises
    ------
    InputError
        If a preview cannot be read.
    """
    rows = [row for row in report.rows if row.status in (Status.DONE, Status.SKIPPED, Status.FAILED)]
    tiles = [_tile(row, name) for row, name in zip(rows, row_names(rows), strict=True)]
    if not tiles:
        return None
    try:
        sheet = draw_contact_sheet(tiles)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise InputError(
            f"{path}: cannot be drawn, since a preview is damaged ({error}). Remove it and run again."
        ) from error
    write_png(path, sheet, overwrite=True)
    return path


def _tile(row: Row, name: str) -> Tile:
    if row.status is Status.FAILED:
        return Tile(name=name, note=row.message, is_failed=True)
    previews = [file for file in row.outputs if file.name.endswith(PREVIEW_ENDINGS) and file.is_file()]
    columns = ", ".join(f"{key} {value}" for key, value in row.columns.items() if key != "peak memory")
    return Tile(name=name, note=columns or row.status, preview=previews[0] if previews else None)
