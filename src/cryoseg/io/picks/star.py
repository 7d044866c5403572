"""Read and write the tables of STAR files, whose cells are text until they are converted to numbers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cryoseg import __version__
from cryoseg.errors import InputError, OutputError, reading
from cryoseg.io.outputs import atomic_text

if TYPE_CHECKING:
    import pandas as pd

Tables: TypeAlias = "list[tuple[str, pd.DataFrame]]"
Columns: TypeAlias = "Mapping[str, Iterable[object]] | pd.DataFrame"
# A value in quotes ends at a quote before white space; "#" begins a comment at the start of a word only.
# The package starfile is not used: it turns the names 007 and 1e5 into numbers and cuts mic#1.mrc.
_WORD = re.compile(
    r"""'(?P<single>(?:[^']|'(?=\S))*)'(?=\s|$)|"(?P<double>(?:[^"]|"(?=\S))*)"(?=\s|$)"""
    r"""|(?P<comment>\#.*)|(?P<plain>\S+)""",
    re.ASCII,
)
_BEGINS_OTHERWISE = re.compile(r"data_|loop_|[_#'$]", re.I)


def read_tables(path: Path, *, what: str = "STAR") -> Tables:
    """Read all tables of a STAR file as text, in order and each with the name of its block.

    Single values of a block are a table of one row. Several blocks may have one name.

    Parameters
    ----------
    path
        STAR file.
    what
        Kind of the file for messages.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    with reading(path):
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    try:
        tables = list(
            _tables([(number, words) for number, line in enumerate(lines, 1) if (words := _words(line))])
        )
    except ValueError as error:
        raise InputError(f"{path}: cannot be read as {what} ({error}). Write the file again.") from error
    for name, table in tables:
        if not table.columns.is_unique:
            raise InputError(f"{path}: the table {name} has a column twice. Write the file again.")
    return tables


def _words(line: str) -> list[str]:
    if line.isascii() and not set(line) & set("#\"'"):
        return line.split()
    words = []
    for match in _WORD.finditer(line):
        if match["comment"] is None:
            words.append(next(part for part in match.group("single", "double", "plain") if part is not None))
    return words


def _tables(lines: Sequence[tuple[int, list[str]]]) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the tables of numbered lines, which are split into words."""
    import pandas as pd  # The import takes half a second.

    name: str | None = None
    values: dict[str, str] = {}
    at = 0
    while at < len(lines):
        number, words = lines[at]
        at += 1
        if _begins_block(words):
            if name is not None and values:
                yield name, pd.DataFrame([values])
            name, values = words[0][5:], {}
        elif name is None:
            continue
        elif words[0].lower() == "loop_":
            columns, rows = [], []
            while at < len(lines) and len(lines[at][1]) == 1 and lines[at][1][0].startswith("_"):
                columns.append(lines[at][1][0][1:])
                at += 1
            while at < len(lines) and not _ends_loop(lines[at][1], len(columns)):
                number, words = lines[at]
                if len(words) != len(columns):
                    hint = "; a value with blanks needs quotes" if len(words) > len(columns) else ""
                    raise ValueError(
                        f"line {number} has {len(words)} values for {len(columns)} columns{hint}"
                    )
                rows.append(words)
                at += 1
            yield name, pd.DataFrame(rows, columns=columns, dtype=object)
        elif words[0].startswith("_") and len(words) == 2:
            values[words[0][1:]] = words[1]
        else:
            raise ValueError(f"line {number} is {' '.join(words)[:60]!r}, which belongs to no table")
    if name is not None and values:
        yield name, pd.DataFrame([values])


def _begins_block(words: Sequence[str]) -> bool:
    return len(words) == 1 and words[0].lower().startswith("data_")


def _ends_loop(words: Sequence[str], columns: int) -> bool:
    # The row of a micrograph called data_01.mrc has as many words as there are columns.
    return len(words) == 1 and (_begins_block(words) or (words[0].lower() == "loop_" and columns != 1))


def write_table(path: Path, name: str, table: Columns) -> None:
    """Write one table as a loop.

    Raises
    ------
    OutputError
        If a text cannot be written so that it is read again, or the file cannot be written.
    """
    write_blocks(path, loop_block(name, table, path))


def write_blocks(path: Path, *blocks: str) -> None:
    """Write the texts of data blocks after a line with the program and its version."""
    with atomic_text(path, overwrite=True) as stream:
        stream.write("".join([f"# Created by cryoseg {__version__}\n\n\n", *blocks]))


def loop_block(name: str, table: Columns, path: Path) -> str:
    """Return the text of a data block with one loop; numbers that are not whole get six decimals.

    Names are in quotes where they would read as something else; `path` is for messages.

    Raises
    ------
    OutputError
        If a text cannot be written so that it is read again.
    """
    cells = [[_written(cell, path) for cell in values] for _, values in table.items()]
    labels = (f"_{column} #{number}" for number, column in enumerate(table, 1))
    rows = map("\t".join, zip(*cells, strict=True))
    return "\n".join([f"data_{name}", "", "loop_", *labels, *rows, "", "", ""])


def _written(cell: object, path: Path) -> str:
    if isinstance(cell, float | np.floating):
        return "<NA>" if np.isnan(cell) else f"{cell:.6f}"
    if not isinstance(cell, str):
        return str(cell)
    if " " not in cell and _words(cell) == [cell] and not _BEGINS_OTHERWISE.match(cell):
        return cell
    if _words(f'"{cell}"') == [cell] and not re.search(r"[^\S ]", cell, re.ASCII):
        return f'"{cell}"'
    raise OutputError(f"{path}: STAR cannot hold the name {cell!r}. Rename the image.")


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> NDArray[np.float64]:
    """Return columns of a table as (n, columns) numbers.

    Raises
    ------
    InputError
        If a cell is not a finite number.
    """
    values = _as_float(table, columns)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"{path}: {columns[column]} is {str(table[columns[column]].iloc[row])[:40]!r} in row {row + 1} "
            "of its table, no finite number. Correct it."
        )
    return values


def optional_numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64] | None:
    """Return (n,) numbers of a column, NaN for cells that are not numbers; None if the column is missing."""
    return _as_float(table, [column])[:, 0] if column in table.columns else None


def _as_float(table: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    import pandas as pd

    numeric = [pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64) for column in columns]
    return np.stack(numeric, axis=1)
