"""Exception for Ctrl-C and SIGTERM, so that a batch ends without partial outputs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Ctrl-C reaches a worker twice, from the terminal and from the first process; a second Ctrl-C of the user
# comes later.
IGNORED_SECONDS = 2.0


class Interrupted(KeyboardInterrupt):
    """A signal that asks this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum


def signal_of(interrupt: KeyboardInterrupt) -> int:
    """Return the number of the signal that caused an interrupt."""
    return interrupt.signum if isinstance(interrupt, Interrupted) else int(signal.SIGINT)


@contextmanager
def interruptible() -> Iterator[list[int]]:
    """Raise `Interrupted` within the block on a signal, except within two seconds of the first one.

    A signal that was ignored before (`nohup`, background jobs of a shell) stays ignored. Outside of the
    main thread, where Python allows no handlers, signals are not handled.

    Yields
    ------
    list of int
        Numbers of the raised signals.
    """
    raised: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield raised
        return
    times: list[float] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        if times and time.monotonic() - times[0] < IGNORED_SECONDS:
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
