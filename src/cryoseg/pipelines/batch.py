"""A batch: every input becomes a row, and a broken one stops nothing."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cryoseg.errors import CryosegError
from cryoseg.io.inputs import InputItem
from cryoseg.pipelines.events import Note, OnEvent, Report, Row, Status


def run_batch(items: Sequence[InputItem], work: Callable[[Path], Row], *, on_event: OnEvent) -> Report:
    """Call `work` on every input that exists and collect the rows.

    Parameters
    ----------
    items
        From `io.inputs.resolve_inputs`; an item with an error is a failed row at once.
    work
        Does one input and returns its row; seconds are filled in here.
    on_event
        Told every row as soon as it is known.

    Returns
    -------
    Report
        One row per item, in order.
    """
    rows: list[Row] = []
    for item in items:
        begun = time.monotonic()
        row = _failed(item.path, item.error) if item.error else _one(item.path, work, on_event)
        rows.append(replace(row, seconds=time.monotonic() - begun))
        on_event(rows[-1])
    return Report(rows=rows)


def _one(path: Path, work: Callable[[Path], Row], on_event: OnEvent) -> Row:
    try:
        return work(path)
    except CryosegError as error:
        return _failed(path, str(error))
    except MemoryError:
        return _failed(path, f"{path}: not enough memory for this volume; bin it, or use a larger machine.")
    except Exception as error:  # a defect of ours must not end the batch either
        on_event(Note(text=traceback.format_exc(), detail=True))
        return _failed(
            path,
            f"{path}: unexpected {type(error).__name__}: {error}. This is a defect of cryoseg; "
            "run again with --verbose and report what it prints.",
        )


def _failed(path: Path, message: str) -> Row:
    return Row(name=path.name, status=Status.FAILED, message=message)
