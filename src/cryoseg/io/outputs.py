"""Write files under temporary names, and rename them when they are complete."""

from __future__ import annotations

import csv
import errno
import hashlib
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from cryoseg.errors import ConfigError, OutputError

TEMPORARY_PREFIX = ".cryoseg-"
# Folder of an annotation in the layout of the CryoET Data Portal.
ANNOTATION_SUFFIX = ".annotation"
# Longest file name in bytes that Linux and macOS allow, where a folder does not say.
LONGEST_NAME = 255
# Bytes of the final name in a temporary one, which is longer; encrypted folders allow 143 bytes.
_LONGEST_KEPT = 100

_REASONS = {
    errno.ENOSPC: "the disk is full. Free some space and run again",
    errno.EDQUOT: "your disk quota is used up. Free some space and run again",
    errno.EFBIG: "the file system takes no file of this size. Choose another folder",
    errno.EROFS: "the file system is read-only. Choose another folder",
    errno.EACCES: "you may not write there. Choose another folder",
    errno.EPERM: "you may not write there. Choose another folder",
    errno.ENAMETOOLONG: "the name is too long for this file system. Shorten the input's name",
    errno.ENOTDIR: "part of its path is a file, not a folder. Choose another folder",
    errno.EEXIST: "part of its path is a file, not a folder. Choose another folder",
}


def temporary_path(final: Path) -> Path:
    """Return a hidden, unused name in the folder of `final`, with its suffix, which some writers need."""
    return hidden_path(final, secrets.token_hex(4))


def hidden_path(final: Path, kind: str) -> Path:
    """Return a hidden name in the folder of `final` that contains its name and is never too long."""
    return final.with_name(f"{TEMPORARY_PREFIX}{kind}-{shortened_name(final.name)}")


def shortened_name(name: str) -> str:
    """Return a file name, or the hash and the end of a long one."""
    content = os.fsencode(name)
    if len(content) <= _LONGEST_KEPT:
        return name
    return f"{hashlib.sha256(content).hexdigest()[:16]}-{content[-_LONGEST_KEPT:].decode('utf-8', 'ignore')}"


def nearest_existing(path: Path) -> Path:
    """Return a path, or the nearest one above it that exists and that this user can see."""
    return next(one for one in (path, *path.parents) if os.access(one, os.F_OK))


def may_write_in(folder: Path) -> bool:
    """Whether a path is a folder in which this user may make files."""
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def check_names(paths: Iterable[Path]) -> None:
    """Raise an `OutputError` if an output name is too long for the file system."""
    for path in paths:
        folder = next((one for one in path.parents if os.path.isdir(one)), Path())  # noqa: PTH112
        longest = LONGEST_NAME
        with suppress(OSError, ValueError, AttributeError):  # Some file systems do not report it.
            longest = os.pathconf(folder, "PC_NAME_MAX")
        length = len(os.fsencode(path.name))
        if length > longest:
            raise OutputError(
                f"{path}: cannot be written: the name is too long for this file system ({length} bytes, "
                f"{longest} are allowed). Shorten the input's name."
            )


def check_outputs(
    paths: Iterable[Path], suffixes: Sequence[str], *, option: str = "--output", overwrite: bool
) -> None:
    """Check the names and folders of output files before the work begins.

    Parameters
    ----------
    paths
        Files to write.
    suffixes
        Suffixes of the known formats, in lower case.
    option
        Option that gave the files, for messages.
    overwrite
        Whether existing files are replaced.

    Raises
    ------
    ConfigError
        If a file has another suffix.
    OutputError
        If a file exists and may not be replaced, or its folder cannot be written to.
    """
    for path in paths:
        if path.suffix.lower() not in suffixes:
            raise ConfigError(f"{option} {path}: give a name that ends in {' or '.join(suffixes)}.")
        refuse_existing(path, overwrite=overwrite)
        folder = nearest_existing(path.absolute().parent)
        if not may_write_in(folder):
            reason = _REASONS[errno.EACCES if folder.is_dir() else errno.ENOTDIR]
            raise OutputError(f"{path}: cannot be written: {reason}.")


