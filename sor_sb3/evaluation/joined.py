"""What becomes of a small order that joins the queue at the best near touch and stays: figures of a market's queues.

No rule is in it: a lot a scenario, at one of the venues that are at the best bid, for `JOIN_S` at the price that it
joined at.
"""

from __future__ import annotations

import math

import numpy as np

from sor_sb3.evaluation.children import ChildLog, ChildRecorder
from sor_sb3.evaluation.fill_statistics import passive_statistics
from sor_sb3.evaluation.path_statistics import TIE_BPS, Interval, Statistic, grouped, mean_of
from sor_sb3.evaluation.true_quotes import quotes_at
from sor_sb3.market.spec import MarketSpec
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.random import seed_word

JOIN_S = 60.0
NEVER_TICKS = 1_000_000  # behind the touch: a price that far away is never given up

JOIN_STATISTICS: dict[str, Statistic] = {
    "join_fill_percent": Statistic(f"a lot that joins the best bid is filled within {JOIN_S:g} s", "%", 1),
    "join_time_s": Statistic("· time to fill of those that are, median", "s", 1),
    **{f"join_markout_{s:g}s_bps": Statistic(f"· markout of them after {s:g} s", "bps") for s in (1.0, 60.0)},
}


def joined_orders(market: MarketSpec, scenarios: int, seed: int) -> ChildLog:
    """The log of lots that join; scenario j has the seed ``seed + j``, and ties at the best bid are taken by turns."""
    order = market.order
    lot = order.lot_shares or order.quantity_shares / 200.0
    horizon = math.ceil(JOIN_S / order.step_s - 1e-9)
    joining = market.with_order(
        quantity_shares=lot, lot_shares=lot, horizon_steps=horizon, waves=1, repeg_ticks=NEVER_TICKS
    )
    simulator = BatchSimulator(joining, scenarios, "test")
    words = np.array([seed_word(seed + j) for j in range(scenarios)], dtype=np.uint64)
    simulator.reset(words, np.zeros(scenarios, dtype=np.int64))
    recorder = ChildRecorder(simulator)
    nothing, rest = np.zeros((scenarios, market.n_venues)), _one_of_the_best(simulator)
    for _ in range(horizon):
        recorder.before()
        simulator.step(nothing, np.zeros(scenarios), rest=rest)
        recorder.after()
    return recorder.log()


def _one_of_the_best(simulator: BatchSimulator) -> np.ndarray:
    """Weight 1 at one of the venues of each member whose bid is the best, (n, K)."""
    bid = quotes_at(simulator, np.zeros(simulator.n))[1]
    best = bid >= np.fmax.reduce(bid, axis=1, keepdims=True) - TIE_BPS
    number = np.cumsum(best, axis=1)
    wanted = 1 + np.arange(simulator.n)[:, None] % np.maximum(number[:, -1:], 1)
    return (best & (number == wanted)).astype(np.float64)


def join_statistics(log: ChildLog) -> dict[str, Interval]:
    """Every statistic of `JOIN_STATISTICS`, by key."""
    filled = log.passive_shares.sum(axis=(1, 2)) / log.quantity_shares
    at_s = np.where(log.passive_shares > 0.0, log.decision[:, :, None] * log.step_s + log.passive_ms / 1e3, -np.inf)
    last_s = np.where(filled >= 1.0 - 1e-9, at_s.max(axis=(1, 2)), np.nan)

    def median(kept: np.ndarray) -> float:
        known = last_s[kept][np.isfinite(last_s[kept])]
        return float(np.median(known)) if known.size else float("nan")

    markouts = {f"join_{key.removeprefix('passive_')}": value for key, value in passive_statistics(log).items()}
    found = {"join_fill_percent": mean_of(100.0 * filled), "join_time_s": grouped(median, log.n_orders)} | markouts
    return {key: found[key] for key in JOIN_STATISTICS}
