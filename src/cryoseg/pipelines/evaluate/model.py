"""Outputs of a model that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.events import Report, Row, Status
from cryoseg.io.inputs import InputItem, resolve_inputs
from cryoseg.pipelines.batches.interrupts import Interrupted


def rows_to_score(report: Report) -> list[Row]:
    """Return the rows of images that a model has processed; a failed one has no outputs.

    Raises
    ------
    InputError
        If every image failed; the message is that of the first one.
    """
    if report.interrupted_by is not None:
        raise Interrupted(report.interrupted_by)
    if all(row.status is Status.FAILED for row in report.rows):
        raise InputError(next((row.message for row in report.rows), "there was nothing to do."))
    return report.rows


def predictions(row: Row) -> list[Path]:
    """Return the masks and logits of one segmented tomogram."""
    return [path for path in row.outputs if path.suffix == ".mrc"]


def listed_predictions(rows: Sequence[Row], tomograms: str) -> list[InputItem]:
    """Return the masks and logits of segmented tomograms, with what a STAR file says about the tomogram."""
    listed = {item.path: item.listed for item in resolve_inputs([tomograms])}
    return [
        InputItem(path=path, listed=None if row.path is None else listed.get(row.path))
        for row in rows
        for path in predictions(row)
    ]


def coordinates(row: Row) -> list[Path]:
    """Return the coordinate files of one image."""
    return [path for path in row.outputs if path.suffix in (".csv", ".star")]
