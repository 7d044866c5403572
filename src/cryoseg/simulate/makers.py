"""Several processes that simulate, and leave nothing half-written when they are stopped."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

from cryoseg.config.invocation import Invocation, current_invocation, invoked

Job = TypeVar("Job")
Made = TypeVar("Made")


def make_all(make: Callable[[Job], Made], jobs: Sequence[Job], *, workers: int) -> Iterator[Made]:
    """Do jobs, in the order in which they are done.

    Parameters
    ----------
    make
        Writes the files of one job; a function of a module, which travels to other processes.
    jobs
        What it takes.
    workers
        Processes.

    Yields
    ------
    Made
        What `make` gives. Where the caller stops early, jobs in work are given up.
    """
    if workers <= 1 or len(jobs) <= 1:
        yield from map(make, jobs)
        return
    # Spawned processes share no threads or locks with a caller that has loaded other libraries.
    context = multiprocessing.get_context("spawn")
    with context.Pool(min(workers, len(jobs)), initializer=_end_in_order) as pool:
        yield from pool.imap_unordered(partial(_make, current_invocation(), make), jobs, chunksize=1)


def _make(invocation: Invocation | None, make: Callable[[Job], Made], job: Job) -> Made:
    with invoked(invocation):
        return make(job)


def _end_in_order() -> None:
    # Ctrl-C reaches every process of a terminal; the first one ends the others, whose files then go.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
