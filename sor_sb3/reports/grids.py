"""The table of a grid, for a console and as Markdown. Every number in it comes from the grid's ``results.json``."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from sor_sb3.evaluation.formats import MISSING, interval, measured, significant
from sor_sb3.evaluation.grids import margins_sentence, sentences
from sor_sb3.evaluation.rivals import RIVALS
from sor_sb3.reports.tables import wide_console


def grid_rows(results: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heads and rows: a row a cell and algorithm, its mean cost, and its differences (minus: cheaper)."""
    heads = ["market", "env", "algorithm", "cost", "sd of seeds", *(f"less {words}" for words in RIVALS.values())]
    rows = []
    for cell in results["cells"]:
        for name, of in cell["policies"].items():
            cost = f"{measured(of['cost'], of['cost_ci95'])} {cell['cost_unit']}"
            spread = MISSING if of["sd_of_seeds"] is None else significant(of["sd_of_seeds"])
            differences = [_difference(cell, of["against"], key) for key in RIVALS]
            rows.append([cell["market"], cell["env"], name, cost, spread, *differences])
    return heads, rows


def _difference(cell: dict[str, Any], against: dict[str, Any], key: str) -> str:
    """The difference with its interval and verdict; of rules that were chosen, the name."""
    if key not in against:
        return MISSING
    found = against[key]
    text = f"{measured(found['difference'], found['ci95'], sign=True)} {interval(found['ci95'])} {found['verdict']}"
    return f"{text} ({cell['rivals'][key]['name']})" if key == "model_free" else text


def _title(results: dict[str, Any]) -> str:
    cells = results["cells"]
    scored = f"{cells[0]['scenarios']:,} {cells[0]['data_split']} scenarios" if cells else "nothing scored"
    return f"{len(cells)} comparisons, {scored} each; costs paired by scenario, 95 % intervals"


def grid_markdown(results: dict[str, Any], spent: str = "") -> str:
    """The table and what it adds up to; `spent` says what the grid took."""
    heads, rows = grid_rows(results)
    lines = [f"# {_title(results)}", ""]
    lines += [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)]
    said = [*sentences(results), margins_sentence(results), spent]
    return "\n".join([*lines, "", *(f"- {text}" for text in said if text)]) + "\n"


def print_grid(results: dict[str, Any], spent: str = "", console: Console | None = None) -> None:
    """The table, then a sentence a count."""
    console = console or wide_console(260)
    heads, rows = grid_rows(results)
    table = Table(title=_title(results), title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)
    for text in [*sentences(results), margins_sentence(results), spent]:
        if text:
            console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
