"""Claims on outputs: who holds them, and when they count for nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryoseg.errors import OutputError
from cryoseg.pipelines.batches import claims
from cryoseg.pipelines.batches.claims import claim, claim_path, holder, is_stale


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    output = tmp_path / "new" / "ts.json"
    with claim(output) as first:
        with claim(output) as second:
            assert (first, second) == (True, False)
            assert holder(output).startswith(f"process {os.getpid()} on ")
        assert claim_path(output).exists()
    assert list(output.parent.iterdir()) == []
    with pytest.raises(ValueError, match="broken"), claim(output):
        raise ValueError("broken")
    assert list(output.parent.iterdir()) == []


def forge(output: Path, **changes: object) -> Path:
    """The claim of a process that ended without a word."""
    path = claim_path(output)
    with claim(output):
        content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))
    return path


def dead_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        return process.pid


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path: Path) -> None:
    output = tmp_path / "ts.json"
    forge(output, pid=dead_pid(), token="theirs")
    with claim(output) as is_ours:
        assert is_ours
    forge(output, started="1", token="theirs")  # the number was used again
    with claim(output) as is_ours:
        assert is_ours
    assert list(tmp_path.iterdir()) == []


def test_a_process_elsewhere_holds_until_its_heart_stops(tmp_path: Path) -> None:
    path = forge(tmp_path / "ts.json", machine="another", pid=1)
    assert not is_stale(path)
    with claim(tmp_path / "ts.json") as is_ours:
        assert not is_ours
    os.utime(path, (time.time() - 600,) * 2)
    assert is_stale(path)
    with claim(tmp_path / "ts.json") as is_ours:
        assert is_ours


def test_half_a_claim_is_not_stale_at_once(tmp_path: Path) -> None:
    claim_path(tmp_path / "ts.json").write_text("{")
    with claim(tmp_path / "ts.json") as is_ours:
        assert not is_ours


def test_the_heart_beats(tmp_path: Path) -> None:
    with claim(tmp_path / "ts.json", heartbeat_seconds=0.01):
        path = claim_path(tmp_path / "ts.json")
        os.utime(path, (1, 1))
        until = time.monotonic() + 30
        while path.stat().st_mtime < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert path.stat().st_mtime > 2


def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise PermissionError

    monkeypatch.setattr(claims.os, "link", refuse)
    with claim(tmp_path / "ts.json") as first, claim(tmp_path / "ts.json") as second:
        assert (first, second) == (True, False)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError), claim(tmp_path / "file" / "ts.json"):
        pass
