"""The one router that may look behind the curtain: true size and price at arrival. A bound, not a strategy."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
from numba import njit

from sor_sb3.envs.core import RoutingCore
from sor_sb3.policies.protocol import Kind
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.execution import (
    best_observed_bps,
    faded,
    fill_of,
    held_back_ms,
    held_shares,
    limit_of,
    untaken_quotes,
    worst_offer_of_step_bps,
)
from sor_sb3.simulator.paths import arrival_state
from sor_sb3.simulator.records import NOTEBOOK

LOTS = 32  # equal lots that the oracle splits a step's shares into, where the market does not say
NEVER = 1e15  # of a cost that must not be paid


@njit
def _expected_ms(parameters: Any, k: int) -> float:
    return parameters[k].latency_ms + parameters[k].speed_bump_ms


@njit
def _arrival_ms(venues: Any, parameters: Any, market: Any, k: int, latest: int) -> float:
    """When a child sent now reaches venue `k`, if that to `latest` is the slowest; -1: it waits for none."""
    return venues[k].latency_ms + (
        held_back_ms(parameters[k], market, _expected_ms(parameters, latest)) if latest >= 0 else 0.0
    )


@njit
def _reached(venues: Any, children: Any, parameters: Any, market: Any, k: int, arrives_ms: float) -> bool:
    """Whether a child sent now is filled, if at all, before the next decision."""
    working = venues[k].open == 1 and venues[k].outage == 0 and children[k].shares <= 0.0
    return working and arrives_ms < 1e3 * market.step_s


@njit
def _lot_costs(
    order: Any,
    venues: Any,
    children: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    k: int,
    first: int,
    latest: int,
    lot: float,
    ceiling: float,
    limit_bps: float,
    out: Any,
) -> None:
    """Cost (bps x shares) of 0, 1, 2, ... lots at venue `k`, if `first` is the first venue reached; -1: none is.

    What comes back costs `ceiling` a share. A venue that would be reached before `first` takes none, `first` some.
    """
    fixed, venue = parameters[k], venues[k]
    arrives_ms = _arrival_ms(venues, parameters, market, k, latest)
    working = _reached(venues, children, parameters, market, k, arrives_ms)
    first_ms = _arrival_ms(venues, parameters, market, first, latest) if first >= 0 else math.inf
    move_bps, held = 0.0, 0.0
    if working and arrives_ms >= first_ms:
        move_bps, shown, hidden = arrival_state(order, venue, k, fixed, market, recording, arrives_ms)
        held = held_shares(venue, shown, hidden, faded(fixed, market, arrives_ms - first_ms))
    for x in range(out.size):
        out[x] = ceiling * x * lot
        if x > 0 and working:
            if arrives_ms < first_ms:
                out[x] = NEVER
                continue
            filled, walk_bps = fill_of(fixed, x * lot, held, venue.offset_bps + move_bps, limit_bps)
            price_bps = venue.offset_bps + move_bps + walk_bps + fixed.take_fee_bps
            out[x] += filled * (price_bps - ceiling)
    if k == first or (market.synchronise == 1 and k == latest):
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
def _route(
    order: Any,
    venues: Any,
    children: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    wanted: float,
    lots: int,
    may_wait: bool,
    continuation: float,
    out: Any,
) -> tuple[float, int]:
    """Fill `out` (K,) with the cheapest whole lots of `wanted`; returns their cost and how many lots are sent.

    Fade depends on nothing but the first arrival, so every venue is tried as the first to be reached (and, where
    arrivals are synchronised, every venue as the slowest); for each, the lots are placed by dynamic programming.
    """
    n_venues = venues.size
    lot, ceiling = wanted / lots, _ceiling(order, venues, parameters, market, continuation)
    costs, best = np.empty((n_venues, lots + 1)), np.empty((n_venues + 1, lots + 1))
    choice = np.empty((n_venues, lots + 1), np.int64)
    observed_bps, untaken = best_observed_bps(venues, parameters), untaken_quotes(venues, parameters, False)
    lowest, sent = np.inf, 0
    for latest in range(-1, n_venues if market.synchronise == 1 else 0):
        if latest >= 0 and children[latest].shares > 0.0:  # a child that will not be sent
            continue
        for first in range(-1, n_venues):
            if first >= 0:
                arrives_ms = _arrival_ms(venues, parameters, market, first, latest)
                if not _reached(venues, children, parameters, market, first, arrives_ms):
                    continue
            for k in range(n_venues):
                limit_bps = limit_of(market, k, observed_bps, untaken)
                # fmt: off
                _lot_costs(order, venues, children, parameters, market, recording, k, first, latest, lot, ceiling,
                           limit_bps, costs[k])
                # fmt: on
                if market.synchronise == 1 and children[k].shares <= 0.0:
                    if latest < 0 or _expected_ms(parameters, k) > _expected_ms(parameters, latest):
                        costs[k, 1:] = NEVER
            _place(costs, best, choice)
            for m in range(0 if may_wait else lots, lots + 1):
                cost = best[n_venues, m] + ceiling * (lots - m) * lot
                if cost < lowest:
                    lowest, sent = cost, m
                    left = m
                    for j in range(n_venues):
                        k = n_venues - 1 - j
                        out[k] = choice[k, left]
                        left -= choice[k, left]
    return lowest, sent


@njit
def _select(
    order: Any,
    venues: Any,
    children: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    continuation: float,
    out: Any,
) -> float:
    """The one venue that takes the whole slice most cheaply; what it cannot fill costs the continuation price."""
    lowest, choice = np.inf, 0
    ceiling = _ceiling(order, venues, parameters, market, continuation)
    observed_bps, untaken = best_observed_bps(venues, parameters), untaken_quotes(venues, parameters, False)
    costs = np.empty(2)
    for k in range(venues.size):
        wanted = order.slice_shares
        # fmt: off
        _lot_costs(order, venues, children, parameters, market, recording, k, k, k, wanted, ceiling,
                   limit_of(market, k, observed_bps, untaken), costs)
        # fmt: on
        out[k] = 0.0
        if costs[1] < lowest:
            lowest, choice = costs[1], k
    out[choice] = 1.0
    return lowest


@njit
def _ceiling(order: Any, venues: Any, parameters: Any, market: Any, continuation: float) -> float:
    """What a share costs that is left for later: `continuation`, and at the last step the clean-up's price."""
    if order.step < market.horizon_steps - 1:
        return continuation
    offered_bps = worst_offer_of_step_bps(order, venues, parameters, market)
    return max(order.worst_offered_bps, offered_bps) + market.cleanup_penalty_bps


