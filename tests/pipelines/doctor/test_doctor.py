"""What the doctor calls right and wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from cryoseg.cli.app import app
from cryoseg.pipelines import doctor
from cryoseg.pipelines.doctor import (
    CROP,
    SHARE_MARKED,
    Check,
    Diagnosis,
    Verdict,
    compare_mask,
    examine,
    run_self_test,
)


def half_marked(shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Truth with the recorded share of its voxels marked, and the same shifted along z."""
    truth = np.zeros((200, 10, 20), bool)
    truth[: round(200 * SHARE_MARKED)] = True
    return np.roll(truth, shift, axis=0), truth


def test_the_self_test_passes_here() -> None:
    test = run_self_test()
    assert test.is_right, test


def test_the_crop_lies_within_the_sample() -> None:
    assert all(0 <= part.start < part.stop <= side for part, side in zip(CROP, (40, 192, 192), strict=True))


def test_a_right_answer_a_wrong_place_and_a_wrong_amount() -> None:
    assert compare_mask(*half_marked()).is_right
    assert compare_mask(*half_marked()).dice == 1.0
    shifted, truth = half_marked(shift=50)
    assert compare_mask(shifted, truth).dice == 0.0
    assert not compare_mask(shifted, truth).is_right
    assert not compare_mask(np.zeros_like(truth), truth).is_right
    assert not replace(compare_mask(*half_marked()), is_unchanged=False).is_right


def named(diagnosis: Diagnosis, name: str) -> Check:
    return next(check for check in diagnosis.checks if check.name == name)


def test_a_healthy_installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    diagnosis = examine(device="cpu", checkpoints_dir=tmp_path / "later" / "weights", self_test=False)
    assert diagnosis.is_well
    assert named(diagnosis, "numpy").found == np.__version__
    assert named(diagnosis, "device").found == "cpu, by --device cpu"
    assert "membrane_tiny.safetensors" in named(diagnosis, "membrane_tiny").found
    assert "etsam_stage1" in named(diagnosis, "other weights").found
    assert "writable" in named(diagnosis, "weights folder").found


@pytest.mark.parametrize(("free", "verdict"), [(None, "doubtful"), (10**9, "doubtful"), (9 * 10**9, "ok")])
def test_memory_that_is_unknown_scarce_and_enough(free, verdict, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "available_memory", lambda: free)
    memory = next(check for check in doctor._machine() if check.name == "memory")
    assert memory.verdict == verdict
    assert free is None or f"{free / 1e9:.1f}" in memory.found


def test_missing_broken_and_unfitting_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    from packaging.specifiers import SpecifierSet

    def load(module: str) -> None:
        if module == "scipy":
            raise OSError("libsomething.so: cannot open shared object file")

    monkeypatch.setattr(doctor.importlib, "import_module", load)
    monkeypatch.setattr(doctor, "PACKAGES", {"no-such-thing": "x", "scipy": "scipy", "numpy": "numpy"})
    monkeypatch.setattr(doctor, "_requirements", lambda: {"numpy": SpecifierSet("<1")})
    absent, broken, unfit = doctor._packages()
    assert (absent.verdict, absent.advice) == (Verdict.WRONG, "pip install 'no-such-thing'")
    assert broken.verdict is Verdict.WRONG
    assert "libsomething.so" in broken.found
    assert unfit.verdict is Verdict.WRONG
    assert "numpy<1" in unfit.advice


def test_one_failing_check_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("driver gone")

    monkeypatch.setattr(doctor, "_machine", fail)
    diagnosis = examine(device="cuda:99", self_test=False)
    assert named(diagnosis, "machine").found == "RuntimeError: driver gone"
    assert "--device cuda:99" in named(diagnosis, "devices").advice
    assert named(diagnosis, "weights folder")
    assert not diagnosis.is_well


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("")
    check = next(one for one in doctor._folders(tmp_path / "weights") if one.name == "weights folder")
    assert check.verdict is Verdict.DOUBTFUL
    assert "not writable" in check.found


@pytest.mark.parametrize(("verdict", "status"), [("ok", 0), ("doubtful", 0), ("wrong", 1)])
def test_the_command_s_table_json_and_exit_status(verdict, status, monkeypatch) -> None:
    check = Check(name="glue", verdict=Verdict(verdict), found="none", advice="buy some")
    monkeypatch.setattr(doctor, "examine", lambda **_: Diagnosis(checks=(check,)))
    table = CliRunner().invoke(app, ["doctor"])
    assert table.exit_code == status
    assert "glue" in table.output
    assert verdict in table.output
    report = CliRunner().invoke(app, ["doctor", "--json"])
    assert report.exit_code == status
    told = json.loads(report.output)
    assert told["ok"] is (status == 0)
    assert told["checks"] == [{"name": "glue", "verdict": verdict, "found": "none", "advice": "buy some"}]


def test_help_starts_no_torch() -> None:
    code = (
        "import sys; from typer.testing import CliRunner; from cryoseg.cli.app import app; "
        "r = [CliRunner().invoke(app, a) for a in (['doctor', '--help'], ['rerun', '--help'])]; "
        "assert all(x.exit_code == 0 for x in r); "
        "bad = {'torch', 'sam2', 'numpy', 'scipy', 'packaging'} & set(sys.modules); assert not bad, bad"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert outcome.returncode == 0, outcome.stderr
