"""Batches, in which a failed input does not end the run and a killed run can be continued."""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cryoseg.config.batch import Shard, slurm_shard
from cryoseg.config.invocation import note_written
from cryoseg.errors import CryosegError
from cryoseg.events import Note, OnEvent, Report, Row, Status, Warn
from cryoseg.io.inputs import InputItem
from cryoseg.io.outputs import check_names, holder, is_free, lock, make_folder, staged_outputs
from cryoseg.io.picks.copick_project import CopickOutput
from cryoseg.io.records import describe_input
from cryoseg.pipelines.batches.finished import (
    Done,
    Job,
    Leftovers,
    as_recorded,
    is_finished,
    joined,
    write_job_record,
)
from cryoseg.pipelines.batches.interrupts import interruptible, signal_of

# Whether this process works on the n-th input; called once for each input.
Turn = Callable[[int, Path], bool]
# The outputs of one input and what decides their content.
Plan = Callable[[Path], Job]
# Reads one input and raises the error that the work on it would raise.
Examine = Callable[[Path], object]
# The work on one input: it writes every output except the record under the temporary name in its argument.
Work = Callable[[Path, Mapping[str, Path]], Done]

NOT_BEGUN = "not begun"
_KEPT = "finished outputs are kept; --overwrite replaces them"


