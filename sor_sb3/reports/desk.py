"""The report on a desk's log: page, Markdown, JSON, a row a parent as CSV, console tables. No number is made here.

``FOLDER/report.html  report.md  report.json  tca_parents.csv``
"""

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from sor_sb3.evaluation.desk_analysis import DeskAnalysis, desk_measures
from sor_sb3.evaluation.formats import listed, number
from sor_sb3.files import write_text
from sor_sb3.reports.figures import Data, Figure, finished, name_rows, styled
from sor_sb3.reports.page import templates
from sor_sb3.reports.tables import wide_console
from sor_sb3.reports.theme import MUTED, SERIES, new_axes
from sor_sb3.reports.writer import PARENTS_CSV, REPORT_HTML, REPORT_JSON, REPORT_MARKDOWN, plain

VENUES_SHOWN = 8  # lines of a figure


def desk_data(analysis: DeskAnalysis, files: dict[str, str]) -> Data:
    """Every number of the report, as plain data; null where one has no value. `files` are what was read, by role."""
    measures = desk_measures(analysis.about["later_s"])
    held = {key: value for key, value in vars(analysis).items() if key not in ("parents", "parent_names")}
    shown = {key: [m.label, m.unit, m.good] for key, m in measures.items()}
    return plain({"files": files, "measures": shown, "sentences": sentences(analysis), **held})


def sentences(analysis: DeskAnalysis) -> list[str]:
    """What a reader must know before the numbers."""
    about, said = analysis.about, []
    counted = f"{about['parents']:,} parent orders, {about['children']:,} children, {about['fills']:,} fills"
    said.append(f"{counted}; {about['filled_shares']:,.10g} shares filled of {about['sent_shares']:,.10g} sent.")
    if missing := about["children_without_quotes"]:
        said.append(f"{missing:,} children were sent while no quotes are known: what needs a quote leaves them out.")
    if dark := about["venues_without_quotes"]:
        said.append(f"No quotes of {', '.join(dark)}: nothing is displayed there, and fade does not count them.")
    if not about["has_fees"]:
        said.append("The log has no fees: shortfall and cost are without them.")
    return said


def _digits(unit: str) -> int:
    return 1 if unit in ("%", "count", "shares") else 3


@styled
def _markouts(data: Data) -> Figure:
    figure, axes = new_axes(2.9)
    at = data["horizons_s"]
    shares = data["venues"]["executed_percent"]
    most = sorted(range(len(shares)), key=lambda k: -(shares[k] or 0.0))[:VENUES_SHOWN]
    lines = [("all venues", data["markout_bps"])]
    lines += [(data["venue_names"][k], data["venue_markout_bps"][k]) for k in most] if len(shares) > 1 else []
    for i, (name, values) in enumerate(lines):
        heavy = {"linewidth": 2.4} if i == 0 else {"linewidth": 1.1, "linestyle": "--" if i > len(SERIES) else "-"}
        points = [math.nan if v is None else v for v in values]
        axes.plot(at, points, marker="o", label=name, color=SERIES[i % len(SERIES)], markersize=3, **heavy)
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set(xscale="log", xlabel="time after the fill, s", ylabel="markout, bps (up is good)")
    axes.set_xticks(at, [f"{t:g}" for t in at])
    axes.minorticks_off()
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, handlelength=1.2)
    spoken = listed([(f"{t:g} s", v) for t, v in zip(at, data["markout_bps"], strict=True)])
    caption = "Share-weighted move of the mid from the fill price. Below zero is what a taker pays."
    return finished(figure, "markouts", "Markouts by venue", f"Markout by horizon, bps: {spoken}.", caption)


