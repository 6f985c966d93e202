"""The realism panel as a table. Every number in it was computed elsewhere."""

from rich.table import Table

from sor_sb3.evaluation.formats import number
from sor_sb3.evaluation.path_statistics import Interval
from sor_sb3.evaluation.realism import Panel, Row

VERDICT_STYLES = {"outside": "bold red", "too wide": "yellow", "inside": "green", "": "dim"}


def _between(low: float, high: float, digits: int) -> str:
    return f"{number(low, digits)} to {number(high, digits)}"


def _cells(row: Row) -> list[str]:
    found, digits = row.found, row.statistic.digits
    if row.statistic.digits == 0 or abs(found.value) >= 1000:
        digits = 0
    interval = (
        "" if found == Interval(found.value, found.value, found.value) else _between(found.low, found.high, digits)
    )
    real = "" if row.real is None else f"{row.real.low:,g} to {row.real.high:,g}"
    source = "" if row.real is None else row.real.source + (f" ({row.real.why})" if row.real.why else "")
    return [row.statistic.label, number(found.value, digits), interval, row.statistic.unit, real, row.verdict, source]


def realism_table(panel: Panel) -> Table:
    """A row a figure: the figure with its interval, the real range with its source, and the verdict."""
    against = f"against {panel.asset_class}" if panel.asset_class else "no asset class, so no ranges"
    table = Table(title=f"{panel.market}: realism, {against}", title_justify="left", title_style="bold")
    for name, justify in zip(
        ("figure", "found", "95 % interval", "unit", "real", "verdict", "source of the range"),
        ("left", "right", "right", "left", "right", "left", "left"),
        strict=True,
    ):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for row in panel.rows:
        cells = _cells(row)
        cells[5] = f"[{VERDICT_STYLES[row.verdict]}]{row.verdict}[/]" if row.verdict else ""
        table.add_row(*cells)
    table.caption, table.caption_justify = realism_note(panel), "left"
    return table


def realism_note(panel: Panel) -> str:
    """How the panel was made."""
    quotes = f"quotes: {panel.path_scenarios} stretches of {panel.path_duration_s:g} s while nobody trades"
    leads = f"; {panel.leader} leads" if panel.leader else ""
    fills = f"fills: {panel.scenarios} scenarios of {panel.rule}; " if panel.scenarios else ""
    seeds = f"; first seed {panel.seed}" if panel.rule else ""
    return f"{fills}{quotes}{leads}{seeds}; intervals over scenarios; a wide interval is not inside"
