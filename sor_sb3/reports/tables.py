"""Console tables of ``results.json``. Every number and every verdict in them comes from there."""

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from sor_sb3.evaluation.formats import has_no_width, interval, measured, number
from sor_sb3.evaluation.verdicts import against_best_rule, stakes_sentence, with_best_rule

_STYLES = {"better": "green", "worse": "red", "even": "yellow"}


def policies_table(results: dict[str, Any]) -> Table:
    """Cost, its parts that matter, and the verdict against the best rule, cheapest policy first."""
    bps = results["cost_unit"] == "bps"
    table = Table(
        title=f"{results['market']}, {results['env']}, {results['scenarios']:,} {results['data_split']} scenarios; "
        f"costs in {results['cost_unit']}, 95 % intervals",
        caption=stakes_sentence(results),
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("policy", no_wrap=True)
    names = ["seeds", "cost", "95 % interval", "sd", "CVaR", "gap closed, %", "from the best\nrule, %"]
    names += ["slippage", "fees", "fill rate, %"] if bps else []
    for name in [*names, "latency ms\np50/95/99"]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("against the best rule")
    for policy in results["policies"]:
        row: list[str | Text] = [
            policy["name"],
            "" if policy["training_seeds"] is None else str(policy["training_seeds"]),
            _measured(policy, "cost"),
            interval(policy["cost_ci95"]),
            _measured(policy, "sd"),
            _measured(policy, "cvar95"),
            _gap(policy, "gap_closed"),
            _gap(policy, "gap_closed_from_best_rule"),
        ]
        if bps:
            row += [_measured(policy, key) for key in ("slippage_bps", "fee_bps")] + [
                _measured(policy, "fill_rate", 100)
            ]
        row.append("/".join(number(policy["latency_ms"][q], 2) for q in ("p50", "p95", "p99")))
        found = with_best_rule(results, policy["name"])
        row.append(Text(against_best_rule(results, policy), style="" if found is None else _STYLES[found["tone"]]))
        table.add_row(*row, style={"learned": "bold", "oracle": "dim"}.get(policy["kind"]))
    return table


def _measured(policy: dict[str, Any], key: str, scale: float = 1.0) -> str:
    """A number of a policy's entry, with the digits that its interval leaves it."""
    return measured(policy[key], policy[f"{key}_ci95"], scale)


def _gap(policy: dict[str, Any], key: str) -> str:
    """A share of a gap in per cent; with its interval for a learned policy."""
    share, ci95 = _measured(policy, key, 100.0), policy[f"{key}_ci95"]
    wanted = policy["kind"] == "learned" and ci95 is not None and not has_no_width(ci95)
    return f"{share} {interval(ci95, 100.0)}" if wanted else share


def wide_console(width: int) -> Console:
    """A console of the terminal's width, or of this width where the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=width)


def print_results(results: dict[str, Any], console: Console | None = None) -> None:
    """The table, then a sentence a comparison."""
    console = console or wide_console(220)
    console.print(policies_table(results))
    for sentence in results["beyond_oracle"]:
        console.print(f"  {sentence}", highlight=False, markup=False, soft_wrap=True)
    for comparison in results["comparisons"]:
        console.print(f"  {comparison['sentence']}", highlight=False, markup=False, soft_wrap=True)
