"""What a router sees: public data and its own fills, as one float32 row. The layout is the specification.

Nothing hidden goes in: quotes as observed at the decision, never at the arrival of a child.

A row is ``MARKET_FEATURES`` followed by ``VENUE_FEATURES`` of each venue in turn, (10 + 19 K,) in all:

================  ====================================================================================
market feature    meaning
================  ====================================================================================
time_left         share of the horizon that is left, 1 at the first decision (of the typical horizon where it is drawn)
remaining         share of the parent order that is not known to be filled (of the typical order where it is drawn)
in_flight         share of it that children carry that have not been acknowledged
slice             log(1 + shares to be done / an even slice): the schedule's; in a later wave what came back
wave              of the decision, 0 in the first
returned          in a later wave, share of what was sent in the wave before that came back; 0 in the first
signal            public signal of the short-lived drift, about unit variance; book imbalance in a replay
last_move         move of the observed midpoint since the decision or wave before, against us, in price scales
spread            best observed far touch less best observed near touch, in price scales
best_all_in       lowest far-touch offset plus take fee of an open lit venue, in price scales
================  ====================================================================================

================  ====================================================================================
venue feature     meaning
================  ====================================================================================
open              1 if it trades, 0 if it is halted or not quoting, as announced
dark              1 if it is a dark pool, which quotes nothing and fills at the mid
in_flight         1 if a child of ours there has not been acknowledged: it takes no other
slice_excess      all-in price of the whole slice here, level by level, less the best venue's; in price scales
offset            far touch above the observed midpoint as its feed last said, in price scales; 0 in the dark
near_offset       near touch below the observed midpoint, in price scales; 0 in the dark
fee               take fee, in price scales
size              log(1 + shares displayed at the touch / an even slice), less what we took; 0 in the dark
near_size         log(1 + shares displayed at the near touch / an even slice); 0 in the dark
depth             log(1 + shares displayed within the limit of a child / an even slice); 0 in the dark
latency           log(1 + last observed latency / the market's typical one)
volume_share      share of recent traded volume; 0 where none is published
outflow           log(1 + shares that sellers recently hit its near touch with, a step / an even slice)
fill_ratio        filled / sent of our recent children there, 1 before the first
reject            1 when a child came back rejected since the last decision or wave, fading; 0 after other answers
make_fee          fee of a resting order that is filled, negative for a rebate; in price scales
resting           share of the parent order that rests there, is on its way to it, or is being cancelled
queue_ahead       log(1 + shares before the oldest of these orders / an even slice), as displayed when it was sent less
                  what has printed since; 0 without one
sweep_share       share of the slice that a sweep puts here which takes displayed levels, within the limit, in order
                  of all-in price; in the notebook, whose cost is linear, 1 at the cheapest venue
================  ====================================================================================

Where a market draws the order's size or horizon, "the parent order", "the horizon" and "an even slice" are those of its
typical order, here and in `ObservationView`: what is to be done, and in how many decisions, can be read from every row.

`slice_excess`, `best_all_in` and `sweep_share` are answers of rules (`all_in_sized`, `all_in`, `net_price_sweep`):
they save a learner the arithmetic, and say nothing that the other features do not.
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
from sor_sb3.simulator.pricing import OFFERS, Displayed, make_offers, price_slices, sweep
from sor_sb3.simulator.state import LANES_APART, State

MARKET_FEATURES = tuple("time_left remaining in_flight slice wave returned signal last_move spread best_all_in".split())
VENUE_FEATURES = tuple(
    (
        "open dark in_flight slice_excess offset near_offset fee size near_size depth latency volume_share outflow "
        "fill_ratio reject make_fee resting queue_ahead sweep_share"
    ).split()
)
_G, _F = len(MARKET_FEATURES), len(VENUE_FEATURES)
_LOGS = np.dtype(
    [(name, "f8", (LANES_APART,)) for name in ("size", "near", "depth", "latency", "outflow", "queue")], align=True
)


@njit(error_model="numpy")
def _take_logarithms(block: Any, scales: Any, first: int, last: int, offers: Any, logs: Any) -> None:
    per_share, per_ms = 1.0 / scales[1], 1.0 / scales[2]
    for j in range(np.uint64(first), np.uint64(last)):
        logs.size[j] = log(1.0 + offers.shown_shares[j] * per_share)
        logs.depth[j] = log(1.0 + offers.depth_shares[j] * per_share)
        near = block.observed_near_shares[j] if block.open[j] == 1.0 else 0.0
        logs.near[j] = log(1.0 + near * per_share)
        logs.outflow[j] = log(1.0 + block.recent_outflow_shares[j] * per_share)
        logs.queue[j] = log(1.0 + block.queue_ahead_shares[j] * per_share)
        logs.latency[j] = log(1.0 + block.observed_latency_ms[j] * per_ms)


@njit(inline="always")
def _write_row(
    block: Any, i: int, fixed: Any, market: Any, scales: Any, offers: Any, logs: Any, out: Any, row: int
) -> None:
    per_bps, n_venues, first = 1.0 / scales[0], market.n_venues, i * market.n_venues
    lowest, best, volume = math.inf, math.inf, 0.0
    for j in range(first, first + n_venues):
        lowest = min(lowest, offers.price_bps[j])
        best = min(best, offers.all_in_bps[j] if (block.open[j] == 1.0) & (fixed.dark[j] == 0.0) else math.inf)
        volume += block.recent_volume_shares[j]
    per_volume, in_flight = 1.0 / volume if volume > 0.0 else 0.0, block.in_flight[i] > 0
    wanted, is_later = block.slice_shares[i], block.wave[i] > 0
    quantity_shares, horizon_steps = scales[3], scales[4]  # of the typical order
    out[row, 0] = market.horizon_steps / horizon_steps - block.step[i] / horizon_steps
    left = block.available_shares[i] + block.in_flight_shares[i] + block.resting_shares[i] - block.overbooked_shares[i]
    per_order = 1.0 / quantity_shares
    out[row, 1] = left * per_order
    out[row, 2] = block.in_flight_shares[i] / quantity_shares
    out[row, 3] = log(1.0 + wanted / scales[1])
    out[row, 4] = block.wave[i]
    out[row, 5] = min(block.returned_shares[i] / max(block.step_shares[i], 1e-300), 1.0) if is_later else 0.0
    out[row, 6] = block.signal[i]
    out[row, 7] = block.last_move_bps[i] * per_bps
    out[row, 8] = block.observed_spread_bps[i] * per_bps
    out[row, 9] = best * per_bps if best < math.inf else 0.0
    linear, per_share = market.fills_all == 1, 1.0 / wanted if wanted > 0.0 else 0.0
    if not linear:
        sweep(block, first, first + n_venues, wanted, fixed, market, offers)
    for k in range(n_venues):
        j, at = first + k, _G + k * _F
        out[row, at] = block.open[j]
        out[row, at + 1] = fixed.dark[j]
        out[row, at + 2] = 1.0 if in_flight and block.child_shares[j] > 0.0 else 0.0
        out[row, at + 3] = (offers.price_bps[j] - lowest) * per_bps
        out[row, at + 4] = block.observed_offset_bps[j] * per_bps
        out[row, at + 5] = block.observed_near_offset_bps[j] * per_bps
        out[row, at + 6] = fixed.take_fee_bps[j] * per_bps
        out[row, at + 7] = logs.size[j]
        out[row, at + 8] = logs.near[j]
        out[row, at + 9] = logs.depth[j]
        out[row, at + 10] = logs.latency[j]
        out[row, at + 11] = block.recent_volume_shares[j] * per_volume
        out[row, at + 12] = logs.outflow[j]
        out[row, at + 13] = block.fill_ratio[j]
        out[row, at + 14] = block.reject[j]
        out[row, at + 15] = fixed.make_fee_bps[j] * per_bps
        out[row, at + 16] = block.rest_total_shares[j] * per_order
        out[row, at + 17] = logs.queue[j]
        cheapest = 1.0 if offers.price_bps[j] == lowest else 0.0
        out[row, at + 18] = cheapest if linear else offers.swept_shares[j] * per_share


@entry_point(nogil=True)
def _observe_batch(state: Any, which: Any, scales: Any, displayed: Any, out: Any) -> None:
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
        make_offers(block, begin, run, fixed, state.market[0], state.recording, displayed, offers[0])
        price_slices(block, begin, run, fixed, state.market[0], offers[0])
        _take_logarithms(block, scales, first, last, offers[0], logs[0])
        for member in range(run):
            row = at + 1 - run + member
            market = state.market[which[row] if drawn else 0]
            _write_row(block, begin + member, fixed, market, scales, offers[0], logs[0], out, row)
        run = 0


def observation_space(market: Any) -> spaces.Box:
    """float32 (10 + 19 K,), unbounded; typical values are of order one. K is the market's or family's `n_venues`."""
    return spaces.Box(-np.inf, np.inf, (_G + market.n_venues * _F,), np.float32)


def scales_of(market: MarketSpec) -> tuple[float, float, float, float, float]:
    """The units of observations: price (bps), shares, latency (ms), and the typical order's quantity and horizon."""
    return (*market.scales, market.order.quantity_shares, float(market.order.horizon_steps))


