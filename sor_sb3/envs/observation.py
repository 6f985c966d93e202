"""What a router sees: public data and its own fills, as one float32 row. The layout is the specification.

Nothing hidden goes in: quotes as observed at the decision, never at the arrival of a child.

A row is ``MARKET_FEATURES`` followed by ``VENUE_FEATURES`` of each venue in turn, (7 + 12 K,) in all:

================  ====================================================================================
market feature    meaning
================  ====================================================================================
time_left         share of the horizon that is left, 1 at the first decision
remaining         share of the parent order that is not known to be filled
in_flight         share of it that children carry that have not been acknowledged
slice             log(1 + this step's scheduled shares / an even slice)
signal            public signal of the short-lived drift, about unit variance; book imbalance in a replay
last_move         move of the mid over the last step, against us, in price scales
best_all_in       lowest far-touch offset plus take fee of an open lit venue, in price scales
================  ====================================================================================

================  ====================================================================================
venue feature     meaning
================  ====================================================================================
open              1 if it trades, 0 if it is halted or not quoting, as announced
dark              1 if it is a dark pool, which quotes nothing and fills at the mid
in_flight         1 if a child of ours there has not been acknowledged: it takes no other
slice_excess      all-in price of the whole slice here, book walked, less the best venue's; in price scales
offset            far touch above the mid as its feed last said, in price scales; 0 in the dark
fee               take fee, in price scales
size              log(1 + displayed shares / an even slice), by its feed less what we took; 0 in the dark
latency           log(1 + last observed latency / the market's typical one)
volume_share      share of recent traded volume; 0 where none is published
fill_ratio        filled / sent of our recent children there, 1 before the first
reject            1 when a child came back rejected since the last decision, fading; 0 after any other answer
marginal_share    share of this step's slice that the split of displays at one marginal price, books walked, puts here;
                  in the notebook, whose cost is linear, 1 at the cheapest venue
================  ====================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces
from numba import njit

from sor_sb3.market.spec import MarketSpec
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import log
from sor_sb3.simulator.pricing import OFFERS, make_offers, marginal_price_bps, offered_at, price_slices
from sor_sb3.simulator.state import LANES_APART

MARKET_FEATURES = ("time_left", "remaining", "in_flight", "slice", "signal", "last_move", "best_all_in")
_OF_A_VENUE = "open dark in_flight slice_excess offset fee size latency volume_share fill_ratio reject marginal_share"
VENUE_FEATURES = tuple(_OF_A_VENUE.split())
_G, _F = len(MARKET_FEATURES), len(VENUE_FEATURES)
_SHARE = _F - 1
_LOGS = np.dtype([("size", "f8", (LANES_APART,)), ("latency", "f8", (LANES_APART,))], align=True)


@njit(error_model="numpy")
def _take_logarithms(block: Any, scales: Any, first: int, last: int, offers: Any, logs: Any) -> None:
    per_share, per_ms = 1.0 / scales[1], 1.0 / scales[2]
    for j in range(np.uint64(first), np.uint64(last)):
        logs.size[j] = log(1.0 + offers.shown_shares[j] * per_share)
        logs.latency[j] = log(1.0 + block.observed_latency_ms[j] * per_ms)


@njit(inline="always")
def _write_row(
    block: Any, i: int, fixed: Any, market: Any, scales: Any, offers: Any, logs: Any, out: Any, row: int
) -> None:
    per_bps, n_venues, first = 1.0 / scales[0], market.n_venues, i * market.n_venues
    lowest, best, volume = math.inf, math.inf, 0.0
    for j in range(first, first + n_venues):
        lowest = min(lowest, offers.price_bps[j])
        all_in_bps = block.observed_offset_bps[j] + fixed.take_fee_bps[j]
        best = min(best, all_in_bps if (block.open[j] == 1.0) & (fixed.dark[j] == 0.0) else math.inf)
        volume += block.recent_volume_shares[j]
    per_volume, in_flight = 1.0 / volume if volume > 0.0 else 0.0, block.in_flight[i] > 0
    out[row, 0] = 1.0 - block.step[i] / market.horizon_steps
    out[row, 1] = (block.available_shares[i] + block.in_flight_shares[i]) / market.quantity_shares
    out[row, 2] = block.in_flight_shares[i] / market.quantity_shares
    out[row, 3] = log(1.0 + block.slice_shares[i] / scales[1])
    out[row, 4] = block.signal[i]
    out[row, 5] = block.last_move_bps[i] * per_bps
    out[row, 6] = best * per_bps if best < math.inf else 0.0
    wanted = block.slice_shares[i]
    per_share = 1.0 / wanted if wanted > 0.0 else 0.0
    marginal_bps = marginal_price_bps(wanted, first, first + n_venues, offers) if market.fills_all == 0 else 0.0
    for k in range(n_venues):
        j, at = first + k, _G + k * _F
        out[row, at] = block.open[j]
        out[row, at + 1] = fixed.dark[j]
        out[row, at + 2] = 1.0 if in_flight and block.child_shares[j] > 0.0 else 0.0
        out[row, at + 3] = (offers.price_bps[j] - lowest) * per_bps
        out[row, at + 4] = block.observed_offset_bps[j] * per_bps
        out[row, at + 5] = fixed.take_fee_bps[j] * per_bps
        out[row, at + 6] = logs.size[j]
        out[row, at + 7] = logs.latency[j]
        out[row, at + 8] = block.recent_volume_shares[j] * per_volume
        out[row, at + 9] = block.fill_ratio[j]
        out[row, at + 10] = block.reject[j]
        cheapest = 1.0 if offers.price_bps[j] == lowest else 0.0
        out[row, at + _SHARE] = cheapest if market.fills_all == 1 else offered_at(marginal_bps, j, offers) * per_share


@entry_point(nogil=True)
def _observe_batch(state: Any, which: Any, scales: Any, out: Any) -> None:
    offers, logs = np.empty(1, OFFERS), np.empty(1, _LOGS)  # a record does not keep its array alive
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    n_venues, run = state.market[0].n_venues, 0
    for at in range(which.size):
        b, i = which[at] // per_block, which[at] % per_block
        run += 1
        if at + 1 < which.size and which[at + 1] == which[at] + 1 and i + 1 < per_block:
            continue  # neighbours are priced together
        block, fixed, begin = state.blocks[b], state.venues[b if drawn else 0], i + 1 - run
        first, last = begin * n_venues, (i + 1) * n_venues
        make_offers(block, fixed, first, last, offers[0])
        price_slices(block, begin, run, fixed, state.market[0], offers[0])
        _take_logarithms(block, scales, first, last, offers[0], logs[0])
        for member in range(run):
            row = at + 1 - run + member
            market = state.market[which[row] if drawn else 0]
            _write_row(block, begin + member, fixed, market, scales, offers[0], logs[0], out, row)
        run = 0


def observation_space(market: MarketSpec) -> spaces.Box:
    """float32 (7 + 12 K,), unbounded; typical values are of order one."""
    return spaces.Box(-np.inf, np.inf, (_G + market.n_venues * _F,), np.float32)


class Observer:
    """Writes observations of a simulator's members."""

    def __init__(self, simulator: BatchSimulator) -> None:
        self.simulator = simulator
        self._scales = simulator.market.scales
        self._everyone = np.arange(simulator.n)
        self.size = _G + simulator.market.n_venues * _F

    def observe(self, which: np.ndarray | None = None) -> np.ndarray:
        """A fresh float32 array (n, 7 + 12 K): rows of the members `which` (all, by default)."""
        which = self._everyone if which is None else which
        out = self.blank(len(which))
        self.simulator.in_parts(lambda part: self._write(which[part], out[part]), len(which))
        return out

    def blank(self, n: int) -> np.ndarray:
        """A fresh float32 array (n, 7 + 12 K), to be written."""
        return np.empty((n, self.size), dtype=np.float32)

    def write_part(self, part: slice, out: np.ndarray) -> None:
        """Write the rows of the members in `part` into those of `out` (N, 7 + 12 K)."""
        self._write(self._everyone[part], out[part])

    def _write(self, which: np.ndarray, out: np.ndarray) -> None:
        _observe_batch(self.simulator.kernel_state(), which, self._scales, out)


