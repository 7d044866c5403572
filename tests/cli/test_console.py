from __future__ import annotations

from pathlib import Path

from cryoseg.cli.console import distinct_names
from cryoseg.events import Row, Status


def row(path: str | None, name: str = "") -> Row:
    return Row(
        name=name or Path(path or "").name, status=Status.DONE, path=None if path is None else Path(path)
    )


def test_rows_of_equal_names_show_as_much_of_the_path_as_tells_them_apart():
    rows = [row("g1/TS_01.mrc"), row("g2/TS_01.mrc"), row("g2/TS_02.mrc"), row("/a/x/g1/TS_01.mrc")]
    here = Path.cwd().name
    assert distinct_names(rows) == [
        f"{here}/g1/TS_01.mrc",
        "g2/TS_01.mrc",
        "TS_02.mrc",
        "x/g1/TS_01.mrc",
    ]


def test_rows_of_one_file_or_of_none_end_the_search():
    assert distinct_names([row("g/a.mrc"), row("g/a.mrc")])[0].endswith("g/a.mrc")
    assert distinct_names([row(None, "a"), row(None, "a")]) == ["a", "a"]
    assert distinct_names([]) == []