def write_observations(
    state: State, which: np.ndarray, scales: tuple[float, ...], out: np.ndarray, displayed: Displayed | None = None
) -> None:
    """Write the rows of the orders `which` (int (n,)) of a state into `out`, float32 (n, 10 + 19 K).

    Levels behind the touch are `displayed` (of orders whose fields a desk's events have filled), or the path's.
    """
    _observe_batch(state, which, scales, displayed, out)


class Observer:
    """Writes observations of a simulator's members, in units of `market`, by default the simulator's own."""

    def __init__(self, simulator: BatchSimulator, market: MarketSpec | None = None) -> None:
        self.simulator = simulator
        market = simulator.market if market is None else market
        self._scales = scales_of(market)
        self._everyone = np.arange(simulator.n)
        self.size = _G + simulator.market.n_venues * _F

    def observe(self, which: np.ndarray | None = None) -> np.ndarray:
        """A fresh float32 array (n, 10 + 19 K): rows of the members `which` (all, by default)."""
        which = self._everyone if which is None else which
        out = self.blank(len(which))
        self.simulator.in_parts(lambda part: self._write(which[part], out[part]), len(which))
        return out

    def blank(self, n: int) -> np.ndarray:
        """A fresh float32 array (n, 10 + 19 K), to be written."""
        return np.empty((n, self.size), dtype=np.float32)

    def write_part(self, part: slice, out: np.ndarray) -> None:
        """Write the rows of the members in `part` into those of `out` (N, 10 + 19 K)."""
        self._write(self._everyone[part], out[part])

    def _write(self, which: np.ndarray, out: np.ndarray) -> None:
        write_observations(self.simulator.kernel_state(), which, self._scales, out)


