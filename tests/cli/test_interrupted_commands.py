"""Ctrl-C and SIGTERM leave nothing half-written, and the command says what was done."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import mrcfile
import numpy as np
import pytest

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


@pytest.fixture
def stopped(tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """Runs a command, sends it a signal once a file is there, and gives its status and text."""

    def run(signum: signal.Signals, sign: Callable[[], bool], *arguments: object) -> tuple[int, str]:
        # A shell's background jobs ignore Ctrl-C; what is tested is a command in a terminal.
        code = (
            "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "sys.argv[0] = 'cryoseg'; from cryoseg.cli.app import main; main()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        until = time.monotonic() + 400
        while not sign() and process.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        process.send_signal(signum)
        text, _ = process.communicate(timeout=200)
        return process.returncode, " ".join(text.split())

    return run


def scraps(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.name.startswith(".") or path.suffix == ".part"]


@pytest.mark.parametrize(
    ("signum", "workers"), [(signal.SIGTERM, 1), (signal.SIGINT, 2)], ids=["one SIGTERM", "two Ctrl-C"]
)
def test_a_simulation_keeps_what_is_whole_and_goes_on(
    stopped, tmp_path: Path, signum: signal.Signals, workers: int
) -> None:
    out = tmp_path / "out"
    begun = ["simulate", "micrographs", "--shape", "64x64", "--particle-diameter-px", "10:14", "-o", out]
    begun += ["--workers", workers]
    status, text = stopped(signum, lambda: (out / "sim_0006.json").exists(), *begun, "-n", 4000)
    assert status == STATUS[signum], text
    assert "Simulated micrographs" in text
    assert re.search(r"Interrupted: .*\. Run the same command again to continue\.", text)
    assert "Traceback" not in text
    assert not scraps(out)
    # Two workers finish in any order: what is whole is kept, and the summary names it.
    records = sorted(path.stem for path in out.glob("*.json"))
    assert "sim_0006" in records
    assert all((out / f"{record}_micrograph.mrc").is_file() for record in records)
    assert any(f"{record}_micrograph.mrc" in text for record in records)


@pytest.mark.slow
def test_a_training_leaves_a_state_to_go_on_from(stopped, tmp_path: Path) -> None:
    data = np.random.default_rng(1).normal(0, 1, (17, 46, 51)).astype(np.float32)
    with mrcfile.new(tmp_path / "ts.mrc", data) as file:
        file.voxel_size = 10.0
    (tmp_path / "labels.csv").write_text("x,y,z\n15,12,7\n34,30,9\n12,33,6\n37,14,8\n")
    run = tmp_path / "run"
    words = ["train", "cet-pick", "-t", tmp_path / "ts.mrc", "-p", tmp_path / "labels.csv", "-o", run]
    words += ["--particle-diameter", "50", "--batch", "1", "--crop", "2x32x32", "--device", "cpu"]
    status, text = stopped(
        signal.SIGTERM, lambda: (run / "last.pt").exists(), *words, "--no-pictures", "--steps", 100000
    )
    assert status == 143, text
    assert "Run the same command again to continue." in text
    assert "Traceback" not in text
    assert not scraps(run)
    assert not list(run.glob("*.safetensors"))
    assert (run / "last.pt").exists()


@pytest.mark.slow
def test_an_evaluation_keeps_its_scores_and_goes_on(stopped, tmp_path: Path) -> None:
    mask = (np.random.default_rng(0).random((24, 160, 160)) > 0.7).astype(np.int8)
    for folder in ("pred", "truth"):
        (tmp_path / folder).mkdir()
        with mrcfile.new(tmp_path / folder / "0.mrc", mask) as file:
            file.voxel_size = 10.0
        for number in range(1, 40):
            os.link(tmp_path / folder / "0.mrc", tmp_path / folder / f"{number}.mrc")
    scores = tmp_path / "scores"
    words = ["evaluate", "segmentation", tmp_path / "pred", tmp_path / "truth", "--scores", scores]
    words += ["--metrics", "all", "-o", tmp_path / "all.json"]
    status, text = stopped(signal.SIGINT, lambda: len(list(scores.glob("*_score.json"))) > 2, *words)
    assert status == 130, text
    assert "Interrupted:" in text
    assert "not done. Run the same command again to continue." in text
    assert "Traceback" not in text
    assert not scraps(scores)
    assert not (tmp_path / "all.json").exists()
    kept = len([path for path in scores.iterdir() if path.suffix == ".json"])
    assert 2 <= kept < 40