@contextmanager
def atomic_output(path: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Provide a temporary name to write to, and rename the file when the block succeeds.

    Parameters
    ----------
    path
        File to write. Its folder is made if it is missing.
    overwrite
        Whether an existing file is replaced.

    Yields
    ------
    Path
        Temporary name in the same folder. The file is removed if the block fails.

    Raises
    ------
    OutputError
        If the file exists and may not be replaced, or cannot be written. Every `OSError` of the block is
        raised as an `OutputError`, so the block should only write.
    """
    refuse_existing(path, overwrite=overwrite)
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        refuse_existing(path, overwrite=overwrite)
        _replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {_reason(error)}.") from error
    finally:
        remove(temporary)


@contextmanager
def atomic_text(path: Path, *, overwrite: bool = False) -> Iterator[TextIO]:
    """Open a UTF-8 text file to write, with the parameters and errors of `atomic_output`.

    Line ends, and bytes of file names that are not UTF-8, are written unchanged.
    """
    with (
        atomic_output(path, overwrite=overwrite) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream,
    ):
        yield stream


def write_rows(path: Path, rows: Iterable[Iterable[Any]], *, overwrite: bool = False) -> None:
    """Write rows as comma-separated values, with the errors of `atomic_output`."""
    with atomic_text(path, overwrite=overwrite) as stream:
        csv.writer(stream, lineterminator="\n").writerows(rows)


@contextmanager
def staged_outputs(outputs: Mapping[str, Path]) -> Iterator[dict[str, Path]]:
    """Provide temporary names for several files, and rename them together when the block succeeds.

    Parameters
    ----------
    outputs
        Files of one folder by kind; existing ones are replaced. The last one marks the others as
        complete: it is removed before they are replaced and appears after them.

    Yields
    ------
    dict of str to Path
        The same file names in a hidden folder beside the outputs; the block writes all of them. If the
        block fails, the existing files stay as they are.

    Raises
    ------
    OutputError
        If a file cannot be written.
    """
    mark = list(outputs.values())[-1]
    for path in outputs.values():
        refuse_existing(path, overwrite=True)
    folder = temporary_path(mark)
    try:
        make_folder(folder)
        yield {kind: folder / path.name for kind, path in outputs.items()}
        _move(folder, list(outputs.values()), mark)
    except OutputError as error:
        raise OutputError(str(error).replace(str(folder), str(folder.parent))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def folder_of(staged: Path) -> Path:
    """Return the folder in which an output from `staged_outputs` gets its own name."""
    return staged.parent.parent


def _move(folder: Path, outputs: list[Path], mark: Path) -> None:
    try:
        mark.unlink(missing_ok=True)
        for path in outputs:
            _replace(folder / path.name, path)
    except BaseException as error:
        for path in outputs if not mark.exists() else ():
            remove(path)
        if isinstance(error, OSError):
            raise OutputError(f"{mark}: cannot be written: {_reason(error)}.") from error
        raise


def _replace(new: Path, path: Path) -> None:
    """Give a file or a folder its final name; what has the name is removed."""
    if path.is_dir():
        old = temporary_path(path)
        path.replace(old)
        new.replace(path)
        remove(old)
    else:
        new.replace(path)


def remove(path: Path) -> None:
    """Delete a file or a folder as far as that is possible; it may be missing."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):
        path.unlink()


def is_volume_name(path: Path) -> bool:
    """Whether a name is that of a volume that is a folder (OME-Zarr)."""
    return path.name.lower().endswith(".zarr")


def make_folder(path: Path) -> Path:
    """Make a folder and those above it, and give it back.

    Raises
    ------
    OutputError
        If it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: the folder cannot be made: {_reason(error)}.") from error
    return path


def _reason(error: OSError) -> str:
    return _REASONS.get(error.errno or 0, error.strerror or str(error))


def refuse_existing(path: Path, *, overwrite: bool) -> None:
    """Raise an `OutputError` if an output exists and may not be replaced, or a folder has its name."""
    if path.is_dir() and not is_volume_name(path) and not path.name.endswith(ANNOTATION_SUFFIX):
        raise OutputError(f"{path}: there is a folder of this name. Choose another folder.")
    if not overwrite and path.exists():
        raise OutputError(f"{path}: exists already. Pass --overwrite to replace it.")


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
        Callback before the block waits for another process that holds the lock. Without it the block begins
        at once.

    Yields
    ------
    bool
        False if another process holds the lock and does the work.

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
            # filelock opens the absolute path, which fails if the user may not search the folders above it.
            if may_write_in(path.parent):
                return True
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
