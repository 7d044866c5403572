"""Several worker processes on one list of inputs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("worker_batches.py")


def run(folder: Path, texts: list[str]) -> dict[str, Any]:
    (folder / "out").mkdir()
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
    outcome = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder)], capture_output=True, text=True, check=False
    )
    assert outcome.returncode == 0, outcome.stderr
    assert "Traceback" not in outcome.stderr
    return json.loads(outcome.stdout.splitlines()[-1])


def test_every_input_is_done_once_and_the_rows_are_in_order(tmp_path: Path) -> None:
    told = run(tmp_path, ["x"] * 12)
    assert [row[:2] for row in told["rows"]] == [[f"{n}.txt", "done"] for n in sorted(range(12), key=str)]
    assert told["exit_status"] == 0
    assert told["notes"] == ["Model: none."]
    assert told["again"] == ["skipped"] * 12
    records = [json.loads(path.read_text()) for path in (tmp_path / "out").glob("*.json")]
    assert len(records) == 12
    assert len({record["pid"] for record in records}) <= 2
    assert [record["options"] for record in records] == [
        {"inputs": [record["input"]["name"]], "seed": 1} for record in records
    ]


def test_a_worker_that_dies_is_a_failed_row_and_is_replaced(tmp_path: Path) -> None:
    told = run(tmp_path, ["x", "kill", "x", "bad", "kill", "x", "x"])
    assert [row[1] for row in told["rows"]] == ["done", "failed", "done", "failed", "failed", "done", "done"]
    messages = [row[2] for row in told["rows"]]
    assert "signal 9 (SIGKILL)" in messages[1]
    assert messages[3].endswith("is bad.")
    assert told["exit_status"] == 1


def test_sigterm_ends_all_workers_in_good_order(tmp_path: Path) -> None:
    told = run(tmp_path, ["x", "x", "stop", "stop", "x", "x"])
    statuses = [row[1] for row in told["rows"]]
    assert told["exit_status"] == 143
    assert len(statuses) == 6
    assert "failed" not in statuses
    assert statuses.count("not done") >= 1
    done = {row[0] for row in told["rows"] if row[1] == "done"}
    finished = {f"{path.stem}.txt" for path in (tmp_path / "out").glob("*.json")}
    assert done <= finished
    # A signal between the record and its row leaves the row "not done"; the next run skips this input.
    assert len(finished - done) <= 2
    assert not list((tmp_path / "out").glob(".*"))
