"""Ctrl-C and SIGTERM as an exception that ends a batch in good order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# A Ctrl-C reaches every process of a terminal and is passed on by the first besides; an impatient
# user's second one comes later than that.
DEAF_SECONDS = 2.0


class Interrupted(KeyboardInterrupt):
    """A signal that asks this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """The number of the signal behind an interrupt."""
    return interrupt.signum if isinstance(interrupt, Interrupted) else int(signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Raise `Interrupted` in the block on the first signal, and on further ones after two seconds.

    A signal that was ignored before (`nohup`, a shell's background job) stays so. Outside of the main
    thread, where Python allows no handlers, this does nothing.

    Yields
    ------
    list of int
        Numbers of the signals that it has raised.
    """
    raised: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return
    times: list[float] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if times and time.monotonic() - times[0] < DEAF_SECONDS:
            return
        times.append(time.monotonic())
        raised.append(signum)
        raise Interrupted(signum)

    before = {one: signal.getsignal(one) for one in SIGNALS}
    for one, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(one, interrupt)
    try:
        yield raised
    finally:
        for one, handler in before.items():
            signal.signal(one, signal.SIG_DFL if handler is None else handler)
