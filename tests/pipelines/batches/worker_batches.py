"""Run a batch in two worker processes: `python worker_batches.py FOLDER INPUTS`.

An input whose text is `kill` takes its worker with it, `bad` is refused, and `stop` sends SIGTERM to the
first process. Writes one line of JSON: exit status, rows, and who did what.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from cryoseg.config.invocation import Invocation, invoked
from cryoseg.errors import InputError
from cryoseg.events import Note, OnEvent, Report, ignore
from cryoseg.io.inputs import InputItem
from cryoseg.pipelines.batches.finished import Done, Job
from cryoseg.pipelines.batches.run import Batch, run_batch
from cryoseg.pipelines.batches.workers import run_workers


def numbers(folder: Path, *, batch: Batch, on_event: OnEvent) -> Report:
    """A pipeline: the record of every input tells which process did it."""
    on_event(Note(text="Model: none."))

    def plan(path: Path) -> Job:
        return Job(
            path=path,
            outputs={"record": folder / "out" / f"{path.stem}.json"},
            identity={"command": "numbers"},
            options={"inputs": [path.name]},
        )

    def work(path: Path, outputs: Mapping[str, Path]) -> Done:
        match path.read_text():
            case "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            case "bad":
                raise InputError(f"{path}: is bad.")
            case "stop":
                os.kill(os.getppid(), signal.SIGTERM)
                time.sleep(30)
        time.sleep(0.05)
        return Done(record={"pid": os.getpid(), "device": batch.device})

    items = [InputItem(path=path) for path in sorted(folder.glob("*.txt"))]
    return run_batch(items, work, plan=plan, batch=batch, on_event=on_event)


def main(folder: Path) -> None:
    """Run and tell."""
    notes: list[str] = []

    def listen(event: object) -> None:
        if isinstance(event, Note):
            notes.append(event.text)

    with invoked(Invocation(command="numbers", options={"seed": 1})):
        report = run_workers(partial(numbers, folder), Batch(devices=("cpu", "cpu")), on_event=listen)
    told = {
        "exit_status": report.exit_status,
        "rows": [[row.name, row.status.value, row.message] for row in report.rows],
        "notes": notes,
        "again": [
            row.status.value for row in numbers(folder, batch=Batch(device="cpu"), on_event=ignore).rows
        ]
        if not report.exit_status
        else [],
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
