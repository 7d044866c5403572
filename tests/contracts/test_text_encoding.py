"""Text files are UTF-8 whatever the locale: every call that opens one says its encoding."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "cryoseg"
# Of other things than text files: tarfile, Image, mmap and the like.
OTHERS = {"tarfile", "Image", "zipfile", "webbrowser", "os"}


def unspecified(tree: ast.AST) -> list[int]:
    """Lines of calls that open text without an encoding."""
    lines = []
    for call in ast.walk(tree):
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute | ast.Name):
            continue
        is_method = isinstance(call.func, ast.Attribute)
        name = call.func.attr if is_method else call.func.id
        if name not in ("open", "read_text", "write_text") or any(
            key.arg in ("encoding", None) for key in call.keywords
        ):
            continue
        owner = call.func.value if is_method else None
        if isinstance(owner, ast.Name) and owner.id in OTHERS:
            continue
        modes = [key.value for key in call.keywords if key.arg == "mode"]
        if name == "open":
            modes += call.args[0 if is_method else 1 :][:1]
        if any(not isinstance(mode, ast.Constant) or "b" in str(mode.value) for mode in modes):
            continue
        lines.append(call.lineno)
    return lines


def test_contract_finds_what_it_should():
    wrong = 'p.open("w"); open(p); p.read_text(); p.open(newline=""); p.write_text(t)'
    right = 'p.open("rb"); p.open("w", encoding="utf-8"); tarfile.open(p); p.read_text(encoding="ascii")'
    assert len(unspecified(ast.parse(wrong))) == 5
    assert unspecified(ast.parse(right)) == []


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda path: path.stem)
def test_every_text_file_has_an_encoding(path):
    assert unspecified(ast.parse(path.read_text(encoding="utf-8"))) == []
