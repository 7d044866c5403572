"""Threads of the networks wait briefly and are no more than the processors, unless the user chose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cryoseg import machine
from cryoseg.machine import CHOICES, SHORT_WAIT, THREADS, prepare_openmp, processors


def test_short_waits_are_set_where_the_user_chose_nothing() -> None:
    environment = {"HOME": "/"}
    prepare_openmp(environment, workers=1)
    assert environment == {"HOME": "/", **SHORT_WAIT}


@pytest.mark.parametrize("name", CHOICES)
def test_a_choice_of_the_user_is_kept(name: str) -> None:
    environment = {name: "ACTIVE"}
    prepare_openmp(environment)
    assert environment == {name: "ACTIVE"}


def _group(root: Path, files: dict[str, str], listed: str) -> Path:
    for name, text in {"proc/self/cgroup": listed, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.mark.parametrize(
    ("files", "listed", "expected"),
    [
        ({}, "", 8),
        ({"sys/fs/cgroup/a/cpu.max": "250000 100000\n"}, "0::/a/b\n", 2),
        ({"sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, "0::/a/b\n", 8),
        ({"sys/fs/cgroup/cpu.max": "50000 100000\n"}, "0::/\n", 1),
        (
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            "3:cpu,cpuacct:/job\n2:memory:/job\n",
            3,
        ),
        (
            {
                "sys/fs/cgroup/cpu/job/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/job/cpu.cfs_period_us": "100000\n",
            },
            "3:cpu:/job\n",
            8,
        ),
    ],
)
def test_processors_respect_the_quota_of_every_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: dict[str, str], listed: str, expected: int
) -> None:
    monkeypatch.setattr(machine, "_affinity", lambda: 8)
    assert processors(_group(tmp_path, files, listed)) == expected


@pytest.mark.parametrize(("workers", "expected"), [(1, None), (2, "4"), (3, "2"), (20, "1")])
def test_worker_processes_share_the_processors(
    monkeypatch: pytest.MonkeyPatch, workers: int, expected: str | None
) -> None:
    monkeypatch.setattr(machine, "_affinity", lambda: 8)
    monkeypatch.setattr(machine, "processors", lambda: 8)
    monkeypatch.setattr(machine, "_chosen_by_user", False)
    environment: dict[str, str] = {}
    prepare_openmp(environment, workers=workers)
    assert environment.get(THREADS) == expected


def test_a_number_of_threads_that_the_user_chose_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "processors", lambda: 2)
    monkeypatch.setattr(machine, "_chosen_by_user", True)
    environment = {THREADS: "7"}
    prepare_openmp(environment, workers=2)
    assert environment[THREADS] == "7"


@pytest.mark.parametrize("policy", [None, "ACTIVE"])
def test_a_command_sets_them_before_torch_is_imported(policy: str | None) -> None:
    code = """
import os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
sys.meta_path.insert(0, Watch())
sys.argv = ["cryoseg", "segment", "no_such_file.mrc", "-q"]
from cryoseg.cli.app import main
main()
"""
    environment = {name: value for name, value in os.environ.items() if name not in CHOICES}
    if policy is not None:
        environment["OMP_WAIT_POLICY"] = policy
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    expected = "None ACTIVE" if policy else f"{SHORT_WAIT['GOMP_SPINCOUNT']} None"
    assert done.stdout.splitlines()[0] == expected, done.stderr
