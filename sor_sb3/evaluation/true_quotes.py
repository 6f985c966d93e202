"""True quotes of scenarios on a grid of times, nobody trading: of a synthetic market, or of a recording.

What routers observe is late; here is what was in force. No statistic is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.errors import UserError
from sor_sb3.market.quotes import QuoteRecording
from sor_sb3.market.replay_arrays import last_rows
from sor_sb3.market.spec import MarketSpec, SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.book import LADDER, ladder_at, now_s, taken_at
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.paths import SCRATCH, advance_paths, midpoint_at, touch_at
from sor_sb3.simulator.random import seed_word
from sor_sb3.simulator.state import lanes

GOLDEN = 0.5 * (5.0**0.5 - 1.0)  # its multiples spread evenly over [0, 1)


@dataclass(frozen=True)
class QuotePaths:
    """True quotes of n scenarios at T times, `grid_s` apart, of the K venues that quote.

    Attributes:
        ask_bps: float64 (n, T, K), of any origin that a scenario keeps; NaN where a venue does not quote. `bid_bps` and
            the displayed `ask_shares` too.
        locked: bool (n, T), whether the best bid equals the best ask, at a time that lies anywhere in the grid's cell;
            `crossed` whether it is higher.
    """

    grid_s: float
    venue_names: tuple[str, ...]
    ask_bps: np.ndarray
    bid_bps: np.ndarray
    ask_shares: np.ndarray
    locked: np.ndarray
    crossed: np.ndarray

    @property
    def n(self) -> int:
        """How many scenarios."""
        return len(self.ask_bps)


@njit
def _quote(
    block: Any, i: int, j: int, fixed: Any, market: Any, recording: Any, ms: float
) -> tuple[float, float, float]:
    """Far and near touch of lane `j` and its displayed size; NaN and 0 where it does not quote."""
    if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
        far_bps, near_bps, size, _ = touch_at(block, i, j, market, recording, ms)
        if size > 0.0:
            return far_bps, near_bps, size
    return np.nan, np.nan, 0.0


@entry_point(nogil=True)
def _look_up(state: Any, elapsed_ms: Any, ask: Any, bid: Any, shares: Any) -> None:
    """Quotes in force `elapsed_ms` (n,) into the tick of each order, (n, K); NaN where none is."""
    blocks, venues, markets, recording = state.blocks, state.venues, state.market, state.recording
    drawn, per_block, n_venues = markets.size > 1, markets[0].block_orders, markets[0].n_venues
    for member in range(elapsed_ms.size):
        b, i = member // per_block, member % per_block
        block, fixed, market = blocks[b], venues[b if drawn else 0], markets[member if drawn else 0]
        for j in lanes(i, market):
            k, ms = j - i * n_venues, elapsed_ms[member]
            ask[member, k], bid[member, k], shares[member, k] = _quote(block, i, j, fixed, market, recording, ms)


@entry_point(nogil=True)
def _watch(state: Any, phase_ms: Any, seen: Any, between: Any) -> None:
    """Let the market of orders just reset move on while nobody trades, and note what is quoted.

    At the begin of every step (3, n, T, K): asks, bids, sizes; and `phase_ms` (n, T) later (2, n, T, K): asks, bids.
    """
    blocks, venues, markets, recording = state.blocks, state.venues, state.market, state.recording
    drawn, per_block, n_venues = markets.size > 1, markets[0].block_orders, markets[0].n_venues
    scratch, n = np.empty(1, SCRATCH), phase_ms.shape[0]
    for b in range((n + per_block - 1) // per_block):
        block, fixed, at = blocks[b], venues[b if drawn else 0], b * per_block
        together = 1 if drawn else min(n - at, per_block)  # orders with the same market
        for first in range(0, min(n - at, per_block), together):
            market = markets[at + first if drawn else 0]
            for t in range(phase_ms.shape[1]):
                for i in range(first, first + together):
                    of = at + i
                    for j in lanes(i, market):
                        k = j - i * n_venues
                        ask, bid, shares = _quote(block, i, j, fixed, market, recording, 0.0)
                        seen[0, of, t, k], seen[1, of, t, k], seen[2, of, t, k] = ask, bid, shares
                        ask, bid, shares = _quote(block, i, j, fixed, market, recording, phase_ms[of, t])
                        between[0, of, t, k], between[1, of, t, k] = ask, bid
                for _ in range(market.ticks_per_step):
                    for i in range(first, first + together):
                        block.tick[i] += 1
                    advance_paths(block, first, together, fixed, market, recording, scratch[0], False)


def quotes_at(simulator: BatchSimulator, elapsed_ms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Asks, bids (bps from the midpoint at arrival, our own push apart) and displayed shares, float64 (n, K) each.

    Args:
        simulator: at a decision.
        elapsed_ms: float64 (n,), since the decision, less than a tick of the path.
    """
    shape = (simulator.n, simulator.market.n_venues)
    ask, bid, shares = np.empty(shape), np.empty(shape), np.empty(shape)
    _look_up(simulator.kernel_state(), np.ascontiguousarray(elapsed_ms, dtype=np.float64), ask, bid, shares)
    return ask, bid, shares


