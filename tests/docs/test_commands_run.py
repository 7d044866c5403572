"""Every shell command of the README and of the tutorials is run as printed, in order, in a fresh folder.

Three comments, above a block of commands, say more about it:

    <!-- not run: REASON -->            it needs what a test has not
    <!-- makes: FILE FILE ... -->       these files are there afterwards, and not empty
    <!-- expect: FIGURE LOW to HIGH --> the table that it prints has this figure within these bounds
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cryoseg.cli.app import COMMANDS

REPOSITORY = Path(__file__).resolve().parents[2]
TUTORIALS = sorted((REPOSITORY / "docs" / "tutorials").glob("*.md"))
# Pages that train or segment take minutes on idle cores; the others seconds.
FAST = {"clusters.md", "index.md"}
PAGES = [REPOSITORY / "README.md", REPOSITORY / "docs" / "index.md", *TUTORIALS]

COMMENT = re.compile(r"<!-- (not run|makes|expect): (.*?) -->", re.DOTALL)
# A line of prose may begin with the name of the program too.
COMMAND = re.compile(
    rf"^(?: {{4}})?(?:cryoseg (?:-|(?:{'|'.join(COMMANDS)})\b)|(?:pip|conda env|sbatch|pytest|python) )"
)
EXPECTED = re.compile(r"(\S+) ([\d.]+) to ([\d.]+)")
SECONDS = 1800


@dataclass
class Block:
    """Some lines that a reader may copy into a shell, and what the comments above say of them."""

    line: int
    text: str
    reason: str = ""
    makes: list[str] = field(default_factory=list)
    figures: list[tuple[str, float, float]] = field(default_factory=list)


def command_blocks(page: str) -> list[Block]:
    """Fenced blocks of bash, and other blocks, fenced or indented, with a line that is a command."""
    blocks: list[Block] = []
    lines = page.split("\n")
    notes: list[str] = []
    number = 0
    while number < len(lines):
        line = lines[number]
        begun = number
        if line.startswith("<!-- "):
            while "-->" not in lines[number]:
                number += 1
            notes.append(" ".join(lines[begun : number + 1]))
        elif line.startswith("```"):
            language = line.strip("`").split()
            number += 1
            while not lines[number].startswith("```"):
                number += 1
            text = "\n".join(lines[begun + 1 : number])
            commands = any(COMMAND.match(one) for one in text.split("\n"))
            if language == ["bash"] or (commands and language != ["toml"]):
                blocks.append(_block(begun, text, notes))
            notes = []
        elif line.startswith("    ") and (begun == 0 or not lines[begun - 1].strip()):
            while number + 1 < len(lines) and lines[number + 1].startswith("    "):
                number += 1
            text = "\n".join(one[4:] for one in lines[begun : number + 1])
            if any(COMMAND.match(one) for one in text.split("\n")):
                blocks.append(_block(begun, text, notes))
            notes = []
        elif line.strip():
            notes = []
        number += 1
    return blocks


def _block(line: int, text: str, notes: list[str]) -> Block:
    block = Block(line=line + 1, text=text)
    for kind, said in COMMENT.findall("\n".join(notes)):
        if kind == "not run":
            block.reason = said.strip()
        elif kind == "makes":
            block.makes += said.split()
        else:
            block.figures += [(name, float(low), float(high)) for name, low, high in EXPECTED.findall(said)]
    return block


def page_parameter(page: Path) -> object:
    slow = [] if page.name in FAST and page.parent.name != "" else [pytest.mark.slow]
    return pytest.param(page, id=page.relative_to(REPOSITORY).as_posix(), marks=slow)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_command_is_run_or_says_why_not(page: Path) -> None:
    text = page.read_text()
    blocks = command_blocks(text)
    assert all(block.reason != "" or "not run" not in block.text for block in blocks)
    within = "\n".join(block.text for block in blocks).split("\n")
    printed = [line.removeprefix("    ") for line in text.split("\n") if COMMAND.match(line)]
    assert [line for line in printed if line not in within] == []
    reasons = text.count("<!-- not run:")
    assert reasons == sum(block.reason != "" for block in blocks), "a marker stands above no command"


def test_blocks_are_told_apart() -> None:
    page = (
        "Text with `cryoseg doctor`.\n\n    cryoseg pick one\n\n"
        "<!-- not run: needs\nyours -->\n```bash\ncryoseg view two\n```\n\n```toml\ncryoseg = 1\n```\n\n"
        "<!-- makes: a b -->\n<!-- expect: dice 0.5 to 0.75 -->\n```bash\nls\n```\n\n    no command\n"
    )
    blocks = command_blocks(page)
    assert [block.text for block in blocks] == ["cryoseg pick one", "cryoseg view two", "ls"]
    assert [block.reason for block in blocks] == ["", "needs yours", ""]
    assert (blocks[2].makes, blocks[2].figures) == (["a", "b"], [("dice", 0.5, 0.75)])


def environment(folder: Path) -> dict[str, str]:
    """Of a newcomer: cryoseg first in the path, no weights but the bundled ones, no network."""
    tools = folder / "tools"
    tools.mkdir()
    # The package is installed already, and installing it again is a part of .ci/run.
    pip = tools / "pip"
    pip.write_text("#!/bin/sh\nexit 0\n")
    pip.chmod(0o755)
    return {
        **{name: text for name, text in os.environ.items() if not name.startswith(("SLURM_", "CRYOSEG_"))},
        "PATH": os.pathsep.join((str(tools), str(Path(sys.executable).parent), os.environ["PATH"])),
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "CRYOSEG_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "180",
        "LC_ALL": "C.UTF-8",
    }


@pytest.mark.parametrize("page", [page_parameter(page) for page in PAGES])
def test_commands_do_what_the_page_says(page: Path, tmp_path: Path) -> None:
    variables = environment(tmp_path)
    work = tmp_path / "work"
    work.mkdir()
    for block in command_blocks(page.read_text()):
        if block.reason:
            continue
        where = f"{page.relative_to(REPOSITORY)}:{block.line}"
        outcome = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.text],
            cwd=work,
            env=variables,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        told = f"{where}\n{block.text}\n{outcome.stdout[-6000:]}\n{outcome.stderr[-3000:]}"
        assert outcome.returncode == 0, told
        missing = [
            name for name in block.makes if not (work / name).is_file() or not (work / name).stat().st_size
        ]
        assert not missing, f"{missing} not made by {told}"
        for name, low, high in block.figures:
            found = re.search(rf"│ {re.escape(name)} +│(?: prediction +│)? +([\d.]+)", outcome.stdout)
            assert found, f"no {name} in {told}"
            assert low <= float(found.group(1)) <= high, f"{name} outside {low} to {high} in {told}"
