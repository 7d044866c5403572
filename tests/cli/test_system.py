from __future__ import annotations

import errno
import os
import re
import subprocess
import sys

import pytest

from cryoseg.cli.app import describe_system_error, main

# The program as users run it, on sample data, in one line of a shell.
LIST = f"{sys.executable} -c 'from cryoseg.cli.app import main; main()' weights list"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", line],
        capture_output=True,
        env={**os.environ, **environment},
        timeout=60,
    )


def test_full_disk_under_the_output_is_one_sentence():
    done = shell(f"{LIST} > /dev/full")
    assert done.returncode == 1
    assert done.stderr.startswith(b"Error: standard output: cannot be written (No space left on device)")
    assert done.stderr.count(b"\n") == 1


def test_empty_argument_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["cryoseg", "postprocess", "", "-o", "out"])  # an unset "$TOMOGRAM"
    with pytest.raises(SystemExit, match="1"):
        main()
    assert "An argument is empty" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_removed_current_folder_is_one_sentence(tmp_path):
    done = shell(f"mkdir {tmp_path}/gone && cd {tmp_path}/gone && rmdir {tmp_path}/gone && {LIST}")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"The current folder was removed" in done.stderr


@pytest.mark.parametrize("end", ["| true", "2>&1 1>/dev/null | true", ">&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_reader_that_leaves_is_no_failure(end):
    done = shell(f"{LIST} {end}")
    assert (done.returncode, done.stderr) == (0, b"")


def test_text_that_the_locale_lacks_is_printed(tmp_path):
    (tmp_path / "Pröbchen.txt").write_text("Wüste.mrc\n", encoding="utf-8")
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    line = LIST.replace("weights list", f"postprocess {tmp_path}/Pröbchen.txt -o {tmp_path}/o")
    done = shell(line, **locale)
    assert done.returncode == 1
    assert b"Error: W\\udcc3\\udcbcste.mrc: no such file" in done.stderr


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "The memory that this process may use does not suffice"),
        (
            ImportError("libtorch_cpu.so: failed to map segment from shared object"),
            "libtorch_cpu.so: .*ulimit",
        ),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "does not suffice"),
        (PermissionError(errno.EACCES, "Permission denied", "/data/x"), "/data/x: Permission denied"),
    ],
)
def test_errors_of_the_system_are_sentences(error, words):
    sentence = describe_system_error(error)
    assert sentence is not None
    assert re.search(words, sentence)


@pytest.mark.parametrize("error", [ImportError("No module named 'x'"), OSError("odd")])
def test_defects_stay_defects(error):
    assert describe_system_error(error) is None
