"""Samples of the next steps of a training, which other processes prepare."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import Any

import torch

from cryoseg.machine import processors

MOST_WORKERS = 12  # more prepare no more samples than a GPU needs


def workers_for(device: torch.device, processes: int = 1) -> int:
    """Return the number of workers of `ahead` for each of the processes that train together.

    On a CPU they would take processors from the network.
    """
    return min(MOST_WORKERS, processors() // processes - 1) if device.type == "cuda" else 0


def ahead(draw: Callable[[int], Any], workers: int) -> Callable[[int], Any]:
    """Return `draw` with the results of the next steps prepared in forked processes; without workers, `draw`.

    The processes share the memory of the data that `draw` holds.
    """
    if not workers:
        return draw
    pool = ProcessPoolExecutor(
        workers, multiprocessing.get_context("fork"), initializer=_begin_worker, initargs=(draw,)
    )
    waiting: dict[int, Future[Any]] = {}

    def next_result(step: int) -> Any:
        for number in range(step, step + 2 * workers):
            if number not in waiting:
                waiting[number] = pool.submit(_draw_in_worker, number)
        return waiting.pop(step).result()

    return next_result


_draw: Callable[[int], Any] | None = None


def _begin_worker(draw: Callable[[int], Any]) -> None:
    global _draw
    _draw = draw
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the training ends the workers


def _draw_in_worker(step: int) -> Any:
    assert _draw is not None
    return _draw(step)
