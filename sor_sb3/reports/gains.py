"""Where learned policies' differences from the best rule come from, as a table; its numbers are in ``results.json``."""

from typing import Any

from rich.console import Console
from rich.table import Table

from sor_sb3.evaluation.formats import interval, signed
from sor_sb3.evaluation.gains import PARTS
from sor_sb3.reports.tables import wide_console


def gains_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows of the table: policy, difference, and each part that the market and the env have."""
    gains = results.get("gains") or {}
    names = list(next(iter(gains.values()))["parts"]) if gains else []

    def cell(entry: dict[str, Any]) -> str:
        return f"{signed(entry['difference'])} {interval(entry['ci95'])}"

    heads = ["policy", "difference", *(PARTS[part] for part in names)]
    return heads, [[name, cell(of), *(cell(of["parts"][part]) for part in names)] for name, of in gains.items()]


def print_gains(results: dict[str, Any], console: Console | None = None) -> None:
    """The table; nothing where no difference was split."""
    heads, rows = gains_rows(results)
    if not rows:
        return
    title = f"where differences from {results['best_rule']} come from, {results['cost_unit']}; parts add up"
    table = Table(title=title, title_justify="left")
    for k, head in enumerate(heads):
        table.add_column(head, justify="right" if k else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    (console or wide_console(190)).print(table)
