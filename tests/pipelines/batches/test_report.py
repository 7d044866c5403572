"""The rows of a batch as text."""

from __future__ import annotations

from pathlib import Path

from cryoseg.events import Row, Status
from cryoseg.pipelines.batches.report import row_names


def test_rows_of_one_name_show_their_folders() -> None:
    rows = [
        Row(name="TS_01.mrc", status=Status.DONE, path=Path("grid1/TS_01.mrc")),
        Row(name="TS_01.mrc", status=Status.FAILED, path=Path("grid2/TS_01.mrc")),
        Row(name="TS_02.mrc", status=Status.DONE, path=Path("grid2/TS_02.mrc")),
        Row(name="mean", status=Status.DONE),
        Row(name="mean", status=Status.DONE),
    ]
    assert row_names(rows) == ["grid1/TS_01.mrc", "grid2/TS_01.mrc", "TS_02.mrc", "mean", "mean"]
