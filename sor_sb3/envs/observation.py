"""What a router sees: public data and its own fills, as one float32 row. The layout is the specification.

Nothing hidden goes in: quotes as heard at the decision, never at the arrival of a child.

A row is ``MARKET_FEATURES`` followed by ``VENUE_FEATURES`` of each venue in turn, (6 + 9 K,) in all:

================  ====================================================================================
market feature    meaning
================  ====================================================================================
time_left         share of the horizon that is left, 1 at the first decision
remaining         share of the parent order still to be done
slice             log(1 + this step's scheduled shares / an even slice)
signal            public signal of the short-lived drift, about unit variance; book imbalance in a replay
last_move         move of the mid over the last step, against us, in price scales
best_all_in       lowest far-touch offset plus take fee of an open venue, in price scales
================  ====================================================================================

================  ====================================================================================
venue feature     meaning
================  ====================================================================================
open              1 if it trades, 0 if it is halted or not quoting, as announced
slice_excess      all-in price of the whole slice here, book walked, less the best venue's; in price scales
offset            far touch above the mid, in price scales
fee               take fee, in price scales
size              log(1 + displayed shares / an even slice)
latency           log(1 + last heard latency / the market's typical one)
volume_share      share of recent traded volume; 0 where none is published
fill_ratio        filled / sent of our recent children there, 1 before the first
sweep_share       share of this step's slice that a sweep of displayed sizes in order of all-in price puts here
================  ====================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit

from sor_sb3.market.spec import MarketSpec, NotebookMarket, ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.execution import displayed_shares
from sor_sb3.simulator.records import NOTEBOOK

MARKET_FEATURES = ("time_left", "remaining", "slice", "signal", "last_move", "best_all_in")
VENUE_FEATURES = (
    "open",
    "slice_excess",
    "offset",
    "fee",
    "size",
    "latency",
    "volume_share",
    "fill_ratio",
    "sweep_share",
)
_G, _F = len(MARKET_FEATURES), len(VENUE_FEATURES)


@njit(cache=True)
def _sort_by_price(all_in: Any, ranking: Any, parameters: Any) -> None:
    """Insertion sort of venue numbers by all-in price, ties by name; `ranking` arrives as the last step left it."""
    for a in range(1, ranking.size):
        k = ranking[a]
        b = a - 1
        while b >= 0:
            j = ranking[b]
            tied = all_in[j] == all_in[k] and parameters[j].name_rank > parameters[k].name_rank
            if not (all_in[j] > all_in[k] or tied):
                break
            ranking[b + 1] = j
            b -= 1
        ranking[b + 1] = k


@njit(cache=True)
def _price_slice(order: Any, venues: Any, parameters: Any, market: Any, all_in: Any, shown: Any, price: Any) -> float:
    """All-in price of the whole slice at each venue into `price` (K,), from what is displayed; returns the lowest.

    ``min(q, d)/q (all_in + walk min(q, d)/d) + (1 - min(q, d)/q) miss``: what a venue does not show is charged `miss`,
    the dearest all-in price of an open venue with its whole display taken.
    """
    wanted = max(order.slice_shares, 1e-9)
    miss, lowest = -math.inf, math.inf
    for k in range(venues.size):
        all_in[k] = venues[k].offset_bps + parameters[k].take_fee_bps
        shown[k] = displayed_shares(venues[k])
        if venues[k].open == 1:
            miss = max(miss, all_in[k] + parameters[k].walk_bps)
    miss = 0.0 if miss == -math.inf else miss
    for k in range(venues.size):
        if market.model == NOTEBOOK:  # everything fills, at the price of the whole slice
            price[k] = all_in[k] + market.liquidity_cost * wanted / shown[k]
        else:
            part = min(shown[k] / wanted, 1.0)
            walked = parameters[k].walk_bps * (wanted / shown[k] if part == 1.0 else 1.0)
            price[k] = part * (all_in[k] + walked) + (1.0 - part) * miss
        lowest = min(lowest, price[k])
    return lowest


@njit(cache=True)
def _observe(
    order: Any, venues: Any, parameters: Any, market: Any, scales: Any, ranking: Any, work: Any, row: Any
) -> None:
    price_scale, shares_scale, latency_scale = scales
    all_in, shown, price = work[0], work[1], work[2]
    lowest = _price_slice(order, venues, parameters, market, all_in, shown, price)
    best, volume = math.inf, 0.0
    for k in range(venues.size):
        volume += venues[k].recent_volume_shares
        if venues[k].open == 1:
            best = min(best, all_in[k])
    row[0] = 1.0 - order.step / market.horizon_steps
    row[1] = order.remaining_shares / market.quantity_shares
    row[2] = math.log1p(order.slice_shares / shares_scale)
    row[3] = order.signal
    row[4] = order.last_move_bps / price_scale
    row[5] = best / price_scale if best < math.inf else 0.0
    per_volume = 1.0 / volume if volume > 0.0 else 0.0
    for k in range(venues.size):
        venue, at = venues[k], _G + k * _F
        row[at] = venue.open
        row[at + 1] = (price[k] - lowest) / price_scale
        row[at + 2] = venue.offset_bps / price_scale
        row[at + 3] = parameters[k].take_fee_bps / price_scale
        row[at + 4] = math.log1p(shown[k] / shares_scale)
        row[at + 5] = math.log1p(venue.heard_latency_ms / latency_scale)
        row[at + 6] = venue.recent_volume_shares * per_volume
        row[at + 7] = venue.fill_ratio
    _sort_by_price(all_in, ranking, parameters)
    left = order.slice_shares
    per_slice = 1.0 / left if left > 0.0 else 0.0
    for a in range(ranking.size):
        k = ranking[a]
        take = min(left, shown[k])
        row[_G + k * _F + 8] = take * per_slice
        left -= take


@njit(cache=True, nogil=True)
def _observe_batch(
    which: Any, orders: Any, venues: Any, parameters: Any, market: Any, scales: Any, ranking: Any, work: Any, out: Any
) -> None:
    for j in range(which.size):
        i = which[j]
        _observe(orders[i], venues[i], parameters, market[0], scales, ranking[i], work, out[j])


def observation_scales(market: MarketSpec) -> tuple[float, float, float]:
    """Units of the observation: price (bps), shares (an even slice), latency (ms), from the specification alone."""
    shares = market.order.quantity_shares / market.order.horizon_steps
    if isinstance(market, NotebookMarket):
        return sum(market.spread) / 2, shares, sum(market.latency) / 2
    latencies = [venue.latency_ms for venue in market.venues]
    latency = float(np.median(latencies)) or 1.0
    if isinstance(market, ReplayMarket):
        return market.price_scale_bps, shares, latency
    return float(np.median([venue.offset_bps for venue in market.venues])), shares, latency


def observation_space(market: MarketSpec) -> spaces.Box:
    """float32 (6 + 9 K,), unbounded; typical values are of order one."""
    return spaces.Box(-np.inf, np.inf, (_G + market.n_venues * _F,), np.float32)


class Observer:
    """Writes observations of a simulator's members."""

    def __init__(self, simulator: BatchSimulator) -> None:
        self.simulator = simulator
        self._scales = observation_scales(simulator.market)
        self._ranking = np.tile(np.arange(simulator.market.n_venues), (simulator.n, 1))
        self._work = np.zeros((3, simulator.market.n_venues))
        self._everyone = np.arange(simulator.n)
        self.size = _G + simulator.market.n_venues * _F

    def observe(self, which: np.ndarray | None = None) -> np.ndarray:
        """A fresh float32 array (n, 6 + 9 K): rows of the members `which` (all, by default)."""
        which = self._everyone if which is None else which
        out = np.empty((len(which), self.size), dtype=np.float32)
        sim = self.simulator
        _observe_batch(
            which,
            sim.orders,
            sim.venues,
            sim.venue_parameters,
            sim.market_record,
            self._scales,
            self._ranking,
            self._work,
            out,
        )
        return out


