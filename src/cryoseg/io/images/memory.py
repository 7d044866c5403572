"""Memory that this process may still use, and refusal of volumes that exceed it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from cryoseg.errors import InputError
from cryoseg.machine import control_groups

GIB = 2**30
# Deflate reaches 1032:1, Zstandard and Blosc more on empty volumes.
LARGEST_RATIO = 10_000
# Chunked formats store nothing of an array that contains only background.
BACKGROUND_BYTES = 4 * GIB


def available_memory(*, root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> int | None:
    """Return the number of bytes that are free for this process; None if the system does not report it.

    Parameters
    ----------
    root
        Folder of /proc and /sys.
    environment
        Environment with the limit of a Slurm job; None uses that of the process.
    """
    limits = [
        *_machine(root),
        *_groups(root),
        *_slurm(root, os.environ if environment is None else environment),
    ]
    if limits:
        return max(0, min(limits))
    with suppress(ValueError, OSError, AttributeError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return None


def _machine(root: Path) -> Iterator[int]:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _groups(root: Path) -> Iterator[int]:
    """Yield the limit less the used bytes of every control group; a page cache can be dropped."""
    for folder, unified in control_groups("memory", root):
        if unified:
            names = ("memory.max", "memory.current", "inactive_file")
        else:
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        with suppress(OSError, ValueError):
            limit = int((folder / names[0]).read_text(encoding="ascii"))
            used = int((folder / names[1]).read_text(encoding="ascii"))
            yield limit - used + _statistic(folder / "memory.stat", names[2])


def _statistic(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            key, value = line.split()
            if key == name:
                return int(value)
    return 0


def _slurm(root: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """Yield the memory of the Slurm job, which counts MiB, less that of this process."""
    with suppress(KeyError, ValueError):
        megabytes = int(environment["SLURM_MEM_PER_NODE"])
        resident = 0
        with suppress(OSError, ValueError, IndexError):
            resident = int((root / "proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
        if megabytes > 0:
            yield megabytes * 2**20 - resident


def refuse_impossible_size(
    path: Path, *, claimed: int, stored: int, background: int = 0, held: int | None = None
) -> None:
    """Refuse a volume that its file or the memory of this computer cannot hold.

    Parameters
    ----------
    path
        Name of the file for messages.
    claimed
        Size in bytes of the voxels by the header.
    stored
        Size in bytes of the compressed voxels in the file.
    background
        Bytes that may be missing from the file, because the format omits background.
    held
        Bytes that are in memory at once; None if all of the voxels are.

    Raises
    ------
    InputError
        If the volume is too large; nothing has been allocated then.
    """
    if claimed > max(background, LARGEST_RATIO * stored):
        raise InputError(
            f"{path}: its header claims {claimed / GIB:.1f} GiB of voxels, for which {stored} bytes are "
            "there; the file is damaged. Copy or export it again."
        )
    needed, free = claimed if held is None else held, available_memory()
    if free is not None and needed > free:
        raise InputError(
            f"{path}: needs {needed / GIB:.1f} GiB of memory to be read, and {free / GIB:.1f} GiB are free. "
            "Bin it, or convert it to MRC, which is read piece by piece."
        )
