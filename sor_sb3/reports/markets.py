"""A market for a person to look at: its venues as a table, and one sample scenario as a picture. No policies here."""

from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from sor_sb3.evaluation.true_quotes import books_now
from sor_sb3.market.spec import MarketSpec
from sor_sb3.reports.figures import styled
from sor_sb3.reports.theme import MUTED, SERIES, new_figure, to_png
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth


def _cell(venue: Any, field: str) -> str:
    value = getattr(venue, field)
    if value is None:
        return "-"
    if field == "dark":
        words = [f"zero {value.zero_probability:g}, power {value.power_exponent:g} to {value.max_shares:g}"]
        if value.min_execution_shares:
            words.append(f"at least {value.min_execution_shares:g}")
        if value.leakage_bps_per_1000_shares:
            words.append(f"leaks {value.leakage_bps_per_1000_shares:g} bps/1000")
        return ", ".join(words)
    return f"{value:g}" if isinstance(value, float | int) else str(value)


def venues_table(market: MarketSpec) -> Table:
    """A row a venue, a column a field that any venue sets; what makes a venue a dark pool stands in one column."""
    order, unit = market.order, getattr(market, "unit", "shares")
    caption = (
        f"parent order: {order.quantity_shares:g} {unit} in {order.horizon_steps} steps of {order.step_s:g} s; naive "
        f"reference {market.reference_router}, oracle {market.oracle}"
    )
    caption += f"; fees as of {market.fees_as_of}" if market.fees_as_of else ""
    for path, (low, high) in getattr(market, "randomise", {}).items():
        caption += f"\neach episode draws {path} from [{low:g}, {high:g}]"
    title = f"{market.name}: {market.description}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    fields = type(market.venues[0]).model_fields
    shown = [f for f in fields if any(getattr(v, f) not in (None, 0.0) for v in market.venues)]
    for field in shown:
        table.add_column(field.replace("_", " "), justify="left" if field in ("name", "dark") else "right")
    for venue in market.venues:
        table.add_row(*(_cell(venue, field) for field in shown))
    return table


def sample_path(market: MarketSpec, seed: int = 0, data_split: str = "train") -> dict[str, np.ndarray]:
    """One episode's path when nobody trades.

    Returns:
        "mid_bps" (T,), the true midpoint at each decision since arrival; and per venue, float64 (T, K), NaN where there
        is nothing: "offset_bps" of the far touch above it, "displayed_shares" there, "hidden_shares" that nobody sees
        (behind the touch, at the midpoint, in the dark) for a child sent now, "latency_ms".
    """
    simulator = BatchSimulator(market, 1, data_split)
    simulator.reset(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.int64))
    nothing, truth = np.zeros((1, market.n_venues)), Truth(simulator)
    path: list[dict[str, np.ndarray]] = []
    for _ in range(market.order.horizon_steps):
        trades = truth.open[0]
        columns = {"mid_bps": np.array(0.0), "latency_ms": np.where(trades, truth.latency_ms[0], np.nan)}
        if market.charges_bps:
            now = books_now(simulator, truth.latency_ms)
            books = now.books[0]
            hidden = np.where(trades, books["hidden_shares"] + books["mid_shares"], 0.0)
            columns |= {"mid_bps": now.mid_bps[0], "offset_bps": now.touch_bps[0] - now.mid_bps[0]}
            columns["displayed_shares"] = np.where(np.isfinite(now.touch_bps[0]), now.shown_shares[0], np.nan)
            columns["hidden_shares"] = np.where(hidden > 0.0, hidden, np.nan)
        else:
            columns |= {"offset_bps": truth.offset_bps[0], "displayed_shares": truth.quote_shares[0]}
            columns["hidden_shares"] = np.full(market.n_venues, np.nan)
        path.append(columns)
        simulator.step(nothing + (not market.charges_bps), np.zeros(1))
    return {name: np.stack([step[name] for step in path]) for name in path[0]}


@styled
def sample_path_figure(market: MarketSpec, file: Path, seed: int = 0, data_split: str = "train") -> None:
    """Draw `sample_path` into a PNG: mid, far touches, sizes (dark and hidden ones as crosses) and latencies."""
    path, order = sample_path(market, seed, data_split), market.order
    seconds = np.arange(order.horizon_steps) * order.step_s
    figure = new_figure(9.5, width_in=10.0)
    mid, touch, size, latency = figure.subplots(4, 1, sharex=True, height_ratios=[1, 1.6, 1.3, 1])
    mid.step(seconds, path["mid_bps"], where="post", color=MUTED)
    mid.set_ylabel("mid since\narrival, bps")
    edges = np.append(seconds, seconds[-1] + order.step_s)
    rows = np.arange(market.n_venues + 1) - 0.5
    mesh = touch.pcolormesh(edges, rows, path["offset_bps"].T, cmap="viridis")
    figure.colorbar(mesh, ax=touch, label=f"far touch above the mid, {market.price_unit}", pad=0.01)
    touch.set_yticks(range(market.n_venues), market.venue_names, fontsize=8)
    touch.set_ylabel("blank: halted, or dark")
    touch.invert_yaxis()
    touch.grid(visible=False)
    for k, name in enumerate(market.venue_names):
        look: dict[str, Any] = {"color": SERIES[k % len(SERIES)], "linestyle": "-" if k < len(SERIES) else "--"}
        size.step(seconds, path["displayed_shares"][:, k], where="post", **look)
        size.plot(seconds, path["hidden_shares"][:, k], "x", color=look["color"], markersize=4, alpha=0.8)
        latency.step(seconds, path["latency_ms"][:, k], where="post", label=name, **look)
    size.set(ylabel=f"size, {getattr(market, 'unit', 'shares')}\n(x: not displayed)", yscale="log")
    latency.set(ylabel="latency to\nthe venue, ms" if market.charges_bps else "latency", yscale="log")
    latency.set_xlabel("seconds after the order's arrival")
    figure.legend(loc="outside lower center", ncols=min(market.n_venues, 8), fontsize=8)
    figure.suptitle(f"{market.name}: a sample scenario when nobody trades ({data_split}, seed {seed})")
    to_png(figure, file)
