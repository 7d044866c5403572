"""How much memory this process may still use: of the machine, and of its control group or Slurm job."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path

GIB = 2**30


def available_memory(*, root: Path = Path("/"), environment: Mapping[str, str] | None = None) -> int | None:
    """Bytes that can be taken before the kernel swaps or kills; None where it is unknown.

    Parameters
    ----------
    root
        Where /proc and /sys lie.
    environment
        For Slurm's limit of a job on this node; the process's own if None.
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
    """Of every control group above this process, limit less use; a page cache can be dropped."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if controllers == "":
            base, names = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base = root / "sys/fs/cgroup/memory"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        folder = base / name.lstrip("/")
        while True:
            with suppress(OSError, ValueError):
                limit = int((folder / names[0]).read_text(encoding="ascii"))
                used = int((folder / names[1]).read_text(encoding="ascii"))
                yield limit - used + _statistic(folder / "memory.stat", names[2])
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent


def _statistic(path: Path, name: str) -> int:
    with suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            key, value = line.split()
            if key == name:
                return int(value)
    return 0


def _slurm(root: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """What a job asked for, less what this process holds; Slurm counts MiB."""
    with suppress(KeyError, ValueError):
        megabytes = int(environment["SLURM_MEM_PER_NODE"])
        if megabytes > 0:
            yield megabytes * 2**20 - _resident(root)


def _resident(root: Path) -> int:
    with suppress(OSError, ValueError, IndexError):
        return int((root / "proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
    return 0
