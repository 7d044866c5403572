"""Count modules and the imports between them, per package; fail where the structure grows past its limits.

`python .ci/structure.py` prints one row per package: its direct children (a sub-package counts as one),
the imports between them, and the circles among them. It exits with status 1 where a count exceeds its
limit, where modules import each other in a circle, where a module is longer than 400 lines, or where a
function that is neither a command nor the constructor of a dataclass takes more than six parameters.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import grimp

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cryoseg"
# Package to the largest number of children and of imports between them.
LIMITS = {
    "cryoseg": (16, 57),
    "cryoseg.pipelines": (13, 14),
    "cryoseg.cli": (25, 41),
    "cryoseg.io": (9, 9),
    "cryoseg.core": (8, 8),
    "cryoseg.methods": (17, 36),
}
LONGEST_MODULE = 400
MOST_PARAMETERS = 6


def edges_between(graph: grimp.ImportGraph, package: str) -> tuple[set[str], set[tuple[str, str]]]:
    """The direct children of a package that hold code, and which of them import which."""
    children = set(graph.find_children(package))

    def child(module: str) -> str | None:
        parts = module.split(".")[: package.count(".") + 2]
        name = ".".join(parts)
        return name if name in children else None

    edges = set()
    for importer in graph.modules:
        if (one := child(importer)) is None:
            continue
        for imported in graph.find_modules_directly_imported_by(importer):
            other = child(imported)
            if other is not None and other != one:
                edges.add((one, other))
    return children, edges


def circles(edges: set[tuple[str, str]]) -> list[str]:
    """Members of circles: nodes that reach themselves."""
    after: dict[str, set[str]] = {}
    for one, other in edges:
        after.setdefault(one, set()).add(other)
    found = []
    for start in after:
        seen: set[str] = set()
        open_nodes = list(after[start])
        while open_nodes:
            node = open_nodes.pop()
            if node not in seen:
                seen.add(node)
                open_nodes.extend(after.get(node, ()))
        if start in seen:
            found.append(start)
    return sorted(found)


def wide_functions() -> Iterator[str]:
    """Functions with too many parameters; the commands of `cryoseg.cli` may have any number."""
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            arguments = node.args
            names = [one.arg for one in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
            count = len([name for name in names if name not in ("self", "cls")])
            if count > MOST_PARAMETERS and not _is_command(path, node):
                yield f"{path.relative_to(SOURCE)}:{node.lineno} {node.name} ({count})"


def _is_command(path: Path, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether the parameters of a function are options of a command."""
    if path.relative_to(SOURCE).parts[0] != "cli" or node.name.startswith("_"):
        return False
    returns = node.returns
    return isinstance(returns, ast.Constant) and returns.value is None


def main() -> int:
    graph = grimp.build_graph("cryoseg", cache_dir=None)
    faults = []
    print(f"{'package':<22} {'modules':>8} {'imports':>8}  circles")
    for package, (most_modules, most_imports) in LIMITS.items():
        children, edges = edges_between(graph, package)
        round_trips = circles(edges)
        print(f"{package:<22} {len(children):>8} {len(edges):>8}  {', '.join(round_trips) or 'none'}")
        if len(children) > most_modules or len(edges) > most_imports:
            faults.append(f"{package}: more than {most_modules} modules or {most_imports} imports")
        if round_trips:
            faults.append(f"{package}: {', '.join(round_trips)} import each other in a circle")
    direct = {
        (importer, imported)
        for importer in graph.modules
        for imported in graph.find_modules_directly_imported_by(importer)
    }
    if loop := circles(direct):
        faults.append(f"modules import each other in a circle: {', '.join(loop)}")
    modules = sorted(SOURCE.rglob("*.py"))
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in modules}
    print(f"{sum(lengths.values())} lines in {len(modules)} modules, the longest {max(lengths.values())}")
    faults += [
        f"{path.relative_to(SOURCE)}: {lines} lines"
        for path, lines in lengths.items()
        if lines > LONGEST_MODULE
    ]
    faults += wide_functions()
    print("\n".join(faults))
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
