"""The script that is printed, and what is sent to a cluster."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.cli.batch_options import sent_arguments
from cryoseg.config.batch import ClusterConfig, Shard, parse_sbatch_options
from cryoseg.errors import ConfigError
from cryoseg.events import Report, Row, Status, ignore
from cryoseg.pipelines.batches.report import write_report
from cryoseg.pipelines.batches.slurm import Part, run_on_slurm, sbatch_script


def test_the_script_runs_its_shard(tmp_path: Path) -> None:
    cluster = ClusterConfig(tasks=7, option_texts=("partition=gpu", "exclusive", "time=1:00:00"))
    arguments = ["segment", "my tomograms/*.mrc", "-o", "out"]
    text = sbatch_script(arguments, cluster, folder=tmp_path, python="/bin/echo")
    lines = text.splitlines()
    assert lines[0] == "#!/bin/bash"
    for option in ("array=1-7", "partition=gpu", "exclusive", "time=1:00:00", "requeue"):
        assert f"#SBATCH --{option}" in lines
    # With echo for Python the script tells what it would run.
    outcome = subprocess.run(
        ["bash", "-c", text],
        capture_output=True,
        text=True,
        check=True,
        env={"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "7", "PATH": "/usr/bin:/bin"},
    )
    assert outcome.stdout == "-m cryoseg segment my tomograms/*.mrc -o out --shard 3/7\n"


def test_the_command(tmp_path: Path) -> None:
    def script(*arguments: str) -> tuple[int, str]:
        outcome = CliRunner().invoke(app, ["cluster", "script", *arguments])
        return outcome.exit_code, outcome.output + str(outcome.exception or "")

    status, text = script("--cluster-tasks", "2", "cryoseg", "pick", "a.mrc", "--dry-run")
    assert status == 0, text
    assert "cryoseg pick a.mrc --dry-run --shard" in text
    for wrong, words in (
        (["train", "x"], "segment, pick, evaluate"),
        (["segment", "a.mrc", "--shard", "1/2"], "--shard"),
        (["evaluate", "segmentation", "a", "b"], "--scores"),
        (["--cluster-tasks", "0", "segment", "a"], "--cluster-tasks"),
        (["--cluster-option", "array=3", "segment", "a"], "set by cryoseg"),
    ):
        status, text = script(*wrong)
        assert status == 1
        assert words in text


def test_options_of_sbatch() -> None:
    assert parse_sbatch_options(["partition=a", "--mem=4G", "exclusive"]) == {
        "partition": "a",
        "mem": "4G",
        "exclusive": "",
    }
    with pytest.raises(ConfigError, match="--cluster-option"):
        parse_sbatch_options(["=x"])


def test_what_matters_here_is_not_sent() -> None:
    typed = ["segment", "a.mrc", "--cluster", "slurm", "--cluster-option=mem=4G", "-o", "out"]
    typed += ["--cluster-tasks", "3", "--report", "r.csv", "--post-process"]
    assert sent_arguments(typed) == ["segment", "a.mrc", "-o", "out", "--post-process"]


def test_without_slurm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="login node"):
        run_on_slurm(["segment"], ClusterConfig(), logs=tmp_path, on_event=ignore)


def test_a_command_that_cannot_begin_is_not_tried_for_ever(tmp_path: Path) -> None:
    report = tmp_path / "rows_1-of-2.json"
    part = Part(("segment", "--no-such-option"), str(tmp_path), report)
    assert part() == 2
    assert "status 2" in report.read_text()


class Executor:
    """As submitit's; of the first array, the second task is lost."""

    arrays = 0

    def __init__(self, finish: Callable[[Part], None], *, folder: Path) -> None:
        self._finish = finish
        self._submitted = 0

    def update_parameters(self, **parameters: object) -> None:
        pass

    @contextmanager
    def batch(self) -> Iterator[None]:
        Executor.arrays += 1
        yield

    def submit(self, part: Part) -> types.SimpleNamespace:
        if Executor.arrays > 1 or "1/2" in part.arguments:
            self._finish(part)
        self._submitted += 1
        return types.SimpleNamespace(job_id=f"{Executor.arrays}_{self._submitted - 1}")


def test_what_leaves_the_queue_without_a_table_is_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished: list[Part] = []

    def finish(part: Part) -> None:
        finished.append(part)
        shard = Shard.parse(part.arguments[part.arguments.index("--shard") + 1])
        rows = [
            Row(name=f"{n}", status=Status.DONE, path=Path(f"{n}"))
            for n in range(5)
            if n % 2 == shard.index - 1
        ]
        write_report(part.report, Report(rows=rows))

    for name in ("sbatch", "squeue"):
        program = tmp_path / name
        program.write_text("#!/bin/sh\nexit 0\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    module = types.ModuleType("submitit")
    module.SlurmExecutor = partial(Executor, finish)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "submitit", module)
    cluster = ClusterConfig(tasks=2, poll_seconds=0.01)
    report = run_on_slurm(["segment"], cluster, logs=tmp_path / "logs", on_event=ignore)
    assert [row.name for row in report.rows] == ["0", "1", "2", "3", "4"]
    assert len(finished) == 2
    assert report.exit_status == 0
