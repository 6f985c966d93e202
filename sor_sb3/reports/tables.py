"""Console tables of ``results.json``. Every number in them comes from there."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

_STYLES = {"better": "green", "worse": "red", "no significant difference": "yellow"}


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _interval(bounds: list[float | None] | None, digits: int) -> str:
    return "" if bounds is None else f"[{_number(bounds[0], digits)}, {_number(bounds[1], digits)}]"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _percent_interval(bounds: list[float | None] | None) -> str:
    if bounds is None:
        return ""
    low, high = (_number(None if b is None else 100 * b, 1) for b in bounds)
    return f"[{low}, {high}]"


def policies_table(results: dict[str, Any]) -> Table:
    """Cost, its parts that matter, and the verdict against the best rule, cheapest policy first."""
    against_best = {c["policy"]: c for c in results["comparisons"] if c["against"] == results["best_rule"]}
    bps = results["cost_unit"] == "bps"
    table = Table(
        title=f"{results['market']}, {results['env']}, {results['scenarios']} test scenarios; cost in "
        f"{results['cost_unit']}, 95 % intervals",
        caption=f"best rule, named on validation days: {results['best_rule']}; gap closed from "
        f"{results['reference_rule']} to {results['oracle']}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("policy", no_wrap=True)
    for name in ("seeds", "cost", "95 % interval", "gap closed %", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    if bps:
        for name in ("slippage", "fees", "fill rate"):
            table.add_column(name, justify="right", no_wrap=True)
    table.add_column("latency ms p50/95/99", justify="right", no_wrap=True)
    table.add_column("against the best rule")
    for policy in results["policies"]:
        gap = policy["gap_closed"]
        row = [
            policy["name"],
            "" if policy["training_seeds"] is None else str(policy["training_seeds"]),
            _number(policy["cost"], 3),
            _interval(policy["cost_ci95"], 3),
            _number(None if gap is None else 100 * gap, 1),
            _percent_interval(policy["gap_closed_ci95"]),
        ]
        if bps:
            row += [_number(policy["slippage_bps"], 3), _number(policy["fee_bps"], 3), _percent(policy["fill_rate"])]
        row.append("/".join(_number(policy["latency_ms"][q], 2) for q in ("p50", "p95", "p99")))
        row.append(_verdict_cell(policy, against_best.get(policy["name"]), results["best_rule"]))
        style = {"learned": "bold", "oracle": "dim"}.get(policy["kind"])
        table.add_row(*row, style=style)
    return table


def _verdict_words(comparison: dict[str, Any]) -> str:
    """The verdict, with a remark where it does not survive Holm's correction for the number of comparisons."""
    verdict: str = comparison["verdict"]
    doubtful = verdict != "no significant difference" and comparison["p_value_holm"] >= 0.05
    return verdict + (" (not after correction for many comparisons)" if doubtful else "")


def _verdict_cell(policy: dict[str, Any], comparison: dict[str, Any] | None, best_rule: str) -> str:
    if policy["name"] == best_rule:
        return "(the best rule)"
    if comparison is None:
        return "(sees hidden state)" if policy["kind"] == "oracle" else ""
    colour = _STYLES[comparison["verdict"]]
    return (
        f"[{colour}]{comparison['difference']:+.3f} {_interval(comparison['ci95'], 3)}: {_verdict_words(comparison)}[/]"
    )


def verdict_lines(results: dict[str, Any]) -> list[str]:
    """One sentence a comparison against the best rule and the reference rule."""
    unit = results["cost_unit"]
    return [
        f"{c['policy']} against {c['against']}: {_verdict_words(c)} ({c['difference']:+.4f} {unit}, 95 % interval "
        f"{_interval(c['ci95'], 4)})"
        for c in results["comparisons"]
    ]


def print_results(results: dict[str, Any], console: Console | None = None) -> None:
    """The table, then a sentence a comparison."""
    if console is None:
        console = Console()
        console = console if console.is_terminal else Console(width=190)
    console.print(policies_table(results))
    for line in verdict_lines(results):
        console.print(f"  {line}", highlight=False)
