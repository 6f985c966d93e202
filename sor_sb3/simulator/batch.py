"""N parent orders at once: the loop around the kernels, and the arrays that hold their state.

It knows nothing of Gymnasium, SB3, observations or rewards: orders in, costs and fills out.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.simulator.compiled import entry_point, say_what_takes_long
from sor_sb3.simulator.execution import look_up_arrivals, scheduled_slice, send_children, settle
from sor_sb3.simulator.parameters import Parameters
from sor_sb3.simulator.paths import (
    LANE_FLOATS,
    LANES,
    Recording,
    advance_paths,
    begin_path,
    block_size,
    tile_parameters,
)
from sor_sb3.simulator.random import episode_keys
from sor_sb3.simulator.records import CHILD, ORDER, RECORDING, VENUE

WORTH_A_THREAD = 256  # members that begin anew: fewer are done sooner than a second thread wakes up
LEDGER_PARTS = ("spread", "impact", "timing", "fee", "cleanup")


@entry_point(nogil=True)
def _reset_batch(
    which: Any, keys: Any, orders: Any, venues: Any, children: Any, parameters: Any, market: Any, recording: Any
) -> None:
    n_venues = venues.shape[1]
    block = block_size(n_venues)
    streams, lanes = np.empty(LANES, np.uint64), np.empty(LANE_FLOATS)
    blank_order, blank_venue, blank_child = np.zeros_like(orders[:1]), np.zeros_like(venues[0, :1]), np.zeros(1, CHILD)
    tile_parameters(lanes, parameters[0], 0, min(block, which.size) * n_venues)
    for low in range(0, which.size, block):
        members = which[low : low + block]
        for j in range(members.size):
            i = members[j]
            fixed, its_market = parameters[i % len(parameters)], market[i % market.size]
            orders[i] = blank_order[0]
            orders[i].key = keys[low + j]
            orders[i].remaining_shares = its_market.quantity_shares
            orders[i].available_shares = its_market.quantity_shares
            for k in range(n_venues):
                venues[i, k] = blank_venue[0]
                venues[i, k].fill_ratio = 1.0
                children[i, k] = blank_child[0]
            begin_path(orders[i], venues[i], fixed, its_market, recording)
            orders[i].slice_shares = scheduled_slice(orders[i], its_market)
        advance_paths(members, orders, venues, parameters, market, recording, streams, lanes)


@entry_point(nogil=True)
def _step_batch(
    weights: Any,
    pace: Any,
    orders: Any,
    venues: Any,
    children: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    cost: Any,
    noise: Any,
    done: Any,
) -> None:
    n_venues = venues.shape[1]
    block = block_size(n_venues)
    streams, lanes = np.empty(LANES, np.uint64), np.empty(LANE_FLOATS)
    running, scratch = np.empty(block, np.int64), np.empty(n_venues)
    tile_parameters(lanes, parameters[0], 0, min(block, orders.size) * n_venues)
    for low in range(0, orders.size, block):
        n_running = 0
        for i in range(low, min(low + block, orders.size)):
            order, fixed, its_market = orders[i], parameters[i % len(parameters)], market[i % market.size]
            send_children(order, venues[i], children[i], fixed, its_market, weights[i], pace[i], scratch)
            if order.in_flight > 0 or its_market.synchronise == 1:
                look_up_arrivals(order, venues[i], children[i], fixed, its_market, recording)
            settle(order, venues[i], children[i], fixed, its_market)
            order.slice_shares = scheduled_slice(order, its_market)
            cost[i] = order.step_cost
            noise[i] = order.step_noise_cost
            done[i] = order.step >= its_market.horizon_steps or order.remaining_shares <= 0.0
            if not done[i]:
                running[n_running] = i
                n_running += 1
        advance_paths(running[:n_running], orders, venues, parameters, market, recording, streams, lanes)


def no_recording() -> Recording:
    """The empty recording that markets which are not replayed carry."""
    empty = np.zeros(0)
    return Recording(*(empty,) * 9, rows=np.zeros(0, RECORDING), window_low_s=empty, window_cumulative_s=empty)


class BatchSimulator:
    """A market in motion under N independent parent orders.

    The state is public and read-only by convention: `orders` is an ORDER record array (N,), `venues` a VENUE
    record array (N, K), `children` a CHILD record array (N, K) of what is in flight (see
    :mod:`sor_sb3.simulator.records`). A batch of 1 and a batch of 4,096 run the same code, and member i depends on its
    own key alone.

    Args:
        market: the specification.
        n: how many parent orders.
        data_split: "train", "validation" or "test"; their market days never meet. A recording is cut in time.
        threads: how many parts of the batch are stepped at once; the results do not depend on it.
    """

    def __init__(self, market: MarketSpec, n: int, data_split: str = "train", threads: int = 1) -> None:
        if n < 1:
            raise ValueError(f"n is {n}; expected at least one parent order")
        say_what_takes_long()
        self.market, self.n, self.data_split = market, n, data_split
        self.threads = max(1, min(threads, n))
        self._pool = ThreadPoolExecutor(self.threads - 1) if self.threads > 1 else None
        self.parameters = Parameters(market, n)
        self.recording = no_recording()
        if isinstance(market, ReplayMarket):
            from sor_sb3.market.recordings import recording_for

            self.recording = recording_for(market, data_split)
        self.orders = np.zeros(n, ORDER)
        self.venues = np.zeros((n, market.n_venues), VENUE)
        self.children = np.zeros((n, market.n_venues), CHILD)
        self._cost, self._noise = np.zeros(n), np.zeros(n)
        self._done = np.zeros(n, dtype=np.bool_)
        self._schedule = np.full(n, -1.0)

    def _changing(self) -> dict[str, np.ndarray]:
        """Every array that an episode changes, as it is."""
        return {
            "orders": self.orders,
            "venues": self.venues,
            "children": self.children,
            "market": self.parameters.market,
            "parameters": self.parameters.venues,
        }

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
        state = self.orders, self.venues, self.children, *self._fixed()
        self.in_parts(lambda part: _reset_batch(which[part], keys[part], *state), len(which))

    def _fixed(self, part: slice = slice(None)) -> tuple[np.ndarray, np.ndarray, Recording]:
        fixed = self.parameters
        part = part if fixed.is_drawn else slice(None)
        return fixed.venues[part], fixed.market[part], self.recording

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
        self, weights: np.ndarray, pace: np.ndarray | None = None, then: Callable[[slice], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Execute one decision in every member.

        Args:
            weights: float64 (N, K), non-negative, rows summing to 1.
            pace: float64 (N,) share of the remainder to send now; None sends this step's slice of the schedule.
            then: what else to do with each part of the batch, in the thread that stepped it.

        Returns:
            cost (N,) of the step in the market's cost unit; the part of it that is pure noise of the mid
            (N,); and done (N,) bool. The arrays are reused by the next call.
        """
        pace = self._schedule if pace is None else pace
        state = self.orders, self.venues, self.children
        results = self._cost, self._noise, self._done

        def work(part: slice) -> None:
            changing, cost = (a[part] for a in state), (a[part] for a in results)
            _step_batch(weights[part], pace[part], *changing, *self._fixed(part), *cost)
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
        copy.orders, copy.venues, copy.children = self.orders[members], self.venues[members], self.children[members]
        copy.parameters = self.parameters.of(members)
        copy._cost, copy._noise, copy._done = np.zeros(copy.n), np.zeros(copy.n), np.zeros(copy.n, dtype=np.bool_)
        copy._schedule = np.full(copy.n, -1.0)
        return copy

    def reduced_cost(self, which: Any = slice(None)) -> np.ndarray:
        """The shortfall so far without what variance reduction leaves out, float64 (n,): the same in expectation."""
        reduced: np.ndarray = self.ledger(which)["shortfall"] - self.orders["noise_cost"][which]
        return reduced

    def ledger(self, which: Any = slice(None)) -> dict[str, np.ndarray]:
        """Parts of the cost so far, float64 (n,) each, and "shortfall", their sum; in cost units."""
        parts = {part: self.orders[f"{part}_cost"][which].copy() for part in LEDGER_PARTS}
        parts["shortfall"] = np.sum(list(parts.values()), axis=0)
        return parts
