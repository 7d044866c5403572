"""`cryoseg weights` as a user types it."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from cryoseg.cli.weights import app
from cryoseg.errors import WeightsError
from cryoseg.methods.weights import WEIGHTS, package_folder
from cryoseg.pipelines.data.weights import markdown_table

_BUFFER = io.BytesIO()
torch.save({"model": {"a": torch.zeros(10)}}, _BUFFER)
BODY = _BUFFER.getvalue()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("CRYOSEG_CHECKPOINTS", str(tmp_path / "weights"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str):
    return CliRunner().invoke(app, list(arguments))


def test_list_has_a_line_for_every_file(home):
    result = run("list")
    assert result.exit_code == 0
    for name, entry in WEIGHTS.items():
        assert name in result.stdout
        assert entry.licence in result.stdout
    assert "missing; put it at" in result.stdout


def test_list_as_markdown_is_the_committed_table(home):
    assert run("list", "--markdown").stdout == markdown_table()


def test_path_prints_the_search_order(home):
    result = run("path", "--checkpoints-dir", "here")
    assert [line.split("  ")[0].strip() for line in result.stdout.splitlines()] == [
        "--checkpoints-dir",
        "CRYOSEG_CHECKPOINTS",
        "./checkpoints",
        "user cache",
        "cache of ETSAM",
        "package",
    ]
    assert "downloads go here" in result.stdout.splitlines()[0]
    assert str(package_folder()) in result.stdout


def test_path_of_a_name(home):
    (home / "weights").mkdir()
    (home / "weights" / "etsam_stage1_v1.pt").write_bytes(BODY)
    assert run("path", "etsam-stage1").stdout.strip() == str(home / "weights" / "etsam_stage1_v1.pt")
    missing = run("path", "etsam_stage2")
    assert isinstance(missing.exception, WeightsError)
    assert "etsam_stage2_v1.pt" in str(missing.exception)


def test_download_and_verify(home, file_server, served, monkeypatch):
    file_server.files["/sam_vit_b.pth"] = served(BODY)
    entry = replace(
        WEIGHTS["sam_vit_b"], url=file_server.url + "/sam_vit_b.pth", md5=hashlib.md5(BODY).hexdigest()
    )
    monkeypatch.setitem(WEIGHTS, "sam_vit_b", entry)
    result = run("download", "sam_vit_b", "--checkpoints-dir", "mine")
    assert result.exit_code == 0, result.output
    assert (home / "mine" / entry.file_name).read_bytes() == BODY
    assert "done" in result.stdout
    again = run("download", "sam_vit_b", "--checkpoints-dir", "mine")
    assert again.exit_code == 0
    assert "kept" in again.stdout
    assert run("verify", "--checkpoints-dir", "mine", "sam_vit_b").exit_code == 0
    (home / "mine" / entry.file_name).write_bytes(b"<html>oops</html>")
    broken = run("verify", "--checkpoints-dir", "mine", "sam_vit_b")
    assert broken.exit_code == 1
    assert "an HTML page" in broken.stderr


def test_download_offline_fails_with_the_way_by_hand(home, monkeypatch):
    monkeypatch.setenv("CRYOSEG_OFFLINE", "1")
    result = run("download", "etsam")
    assert result.exit_code == 1
    text = re.sub(r"\s+", " ", result.stderr)
    for stage in (1, 2):
        assert f"https://zenodo.org/records/17571925/files/etsam_stage{stage}_v1.pt" in text
        assert str(home / "weights" / f"etsam_stage{stage}_v1.pt") in text


@pytest.mark.parametrize("arguments", [["download"], ["download", "etsam", "--all"]])
def test_download_needs_names_or_all(home, arguments):
    result = run(*arguments)
    assert result.exit_code == 2
    assert "--all" in result.stderr


def test_unknown_name(home):
    assert isinstance(run("download", "resnet").exception, WeightsError)
    assert isinstance(run("verify", "resnet").exception, WeightsError)


def test_help_list_and_path_start_no_torch(home):
    script = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from cryoseg.cli.weights import app\n"
        "for arguments in (['--help'], ['list'], ['path'], ['verify']):\n"
        "    assert CliRunner().invoke(app, arguments).exit_code == 0, arguments\n"
        "assert not {'torch', 'sam2', 'huggingface_hub'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
