"""Figures of where the flow goes and what it costs, from ``report.json``'s content. Every number comes from there."""

from typing import Any

import numpy as np

from sor_sb3.evaluation.formats import listed, number
from sor_sb3.reports.figures import Data, Figure, cost_unit, finished, name_columns, name_rows, styled
from sor_sb3.reports.theme import INK, MUTED, PAPER, SERIES, new_axes

PART_NAMES = {"fee": "fees", "cleanup": "clean-up"}


def _line(i: int) -> dict[str, Any]:
    return {"color": SERIES[i % len(SERIES)], "markersize": 4, "linewidth": 1.5}


@styled
def flow(data: Data) -> Figure | None:
    """Where each policy's fills happen: policies by venues."""
    venues, policies = data["venues"], data["results"]["policies"]
    shares = np.array([[100.0 * p["venue_shares"][v] for v in venues] for p in policies])
    if len(venues) > 24:
        keep = np.sort(np.argsort(-shares.max(axis=0))[:24])
        venues, shares = [venues[k] for k in keep], shares[:, keep]
    figure, axes = new_axes(0.27 * len(policies) + 1.1)
    top = max(float(shares.max()), 1e-9)
    middle: Any = {"ha": "center", "va": "center", "fontsize": 7.5}
    for (i, k), share in np.ndenumerate(shares):
        axes.barh(i, 1, left=k, height=1.0, color=SERIES[0], alpha=0.06 + 0.84 * share / top, linewidth=0)
        axes.text(k + 0.5, i, number(share, 0), color=PAPER if share / top > 0.55 else INK, **middle)
    name_rows(axes, [p["name"] for p in policies])
    name_columns(axes, venues)
    axes.set_xlabel("venue; share of filled shares, %")
    first = policies[0]
    numbers = listed([(v, 100.0 * first["venue_shares"][v]) for v in venues], 0)
    description = f"Share of filled shares by policy and venue; {first['name']}, per cent: {numbers}."
    caption = "Share of each policy's filled shares by venue, in per cent; a row adds up to 100."
    return finished(figure, "flow", "Where each policy sends flow", description, caption)


def _stack(axes: Any, row: float, shares: list[float], venues: list[str], label: bool) -> None:
    left = 0.0
    for k, share in enumerate(shares):
        width = 100.0 * (share or 0.0)
        colour, pale = SERIES[k % len(SERIES)], 0.85 if k < len(SERIES) else 0.45
        axes.barh(row, width, left=left, height=0.72, color=colour, alpha=pale, label=venues[k] if label else None)
        if width >= 7.0:
            axes.text(left + width / 2, row, number(width, 0), ha="center", va="center", fontsize=7.5, color=PAPER)
        left += width