@dataclass(frozen=True)
class ObservationView:
    """Observations read back in their units, for rules: float64 arrays, (n,) per market, (n, K) per venue."""

    time_left: np.ndarray
    remaining: np.ndarray
    in_flight_share: np.ndarray
    slice_shares: np.ndarray
    slice_of_order: np.ndarray  # the same, as a share of the parent order
    even_slices: np.ndarray  # in the parent order: 1 over the share of it that a decision does which keeps the schedule
    schedule_left: np.ndarray  # share of the parent order that the schedule leaves to this decision and those after it
    wave: np.ndarray  # int64, 0 in the first
    returned: np.ndarray
    signal: np.ndarray
    spread_bps: np.ndarray
    open: np.ndarray  # bool
    dark: np.ndarray  # bool
    busy: np.ndarray  # bool: a child of ours is in flight there
    offset_bps: np.ndarray
    near_offset_bps: np.ndarray
    fee_bps: np.ndarray
    slice_excess_bps: np.ndarray  # all-in price of the whole slice at a venue, less the lowest
    size_shares: np.ndarray
    near_size_shares: np.ndarray
    depth_shares: np.ndarray
    latency_ms: np.ndarray
    volume_share: np.ndarray
    outflow_shares: np.ndarray  # recently, a step
    fill_ratio: np.ndarray
    reject: np.ndarray
    make_fee_bps: np.ndarray
    resting_share: np.ndarray
    queue_ahead_shares: np.ndarray
    sweep_share: np.ndarray

    @property
    def usable(self) -> np.ndarray:
        """bool (n, K): venues that trade and have no child of ours in flight."""
        return self.open & ~self.busy

    @property
    def quoted(self) -> np.ndarray:
        """bool (n, K): usable venues that show a price and some size at it."""
        return self.usable & ~self.dark & (self.size_shares > 0.0)

    @property
    def is_later(self) -> np.ndarray:
        """bool (n,): a later wave of a decision, which distributes what came back."""
        return self.wave > 0

    @property
    def pace(self) -> np.ndarray:
        """float64 (n,): what the schedule wants as a share of what is offered; 1 in a later wave, or if none is."""
        quantity = np.where(self.is_later, 0.0, self.remaining - self.in_flight_share)
        return np.clip(np.divide(self.slice_of_order, quantity, out=np.ones_like(quantity), where=quantity > 0), 0, 1)

    @classmethod
    def of(cls, observations: np.ndarray, market: MarketSpec) -> ObservationView:
        """Read observations (n, 10 + 19 K) of `market`; exact to float32 rounding."""
        price, shares, latency = market.scales
        rows = np.asarray(observations, dtype=np.float64)
        per_venue = rows[:, _G:].reshape(len(rows), market.n_venues, _F)
        f = {name: per_venue[:, :, i] for i, name in enumerate(VENUE_FEATURES)}
        m = {name: rows[:, i] for i, name in enumerate(MARKET_FEATURES)}
        horizon = float(market.order.horizon_steps)
        slice_of_order = np.expm1(m["slice"]) / horizon
        even_slices, schedule_left = np.full(len(rows), horizon), m["time_left"]
        if market.draws_order:  # what is left and not wanted now, the schedule does evenly in the decisions to come
            decisions = np.rint(m["time_left"] * horizon)
            later = np.maximum(m["remaining"] - m["in_flight"] - slice_of_order, 0.0)
            even = np.where(decisions > 1.0, later / np.maximum(decisions - 1.0, 1.0), slice_of_order)
            even_slices, schedule_left = 1.0 / np.maximum(even, 1e-9), even * decisions
        return cls(
            even_slices=even_slices,
            schedule_left=schedule_left,
            **{name: m[name] for name in ("time_left", "remaining", "returned", "signal")},
            in_flight_share=m["in_flight"],
            slice_shares=np.expm1(m["slice"]) * shares,
            slice_of_order=slice_of_order,
            wave=np.rint(m["wave"]).astype(np.int64),
            spread_bps=m["spread"] * price,
            open=f["open"] > 0.5,
            dark=f["dark"] > 0.5,
            busy=f["in_flight"] > 0.5,
            offset_bps=f["offset"] * price,
            near_offset_bps=f["near_offset"] * price,
            fee_bps=f["fee"] * price,
            slice_excess_bps=f["slice_excess"] * price,
            size_shares=np.expm1(f["size"]) * shares,
            near_size_shares=np.expm1(f["near_size"]) * shares,
            outflow_shares=np.expm1(f["outflow"]) * shares,
            queue_ahead_shares=np.expm1(f["queue_ahead"]) * shares,
            make_fee_bps=f["make_fee"] * price,
            resting_share=f["resting"],
            depth_shares=np.expm1(f["depth"]) * shares,
            latency_ms=np.expm1(f["latency"]) * latency,
            **{name: f[name] for name in ("volume_share", "fill_ratio", "reject", "sweep_share")},
        )
