"""Locks on files that are to be made, so that several processes share a folder without doing work twice.

A lock is a hidden file beside the output, which the operating system locks for one process; file servers do
so for other hosts as well. The lock of a process that was killed is free at once. Locks save work
and protect nothing: outputs are written whole and renamed, so that two processes at one input would write the
same files twice.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from cryoseg.errors import OutputError
from cryoseg.io.outputs import hidden_path, make_folder

_HOLDER = "process "


def lock_path(output: Path) -> Path:
    """Return the path of the lock of an output."""
    return hidden_path(output, "lock")


@contextmanager
def lock(output: Path, *, on_wait: Callable[[], None] | None = None) -> Iterator[bool]:
    """Hold the lock of an output for the length of the block.

    Parameters
    ----------
    output
        The file to be made; it need not exist. Its folder is made if it is missing.
    on_wait
        Called once if another process holds the lock; the block then waits for its turn. Without it the
        block begins at once.

    Yields
    ------
    bool
        False if another process holds the lock; the work is to be left to it.

    Raises
    ------
    OutputError
        If no lock can be made in the folder.
    """
    path = lock_path(output)
    make_folder(path.parent)
    held = FileLock(path, mode=0o666)
    try:
        try:
            is_ours = _take(held, path, on_wait)
        except OSError as error:
            raise OutputError(
                f"{path.parent}: cannot be written ({error.strerror}). Choose another folder."
            ) from None
        yield is_ours
    finally:
        if held.is_locked:
            # Whoever waits for the removed file finds that it is gone and makes another.
            with suppress(OSError):
                path.unlink()
            held.release()


def _take(held: FileLock, path: Path, on_wait: Callable[[], None] | None) -> bool:
    try:
        held.acquire(timeout=0)
    except (Timeout, PermissionError) as error:
        if isinstance(error, PermissionError) and not path.exists():
            raise
        if on_wait is None:
            return False
        on_wait()
        held.acquire()
    with suppress(OSError):
        text = path.read_text(encoding="utf-8", errors="replace")
        # On file systems without locks, filelock keeps a text of its own in the file.
        if not text or text.startswith(_HOLDER):
            path.write_text(f"{_HOLDER}{os.getpid()} on {socket.gethostname()}", encoding="utf-8")
    return True


def holder(output: Path) -> str:
    """Return who holds the lock of an output, for a message: `process 123 on gpu7`."""
    text = ""
    with suppress(OSError):
        text = lock_path(output).read_text(encoding="utf-8", errors="replace")
    is_ours = text.startswith(_HOLDER) and text.isprintable()
    return text if is_ours else "another process"


def is_free(output: Path) -> bool:
    """Whether no process holds the lock of an output; the lock file of a killed one is removed."""
    if not lock_path(output).exists():
        return True
    with suppress(OutputError), lock(output) as is_ours:
        return is_ours
    return False
