"""A report as one self-contained page and as Markdown, from ``report.json``'s content. No number is made here."""

from __future__ import annotations

from functools import cache
from typing import Any

import jinja2
import yaml

from sor_sb3.reports.page_figures import PAGE_FIGURES, Figure

Data = dict[str, Any]


@cache
def templates() -> jinja2.Environment:
    """The page templates, with this module's number formats as filters."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sor_sb3.reports"),
        autoescape=jinja2.select_autoescape(["html.j2"], default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(num=num, signed=signed, interval=interval, words=str)
    return environment


def num(value: float | None, digits: int = 3) -> str:
    """A number with `digits` after the point, thousands apart; a dash where there is none."""
    if value is None:
        return "–"
    text = f"{value:,.{digits}f}"
    return text.replace("-", "−") if float(text.replace(",", "")) != 0.0 else text.replace("-", "")


def signed(value: float | None, digits: int = 3) -> str:
    """As `num`, with a plus sign where it is positive."""
    text = num(value, digits)
    return f"+{text}" if value is not None and value > 0 and not text.startswith("−") else text


def interval(bounds: list[float | None] | None, digits: int = 3) -> str:
    """``[low, high]``; more digits where an end that is not 0 would read as 0; nothing where there is no interval."""
    if bounds is None:
        return ""
    small = [abs(b) for b in bounds if b]
    while small and digits < 6 and min(small) < 0.5 * 10.0**-digits:
        digits += 1
    return f"[{num(bounds[0], digits)}, {num(bounds[1], digits)}]"


def headline(results: dict[str, Any]) -> str:
    """The verdict in one sentence: the cheapest learned policy against the best rule, by the paired interval."""
    unit, best, days = results["cost_unit"], results["best_rule"], f"{results['scenarios']:,} unseen market days"
    learned = [p for p in results["policies"] if p["kind"] == "learned"]
    if not learned:
        cheapest = next(p for p in results["policies"] if p["kind"] != "oracle")
        return f"No learned policy was compared: the cheapest rule on {days} is {cheapest['name']}."
    first = learned[0]["name"]
    found = next(c for c in results["comparisons"] if (c["policy"], c["against"]) == (first, best))
    amount, low_high = num(abs(found["difference"])), interval(found["ci95"])
    numbers = f"paired 95 % interval {low_high} {unit}"
    if found["verdict"] == "no significant difference":
        return (
            f"No significant difference between {first}, the cheapest learned policy, and the best rule, {best}, on "
            f"{days} ({numbers})."
        )
    if found["verdict"] == "worse":
        return (
            f"The best rule, {best}, beats every learned policy: the nearest, {first}, costs {amount} {unit} more on "
            f"{days} ({numbers})."
        )
    doubt = ", though not after correction for the number of comparisons" if found["p_value_holm"] >= 0.05 else ""
    return f"{first} beats the best rule, {best}, by {amount} {unit} on {days}{doubt} ({numbers})."


def _tone(results: dict[str, Any]) -> str:
    """How the verdict is coloured: "good", "bad" or "even"."""
    learned = [p["name"] for p in results["policies"] if p["kind"] == "learned"]
    for c in results["comparisons"]:
        if learned and (c["policy"], c["against"]) == (learned[0], results["best_rule"]):
            certain = c["p_value_holm"] < 0.05
            return {"better": "good", "worse": "bad"}.get(c["verdict"], "even") if certain else "even"
    return "even"


def _shared(data: Data) -> dict[str, Any]:
    results = data["results"]
    return {
        "d": data,
        "r": results,
        "headline": headline(results),
        "tone": _tone(results),
        "against_best": {c["policy"]: c for c in results["comparisons"] if c["against"] == results["best_rule"]},
        "config": yaml.safe_dump(results["config"], sort_keys=False, width=90),
        "bps": results["cost_unit"] == "bps",
    }


def render_html(data: Data) -> str:
    """The page: HTML, style and figures in one text that needs nothing else."""
    figures: dict[str, list[Figure]] = {
        section: [figure for draw in draws if (figure := draw(data)) is not None]
        for section, draws in PAGE_FIGURES.items()
    }
    return templates().get_template("report.html.j2").render(figures=figures, **_shared(data))


def render_markdown(data: Data) -> str:
    """The same report without figures, for a terminal, a ticket or a repository."""
    return templates().get_template("report.md.j2").render(**_shared(data))
