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
sweep_share       share of this step's slice that a sweep of displays, cheapest all-in first, puts here
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
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import log
from sor_sb3.simulator.execution import displayed_shares
from sor_sb3.simulator.paths import LANES_APART, block_size
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


# As in `sor_sb3.simulator.paths`, the venues of a block of orders lie side by side in lanes of one flat
# array.
(
    _WALK,
    _FEE,
    _ALL_IN,
    _SHOWN,
    _WANTED,
    _MISS,
    _LATENCY,
    _PRICE,
    _LOG_SIZE,
    _LOG_LATENCY,
) = (np.uint64(LANES_APART * quantity) for quantity in range(10))
_FLOATS = 10 * LANES_APART


@njit
def _tile_parameters(lanes: Any, parameters: Any, n_lanes: int) -> None:
    for j in range(np.uint64(n_lanes)):
        fixed = parameters[j % np.uint64(parameters.size)]
        lanes[_WALK + j], lanes[_FEE + j] = fixed.walk_bps, fixed.take_fee_bps


@njit
def _load_lanes(order: Any, venues: Any, first: int, lanes: Any) -> None:
    wanted = max(order.slice_shares, 1e-9)
    miss = -math.inf
    for k in range(venues.size):
        venue, j = venues[k], np.uint64(first + k)
        all_in = venue.offset_bps + lanes[_FEE + j]
        lanes[_ALL_IN + j], lanes[_SHOWN + j] = all_in, displayed_shares(venue)
        lanes[_LATENCY + j], lanes[_WANTED + j] = venue.heard_latency_ms, wanted
        if venue.open == 1:
            miss = max(miss, all_in + lanes[_WALK + j])
    miss = 0.0 if miss == -math.inf else miss
    for k in range(venues.size):
        lanes[_MISS + np.uint64(first + k)] = miss


@njit(error_model="numpy")
def _price_lanes(market: Any, scales: Any, n_lanes: int, lanes: Any) -> None:
    """All-in price of the whole slice at each venue, from what is displayed, and the logarithms of the row.

    ``min(q, d)/q (all_in + walk min(q, d)/d) + (1 - min(q, d)/q) miss``: what a venue does not show is
    charged `miss`, the dearest all-in price of an open venue with its whole display taken. In the notebook
    everything fills, at the price of the whole slice.
    """
    per_share, per_ms = 1.0 / scales[1], 1.0 / scales[2]
    notebook, liquidity_cost = market.model == NOTEBOOK, market.liquidity_cost
    for j in range(np.uint64(n_lanes)):
        all_in, shown, wanted = lanes[_ALL_IN + j], lanes[_SHOWN + j], lanes[_WANTED + j]
        part, taken = min(shown / wanted, 1.0), min(wanted / shown, 1.0)
        price = part * (all_in + lanes[_WALK + j] * taken) + (1.0 - part) * lanes[_MISS + j]
        linear = all_in + liquidity_cost * wanted / shown
        lanes[_PRICE + j] = linear if notebook else price
        lanes[_LOG_SIZE + j] = log(1.0 + shown * per_share)
        lanes[_LOG_LATENCY + j] = log(1.0 + lanes[_LATENCY + j] * per_ms)


@njit
def _sweep(wanted: float, first: int, parameters: Any, lanes: Any, row: Any) -> None:
    """Shares of `wanted` that a sweep of displayed sizes, cheapest all-in first, ties by name, puts where."""
    left = wanted
    for k in range(parameters.size):
        row[_G + k * _F + 8] = 0.0
    while left > 0.0:
        best, lowest = -1, math.inf
        for k in range(parameters.size):
            j = np.uint64(first + k)
            all_in = lanes[_ALL_IN + j]
            if all_in <= lowest and lanes[_SHOWN + j] > 0.0:
                if all_in < lowest or parameters[k].name_rank < parameters[best].name_rank:
                    best, lowest = k, all_in
        if best < 0:
            break
        j = np.uint64(first + best)
        take = min(left, lanes[_SHOWN + j])
        row[_G + best * _F + 8] = take / wanted
        left -= take
        lanes[_SHOWN + j] = 0.0


@njit
def _write_row(
    order: Any, venues: Any, parameters: Any, market: Any, scales: Any, first: int, lanes: Any, row: Any
) -> None:
    per_bps = 1.0 / scales[0]
    lowest, best, volume = math.inf, math.inf, 0.0
    for k in range(venues.size):
        j = np.uint64(first + k)
        lowest = min(lowest, lanes[_PRICE + j])
        best = min(best, lanes[_ALL_IN + j] if venues[k].open == 1 else math.inf)
        volume += venues[k].recent_volume_shares
    per_volume = 1.0 / volume if volume > 0.0 else 0.0
    row[0] = 1.0 - order.step / market.horizon_steps
    row[1] = order.remaining_shares / market.quantity_shares
    row[2] = log(1.0 + order.slice_shares / scales[1])
    row[3] = order.signal
    row[4] = order.last_move_bps * per_bps
    row[5] = best * per_bps if best < math.inf else 0.0
    for k in range(venues.size):
        venue, j, at = venues[k], np.uint64(first + k), _G + k * _F
        row[at] = venue.open
        row[at + 1] = (lanes[_PRICE + j] - lowest) * per_bps
        row[at + 2] = venue.offset_bps * per_bps
        row[at + 3] = lanes[_FEE + j] * per_bps
        row[at + 4] = lanes[_LOG_SIZE + j]
        row[at + 5] = lanes[_LOG_LATENCY + j]
        row[at + 6] = venue.recent_volume_shares * per_volume
        row[at + 7] = venue.fill_ratio
    _sweep(order.slice_shares, first, parameters, lanes, row)


@entry_point(nogil=True)
def _observe_batch(which: Any, orders: Any, venues: Any, parameters: Any, market: Any, scales: Any, out: Any) -> None:
    n_venues = venues.shape[1]
    block = block_size(n_venues)
    lanes = np.empty(_FLOATS)
    _tile_parameters(lanes, parameters, min(block, which.size) * n_venues)
    for low in range(0, which.size, block):
        members = which[low : low + block]
        for j in range(members.size):
            _load_lanes(orders[members[j]], venues[members[j]], j * n_venues, lanes)
        _price_lanes(market[0], scales, members.size * n_venues, lanes)
        for j in range(members.size):
            i = members[j]
            _write_row(orders[i], venues[i], parameters, market[0], scales, j * n_venues, lanes, out[low + j])


def observation_scales(market: MarketSpec) -> tuple[float, float, float]:
    """Units of observations: price (bps), shares (an even slice), latency (ms), by the specification."""
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
            out,
        )
        return out


@dataclass(frozen=True)
class ObservationView:
    """Observations read back in their units, for rules: float64 arrays, (n,) per market, (n, K) per venue."""

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
