"""The oracle of one step: a router that reads true sizes and prices at arrival. A bound, not a strategy."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.envs.core import RoutingCore
from sor_sb3.policies.protocol import Oracle
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.execution import (
    best_observed_bps,
    faded,
    fill_of,
    held_back_ms,
    held_shares,
    limit_of,
    takes_orders,
    untaken_quotes,
    worst_offer_of_step_bps,
)
from sor_sb3.simulator.paths import arrival_state
from sor_sb3.simulator.state import lanes

LOTS = 32  # equal lots that the oracle splits a step's shares into, where the market does not say
NEVER = 1e15  # of a cost that must not be paid


@njit
def _expected_ms(fixed: Any, j: int) -> float:
    return fixed.median_latency_ms[j] + fixed.speed_bump_ms[j]


@njit
def _arrival_ms(block: Any, fixed: Any, market: Any, j: int, latest: int) -> float:
    """When a child sent now reaches lane `j`, if that to lane `latest` is the slowest; -1: it waits for none."""
    held_ms = held_back_ms(fixed, j, market, _expected_ms(fixed, latest)) if latest >= 0 else 0.0
    return block.latency_ms[j] + held_ms


@njit
def _reached(block: Any, market: Any, j: int, arrives_ms: float) -> bool:
    """Whether a child sent now is filled, if at all, before the next decision."""
    return takes_orders(block, j) and block.child_shares[j] <= 0.0 and arrives_ms < 1e3 * market.step_s


@njit
def _lot_costs(
    order: Any, j: int, first: int, latest: int, lot: float, ceiling: float, limit_bps: float, out: Any
) -> None:
    """Cost (bps x shares) of 0, 1, 2, ... lots in lane `j`, if `first` is the first lane reached; -1: none is."""
    # A share that comes back costs `ceiling`. A venue that would be reached before `first` takes no lot, `first` some.
    block, i, fixed, market, recording = order
    arrives_ms = _arrival_ms(block, fixed, market, j, latest)
    working = _reached(block, market, j, arrives_ms)
    first_ms = _arrival_ms(block, fixed, market, first, latest) if first >= 0 else math.inf
    move_bps, held = 0.0, 0.0
    if working and arrives_ms >= first_ms:
        move_bps, shown, hidden = arrival_state(block, i, j, market, recording, arrives_ms)
        held = held_shares(block, j, shown, hidden, faded(fixed, j, market, arrives_ms - first_ms))
    for x in range(out.size):
        out[x] = ceiling * x * lot
        if x > 0 and working:
            if arrives_ms < first_ms:
                out[x] = NEVER
                continue
            filled = fill_of(fixed, j, x * lot, held, block.offset_bps[j] + move_bps, limit_bps)
            if filled > 0.0:
                price_bps = block.offset_bps[j] + move_bps + fixed.walk_bps[j] * filled / held + fixed.take_fee_bps[j]
                out[x] += filled * (price_bps - ceiling)
    if j == first or (market.synchronise == 1 and j == latest):
        out[0] = NEVER


@njit
def _place(costs: Any, best: Any, choice: Any) -> None:
    """Cheapest way to place 0, 1, 2, ... lots: ``best[k + 1, m] = min_x best[k, m - x] + costs[k, x]``."""
    n_venues, size = costs.shape
    best[0, 0] = 0.0
    best[0, 1:] = NEVER
    for k in range(n_venues):
        for m in range(size):
            lowest, at = np.inf, 0
            for x in range(m + 1):
                cost = best[k, m - x] + costs[k, x]
                if cost < lowest:
                    lowest, at = cost, x
            best[k + 1, m], choice[k, m] = lowest, at


@njit
def _route(order: Any, wanted: float, lots: int, may_wait: bool, continuation: float, out: Any) -> tuple[float, int]:
    """Fill `out` (K,) with the cheapest whole lots of `wanted`; returns their cost and how many lots are sent.

    Fade depends on nothing but the first arrival, so every venue is tried as the first to be reached (and, where
    arrivals are synchronised, every venue as the slowest); for each, the lots are placed by dynamic programming.
    """
    block, i, fixed, market, _ = order
    n_venues, begin = market.n_venues, i * market.n_venues
    lot, ceiling = wanted / lots, _ceiling(block, i, fixed, market, continuation)
    costs, best = np.empty((n_venues, lots + 1)), np.empty((n_venues + 1, lots + 1))
    choice = np.empty((n_venues, lots + 1), np.int64)
    observed_bps, untaken = best_observed_bps(block, i, fixed, market), untaken_quotes(block, i, fixed, market, False)
    lowest, sent = np.inf, 0
    for latest in range(begin - 1, begin + n_venues if market.synchronise == 1 else begin):
        latest = latest if latest >= begin else -1
        if latest >= 0 and block.child_shares[latest] > 0.0:  # a child that will not be sent
            continue
        for first in range(begin - 1, begin + n_venues):
            first = first if first >= begin else -1
            if first >= 0 and not _reached(block, market, first, _arrival_ms(block, fixed, market, first, latest)):
                continue
            for k in range(n_venues):
                j = begin + k
                limit_bps = limit_of(market, j, observed_bps, untaken)
                _lot_costs(order, j, first, latest, lot, ceiling, limit_bps, costs[k])
                if market.synchronise == 1 and block.child_shares[j] <= 0.0:
                    if latest < 0 or _expected_ms(fixed, j) > _expected_ms(fixed, latest):
                        costs[k, 1:] = NEVER
            _place(costs, best, choice)
            for m in range(0 if may_wait else lots, lots + 1):
                cost = best[n_venues, m] + ceiling * (lots - m) * lot
                if cost < lowest:
                    lowest, sent, left = cost, m, m
                    for k in range(n_venues - 1, -1, -1):
                        out[k] = choice[k, left]
                        left -= choice[k, left]
    return lowest, sent


@njit
def _select(order: Any, continuation: float, out: Any) -> float:
    """The one venue that takes the whole slice most cheaply, into zeros; what it cannot fill costs `continuation`."""
    block, i, fixed, market, _ = order
    lowest, choice = np.inf, 0
    ceiling = _ceiling(block, i, fixed, market, continuation)
    observed_bps, untaken = best_observed_bps(block, i, fixed, market), untaken_quotes(block, i, fixed, market, False)
    costs, wanted = np.empty(2), block.slice_shares[i]
    for j in lanes(i, market):
        limit_bps, k = limit_of(market, j, observed_bps, untaken), j - i * market.n_venues
        _lot_costs(order, j, j, j, wanted, ceiling, limit_bps, costs)
        if costs[1] < lowest:
            lowest, choice = costs[1], k
    out[choice] = 1.0
    return lowest


@njit
def _ceiling(block: Any, i: int, fixed: Any, market: Any, continuation: float) -> float:
    """What a share costs that is left for later: `continuation`, and at the last step the clean-up's price."""
    if block.step[i] < market.horizon_steps - 1:
        return continuation
    offered_bps = worst_offer_of_step_bps(block, i, fixed, market)
    return max(block.worst_offered_bps[i], offered_bps) + market.cleanup_penalty_bps


