"""No message advises what does not exist: every --flag and every --market-set key in the package's texts is real."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer.main

import sor_sb3
from sor_sb3.cli import app
from sor_sb3.market.settings import OPTION, _paths
from sor_sb3.market.spec import NotebookMarket, ReplayMarket, SyntheticMarket

PACKAGE = Path(sor_sb3.__file__).parent
FOREIGN = {"--logdir"}  # TensorBoard's
FLAG = re.compile(r"(?<![\w-])--[a-z][a-z0-9_-]*")
KEY = re.compile(r"--market-set ([\w.*]+)=")


def options() -> set[str]:
    """The flags of all commands."""
    found: set[str] = set()
    waiting: list[Any] = [typer.main.get_command(app)]
    while waiting:
        command = waiting.pop()
        waiting += getattr(command, "commands", {}).values()
        found |= {opt for parameter in command.params for opt in (*parameter.opts, *parameter.secondary_opts)}
    return found


def texts() -> Iterator[tuple[str, str]]:
    """The text of each string of the package, docstrings apart, with the file: what is filled in is {}."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        first = [node.body[0] for node in ast.walk(tree) if isinstance(node, documented) and node.body]
        docs = {id(node.value) for node in first if isinstance(node, ast.Expr)}
        inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else filled(part) for part in node.values]
                yield str(file.relative_to(PACKAGE)), "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (docs | inside):
                yield str(file.relative_to(PACKAGE)), node.value


def filled(part: ast.expr) -> str:
    value = part.value if isinstance(part, ast.FormattedValue) else None
    return OPTION if isinstance(value, ast.Name) and value.id == "OPTION" else "{}"


def test_every_flag_that_a_text_names_exists() -> None:
    known = options() | FOREIGN
    told = [(file, text) for file, text in texts() if len(text.split()) > 1]  # a word alone is a process's argument
    named = [(file, flag) for file, text in told for flag in FLAG.findall(text)]
    assert len(named) > 50  # the texts are found
    assert {(file, flag) for file, flag in named if flag not in known} == set()


def test_every_key_that_a_text_advises_is_a_field_of_a_market() -> None:
    fields = {path for kind in (SyntheticMarket, NotebookMarket, ReplayMarket) for path in _paths(kind)}
    named = {(file, key) for file, text in texts() for key in KEY.findall(text)}
    assert {"max_gap_s", "timezone", "crossed", "max_spread_bps"} <= {key for _, key in named}
    assert {(file, key) for file, key in named if key not in fields and "{}" not in key} == set()
