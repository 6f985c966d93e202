"""Figures of a comparison's result and of learning, for the page and as files. Every number in them comes from data.

Where the flow goes and what it costs is in :mod:`sor_sb3.reports.flow_figures`.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from sor_sb3.evaluation.formats import listed, measured
from sor_sb3.evaluation.results import Runs, learning_curve
from sor_sb3.evaluation.verdicts import with_best_rule
from sor_sb3.policies.registry import ORACLE_NAMES
from sor_sb3.reports.theme import INK, KINDS, MUTED, SERIES, STYLE, new_axes, to_png, to_svg

Data = dict[str, Any]
_BASELINES_SHOWN = 5  # the cheapest; the others would only squeeze the curves
_FILE_WIDTH_IN = 8.0


@dataclass(frozen=True)
class Figure:
    """A drawing with what stands round it: a title, and a caption under it. The SVG carries its own alt text."""

    key: str
    title: str
    svg: str
    caption: str


def styled(draw: Callable[..., Any]) -> Callable[..., Any]:
    """Draw in the page's style."""

    @wraps(draw)
    def inside(*args: Any) -> Any:
        with matplotlib.rc_context(STYLE):
            return draw(*args)

    return inside


def finished(drawing: Any, key: str, title: str, description: str, caption: str) -> Figure:
    """The drawing as a page shows it; the description is for those who cannot see it."""
    return Figure(key, title, to_svg(drawing, key, description), caption)


def cost_unit(data: Data) -> str:
    """The unit of costs."""
    return str(data["results"]["cost_unit"])


def kinds_of(results: dict[str, Any]) -> dict[str, str]:
    """ "learned", "rule" or "oracle" by policy."""
    return {p["name"]: p["kind"] for p in results["policies"]}