def every_turn(index: int, path: Path) -> bool:
    """Return True; the `Turn` of a process that works alone."""
    return True


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The part of a list of inputs to process, the devices, and whether finished outputs are replaced.

    Attributes
    ----------
    shard
        Part of the inputs to process; None uses the array variables of Slurm, if they are set.
    device
        Device of this process, as in `select_device`.
    devices
        Devices of the worker processes, one each, in place of `device`; empty to work in this process.
    is_dry
        Whether the outputs are only listed and not written.
    overwrite
        Whether finished outputs are made again.
    turn
        Function that decides for each input whether this process takes it, where workers share a list.
    workers
        Number of processes that share the memory of this machine.
    folder
        Folder of the outputs, which is made before the first input; None if there is none.
    project
        Copick project in which the work stores its results; it refuses inputs before the work on them.
    """

    shard: Shard | None = None
    device: str = "auto"
    devices: tuple[str, ...] = ()
    is_dry: bool = False
    overwrite: bool = False
    turn: Turn = every_turn
    workers: int = 1
    folder: Path | None = None
    project: CopickOutput | None = None

    @property
    def is_whole(self) -> bool:
        """Whether this process sees all rows of the run: it is not a worker, and not a dry run."""
        return self.turn is every_turn and not self.is_dry


def run_batch(
    items: Sequence[InputItem],
    work: Work,
    *,
    plan: Plan | None = None,
    examine: Examine | None = None,
    batch: Batch = Batch(),
    on_event: OnEvent,
) -> Report:
    """Process every input, write its outputs with their record, and collect the rows.

    Finished outputs are kept, inputs that another process works on are skipped, and partial files of
    killed processes are removed. The outputs of an input get their final names together, after the work
    on it has succeeded.

    Parameters
    ----------
    items
        Inputs from `io.inputs.resolve_inputs`; an item with an error becomes a failed row.
    work
        Work on one input.
    plan
        Outputs of one input; None writes no outputs and processes every input.
    examine
        Check of one input in a dry run, which refuses the inputs that the run would refuse.
    batch
        Part of the list to process, device, and whether finished outputs are replaced.
    on_event
        Callback for warnings, and for each row as soon as it is known.

    Returns
    -------
    Report
        One row per item of the shard, in order. If a signal ends the batch early, the interrupted input
        leaves no outputs, and the remaining rows have the status `not done`.
    """
    items = _part(items, batch, on_event)
    if batch.folder is not None and not batch.is_dry:
        make_folder(batch.folder)
    runner = _Runner(work, plan, examine, batch, on_event)
    interrupted_by: int | None = None
    with interruptible():
        try:
            for index, item in enumerate(items):
                if batch.turn(index, item.path):
                    runner.do(index, item)
            runner.do_left()
        except KeyboardInterrupt as stop:
            interrupted_by = signal_of(stop)
            runner.give_up(items)
    return Report(rows=[runner.rows[index] for index in sorted(runner.rows)], interrupted_by=interrupted_by)


def add_skipped(report: Report, reasons: Mapping[Path, str], on_event: OnEvent) -> Report:
    """Add a skipped row to a report for each input that was left out, with the reason."""
    for path, reason in reasons.items():
        report.rows.append(Row(name=path.name, status=Status.SKIPPED, message=reason, path=path))
        on_event(report.rows[-1])
    return report


def _part(items: Sequence[InputItem], batch: Batch, on_event: OnEvent) -> list[InputItem]:
    shard, why = batch.shard, ""
    # A task that was given its own list of files has fewer inputs than the array has tasks.
    if shard is None and (own := slurm_shard(os.environ)) is not None and len(items) >= own.count:
        shard, why = own, " (from Slurm's array; --shard 1/1 takes all)"
    if shard is None or shard.count == 1:
        return list(items)
    part = shard.of(items)
    tell = Note if part else Warn
    on_event(tell(text=f"Shard {shard}{why}: {len(part)} of {len(items)} inputs."))
    return part


class _Runner:
    """Process items one after another and collect their rows."""

    def __init__(
        self, work: Work, plan: Plan | None, examine: Examine | None, batch: Batch, on_event: OnEvent
    ) -> None:
        self.rows: dict[int, Row] = {}
        self._work, self._plan, self._examine = work, plan, examine
        self._batch, self._on_event = batch, on_event
        self._left: list[tuple[int, InputItem]] = []
        self._leftovers: dict[Path, Leftovers] = {}
        self._current: tuple[int, InputItem, float] | None = None

    def do(self, index: int, item: InputItem, *, is_last_try: bool = False) -> None:
        """Process one item, or postpone it if another process works on it."""
        begun = time.monotonic()
        self._current = (index, item, begun)
        row = _row_without_work(item) or self._one(item.path)
        if row.status is Status.ELSEWHERE and not is_last_try:
            self._left.append((index, item))
        else:
            self._keep(index, item, row, begun)
        self._current = None

    def do_left(self) -> None:
        """Try the postponed items again; the other processes may have finished or ended."""
        for index, item in self._left:
            self.do(index, item, is_last_try=True)

    def give_up(self, items: Sequence[InputItem]) -> None:
        """Add rows for the items that an interrupted batch has not finished."""
        if self._current is not None and self._current[0] not in self.rows:
            index, item, begun = self._current
            row = Row(name=item.path.name, status=Status.NOT_DONE, message="interrupted")
            self._keep(index, item, row, begun)
        for index, item in enumerate(items):
            if index not in self.rows:
                row = Row(name=item.path.name, status=Status.NOT_DONE, message=NOT_BEGUN)
                self._keep(index, item, row, time.monotonic())

    def _keep(self, index: int, item: InputItem, row: Row, begun: float) -> None:
        self.rows[index] = replace(row, seconds=time.monotonic() - begun, path=item.path)
        self._on_event(self.rows[index])

    def _one(self, path: Path) -> Row:
        try:
            if self._plan is None:
                return _done(path, self._work(path, {}))
            return self._planned(path, self._stored(self._plan(path)))
        except CryosegError as error:
            return _failed(path, str(error))
        except MemoryError:
            return _failed(
                path, f"{path}: not enough memory for this volume. Bin it, or use a computer with more."
            )
        except OSError as error:
            reason = error.strerror or error
            return _failed(path, f"{path}: {error.filename or 'a file'} cannot be used ({reason}).")
        except Exception as error:  # a defect of cryoseg must not end the batch either
            self._on_event(Note(text=traceback.format_exc(), detail=True))
            return _failed(
                path,
                f"{path}: unexpected {type(error).__name__}: {error}. This is a defect of cryoseg; "
                "run again with --verbose and report what it prints.",
            )

    def _stored(self, job: Job) -> Job:
        """Return the job with the copick project in its identity."""
        if self._batch.project is None:
            return job
        entry = {"copick": self._batch.project.uri}
        return replace(job, identity={**job.identity, **entry}, options={**job.options, **entry})

    def _check_project(self, item: Path) -> None:
        if self._batch.project is not None:
            self._batch.project.check(item)

    def _planned(self, item: Path, job: Job) -> Row:
        job = as_recorded(job, self._on_event)
        check_names(job.outputs.values())
        outputs = tuple(job.outputs.values())
        kept = Row(name=item.name, status=Status.SKIPPED, outputs=outputs, message=_KEPT)
        if not self._batch.overwrite and is_finished(job):
            # A process may have been killed after it had written its last file.
            if not self._batch.is_dry and is_free(job.record):
                self._leftovers_in(job.record.parent).remove(outputs)
            return kept
        if self._batch.is_dry:
            self._check_project(item)
            if self._examine is not None:
                self._examine(item)
            names = ", ".join(path.name for path in outputs)
            return Row(name=item.name, status=Status.TO_DO, outputs=outputs, message=f"would write {names}")
        leftovers = self._leftovers_in(job.record.parent)
        with lock(job.record) as is_ours:
            if not is_ours:
                busy = f"{holder(job.record)} is working on it"
                return Row(name=item.name, status=Status.ELSEWHERE, message=busy)
            # Another process may have finished it between the first check and the lock.
            if not self._batch.overwrite and is_finished(job):
                return kept
            leftovers.remove(outputs)
            self._check_project(item)
            done = self._write(item, job)
            note_written(job.record)
            return _done(item, done, outputs)

    def _write(self, item: Path, job: Job) -> Done:
        """Write the outputs under temporary names, and write the record."""
        source = {} if job.path is None else {"input": describe_input(job.path)}
        with staged_outputs(job.outputs) as staged:
            done = self._work(item, staged)
            write_job_record(replace(job, outputs=staged), joined(source, done.record))
        return done

    def _leftovers_in(self, folder: Path) -> Leftovers:
        if folder not in self._leftovers:
            self._leftovers[folder] = Leftovers(folder)
        return self._leftovers[folder]


def _done(item: Path, done: Done, outputs: tuple[Path, ...] = ()) -> Row:
    return Row(
        name=done.name or item.name,
        status=Status.DONE,
        columns=done.columns,
        outputs=outputs,
        message=done.message,
    )


def _row_without_work(item: InputItem) -> Row | None:
    if item.error is not None:
        return _failed(item.path, item.error)
    if item.same_as is not None:
        message = f"is the same file as {item.same_as} and is processed once, under that name"
        return Row(name=item.path.name, status=Status.SKIPPED, message=message)
    return None


def _failed(path: Path, message: str) -> Row:
    return Row(name=path.name, status=Status.FAILED, message=message)
