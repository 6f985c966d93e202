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


def rules_tables(results: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    """Of cells of rules alone, a table an env: its title, heads and rows, a row a rule and a column a market.

    Entries are differences from one rule, whose costs are the first row (minus: cheaper). Rules stand by their mean
    rank over the markets where they were scored; "*" marks a market's cheapest rule.
    """
    of_env: dict[str, list[dict[str, Any]]] = {}
    for cell in results["cells"]:
        if "rules" in cell:
            of_env.setdefault(cell["env"], []).append(cell)
    return [_rules_table(env, cells) for env, cells in of_env.items()]


def _rules_table(env: str, cells: list[dict[str, Any]]) -> tuple[str, list[str], list[list[str]]]:
    columns = [cell["rules"]["policies"] for cell in cells]
    common = " or ".join(dict.fromkeys(cell["rules"]["against"] for cell in cells))
    ranks: dict[str, list[float]] = {}
    for policies in columns:
        for rank, name in enumerate(policies):
            ranks.setdefault(name, []).append(rank / len(policies))
    pairs = list(zip(cells, columns, strict=True))
    cheapest = [next(name for name in policies if name != cell["oracle"]) for cell, policies in pairs]
    rows = [[f"cost of {common}", *(_cost_of_common(cell["rules"]) for cell in cells)]]
    for name in sorted(ranks, key=lambda name: (sum(ranks[name]) / len(ranks[name]), name)):
        entries = [_apart(policies.get(name), name == best) for policies, best in zip(columns, cheapest, strict=True)]
        rows.append([name, *entries])
    heads = ["rule", *(f"{cell['market']}, {cell['cost_unit']}" for cell in cells)]
    return f"{env}: cost less that of {common}; * is the cheapest rule", heads, rows


def _cost_of_common(rules: dict[str, Any]) -> str:
    of = rules["policies"][rules["against"]]
    return f"{measured(of['cost'], of['cost_ci95'])} {interval(of['cost_ci95'])}"


def _apart(of: dict[str, Any] | None, is_cheapest: bool) -> str:
    if of is None:
        return MISSING
    if of["ci95"] == [0.0, 0.0]:
        return "0 *" if is_cheapest else "0"
    return f"{measured(of['difference'], of['ci95'], sign=True)} {interval(of['ci95'])}{' *' if is_cheapest else ''}"


def _tables(results: dict[str, Any]) -> list[tuple[str, list[str], list[list[str]]]]:
    return rules_tables(results) or [("", *grid_rows(results))]


def _title(results: dict[str, Any]) -> str:
    cells = results["cells"]
    scored = f"{cells[0]['scenarios']:,} {cells[0]['data_split']} scenarios" if cells else "nothing scored"
    return f"{len(cells)} comparisons, {scored} each; costs paired by scenario, 95 % intervals"


def grid_markdown(results: dict[str, Any], spent: str = "") -> str:
    """The table and what it adds up to; `spent` says what the grid took."""
    lines = [f"# {_title(results)}", ""]
    for title, heads, rows in _tables(results):
        lines += [f"## {title}", ""] if title else []
        lines += [f"| {' | '.join(row)} |" for row in (heads, ["---"] * len(heads), *rows)] + [""]
    said = [*sentences(results), margins_sentence(results), spent]
    return "\n".join([*lines, *(f"- {text}" for text in said if text)]) + "\n"


def print_grid(results: dict[str, Any], spent: str = "", console: Console | None = None) -> None:
    """The tables, then a sentence a count."""
    console = console or wide_console(260)
    console.print(_title(results), style="italic", highlight=False)
    for title, heads, rows in _tables(results):
        table = Table(title=title or None, title_justify="left")
        for head in heads:
            table.add_column(head, overflow="fold")
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for text in [*sentences(results), margins_sentence(results), spent]:
        if text:
            console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)
