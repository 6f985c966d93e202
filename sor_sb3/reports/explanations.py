"""One replayed parent order, in the terminal and as a page. Every number comes from the explanation."""

import math

import numpy as np
from rich.console import Console
from rich.table import Table

from sor_sb3.evaluation.explain import Child, Decision, Explanation
from sor_sb3.evaluation.formats import number, signed
from sor_sb3.reports.figures import Figure, finished, name_columns, styled
from sor_sb3.reports.page import templates
from sor_sb3.reports.tables import wide_console
from sor_sb3.reports.theme import INK, MUTED, PAPER, SERIES, new_axes


def _change(explanation: Explanation, decision: Decision) -> np.ndarray:
    """How much more the order would have cost, had the slice gone to each venue, (K,); negative where less."""
    return decision.alternative.order_cost - explanation.cost


def _route(explanation: Explanation, decision: Decision) -> str:
    """Where a decision sent its shares, the most first."""
    names, sent, digits = explanation.venue_names, decision.sent_shares, size_digits(explanation)
    parts = [f"{names[k]} {number(sent[k], digits)}" for k in np.argsort(-sent) if sent[k] >= 0.5 * 10.0**-digits]
    return ", ".join(parts[:4]) + (" …" if len(parts) > 4 else "") if parts else "nothing"


def size_digits(explanation: Explanation) -> int:
    """Digits after the point of sizes: none of hundreds of shares, four of a tenth of a coin."""
    quantity = explanation.quantity_shares
    return 0 if quantity >= 100.0 else 3 - math.floor(math.log10(quantity))


def headline(explanation: Explanation) -> str:
    """The order in one sentence."""
    e, n, digits = explanation, len(explanation.decisions), size_digits(explanation)
    cheaper = sum(bool(np.any(_change(e, d) < -1e-9)) for d in e.decisions)
    cost = f"{number(e.quantity_shares, digits)} {e.size_unit} for {number(e.cost)} {e.cost_unit}"
    venues = f"in {cheaper} of {n} decisions one venue for the whole slice would have made the order cheaper"
    return f"{e.policy} filled this order of {cost}; {venues}"


def step_name(decision: Decision) -> str:
    """The step, counted from 1, and the wave where it is a later one: "3", "3 wave 2"."""
    return f"{decision.step + 1}" + (f" wave {decision.wave + 1}" if decision.wave else "")


def summary_rows(explanation: Explanation) -> list[dict[str, str]]:
    """A row an env step, as text."""
    rows, so_far, digits = [], 0.0, size_digits(explanation)
    for d in explanation.decisions:
        so_far += d.cost
        change = _change(explanation, d)
        k = int(np.argmin(change))
        rows.append(
            {
                "step": step_name(d),
                "time, s": f"{d.time_s:.8g}",
                "to do": number(d.remaining_shares, digits),
                "this slice": number(d.slice_shares, digits),
                "mid, bps": signed(d.mid_bps, 2),
                "sent to": _route(explanation, d),
                "filled": number(d.filled_shares.sum(), digits),
                "cost": signed(d.cost),
                "so far": signed(so_far),
                "best single venue": f"{explanation.venue_names[k]} ({signed(float(change[k]))})",
            }
        )
    return rows


def venue_rows(explanation: Explanation, decision: Decision) -> list[dict[str, str]]:
    """A row a venue of one decision, as text: what was observed, sent and filled, and the alternative."""
    d, other, change = decision, decision.alternative, _change(explanation, decision)
    digits = size_digits(explanation)
    return [
        {
            "venue": name if d.open[k] else f"{name} (closed)",
            "touch": number(d.touch_bps[k], 2),
            "fee": number(d.fee_bps[k], 2),
            "shown": number(d.shown_shares[k], digits),
            "observed ms": number(d.observed_latency_ms[k], 3),
            "sent": number(d.sent_shares[k], digits) if d.sent_shares[k] > 0 else "",
            "filled": number(d.filled_shares[k], digits) if d.sent_shares[k] > 0 else "",
            "paid": number(d.price_bps[k], 2) if d.filled_shares[k] > 0 else "",
            "way ms": number(d.latency_ms[k], 3) if d.sent_shares[k] > 0 else "",
            "all here: filled": number(other.filled_shares[k], digits),
            "paid then": number(other.price_bps[k], 2),
            "order cost": number(other.order_cost[k]),
            "change": signed(float(change[k])),
        }
        for k, name in enumerate(explanation.venue_names)
    ]


def _at(shares: np.ndarray, prices: np.ndarray) -> str:
    return " + ".join(f"{number(q, 4)} at {number(p, 6)}" for q, p in zip(shares, prices, strict=True))


