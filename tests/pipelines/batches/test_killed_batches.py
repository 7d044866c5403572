"""kill -9 at random moments of a batch, then a rerun: exactly what an undisturbed run gives."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("killed_batches.py")
# What differs between two runs with the same result.
OF_THE_RUN = ("seconds", "peak_memory_bytes")


def run(folder: Path, *model: Path, inputs: int, kills: int) -> dict[str, Any]:
    command = [sys.executable, SCRIPT, folder, str(inputs), str(kills), "7", *model]
    outcome = subprocess.run(command, capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
    return json.loads(outcome.stdout.splitlines()[-1])


def check(folder: Path, told: dict[str, Any], files: int) -> None:
    assert told["exit_status"] == 0
    quiet, killed = (
        {path.name: path for path in (folder / name).iterdir() if not path.name.startswith(".")}
        for name in ("quiet", "killed")
    )
    assert len(quiet) == files
    assert set(quiet) == set(killed)
    for name, path in quiet.items():
        if path.suffix == ".json":
            mine, theirs = (
                {key: value for key, value in json.loads(file.read_text()).items() if key not in OF_THE_RUN}
                for file in (path, killed[name])
            )
            assert mine == theirs, name
        else:
            assert path.read_bytes() == killed[name].read_bytes(), name
    left = [path.name for path in (folder / "killed").glob(".cryoseg-*")]
    assert left == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_batch_killed_twelve_times(tmp_path: Path) -> None:
    told = run(tmp_path, inputs=24, kills=12)
    assert told["kills"] == 12
    check(tmp_path, told, files=24 * 3)


@pytest.mark.slow
def test_sixty_tomograms_and_twenty_kills(tmp_path: Path, model: Path) -> None:
    told = run(tmp_path, model, inputs=60, kills=20)
    assert told["kills"] == 20
    check(tmp_path, told, files=60 * 5)