@dataclass(frozen=True)
class ObservationView:
    """Observations read back in their units, for rules: arrays are float64, (n,) per market or (n, K) per venue."""

    time_left: np.ndarray
    remaining: np.ndarray
    slice_shares: np.ndarray
    signal: np.ndarray
    open: np.ndarray  # bool
    offset_bps: np.ndarray
    fee_bps: np.ndarray
    slice_excess_bps: np.ndarray  # all-in price of the whole slice at a venue, less the lowest
    size_shares: np.ndarray
    latency_ms: np.ndarray
    volume_share: np.ndarray
    fill_ratio: np.ndarray
    sweep_share: np.ndarray

    @classmethod
    def of(cls, observations: np.ndarray, market: MarketSpec) -> ObservationView:
        """Read observations (n, 6 + 9 K) of `market`; exact to float32 rounding."""
        price, shares, latency = observation_scales(market)
        rows = np.asarray(observations, dtype=np.float64)
        per_venue = rows[:, _G:].reshape(len(rows), market.n_venues, _F)
        f = {name: per_venue[:, :, i] for i, name in enumerate(VENUE_FEATURES)}
        m = {name: rows[:, i] for i, name in enumerate(MARKET_FEATURES)}
        return cls(
            time_left=m["time_left"],
            remaining=m["remaining"],
            slice_shares=np.expm1(m["slice"]) * shares,
            signal=m["signal"],
            open=f["open"] > 0.5,
            offset_bps=f["offset"] * price,
            fee_bps=f["fee"] * price,
            slice_excess_bps=f["slice_excess"] * price,
            size_shares=np.expm1(f["size"]) * shares,
            latency_ms=np.expm1(f["latency"]) * latency,
            volume_share=f["volume_share"],
            fill_ratio=f["fill_ratio"],
            sweep_share=f["sweep_share"],
        )
