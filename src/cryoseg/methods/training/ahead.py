"""Samples of the next steps of a training, which other processes prepare."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from cryoseg.machine import processors

MOST_WORKERS = 12  # more prepare no more samples than a GPU needs


def workers_for(device: torch.device, processes: int = 1) -> int:
    """Return the number of workers of `ahead` for each of the processes that train together.

    On a CPU they would take processors from the network.
    """
    return min(MOST_WORKERS, processors() // processes - 1) if device.type == "cuda" else 0


class _Steps(Dataset[Any]):
    """Results of a function of the number of a step."""

    def __init__(self, draw: Callable[[int], Any]) -> None:
        self._draw = draw

    def __getitem__(self, step: int) -> Any:
        return self._draw(step)


def ahead(draw: Callable[[int], Any], workers: int) -> Callable[[int], Any]:
    """Return `draw` with the results of the next steps prepared in forked processes; without workers, `draw`.

    The steps must be consecutive. The processes share the memory of the data that `draw` holds.
    """
    if not workers:
        return draw
    coming: Iterator[Any] | None = None

    def next_result(step: int) -> Any:
        nonlocal coming
        if coming is None:
            loader = DataLoader(
                _Steps(draw),
                batch_size=None,
                sampler=itertools.count(step),
                num_workers=workers,
                # Arrays go through pipes: the shared memory that tensors need is small in containers.
                collate_fn=lambda result: result,
                multiprocessing_context="fork",
                generator=torch.Generator(),  # a draw from that of torch would change the training
            )
            coming = iter(loader)
        return next(coming)

    return next_result