def _book(child: Child) -> str:
    levels = [f"{number(p, 6)}: {number(q, 4)}" for p, q in zip(child.price_bps, child.displayed_shares, strict=True)]
    return ", ".join(levels[:1] + ([f"hidden {number(child.hidden_shares, 4)}"] if levels else []) + levels[1:])


def child_rows(explanation: Explanation, decision: Decision) -> list[dict[str, str]]:
    """A row a child that arrived in an env step, as text: its terms, the book that it found, what it took."""
    digits = size_digits(explanation)
    return [
        {
            "venue": explanation.venue_names[c.venue],
            "sent": number(c.sent_shares, 4),
            "arrives ms": number(c.arrives_ms, 4),
            "limit": number(c.limit_bps, 6),
            "midpoint": f"{number(c.mid_bps, 6)}: {number(c.mid_shares, 4)}" if c.mid_shares > 0.0 else "",
            "levels": _book(c),
            "fade": number(c.fade_shares, 4),
            "least": number(c.least_shares, digits) if c.least_shares > 0.0 else "",
            "took": c.status if c.status in ("closed", "rejected") else _at(c.print_shares, c.print_bps),
            "filled": number(c.filled_shares, 4),
            "fee": number(decision.fee_bps[c.venue], 4),
        }
        for c in decision.children
    ]


def children_note(decision: Decision, quantity_shares: float) -> str:
    """How the fills and the cost of an env step follow from its children."""
    first = " The first step has the mark on top." if decision.step == 0 and decision.wave == 0 else ""
    return (
        "A child takes what rests at the midpoint, then the levels in order of price up to its limit, the fade taken "
        "from what is displayed, from the first level downwards; hidden size stands behind the first. Cost: filled "
        f"x (price + fee - mark), plus what remains x (next mark - mark), over {number(quantity_shares, 4)}; the mark "
        f"is {number(decision.mark_bps, 6)}, the next {number(decision.next_mark_bps, 6)}; prices above the "
        f"midpoint at arrival.{first}"
    )


def columns_note(explanation: Explanation) -> str:
    """What the columns of a decision mean."""
    return (
        f"Observed: far touch above the mid, take fee ({explanation.price_unit}), displayed size, one-way latency. "
        f"Sent and filled: {explanation.size_unit}, price above the midpoint plus fee, the child's way to the venue. "
        "All here: the whole slice sent to that venue from the same state, and the cost of the whole order then "
        f"({explanation.cost_unit}), with the policy deciding the later steps and the same market; a negative change "
        "is a venue that would have been cheaper in the end."
    )


WRAPPED = ("sent to", "levels", "took")


