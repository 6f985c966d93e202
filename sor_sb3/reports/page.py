"""A report as one self-contained page and as Markdown, from ``report.json``'s content. No number is made here."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import jinja2
import yaml

from sor_sb3.evaluation.formats import interval, measured, number, p_value, percent, signed, significant, times_fewer
from sor_sb3.evaluation.verdicts import against_best_rule, stakes_sentence, with_best_rule
from sor_sb3.reports import figures as f
from sor_sb3.reports import flow_figures as flow
from sor_sb3.reports.figures import Data, Figure
from sor_sb3.reports.gains import gains_rows, robustness_rows
from sor_sb3.reports.theme import DARK, LIGHT

PAGE_FIGURES: dict[str, tuple[Callable[[Data], Figure | None], ...]] = {
    "result": (f.differences, f.gap_closed, f.cost_distribution, f.difference_distribution),
    "learning": (f.learning_curves, f.performance_profile),
    "flow": (flow.flow, flow.stress, *(partial(flow.flow_by_state, whose) for whose in ("featured", "best_rule"))),
    "cost": (flow.cost_parts, *(partial(flow.cost_by, which) for which in ("latency", "spread", "urgency"))),
    "tca": (flow.markouts,),
}
"""Figures by section of the page, in order; a figure without anything to show is left out."""


@cache
def templates() -> jinja2.Environment:
    """The page templates, with the project's number formats as filters and its palette."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sor_sb3.reports"),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(num=number, signed=signed, interval=interval, percent=percent, p=p_value)
    environment.filters.update(measured=measured, significant=significant, times_fewer=times_fewer)
    environment.globals.update(
        light=LIGHT,
        dark=DARK,
        part_names=flow.PART_NAMES,
        against=against_best_rule,
        found=with_best_rule,
        stakes=stakes_sentence,
        gains=gains_rows,
        robustness=robustness_rows,
    )
    return environment


def _shared(data: Data) -> dict[str, Any]:
    results = data["results"]
    config = yaml.safe_dump(results["config"], sort_keys=False, width=90)
    return {"d": data, "r": results, "config": config, "bps": results["cost_unit"] == "bps"}


def render_html(data: Data) -> str:
    """The page: HTML, style and figures in one text that needs nothing else."""
    drawn = {section: [draw(data) for draw in draws] for section, draws in PAGE_FIGURES.items()}
    figures = {section: [figure for figure in of if figure is not None] for section, of in drawn.items()}
    return templates().get_template("report.html.j2").render(figures=figures, **_shared(data))


def render_markdown(data: Data) -> str:
    """The same report without figures, for a terminal, a ticket or a repository."""
    return templates().get_template("report.md.j2").render(**_shared(data))
