"""N parent orders at once: the loop around the kernels, and the arrays that hold their state.

It knows nothing of Gymnasium, SB3, observations or rewards: orders in, costs and fills out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.market.replay_arrays import Recording
from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.simulator.compiled import entry_point, say_what_takes_long
from sor_sb3.simulator.execution import (
    WORK,
    begin_order,
    end_decision,
    end_wave,
    fill_all,
    pass_tick,
    send_children,
)
from sor_sb3.simulator.observing import look
from sor_sb3.simulator.parameters import Parameters
from sor_sb3.simulator.paths import SCRATCH, advance_paths, begin_path
from sor_sb3.simulator.random import episode_keys
from sor_sb3.simulator.state import (
    BLOCK,
    MARKET,
    ORDER_FIELDS,
    REST_FIELDS,
    RESTS,
    SLOT_FIELDS,
    SLOTS,
    VENUE_FIELDS,
    VENUE_PARAMETER_FIELDS,
    State,
    blank,
    block_orders,
    members_of,
    words_of,
)

_NOTHING_RESTS = np.empty((0, 0))
WORTH_A_THREAD = 256  # members that begin anew: fewer are done sooner than a second thread wakes up
LEDGER_PARTS = ("spread", "impact", "timing", "fee", "cleanup")
MEASURES = ("slippage_bps", "fee_bps", "fill_rate", "completion")
FIELD_KINDS = ORDER_FIELDS | VENUE_FIELDS | SLOT_FIELDS | REST_FIELDS | VENUE_PARAMETER_FIELDS


@entry_point(nogil=True)
def _reset_batch(state: Any, which: Any, keys: Any) -> None:
    scratch = np.empty(1, SCRATCH)
    blocks, words, venues, markets = state.blocks, state.words, state.venues, state.market
    drawn, per_block, n_venues = markets.size > 1, markets[0].block_orders, markets[0].n_venues
    begun = 0
    for at in range(which.size):
        b, i = which[at] // per_block, which[at] % per_block
        block, fixed, market = blocks[b], venues[b if drawn else 0], markets[which[at] if drawn else 0]
        blank(words, b, i, n_venues)
        block.order_key[i] = keys[at]
        begin_order(block, i, market)
        begin_path(block, i, fixed, market, state.recording)
        begun += 1
        follows = at + 1 < which.size and which[at + 1] == which[at] + 1 and i + 1 < per_block
        if drawn or not follows:  # the end of a run of neighbours, which move together
            advance_paths(block, i + 1 - begun, begun, fixed, market, state.recording, scratch[0], True)
            if market.fills_all == 0:
                look(block, i + 1 - begun, begun, fixed, market, state.recording, scratch[0])
            begun = 0


@njit
def _pass_time(block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, scratch: Any, work: Any) -> None:
    """Take orders ``i .. i + n - 1`` from the last wave of a decision to the next decision."""
    for tick in range(market.ticks_per_step):
        pass_tick(block, i, n, fixed, market, recording, tick, work)
        advance_paths(block, i, n, fixed, market, recording, scratch, tick + 1 == market.ticks_per_step)
    for order in range(i, i + n):
        end_decision(block, order, fixed, market)


@entry_point(nogil=True)
def _step_batch(
    state: Any, low: int, high: int, weights: Any, pace: Any, rest: Any, cost: Any, noise: Any, done: Any
) -> None:
    blocks, venues, markets, recording = state.blocks, state.venues, state.market, state.recording
    scratch, work, flat = np.empty(1, SCRATCH), np.empty(1, WORK), weights.reshape(-1)
    drawn, per_block = markets.size > 1, markets[0].block_orders
    for b in range(low // per_block, (high + per_block - 1) // per_block):
        block, fixed, at = blocks[b], venues[b if drawn else 0], b * per_block
        begin, end = max(low - at, 0), min(high - at, per_block)
        together = 1 if drawn else end - begin  # orders with the same market
        for i in range(begin, end, together):
            market = markets[at + i if drawn else 0]
            send_children(block, i, together, fixed, market, flat, pace, rest.reshape(-1), at + i, work[0])
            running = 0
            for order in range(i, i + together):
                if market.fills_all == 1:
                    fill_all(block, order, fixed, market)
                stays = market.waves > 1 and end_wave(block, order, fixed, market, recording, work[0])
                running += 0 if stays else 1
                if running > 0 and (stays or order + 1 == i + together):  # neighbours move together
                    first = order + (0 if stays else 1) - running
                    _pass_time(block, first, running, fixed, market, recording, scratch[0], work[0])
                    running = 0
            running = 0
            for order in range(i, i + together):
                member = at + order
                cost[member], noise[member] = block.step_cost[order], block.step_noise_cost[order]
                filled = block.remaining_shares[order] <= 0.0 and market.every_wave == 0
                ended = block.step[order] >= market.horizon_steps or filled
                done[member] = ended and block.wave[order] == 0
                running += 0 if done[member] else 1
                if running > 0 and (done[member] or order + 1 == i + together) and market.fills_all == 0:
                    first = order + (0 if done[member] else 1) - running
                    look(block, first, running, fixed, market, recording, scratch[0])
                    running = 0


@entry_point()
def _sum_up(state: Any, which: Any, out: Any) -> None:
    """Write into `out`, by member: the ledger's parts, noise, fill value, and shares sent, filled and passive."""
    blocks, per_block, n_venues = state.blocks, state.market[0].block_orders, state.market[0].n_venues
    for at in range(which.size):
        block, i = blocks[which[at] // per_block], which[at] % per_block
        out[0, at], out[1, at], out[2, at] = block.spread_cost[i], block.impact_cost[i], block.timing_cost[i]
        out[3, at], out[4, at], out[5, at] = block.fee_cost[i], block.cleanup_cost[i], block.noise_cost[i]
        out[6, at], out[7, at], out[8, at], out[9, at] = block.fill_value_bps_shares[i], 0.0, 0.0, 0.0
        for j in range(i * n_venues, (i + 1) * n_venues):
            out[7, at] += block.episode_sent_shares[j]
            out[8, at] += block.episode_filled_shares[j]
            out[9, at] += block.episode_passive_shares[j]


class BatchSimulator:
    """A market in motion under N independent parent orders.

    Its state is read through :class:`sor_sb3.simulator.views.Observed` and :class:`~sor_sb3.simulator.views.Truth`. A
    batch of 1 and a batch of 4,096 run the same code, and member i depends on its own key alone.

    Args:
        market: the specification.
        n: how many parent orders.
        data_split: "train", "validation" or "test"; their scenarios never meet. A recording is cut in time.
        threads: how many parts of the batch are stepped at once; the results do not depend on it.
        every_wave: whether every decision has all its waves and every order all its decisions, those with nothing
                to send too.
    """

    def __init__(
        self, market: MarketSpec, n: int, data_split: str = "train", threads: int = 1, every_wave: bool = False
    ) -> None:
        if n < 1:
            raise ValueError(f"n is {n}; expected at least one parent order")
        say_what_takes_long()
        self.market, self.n, self.data_split = market, n, data_split
        self.threads = max(1, min(threads, n))
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self.parameters = Parameters(market, n, every_wave)
        self.recording: Recording | None = None
        if isinstance(market, ReplayMarket):
            from sor_sb3.market.recordings import recording_for

            self.recording = recording_for(market, data_split)
        self._block_orders = block_orders(market.n_venues)
        self._blocks = np.zeros(-(-n // self._block_orders), BLOCK)
        self._words = words_of(self._blocks)
        self._cost, self._noise = np.zeros(n), np.zeros(n)
        self._done = np.zeros(n, dtype=np.bool_)
        self._schedule = np.full(n, -1.0)

    def kernel_state(self) -> State:
        """What kernels read and write: see :class:`sor_sb3.simulator.state.State`."""
        fixed = self.parameters
        return State(self._blocks, self._words, fixed.venues, fixed.market, self.recording)

    def read(self, name: str, which: np.ndarray | None = None) -> np.ndarray:
        """A field's values, as a fresh array that cannot be written to: (n,) of orders or the market, (n, K) of venues.

        Fields of remembered prices are (n, K x SLOTS), those of resting orders (n, K x RESTS).

        Args:
            name: of a field, as :mod:`sor_sb3.simulator.state` declares it.
            which: members (int (n,)); all if None.
        """
        k = self.market.n_venues
        if name in (MARKET.names or ()):
            values = self.parameters.market[name]
            values = np.broadcast_to(values, (self.n, *values.shape[1:]))
            values = np.array(values if which is None else values[which])
        elif name in VENUE_PARAMETER_FIELDS and not self.parameters.is_drawn:
            values = np.tile(self.parameters.venues[name][0, :k], (self.n if which is None else len(which), 1))
        else:
            array, wide = self._field(name)
            if which is None:
                values = array[:, : self._block_orders * wide].reshape(-1, wide)[: self.n].copy()
            else:
                block, i = np.divmod(which, self._block_orders)
                values = array[block[:, None], i[:, None] * wide + np.arange(wide)]
            values = values[:, 0] if name in ORDER_FIELDS else values
        if FIELD_KINDS.get(name) == "flag":
            values = values == 1.0
        values.flags.writeable = False
        return values

    def _field(self, name: str) -> tuple[np.ndarray, int]:
        blocks = self.parameters.venues if name in VENUE_PARAMETER_FIELDS else self._blocks
        wide = self.market.n_venues * (SLOTS if name in SLOT_FIELDS else RESTS if name in REST_FIELDS else 1)
        return blocks[name], 1 if name in ORDER_FIELDS else wide

    def overwrite(self, **fields: Any) -> None:
        """Put other values, broadcast to (N,) or (N, K), into fields: to ask what a policy would do, and for tests."""
        block, i = np.divmod(np.arange(self.n), self._block_orders)
        for name, values in fields.items():
            array, wide = self._field(name)
            values = np.broadcast_to(values, (self.n,) if name in ORDER_FIELDS else (self.n, wide))
            if name in VENUE_PARAMETER_FIELDS and not self.parameters.is_drawn:
                array[0, : self._block_orders * wide] = np.tile(values[0], self._block_orders)
            else:
                array[block[:, None], i[:, None] * wide + np.arange(wide)] = values.reshape(self.n, wide)

    def _changing(self) -> dict[str, np.ndarray]:
        """Every array that an episode changes, as it is."""
        return {"blocks": self._blocks, "market": self.parameters.market, "venues": self.parameters.venues}

    def get_state(self) -> dict[str, np.ndarray]:
        """What changes as time goes on, as copies: enough to go on bit for bit in a simulator of the same market."""
        return {name: array.copy() for name, array in self._changing().items()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put back what `get_state` gave."""
        for name, array in self._changing().items():
            array[...] = state[name]

    def reset(self, seeds: np.ndarray, episodes: np.ndarray, which: np.ndarray | None = None) -> None:
        """Begin episode `episodes[j]` (int) of seed `seeds[j]` (uint64) in `which[j]` (all if None)."""
        which = np.arange(self.n) if which is None else np.asarray(which, dtype=np.int64)
        keys = episode_keys(self.data_split, seeds, episodes)
        self.parameters.draw(keys, which)
        state = self.kernel_state()
        self.in_parts(lambda part: _reset_batch(state, which[part], keys[part]), len(which))

    def in_parts(self, work: Callable[[slice], None], n: int | None = None) -> None:
        """Do `work` on n members (all), or on as many parts of them as there are threads, at once."""
        n = self.n if n is None else n
        if self._pool is None or (n < self.n and n < WORTH_A_THREAD):
            work(slice(0, n))
            return
        edges = np.linspace(0, n, self.threads + 1).astype(int).tolist()
        parts = [slice(low, high) for low, high in pairwise(edges)]
        waiting = [self._pool.submit(work, part) for part in parts[1:]]
        work(parts[0])
        for future in waiting:
            future.result()

    def step(
        self,
        weights: np.ndarray,
        pace: np.ndarray | None = None,
        then: Callable[[slice], None] | None = None,
        rest: np.ndarray | None = None,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Execute one decision, or one wave of it, in every member.

        Args:
            weights: float64 (N, K), non-negative, rows summing to 1, or less where the rest is held back.
            pace: float64 (N,) share of the remainder to send now; None sends this step's slice of the schedule.
            rest: float64 (N, K), non-negative, rows summing to 1 (or `order.overbooking.most_ratio`) at most: what
                should rest where, in shares of what is neither filled, nor in flight, nor sent now; None: nothing.
            then: what else to do with each part of the batch, in the thread that stepped it.

        Returns:
            cost (N,) of the step in the market's cost unit; the part of it that is pure noise of the mid
            (N,); and done (N,) bool. The arrays are reused by the next call.
        """
        pace = self._schedule if pace is None else pace
        weights = np.ascontiguousarray(weights, dtype=np.float64)
        rest = _NOTHING_RESTS if rest is None else np.ascontiguousarray(rest, dtype=np.float64)
        state, results = self.kernel_state(), (self._cost, self._noise, self._done)

        def work(part: slice) -> None:
            _step_batch(state, part.start, part.stop, weights, pace, rest, *results)
            if then is not None:
                then(part)

        self.in_parts(work)
        return self._cost, self._noise, self._done

    def branch(self, members: np.ndarray) -> BatchSimulator:
        """A simulator of parent orders in the state of these `members` (int, repeats allowed) of this one.

        What is done there leaves this one as it is: for oracles, and to ask what another action would have cost.
        """
        copy = BatchSimulator.__new__(BatchSimulator)
        copy.__dict__.update(self.__dict__)
        copy.n, copy.threads, copy._pool = len(members), 1, None
        copy._blocks = members_of(self._blocks, members, self.market.n_venues)
        copy._words = words_of(copy._blocks)
        copy.parameters = self.parameters.of(members)
        copy._cost, copy._noise, copy._done = np.zeros(copy.n), np.zeros(copy.n), np.zeros(copy.n, dtype=np.bool_)
        copy._schedule = np.full(copy.n, -1.0)
        return copy

    def _sums(self, which: np.ndarray | None) -> np.ndarray:
        which = np.arange(self.n) if which is None else np.asarray(which, dtype=np.int64)
        out = np.empty((10, len(which)))
        _sum_up(self.kernel_state(), which, out)
        return out

    def reduced_cost(self, which: np.ndarray | None = None) -> np.ndarray:
        """The shortfall so far without what variance reduction leaves out, float64 (n,): the same in expectation."""
        sums = self._sums(which)
        reduced: np.ndarray = np.sum(sums[:5], axis=0) - sums[5]
        return reduced

    def ledger(self, which: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Parts of the cost so far, float64 (n,) each, and "shortfall", their sum; in cost units."""
        return self._ledger(self._sums(which))

    def measures(self, which: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """Measures of finished episodes, float64 (n,) each; NaN where all children fill, so that none has a meaning.

        slippage_bps: average fill price against the arrival mid, fees apart, of shares filled. fee_bps: fees on the
        whole order. fill_rate: filled / sent, over marketable child orders. completion: share of the order that was
        filled before the clean-up; above 1 where overbooked orders were filled beyond it.
        """
        return self._measures(self._sums(which), which)

    def results(self, which: np.ndarray) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """`ledger` and `measures` at once."""
        sums = self._sums(which)
        return self._ledger(sums), self._measures(sums, which)

    def _ledger(self, sums: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(LEDGER_PARTS, sums[:5], strict=True)) | {"shortfall": np.sum(sums[:5], axis=0)}

    def _measures(self, sums: np.ndarray, which: np.ndarray | None) -> dict[str, np.ndarray]:
        _, _, _, fee, _, _, value, sent, filled, passive = sums
        if self.parameters.market["fills_all"][0] == 1:
            return dict.fromkeys(MEASURES, np.full(len(sent), np.nan))
        with np.errstate(invalid="ignore", divide="ignore"):
            quantity = self.read("quantity_shares", which)
            values = value / (filled + passive), fee, filled / sent, (filled + passive) / quantity
        return dict(zip(MEASURES, values, strict=True))