@njit
def _cheapest(block: Any, i: int, market: Any, out: Any) -> None:
    """Where all children fill at linear costs, the cheapest venue takes all; `out` (K,) holds zeros."""
    best, choice = np.inf, 0
    for j in lanes(i, market):
        k = j - i * market.n_venues
        price = block.offset_bps[j] + block.touch_move_bps[j] + market.latency_cost * block.latency_ms[j]
        price += market.liquidity_cost * market.quantity_shares / market.horizon_steps / block.arrival_size_shares[j]
        if price < best:
            best, choice = price, k
    out[choice] = 1.0


@entry_point()
def _route_batch(
    state: Any, continuation: float, one_venue: bool, may_wait: bool, out: Any, pace: Any, costs: Any
) -> None:
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    for member in range(len(out)):
        block, fixed = state.blocks[member // per_block], state.venues[member // per_block if drawn else 0]
        i, market, row = member % per_block, state.market[member if drawn else 0], out[member]
        order, wanted = (block, i, fixed, market, state.recording), block.slice_shares[i]
        if may_wait:
            wanted = block.available_shares[i]
        costs[member] = 0.0
        if market.fills_all == 1:
            _cheapest(block, i, market, row)
            pace[member] = block.slice_shares[i] / max(block.available_shares[i], 1e-300)
        elif not wanted > 0.0:
            row[:], pace[member] = 1.0, 0.0
        elif one_venue:
            costs[member] = _select(order, continuation, row)
        else:
            lots = LOTS if market.lot_shares <= 0.0 else max(math.ceil(wanted / market.lot_shares - 1e-9), 1)
            costs[member], sent = _route(order, wanted, lots, may_wait, continuation, row)
            pace[member] = sent / lots
            if sent == 0:
                row[:] = 1.0


class SnapshotOracle(Oracle):
    """Splits a step's shares with full knowledge of latency, fade, price and size at arrival; blind to the steps after.

    The oracle places whole lots: the market's, or 32 equal lots of the step's shares where the market has none. For
    every venue as the first to be reached (fade depends on nothing else) dynamic programming finds the cheapest
    placing, exact for any cost of a venue's fills. A share that comes back, or that ``OrderExecute-v0`` lets the oracle
    keep, is charged the market's `continuation_bps` (the clean-up price at the last step; where the market names none,
    far more than any fill). In ``VenueSelect-v0`` the oracle takes the one cheapest venue. The oracle is myopic, and
    under `order_protection` assumes that no other quote is swept: a policy may be cheaper, and reports say so.
    """

    name = "snapshot_oracle"

    def __init__(self, core: RoutingCore) -> None:
        super().__init__(core)
        continuation = core.market.continuation_bps
        self.continuation_bps = 1e9 if continuation is None else continuation

    def place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every member of the env: lots or weights (n, K), pace (n,), and their cost (n,) in bps x shares."""
        sim, action_adapter = self.core.simulator, self.core.action_adapter
        out, pace, costs = np.zeros((sim.n, action_adapter.n_venues)), np.zeros(sim.n), np.zeros(sim.n)
        state = sim.kernel_state()
        _route_batch(state, self.continuation_bps, action_adapter.masked, action_adapter.paced, out, pace, costs)
        return out, pace, costs

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, ...) by which the lots of `place` go out."""
        lots, pace, _ = self.place()
        return self.core.action_adapter.encode(lots / lots.sum(axis=1, keepdims=True), pace)