@entry_point(nogil=True)
def _look_around(
    state: Any, arrives_ms: Any, of_order: Any, of_venue: Any, elsewhere: Any, rival_shares: Any, books: Any
) -> None:
    """What is true as orders stand at an env step; see `BooksNow`."""
    blocks, venues, markets, recording = state.blocks, state.venues, state.market, state.recording
    drawn, per_block, n_venues = markets.size > 1, markets[0].block_orders, markets[0].n_venues
    ladder = np.empty(1, LADDER)[0]
    for member in range(arrives_ms.shape[0]):
        b, i = member // per_block, member % per_block
        block, fixed, market = blocks[b], venues[b if drawn else 0], markets[member if drawn else 0]
        now_ms, best_ask, best_bid = block.elapsed_ms[i], np.inf, -np.inf
        for j in lanes(i, market):
            k = j - i * n_venues
            of_venue[0, member, k], of_venue[1, member, k] = np.nan, 0.0
            if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
                far_bps, near_bps, shares, _ = touch_at(block, i, j, market, recording, now_ms)
                if shares > 0.0:
                    key = np.floor((far_bps - block.grid_bps[i]) / market.tick_bps + 0.5)
                    taken = taken_at(block, j, fixed, market, key, now_s(block, i, market, now_ms))
                    of_venue[0, member, k], of_venue[1, member, k] = far_bps, max(shares - taken, 0.0)
                    best_ask, best_bid = min(best_ask, far_bps), max(best_bid, near_bps)
            arrives = arrives_ms[member, k] >= 0.0 and block.open[j] == 1.0
            if arrives:
                ladder_at(block, i, j, fixed, market, recording, arrives_ms[member, k], np.inf, books[member, k])
            for other in range(n_venues):
                lane = i * n_venues + other
                elsewhere[member, k, other], rival_shares[member, k, other] = np.inf, 0.0
                if lane != j and arrives and fixed.dark[lane] == 0.0 and block.open[lane] == 1.0:
                    ladder_at(block, i, lane, fixed, market, recording, arrives_ms[member, k], np.inf, ladder)
                    for level in range(ladder.n_levels):
                        if ladder.shares[level] > 0.0:
                            elsewhere[member, k, other] = ladder.price_bps[level]
                            rival_shares[member, k, other] = ladder.shares[level]
                            break
        of_order[0, member] = midpoint_at(block, i, fixed, market, recording, now_ms)[0]
        of_order[1, member] = best_bid if best_bid > -np.inf else np.nan
        of_order[2, member] = best_ask if best_ask < np.inf else np.nan


