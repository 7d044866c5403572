"""Standard streams that do not raise errors, and messages for errors of the operating system."""

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
    """A file descriptor that drops output after a failure, so that printing does not end a run."""

    loss: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write bytes; after the first failure, drop them."""
        if self.loss is None:
            try:
                return super().write(data)
            except BlockingIOError:
                raise
            except OSError as error:
                self.loss = error
        return memoryview(data).nbytes


def protect_streams() -> None:
    """Replace standard output and error by streams that do not raise errors.

    A closed pipe (`| head`), a full disk, a closed descriptor, or a character that the locale lacks must not
    end a run whose outputs are files. `lost_output` reports lost output.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # closed: the next file that is opened would take its place
            os.open(os.devnull, os.O_RDWR)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # a caller has replaced the stream
        encoding = "utf-8" if stream is None else stream.encoding
        # File names may hold bytes that are not UTF-8; they are printed unchanged.
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
    """Return why standard output could not be written; None if it was, or if its reader closed the pipe."""
    buffer = getattr(sys.stdout, "buffer", None)
    if sys.stdout is not None:
        sys.stdout.flush()
    loss = getattr(getattr(buffer, "raw", None), "loss", None)
    if loss is None or loss.errno == errno.EPIPE:
        return None
    return f"standard output: cannot be written ({loss.strerror}); part of the output is lost."


def describe_system_error(error: Exception) -> str | None:
    """Return a message for errors of memory, permissions and disks; None for defects of cryoseg."""
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
