"""The memory that the inputs of a batch need, and the memory level at which they are processed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Warn
from cryoseg.io.images.memory import GIB, available_memory
from cryoseg.io.images.volumes import planned_shape
from cryoseg.io.inputs import InputItem

Result = TypeVar("Result")

# Each memory level halves the batches and tiles of the network.
MEMORY_LEVELS = (0, 1, 2)


def tell_plan(
    items: Iterable[InputItem],
    need: Callable[[tuple[int, ...]], Sequence[int]],
    *,
    workers: int = 1,
    on_event: OnEvent,
) -> None:
    """Report the memory that the largest input needs, before the work begins.

    `need` returns the bytes that a shape needs at each of `MEMORY_LEVELS`. Inputs that cannot be read are
    left out, and `workers` processes share the memory.
    """
    shapes = {item.path: shape for item in items if not item.error and (shape := planned_shape(item.path))}
    if not shapes:
        return
    path = max(shapes, key=lambda one: need(shapes[one])[0])
    needs, free = need(shapes[path]), available_memory()
    size = " x ".join(map(str, shapes[path]))
    text = f"Memory plan: about {needs[0] / GIB:.1f} GiB for the largest input, {path.name} ({size})"
    if free is None:
        on_event(Note(text=f"{text}."))
        return
    each = " for each process" if workers > 1 else ""
    text += f"; {free / workers / GIB:.1f} GiB are free{each}"
    if needs[0] <= free / workers:
        on_event(Note(text=f"{text}."))
    elif min(needs) <= free / workers:
        on_event(Warn(text=f"{text}, so smaller batches are used where needed."))
    else:
        on_event(Warn(text=f"{text}, so inputs of this size will be refused."))


def choose_memory_level(path: Path, needs: Sequence[int], *, workers: int = 1) -> int:
    """Return the first memory level whose `needs` in bytes are free for one of `workers` processes.

    Raises
    ------
    InputError
        If the free memory does not suffice at any level; the message names `path`.
    """
    free = available_memory()
    if free is None:
        return 0
    for memory_level, bytes_needed in enumerate(needs):
        if bytes_needed <= free / workers:
            return memory_level
    raise InputError(
        f"{path}: needs about {min(needs) / GIB:.1f} GiB of memory, and {free / workers / GIB:.1f} GiB are "
        "free. Bin it, or use a machine or job with more."
    )


def step_down(
    run: Callable[[int], Result], *, name: str, first: int = 0, on_event: OnEvent, release: Callable[[], None]
) -> Result:
    """Run a function of the memory level, and run it again at the next level if memory does not suffice.

    The first attempt is at the level `first`. `release` frees the memory of a failed attempt, and a warning
    names the input.

    Raises
    ------
    MemoryError
        If memory does not suffice at the last level.
    """
    from cryoseg.methods.device import is_out_of_memory  # imports torch, which evaluations do not need

    for memory_level in MEMORY_LEVELS[first:]:
        try:
            return run(memory_level)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if memory_level == MEMORY_LEVELS[-1]:
                raise MemoryError(str(error)) from error
        release()
        on_event(Warn(text=f"{name}: out of memory; continuing with smaller batches."))
    raise AssertionError(first)