@dataclass(frozen=True)
class BooksNow:
    """What is true as orders stand at an env step, prices in bps from the midpoint at arrival, our own push apart.

    Attributes:
        mid_bps: float64 (n,), consolidated midpoint; `bid_bps` and `ask_bps` the best quotes, NaN where nobody quotes.
        touch_bps: float64 (n, K), far touch; NaN where a venue does not quote. `shown_shares` displayed there, less
            what we took.
        elsewhere_bps: float64 (n, K, K), at [i, k, l] the best displayed price of l when a child of k arrives;
            infinite where there is none.
        rival_shares: float64 (n, K, K), displayed there.
        books: LADDER (n, K), what a child finds on arrival, fade apart; empty where the venue is closed.
    """

    mid_bps: np.ndarray
    bid_bps: np.ndarray
    ask_bps: np.ndarray
    touch_bps: np.ndarray
    shown_shares: np.ndarray
    elsewhere_bps: np.ndarray
    rival_shares: np.ndarray
    books: np.ndarray


def books_now(simulator: BatchSimulator, arrives_ms: np.ndarray) -> BooksNow:
    """The books at an env step; `arrives_ms` (n, K) after the decision, negative: no child arrives there."""
    n, k = simulator.n, simulator.market.n_venues
    of_order, of_venue = np.empty((3, n)), np.empty((2, n, k))
    elsewhere, rival = np.empty((n, k, k)), np.empty((n, k, k))
    arrives = np.ascontiguousarray(arrives_ms, dtype=np.float64)
    books = np.zeros((n, k), LADDER)
    _look_around(simulator.kernel_state(), arrives, of_order, of_venue, elsewhere, rival, books)
    (mid, bid, ask), (touch, shown) = of_order, of_venue
    return BooksNow(mid, bid, ask, touch, shown, elsewhere, rival, books)


@entry_point(nogil=True)
def _midpoints(state: Any, elapsed_ms: float, out: Any) -> None:
    markets, recording = state.market, state.recording
    drawn, per_block = markets.size > 1, markets[0].block_orders
    for member in range(out.size):
        b, i = member // per_block, member % per_block
        block, fixed, market = state.blocks[b], state.venues[b if drawn else 0], markets[member if drawn else 0]
        out[member] = midpoint_at(block, i, fixed, market, recording, elapsed_ms)[0]


@dataclass(frozen=True)
class TruePath:
    """What the market does in the lives of n orders, whatever they do, on a grid of M times from arrival on.

    Attributes:
        mid_bps: float64 (n, M), consolidated midpoint, from that at arrival, our own push apart.
        ask_bps: float64 (n, M, K), far touches; NaN where a venue does not quote.
    """

    grid_s: float
    mid_bps: np.ndarray
    ask_bps: np.ndarray


def true_path(simulator: BatchSimulator, spacing_s: float, beyond_s: float = 0.0) -> TruePath:
    """The path that the orders of a simulator, just reset, are going to meet, at most `spacing_s` apart.

    It ends `beyond_s` after the deadline (a recording's at the deadline: what follows may be another part's).
    """
    shadow = simulator.branch(np.arange(simulator.n))
    market, order = simulator.market, simulator.market.order
    shadow.parameters.market = shadow.parameters.market.copy()
    tick_s = float(shadow.parameters.market["path_dt_s"][0])
    ticks = round(order.step_s / tick_s) * int(simulator.read("horizon_steps").max())
    ticks += int(np.ceil(beyond_s / tick_s)) if isinstance(market, SyntheticMarket) else 0
    for name, value in (("ticks_per_step", 1), ("step_s", tick_s), ("waves", 1), ("horizon_steps", ticks + 1)):
        shadow.parameters.market[name] = value
    looks = max(int(np.ceil(tick_s / spacing_s - 1e-9)), 1)
    nothing, still = np.zeros((simulator.n, market.n_venues)), np.zeros(simulator.n)
    mids, asks = [], []
    for tick in range(ticks + 1):
        for look in range(looks if tick < ticks else 1):
            at_ms, mid = 1e3 * tick_s * look / looks, np.empty(simulator.n)
            _midpoints(shadow.kernel_state(), at_ms, mid)
            mids.append(mid)
            asks.append(quotes_at(shadow, still + at_ms)[0])
        shadow.step(nothing, still)
    return TruePath(tick_s / looks, np.stack(mids, axis=1), np.stack(asks, axis=1))


