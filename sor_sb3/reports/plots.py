"""Figures over any set of comparisons and training runs, as matplotlib figures; intervals on every number.

What is drawn is plain data: a comparison's ``report.json`` and runs' validation costs. Where they lie on a disk is the
business of :mod:`sor_sb3.experiments.plots`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from matplotlib.figure import Figure as Drawing

from sor_sb3.errors import UserError
from sor_sb3.evaluation.formats import interval, measured
from sor_sb3.evaluation.statistics import mean_with_interval
from sor_sb3.evaluation.verdicts import with_best_rule
from sor_sb3.policies.registry import ORACLE_NAMES
from sor_sb3.reports.figures import (
    Data,
    draw_boxes,
    draw_curves,
    draw_profile,
    kind_legend,
    kinds_of,
    name_rows,
    styled,
)
from sor_sb3.reports.theme import INK, KINDS, MUTED, WIDTH_IN, new_figure

COLUMNS = 2  # of panels
AGGREGATES = {
    "iqm": "interquartile mean of scores\n(1: the oracle's mean)",
    "optimality_gap": "optimality gap\n(0 is best)",
    "improvement": "P(better than the best rule)",
}


@dataclass(frozen=True)
class Learning:
    """What a panel of learning curves shows: one market and env.

    Attributes:
        title: of the panel.
        unit: of costs.
        runs: by label, a curve's training seeds: timesteps (E,) and validation costs (E, N) each, the same N scenarios
            for all.
        baselines: mean validation costs of rules and oracle, by name.
    """

    title: str
    unit: str
    runs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]
    baselines: Mapping[str, float] = field(default_factory=dict)


def curves_with_intervals(runs: Mapping[str, Sequence[tuple[np.ndarray, np.ndarray]]]) -> Data:
    """Mean validation cost of each curve at its first seed's evaluations, with 95 % intervals, in the unit of costs.

    The intervals are over training seeds and scenarios, of what is left when each scenario's mean over all that is
    drawn is taken out: most of a cost is the market's own move, which all curves share and which says nothing of their
    differences (Cousineau 2005, "Confidence intervals in within-subject designs"). Where curves were validated on
    different numbers of scenarios, the interval is that of the costs as they are.
    """
    sizes = {costs.shape[1] for seeds in runs.values() for _, costs in seeds}
    shared = np.zeros(1)
    if len(sizes) == 1:
        of_scenarios = np.mean([costs.mean(axis=0) for seeds in runs.values() for _, costs in seeds], axis=0)
        shared = of_scenarios - of_scenarios.mean()
    found: Data = {}
    for label, seeds in runs.items():
        steps = seeds[0][0]
        cells = np.stack([_at(steps, timesteps, costs) for timesteps, costs in seeds]) - shared  # (seeds, E, N)
        estimates = [mean_with_interval(cells[:, e]) for e in range(len(steps))]
        ends = {"mean": "mean", "low": "ci95_low", "high": "ci95_high"}
        found[label] = {key: np.array([getattr(e, name) for e in estimates]) for key, name in ends.items()}
        for key in ("low", "high"):  # of two scenarios or one there is none
            found[label][key] = np.where(np.isfinite(found[label][key]), found[label][key], found[label]["mean"])
        found[label] |= {"steps": steps, "seeds": len(seeds)}
    return found


def _at(steps: np.ndarray, timesteps: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """Costs (E, N) at other timesteps, by scenario, between evaluations on straight lines."""
    if np.array_equal(steps, timesteps):
        return costs
    return np.stack([np.interp(steps, timesteps, column) for column in costs.T], axis=1)


def _panels(n: int, height_in: float, columns: int = COLUMNS) -> tuple[Drawing, list[Any]]:
    columns = min(n, columns)
    rows = math.ceil(n / columns)
    figure: Drawing = new_figure(height_in * rows, WIDTH_IN * columns)
    axes = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for unused in axes[n:]:
        unused.remove()
    return figure, axes[:n]


def _title(data: Data) -> str:
    results = data["results"]
    return f"{results['market']}, {results['env']}: {results['scenarios']:,} {results['data_split']} scenarios"


@styled
def learning_curves(panels: Sequence[Learning]) -> Drawing:
    """Validation cost against training steps: a panel a market and env, a line and its 95 % interval a curve."""
    figure, axes = _panels(len(panels), 3.1)
    for at, panel in zip(axes, panels, strict=True):
        kinds = {name: "oracle" if name in ORACLE_NAMES else "rule" for name in panel.baselines}
        draw_curves(at, curves_with_intervals(panel.runs), panel.baselines, kinds, panel.unit)
        at.set_title(panel.title)
    return figure


def _with_aggregates(reports: Sequence[Data]) -> list[Data]:
    """Those whose scores have a scale; a `UserError` where none has."""
    found = [data for data in reports if data["aggregates"] is not None]
    if not found:
        why = "the oracle is not significantly cheaper than the reference rule, so that scores have no scale"
        raise UserError(f"{why}; compare on more scenarios, or draw learning_curves and cost_distributions alone")
    return found


@styled
def performance_profiles(reports: Sequence[Data]) -> Drawing:
    """Share of runs above each score: a panel a comparison, a line and its 95 % interval a featured policy."""
    shown = _with_aggregates(reports)
    figure, axes = _panels(len(shown), 2.9)
    for at, data in zip(axes, shown, strict=True):
        draw_profile(at, data)
        at.set_title(_title(data))
    return figure


@styled
def aggregate_bars(reports: Sequence[Data]) -> Drawing:
    """Robust summaries of the featured policies with 95 % intervals, a row of panels a comparison.

    Interquartile mean, optimality gap, and the chance to be better than the best rule, with the verdict in words
    beside it: those of ``results.json``.
    """
    shown = _with_aggregates(reports)
    heights = [0.3 * len(data["featured"]) + 0.8 for data in shown]
    figure = new_figure(sum(heights), 2 * WIDTH_IN)
    all_axes = figure.subplots(
        len(shown), len(AGGREGATES), squeeze=False, gridspec_kw={"height_ratios": heights, "width_ratios": (3, 3, 4)}
    )
    for row, (axes, data) in enumerate(zip(all_axes, shown, strict=True)):
        _draw_aggregates(axes, data)
        axes[0].set_title(_title(data), loc="left")
        if row + 1 == len(shown):
            for at, label in zip(axes, AGGREGATES.values(), strict=True):
                at.set_xlabel(label)
    return figure


def _draw_aggregates(axes: Sequence[Any], data: Data) -> None:
    of, kinds = data["aggregates"]["policies"], kinds_of(data["results"])
    names = [name for name in data["featured"] if name in of]
    for at, key in zip(axes, AGGREGATES, strict=True):
        for row, name in enumerate(names):
            found = of[name][key]
            if found is None:  # the best rule against itself
                continue
            colour = KINDS[kinds[name]]
            at.barh(row, found["mean"], height=0.6, color=colour, alpha=0.45)
            if found["low"] is not None and found["high"] is not None:
                at.plot([found["low"], found["high"]], [row, row], color=INK, linewidth=1.6)
        name_rows(at, names if at is axes[0] else [""] * len(names))
    axes[-1].axvline(0.5, color=MUTED, linestyle="--", linewidth=1)
    axes[-1].set_xlim(0.0, 1.0)
    _write_verdicts(axes[-1], data["results"], names)


def _write_verdicts(axes: Any, results: Data, names: Sequence[str]) -> None:
    """The verdict of each policy against the best rule, in the words of the results, right of the axes."""
    for row, name in enumerate(names):
        found = with_best_rule(results, name)
        words = "(the best rule)" if name == results["best_rule"] else None if found is None else found["wording"]
        if words is not None:
            axes.annotate(
                words, (1.0, row), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
                va="center", fontsize=8, annotation_clip=False,
            )  # fmt: skip


@styled
def cost_distributions(reports: Sequence[Data]) -> Drawing:
    """Quantiles of the cost of a parent order, a panel a comparison: boxes, means with 95 % intervals, verdicts."""
    heights = [0.27 * len(data["distributions"]) + 0.9 for data in reports]
    figure = new_figure(sum(heights), 1.5 * WIDTH_IN)
    axes = figure.subplots(len(reports), 1, squeeze=False, gridspec_kw={"height_ratios": heights}).ravel().tolist()
    for at, data in zip(axes, reports, strict=True):
        results, names = data["results"], list(data["distributions"])
        draw_boxes(at, data["distributions"], kinds_of(results))
        of = {policy["name"]: policy for policy in results["policies"]}
        for row, name in enumerate(names):
            low, high = of[name]["cost_ci95"] or (None, None)
            if low is not None and high is not None:
                at.plot([low, high], [row, row], color=INK, linewidth=1.6)
        _write_verdicts(at, results, names)
        at.set_xlabel(f"cost of a parent order, {results['cost_unit']}")
        at.set_title(_title(data), loc="left")
    kind_legend(axes[0], {kind for data in reports for kind in kinds_of(data["results"]).values()})
    return figure


def described(kind: str, panels: Sequence[Learning], reports: Sequence[Data]) -> str:
    """What a figure of a kind shows, in words and numbers: for those who cannot see it."""
    if kind == "learning_curves":
        ends = [
            f"{panel.title}, {label} {measured(c['mean'][-1], bounds)} {panel.unit} {interval(bounds)}"
            for panel in panels
            for label, c in curves_with_intervals(panel.runs).items()
            if (bounds := [float(c["low"][-1]), float(c["high"][-1])])
        ]
        return f"Validation cost at the end of training, with 95 % intervals: {'; '.join(ends)}."
    costs = [
        f"{_title(data)}: "
        + ", ".join(f"{p['name']} {measured(p['cost'], p['cost_ci95'])}" for p in data["results"]["policies"])
        for data in reports
    ]
    return f"Mean cost of a parent order, by policy. {'; '.join(costs)}."


PLOTS: dict[str, Callable[..., Drawing]] = {
    "learning_curves": learning_curves,
    "performance_profiles": performance_profiles,
    "aggregate_bars": aggregate_bars,
    "cost_distributions": cost_distributions,
}
