from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from cryoseg.errors import OutputError
from cryoseg.io.inputs import resolve_inputs
from cryoseg.io.outputs import (
    atomic_output,
    atomic_text,
    check_names,
    hidden_path,
    make_folder,
    temporary_path,
)


def write_then_fail(final: Path, error: BaseException) -> None:
    with atomic_output(final, overwrite=True) as temporary:
        temporary.write_text("half")
        raise error


def test_file_appears_only_at_the_end(tmp_path):
    final = tmp_path / "new" / "folder" / "o.mrc"
    with atomic_output(final) as temporary:
        assert temporary.parent == final.parent
        assert temporary.suffix == final.suffix
        temporary.write_text("done")
        assert not final.exists()
    assert final.read_text() == "done"
    assert list(final.parent.iterdir()) == [final]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_nothing_stays_when_the_block_fails(tmp_path, error):
    final = tmp_path / "o.mrc"
    final.write_text("old")
    with pytest.raises(error):
        write_then_fail(final, error())
    assert final.read_text() == "old"
    assert list(tmp_path.iterdir()) == [final]


def test_existing_file_is_refused_before_the_work(tmp_path):
    final = tmp_path / "o.mrc"
    final.write_text("old")
    with pytest.raises(OutputError, match="--overwrite"), atomic_output(final):
        pytest.fail("the block must not run")
    assert final.read_text() == "old"


def test_file_that_appears_meanwhile_is_kept(tmp_path):
    final = tmp_path / "o.mrc"

    def race() -> None:
        with atomic_output(final) as temporary:
            temporary.write_text("ours")
            final.write_text("theirs")

    with pytest.raises(OutputError, match="--overwrite"):
        race()
    assert final.read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [final]


def test_folder_of_the_name_is_refused(tmp_path):
    with pytest.raises(OutputError, match="folder of this name"), atomic_output(tmp_path, overwrite=True):
        pytest.fail("the block must not run")


def test_path_through_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for final in (tmp_path / "file" / "o.mrc", tmp_path / "file" / "deeper" / "o.mrc"):
        with pytest.raises(OutputError, match="is a file, not a folder"), atomic_output(final):
            pytest.fail("the block must not run")
    with pytest.raises(OutputError, match="is a file, not a folder"):
        make_folder(tmp_path / "file" / "deeper")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EACCES, "may not write"),
        (errno.EROFS, "read-only"),
        (errno.EDQUOT, "quota"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_system_errors_become_a_sentence(tmp_path, number, words):
    with pytest.raises(OutputError, match=words) as caught:
        write_then_fail(tmp_path / "o.mrc", OSError(number, os.strerror(number)))
    assert str(caught.value).startswith(str(tmp_path / "o.mrc"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_folder_without_permission(tmp_path):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    with pytest.raises(OutputError, match="may not write"), atomic_output(closed / "new" / "o.mrc"):
        pytest.fail("the block must not run")


def test_longest_name_has_a_temporary_one(tmp_path):
    final = tmp_path / ("x" * 250 + ".mrc")
    with atomic_output(final) as temporary:
        temporary.write_text("done")
    assert final.exists()


def test_leftovers_of_a_killed_run_are_no_inputs(tmp_path):
    temporary_path(tmp_path / "o.mrc").write_text("half")
    (tmp_path / "t.mrc").write_text("x")
    assert [item.path.name for item in resolve_inputs([str(tmp_path)])] == ["t.mrc"]


def test_make_folder_is_content_with_an_existing_one(tmp_path):
    assert make_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert make_folder(tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["n" * 251, "断" * 83 + "nn"])
def test_longest_names_can_be_written(tmp_path, name):
    final = tmp_path / f"{name}.mrc"
    check_names([final])
    with atomic_output(final) as temporary:
        temporary.write_text("done")
    assert final.read_text() == "done"
    assert len(os.fsencode(hidden_path(final, "claim").name)) < 143
    other = final.with_name(f"m{final.name[1:]}")
    assert hidden_path(final, "claim") != hidden_path(other, "claim")


def test_too_long_name_is_refused_before_the_work(tmp_path):
    with pytest.raises(OutputError, match=r"too long .*\(256 bytes, 255 are allowed\)"):
        check_names([tmp_path / "a", tmp_path / "new" / ("n" * 252 + ".mrc")])


def test_text_is_utf8_and_keeps_the_bytes_of_names(tmp_path):
    with atomic_text(tmp_path / "t.csv") as stream:
        stream.write(f"µ,{os.fsdecode(bytes([0xFC]))}\n")
    assert (tmp_path / "t.csv").read_bytes() == "µ,".encode() + b"\xfc\n"