def _table(rows: list[dict[str, str]], title: str, bold: set[int], text: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold")
    for key in rows[0]:
        table.add_column(key, justify="left" if key in text else "right", no_wrap=key not in WRAPPED)
    for i, row in enumerate(rows):
        table.add_row(*row.values(), style="bold" if i in bold else None)
    return table


def print_explanation(explanation: Explanation, console: Console | None = None, step: int | None = None) -> None:
    """The order's summary, then every env step venue by venue (or those of decision `step` alone, counted from 1)."""
    e, console, digits = explanation, console or wide_console(170), size_digits(explanation)
    console.print(f"[bold]{headline(e)}.[/]", highlight=False)
    parts = ", ".join(f"{part} {signed(value)}" for part, value in e.parts.items())
    swept = f"{number(e.cleanup_shares, digits)} {e.size_unit} swept at the end"
    if e.cleanup_shares < 0.0:
        swept = f"{number(-e.cleanup_shares, digits)} {e.size_unit} filled beyond the order, and sold"
    console.print(f"{e.market}, {e.env_id}, scenario {e.scenario}; {parts}; {swept}", highlight=False)
    if step is None:
        console.print(_table(summary_rows(e), "The order", set(), ("sent to", "best single venue")))
    console.print(columns_note(e), style="dim", highlight=False)
    for d in e.decisions:
        if step is None or d.step + 1 == step:
            shares = f"{number(d.remaining_shares, digits)} to do, {number(d.slice_shares, digits)} now"
            title = f"Step {step_name(d)}, {d.time_s:.8g} s: {shares}; cost {signed(d.cost)}"
            sent = {int(k) for k in np.flatnonzero(d.sent_shares > 0)}
            console.print(_table(venue_rows(e, d), title, sent, ("venue",)))
            if d.children:
                text = ("venue", "midpoint", "levels", "took")
                console.print(_table(child_rows(e, d), "Its children and the books that they found", set(), text))
                console.print(children_note(d, e.quantity_shares), style="dim", highlight=False)
    total = sum(d.cost for d in e.decisions)
    console.print(f"costs of the {len(e.decisions)} steps add up to {number(total, 6)} {e.cost_unit}", highlight=False)


@styled
def _alternatives_figure(e: Explanation) -> Figure:
    change = np.array([_change(e, d) for d in e.decisions])
    shown = np.arange(len(e.venue_names)) if len(e.venue_names) <= 24 else np.argsort(change.min(axis=0))[:24]
    names, change = [e.venue_names[k] for k in shown], change[:, shown]
    figure, axes = new_axes(0.24 * len(e.decisions) + 1.2)
    top = max(float(np.abs(change).max()), 1e-12)
    for (t, k), more in np.ndenumerate(change):
        alpha, sent = 0.05 + 0.85 * abs(more) / top, e.decisions[t].sent_shares
        axes.barh(t, 1, left=k, height=1.0, color=SERIES[1] if more > 0 else SERIES[2], alpha=alpha, linewidth=0)
        if len(e.decisions) <= 60:
            ink = PAPER if alpha > 0.6 else INK
            axes.text(k + 0.5, t, signed(more, 2), ha="center", va="center", fontsize=6.8, color=ink)
        if sent[shown[k]] > 0.3 * max(sent.sum(), 1e-9):
            axes.plot(k + 0.06, t, marker=">", color=INK, markersize=3.4, clip_on=False)
    every = max(1, len(e.decisions) // 30)
    ticks = list(range(0, len(e.decisions), every))
    axes.set_yticks(ticks, [step_name(e.decisions[t]) for t in ticks])
    name_columns(axes, names)
    axes.set(ylim=(len(e.decisions) - 0.5, -0.5), ylabel="step")
    axes.set_xlabel(f"venue; change of the order's cost, {e.cost_unit}")
    best = np.unravel_index(int(np.argmin(change)), change.shape)
    saving = f"{number(change[best])} {e.cost_unit}, at step {step_name(e.decisions[best[0]])} with {names[best[1]]}"
    description = f"Change of the order's cost had each step gone wholly to each venue; the largest saving, {saving}."
    caption = (
        "Change of the cost of the whole order, had the slice of that step gone to that venue, with the later steps "
        "decided as before: orange is a higher cost, green a lower one. A pointer marks a venue that got over 30 % of "
        "the slice. Green is hindsight: the router could not see the market that its child order would meet."
    )
    return finished(figure, "alternatives", "What if the whole slice had gone to one venue?", description, caption)


@styled
def _progress_figure(e: Explanation) -> Figure:
    figure, axes = new_axes(2.9, panels=2)
    times, steps = [d.time_s for d in e.decisions], np.arange(1, len(e.decisions) + 1)
    axes[0].step(times, [d.remaining_shares for d in e.decisions], where="post", color=SERIES[0], linewidth=1.8)
    axes[0].set(xlabel="time since arrival, s", ylabel=f"still to be done, {e.size_unit}", ylim=(0, None))
    axes[1].bar(steps, [d.cost for d in e.decisions], color=SERIES[0], alpha=0.35, label="a step's")
    axes[1].plot(steps, np.cumsum([d.cost for d in e.decisions]), color=SERIES[1], linewidth=1.8, label="so far")
    axes[1].axhline(0.0, color=MUTED, linewidth=0.8)
    axes[1].set(xlabel="env step, waves counted", ylabel=f"cost, {e.cost_unit}")
    axes[1].legend()
    for panel in axes:
        panel.grid(axis="y")
    description = f"Size to be done and cost by step; in the end {number(e.cost)} {e.cost_unit}."
    caption = (
        "Left: size still to be done. Right: the cost of each step, with the mid's move on the rest of the order, "
        "and the sum."
    )
    return finished(figure, "progress", "The order step by step", description, caption)


def render_explanation(explanation: Explanation) -> str:
    """The explanation as one self-contained page."""
    e = explanation
    decisions = [
        {
            **{"step": step_name(d), "time_s": f"{d.time_s:.8g}", "route": _route(e, d), "cost": signed(d.cost)},
            **{"rows": venue_rows(e, d), "sent": (d.sent_shares > 0).tolist()},
            **{"children": child_rows(e, d), "how": children_note(d, e.quantity_shares)},
        }
        for d in e.decisions
    ]
    page = templates().get_template("explain.html.j2")
    figures = [_progress_figure(e), _alternatives_figure(e)]
    texts = {"headline": headline(e), "note": columns_note(e), "summary": summary_rows(e)}
    return page.render(e=e, figures=figures, decisions=decisions, **texts)
