"""How long every router takes for 1,000 scenarios, and apart from that to be tuned and to learn.

    python benchmarks/bench_routers.py [--quick] [--out FILE.json]

One thread, CPU time, on us_equity: rules of all groups in OrderSplit-v1, schedules and those that let orders rest in
OrderPlace-v1, and the oracle of each env. Warm-up is what making a router takes: tuning its constants on validation
scenarios, and living through its training scenarios. --quick scores 100 scenarios, and makes routers with their first
constants and two training scenarios.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

from measuring import Column, Results, Sheet, bars, command, new_chart, number, save_chart

from sor_sb3.evaluation.evaluator import Evaluator, standard_rules
from sor_sb3.policies.registry import find_rule, make

TITLE = "Routers"
MARKET, ENVS = "us_equity", ("OrderSplit-v1", "OrderPlace-v1")
SCENARIOS, QUICK_SCENARIOS = 1000, 100


def routers_of(evaluator: Evaluator) -> list[str]:
    """Every rule and the oracle; in an env where orders may rest and the pace is free, only what needs either."""
    names = standard_rules(evaluator.market, evaluator.env_id, ("all",))
    if not evaluator.core.action_adapter.rests:
        return names
    return [name for name in names if (rule := find_rule(name)) is None or rule.rests or rule.paces]


def row_of(evaluator: Evaluator, name: str, quick: bool) -> dict[str, Any]:
    """Seconds to make one router and to play every scenario with it."""
    rule, started = find_rule(name), time.process_time()
    if rule is None or not quick:
        router = evaluator.policies([name])[name]
    else:
        options: dict[str, Any] = {what: values[0] for what, values in rule.constants.items()}
        router = make(
            name, evaluator.market, evaluator.env_id, **options, **({"training_scenarios": 2} if rule.learns else {})
        )
    made = time.process_time()
    cost = evaluator.score(name, router).cost
    played_s = time.process_time() - made
    kind = "oracle" if rule is None else rule.group
    return {"router": name, "group": kind, "env": evaluator.env_id, "warm_up_s": made - started, "s": played_s} | {
        "cost": float(cost.mean())
    }


def measure(quick: bool) -> Results:
    """A row a router."""
    scenarios = QUICK_SCENARIOS if quick else SCENARIOS
    rows = []
    for env in ENVS:
        evaluator = Evaluator(env, MARKET, scenarios)
        evaluator.score("pro_rata", "pro_rata")  # compiles what is not compiled yet
        rows += [row_of(evaluator, name, quick) for name in routers_of(evaluator)]
    together_s = sum(row["s"] for row in rows if row["group"] != "oracle")
    return {"market": MARKET, "scenarios": scenarios, "quick": quick, "together_s": together_s, "rows": rows}


def sheets(results: Results) -> list[Sheet]:
    """One table, the slowest first."""
    columns = (
        Column("router", "router", str),
        Column("group", "group", str),
        Column("env", "env", str),
        Column("s", f"CPU s for {results['scenarios']:,} scenarios", lambda value: number(value, 2)),
        Column("warm_up_s", "warm-up, CPU s", lambda value: number(value, 2)),
        Column("cost", "mean cost, bps", lambda value: number(value, 4)),
    )
    rows = sorted(results["rows"], key=lambda row: -row["s"])
    note = f"All rules together, warm-up and oracles apart: {results['together_s']:.1f} s."
    if results["quick"]:
        note += " A quick look: costs are those of routers that were not tuned and have hardly learned."
    return [Sheet(f"Routers on {results['market']}", columns, rows, note)]


def draw(results: Results, folder: Path) -> list[Path]:
    """Seconds by router."""
    figure, [axes] = new_chart(height=6.0)
    bars(axes, [{"case": row["router"], **row} for row in results["rows"]], lambda row: [row["s"]] * 3, ("-",))
    axes.set_xlabel(f"CPU seconds for {results['scenarios']:,} scenarios, one thread")
    axes.set_title(f"Routers on {results['market']}", fontsize=10)
    return [save_chart(figure, folder / "performance_routers.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
