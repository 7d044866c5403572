"""Lists of runs in ETSAM's form: a CSV file with the columns dataset_id, run_id and more."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from cryoseg.errors import InputError

_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """One row.

    Attributes
    ----------
    dataset_id, run_id
        As in the file; folders below a collection have these names.
    annotation_ids
        Of the CryoET Data Portal; empty if the file names none.
    split
        Such as train or test; empty if the file has no such column.
    organism
        For people; may be empty.
    """

    dataset_id: str
    run_id: str
    annotation_ids: tuple[int, ...] = ()
    split: str = ""
    organism: str = ""

    @property
    def name(self) -> str:
        """`dataset/run`."""
        return f"{self.dataset_id}/{self.run_id}"


def read_testset(path: Path) -> list[ListedRun]:
    """Read a list of runs.

    Parameters
    ----------
    path
        CSV with the columns dataset_id and run_id, and perhaps annotation_ids (numbers separated
        by `|`, or none), split and organism_name. Other columns are left alone.

    Returns
    -------
    list of ListedRun
        In the order of the file.

    Raises
    ------
    InputError
        If the file cannot be read, lacks a column, holds no row, names a run twice, or a row is
        damaged.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
            header = rows[0].keys() if rows else ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as a CSV file ({error}).") from error
    if not rows:
        raise InputError(f"{path}: holds no run. Give a header and one row for each run.")
    if missing := {"dataset_id", "run_id"} - set(header):
        raise InputError(f"{path}: has no column {sorted(missing)[0]}; dataset_id and run_id are needed.")
    runs: list[ListedRun] = []
    for number, row in enumerate(rows, 2):
        cells = {name: (value or "").strip() for name, value in row.items() if isinstance(value, str)}
        for column in ("dataset_id", "run_id"):
            if not _PART.fullmatch(cells.get(column, "")):
                raise InputError(f"{path}: line {number} has {column} {cells.get(column, '')!r}; mend it.")
        words = [word for word in cells.get("annotation_ids", "").split("|") if word not in ("", "none")]
        if bad := [word for word in words if not word.isdigit()]:
            raise InputError(f"{path}: line {number} has annotation_ids {bad[0]!r}; give numbers or none.")
        run = ListedRun(
            dataset_id=cells["dataset_id"],
            run_id=cells["run_id"],
            annotation_ids=tuple(int(word) for word in words),
            split=cells.get("split", ""),
            organism=cells.get("organism_name", ""),
        )
        if run.name in {other.name for other in runs}:
            raise InputError(f"{path}: line {number} names {run.name} a second time. Keep one row.")
        runs.append(run)
    return runs
