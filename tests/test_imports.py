"""The direction of imports: nothing imports what lies above, and no file imports itself in a circle.

Read from the sources, so that imports inside functions and under TYPE_CHECKING count too.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sor_sb3

PACKAGE = Path(sor_sb3.__file__).parent
LAYERS = (  # from below; the rooms of one line may import each other, files in a circle may not
    {"errors", "deprecation", "files", "safe_yaml"},
    {"market"},
    {"simulator"},
    {"envs"},
    {"policies", "algorithms", "routers"},
    {"evaluation"},
    {"calibration"},
    {"reports", "callbacks"},
    {"experiments", "zoo"},
    {"cli"},
)
LEVEL = {room: level for level, rooms in enumerate(LAYERS) for room in rooms}
ORDERED = {"errors": 0, "deprecation": 1, "files": 1, "safe_yaml": 1}  # within the lowest line


def module_name(file: Path) -> str:
    parts = ("sor_sb3", *file.relative_to(PACKAGE).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in PACKAGE.rglob("*.py")}


def imported(module: str, tree: ast.AST, modules: set[str]) -> set[str]:
    """Modules of the package that a source imports: of ``from a import b`` a.b where that is a module, else a."""
    package = module if MODULES.get(module, Path("x")).name == "__init__.py" else module.rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                found.add(f"{base}.{alias.name}" if f"{base}.{alias.name}" in modules else base)
    return {name for name in found if name in modules and name != module}


IMPORTS = {
    module: imported(module, ast.parse(file.read_text(encoding="utf-8")), set(MODULES))
    for module, file in MODULES.items()
    if module != "sor_sb3"  # the package's own door names what lies in every room
}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of files that reach each other (Tarjan's strongly connected components of more than one)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        number[node] = low[node] = len(number)
        stack.append(node)
        for target in sorted(graph.get(node, ())):
            if target not in number:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], number[target])
        if low[node] == number[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in number:
            visit(node)
    return found


def test_every_file_lies_in_a_room():
    assert {room(module) for module in IMPORTS} == set(LEVEL)


@pytest.mark.parametrize("module", sorted(IMPORTS))
def test_no_file_imports_upwards(module):
    here = room(module)
    upwards = [name for name in IMPORTS[module] if LEVEL.get(room(name), len(LAYERS)) > LEVEL[here]]
    assert not upwards, f"{module} imports {', '.join(sorted(upwards))}, which lies above {here}"
    if here in ORDERED:
        assert all(ORDERED[room(name)] < ORDERED[here] for name in IMPORTS[module])


def test_no_files_import_each_other_in_a_circle():
    assert circles(IMPORTS) == []


def test_the_reader_sees_every_kind_of_import():
    source = (
        "from typing import TYPE_CHECKING\nimport numpy\n"
        "if TYPE_CHECKING:\n    from sor_sb3.evaluation import rollout\n"
        "def f():\n    import sor_sb3.cli\n    from ..market.loading import load_market\n    from . import core\n"
    )
    names = imported("sor_sb3.envs.gym_env", ast.parse(source), set(MODULES))
    assert names == {"sor_sb3.evaluation.rollout", "sor_sb3.cli", "sor_sb3.market.loading", "sor_sb3.envs.core"}


def test_a_circle_is_found():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set()}) == [["a", "b", "c"]]
    assert circles({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []
