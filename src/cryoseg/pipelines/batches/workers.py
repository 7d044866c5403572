"""Worker processes, one per device, that share a list of inputs."""

from __future__ import annotations

import multiprocessing
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Protocol

from cryoseg.config.invocation import Invocation, current_invocation, invoked
from cryoseg.errors import CryosegError
from cryoseg.events import Event, Note, OnEvent, Report, Row, StageProgress, Status, Warn
from cryoseg.machine import prepare_openmp
from cryoseg.pipelines.batches.interrupts import Interrupted, interruptible, signal_of
from cryoseg.pipelines.batches.run import NOT_BEGUN, Batch

# A worker completes the current pass of the network before it ends.
GRACE_SECONDS = 60.0


class Runs(Protocol):
    """A pipeline with its inputs and settings, which can be pickled."""

    def __call__(self, *, batch: Batch, on_event: OnEvent) -> Report:
        """Process the inputs that `batch.turn` accepts."""


@dataclass(frozen=True)
class _Request:
    index: int
    path: Path


@dataclass(frozen=True)
class _End:
    error: CryosegError | None = None


@dataclass(eq=False)
class _Worker:
    """A worker process, the connection to it, and the inputs it works on."""

    device: str
    process: multiprocessing.process.BaseProcess
    line: Connection
    inputs: list[Path] = field(default_factory=list)
    asked: bool = False
    ended: bool = False


def run_workers(run: Runs, batch: Batch, *, on_event: OnEvent) -> Report:
    """Run a pipeline in one process for each of `batch.devices`, and return one row per input, in order.

    Each input is processed by one worker. If a worker process ends unexpectedly, its input becomes a failed
    row, and a new worker takes its place. Rows and warnings of all workers are passed on, each note once.

    Raises
    ------
    CryosegError
        If a worker cannot start, for example because weights or device are missing.
    """
    (device, *others) = batch.devices
    if not others:
        return run(batch=replace(batch, device=device, devices=()), on_event=on_event)
    prepare_openmp(workers=len(batch.devices))
    pool = _WorkerPool(run, replace(batch, devices=(), workers=len(batch.devices)), on_event)
    interrupted_by: int | None = None
    with interruptible():
        try:
            for device in batch.devices:
                pool.start(device)
            pool.listen()
        except KeyboardInterrupt as stop:
            interrupted_by = signal_of(stop)
            # A second interrupt ends the workers at once.
            with suppress(KeyboardInterrupt):
                pool.close(signal.SIGTERM)
        finally:
            pool.close(signal.SIGKILL)
    if pool.error is not None:
        raise pool.error
    return Report(rows=pool.report_rows(), interrupted_by=interrupted_by)


