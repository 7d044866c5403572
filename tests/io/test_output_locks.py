"""Locks on outputs: who holds them, and when they are free."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from cryoseg.errors import OutputError
from cryoseg.io.outputs import holder, is_free, lock, lock_path


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "new" / "ts.json"
    with lock(output) as first:
        with lock(output) as second:
            assert (first, second) == (True, False)
            assert holder(output).startswith(f"process {os.getpid()} on ")
        assert lock_path(output).exists()
        assert not is_free(output)
    assert list(output.parent.iterdir()) == []
    with pytest.raises(ValueError, match="broken"), lock(output):
        raise ValueError("broken")
    assert list(output.parent.iterdir()) == []
    assert is_free(output)


def test_another_process_is_kept_out_and_its_death_frees_the_lock(tmp_path: Path) -> None:
    output = tmp_path / "ts.json"
    code = "import sys, time; from pathlib import Path; from cryoseg.io.outputs import lock\n"
    code += f"with lock(Path({str(output)!r})) as is_ours:\n    print(is_ours, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "True\n"
        with lock(output) as is_ours:
            assert not is_ours
        assert holder(output).startswith(f"process {process.pid} on ")
        process.send_signal(signal.SIGKILL)
    assert lock_path(output).exists()
    assert is_free(output)
    assert list(tmp_path.iterdir()) == []


def test_whoever_waits_gets_its_turn(tmp_path: Path) -> None:
    output = tmp_path / "w.pt"
    waits, order = threading.Event(), []

    def second() -> None:
        with lock(output, on_wait=waits.set) as is_ours:
            order.append(("second", is_ours))

    with lock(output):
        thread = threading.Thread(target=second)
        thread.start()
        assert waits.wait(30)
        order.append(("first", True))
    thread.join(30)
    assert order == [("first", True), ("second", True)]
    assert list(tmp_path.iterdir()) == []


def test_any_bytes_in_a_lock_file_do_no_harm(tmp_path: Path) -> None:
    output = tmp_path / "ts.json"
    lock_path(output).write_bytes(b"\xff\x00process 1\n")
    assert holder(output) == "another process"
    assert is_free(output)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), lock(tmp_path / "file" / "ts.json"):
        pass
