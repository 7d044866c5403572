"""Limits of machine, control groups and Slurm, from made-up files."""

from __future__ import annotations

from pathlib import Path

import pytest

from cryoseg.io.images.memory import GIB, available_memory


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write(tmp_path / "proc/meminfo", f"MemTotal: 99 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    write(tmp_path / "proc/self/statm", f"1 {GIB // 4096} 1")
    write(tmp_path / "proc/self/cgroup", "0::/user/job\n")
    return tmp_path


def test_the_machine(root: Path) -> None:
    assert available_memory(root=root, environment={}) == 8 * GIB


def test_the_tightest_control_group_above_counts(root: Path) -> None:
    group = root / "sys/fs/cgroup/user"
    write(group / "job/memory.max", "max\n")
    write(group / "memory.max", f"{5 * GIB}\n")
    write(group / "memory.current", f"{3 * GIB}\n")
    write(group / "memory.stat", f"anon 1\ninactive_file {GIB}\n")
    assert available_memory(root=root, environment={}) == 3 * GIB


def test_version_1_of_control_groups(root: Path) -> None:
    write(root / "proc/self/cgroup", "5:cpu:/x\n4:memory:/job\n")
    group = root / "sys/fs/cgroup/memory/job"
    write(group / "memory.limit_in_bytes", f"{2 * GIB}")
    write(group / "memory.usage_in_bytes", f"{GIB}")
    assert available_memory(root=root, environment={}) == GIB


def test_a_slurm_job(root: Path) -> None:
    assert available_memory(root=root, environment={"SLURM_MEM_PER_NODE": "4096"}) == 3 * GIB
    assert available_memory(root=root, environment={"SLURM_MEM_PER_NODE": "0"}) == 8 * GIB


def test_a_group_over_its_limit_has_nothing_left(root: Path) -> None:
    write(root / "sys/fs/cgroup/user/memory.max", "10")
    write(root / "sys/fs/cgroup/user/memory.current", "20")
    assert available_memory(root=root, environment={}) == 0


def test_here() -> None:
    free = available_memory()
    assert free is None or free > 0