class _WorkerPool:
    """Distribute inputs to workers and collect their rows and events."""

    def __init__(self, run: Runs, batch: Batch, on_event: OnEvent) -> None:
        self.error: CryosegError | None = None
        self._run, self._batch, self._on_event = run, batch, on_event
        # CUDA does not work in a forked process.
        self._context = multiprocessing.get_context("spawn")
        self._workers: list[_Worker] = []
        self._order: dict[Path, int] = {}
        self._rows: dict[Path, Row] = {}
        self._shown: set[str] = set()

    def start(self, device: str) -> None:
        """Start a worker."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(self._run, device, self._batch, theirs, current_invocation()), daemon=True
        )
        process.start()
        theirs.close()
        self._workers.append(_Worker(device, process, ours))

    def listen(self) -> None:
        """Answer the workers until all have ended."""
        while lines := {worker.line: worker for worker in self._workers if not worker.ended}:
            for line in wait(list(lines)):
                self._receive(lines[line])  # type: ignore[index]

    def close(self, signum: int) -> None:
        """End the running workers; with SIGTERM, their last rows are collected first."""
        for worker in self._workers:
            if worker.process.is_alive() and worker.process.pid is not None and not worker.ended:
                with suppress(ProcessLookupError):
                    worker.process.terminate() if signum == signal.SIGTERM else worker.process.kill()
        if signum == signal.SIGTERM:
            until = time.monotonic() + GRACE_SECONDS
            while lines := {worker.line: worker for worker in self._workers if not worker.ended}:
                ready = wait(list(lines), timeout=max(0.0, until - time.monotonic()))
                if not ready:
                    break
                for line in ready:
                    self._receive(lines[line], replaces=False)  # type: ignore[index]
        else:
            for worker in self._workers:
                worker.process.join()

    def report_rows(self) -> list[Row]:
        """Return all rows in the order of the inputs."""
        return [self._rows[path] for path in sorted(self._rows, key=lambda path: self._order.get(path, 0))]

    def _receive(self, worker: _Worker, *, replaces: bool = True) -> None:
        try:
            message = worker.line.recv()
        except (EOFError, OSError):
            self._remove(worker, replaces=replaces)
            return
        match message:
            case _Request(index=index, path=path):
                is_free = path not in self._order
                if is_free:
                    self._order[path] = index
                    worker.inputs.append(path)
                worker.asked = True
                with suppress(OSError):
                    worker.line.send(is_free)
            case _End(error=error):
                worker.ended = True
                self.error = self.error or error
            case _:
                self._pass_on(worker, message)

    def _pass_on(self, worker: _Worker, event: Event) -> None:
        match event:
            case Row(path=Path() as path):
                worker.inputs = [one for one in worker.inputs if one != path]
                if event.message == NOT_BEGUN and path in self._rows:
                    return  # another worker has processed this input
                self._order.setdefault(path, len(self._order))
                self._rows[path] = event
                self._on_event(event)
                self._on_event(
                    StageProgress(
                        name="Batch",
                        stage=f"on {len(self._workers)} devices",
                        done=len(self._rows),
                        total=max(len(self._order), len(self._rows)),
                        unit="files",
                    )
                )
            case Note(text=text) | Warn(text=text):
                # All workers report the same model and settings.
                if text not in self._shown:
                    self._shown.add(text)
                    self._on_event(event)

    def _remove(self, worker: _Worker, *, replaces: bool) -> None:
        """Report the inputs of a worker that has ended as failed, and start another worker in its place."""
        worker.ended = True
        worker.process.join()
        code = worker.process.exitcode or 0
        how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with status {code}"
        for path in worker.inputs:
            row = Row(
                name=path.name,
                status=Status.FAILED if replaces else Status.NOT_DONE,
                message=f"{path}: the worker on {worker.device} ended {how}, possibly for lack of memory. "
                "Run again; finished outputs are kept.",
                path=path,
            )
            self._rows[path] = row
            self._on_event(row)
        if worker.inputs and replaces:
            self.start(worker.device)
        elif replaces and not worker.asked:
            self.error = self.error or CryosegError(
                f"The worker on {worker.device} ended {how} before it began. Run with --device "
                f"{worker.device} and --verbose to see why."
            )
        worker.inputs = []


@dataclass(frozen=True)
class _Connection:
    """Connection of a worker to the first process; the worker ends if that process has ended."""

    connection: Connection

    def turn(self, index: int, path: Path) -> bool:
        self.send(_Request(index, path))
        return bool(self.connection.recv())

    def send(self, message: Event | _Request | _End) -> None:
        try:
            self.connection.send(message)
        except OSError as error:  # the first process has ended
            raise Interrupted(signal.SIGTERM) from error


def _serve(
    run: Runs, device: str, batch: Batch, connection: Connection, invocation: Invocation | None
) -> None:
    line = _Connection(connection)
    try:
        with invoked(invocation):
            run(batch=replace(batch, device=device, turn=line.turn), on_event=line.send)
        line.send(_End())
    except CryosegError as error:
        line.send(_End(error))
    except (KeyboardInterrupt, EOFError):
        pass
    finally:
        connection.close()
