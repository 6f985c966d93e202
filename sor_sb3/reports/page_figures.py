"""The figures of a report's page, drawn from ``report.json``'s content. Every number in them comes from there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import Any

import matplotlib
import numpy as np

from sor_sb3.reports.inline_svg import INK, KINDS, MUTED, PAPER, SERIES, STYLE, new_axes, to_svg

Data = dict[str, Any]
_BASELINES_SHOWN = 5
_PART_NAMES = {"fee": "fees", "cleanup": "clean-up"}


@dataclass(frozen=True)
class Figure:
    """A drawing with what stands round it: a title, a caption under it; the SVG carries its own alt text."""

    key: str
    title: str
    svg: str
    caption: str


def _styled(draw: Callable[[Data], Figure | None]) -> Callable[[Data], Figure | None]:
    @wraps(draw)
    def inside(data: Data) -> Figure | None:
        with matplotlib.rc_context(STYLE):
            return draw(data)

    return inside


def _unit(data: Data) -> str:
    return str(data["results"]["cost_unit"])


def _kinds(data: Data) -> dict[str, str]:
    return {p["name"]: p["kind"] for p in data["results"]["policies"]}


def _listed(pairs: list[tuple[str, float | None]], digits: int = 2) -> str:
    return ", ".join(f"{name} {'unknown' if value is None else format(value, f'.{digits}f')}" for name, value in pairs)


def _rows(axes: Any, names: list[str]) -> None:
    """Names down the side, the first on top."""
    axes.set_yticks(range(len(names)), [n if len(n) <= 24 else f"{n[:10]}…{n[-12:]}" for n in names])
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)


def _kind_legend(axes: Any, kinds: list[str], where: str) -> None:
    for kind in KINDS:
        if kind in kinds:
            axes.plot([], [], "o", color=KINDS[kind], label=kind)
    axes.legend(loc=where)


@_styled
def differences(data: Data) -> Figure | None:
    """Each policy's cost minus the best rule's, with the paired interval that the verdict rests on."""
    best, kinds, unit = data["results"]["best_rule"], _kinds(data), _unit(data)
    rows = [(name, d) for name, d in data["differences"].items() if name != best]
    figure, axes = new_axes(0.27 * len(rows) + 0.95)
    for row, (name, d) in enumerate(rows):
        colour = KINDS[kinds[name]]
        if d["low"] is not None and d["high"] is not None:
            axes.plot([d["low"], d["high"]], [row, row], color=colour, linewidth=2.2, solid_capstyle="round")
        axes.plot(d["mean"], row, "o", color=colour, markersize=5)
    axes.axvline(0.0, color=INK, linewidth=1, linestyle="--")
    _rows(axes, [name for name, _ in rows])
    axes.set_xlabel(f"cost minus that of {best}, {unit}  (left of the line: cheaper)")
    _kind_legend(axes, list(kinds.values()), "best")
    numbers = _listed([(name, d["mean"]) for name, d in rows], 3)
    return Figure(
        "differences",
        "Against the best rule",
        to_svg(figure, "differences", f"Cost of each policy minus that of {best}, {unit}: {numbers}."),
        f"Mean cost minus that of {best}, the best rule, on the same market days; the bar is the paired 95 % interval, "
        "over days and training seeds. Where it misses the dashed line the difference is significant.",
    )


def _boxes(axes: Any, rows: list[tuple[str, dict[str, float]]], kinds: dict[str, str]) -> None:
    for row, (name, d) in enumerate(rows):
        colour = KINDS[kinds[name]]
        axes.plot([d["p5"], d["p95"]], [row, row], color=colour, linewidth=1.2)
        axes.barh(row, d["p75"] - d["p25"], left=d["p25"], height=0.55, color=colour, alpha=0.45)
        axes.plot([d["p50"], d["p50"]], [row - 0.27, row + 0.27], color=colour, linewidth=2)
        axes.plot(d["mean"], row, "o", color=INK, markersize=3)
        axes.plot(d["cvar95"], row, "x", color=MUTED, markersize=4.5)
    _rows(axes, [name for name, _ in rows])


@_styled
def cost_distribution(data: Data) -> Figure | None:
    """Quantiles of the cost over scenarios and seeds."""
    rows = list(data["distributions"].items())
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    _boxes(axes, rows, _kinds(data))
    axes.set_xlabel(f"cost of a parent order, {_unit(data)}")
    worst = _listed([(name, d["cvar95"]) for name, d in rows])
    return Figure(
        "distribution",
        "Distribution of the cost",
        to_svg(
            figure, "distribution", f"Distribution of cost by policy; mean of the worst 5 %, {_unit(data)}: {worst}."
        ),
        "Box: quartiles and median over market days (and training seeds); line: 5 % to 95 %; dot: mean; cross: CVaR, "
        "the mean of the worst 5 %. Most of the width is the market's own move, which every policy shares.",
    )


@_styled
def difference_distribution(data: Data) -> Figure | None:
    """Quantiles of the paired difference to the best rule."""
    best, rows = data["results"]["best_rule"], list(data["difference_distributions"].items())
    if not rows:
        return None
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    _boxes(axes, rows, _kinds(data))
    axes.axvline(0.0, color=INK, linewidth=1, linestyle="--")
    axes.set_xlabel(f"cost minus that of {best} on the same day, {_unit(data)}")
    medians = _listed([(name, d["p50"]) for name, d in rows])
    return Figure(
        "paired",
        "The same, day by day",
        to_svg(figure, "paired", f"Distribution of the daily difference to {best}; medians, {_unit(data)}: {medians}."),
        f"Each day's cost minus that of {best} on that day: the market's own move drops out. Marks as before.",
    )


@_styled
def learning_curves(data: Data) -> Figure | None:
    """Validation cost against training steps, baselines as lines."""
    curves, kinds = data["curves"], _kinds(data)
    if not curves:
        return None
    figure, axes = new_axes(3.1)
    drawn: list[float] = []
    for i, (name, c) in enumerate(curves.items()):
        colour = SERIES[i % len(SERIES)]
        seeds = f"{c['seeds']} seed" + ("s" if c["seeds"] != 1 else "")
        axes.fill_between(c["steps"], c["low"], c["high"], color=colour, alpha=0.2, linewidth=0)
        axes.plot(c["steps"], c["mean"], color=colour, linewidth=1.8, label=f"{name} ({seeds})")
        drawn += [c["mean"][-1], *c["low"]]
    shown = sorted(data["baselines"].items(), key=lambda item: float(item[1]))[:_BASELINES_SHOWN]
    lines = [cost for _, cost in shown]
    low, high = min([*drawn, *lines]), max([*drawn, *lines])
    room = 0.12 * (high - low or 1.0)
    axes.set_ylim(low - room, high + 3.0 * room)
    label_at = -np.inf
    for name, cost in shown:
        colour = KINDS[kinds.get(name, "rule")]
        axes.axhline(cost, color=colour, linestyle="--", linewidth=1)
        label_at = max(cost, label_at + 0.06 * (high - low + 4.0 * room))
        axes.annotate(name, (1.01, label_at), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour)
    axes.grid(axis="y")
    axes.set_xlabel("training steps (decisions)")
    axes.set_ylabel(f"validation cost, {_unit(data)}")
    axes.xaxis.set_major_formatter(lambda x, _: f"{x / 1000:g} k" if x else "0")
    axes.legend(loc="upper right")
    ends = _listed([(name, c["mean"][-1]) for name, c in curves.items()])
    return Figure(
        "curves",
        "Learning",
        to_svg(figure, "curves", f"Validation cost against training steps; at the end, {_unit(data)}: {ends}."),
        "Cost on validation days while training: mean over training seeds, band from the best seed to the worst; "
        "dashed: the cheapest rules and the oracle on the same days. The checkpoint of lowest validation cost is the "
        "one tested.",
    )


@_styled
def gap_closed(data: Data) -> Figure | None:
    """Share of the gap between reference and oracle that each policy closes."""
    results, kinds = data["results"], _kinds(data)
    rows = [p for p in results["policies"] if p["gap_closed"] is not None]
    if not rows:
        return None
    figure, axes = new_axes(0.27 * len(rows) + 0.8)
    for row, p in enumerate(rows):
        colour = KINDS[kinds[p["name"]]]
        axes.barh(row, 100.0 * p["gap_closed"], height=0.6, color=colour, alpha=0.55)
        low, high = p["gap_closed_ci95"]
        if low is not None and high is not None and high > low:
            axes.plot([100.0 * low, 100.0 * high], [row, row], color=INK, linewidth=1.4)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    axes.axvline(100.0, color=KINDS["oracle"], linewidth=1, linestyle="--")
    _rows(axes, [p["name"] for p in rows])
    axes.set_xlabel(f"gap closed, %  (0: {results['reference_rule']}, 100: {results['oracle']})")
    numbers = _listed([(p["name"], 100.0 * p["gap_closed"]) for p in rows], 1)
    return Figure(
        "gap",
        "Gap closed",
        to_svg(figure, "gap", f"Share of the gap closed, per cent: {numbers}."),
        f"How much of the way from the naive router, {results['reference_rule']}, to {results['oracle']}, which sees "
        "hidden state, each policy goes; line: 95 % interval.",
    )


@_styled
def performance_profile(data: Data) -> Figure | None:
    """Share of scenarios and seeds with a score above tau."""
    aggregates = data["aggregates"]
    if aggregates is None:
        return None
    figure, axes = new_axes(2.9)
    taus = np.array(aggregates["taus"])
    names = [name for name in data["featured"] if name in aggregates["profiles"]]
    for i, name in enumerate(names):
        profile = aggregates["profiles"][name]
        mean, low, high = ([100.0 * e[key] for e in profile] for key in ("mean", "low", "high"))
        axes.fill_between(taus, low, high, color=SERIES[i % len(SERIES)], alpha=0.15, linewidth=0)
        axes.plot(taus, mean, color=SERIES[i % len(SERIES)], linewidth=1.7, label=name)
    axes.set_ylim(0, 100)
    axes.set_xlim(taus[0], taus[-1])
    axes.grid(axis="y")
    axes.set_xlabel("score tau  (0: mean of the reference, 1: of the oracle)")
    axes.set_ylabel("runs with a higher score, %")
    axes.legend(loc="upper right")
    at_1 = int(np.argmin(np.abs(taus - 1.0)))
    share = _listed([(name, 100.0 * aggregates["profiles"][name][at_1]["mean"]) for name in names], 1)
    return Figure(
        "profile",
        "Performance profile",
        to_svg(figure, "profile", f"Performance profile; share of runs above a score of 1, per cent: {share}."),
        "Share of (day, training seed) pairs whose score lies above tau; higher curves are better. A score is what the "
        "policy saved against the reference on that day, in units of what the oracle saves on average; band: 95 % "
        "interval.",
    )


@_styled
def flow(data: Data) -> Figure | None:
    """Where each policy's fills happen: policies by venues."""
    venues = data["venues"]
    policies = data["results"]["policies"]
    shares = np.array([[100.0 * p["venue_shares"][v] for v in venues] for p in policies])
    if len(venues) > 24:
        keep = np.sort(np.argsort(-shares.max(axis=0))[:24])
        venues, shares = [venues[k] for k in keep], shares[:, keep]
    figure, axes = new_axes(0.27 * len(policies) + 1.1)
    top = max(float(shares.max()), 1e-9)
    for i in range(shares.shape[0]):
        for k in range(shares.shape[1]):
            axes.barh(i, 1, left=k, height=1.0, color=SERIES[0], alpha=0.06 + 0.84 * shares[i, k] / top, linewidth=0)
            dark = shares[i, k] / top > 0.55
            axes.text(
                k + 0.5, i, f"{shares[i, k]:.0f}", ha="center", va="center", fontsize=7.5, color=PAPER if dark else INK
            )
    axes.grid(False)
    _rows(axes, [p["name"] for p in policies])
    axes.set_xlim(0, len(venues))
    axes.set_xticks(np.arange(len(venues)) + 0.5, venues, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(axis="x", length=0)
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.set_xlabel("venue; share of filled shares, %")
    first = policies[0]
    numbers = _listed([(v, 100.0 * first["venue_shares"][v]) for v in venues], 0)
    return Figure(
        "flow",
        "Where each policy sends flow",
        to_svg(figure, "flow", f"Share of filled shares by policy and venue; {first['name']}, per cent: {numbers}."),
        "Share of each policy's filled shares by venue, in per cent; a row adds up to 100.",
    )


def _stack(axes: Any, row: float, shares: list[float], venues: list[str], label: bool) -> None:
    left = 0.0
    for k, share in enumerate(shares):
        width = 100.0 * (share or 0.0)
        colour, pale = SERIES[k % len(SERIES)], 0.85 if k < len(SERIES) else 0.45
        axes.barh(row, width, left=left, height=0.72, color=colour, alpha=pale, label=venues[k] if label else None)
        if width >= 7.0:
            axes.text(left + width / 2, row, f"{width:.0f}", ha="center", va="center", fontsize=7.5, color=PAPER)
        left += width


def _flow_by_state(data: Data, name: str, key: str, title: str) -> Figure | None:
    cuts = data["states"].get(name, [])
    if not cuts:
        return None
    rows = sum(len(cut["labels"]) + 1 for cut in cuts)
    figure, axes = new_axes(0.25 * rows + 1.0 + 0.16 * (len(data["venues"]) // 4 + 1))
    row = 0.0
    ticks: list[float] = []
    labels: list[str] = []
    spoken: list[str] = []
    for cut in cuts:
        axes.text(0.0, row, cut["title"], fontsize=8.5, va="center", color=MUTED)
        row += 0.9
        for i, label in enumerate(cut["labels"]):
            _stack(axes, row, cut["venue_shares"][i], data["venues"], label=not ticks)
            ticks.append(row)
            labels.append(label)
            most = int(np.argmax([s or 0.0 for s in cut["venue_shares"][i]]))
            spoken.append(f"{cut['name']} {label}: most to {data['venues'][most]}")
            row += 0.85
        row += 0.25
    axes.set_yticks(ticks, labels)
    axes.set_ylim(row, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 100)
    axes.grid(False)
    axes.set_xlabel("share of shares sent, %")
    if len(data["venues"]) <= 20:
        columns = min(4, len(data["venues"]))
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8, handlelength=1.0, columnspacing=1.2)
    return Figure(
        key,
        title,
        to_svg(figure, key, f"Venue shares of {name} by market state: {'; '.join(spoken)}."),
        f"Where {name} sends its shares when quotes are tight or wide, when acknowledgements are quick or slow, and "
        "when it is on schedule or behind. Bars that differ are decisions that depend on the market.",
    )


@_styled
def flow_by_state(data: Data) -> Figure | None:
    """Venue shares of the first learned policy by market state."""
    return _flow_by_state(data, data["featured"][0], "states", f"Flow by market state: {data['featured'][0]}")


@_styled
def flow_by_state_of_the_best_rule(data: Data) -> Figure | None:
    """Venue shares of the best rule by market state."""
    best = data["results"]["best_rule"]
    if best == data["featured"][0]:
        return None
    return _flow_by_state(data, best, "states-rule", f"Flow by market state: {best}")


def _cost_by(data: Data, which: str, title: str) -> Figure | None:
    cuts = {n: c for n in data["featured"] for c in data["states"].get(n, []) if c["name"] == which}
    if not cuts:
        return None
    labels = max((c["labels"] for c in cuts.values()), key=len)
    bps = _unit(data) == "bps"
    figure, panels = new_axes(3.05, panels=2 if bps else 1, squeeze=False)
    axes = panels[0]
    spoken = []
    for i, (name, cut) in enumerate(cuts.items()):
        # Thirds of what a policy met: the edges of one that was done early differ a little from the others'.
        at = [labels.index(label) if label in labels else i for i, label in enumerate(cut["labels"])]
        colour = SERIES[i % len(SERIES)]
        axes[0].plot(at, cut["cost"], "o-", color=colour, markersize=4, linewidth=1.5, label=name)
        if bps:
            axes[1].plot(
                at, [100.0 * (r or 0.0) for r in cut["fill_rate"]], "o-", color=colour, markersize=4, linewidth=1.5
            )
        spoken.append((name, cut["cost"][-1]))
    for panel in axes:
        panel.set_xticks(range(len(labels)), labels, fontsize=7.5, rotation=18, ha="right", rotation_mode="anchor")
        panel.set_xlim(-0.3, len(labels) - 0.7)
        panel.grid(axis="y")
        panel.grid(axis="x", visible=False)
    cut = next(iter(cuts.values()))
    axes[0].set_ylabel("all-in cost of a filled share, bps" if bps else "cost a step, notebook units")
    if bps:
        axes[1].set_ylabel("fill rate, %")
    figure.supxlabel(cut["title"], fontsize=9, color=INK)
    figure.legend(loc="outside upper center", ncols=min(3, len(cuts)), fontsize=8, handlelength=1.2)
    unit = "bps" if bps else "notebook units"
    return Figure(
        f"cost-{which}",
        title,
        to_svg(figure, f"cost-{which}", f"Cost of a filled share by {which}; {labels[-1]}, {unit}: {_listed(spoken)}."),
        "All-in cost of a filled share above the mid at its decision, fees included, by state at the decision"
        + ("; beside it the fill rate, since what does not fill is paid for later." if bps else "."),
    )


@_styled
def cost_by_latency(data: Data) -> Figure | None:
    """Cost by latency."""
    return _cost_by(data, "latency", "Cost by latency")


@_styled
def cost_by_spread(data: Data) -> Figure | None:
    """Cost by spread."""
    return _cost_by(data, "spread", "Cost by spread")


@_styled
def cost_by_urgency(data: Data) -> Figure | None:
    """Cost by urgency."""
    return _cost_by(data, "urgency", "Cost by urgency")


@_styled
def stress(data: Data) -> Figure | None:
    """Flow of the first audited policy as it is, with its favourite slow, and halted."""
    name = next((n for n in data["featured"] if n in data["audit"]), None)
    if name is None:
        return None
    found = data["audit"][name]
    venues, flows = data["venues"], found["flow_percent"]
    shown = np.arange(len(venues))
    if len(venues) > 16:
        shown = np.argsort([-max(f[k] for f in flows.values()) for k in shown])[:16]
    figure, axes = new_axes(0.36 * len(shown) + 1.2)
    height = 0.8 / len(flows)
    for i, (state, percent) in enumerate(flows.items()):
        at = np.arange(len(shown)) - 0.4 + height * (i + 0.5)
        axes.barh(at, [percent[k] for k in shown], height=height, color=SERIES[i], alpha=0.85, label=state)
    _rows(axes, [venues[k] for k in shown])
    axes.set_xlabel("share of shares sent, %")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    k = venues.index(found["favourite"])
    spoken = _listed([(state, percent[k]) for state, percent in flows.items()], 1)
    halted = " and halted" if "halted" in flows else ""
    return Figure(
        "stress",
        f"When {found['favourite']} slows down{' or halts' if halted else ''}: {name}",
        to_svg(figure, "stress", f"Flow of {name} to its favourite {found['favourite']}, per cent: {spoken}."),
        f"Where {name} sends its flow as things are, with its favourite, {found['favourite']}, heard to be ten times "
        f"slower{halted}, all else observed as before. Flow that stays where it was is a policy that does not look.",
    )


@_styled
def cost_parts(data: Data) -> Figure | None:
    """The shortfall's parts, stacked."""
    policies = data["results"]["policies"]
    parts = [p for p in policies[0]["cost_parts"] if any(abs(q["cost_parts"][p]) > 1e-12 for q in policies)]
    figure, axes = new_axes(0.27 * len(policies) + 1.1)
    for row, policy in enumerate(policies):
        ends = {True: 0.0, False: 0.0}
        for i, part in enumerate(parts):
            value = policy["cost_parts"][part]
            axes.barh(
                row,
                value,
                left=ends[value >= 0],
                height=0.62,
                color=SERIES[i],
                alpha=0.85,
                label=None if row else _PART_NAMES.get(part, part),
            )
            ends[value >= 0] += value
        axes.plot(policy["cost"], row, "D", color=INK, markersize=3.2)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    _rows(axes, [p["name"] for p in policies])
    axes.set_xlabel(f"mean cost by part, {_unit(data)}")
    figure.legend(loc="outside upper center", ncols=len(parts), fontsize=8, handlelength=1.0, columnspacing=1.2)
    numbers = _listed([(part, policies[0]["cost_parts"][part]) for part in parts])
    return Figure(
        "parts",
        "What the cost is made of",
        to_svg(figure, "parts", f"Mean cost by part; {policies[0]['name']}, {_unit(data)}: {numbers}."),
        "The shortfall's parts, which add up to it exactly (diamond). Timing holds what the mid did while shares "
        "waited; a part below zero earned money.",
    )


@_styled
def markouts(data: Data) -> Figure | None:
    """Markout against horizon."""
    names = [n for n in data["featured"] if n in data["tca"]]
    if not names:
        return None
    figure, axes = new_axes(2.8)
    spoken = []
    for i, name in enumerate(names):
        tca = data["tca"][name]
        axes.plot(tca["horizons_s"], tca["markout_bps"], "o-", color=SERIES[i], markersize=4, linewidth=1.5, label=name)
        spoken.append((name, tca["markout_bps"][0]))
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set_xscale("log")
    ticks = data["tca"][names[0]]["horizons_s"]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(axis="y")
    axes.set_xlabel("time after the decision, s")
    axes.set_ylabel("markout, bps (up is good)")
    figure.legend(loc="outside upper center", ncols=min(3, len(names)), fontsize=8, handlelength=1.2)
    return Figure(
        "markouts",
        "Markouts",
        to_svg(figure, "markouts", f"Markout by horizon; at {ticks[0]:g} s, bps: {_listed(spoken)}."),
        "Share-weighted move of the mid from the fill price. Below zero is what a taker pays; a line that climbs is a "
        "price that went our way after the fill, one that falls is a price that came back.",
    )


PAGE_FIGURES: dict[str, tuple[Callable[[Data], Figure | None], ...]] = {
    "result": (differences, gap_closed, cost_distribution, difference_distribution),
    "learning": (learning_curves, performance_profile),
    "flow": (flow, stress, flow_by_state, flow_by_state_of_the_best_rule),
    "cost": (cost_parts, cost_by_latency, cost_by_spread, cost_by_urgency),
    "tca": (markouts,),
}
"""Figures by section of the page, in order; those without anything to show leave themselves out."""
