"""Console tables of ``results.json``. Every number and every verdict in them comes from there."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sor_sb3.evaluation.formats import interval, number, percent
from sor_sb3.evaluation.verdicts import against_best_rule, with_best_rule

_STYLES = {"better": "green", "worse": "red", "even": "yellow"}


def policies_table(results: dict[str, Any]) -> Table:
    """Cost, its parts that matter, and the verdict against the best rule, cheapest policy first."""
    bps = results["cost_unit"] == "bps"
    table = Table(
        title=f"{results['market']}, {results['env']}, {results['scenarios']} test scenarios; cost in "
        f"{results['cost_unit']}, 95 % intervals",
        caption=f"best rule, named on validation scenarios: {results['best_rule']}; gap closed from "
        f"{results['reference_rule']} to {results['gap_end']}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("policy", no_wrap=True)
    names = ["seeds", "cost", "95 % interval", "gap closed, %", "95 % interval"]
    names += ["slippage", "fees", "fill rate, %"] if bps else []
    for name in [*names, "latency ms p50/95/99"]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("against the best rule")
    for policy in results["policies"]:
        row: list[str | Text] = [
            policy["name"],
            "" if policy["training_seeds"] is None else str(policy["training_seeds"]),
            number(policy["cost"]),
            interval(policy["cost_ci95"]),
            percent(policy["gap_closed"]),
            interval(policy["gap_closed_ci95"], 1, scale=100),
        ]
        if bps:
            row += [number(policy["slippage_bps"]), number(policy["fee_bps"]), percent(policy["fill_rate"])]
        row.append("/".join(number(policy["latency_ms"][q], 2) for q in ("p50", "p95", "p99")))
        found = with_best_rule(results, policy["name"])
        row.append(Text(against_best_rule(results, policy), style="" if found is None else _STYLES[found["tone"]]))
        table.add_row(*row, style={"learned": "bold", "oracle": "dim"}.get(policy["kind"]))
    return table


def wide_console(width: int) -> Console:
    """A console of the terminal's width, or of this width where the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def print_results(results: dict[str, Any], console: Console | None = None) -> None:
    """The table, then a sentence a comparison."""
    console = console or wide_console(190)
    console.print(policies_table(results))
    for sentence in results["beyond_oracle"]:
        console.print(f"  {sentence}", highlight=False, markup=False, soft_wrap=True)
    for comparison in results["comparisons"]:
        console.print(f"  {comparison['sentence']}", highlight=False, markup=False, soft_wrap=True)
