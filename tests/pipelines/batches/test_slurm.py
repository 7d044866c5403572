"""Batches on a real Slurm of one node, started here on the loopback interface and stopped at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from cryoseg.io.images.volumes import write_logits
from cryoseg.types import Geometry

pytestmark = pytest.mark.slurm

CONFIGURATION = """
ClusterName=t
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SchedulerType=sched/backfill
ReturnToService=2
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=p Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""
PATIENCE_SECONDS = 900


def call(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )


def wait_for(text: str, *command: str, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while True:
        told = call(*command)
        if text in told.stdout:
            return
        if time.monotonic() > until:
            pytest.fail(f"{command}: no {text!r} in {told.stdout!r} {told.stderr!r}")
        time.sleep(0.5)


def start_munge() -> int | None:
    """The process id of a munged that was started here; None if one runs already."""
    if call("bash", "-c", "munge -n | unmunge").returncode == 0:
        return None
    for folder in ("/run/munge", "/etc/munge", "/var/log/munge", "/var/lib/munge"):
        Path(folder).mkdir(exist_ok=True)
        shutil.chown(folder, "munge", "munge")
    key = Path("/etc/munge/munge.key")
    if not key.exists():
        key.write_bytes(os.urandom(1024))
        shutil.chown(key, "munge", "munge")
        key.chmod(0o400)
    call("setpriv", "--reuid=munge", "--regid=munge", "--clear-groups", "munged", "--force")
    wait_for("Success", "bash", "-c", "munge -n | unmunge")
    return int(Path("/run/munge/munged.pid").read_text())


def stop(pid: int) -> None:
    """End a process that was started here."""
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm that takes jobs; skips where its programs are missing."""
    missing = [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if shutil.which(name) is None]
    reason = f"no {', '.join(missing)}: apt-get install slurm-wlm munge" if missing else ""
    if os.geteuid() != 0:
        reason = "slurmd starts jobs as other users, for which it must be root"
    if reason:
        assert os.environ.get("CRYOSEG_TEST_SLURM") != "1", reason
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("state", "spool"):
        (folder / name).mkdir()
    configuration = folder / "slurm.conf"
    host = socket.gethostname().split(".")[0]
    configuration.write_text(CONFIGURATION.format(host=host, folder=folder))
    started = [pid] if (pid := start_munge()) else []
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(configuration)
    try:
        for daemon in ("slurmctld", "slurmd"):
            told = call(daemon, "-f", str(configuration))
            assert told.returncode == 0, told.stderr
            time.sleep(3)
            started.append(int((folder / f"{daemon}.pid").read_text()))
        wait_for("idle", "sinfo", "-h", "-o", "%T")
        yield
    finally:
        for pid in reversed(started):
            stop(pid)
        if before is None:
            del os.environ["SLURM_CONF"]
        else:
            os.environ["SLURM_CONF"] = before


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """Four small tomograms and a broken one."""
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(4):
        data = np.random.default_rng(number).normal(0, 1, (4, 32, 40)).astype(np.float32)
        write_logits(folder / f"ts_{number}.mrc", data, Geometry(voxel_size=(12.0,) * 3), label="x")
    (folder / "ts_4.mrc").write_text("broken")
    return folder


def cryoseg(*arguments: object, folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cryoseg", *map(str, arguments)],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def segment() -> list[str]:
    return ["segment", "in", "-o", "out", "--model", "membrane-tiny", "--device", "cpu", "--post-process"]


def statuses(report: Path) -> dict[str, str]:
    return {Path(row["input"]).name: row["status"] for row in json.loads(report.read_text())["rows"]}


WANTED = {f"ts_{number}.mrc": "done" for number in range(4)} | {"ts_4.mrc": "failed"}


@pytest.mark.usefixtures("slurm")
def test_an_array_is_submitted_followed_and_collected(inputs: Path, tmp_path: Path) -> None:
    cluster = ["--cluster", "slurm", "--cluster-tasks", "2", "--cluster-option", "time=30"]
    process = cryoseg(*segment(), *cluster, "--report", "run.json", folder=tmp_path)
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1, out + err  # one input is broken
    assert list(statuses(tmp_path / "run.json").items()) == list(WANTED.items())
    assert "2 tasks" in err
    assert len(list((tmp_path / "out").glob("*_membrane_mask.mrc"))) == 4
    assert "ts_3.mrc" in out


@pytest.mark.usefixtures("slurm")
def test_preempted_work_is_submitted_again(inputs: Path, tmp_path: Path) -> None:
    cluster = ["--cluster", "slurm", "--cluster-tasks", "2", "--cluster-option", "time=30"]
    process = cryoseg(*segment(), *cluster, "--report", "run.json", folder=tmp_path)
    # Slurm calls a task running before its processes are there to be killed.
    log = "cat out/cluster_logs/submitit/*_0_0_log.out 2>/dev/null"
    wait_for("Loading pickle", "bash", "-c", f"cd {tmp_path} && {log}", seconds=PATIENCE_SECONDS)
    # The task is gone without a word, as on a node that fails.
    running = call("squeue", "-h", "-r", "-t", "RUNNING", "-o", "%i").stdout.split()
    assert call("scancel", "--full", "--signal=KILL", running[0]).returncode == 0
    out, err = process.communicate(timeout=PATIENCE_SECONDS)
    assert "submitted again" in err
    assert statuses(tmp_path / "run.json") == WANTED, out + err


@pytest.mark.usefixtures("slurm")
def test_the_printed_script_runs(inputs: Path, tmp_path: Path) -> None:
    script = cryoseg("cluster", "script", "--cluster-tasks", "2", *segment(), folder=tmp_path)
    text, _ = script.communicate(timeout=PATIENCE_SECONDS)
    (tmp_path / "run.sh").write_text(text)
    job = subprocess.run(
        ["sbatch", "--wait", "run.sh"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert job.returncode == 1, job.stderr  # one input is broken
    logs = "".join(path.read_text() for path in sorted(tmp_path.glob("cryoseg_*.log")))
    assert "Shard 1/2: 3 of 5 inputs" in logs
    assert "Shard 2/2: 2 of 5 inputs" in logs
    assert len(list((tmp_path / "out").glob("*_membrane_post_processed_mask.mrc"))) == 4
