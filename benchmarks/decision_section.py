"""How long one decision takes: the tables and the chart of `bench_decision`, where that module is there.

python benchmarks/decision_section.py [--quick] [--out FILE.json]
"""

from __future__ import annotations

import sys
from pathlib import Path

from measuring import (
    COLOURS,
    PLAIN_COLOUR,
    Column,
    Results,
    Sheet,
    SkippedError,
    command,
    new_chart,
    number,
    save_chart,
)

TITLE = "One decision"


def measure(quick: bool) -> Results:
    """Microseconds of a decision, by policy, path and batch."""
    try:
        from bench_decision import measure as measure_decisions
    except ImportError:
        raise SkippedError("there is no benchmarks/bench_decision.py") from None
    return {"rows": measure_decisions(quick)}


def sheets(results: Results) -> list[Sheet]:
    """One table."""
    columns = (
        Column("policy", "policy"),
        Column("path", "path", str),
        Column("batch", "batch"),
        Column("p50_us", "p50, us", lambda value: number(value, 1)),
        Column("p99_us", "p99, us", lambda value: number(value, 1)),
        Column("ratio_p50", "times model.predict, p50", lambda value: number(value, 1)),
        Column("ratio_p99", "p99", lambda value: number(value, 1)),
    )
    return [Sheet("One decision, one thread", columns, results["rows"])]


def draw(results: Results, folder: Path) -> list[Path]:
    """p50 as bars and p99 as whiskers of single decisions."""
    rows = [row for row in results["rows"] if row["batch"] == 1]
    figure, [axes] = new_chart(height=max(2.4, 0.35 * len(rows) + 1.0))
    for at, row in enumerate(rows):
        colour = PLAIN_COLOUR if row["path"] == "model.predict" else COLOURS[0]
        axes.barh(at, row["p50_us"], color=colour, alpha=0.85)
        axes.plot([row["p50_us"], row["p99_us"]], [at, at], color="black", linewidth=1.5)
        text = f"{row['p50_us']:.1f} / {row['p99_us']:.1f}"
        axes.annotate(text, (row["p99_us"], at), xytext=(5, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [f"{row['policy']}, {row['path']}" for row in rows], fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    axes.set_xlabel("microseconds of one decision: p50 as bar, p99 as whisker")
    axes.set_title("One decision, one thread", fontsize=10)
    return [save_chart(figure, folder / "performance_decision.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
