"""Docstrings of public functions: the parameters of the signature, shapes of arrays, units of lengths."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "cryoseg"
# Commands document their options in --help.
FILES = [path for path in sorted(SOURCE.rglob("*.py")) if path.relative_to(SOURCE).parts[0] != "cli"]

SECTION = re.compile(
    r"^(Attributes|Parameters|Returns|Yields|Raises|Warns|Notes|See Also|Examples)\n-+$", re.M
)
# `Source:` ends a docstring and is no parameter.
SOURCE_LINE = re.compile(r"^Sources?:.*\Z", re.M | re.S)
ARRAY = re.compile(r"\b(NDArray|FloatArray|BoolArray|LabelArray|Tensor)\b")
# A state dict, or a function that gives a tensor, is no array.
HOLDER = re.compile(r"\b(dict|Mapping|Callable)\[")
# A tuple such as (z, y, x), (n,) or (n, 3), or words that say where the shape stands.
SHAPE = re.compile(
    r"\((?:[^()\n]*,[^()\n]*|n)\)|\bshapes?\b|\bscalars?\b|\bas (?:in |for )?`\w+`", re.IGNORECASE
)
LENGTH = re.compile(
    r"(^|_)(size|spacing|distance|diameter|radius|thickness|width|height|depth|length|sigma|margin|side)$"
)
UNIT = re.compile(
    r"pixel|voxel|angstrom|slice|\bA\b|tokens?|diameters|fraction|in the(ir)? unit", re.IGNORECASE
)
# Of the same meaning wherever they occur: they need no entry of their own.
HOUSE_WORDS = frozenset({"rng", "voxel_size", "pixel_size"})
# Classes of ours say themselves what they hold; a parameter of such a type may go without an entry.
OURS = frozenset({"Bilayer", "Box", "Grid", "Imaging", "MicrographImaging", "Scene", "Species", "Surface"})
OURS |= {"SimulateConfig", "SimulateMicrographsConfig"}


@dataclass(frozen=True, kw_only=True)
class Public:
    """One public function or method."""

    where: str
    node: ast.FunctionDef
    docstring: str
    class_docstring: str

    def section(self, name: str) -> str:
        parts = SECTION.split(SOURCE_LINE.sub("", self.docstring))
        return dict(zip(parts[1::2], parts[2::2], strict=True)).get(name, "")

    def parameters(self) -> dict[str, str]:
        """Annotation of each parameter, in order."""
        given = self.node.args
        every = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
        named = [one for one in every if one is not None and one.arg not in ("self", "cls")]
        return {one.arg: ast.unparse(one.annotation) if one.annotation else "" for one in named}

    def entries(self) -> dict[str, str]:
        """What the Parameters section says of each name, in order."""
        found: dict[str, str] = {}
        names: list[str] = []
        for line in self.section("Parameters").splitlines():
            if line and not line[0].isspace():
                names = [name.strip().lstrip("*") for name in line.partition(":")[0].split(",")]
            for name in names:
                found[name] = found.get(name, "") + line + "\n"
        return found


def read(path: Path) -> Iterator[Public]:
    tree = ast.parse(path.read_text())
    name = path.relative_to(SOURCE)

    def walk(body: list[ast.stmt], inside: str, class_docstring: str) -> Iterator[Public]:
        for node in body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                yield from walk(node.body, f"{node.name}.", ast.get_docstring(node) or "")
            elif isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                where = f"{name}:{node.lineno} {inside}{node.name}"
                text = ast.get_docstring(node) or ""
                yield Public(where=where, node=node, docstring=text, class_docstring=class_docstring)

    yield from walk(tree.body, "", "")


PUBLIC = [one for path in FILES for one in read(path)]


def is_array(annotation: str) -> bool:
    return bool(ARRAY.search(annotation)) and not HOLDER.search(annotation)


def complain(lines: list[str]) -> None:
    assert not lines, "\n" + "\n".join(lines)


def test_parameters_are_those_of_the_signature() -> None:
    wrong = []
    for one in PUBLIC:
        documented, taken = one.entries(), one.parameters()
        optional = {name for name, annotation in taken.items() if name in HOUSE_WORDS or annotation in OURS}
        if documented and not taken.keys() - optional <= documented.keys() <= taken.keys():
            wrong.append(f"{one.where}: documents {list(documented)}, takes {list(taken)}")
    complain(wrong)


def test_every_array_has_a_shape() -> None:
    missing = []
    for one in PUBLIC:
        for name, annotation in one.parameters().items():
            text = one.entries().get(name) or one.docstring + one.class_docstring
            if is_array(annotation) and not SHAPE.search(text):
                missing.append(f"{one.where}: {name}: {annotation}")
    complain(missing)


def test_every_returned_array_has_a_shape() -> None:
    missing = []
    for one in PUBLIC:
        returned = ast.unparse(one.node.returns) if one.node.returns else ""
        text = one.section("Returns") or one.section("Yields") or one.docstring + one.class_docstring
        if is_array(returned) and not SHAPE.search(text):
            missing.append(f"{one.where}: {returned}")
    complain(missing)


def test_every_length_has_a_unit() -> None:
    """A length whose name does not carry its unit is documented with one."""
    missing = []
    for one in PUBLIC:
        for name, annotation in one.parameters().items():
            if not LENGTH.search(name) or "float" not in annotation:
                continue
            text = one.entries().get(name) or one.docstring + one.class_docstring
            if name not in HOUSE_WORDS and not UNIT.search(text):
                missing.append(f"{one.where}: {name}: {annotation}")
    complain(missing)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("(z, y, x), True on membrane", True),
        ("(n,) scores", True),
        ("(n, 3) z, y, x", True),
        ("Of any shape.", True),
        ("A mask of the same shape as `truth`.", True),
        ("Positive inside (see above).", False),
        ("True inside particles", False),
    ],
)
def test_what_counts_as_a_shape(text: str, found: bool) -> None:
    assert bool(SHAPE.search(text)) == found


def test_a_docstring_is_taken_apart() -> None:
    text = """def f(a: FloatArray, *, b_px: float, **more: int) -> None:
    '''Do.

    Parameters
    ----------
    a, b_px
        Both.
    **more
        The rest.

    Source: a paper, section 2
    '''
"""
    node = ast.parse(text).body[0]
    assert isinstance(node, ast.FunctionDef)
    one = Public(where="f", node=node, docstring=ast.get_docstring(node) or "", class_docstring="")
    assert list(one.entries()) == list(one.parameters()) == ["a", "b_px", "more"]
    assert one.parameters()["a"] == "FloatArray"
    assert "Both." in one.entries()["b_px"]
    assert "paper" not in one.section("Parameters")