@styled
def flow_by_state(whose: str, data: Data) -> Figure | None:
    """Venue shares by market state, of the first "featured" policy, or of the "best_rule" where that is another one."""
    name, key = data["featured"][0], "states"
    if whose == "best_rule":
        if data["results"]["best_rule"] == name:
            return None
        name, key = data["results"]["best_rule"], "states-rule"
    cuts = data["states"].get(name, [])
    if not cuts:
        return None
    rows = sum(len(cut["labels"]) + 1 for cut in cuts)
    figure, axes = new_axes(0.25 * rows + 1.0 + 0.16 * (len(data["venues"]) // 4 + 1))
    row = 0.0
    ticks: dict[float, str] = {}
    spoken: list[str] = []
    for cut in cuts:
        axes.text(0.0, row, cut["title"], fontsize=8.5, va="center", color=MUTED)
        row += 0.9
        for i, label in enumerate(cut["labels"]):
            _stack(axes, row, cut["venue_shares"][i], data["venues"], label=not ticks)
            ticks[row] = label
            most = int(np.argmax([s or 0.0 for s in cut["venue_shares"][i]]))
            spoken.append(f"{cut['name']} {label}: most to {data['venues'][most]}")
            row += 0.85
        row += 0.25
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.tick_params(axis="y", length=0)
    axes.grid(False)
    axes.set(xlim=(0, 100), ylim=(row, -0.5), xlabel="share of shares sent, %")
    if len(data["venues"]) <= 20:
        columns = min(4, len(data["venues"]))
        figure.legend(loc="outside lower center", ncols=columns, fontsize=8, handlelength=1.0, columnspacing=1.2)
    description = f"Venue shares of {name} by market state: {'; '.join(spoken)}."
    caption = (
        f"Where {name} sends its shares when quotes are tight or wide, when acknowledgements are quick or slow, and "
        "when the order is on schedule or behind. Bars that differ are decisions that depend on the market."
    )
    return finished(figure, key, f"Flow by market state: {name}", description, caption)


@styled
def cost_by(which: str, data: Data) -> Figure | None:
    """Cost and fill rate by state: "latency", "spread" or "urgency"."""
    cuts = {n: c for n in data["featured"] for c in data["states"].get(n, []) if c["name"] == which}
    if not cuts:
        return None
    labels = max((c["labels"] for c in cuts.values()), key=len)
    bps, unit = cost_unit(data) == "bps", data["results"]["price_unit"]
    figure, ((cost, *rest),) = new_axes(3.05, panels=2 if bps else 1, squeeze=False)
    for i, (name, cut) in enumerate(cuts.items()):
        # Thirds of what a policy met: the edges of one that was done early differ a little from the others'.
        at = [labels.index(label) if label in labels else i for i, label in enumerate(cut["labels"])]
        cost.plot(at, cut["cost"], "o-", label=name, **_line(i))
        for fill_rate in rest:
            fill_rate.plot(at, [100.0 * (r or 0.0) for r in cut["fill_rate"]], "o-", **_line(i))
            fill_rate.set_ylabel("fill rate, %")
    cost.set_ylabel("all-in cost of a filled share, bps" if bps else f"cost a step, {unit}")
    for panel in (cost, *rest):
        panel.set_xticks(range(len(labels)), labels, fontsize=7.5, rotation=18, ha="right", rotation_mode="anchor")
        panel.set_xlim(-0.3, len(labels) - 0.7)
        panel.grid(axis="y")
        panel.grid(axis="x", visible=False)
    figure.supxlabel(next(iter(cuts.values()))["title"], fontsize=9, color=INK)
    figure.legend(loc="outside upper center", ncols=min(3, len(cuts)), fontsize=8, handlelength=1.2)
    spoken = listed([(name, cut["cost"][-1]) for name, cut in cuts.items()])
    description = f"Cost of a filled share by {which}; {labels[-1]}, {unit}: {spoken}."
    caption = "All-in cost of a filled share above the mid at its decision, fees included, by state at the decision."
    caption += " On the right the fill rate, since what does not fill is paid for later." if bps else ""
    return finished(figure, f"cost-{which}", f"Cost by {which}", description, caption)


@styled
def stress(data: Data) -> Figure | None:
    """Flow of the first audited policy: unchanged, with the favourite venue slow, and with that venue halted."""
    name = next((n for n in data["featured"] if n in data["audit"]), None)
    if name is None:
        return None
    venues, favourite, flows = data["venues"], data["audit"][name]["favourite"], data["audit"][name]["flow_percent"]
    shown = np.arange(len(venues))
    if len(venues) > 16:
        shown = np.argsort([-max(f[k] for f in flows.values()) for k in shown])[:16]
    figure, axes = new_axes(0.36 * len(shown) + 1.2)
    height = 0.8 / len(flows)
    for i, (state, percent) in enumerate(flows.items()):
        at, look = np.arange(len(shown)) - 0.4 + height * (i + 0.5), {"color": SERIES[i % len(SERIES)], "alpha": 0.85}
        axes.barh(at, [percent[k] for k in shown], height=height, label=state, **look)
    name_rows(axes, [venues[k] for k in shown])
    axes.set_xlabel("share of shares sent, %")
    figure.legend(loc="outside upper center", ncols=3, fontsize=8)
    spoken = listed([(state, percent[venues.index(favourite)]) for state, percent in flows.items()], 1)
    halted, halts = (" and halted", " or halts") if "halted" in flows else ("", "")
    description = f"Flow of {name} to its favourite venue, {favourite}, per cent: {spoken}."
    caption = (
        f"Where {name} sends its flow unchanged, and with its favourite venue, {favourite}, observed to be ten times "
        f"slower{halted}, everything else observed as before. Flow that does not move is a policy that does not look."
    )
    return finished(figure, "stress", f"When {favourite} slows down{halts}: {name}", description, caption)


@styled
def cost_parts(data: Data) -> Figure | None:
    """The shortfall's parts, stacked."""
    policies = data["results"]["policies"]
    parts = [p for p in policies[0]["cost_parts"] if any(abs(q["cost_parts"][p]) > 1e-12 for q in policies)]
    figure, axes = new_axes(0.27 * len(policies) + 1.1)
    for row, policy in enumerate(policies):
        ends = {True: 0.0, False: 0.0}
        for i, part in enumerate(parts):
            value, look = policy["cost_parts"][part], {"color": SERIES[i % len(SERIES)], "alpha": 0.85, "height": 0.62}
            axes.barh(row, value, left=ends[value >= 0], label=None if row else PART_NAMES.get(part, part), **look)
            ends[value >= 0] += value
        axes.plot(policy["cost"], row, "D", color=INK, markersize=3.2)
    axes.axvline(0.0, color=MUTED, linewidth=0.8)
    name_rows(axes, [p["name"] for p in policies])
    axes.set_xlabel(f"mean cost by part, {cost_unit(data)}")
    figure.legend(loc="outside upper center", ncols=len(parts), fontsize=8, handlelength=1.0, columnspacing=1.2)
    numbers = listed([(part, policies[0]["cost_parts"][part]) for part in parts])
    description = f"Mean cost by part; {policies[0]['name']}, {cost_unit(data)}: {numbers}."
    caption = (
        "The shortfall's parts; their sum is exactly the shortfall (diamond). Timing holds what the mid did while "
        "shares waited; a part below zero earned money."
    )
    return finished(figure, "parts", "What the cost is made of", description, caption)


@styled
def markouts(data: Data) -> Figure | None:
    """Markout against horizon."""
    names = [n for n in data["featured"] if n in data["tca"]]
    if not names:
        return None
    figure, axes = new_axes(2.8)
    for i, name in enumerate(names):
        tca = data["tca"][name]
        axes.plot(tca["horizons_s"], tca["markout_bps"], "o-", label=name, **_line(i))
    axes.axhline(0.0, color=MUTED, linewidth=0.8)
    axes.set(xscale="log", xlabel="time after the fill, s", ylabel="markout, bps (up is good)")
    ticks = data["tca"][names[0]]["horizons_s"]
    axes.set_xticks(ticks, [f"{t:g}" for t in ticks])
    axes.minorticks_off()
    axes.grid(axis="y")
    figure.legend(loc="outside upper center", ncols=min(3, len(names)), fontsize=8, handlelength=1.2)
    spoken = listed([(name, data["tca"][name]["markout_bps"][0]) for name in names])
    description = f"Markout by horizon; at {ticks[0]:g} s, bps: {spoken}."
    caption = (
        "Share-weighted move of the mid from the fill price. Below zero is what a taker pays. A line that climbs is a "
        "price that moved our way after the fill; a line that falls is a price that came back."
    )
    return finished(figure, "markouts", "Markouts", description, caption)
