from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from cryoseg.errors import InputError
from cryoseg.io.inputs import expand_home, is_file


def test_home_is_expanded_and_nothing_else(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert expand_home("~/data/*.mrc") == Path("/home/ada/data/*.mrc")
    assert expand_home(Path("~")) == Path("/home/ada")
    assert expand_home("data/~/x.mrc") == Path("data/~/x.mrc")
    # An editor's copy, of no user's home.
    assert expand_home("~old.mrc") == Path("~old.mrc")


def test_account_without_a_home_is_told(monkeypatch):
    def no_entry(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(InputError, match=r"~/x\.mrc: HOME is not set"):
        expand_home("~/x.mrc")
    assert expand_home("x.mrc") == Path("x.mrc")


def test_what_may_not_be_seen_is_no_file(tmp_path, monkeypatch):
    (tmp_path / "x").touch()
    assert is_file(tmp_path / "x")
    assert not is_file(tmp_path)
    assert not is_file(tmp_path / ("n" * 300))

    def refuse(*arguments: object, **keywords: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "stat", refuse)
    assert not is_file(tmp_path / "x")
