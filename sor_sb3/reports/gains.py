"""Tables of where differences from the best rule come from, and of what becomes of them where the market is another.

Their numbers are in ``results.json``.
"""

from typing import Any

from rich.console import Console
from rich.table import Table

from sor_sb3.evaluation.formats import interval, number, signed
from sor_sb3.evaluation.gains import PARTS
from sor_sb3.reports.tables import wide_console


def gains_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table: policy, difference, and each part that the market and the env have."""
    gains = results.get("gains") or {}
    names = list(next(iter(gains.values()))["parts"]) if gains else []

    heads = ["policy", "difference", *(PARTS[part] for part in names)]
    return heads, [[name, _cell(of), *(_cell(of["parts"][part]) for part in names)] for name, of in gains.items()]


def robustness_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table: change, the rule's cost, and each policy's difference from it with the verdict."""
    rows = results.get("robustness") or []
    names = list(rows[0]["policies"]) if rows else []
    heads = ["market", f"{results['best_rule']}, cost", *(f"{name} minus {results['best_rule']}" for name in names)]

    def cells(of: dict[str, Any]) -> list[str]:
        return [f"{_cell(of['policies'][name])}: {of['policies'][name]['verdict']}" for name in names]

    return heads, [[of["change"], number(of["rule_cost"]), *cells(of)] for of in rows]


def _cell(entry: dict[str, Any]) -> str:
    return f"{signed(entry['difference'])} {interval(entry['ci95'])}"


def print_gains(results: dict[str, Any], console: Console | None = None) -> None:
    """The table; nothing where no difference was split."""
    title = f"where differences from {results['best_rule']} come from, {results['cost_unit']}; parts add up"
    _print(title, *gains_rows(results), console)


def print_robustness(results: dict[str, Any], console: Console | None = None) -> None:
    """The table; nothing where no market was changed."""
    title = f"on changed markets, nobody retrained, {results['cost_unit']}; 95 % intervals, paired by scenario"
    _print(title, *robustness_rows(results), console)


def _print(title: str, heads: list[str], rows: list[list[str]], console: Console | None) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left")
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    (console or wide_console(190)).print(table)
