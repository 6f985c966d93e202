"""Memory of an env, and how the time of a step grows with venues, envs, the horizon and levels of books.

    python benchmarks/bench_growth.py [--quick] [--out FILE.json]

Each series is fitted by time = a + b x with the least squares of relative errors; what is told is how far a point lies
from that line at the most. One thread, CPU time, random actions.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from bench_simulator import ENV_ID, MARKET, random_actions
from measuring import COLOURS, Case, Column, Results, Sheet, alternate, command, new_chart, number, save_chart, spread

from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec, SyntheticMarket

TITLE = "Growth"
VENUES, ENVS, HORIZONS = (2, 4, 8, 16, 32, 64), (256, 512, 1024, 2048, 4096, 8192, 16_384), (10, 20, 40, 80, 160)
QUICK_VENUES, QUICK_ENVS, QUICK_HORIZONS = (2, 8, 64), (256, 1024, 4096), (10, 20, 80)
LEVELS, QUICK_LEVELS = (1, 2, 3, 4, 5, 6, 7, 8), (1, 4, 8)
N_ENVS = 1024
SERIES = {"venues": "venues", "envs": "envs", "horizon": "steps of the horizon", "levels": "levels of a book"}
PARTS = {"step": "VecEnv step", "kernel": "kernel alone", "observation": "observation alone"}


def market_of(n_venues: int) -> SyntheticMarket:
    """us_equity with so many venues: its lit ones over and over, of the same displayed size in all."""
    base = load_market(MARKET)
    assert isinstance(base, SyntheticMarket)
    lit = [(venue, venue.size_shares) for venue in base.venues if venue.size_shares is not None]
    chosen = [lit[k % len(lit)] for k in range(n_venues)]
    scale = sum(size for _, size in lit) / sum(size for _, size in chosen)
    venues = [
        venue.model_dump() | {"name": f"{venue.name}-{k}", "size_shares": size * scale}
        for k, (venue, size) in enumerate(chosen)
    ]
    return SyntheticMarket.model_validate(base.model_dump() | {"name": f"{n_venues} venues", "venues": venues})


def with_horizon(steps: int) -> SyntheticMarket:
    """us_equity with another horizon."""
    base = load_market(MARKET)
    order = base.order.model_dump() | {"horizon_steps": steps}
    return SyntheticMarket.model_validate(base.model_dump() | {"order": order})


def with_levels(levels: int) -> SyntheticMarket:
    """us_equity with so many levels a side, all of which a child may sweep."""
    base = load_market(MARKET)
    assert isinstance(base, SyntheticMarket)
    order = base.order.model_dump() | {"limit": "sweep", "limit_offset_bps": 10.0}
    quotes = base.quotes.model_dump() | {"level_profile": [1.0] * levels}
    return SyntheticMarket.model_validate(base.model_dump() | {"order": order, "quotes": quotes})


MARKETS = {"venues": market_of, "horizon": with_horizon, "levels": with_levels}


class Stepper:
    """An env that plays whole horizons; `run` counts the whole horizon of the whole batch as one."""

    def __init__(self, market: MarketSpec, n_envs: int) -> None:
        self.venv = RoutingVecEnv(ENV_ID, market, n_envs, seed=0)
        self.venv.reset()
        self.horizon = market.order.horizon_steps
        self.actions = random_actions(self.venv.action_space, min(self.horizon, 20), n_envs)

    def step(self) -> int:
        """VecEnv steps, resets included."""
        for i in range(self.horizon):
            self.venv.step(self.actions[i % len(self.actions)])
        return 1

    def kernel(self) -> int:
        """The simulator's steps and resets, without observations."""
        core = self.venv.core
        for i in range(self.horizon):
            weights, pace = core.action_adapter.decode(self.actions[i % len(self.actions)])
            _, _, done = core.simulator.step(weights, pace)
            ended = np.flatnonzero(done)
            if len(ended):
                core.episodes[ended] += 1
                core.simulator.reset(core.seeds[ended], core.episodes[ended], ended)
        return 1

    def observation(self) -> int:
        """Observations alone."""
        for _ in range(self.horizon):
            self.venv.core.observer.observe()
        return 1


def series_cases(series: str, quick: bool) -> list[Case]:
    """The cases of one series; venues also by part."""
    sizes = {
        "venues": QUICK_VENUES if quick else VENUES,
        "envs": QUICK_ENVS if quick else ENVS,
        "horizon": QUICK_HORIZONS if quick else HORIZONS,
        "levels": QUICK_LEVELS if quick else LEVELS,
    }[series]
    cases = []
    for x in sizes:
        market = MARKETS[series](x) if series in MARKETS else load_market(MARKET)
        stepper = Stepper(market, x if series == "envs" else N_ENVS)
        for part in PARTS if series == "venues" else ("step",):
            facts = {"series": series, "part": part, "x": x, "steps": 1 if series == "horizon" else stepper.horizon}
            cases.append(Case(f"{series} {x}, {part}", getattr(stepper, part), facts=facts))
    return cases


def line_through(x: Sequence[float], seconds: Sequence[float]) -> dict[str, Any]:
    """Fit a + b x by relative errors; the largest deviation from it, and time per unit at the last x to that before."""
    at, times = np.asarray(x, dtype=float), np.asarray(seconds, dtype=float)
    slope, intercept = np.polyfit(at, times, 1, w=1.0 / times)
    off = times / (intercept + slope * at) - 1.0
    return {
        "a_ms": 1000 * float(intercept),
        "b_ms": 1000 * float(slope),
        "deviation_percent": 100 * float(np.abs(off).max()),
        "at": float(at[np.abs(off).argmax()]),
    }


