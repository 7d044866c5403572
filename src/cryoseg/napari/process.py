"""Run `cryoseg` in a process of its own and report its events."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence

from qtpy.QtCore import QObject, QProcess, QProcessEnvironment, Signal

COMMAND_VARIABLE = "CRYOSEG_COMMAND"


def default_command() -> str:
    """Return the command that starts cryoseg: that of `CRYOSEG_COMMAND`, on the path, or of this Python."""
    if variable := os.environ.get(COMMAND_VARIABLE):
        return variable
    found = shutil.which("cryoseg")
    return shlex.quote(found) if found else f"{shlex.quote(sys.executable)} -m cryoseg"


class CryosegProcess(QObject):
    """One run of a command of cryoseg.

    Attributes
    ----------
    reported
        Signal with one event of `--progress json`, as a dictionary.
    printed
        Signal with one other line of the output.
    ended
        Signal with the exit status; -1 if the program could not be started or was killed.
    """

    reported = Signal(dict)
    printed = Signal(str)
    ended = Signal(int)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._process = QProcess(self)
        environment = QProcessEnvironment.systemEnvironment()
        environment.insert("PYTHONUNBUFFERED", "1")
        self._process.setProcessEnvironment(environment)
        self._process.setStandardOutputFile(QProcess.nullDevice())
        self._process.readyReadStandardError.connect(self._read)
        self._process.errorOccurred.connect(self._failed)
        self._process.finished.connect(self._finished)

    @property
    def is_running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return bool(self._process.state() != QProcess.ProcessState.NotRunning)

    def start(self, command: str, arguments: Sequence[str]) -> None:
        """Start a command, such as `cryoseg`, with arguments; `--progress json` is added."""
        program, *first = shlex.split(command)
        self._process.start(program, [*first, *arguments, "--progress", "json"])

    def stop(self) -> None:
        """Ask the process to stop; finished outputs are kept."""
        self._process.terminate()

    def _read(self) -> None:
        self._process.setReadChannel(QProcess.ProcessChannel.StandardError)
        while self._process.canReadLine():
            text = bytes(self._process.readLine().data()).decode("utf-8", "replace").rstrip()
            if not text:
                continue
            try:
                event = json.loads(text)
            except ValueError:
                event = None
            if isinstance(event, dict) and "event" in event:
                self.reported.emit(event)
            else:
                self.printed.emit(text)

    def _failed(self, error: object) -> None:
        if error == QProcess.ProcessError.FailedToStart:
            self.printed.emit(
                f"{self._process.program()}: cannot be started ({self._process.errorString()})."
            )
            self.ended.emit(-1)

    def _finished(self, status: int, how: object) -> None:
        self._read()
        self.ended.emit(status if how == QProcess.ExitStatus.NormalExit else -1)