@njit
def _notebook(order: Any, venues: Any, market: Any, out: Any) -> None:
    best, choice = np.inf, 0
    for k in range(venues.size):
        venue = venues[k]
        price = venue.offset_bps + venue.touch_move_bps + market.latency_cost * venue.latency_ms
        price += market.liquidity_cost * market.quantity_shares / market.horizon_steps / venue.arrival_size_shares
        if price < best:
            best, choice = price, k
        out[k] = 0.0
    out[choice] = 1.0


@entry_point()
def _route_batch(
    orders: Any,
    venues: Any,
    children: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    continuation: float,
    one_venue: bool,
    may_wait: bool,
    out: Any,
    pace: Any,
    costs: Any,
) -> None:
    for i in range(orders.size):
        fixed, its_market, order = parameters[i % len(parameters)], market[i % market.size], orders[i]
        wanted = order.available_shares if may_wait else order.slice_shares
        costs[i] = 0.0
        if its_market.model == NOTEBOOK:
            _notebook(order, venues[i], its_market, out[i])
            pace[i] = order.slice_shares / max(order.available_shares, 1e-300)
        elif wanted <= 0.0:
            out[i], pace[i] = 1.0, 0.0
        elif one_venue:
            costs[i] = _select(order, venues[i], children[i], fixed, its_market, recording, continuation, out[i])
        else:
            lots = LOTS if its_market.lot_shares <= 0.0 else max(math.ceil(wanted / its_market.lot_shares - 1e-9), 1)
            costs[i], sent = _route(
                order,
                venues[i],
                children[i],
                fixed,
                its_market,
                recording,
                wanted,
                lots,
                may_wait,
                continuation,
                out[i],
            )
            pace[i] = sent / lots
            if sent == 0:
                out[i] = 1.0


class SnapshotOracle:
    """Splits a step's shares with full knowledge of latency, fade, price and size at arrival; blind to the steps after.

    It places whole lots: the market's, or 32 equal ones of the step's shares where it has none. For every venue as the
    first to be reached (fade depends on nothing else) the cheapest placing is found by dynamic programming, so it is
    exact whatever a venue's fills cost: minimum executions, limits and hidden size included. A share that comes back,
    or that ``OrderExecute-v0`` lets it keep, is charged the market's `continuation_bps` (the clean-up price at the last
    step; where the market names no such price, far more than any fill). In ``VenueSelect-v0`` it takes the one venue
    that is cheapest by the same reckoning. Under `order_protection` it takes no other quote to be swept, so it may be
    beaten. It is myopic: a policy that manages depletion, leaks or pace well may pass it, and reports say so.
    """

    name: ClassVar[str] = "snapshot_oracle"
    kind: ClassVar[Kind] = "oracle"

    def __init__(self, core: RoutingCore) -> None:
        self.core = core
        continuation = core.market.continuation_bps
        self.continuation_bps = 1e9 if continuation is None else continuation

    def place(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For every member of the env: lots or weights (n, K), pace (n,), and their cost (n,) in bps x shares."""
        sim, action_adapter = self.core.simulator, self.core.action_adapter
        out, pace, costs = np.zeros((sim.n, action_adapter.n_venues)), np.zeros(sim.n), np.zeros(sim.n)
        _route_batch(
            sim.orders,
            sim.venues,
            sim.children,
            sim.parameters.venues,
            sim.parameters.market,
            sim.recording,
            self.continuation_bps,
            action_adapter.masked,
            self.core.env_id == "OrderExecute-v0",
            out,
            pace,
            costs,
        )
        return out, pace, costs

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, Any]:
        """Actions for all members of the env that it was made for; `observation` (n, D) tells it nothing more."""
        lots, pace, _ = self.place()
        actions = self.core.action_adapter.encode(lots / lots.sum(axis=1, keepdims=True), pace)
        return (actions if np.asarray(observation).ndim > 1 else actions[0]), state
