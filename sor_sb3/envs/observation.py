"""What a router sees: public data and its own fills, as one float32 row. The layout is the specification.

Nothing hidden goes in: quotes as heard at the decision, never at the arrival of a child.

A row is ``MARKET_FEATURES`` followed by ``VENUE_FEATURES`` of each venue in turn, (7 + 12 K,) in all:

================  ====================================================================================
market feature    meaning
================  ====================================================================================
time_left         share of the horizon that is left, 1 at the first decision
remaining         share of the parent order that is not known to be filled
in_flight         share of it that children carry whose fate has not been heard
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
latency           log(1 + last heard latency / the market's typical one)
volume_share      share of recent traded volume; 0 where none is published
fill_ratio        filled / sent of our recent children there, 1 before the first
reject            1 when a child came back from an outage at this decision, fading; 0 after any other answer
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

from sor_sb3.market.spec import MarketSpec, NotebookMarket, ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import log
from sor_sb3.simulator.execution import displayed_shares
from sor_sb3.simulator.paths import LANES_APART, block_size
from sor_sb3.simulator.records import NOTEBOOK

MARKET_FEATURES = ("time_left", "remaining", "in_flight", "slice", "signal", "last_move", "best_all_in")
VENUE_FEATURES = (
    "open",
    "dark",
    "in_flight",
    "slice_excess",
    "offset",
    "fee",
    "size",
    "latency",
    "volume_share",
    "fill_ratio",
    "reject",
    "marginal_share",
)
_G, _F = len(MARKET_FEATURES), len(VENUE_FEATURES)
_SHARE = _F - 1
FLAT_BPS = 1e-6  # a book that does not walk counts as this steep, so that its offer is a number


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


@njit(inline="always")
def _load_lanes(order: Any, venues: Any, parameters: Any, first: int, lanes: Any) -> None:
    wanted = max(order.slice_shares, 1e-9)
    miss = -math.inf
    for k in range(venues.size):
        venue, fixed, j = venues[k], parameters[k], np.uint64(first + k)
        all_in = venue.observed_offset_bps + fixed.take_fee_bps
        lanes[_WALK + j], lanes[_FEE + j] = fixed.walk_bps, fixed.take_fee_bps
        lanes[_ALL_IN + j], lanes[_SHOWN + j] = all_in, displayed_shares(venue)
        lanes[_LATENCY + j], lanes[_WANTED + j] = venue.observed_latency_ms, wanted
        if venue.open == 1 and fixed.dark == 0:
            miss = max(miss, all_in + fixed.walk_bps)
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


@njit(inline="always")
def _split(wanted: float, first: int, parameters: Any, lanes: Any, row: Any) -> None:
    """Shares of `wanted` that displayed sizes get where the last share costs the same all-in everywhere.

    At the marginal price p venue k offers ``d_k min((p - all_in_k) / (2 walk_k), 1)``; p is found by walking up the
    offers' corners. Where all displays fall short, each gets the whole of its own.
    """
    offered, slope, price, corner = 0.0, 0.0, -math.inf, math.inf
    for k in range(parameters.size):
        j = np.uint64(first + k)
        corner = min(corner, lanes[_ALL_IN + j] if lanes[_SHOWN + j] > 0.0 else math.inf)
    while corner < math.inf:
        if slope > 0.0:
            if offered + slope * (corner - price) >= wanted:
                price += (wanted - offered) / slope
                break
            offered += slope * (corner - price)
        price, slope, corner = corner, 0.0, math.inf
        for k in range(parameters.size):
            j = np.uint64(first + k)
            shown = lanes[_SHOWN + j]
            if shown > 0.0:
                starts, steepness = lanes[_ALL_IN + j], max(2.0 * lanes[_WALK + j], FLAT_BPS)
                ends = starts + steepness
                if starts > price:
                    corner = min(corner, starts)
                elif ends > price:
                    slope += shown / steepness
                    corner = min(corner, ends)
    per_share = 1.0 / wanted if wanted > 0.0 else 0.0
    for k in range(parameters.size):
        j = np.uint64(first + k)
        part = (price - lanes[_ALL_IN + j]) / max(2.0 * lanes[_WALK + j], FLAT_BPS)
        row[_G + k * _F + _SHARE] = lanes[_SHOWN + j] * min(max(part, 0.0), 1.0) * per_share


@njit(inline="always")
def _write_row(
    order: Any, venues: Any, children: Any, parameters: Any, market: Any, scales: Any, first: int, lanes: Any, row: Any
) -> None:
    per_bps = 1.0 / scales[0]
    lowest, best, volume = math.inf, math.inf, 0.0
    for k in range(venues.size):
        j = np.uint64(first + k)
        lowest = min(lowest, lanes[_PRICE + j])
        best = min(best, lanes[_ALL_IN + j] if venues[k].open == 1 and parameters[k].dark == 0 else math.inf)
        volume += venues[k].recent_volume_shares
    per_volume = 1.0 / volume if volume > 0.0 else 0.0
    row[0] = 1.0 - order.step / market.horizon_steps
    row[1] = (order.available_shares + order.in_flight_shares) / market.quantity_shares
    row[2] = order.in_flight_shares / market.quantity_shares
    row[3] = log(1.0 + order.slice_shares / scales[1])
    row[4] = order.signal
    row[5] = order.last_move_bps * per_bps
    row[6] = best * per_bps if best < math.inf else 0.0
    for k in range(venues.size):
        venue, j, at = venues[k], np.uint64(first + k), _G + k * _F
        row[at] = venue.open
        row[at + 1] = parameters[k].dark
        row[at + 2] = 1.0 if order.in_flight > 0 and children[k].shares > 0.0 else 0.0
        row[at + 3] = (lanes[_PRICE + j] - lowest) * per_bps
        row[at + 4] = venue.observed_offset_bps * per_bps
        row[at + 5] = lanes[_FEE + j] * per_bps
        row[at + 6] = lanes[_LOG_SIZE + j]
        row[at + 7] = lanes[_LOG_LATENCY + j]
        row[at + 8] = venue.recent_volume_shares * per_volume
        row[at + 9] = venue.fill_ratio
        row[at + 10] = venue.reject
    if market.model == NOTEBOOK:
        for k in range(venues.size):
            row[_G + k * _F + _SHARE] = 1.0 if lanes[_PRICE + np.uint64(first + k)] == lowest else 0.0
    else:
        _split(order.slice_shares, first, parameters, lanes, row)


@entry_point(nogil=True)
def _observe_batch(
    which: Any, orders: Any, venues: Any, children: Any, parameters: Any, market: Any, scales: Any, out: Any
) -> None:
    n_venues = venues.shape[1]
    block = block_size(n_venues)
    lanes = np.empty(_FLOATS)
    for low in range(0, which.size, block):
        members = which[low : low + block]
        for j in range(members.size):
            i = members[j]
            _load_lanes(orders[i], venues[i], parameters[i % len(parameters)], j * n_venues, lanes)
        _price_lanes(market[0], scales, members.size * n_venues, lanes)
        for j in range(members.size):
            i, first = members[j], j * n_venues
            fixed, its_market, row = parameters[i % len(parameters)], market[i % market.size], out[low + j]
            _write_row(orders[i], venues[i], children[i], fixed, its_market, scales, first, lanes, row)


def observation_scales(market: MarketSpec) -> tuple[float, float, float]:
    """Units of observations, by the specification: price (bps), shares (an even slice), latency (ms).

    Prices are in typical all-in prices, so that they are of order one where fees dominate too.
    """
    shares = market.order.quantity_shares / market.order.horizon_steps
    if isinstance(market, NotebookMarket):
        return sum(market.spread) / 2, shares, sum(market.latency) / 2
    latencies = [venue.latency_ms + getattr(venue, "speed_bump_ms", 0.0) for venue in market.venues]
    latency = float(np.median(latencies)) or 1.0
    if isinstance(market, ReplayMarket):
        return market.price_scale_bps, shares, latency
    all_in = [v.offset_bps + abs(v.take_fee_bps) for v in market.venues if v.offset_bps is not None]
    return float(np.median(all_in)), shares, latency


def observation_space(market: MarketSpec) -> spaces.Box:
    """float32 (7 + 12 K,), unbounded; typical values are of order one."""
    return spaces.Box(-np.inf, np.inf, (_G + market.n_venues * _F,), np.float32)


class Observer:
    """Writes observations of a simulator's members."""

    def __init__(self, simulator: BatchSimulator) -> None:
        self.simulator = simulator
        self._scales = observation_scales(simulator.market)
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
        sim = self.simulator
        fixed = sim.orders, sim.venues, sim.children, sim.parameters.venues, sim.parameters.market, self._scales
        _observe_batch(which, *fixed, out)


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
        price, shares, latency = observation_scales(market)
        rows = np.asarray(observations, dtype=np.float64)
        per_venue = rows[:, _G:].reshape(len(rows), market.n_venues, _F)
        f = {name: per_venue[:, :, i] for i, name in enumerate(VENUE_FEATURES)}
        m = {name: rows[:, i] for i, name in enumerate(MARKET_FEATURES)}
        return cls(
            time_left=m["time_left"],
            remaining=m["remaining"],
            in_flight_share=m["in_flight"],
            slice_shares=np.expm1(m["slice"]) * shares,
            slice_of_order=np.expm1(m["slice"]) / market.order.horizon_steps,
            signal=m["signal"],
            open=f["open"] > 0.5,
            dark=f["dark"] > 0.5,
            busy=f["in_flight"] > 0.5,
            offset_bps=f["offset"] * price,
            fee_bps=f["fee"] * price,
            slice_excess_bps=f["slice_excess"] * price,
            size_shares=np.expm1(f["size"]) * shares,
            latency_ms=np.expm1(f["latency"]) * latency,
            volume_share=f["volume_share"],
            fill_ratio=f["fill_ratio"],
            reject=f["reject"],
            marginal_share=f["marginal_share"],
        )
