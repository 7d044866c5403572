"""What a process may use of its machine: processors, threads and control groups."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path

THREADS = "OMP_NUM_THREADS"
# Settings of GNU's and LLVM's OpenMP; if the user set one of them, nothing is changed.
CHOICES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# Threads that wait at a barrier spin by default, for milliseconds and more, and take the processor
# from others on a busy machine: two runs at once on two cores took twelve times as long as one. Sleeping at
# once (OMP_WAIT_POLICY=PASSIVE) costs 10 to 23 % of the time on a quiet machine. These values
# bridge the gaps between two operations of a network and little more.
SHORT_WAIT = {"GOMP_SPINCOUNT": "2000", "KMP_BLOCKTIME": "1"}  # Turns of a loop, and milliseconds.

# Read before anything here changes it.
_chosen_by_user = THREADS in os.environ


def prepare_openmp(environment: MutableMapping[str, str] = os.environ, *, workers: int = 1) -> None:
    """Let OpenMP's threads wait only briefly, and let no more of them run than there are processors.

    Nothing is changed that the user chose. The function works only before torch is imported; processes that
    are started later inherit the settings.

    Parameters
    ----------
    environment
        Changed in place.
    workers
        Number of processes that share the processors.
    """
    if not any(name in environment for name in CHOICES):
        environment.update(SHORT_WAIT)
    share = max(1, processors() // workers)
    # OpenMP respects the affinity of a process by itself, but neither a quota nor other processes.
    if not _chosen_by_user and share < _affinity():
        environment[THREADS] = str(share)


def processors(root: Path = Path("/")) -> int:
    """Return the number of processors that this process may use.

    It is the smaller one of the number of processors in the affinity mask and the quota of the control group
    (Slurm, Docker, Kubernetes).

    Parameters
    ----------
    root
        Root of the file system in which `proc` and `sys` are read.

    Notes
    -----
    Source: Linux kernel documentation, "Control Group v2" (cpu.max) and "CFS Bandwidth Control".
    """
    return max(1, min([_affinity(), *_quotas(root)]))


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[tuple[Path, bool]]:
    """Yield the folder of every control group above this process, and whether it is of version 2.

    Parameters
    ----------
    controller
        Name of a controller, such as `cpu` or `memory`.
    root
        Root of the file system in which `proc` and `sys` are read.
    """
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        unified = controllers == ""
        if not unified and controller not in controllers.split(","):
            continue
        base = root / "sys/fs/cgroup" / ("" if unified else controller)
        folder = base / name.lstrip("/")
        while True:
            yield folder, unified
            if folder == base or base not in folder.parents:
                break
            folder = folder.parent


def _affinity() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _quotas(root: Path) -> Iterator[int]:
    """Yield the quotas of processor time in whole processors; those without a limit are left out."""
    for folder, unified in control_groups("cpu", root):
        with suppress(OSError, ValueError):
            if unified:
                quota, period = map(int, (folder / "cpu.max").read_text(encoding="ascii").split())
            else:
                quota, period = (
                    int((folder / f"cpu.cfs_{name}_us").read_text(encoding="ascii"))
                    for name in ("quota", "period")
                )
            if quota > 0 and period > 0:
                yield quota // period