@dataclass(frozen=True)
class ObservationView:
    """Observations read back in their units, for rules: float64 arrays, (n,) per market, (n, K) per venue."""

    time_left: np.ndarray
    remaining: np.ndarray
    in_flight_share: np.ndarray
    slice_shares: np.ndarray
    slice_of_order: np.ndarray  # the same, as a share of the parent order
    signal: np.ndarray
    open: np.ndarray  # bool
    dark: np.ndarray  # bool
    busy: np.ndarray  # bool: a child of ours is in flight there
    offset_bps: np.ndarray
    fee_bps: np.ndarray
    slice_excess_bps: np.ndarray  # all-in price of the whole slice at a venue, less the lowest
    size_shares: np.ndarray
    latency_ms: np.ndarray
    volume_share: np.ndarray
    fill_ratio: np.ndarray
    reject: np.ndarray
    marginal_share: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """bool (n, K): venues that trade and have no child of ours in flight."""
        return self.open & ~self.busy

    @property
    def quoted(self) -> np.ndarray:
        """bool (n, K): usable venues that show a price."""
        return self.usable & ~self.dark

    @property
    def pace(self) -> np.ndarray:
        """float64 (n,): the schedule's slice as a share of what is available, 1 where nothing is."""
        quantity = self.remaining - self.in_flight_share
        return np.clip(np.divide(self.slice_of_order, quantity, out=np.ones_like(quantity), where=quantity > 0), 0, 1)

    @classmethod
    def of(cls, observations: np.ndarray, market: MarketSpec) -> ObservationView:
        """Read observations (n, 7 + 12 K) of `market`; exact to float32 rounding."""
        price, shares, latency = market.scales
        rows = np.asarray(observations, dtype=np.float64)
        per_venue = rows[:, _G:].reshape(len(rows), market.n_venues, _F)
        f = {name: per_venue[:, :, i] for i, name in enumerate(VENUE_FEATURES)}
        m = {name: rows[:, i] for i, name in enumerate(MARKET_FEATURES)}
        return cls(
            **{name: m[name] for name in ("time_left", "remaining", "signal")},
            in_flight_share=m["in_flight"],
            slice_shares=np.expm1(m["slice"]) * shares,
            slice_of_order=np.expm1(m["slice"]) / market.order.horizon_steps,
            open=f["open"] > 0.5,
            dark=f["dark"] > 0.5,
            busy=f["in_flight"] > 0.5,
            offset_bps=f["offset"] * price,
            fee_bps=f["fee"] * price,
            slice_excess_bps=f["slice_excess"] * price,
            size_shares=np.expm1(f["size"]) * shares,
            latency_ms=np.expm1(f["latency"]) * latency,
            **{name: f[name] for name in ("volume_share", "fill_ratio", "reject", "marginal_share")},
        )
