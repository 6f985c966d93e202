"""A market for a person to look at: its venues as a table, and one of its days as a picture. No figures of policies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.table import Table

from sor_sb3.market.spec import MarketSpec, NotebookMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

matplotlib.use("Agg")
from matplotlib.figure import Figure


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float | int):
        return f"{value:g}"
    return str(value)


def venues_table(market: MarketSpec) -> Table:
    """A row a venue, a column a field of its specification that any venue sets; a dark pool's stand in one column."""
    order = market.order
    caption = (
        f"parent order: {order.quantity_shares:g} shares in {order.horizon_steps} steps of {order.step_s:g} s; naive "
        f"reference {market.reference_router}, oracle {market.oracle}"
    )
    caption += f"; fees as of {market.fees_as_of}" if market.fees_as_of else ""
    randomised = getattr(market, "randomise", {})
    for path, (low, high) in randomised.items():
        caption += f"\neach episode draws {path} from [{low:g}, {high:g}]"
    title = f"{market.name}: {market.description}"
    table = Table(title=title, caption=caption, title_justify="left", caption_justify="left")
    fields = list(type(market.venues[0]).model_fields)
    shown = [f for f in fields if any(getattr(v, f) not in (None, 0.0) for v in market.venues)]
    for field in shown:
        table.add_column(field.replace("_", " "), justify="left" if field in ("name", "dark") else "right")
    for venue in market.venues:
        table.add_row(*(_dark_cell(venue) if field == "dark" else _cell(getattr(venue, field)) for field in shown))
    return table


def _dark_cell(venue: Any) -> str:
    pool = venue.dark
    if pool is None:
        return "-"
    words = [f"zero {pool.zero_probability:g}, power {pool.power_exponent:g} to {pool.max_shares:g}"]
    if pool.min_execution_shares:
        words.append(f"at least {pool.min_execution_shares:g}")
    if pool.leakage_bps_per_1000_shares:
        words.append(f"leaks {pool.leakage_bps_per_1000_shares:g} bps/1000")
    return ", ".join(words)


def sample_path(market: MarketSpec, seed: int = 0, data_split: str = "train") -> dict[str, np.ndarray]:
    """One episode's path when nobody trades.

    Returns:
        "mid_bps" (T,), at each decision since arrival; and per venue, float64 (T, K), NaN where there is nothing:
        "offset_bps" of the far touch, "displayed_shares", "hidden_shares" (at arrival), "latency_ms".
    """
    simulator = BatchSimulator(market, 1, data_split)
    simulator.reset(np.array([seed], dtype=np.uint64), np.zeros(1, dtype=np.int64))
    idle, weights = np.zeros(1), np.full((1, market.n_venues), 1.0 / market.n_venues)
    day: dict[str, list[np.ndarray]] = {}
    truth = Truth(simulator)
    dark = truth.dark[0]
    for _ in range(market.order.horizon_steps):
        trades, quotes = truth.open[0], truth.open[0] & ~dark
        columns = {
            "mid_bps": np.array(truth.mid_bps[0]),
            "offset_bps": np.where(quotes, truth.offset_bps[0], np.nan),
            "displayed_shares": np.where(quotes, truth.quote_shares[0], np.nan),
            "hidden_shares": np.where(trades & (truth.hidden_shares[0] > 0.0), truth.hidden_shares[0], np.nan),
            "latency_ms": np.where(trades, truth.latency_ms[0], np.nan),
        }
        for name, column in columns.items():
            day.setdefault(name, []).append(column.copy())
        simulator.step(weights, idle)
    return {name: np.stack(rows) for name, rows in day.items()}


def sample_path_figure(market: MarketSpec, file: Path, seed: int = 0, data_split: str = "train") -> None:
    """Draw `sample_path` into a PNG: mid, far touches, sizes (dark and hidden ones as crosses) and latencies."""
    day, order = sample_path(market, seed, data_split), market.order
    seconds = np.arange(order.horizon_steps) * order.step_s
    notebook = isinstance(market, NotebookMarket)
    unit = "notebook's unit" if notebook else "bps"
    figure = Figure(figsize=(10, 9.5), layout="constrained")
    mid, touch, size, latency = figure.subplots(4, 1, sharex=True, height_ratios=[1, 1.6, 1.3, 1])
    mid.step(seconds, day["mid_bps"], where="post", color="0.25")
    mid.set_ylabel("mid since\narrival, bps")
    edges = np.append(seconds, seconds[-1] + order.step_s)
    rows = np.arange(market.n_venues + 1) - 0.5
    mesh = touch.pcolormesh(edges, rows, day["offset_bps"].T, cmap="viridis")
    figure.colorbar(mesh, ax=touch, label=f"far touch above the mid, {unit}", pad=0.01)
    touch.set_yticks(range(market.n_venues), market.venue_names, fontsize=8)
    touch.set_ylabel("blank: halted, or dark")
    touch.invert_yaxis()
    palette = matplotlib.colormaps["tab10" if market.n_venues <= 10 else "turbo"]
    for k, name in enumerate(market.venue_names):
        colour = palette(k if market.n_venues <= 10 else k / (market.n_venues - 1))
        size.step(seconds, day["displayed_shares"][:, k], where="post", color=colour)
        size.plot(seconds, day["hidden_shares"][:, k], "x", color=colour, markersize=4, alpha=0.8)
        latency.step(seconds, day["latency_ms"][:, k], where="post", color=colour, label=name)
    size.set_ylabel("size, shares\n(x: not displayed)")
    latency.set_ylabel("latency" if notebook else "latency to\nthe venue, ms")
    latency.set_xlabel("seconds after the order's arrival")
    for axes in (size, latency):
        axes.set_yscale("log")
    for axes in (mid, size, latency):
        axes.grid(alpha=0.25)
    figure.legend(loc="outside lower center", ncols=min(market.n_venues, 8), fontsize=8, frameon=False)
    figure.suptitle(f"{market.name}: a sample day when nobody trades ({data_split}, seed {seed})")
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