def quiet_market(market: SyntheticMarket, duration_s: float, grid_s: float) -> SyntheticMarket:
    """The same market with a decision every `grid_s` (or the next whole number of path ticks), so long, in one wave."""
    step_s = max(round(grid_s / market.path_dt_s), 1) * market.path_dt_s
    horizon = max(int(duration_s / step_s), 1)
    return market.with_order(step_s=step_s, horizon_steps=horizon, waves=1)


def simulated_quotes(
    market: MarketSpec,
    scenarios: int,
    seed: int = 10_000,
    duration_s: float = 7200.0,
    grid_s: float = 1.0,
    data_split: str = "test",
) -> QuotePaths:
    """Quotes of a synthetic market while nobody trades.

    Scenario j has the seed ``seed + j``; its first seconds are those that an order of that seed meets, whatever the
    order's step and horizon.

    Raises:
        UserError: the market is not synthetic.
    """
    if not isinstance(market, SyntheticMarket):
        raise UserError(
            f"market '{market.name}' is a {market.model} market; expected a synthetic one: only it has paths"
        )
    quiet = quiet_market(market, duration_s, grid_s)
    simulator = BatchSimulator(quiet, scenarios, data_split)
    words = np.array([seed_word(seed + j) for j in range(scenarios)], dtype=np.uint64)
    simulator.reset(words, np.zeros(scenarios, dtype=np.int64))
    lit = np.array([venue.dark is None for venue in quiet.venues])
    steps, k = quiet.order.horizon_steps, quiet.n_venues
    phases = np.modf(GOLDEN * (np.arange(1, steps + 1) + steps * np.arange(scenarios)[:, None]))[0]
    seen, between = np.empty((3, scenarios, steps, k)), np.empty((2, scenarios, steps, k))
    _watch(simulator.kernel_state(), 1e3 * quiet.path_dt_s * phases, seen, between)
    ask, bid, shares = seen[..., lit]
    locked, crossed = _locked_and_crossed(*between[..., lit])
    names = tuple(name for name, of in zip(quiet.venue_names, lit, strict=True) if of)
    return QuotePaths(quiet.order.step_s, names, ask, bid, shares, locked, crossed)


def recorded_quotes(
    recording: QuoteRecording, venues: Sequence[str] | None = None, block_s: float = 3600.0, grid_s: float = 1.0
) -> QuotePaths:
    """Quotes of a recording on a grid; its scenarios are blocks of `block_s`, what is left of a segment is dropped.

    Prices are 1e4 times logarithms, so that differences are bps.

    Raises:
        UserError: no segment is so long, or a venue is not in the recording.
    """
    steps = int(block_s / grid_s)
    starts = [s + b * block_s for s, e in recording.segments for b in range(int((e - s) / block_s))]
    if not starts:
        longest = float(np.diff(recording.segments, axis=1).max())
        raise UserError(f"the longest segment has {longest:g} s; expected a block of {block_s:g} s: give a shorter one")
    wanted = list(recording.venues if venues is None else venues)
    unknown = [name for name in wanted if name not in recording.venues]
    if unknown:
        raise UserError(f"venue '{unknown[0]}' is not in the recording; it has {', '.join(recording.venues)}")
    times = (np.array(starts)[:, None] + grid_s * np.arange(steps)).ravel()
    shape = (len(starts), steps, len(wanted))
    ask, bid, shares = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape)
    for k, (row, has) in enumerate(last_rows(recording.time_s, recording.first, times)):
        if recording.venues[k] in wanted:
            at = wanted.index(recording.venues[k])
            of = np.where(has, row, 0)
            for into, values in ((ask, recording.ask_px), (bid, recording.bid_px)):
                into[..., at] = np.where(has, 1e4 * np.log(values[of]), np.nan).reshape(shape[:2])
            shares[..., at] = np.where(has, recording.ask_size[of], 0.0).reshape(shape[:2])
    locked, crossed = _locked_and_crossed(ask, bid)
    return QuotePaths(grid_s, tuple(wanted), ask, bid, shares, locked, crossed)


def _locked_and_crossed(ask: np.ndarray, bid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gap = np.fmin.reduce(ask, axis=-1) - np.fmax.reduce(bid, axis=-1)
    return np.abs(gap) <= 1e-6, gap < -1e-6
