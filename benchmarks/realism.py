"""Writes docs/realism.md: the realism panels of all presets side by side, and of recordings where files are given.

python benchmarks/realism.py
python benchmarks/realism.py --recording us_equity stock.yaml --recording fx eurusd.yaml

A recording is a YAML market (`model: replay`), whose name heads its column, or a file of quotes, after the class of
asset whose ranges it is held against. The page names no path.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from sor_sb3.evaluation.realism import FIGURES, RECORDED_SCENARIOS, Panel, Row, panel_of, real_ranges
from sor_sb3.market.loading import load_market, preset_names

MARKS = {"inside": "", "outside": " **outside**", "too wide": " *too wide*", "": ""}


def cell(row: Row | None) -> str:
    """A figure with half the width of its interval, and what is wrong with it."""
    if row is None or math.isnan(row.found.value):
        return ""
    digits = row.statistic.digits
    half = 0.5 * (row.found.high - row.found.low)
    return f"{row.found.value:.{digits}f} ± {half:.{digits}f}{MARKS[row.verdict]}"


def recorded_note(panels: list[Panel]) -> list[str]:
    """What columns of recordings are, where there are any."""
    names = [panel.market for panel in panels if not panel.rule]
    if not names:
        return []
    return [
        "",
        f"Recordings: {', '.join(names)}. A recording stands beside the presets as what one day was: its quotes are "
        "held forward, so venues cross more than they did; its intervals are over half hours; what rests in its replay "
        f"(at most {RECORDED_SCENARIOS} orders, whose windows overlap) meets the recorded trades, stamped as they "
        "were, to the second in the stock's, so that a fill and the quote that it left may change places.",
    ]


def contradictions(panels: list[Panel]) -> list[str]:
    """A line for each recording that has figures outside the ranges of its class."""
    lines = []
    for panel in panels:
        said = [
            f"{row.statistic.label} {cell(row).split(' **')[0]}" for row in panel.outside() if row.verdict == "outside"
        ]
        if not panel.rule and said:
            lines.append(f"- {panel.market}, against {panel.asset_class}: {'; '.join(said)}.")
    return ["", "Where a recording is outside a range:", "", *lines] if lines else []


def page(panels: list[Panel], scenarios: int) -> str:
    """The Markdown page."""
    by_market = [{row.key: row for row in panel.rows} for panel in panels]
    lines = [
        "# Is it real?",
        "",
        "<!-- written by benchmarks/realism.py -->",
        "",
        f"The realism panel of every market that quotes, as `sor-sb3 markets check NAME` prints it with {scenarios:,} "
        "orders of `net_price_sweep` (of `post_and_sweep` for fills at rest, and as many lots that join the best bid): "
        "a figure, half the width of its 95 % interval, and a mark where the figure is outside its range, or its "
        "interval wider than that. Figures of quotes come from the true path while nobody trades. Ranges and their "
        "sources, one line a figure and class: [`realism_ranges.yaml`](../sor_sb3/evaluation/realism_ranges.yaml).",
        *recorded_note(panels),
        "",
        "| figure | unit | " + " | ".join(panel.market for panel in panels) + " |",
        "|---|---|" + "---|" * len(panels),
    ]
    for key, statistic in FIGURES.items():
        cells = [cell(rows.get(key)) for rows in by_market]
        if any(cells):
            lines.append(f"| {statistic.label} | {statistic.unit} | " + " | ".join(cells) + " |")
    lines += contradictions(panels)
    lines += ["", "## Ranges", "", "| class | figure | from | to | source |", "|---|---|---|---|---|"]
    for name in dict.fromkeys(panel.asset_class for panel in panels if panel.asset_class):
        for key, real in real_ranges()[name].items():
            why = f"; wide: {real.why}" if real.why else ""
            lines.append(f"| {name} | {FIGURES[key].label} | {real.low:g} | {real.high:g} | {real.source}{why} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenarios", type=int, default=2000)
    parser.add_argument("--markets", default=",".join(preset_names()))
    parser.add_argument("--recording", nargs=2, action="append", default=[], metavar=("CLASS", "MARKET"))
    parser.add_argument("--out", type=Path, default=Path("docs/realism.md"))
    arguments = parser.parse_args()
    panels = []
    markets = [(None, name) for name in arguments.markets.split(",")]
    for asset_class, name in [*markets, *arguments.recording]:
        panel = panel_of(load_market(name), arguments.scenarios, asset_class)
        if panel is not None:
            panels.append(panel)
            print(panel.market, [row.key for row in panel.outside()], flush=True)
            arguments.out.write_text(page(panels, arguments.scenarios), encoding="utf-8")


if __name__ == "__main__":
    main()