@styled
def _flow(data: Data) -> Figure:
    names, venues = data["venue_names"], data["venues"]
    order = sorted(range(len(names)), key=lambda k: -venues["routed_percent"][k])[:24]
    figure, (flow, cost) = new_axes(0.34 * len(order) + 1.2, panels=2)
    rows = np.arange(len(order))
    for shift, key, label in ((-0.2, "routed_percent", "sent"), (0.2, "executed_percent", "filled")):
        values = [venues[key][k] or 0.0 for k in order]
        flow.barh(rows + shift, values, height=0.38, label=label, color=SERIES[0 if shift < 0 else 1], alpha=0.85)
    cost.barh(rows, [venues["e_over_q_percent"][k] or 0.0 for k in order], height=0.6, color=SERIES[2], alpha=0.85)
    cost.axvline(100.0, color=MUTED, linewidth=0.8)
    for axes, label in ((flow, "share of shares, %"), (cost, "effective over quoted spread, %")):
        name_rows(axes, [names[k] for k in order])
        axes.set_xlabel(label)
    cost.set_yticks(rows, [])
    figure.legend(loc="outside upper center", ncols=2, fontsize=8)
    spoken = listed([(names[k], venues["routed_percent"][k]) for k in order], 1)
    caption = "Where the flow went and what filled; on the right effective over quoted spread: 100 is the quote."
    return finished(figure, "flow", "Flow and E/Q by venue", f"Share of shares sent, per cent: {spoken}.", caption)


def write_desk_report(analysis: DeskAnalysis, files: dict[str, str], folder: Path) -> Path:
    """Write the report into a folder; returns the page."""
    data = desk_data(analysis, files)
    figures = [_markouts(data), _flow(data)] if analysis.about["fills"] else []
    write_text(folder / REPORT_JSON, json.dumps(data, indent=2, allow_nan=False) + "\n")
    write_text(folder / REPORT_MARKDOWN, templates().get_template("desk.md.j2").render(d=data, digits=_digits))
    page = templates().get_template("desk.html.j2").render(d=data, figures=figures, digits=_digits)
    write_text(folder / REPORT_HTML, page)
    write_text(folder / PARENTS_CSV, _parents_csv(analysis))
    return folder / REPORT_HTML


def _parents_csv(analysis: DeskAnalysis) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["parent_id", *analysis.parents])
    for name, *values in zip(analysis.parent_names, *analysis.parents.values(), strict=True):
        writer.writerow([name, *("" if math.isnan(v) else f"{v:.10g}" for v in values)])
    return out.getvalue()


def print_desk(analysis: DeskAnalysis, console: Console | None = None) -> None:
    """Every measure in total and by venue, then markouts by horizon."""
    console, measures = console or wide_console(200), desk_measures(analysis.about["later_s"])
    for sentence in sentences(analysis):
        console.print(sentence, highlight=False, markup=False, soft_wrap=True)
    table = Table(title="Measures; costs are positive when bad", title_justify="left")
    table.add_column("measure", no_wrap=True)
    table.add_column("unit")
    for name in ("all", *analysis.venue_names):
        table.add_column(name, justify="right")
    for key, measure in measures.items():
        of_venues: Any = analysis.venues.get(key)
        if key in analysis.totals or of_venues is not None:
            cells = [analysis.totals.get(key), *(of_venues if of_venues is not None else ())]
            shown = ["" if cell is None else number(float(cell), _digits(measure.unit)) for cell in cells]
            table.add_row(measure.label, measure.unit, *shown)
    console.print(table)
    later = Table(title="After the fill, bps, by shares; markouts are positive when good", title_justify="left")
    later.add_column("")
    rows = [("markout", analysis.markout_bps), ("realised spread", analysis.realised_spread_bps)]
    rows += [("price impact", analysis.price_impact_bps), ("known volume, %", analysis.known_percent)]
    rows += [(f"markout, {n}", m) for n, m in zip(analysis.venue_names, analysis.venue_markout_bps, strict=True)]
    for seconds in analysis.horizons_s:
        later.add_column(f"{seconds:g} s", justify="right")
    for name, values in rows:
        later.add_row(name, *(number(float(v), 1 if "%" in name else 3) for v in values))
    console.print(later)
