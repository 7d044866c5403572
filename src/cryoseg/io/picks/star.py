"""Read the tables of a STAR file, and columns of numbers out of them."""

from __future__ import annotations

import linecache
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import starfile
from numpy.typing import NDArray

from cryoseg.errors import InputError


def read_tables(path: Path, *, what: str = "STAR") -> dict[str, pd.DataFrame]:
    """All blocks of a STAR file by name, each as a table; a block of single values has one row.

    Parameters
    ----------
    path
        The file.
    what
        What the file should be, for the message.

    Raises
    ------
    InputError
        If it cannot be read.
    """
    # starfile reads by way of this cache, in which a file that broke it earlier would stay.
    linecache.clearcache()
    try:
        path.read_text(encoding="utf-8")
        blocks = starfile.read(path, always_dict=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # starfile raises whatever pandas, shlex and its own unpacking run into
        text = " ".join(str(error).split())
        raise InputError(f"{path}: cannot be read as {what} ({text}). Write the file again.") from error
    tables = {
        str(name): block if isinstance(block, pd.DataFrame) else pd.DataFrame([block])
        for name, block in blocks.items()
        if block is not None
    }
    for name, table in tables.items():
        if not table.columns.is_unique:
            raise InputError(f"{path}: the table {name} has a column twice. Write the file again.")
    return tables


def numbers(table: pd.DataFrame, columns: Sequence[str], path: Path) -> NDArray[np.float64]:
    """(n, columns) of a table.

    Raises
    ------
    InputError
        If a cell is no finite number.
    """
    values = _as_float(table, columns)
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise InputError(
            f"{path}: {columns[column]} is {str(table[columns[column]].iloc[row])[:40]!r} in row {row + 1} "
            "of its table, no finite number. Mend it."
        )
    return values


def optional_numbers(table: pd.DataFrame, column: str) -> NDArray[np.float64] | None:
    """(n,) of a column, NaN where a cell is no number; None where there is no such column."""
    return _as_float(table, [column])[:, 0] if column in table.columns else None


def _as_float(table: pd.DataFrame, columns: Sequence[str]) -> NDArray[np.float64]:
    numeric = [pd.to_numeric(table[column], errors="coerce").to_numpy(np.float64) for column in columns]
    return np.stack(numeric, axis=1)
