"""Standard streams that cannot fail, and errors of the operating system as sentences."""

from __future__ import annotations

import codecs
import errno
import io
import os
import sys
from typing import Any

OUT_OF_MEMORY = (
    "the memory that this process may use does not suffice. Raise the limit (`ulimit -v`, or the memory of "
    "the job), or use a larger machine."
)


class _Output(io.FileIO):
    """A file descriptor; what it does not take is dropped, so that printing never ends a run."""

    loss: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes, or pretend to after the first failure."""
        if self.loss is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.loss = error
        return memoryview(data).nbytes


def protect_streams() -> None:
    """Replace standard output and error by streams that take every text and never fail.

    A reader that leaves (`| head`), a full disk, a closed descriptor, or a character that the locale
    lacks must not end a run whose outputs are files. `lost_output` says what was lost.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # a caller collects what is printed
        encoding = "utf-8" if stream is None else stream.encoding
        # Names of files may hold bytes that are no UTF-8; they are printed as they are.
        is_utf8 = codecs.lookup(encoding).name == "utf-8"
        if stream is not None:
            stream.flush()
        protected = io.TextIOWrapper(
            io.BufferedWriter(_Output(descriptor, "w", closefd=False)),
            encoding=encoding,
            errors="surrogateescape" if is_utf8 else "backslashreplace",
            line_buffering=stream is not None and stream.line_buffering,
        )
        setattr(sys, name, protected)
        setattr(sys, f"__{name}__", protected)


def lost_output() -> str | None:
    """What kept standard output from being written, as a sentence; None where a reader only left."""
    buffer = getattr(sys.stdout, "buffer", None)
    if sys.stdout is not None:
        sys.stdout.flush()
    loss = getattr(getattr(buffer, "raw", None), "loss", None)
    if loss is None or loss.errno == errno.EPIPE:
        return None
    return f"standard output: cannot be written ({loss.strerror}); part of what was printed is lost."


def describe_system_error(error: Exception) -> str | None:
    """A sentence for an error that is no defect of cryoseg: memory, permissions, disks; else None."""
    text = str(error)
    if (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or "failed to map segment" in text
        or "annot allocate memory" in text
    ):
        return f"{text}: {OUT_OF_MEMORY}" if isinstance(error, ImportError) else OUT_OF_MEMORY.capitalize()
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{os.fsdecode(error.filename)}: {error.strerror}. Check the path and its permissions."
    return None
