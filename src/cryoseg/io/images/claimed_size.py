"""What a header claims against what the file can hold, before memory is taken for it."""

from __future__ import annotations

from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.io.images.memory import GIB, available_memory

# Deflate reaches 1032:1, Zstandard and Blosc more on empty volumes.
LARGEST_RATIO = 10_000
# Of an array that is all background, chunked formats store nothing.
BACKGROUND_BYTES = 4 * GIB


def refuse_impossible_size(path: Path, *, claimed: int, stored: int, background: int = 0) -> None:
    """Refuse a volume that its file cannot hold, or this machine's memory cannot.

    Parameters
    ----------
    path
        For the message.
    claimed
        Bytes that the voxels need.
    stored
        Bytes that the file has for them.
    background
        Bytes that may be missing from the file, because the format leaves out background.

    Raises
    ------
    InputError
        Before anything is allocated.
    """
    if claimed > max(background, LARGEST_RATIO * stored):
        raise InputError(
            f"{path}: its header claims {claimed / GIB:.1f} GiB of voxels, for which {stored} bytes are "
            "there; the file is damaged. Copy or export it again."
        )
    free = available_memory()
    if free is not None and claimed > free:
        raise InputError(
            f"{path}: needs {claimed / GIB:.1f} GiB of memory to be read, and {free / GIB:.1f} GiB are free. "
            "Bin it, or convert it to MRC, which is read piece by piece."
        )
