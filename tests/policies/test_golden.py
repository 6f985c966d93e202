"""Each golden number is checked by the test that its page names, and by no copy of it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from sor_sb3.policies.registry import GROUPS, ROUTER_NAMES, find_rule
from tests.policies.golden import GOLDEN, Golden, Number

TESTS = Path(__file__).parent.parent


def source_of(test: str) -> str:
    """The source of a test, "policies/test_x.py::test_y"."""
    file, _, name = test.partition("::")
    text = (TESTS / file).read_text(encoding="utf-8")
    found = [node for node in ast.parse(text).body if isinstance(node, ast.FunctionDef) and node.name == name]
    assert len(found) == 1, f"{test}: no such test"
    return ast.get_source_segment(text, found[0]) or ""


@pytest.mark.parametrize("rule", GOLDEN)
def test_the_test_that_is_named_checks_every_number(rule):
    assert rule in ROUTER_NAMES
    checks = [
        {keyword.arg for keyword in node.keywords}
        for node in ast.walk(ast.parse(source_of(GOLDEN[rule].test)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"GOLDEN['{rule}'].check"
    ]
    assert set().union(*checks) == set(GOLDEN[rule].numbers)


def test_every_rule_of_the_literature_has_a_number_but_schedules_that_are_no_formula():
    literature = {name for name in ROUTER_NAMES if find_rule(name).group == GROUPS[1]}
    assert literature - set(GOLDEN) == {"cont_kukanov_resampled", "twap", "vwap_curve", "pov"}


def test_a_number_holds_within_its_tolerance_or_on_its_side():
    assert Number("x", 1.0, 0.1).holds(1.05) and not Number("x", 1.0, 0.1).holds(1.2)
    assert Number("x", (1.0, 2.0), 0.1).holds((1.05, 1.95)) and not Number("x", (1.0, 2.0), 0.1).holds((1.0, 2.2))
    assert Number("x", 1.0, bound="at most").holds(0.5) and not Number("x", 1.0, bound="at most").holds(1.1)
    assert Number("x", 1.0, bound="at least").holds(1.5) and not Number("x", 1.0, bound="at least").holds(0.9)
    with pytest.raises(AssertionError, match=r"the cost: 2.0, expected 1 ± 0.1"):
        Golden("", "", {"cost": Number("the cost", 1.0, 0.1)}).check(cost=2.0)


def test_a_page_shows_number_and_test():
    shown = GOLDEN["almgren_chriss"].markdown()
    assert "| expected cost, $ | 911,227 ± 0.5 |" in shown and "541,956, 289,854, 147,897, 62,142 ± 0.5" in shown
    assert "tests/policies/test_schedules.py::test_the_numbers_of_the_paper" in shown
