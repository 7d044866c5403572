"""Every source that the code, the documentation and the tests cite can be read by everyone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# The words may stand on two lines of a comment or docstring.
UNREADABLE = re.compile(r"reference\s+(?:#\s*)?" + "notes", re.IGNORECASE)
TEXT = {".py", ".md", ".toml", ".yaml", ".yml"}


@pytest.mark.parametrize("folder", ["src", "docs", "tests", "benchmarks"])
def test_nothing_cites_notes_that_no_reader_has(folder: str) -> None:
    texts = [path for path in (ROOT / folder).rglob("*") if path.suffix in TEXT]
    assert texts
    found = [str(path.relative_to(ROOT)) for path in texts if UNREADABLE.search(path.read_text())]
    assert not found, f"cite the paper's section or the public repository's file@commit: {found}"


@pytest.mark.parametrize("between", [" ", "\n", "\n# "])
def test_the_phrase_is_found_across_lines(between: str) -> None:
    assert UNREADABLE.search(f"ETSAM; Reference{between}notes, section 8")
