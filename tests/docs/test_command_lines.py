"""Command lines in the README and in docs/ are ones that cryoseg understands; none of them is run."""

from __future__ import annotations

import importlib.util
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.rglob("*.md"))]


def _hook() -> Any:
    path = DOCS / "hooks" / "option_tables.py"
    spec = importlib.util.spec_from_file_location("option_tables", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


HOOK = _hook()
COMMANDS = HOOK.commands()
GROUPS = {words.split()[0] for words in COMMANDS if " " in words}

# Where a line of a shell begins another command, and what stands there instead of a word.
OPERATORS = {"&&", "||", ";", "|", ">", ">>", "2>", "<"}
INLINE = re.compile(r"`(cryoseg [^`]+)`")
# In a synopsis: [options], INPUT..., A|B.
SYNOPSIS = re.compile(r"^\[|\]$|\.\.\.$|^[A-Z][A-Z0-9_|.]*$")


def logical_lines(page: str) -> list[str]:
    """Lines of code blocks, fenced or indented, with continued lines joined."""
    lines: list[str] = []
    fenced = False
    joined = ""
    for line in page.split("\n"):
        if line.startswith("```"):
            fenced = not fenced
            continue
        if not fenced and not line.startswith("    "):
            joined = ""
            continue
        joined += line.strip()
        if joined.endswith("\\"):
            joined = joined[:-1] + " "
            continue
        lines.append(joined)
        joined = ""
    return lines


def command_lines(page: str) -> list[list[str]]:
    """Words of every line of code, and of every `cryoseg ...` in the text, that begins with cryoseg."""
    found: list[list[str]] = []
    for line in [*logical_lines(page), *INLINE.findall(page)]:
        if "cryoseg " not in line or line.startswith(("exec ", "#", "//")):
            continue
        text = re.sub(r"\$\([^)]*\)", "FOUND", line)
        try:
            words = shlex.split(text, comments=True)
        except ValueError:
            continue
        found += [shlex.split(inner) for inner in re.findall(r"\$\((cryoseg [^)]*)\)", line)]
        while words:
            end = next((n for n, word in enumerate(words) if word in OPERATORS), len(words))
            part, words = words[:end], words[end + 1 :]
            while part and re.fullmatch(r"[A-Z_]+=\S*", part[0]):
                part = part[1:]
            if part[:1] == ["cryoseg"]:
                found.append(part)
    return found


def fault(words: list[str]) -> str | None:
    """What is wrong with a command line; None if nothing is."""
    rest = words[1:]
    if not rest or rest[0].startswith(("-", "...")) or SYNOPSIS.search(rest[0]):
        return None
    name = " ".join(rest[:2]) if rest[0] in GROUPS else rest[0]
    if rest[0] in GROUPS and (len(rest) == 1 or rest[1] == "..." or "|" in rest[1]):
        return None
    command = COMMANDS.get(name)
    if command is None:
        return f"no command {name}"
    arguments = rest[len(name.split()) :]
    if name == "cluster script":
        begun = next((n for n, word in enumerate(arguments) if word in COMMANDS or word in GROUPS), None)
        inner = fault(["cryoseg", *arguments[begun:]]) if begun is not None else None
        return inner
    commands = [command]
    if name.startswith("relion "):  # further options are those of the command that RELION runs
        commands.append(COMMANDS[name.removeprefix("relion ")])
    known = {
        option
        for one in commands
        for parameter in one.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    options = [word.split("=")[0] for word in arguments if re.match(r"--?[a-zA-Z]", word)]
    unknown = [option for option in options if option.rstrip("]") not in known | {"--help", "-h"}]
    if unknown:
        return f"{name} has no {', '.join(unknown)}"
    return None


def refused(words: list[str]) -> str | None:
    """What the command itself says against a line that is no synopsis; nothing is run."""
    name = " ".join(words[1:3]) if words[1] in GROUPS else words[1]
    command = COMMANDS[name]
    arguments = words[1 + len(name.split()) :]
    while "--config" in arguments:
        place = arguments.index("--config")
        del arguments[place : place + 2]
    try:
        command.make_context(name, arguments)
    except SystemExit:
        return None
    except Exception as error:
        return f"{name}: {getattr(error, 'message', error)}"
    return None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_every_command_line_is_understood(page: Path) -> None:
    faults = []
    for words in command_lines(page.read_text()):
        said = fault(words)
        if said is not None:
            faults.append(f"{' '.join(words)}: {said}")
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if page.parent.name in {"tutorials", REPOSITORY.name}],
    ids=lambda page: page.name,
)
def test_commands_of_tutorials_have_all_that_they_need(page: Path) -> None:
    blocks = re.findall(r"^```bash\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [words for block in blocks for words in command_lines("```\n" + block + "```")]
    faults = [said for words in lines if words[1] in {*COMMANDS, *GROUPS} and (said := refused(words))]
    assert not faults, "\n".join(faults)


def test_what_a_line_is_is_told() -> None:
    page = (
        "Text `cryoseg doctor --json` and `cryoseg weights`.\n\n"
        '    cryoseg segment "$(cryoseg sample tomogram)" \\\n        --preview > x && cryoseg view a.mrc\n'
    )
    lines = command_lines(page)
    assert ["cryoseg", "doctor", "--json"] in lines
    assert ["cryoseg", "sample", "tomogram"] in lines
    assert ["cryoseg", "segment", "FOUND", "--preview"] in lines
    assert ["cryoseg", "view", "a.mrc"] in lines
    assert fault(["cryoseg", "segment", "a.mrc", "--no-such-option"]) == "segment has no --no-such-option"
    assert fault(["cryoseg", "segmnt", "a.mrc"]) == "no command segmnt"
    assert fault(["cryoseg", "cluster", "script", "segment", "a.mrc", "--nope"]) == "segment has no --nope"
    assert refused(["cryoseg", "segment", "a.mrc", "--preset", "v9"]) is not None


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_and_option_is_in_its_page(words: str) -> None:
    page = (DOCS / "commands" / f"{words.split()[0]}.md").read_text()
    assert f"cryoseg {words}" in page
    rendered = HOOK.with_tables(page)
    for parameter in HOOK.shown(COMMANDS[words]):
        for name in HOOK.names(parameter):
            # --config belongs to every command and has a page of its own.
            if parameter.param_type_name == "option" and name != "--config":
                assert f"`{name}`" in rendered, f"<!-- options: {words} --> is missing from its page"


def test_every_page_of_a_command_belongs_to_one() -> None:
    pages = {page.stem for page in (DOCS / "commands").glob("*.md")} - {"index", "config"}
    assert pages == {words.split()[0] for words in COMMANDS}
    index = (DOCS / "commands" / "index.md").read_text()
    assert all(f"({page}.md)" in index for page in pages)


def test_the_table_of_a_command_tells_names_texts_and_defaults() -> None:
    table = HOOK.table("postprocess")
    row = next(line for line in table.split("\n") if "--post-process-min-slices" in line)
    assert row.startswith("    | `")
    assert row.endswith("| 10 |")
    assert "cryoseg postprocess" in table.split("\n")[0]


def test_the_architecture_page_names_every_package() -> None:
    page = (DOCS / "architecture.md").read_text()
    source = REPOSITORY / "src" / "cryoseg"
    packages = {path.parent.name for path in source.glob("*/__init__.py")}
    assert [name for name in sorted(packages) if f"`{name}`" not in page] == []
    named = re.findall(r"`((?:[a-z_]+/)+[a-z_0-9]+(?:\.py|/)?)`", page)
    missing = [name for name in named if not (source / name).exists() and not (REPOSITORY / name).exists()]
    assert missing == []
    dotted = re.findall(r"`((?:cli|pipelines|methods|io|simulate|view|core|config)(?:\.[a-z_0-9]+)+)`", page)
    absent = [name for name in dotted if not list(source.glob(name.replace(".", "/") + "*"))]
    assert absent == []