def memory() -> list[dict[str, Any]]:
    """Bytes of an env: the simulator's arrays, the row of observations, and what the process grew by."""
    n = 16_384
    RoutingVecEnv(ENV_ID, MARKET, 2, seed=0).reset()  # loads the kernels, which are no env's memory
    before = resident_bytes()
    venv = RoutingVecEnv(ENV_ID, MARKET, n, seed=0)
    observations = venv.reset()
    grown = resident_bytes()
    state = venv.core.simulator.kernel_state().blocks.nbytes
    rows = [
        {"what": "state: order, venues, children", "bytes": state / n},
        {"what": "a row of observations", "bytes": observations.nbytes / n},
    ]
    if before is not None and grown is not None:
        rows.append({"what": "resident memory, all in, by difference", "bytes": (grown - before) / n})
    return rows


def resident_bytes() -> int | None:
    """Resident memory of this process; None where the system does not say."""
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmRSS"))
    return 1024 * int(line.split()[1])


def measure(quick: bool) -> Results:
    """Seconds of every point, and the lines through them."""
    held = memory()
    rows, fits = [], []
    for series in SERIES:
        cases = series_cases(series, quick)
        alternate(cases, 3 if quick else 7, 0.05 if quick else 0.3)
        points = [
            case.facts | {"s": spread(1.0 / rate / case.facts["steps"] for rate in case.per_s["cpu"])} for case in cases
        ]
        for point in points:
            point["per_unit_us"] = 1e6 * point["s"][0] / point["x"]
        rows += points
        for part in dict.fromkeys(point["part"] for point in points):
            mine = [point for point in points if point["part"] == part]
            fit = line_through([p["x"] for p in mine], [p["s"][0] for p in mine])
            fits.append({"series": series, "part": part} | fit | _per_unit_ratio(mine))
    return {"market": MARKET, "env": ENV_ID, "n_envs": N_ENVS, "memory": held, "rows": rows, "fits": fits}


def _per_unit_ratio(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Time per unit at the largest x to that at 8 venues, 1,024 envs or 20 steps (or the first point)."""
    usual = [point for point in points[:-1] if point["x"] in (8, N_ENVS, 20)] or points
    return {
        "from": usual[0]["x"],
        "to": points[-1]["x"],
        "per_unit": points[-1]["per_unit_us"] / usual[0]["per_unit_us"],
    }


def sheets(results: Results) -> list[Sheet]:
    """Fits, points, memory."""
    fit_columns = (
        Column("series", "grows with", lambda value: SERIES[value]),
        Column("part", "what", lambda value: PARTS[value]),
        Column("deviation_percent", "largest deviation from a line, %", lambda value: number(value, 1)),
        Column("at", "at"),
        Column("a_ms", "a, ms", lambda value: number(value, 4)),
        Column("b_ms", "b, ms", lambda value: number(value, 6)),
        Column("per_unit", "time per unit, last to usual", lambda value: number(value, 2)),
        Column("from", "usual"),
        Column("to", "last"),
    )
    point_columns = (
        Column("series", "grows with", lambda value: SERIES[value]),
        Column("part", "what", lambda value: PARTS[value]),
        Column("x", "x"),
        Column("s", "CPU ms, median", lambda value: number(1000 * value[0], 3)),
        Column("s", "lowest - highest", lambda value: f"{1000 * value[1]:.3f} - {1000 * value[2]:.3f}"),
        Column("per_unit_us", "us per unit", lambda value: number(value, 3)),
    )
    memory_columns = (Column("what", "of an env"), Column("bytes", "bytes"))
    note = (
        f"Of a step of the batch; with the horizon, of a whole episode of the batch. {results['n_envs']:,} envs of "
        "us_equity where it is not said otherwise; markets of K venues repeat its lit venues, with the same size in "
        "all. Fitted by relative errors. The time per unit falls where a is a large part of the time."
    )
    memory_title = f"Memory of an env of {results['market']}"
    return [
        Sheet("How CPU time grows: a + b x", fit_columns, results["fits"], note),
        Sheet("Its points", point_columns, results["rows"]),
        Sheet(memory_title, memory_columns, results["memory"], "In a batch of 16,384."),
    ]


def draw(results: Results, folder: Path) -> list[Path]:
    """A panel for each series, with the fitted lines."""
    figure, axes = new_chart(width=11.0, height=3.8, columns=len(SERIES))
    for axis, (series, what) in zip(axes, SERIES.items(), strict=True):
        for colour, (part, label) in zip(COLOURS, PARTS.items(), strict=False):
            points = [row for row in results["rows"] if (row["series"], row["part"]) == (series, part)]
            if not points:
                continue
            fit = next(fit for fit in results["fits"] if (fit["series"], fit["part"]) == (series, part))
            x = np.array([point["x"] for point in points], dtype=float)
            axis.plot(x, [1000 * point["s"][0] for point in points], "o", color=colour, markersize=4, label=label)
            axis.plot(x, fit["a_ms"] + fit["b_ms"] * x, color=colour, linewidth=1)
        axis.set(xlabel=what, xlim=(0, None), ylim=(0, None))
        axis.set_ylabel("CPU ms of an episode of the batch" if series == "horizon" else "CPU ms of a step of the batch")
        axis.legend(fontsize=7, frameon=False)
    figure.suptitle(f"{results['market']}, {results['env']}: growth, and the fitted line a + b x", fontsize=10)
    return [save_chart(figure, folder / "performance_growth.svg")]


if __name__ == "__main__":
    command(sys.modules[__name__])
