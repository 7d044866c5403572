"""Write a picture with a tile for every input of a batch."""

from __future__ import annotations

from pathlib import Path

from PIL import UnidentifiedImageError

from cryoseg.config.batch import ALL, Shard
from cryoseg.errors import InputError
from cryoseg.events import Report, Row, Status
from cryoseg.pipelines.batches.report import row_names
from cryoseg.view.contact_sheet import Tile, draw_contact_sheet
from cryoseg.view.sections import write_png

PREVIEW_ENDINGS = ("_preview.png", "_overlay.png")


def sheet_path(folder: Path, shard: Shard | None = None) -> Path:
    """Return the file of the contact sheet; the tasks of an array have different names."""
    shard = shard or ALL
    part = "" if shard.count == 1 else f"_{shard.index}_of_{shard.count}"
    return folder / f"contact_sheet{part}.png"


def write_contact_sheet(path: Path, report: Report) -> Path | None:
    """Write the contact sheet of a run with previews; an existing one is replaced.

    Parameters
    ----------
    path
        PNG file.
    report
        Report of the run; finished, skipped and failed inputs have a tile.

    Returns
    -------
    Path or None
        `path`; None if there are no tiles.

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
