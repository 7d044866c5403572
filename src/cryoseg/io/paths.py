"""Paths as users type them."""

from __future__ import annotations

import os
from pathlib import Path

from cryoseg.errors import InputError


def expand_home(text: str | Path) -> Path:
    """Replace a leading `~` or `~user` by the home folder, as a shell does.

    Raises
    ------
    InputError
        If the user has no home folder. A file may be called `~name`, so that an unknown user is no error.
    """
    expanded = os.path.expanduser(text)  # noqa: PTH111, Path's own refuses ~unknown
    if str(expanded).startswith("~/") or str(expanded) == "~":
        raise InputError(f"{text}: HOME is not set, and no home folder is known. Write the path in full.")
    return Path(expanded)


def is_file(path: Path) -> bool:
    """Whether there is a file, as far as this account may see it."""
    return os.path.isfile(path)  # noqa: PTH113, Path's own raises PermissionError
