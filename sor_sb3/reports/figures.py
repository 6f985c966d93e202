"""Figures of a comparison, drawn from ``results.json`` and the runs' ``evaluations.npz``. No number is made here."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from sor_sb3.files import write_bytes
from sor_sb3.policies.registry import ORACLE_NAMES

_KIND_COLOURS = {"learned": "#1f77b4", "rule": "#8c8c8c", "oracle": "#2ca02c"}
_BASELINES_SHOWN = 6  # the cheapest; the others would only squeeze the curves
_LEARNER_COLOURS = ("#1f77b4", "#d62728", "#9467bd", "#ff7f0e", "#17becf", "#8c564b")


def _save(figure: Any, path: Path) -> Path:
    image = io.BytesIO()
    figure.savefig(image, dpi=150, bbox_inches="tight", format="png")
    plt.close(figure)
    write_bytes(path, image.getvalue())
    return path


def comparison_figure(results: dict[str, Any], path: Path) -> Path:
    """Cost of every policy, cheapest on top, coloured by kind; the best rule's cost as a line.

    For policies compared with the best rule the bar's whisker is the paired interval of the difference, which is what
    the verdict rests on; the interval of a cost alone is mostly the market's own noise, shared by all.
    """
    policies = results["policies"]
    costs = {p["name"]: p["cost"] for p in policies}
    paired = {c["policy"]: c for c in results["comparisons"] if c["against"] == results["best_rule"]}
    best = costs[results["best_rule"]]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(policies) + 1.4))
    for row, policy in enumerate(policies):
        axes.barh(row, policy["cost"], color=_KIND_COLOURS[policy["kind"]], alpha=0.85)
        label = f"{policy['cost']:.3f}"
        right = policy["cost"]
        low, high = paired[policy["name"]]["ci95"] if policy["name"] in paired else (None, None)
        if low is not None and high is not None:
            axes.plot([best + low, best + high], [row, row], color="black", linewidth=2)
            right = max(right, best + high)
        axes.annotate(label, (right, row), xytext=(6, 0), textcoords="offset points", va="center", fontsize=8)
    axes.axvline(best, color="black", linestyle="--", linewidth=1, label=f"best rule: {results['best_rule']}")
    axes.set_yticks(range(len(policies)), [p["name"] for p in policies])
    axes.invert_yaxis()
    axes.set_xlabel(f"cost of a parent order ({results['cost_unit']})\nblack: 95 % interval of the paired difference")
    axes.set_title(f"{results['market']}, {results['env']}: {results['scenarios']} test scenarios")
    axes.margins(x=0.12)
    for kind, colour in _KIND_COLOURS.items():
        if any(p["kind"] == kind for p in policies):
            axes.barh(0, 0, color=colour, label=kind)
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _draw_baselines(axes: Any, baselines: list[tuple[str, float]], apart: float) -> None:
    """A dashed line for each baseline, cheapest first, named at the right with labels at least `apart` from another."""
    label_at = -np.inf
    for name, cost in baselines:
        colour = _KIND_COLOURS["oracle" if name in ORACLE_NAMES else "rule"]
        axes.axhline(cost, color=colour, linestyle="--", linewidth=1)
        label_at = max(cost, label_at + apart)
        axes.annotate(
            name,
            (1.0, cost),
            xycoords=("axes fraction", "data"),
            xytext=(1.03, label_at),
            textcoords=("axes fraction", "data"),
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
        )


def learning_curves_figure(
    curves: Mapping[str, list[tuple[np.ndarray, np.ndarray]]],
    baselines: Mapping[str, float],
    title: str,
    cost_unit: str,
    path: Path,
) -> Path:
    """Validation cost against training steps: a line and band (mean and range over seeds) an algorithm.

    Args:
        curves: by algorithm, one (timesteps (E,), mean costs (E,)) a training seed.
        baselines: validation cost of rules and oracles, drawn as lines.
        title: of the figure.
        cost_unit: of the vertical axis.
        path: of the PNG.
    """
    figure, axes = plt.subplots(figsize=(8.5, 4.8))
    shown = sorted(baselines.items(), key=lambda item: item[1])[:_BASELINES_SHOWN]
    for colour, (name, runs) in zip(_LEARNER_COLOURS * 3, curves.items(), strict=False):
        steps = runs[0][0]
        costs = np.stack([np.interp(steps, s, c) for s, c in runs])
        axes.plot(steps, costs.mean(axis=0), color=colour, label=f"{name} ({len(runs)} seeds)")
        axes.fill_between(steps, costs.min(axis=0), costs.max(axis=0), color=colour, alpha=0.2, linewidth=0)
    drawn = [cost for _, cost in shown]
    lowest = min([*drawn, *(c.min() for runs in curves.values() for _, c in runs)])
    highest = max(drawn or [c.max() for runs in curves.values() for _, c in runs])
    margin = 0.08 * (highest - lowest)
    axes.set_ylim(lowest - margin, highest + 3 * margin)
    _draw_baselines(axes, shown, 0.055 * (highest - lowest + 4 * margin))
    axes.set_xlabel("training steps (decisions)")
    axes.set_ylabel(f"validation cost ({cost_unit})")
    axes.set_title(title)
    axes.legend(fontsize=8, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)
