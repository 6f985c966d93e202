"""A calibration as a console table and as one page. Every number comes from the calibration's plain data."""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.table import Table

from sor_sb3.evaluation.formats import number
from sor_sb3.reports.figures import Data, Figure, finished, name_rows, styled
from sor_sb3.reports.page import templates
from sor_sb3.reports.theme import INK, LIGHT, MUTED, SERIES, new_axes

VERDICT_STYLES = {"meet": "green", "apart": "bold red", "too wide": "red", "uninformative": "yellow", "": "dim"}
_COLOURS = {"meet": LIGHT["good"], "apart": LIGHT["bad"], "too wide": LIGHT["bad"], "uninformative": MUTED}
_SHOWN = 2.0  # how far from the recorded value, in shares of it, the figure of intervals goes
_CURVES = {
    "spread_autocorrelation": "log spread",
    "size_autocorrelation": "log size",
    "move_autocorrelation": "absolute moves",
}


def found_text(found: list[float | None], digits: int) -> str:
    """A value with its interval."""
    value, low, high = found
    if value is None:
        return number(None)
    return f"{number(value, digits)} ({number(low, digits)} to {number(high, digits)})"


def comparison_table(data: Data) -> Table:
    """A row a statistic: recorded, calibrated, and whether the intervals meet."""
    table = Table(title=f"{data['market']}: {data['summary']}", title_justify="left", title_style="bold")
    for name, justify in (("statistic", "left"), ("recorded", "right"), ("calibrated", "right"), ("unit", "left")):
        table.add_column(name, justify=justify, overflow="fold")  # type: ignore[arg-type]
    table.add_column("intervals")
    for row in data["rows"]:
        cells = [found_text(row[key], row["digits"]) for key in ("recorded", "calibrated")]
        word = row["verdict"]
        table.add_row(row["label"], *cells, row["unit"], f"[{VERDICT_STYLES[word]}]{word}[/]" if word else "")
    table.caption, table.caption_justify = comparison_note(data), "left"
    return table


def comparison_note(data: Data) -> str:
    """How the comparison was made."""
    first, rest = data["hours"]
    fitted = f"fitted to the first {number(first, 2)} hours of quotes, compared with the other {number(rest, 2)}"
    intervals = f"95 % intervals over blocks of {number(data['block_s'], 0)} s"
    return f"{fitted}; {intervals}, the calibrated ones with what the fit leaves open"


@styled
def _intervals(data: Data) -> Figure | None:
    judged = [row for row in data["rows"] if row["verdict"] in ("meet", "apart", "too wide") and row["recorded"][0]]
    rows = [row for row in judged if None not in row["recorded"] + row["calibrated"]]
    if not rows:
        return None
    figure, axes = new_axes(0.24 * len(rows) + 0.9)
    for at, row in enumerate(rows):
        scale = abs(row["recorded"][0])
        for key, offset, colour in (("recorded", -0.16, INK), ("calibrated", 0.16, _COLOURS[row["verdict"]])):
            value, low, high = (np.clip(x / scale, 1 - _SHOWN, 1 + _SHOWN) for x in row[key])
            axes.plot([low, high], [at + offset, at + offset], color=colour, linewidth=1.8)
            axes.plot(value, at + offset, "o", color=colour, markersize=3.5)
    axes.axvline(1.0, color=MUTED, linewidth=0.8)
    name_rows(axes, [row["key"] for row in rows])
    axes.set_xlabel("over the recorded value")
    for label, colour in (("recorded", INK), ("meets it", _COLOURS["meet"]), ("apart", _COLOURS["apart"])):
        axes.plot([], [], "o", color=colour, label=label)
    axes.legend(loc="best")
    apart = [row["key"] for row in rows if row["verdict"] == "apart"]
    description = f"Statistics over their recorded value; apart: {', '.join(apart) or 'none'}."
    caption = f"Informative statistics with 95 % intervals, each over its recorded value; cut at {_SHOWN:g} from it."
    return finished(figure, "intervals", "Recorded and calibrated", description, caption)


@styled
def _memory(data: Data) -> Figure | None:
    rows = {row["key"]: row for row in data["rows"]}
    figure, axes = new_axes(2.9)
    for i, (prefix, label) in enumerate(_CURVES.items()):
        points = [
            (int(key.rpartition("_")[2].removesuffix("s")), row)
            for key, row in rows.items()
            if key.startswith(prefix) and row["recorded"][0] is not None and row["calibrated"][0] is not None
        ]
        if not points:
            continue
        lags = [lag for lag, _ in points]
        recorded = np.array([row["recorded"] for _, row in points], dtype=float)
        axes.plot(lags, [row["calibrated"][0] for _, row in points], color=SERIES[i], label=label)
        axes.vlines(lags, recorded[:, 1], recorded[:, 2], color=SERIES[i], linewidth=1.2)
        axes.plot(lags, recorded[:, 0], "o", color=SERIES[i], markersize=4)
    axes.set_xscale("log")
    axes.set_xlabel("lag, s")
    axes.set_ylabel("autocorrelation")
    axes.legend(loc="best")
    caption = "Dots and bars: recorded, with 95 % intervals. Lines: the calibrated market."
    return finished(figure, "memory", "How long the market remembers", "Autocorrelations by lag.", caption)


@styled
def _moments(data: Data) -> Figure | None:
    rows = [row for row in data["moments"] if None not in (row["recorded"], row["simulated"], row["sd"])]
    if not rows:
        return None
    figure, axes = new_axes(0.2 * len(rows) + 0.9)
    for at, row in enumerate(rows):
        axes.plot(
            [row["recorded"] - 2 * row["sd"], row["recorded"] + 2 * row["sd"]], [at, at], color=INK, linewidth=1.4
        )
        axes.plot(row["simulated"], at, "o", color=SERIES[0], markersize=4)
    name_rows(axes, [row["moment"] for row in rows])
    axes.set_xlabel("moment of the part that the market is fitted to")
    caption = "Bars: two standard deviations about the recorded moment. Dots: the calibrated market."
    return finished(figure, "moments", "What the market was fitted to", "Moments, recorded and simulated.", caption)


def render_calibration(data: dict[str, Any]) -> str:
    """The page: HTML, style and figures in one text that needs nothing else."""
    figures = [figure for figure in (_intervals(data), _memory(data), _moments(data)) if figure is not None]
    template = templates().get_template("calibration.html.j2")
    return template.render(d=data, figures=figures, note=comparison_note(data), found=found_text)