def name_rows(axes: Any, names: list[str]) -> None:
    """Names down the side, the first on top."""
    axes.set_yticks(range(len(names)), [n if len(n) <= 24 else f"{n[:10]}…{n[-12:]}" for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def name_columns(axes: Any, names: list[str]) -> None:
    """Names under columns of cells, each 1 wide, without grid or frame."""
    axes.grid(False)
    axes.set_xlim(0, len(names))
    axes.set_xticks(np.arange(len(names)) + 0.5, names, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.spines[["left", "bottom"]].set_visible(False)


def kind_legend(axes: Any, kinds: Collection[str]) -> None:
    """A legend of the colours of the kinds of policies that a figure shows."""
    for kind in KINDS:
        if kind in kinds:
            axes.plot([], [], "o", color=KINDS[kind], label=kind)
    axes.legend(loc="best")


@styled
def differences(data: Data) -> Figure | None:
    """Each policy's cost minus the best rule's, with the paired interval that the verdict rests on."""
    best, kinds, unit = data["results"]["best_rule"], kinds_of(data["results"]), cost_unit(data)
    rows = [(name, d) for name, d in data["differences"].items() if name != best]
    figure, axes = new_axes(0.27 * len(rows) + 0.95)
    for row, (name, d) in enumerate(rows):
        colour = KINDS[kinds[name]]
        if d["low"] is not None and d["high"] is not None:
            axes.plot([d["low"], d["high"]], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(d["mean"], row, "o", color=colour, markersize=5)
    axes.axvline(0.0, color=INK, linewidth=1, linestyle="--")
    name_rows(axes, [name for name, _ in rows])
    axes.set_xlabel(f"cost minus that of {best}, {unit}  (left of the line: cheaper)")
    kind_legend(axes, kinds.values())
    numbers = ", ".join(f"{name} {measured(d['mean'], [d['low'], d['high']])}" for name, d in rows)
    description = f"Cost of each policy minus that of {best}, {unit}: {numbers}."
    caption = (
        f"Mean cost minus that of {best}, the best rule, on the same scenarios. The bar is the paired 95 % interval "
        "over scenarios and training seeds. A bar that misses the dashed line is a significant difference, before the "
        "correction for many comparisons."
    )
    return finished(figure, "differences", "Against the best rule", description, caption)


def _boxes(data: Data, rows: Mapping[str, Data], label: str) -> Any:
    """A figure of quantiles, a row a policy."""
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    draw_boxes(axes, rows, kinds_of(data["results"]))
    axes.set_xlabel(label)
    return figure


def draw_boxes(axes: Any, rows: Mapping[str, Data], kinds: Mapping[str, str]) -> None:
    """Quantiles, a row a policy: box, median, 5 % to 95 %, mean and CVaR."""
    for row, (name, d) in enumerate(rows.items()):
        colour = KINDS[kinds[name]]
        axes.plot([d["p5"], d["p95"]], [row, row], color=colour, linewidth=1.2)
        axes.barh(row, d["p75"] - d["p25"], left=d["p25"], height=0.55, color=colour, alpha=0.45)
        axes.plot([d["p50"], d["p50"]], [row - 0.27, row + 0.27], color=colour, linewidth=2)
        axes.plot(d["mean"], row, "o", color=INK, markersize=3)
        axes.plot(d["cvar95"], row, "x", color=MUTED, markersize=4.5)
    name_rows(axes, list(rows))


@styled
def cost_distribution(data: Data) -> Figure | None:
    """Quantiles of the cost over scenarios and seeds."""
    rows, unit = data["distributions"], cost_unit(data)
    worst = listed([(name, d["cvar95"]) for name, d in rows.items()])
    description = f"Distribution of cost by policy; mean of the worst 5 %, {unit}: {worst}."
    caption = (
        "Box: quartiles and median over scenarios (and training seeds). Line: 5 % to 95 %. Dot: mean. Cross: CVaR, the "
        "mean of the worst 5 %. Most of the width is the market's own move, which every policy shares."
    )
    figure = _boxes(data, rows, f"cost of a parent order, {unit}")
    return finished(figure, "distribution", "Distribution of the cost", description, caption)


@styled
def difference_distribution(data: Data) -> Figure | None:
    """Quantiles of the paired difference to the best rule."""
    best, rows, unit = data["results"]["best_rule"], data["difference_distributions"], cost_unit(data)
    if not rows:
        return None
    figure = _boxes(data, rows, f"cost minus that of {best} in the same scenario, {unit}")
    figure.axes[0].axvline(0.0, color=INK, linewidth=1, linestyle="--")
    medians = listed([(name, d["p50"]) for name, d in rows.items()])
    description = f"Distribution of the difference to {best}, scenario by scenario; medians, {unit}: {medians}."
    caption = (
        f"Cost of each scenario minus the cost of {best} in that scenario: the market's own move drops out. Marks as "
        "in the distribution of the cost."
    )
    return finished(figure, "paired", "Difference, scenario by scenario", description, caption)


def _draw_baselines(axes: Any, baselines: Mapping[str, float], kinds: Mapping[str, str], apart: float) -> None:
    """A dashed line for each baseline, named at the right with labels at least `apart` from another."""
    label_at = -np.inf
    for name, cost in baselines.items():
        colour = KINDS[kinds.get(name, "rule")]
        axes.axhline(cost, color=colour, linestyle="--", linewidth=1)
        label_at = max(cost, label_at + apart)
        at, line = ("axes fraction", "data"), {"arrowstyle": "-", "color": colour, "linewidth": 0.6}
        where = {"xycoords": at, "textcoords": at, "va": "center", "fontsize": 8}
        axes.annotate(name, (1.0, cost), (1.03, label_at), color=colour, arrowprops=line, **where)


def draw_curves(axes: Any, curves: Data, baselines: Mapping[str, float], kinds: Mapping[str, str], unit: str) -> None:
    """A line and a band an algorithm (its `mean`, `low` and `high`), and the cheapest baselines."""
    drawn: list[float] = []
    for i, (name, c) in enumerate(curves.items()):
        colour = SERIES[i % len(SERIES)]
        seeds = f"{c['seeds']} seed" + ("s" if c["seeds"] != 1 else "")
        axes.fill_between(c["steps"], c["low"], c["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(c["steps"], c["mean"], color=colour, linewidth=1.8, label=f"{name} ({seeds})")
        drawn += [c["mean"][-1], *c["low"]]
    shown = dict(sorted(baselines.items(), key=lambda item: float(item[1]))[:_BASELINES_SHOWN])
    low, high = min([*drawn, *shown.values()]), max([*drawn, *shown.values()])
    room = 0.12 * (high - low or 1.0)
    axes.set_ylim(low - room, high + 3.0 * room)
    _draw_baselines(axes, shown, kinds, 0.06 * (high - low + 4.0 * room))
    axes.grid(axis="y")
    axes.set(xlabel="training steps (decisions)", ylabel=f"validation cost, {unit}")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g} k" if x else "0")
    axes.legend(loc="upper right")


@styled
def learning_curves(data: Data) -> Figure | None:
    """Validation cost against training steps, baselines as lines."""
    if not data["curves"]:
        return None
    figure, axes = new_axes(3.1)
    draw_curves(axes, data["curves"], data["baselines"], kinds_of(data["results"]), cost_unit(data))
    ends = listed([(name, c["mean"][-1]) for name, c in data["curves"].items()])
    description = f"Validation cost against training steps; at the end, {cost_unit(data)}: {ends}."
    caption = (
        "Cost on validation scenarios while training: mean over training seeds, band from the best seed to the worst. "
        "Dashed: the cheapest rules and the oracle on the same scenarios. The checkpoint of lowest validation cost is "
        "the one tested."
    )
    return finished(figure, "curves", "Learning", description, caption)


@styled
def learning_curves_figure(
    curves: Mapping[str, Runs], baselines: Mapping[str, float], title: str, unit: str, path: Path
) -> Path:
    """Draw validation cost, in `unit`, against training steps into a PNG file; rules and oracles are lines."""
    figure, axes = new_axes(4.6, width_in=_FILE_WIDTH_IN)
    kinds = {name: "oracle" if name in ORACLE_NAMES else "rule" for name in baselines}
    draw_curves(axes, {name: learning_curve(runs) for name, runs in curves.items()}, baselines, kinds, unit)
    axes.set_title(title)
    return to_png(figure, path)


@styled
def comparison_figure(results: dict[str, Any], path: Path) -> Path:
    """Draw the cost of every policy, cheapest on top, into a PNG file.

    The whisker of a policy that was compared with the best rule is the paired interval of the difference, on which the
    verdict rests. The interval of a cost alone is mostly the market's own noise, which all policies share.
    """
    policies = results["policies"]
    best = next(p["cost"] for p in policies if p["name"] == results["best_rule"])
    figure, axes = new_axes(0.36 * len(policies) + 1.4, width_in=_FILE_WIDTH_IN)
    for row, policy in enumerate(policies):
        right = policy["cost"]
        axes.barh(row, right, height=0.7, color=KINDS[policy["kind"]], alpha=0.85)
        found = with_best_rule(results, policy["name"])
        low, high = found["ci95"] if found is not None else (None, None)
        if low is not None and high is not None:
            axes.plot([best + low, best + high], [row, row], color=INK, linewidth=2)
            right = max(right, best + high)
        shown = measured(policy["cost"], policy["cost_ci95"])
        axes.annotate(shown, (right, row), xytext=(6, 0), textcoords="offset points", va="center")
    axes.axvline(best, color=INK, linestyle="--", linewidth=1)
    name_rows(axes, [p["name"] for p in policies])
    axes.margins(x=0.12)
    marks = f"dashed: the best rule, {results['best_rule']}; black: 95 % interval of the paired difference"
    axes.set_xlabel(f"cost of a parent order, {results['cost_unit']}\n{marks}")
    axes.set_title(f"{results['market']}, {results['env']}: {results['scenarios']} {results['data_split']} scenarios")
    kind_legend(axes, [p["kind"] for p in policies])
    return to_png(figure, path)


@styled
def gap_closed(data: Data) -> Figure | None:
    """Share of the gap between reference and oracle that each policy closes."""
    results = data["results"]
    rows = [p for p in results["policies"] if p["gap_closed"] is not None]
    if not rows:
        return None
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    for row, p in enumerate(rows):
        axes.barh(row, 100.0 * p["gap_closed"], height=0.6, color=KINDS[p["kind"]], alpha=0.55)
        low, high = p["gap_closed_ci95"]
        if low is not None and high is not None and high > low:
            axes.plot([100.0 * low, 100.0 * high], [row, row], color=INK, linewidth=1.4)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    axes.axvline(100.0, color=KINDS["oracle"], linewidth=1, linestyle="--")
    name_rows(axes, [p["name"] for p in rows])
    axes.set_xlabel(f"gap closed, %  (0: {results['reference_rule']}, 100: {results['gap_end']})")
    numbers = listed([(p["name"], 100.0 * p["gap_closed"]) for p in rows], 0)
    description = f"Share of the gap closed, per cent: {numbers}."
    caption = (
        f"How much of the way from the naive router, {results['reference_rule']}, to {results['gap_end']}, which sees "
        "hidden state, each policy goes. Line: 95 % interval."
    )
    return finished(figure, "gap", "Gap closed", description, caption)


@styled
def performance_profile(data: Data) -> Figure | None:
    """Share of scenarios and seeds with a score above tau."""
    if data["aggregates"] is None:
        return None
    figure, axes = new_axes(2.9)
    draw_profile(axes, data)
    taus, profiles = np.array(data["aggregates"]["taus"]), data["aggregates"]["profiles"]
    names = [name for name in data["featured"] if name in profiles]
    at_1 = int(np.argmin(np.abs(taus - 1.0)))
    share = listed([(name, 100.0 * profiles[name][at_1]["mean"]) for name in names], 1)
    description = f"Performance profile; share of runs above a score of 1, per cent: {share}."
    caption = (
        "Share of (scenario, training seed) pairs whose score lies above tau; higher curves are better. A score is "
        "what the policy saved against the reference in that scenario, in units of what the oracle saves on average. "
        "Band: 95 % interval."
    )
    return finished(figure, "profile", "Performance profile", description, caption)


def draw_profile(axes: Any, data: Data) -> None:
    """Performance profiles of the featured policies, with their intervals."""
    taus, profiles = np.array(data["aggregates"]["taus"]), data["aggregates"]["profiles"]
    names = [name for name in data["featured"] if name in profiles]
    for i, name in enumerate(names):
        mean, low, high = ([100.0 * e[key] for e in profiles[name]] for key in ("mean", "low", "high"))
        axes.fill_between(taus, low, high, color=SERIES[i % len(SERIES)], alpha=0.15, linewidth=0)
        axes.plot(taus, mean, color=SERIES[i % len(SERIES)], linewidth=1.7, label=name)
    axes.set(ylim=(0, 100), xlim=(taus[0], taus[-1]), ylabel="runs with a higher score, %")
    axes.set_xlabel("score tau  (0: mean of the reference, 1: of the oracle)")
    axes.grid(axis="y")
    axes.legend(loc="upper right")
