"""True quotes of scenarios on a grid of times, nobody trading: of a synthetic market, or of a recording.

What routers observe is late; here is what was in force. No statistic is computed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sor_sb3.errors import UserError
from sor_sb3.market.quotes import QuoteRecording
from sor_sb3.market.replay_arrays import last_rows
from sor_sb3.market.spec import MarketSpec, SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.paths import touch_at
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


@entry_point(nogil=True)
def _look_up(state: Any, elapsed_ms: Any, ask: Any, bid: Any, shares: Any) -> None:
    """Quotes in force `elapsed_ms` (n,) into the tick of each order, (n, K); NaN where none is."""
    blocks, venues, markets, recording = state.blocks, state.venues, state.market, state.recording
    drawn, per_block, n_venues = markets.size > 1, markets[0].block_orders, markets[0].n_venues
    for member in range(elapsed_ms.size):
        b, i = member // per_block, member % per_block
        block, fixed, market = blocks[b], venues[b if drawn else 0], markets[member if drawn else 0]
        for j in lanes(i, market):
            k = j - i * n_venues
            ask[member, k], bid[member, k], shares[member, k] = np.nan, np.nan, 0.0
            if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
                far_bps, near_bps, size, _ = touch_at(block, i, j, market, recording, elapsed_ms[member])
                if size > 0.0:
                    ask[member, k], bid[member, k], shares[member, k] = far_bps, near_bps, size


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


def quiet_market(market: SyntheticMarket, duration_s: float, grid_s: float) -> SyntheticMarket:
    """The same market with a decision every `grid_s` (or the next whole number of path ticks), so long, in one wave."""
    step_s = max(round(grid_s / market.path_dt_s), 1) * market.path_dt_s
    horizon = max(int(duration_s / step_s), 1)
    order = market.order.model_copy(update={"step_s": step_s, "horizon_steps": horizon, "waves": 1})
    ranges = {path: ends for path, ends in market.randomise.items() if not path.startswith("order.")}
    return market.model_copy(update={"order": order, "randomise": ranges})


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
        raise UserError(f"market '{market.name}' is a {market.model} market; expected a synthetic one: only it has paths")
    quiet = quiet_market(market, duration_s, grid_s)
    simulator = BatchSimulator(quiet, scenarios, data_split)
    words = np.array([seed_word(seed + j) for j in range(scenarios)], dtype=np.uint64)
    simulator.reset(words, np.zeros(scenarios, dtype=np.int64))
    lit = np.array([venue.dark is None for venue in quiet.venues])
    steps, tick_ms = quiet.order.horizon_steps, 1e3 * quiet.path_dt_s
    shape = (scenarios, steps, int(lit.sum()))
    ask, bid, shares = np.empty(shape), np.empty(shape), np.empty(shape)
    locked, crossed = np.zeros(shape[:2], dtype=bool), np.zeros(shape[:2], dtype=bool)
    nothing, still = np.zeros((scenarios, quiet.n_venues)), np.zeros(scenarios)
    for t in range(steps):
        for into, values in zip((ask, bid, shares), quotes_at(simulator, still), strict=True):
            into[:, t] = values[:, lit]
        phase = np.modf(GOLDEN * (t + 1 + steps * np.arange(scenarios)))[0]
        now = quotes_at(simulator, tick_ms * phase)
        locked[:, t], crossed[:, t] = _locked_and_crossed(now[0][:, lit], now[1][:, lit])
        simulator.step(nothing, still)
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
