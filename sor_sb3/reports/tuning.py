"""A search for settings as one page: how it went, what mattered, and which settings went together with which result.

Every number comes from the search's summary, plain data.
"""

from typing import Any

import matplotlib
import numpy as np

from sor_sb3.evaluation.formats import listed, number, percent
from sor_sb3.reports.figures import Data, Figure, finished, name_rows, styled
from sor_sb3.reports.page import templates
from sor_sb3.reports.theme import INK, LIGHT, MUTED, SERIES, new_axes

_SHOWN = 8  # axes of parallel coordinates: the parameters that matter most


def _complete(data: Data) -> list[Data]:
    return [row for row in data["trials"] if row["gap_closed"] is not None]


def _floor(values: np.ndarray) -> float:
    """The lowest value that a figure shows, so that one disaster does not squeeze all others."""
    top, quarter = float(values.max()), float(np.quantile(values, 0.25))
    return max(float(values.min()), top - 3.0 * max(top - quarter, 1e-4))


@styled
def _history(data: Data) -> Figure:
    rows, others = _complete(data), [row["trial"] for row in data["trials"] if row["gap_closed"] is None]
    numbers, values = np.array([r["trial"] for r in rows]), 100.0 * np.array([r["gap_closed"] for r in rows])
    low = _floor(values)
    figure, axes = new_axes(2.8)
    axes.plot(numbers, np.maximum(values, low), "o", color=SERIES[0], markersize=4, label="complete")
    axes.step(numbers, np.maximum.accumulate(values).clip(low), where="post", color=SERIES[1], label="best so far")
    axes.plot(others, np.full(len(others), low), "x", color=MUTED, markersize=5, label="pruned or failed")
    axes.set(xlabel="trial", ylabel="gap closed, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y")
    axes.legend(loc="best")
    description = f"Gap closed by trial, per cent; the best, {number(values.max(), 2)}, is trial {data['best']}."
    caption = (
        "Gap closed on validation scenarios, the mean over markets and training seeds. The first trial has what the "
        f"search began with. Values below {number(low, 1)} are drawn there."
    )
    return finished(figure, "history", "How the search went", description, caption)


@styled
def _importance(data: Data) -> Figure | None:
    rows = sorted(data["importance"].items(), key=lambda item: -item[1])
    if not rows:
        return None
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    axes.barh(range(len(rows)), [value for _, value in rows], height=0.6, color=SERIES[0], alpha=0.7)
    name_rows(axes, [name for name, _ in rows])
    axes.set_xlabel("importance")
    description = f"Importance of each setting: {listed(rows)}."
    caption = (
        "How much a setting's values among the best quarter of the trials differ from those of all (PED-ANOVA); they "
        "add up to 1. From few trials this is a hint."
    )
    return finished(figure, "importance", "What mattered", description, caption)


def _places(values: list[Any], log: bool) -> tuple[np.ndarray, list[float], list[str]]:
    """Where values lie on an axis from 0 to 1, and the axis' marks."""
    if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values):
        numbers = np.log(np.array(values, dtype=float)) if log else np.array(values, dtype=float)
        low, high = float(numbers.min()), float(numbers.max())
        ends = sorted({min(values), max(values)})
        return (numbers - low) / ((high - low) or 1.0), [0.0, 1.0][: len(ends)], [f"{end:.3g}" for end in ends]
    names = sorted({str(v) for v in values})
    at = {name: i / max(len(names) - 1, 1) for i, name in enumerate(names)}
    return np.array([at[str(v)] for v in values]), list(at.values()), names


@styled
def _parallel(data: Data) -> Figure | None:
    rows = _complete(data)
    ranked = sorted(data["space"], key=lambda key: -data["importance"].get(key, 0.0))[:_SHOWN]
    keys = [key for key in ranked if all(key in row["params"] for row in rows)]
    if len(rows) < 2 or not keys:
        return None
    values = np.array([row["gap_closed"] for row in rows])
    low = _floor(values)
    shades = (values.clip(low) - low) / ((values.max() - low) or 1.0)
    columns = [_places([row["params"][key] for row in rows], data["space"][key].endswith(":log")) for key in keys]
    lines = np.column_stack([*(places for places, _, _ in columns), shades])
    figure, axes = new_axes(3.4)
    scale = matplotlib.colors.LinearSegmentedColormap.from_list("gap", [LIGHT["line"], SERIES[0]])
    for i in np.argsort(values):
        best = rows[i]["trial"] == data["best"]
        colour, width = (SERIES[1], 2.2) if best else (scale(0.15 + 0.85 * shades[i]), 1.1)
        axes.plot(lines[i], color=colour, linewidth=width)
    for x, (_, at, marks) in enumerate(columns):
        axes.axvline(x, color=MUTED, linewidth=0.8)
        for y, mark in zip(at, marks, strict=True):
            axes.annotate(mark, (x, y), xytext=(3, 3), textcoords="offset points", fontsize=7.5, color=INK)
    axes.axvline(len(keys), color=INK, linewidth=1.2)
    for y, value in ((0.0, low), (1.0, values.max())):
        axes.annotate(percent(value, 2), (len(keys), y), xytext=(3, 3), textcoords="offset points", fontsize=7.5)
    names = [key.rpartition(".")[2] for key in keys]
    axes.set_xticks(range(len(keys) + 1), [*names, "gap closed, %"], rotation=30, ha="right")
    axes.set_yticks([])
    axes.set(xlim=(-0.2, len(keys) + 0.6), ylim=(-0.05, 1.1))
    axes.grid(False)
    axes.spines[["left", "bottom"]].set_visible(False)
    description = f"Settings of {len(rows)} complete trials beside their gap closed; the best is trial {data['best']}."
    caption = "A line is a complete trial, the darker the more of the gap it closed; orange is the best one."
    return finished(figure, "parallel", "Which settings went with which result", description, caption)


def render_tuning(data: Data) -> str:
    """The page: HTML, style and figures in one text that needs nothing else."""
    figures = [figure for figure in (_history(data), _importance(data), _parallel(data)) if figure is not None]
    return templates().get_template("tune.html.j2").render(d=data, figures=figures, keys=list(data["space"]))
