"""The one router that may look behind the curtain: true size and price at arrival. A bound, not a strategy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from sor_sb3.envs.codecs import make_codec
from sor_sb3.envs.core import RoutingCore
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.records import NOTEBOOK


@njit
def _split(touch: Any, curvature: Any, most: Any, wanted: float, ceiling: float, out: Any) -> float:
    """Minimise ``sum touch_k f_k + curvature_k f_k^2`` with ``sum f <= wanted``, ``0 <= f <= most``; unfilled shares
    cost `ceiling` each. Fills `out` (K,) and returns the cost, by bisection on the marginal price."""
    low, high = 1e300, -1e300
    for k in range(touch.size):
        if most[k] > 0.0:
            low = min(low, touch[k])
            high = max(high, touch[k] + 2.0 * curvature[k] * most[k])
    high = min(high, ceiling)
    low = min(low, high) - 1.0  # below every touch: what is offered at `low` never exceeds `wanted`
    for _ in range(60):
        price = 0.5 * (low + high)
        total = 0.0
        for k in range(touch.size):
            total += _supply(touch[k], curvature[k], most[k], price)
        if total > wanted:
            high = price
        else:
            low = price
    cost, filled = 0.0, 0.0
    for k in range(touch.size):  # all that is cheaper than the marginal price, then the marginal ones
        out[k] = _supply(touch[k], curvature[k], most[k], low)
        filled += out[k]
    for k in range(touch.size):
        more = max(min(_supply(touch[k], curvature[k], most[k], high) - out[k], wanted - filled), 0.0)
        out[k] += more
        filled += more
        cost += touch[k] * out[k] + curvature[k] * out[k] * out[k]
    return cost + ceiling * (wanted - filled)


@njit
def _supply(touch: float, curvature: float, most: float, price: float) -> float:
    if most <= 0.0 or price < touch:
        return 0.0
    if curvature <= 0.0:
        return most
    return min((price - touch) / (2.0 * curvature), most)


@njit
def _idle(venues: Any, most: Any, trial: Any, first: int) -> int:
    """A venue where shares more come back and do no harm: closed, or emptied and not reached before `first`."""
    idle = -1
    for k in range(venues.size):
        harmless = venues[k].open == 0
        if not harmless and venues[k].latency_ms >= venues[first].latency_ms:
            harmless = most[k] - trial[k] <= 1e-9
        if harmless and (idle < 0 or trial[k] > trial[idle]):
            idle = k
    return idle


@njit
def _place_or_empty(
    venues: Any, touch: Any, curvature: Any, most: Any, wanted: float, ceiling: float, first: int, out: Any, work: Any
) -> tuple[float, int]:
    """Place every share, or empty one venue, however dear, so that what is left may be sent there. (cost, venue)."""
    best, idle = _split(touch, curvature, most, wanted, 1e300, out), first
    for k in range(touch.size):
        full = most[k]
        if full <= 0.0 or full > wanted:
            continue
        most[k] = 0.0
        cost = touch[k] * full + curvature[k] * full * full
        cost += _split(touch, curvature, most, wanted - full, ceiling, work)
        most[k] = full
        if cost < best:
            best, idle = cost, k
            out[:] = work
            out[k] = full
    return best, idle


@njit
def _route(order: Any, venues: Any, parameters: Any, market: Any, continuation: float, out: Any, work: Any) -> None:
    """Try every venue as the first to be reached; for each, split over those not reached before it."""
    touch, curvature, most, trial = work[0], work[1], work[2], work[3]
    wanted = order.slice_shares
    for k in range(venues.size):
        touch[k] = venues[k].offset_bps + venues[k].touch_move_bps + parameters[k].take_fee_bps
    ceiling = _ceiling(order, venues, parameters, market, continuation)
    best = np.inf
    for first in range(venues.size):
        if venues[first].open == 0:
            continue
        for k in range(venues.size):
            most[k] = 0.0
            late_ms = venues[k].latency_ms - venues[first].latency_ms
            if venues[k].open == 1 and late_ms >= 0.0:
                left = max(venues[k].arrival_size_shares - venues[k].depleted_shares, 0.0)
                most[k] = left * np.exp(-parameters[k].toxicity * late_ms / market.reaction_time_ms)
            curvature[k] = parameters[k].walk_bps / most[k] if most[k] > 0.0 else 0.0
        cost = _split(touch, curvature, most, wanted, ceiling, trial)
        idle, left = _idle(venues, most, trial, first), wanted - trial.sum()
        if idle < 0 and left > 0.0:  # nowhere to leave shares without harm: all must be placed
            cost, idle = _place_or_empty(venues, touch, curvature, most, wanted, ceiling, first, trial, work[4])
            left = wanted - trial.sum()
        if cost < best:
            best = cost
            for k in range(venues.size):
                out[k] = trial[k]
            out[idle] += max(left, 0.0)


@njit
def _select(order: Any, venues: Any, parameters: Any, market: Any, continuation: float, out: Any) -> None:
    """The one venue that takes the whole slice most cheaply; what it cannot fill costs the continuation price."""
    wanted = order.slice_shares
    best, choice = np.inf, 0
    ceiling = _ceiling(order, venues, parameters, market, continuation)
    for k in range(venues.size):
        venue = venues[k]
        out[k] = 0.0
        filled, price = 0.0, 0.0
        if venue.open == 1:
            available = max(venue.arrival_size_shares - venue.depleted_shares, 0.0)
            filled = min(wanted, available)
            if filled > 0.0:
                price = venue.offset_bps + venue.touch_move_bps + parameters[k].take_fee_bps
                price += parameters[k].walk_bps * filled / available
        cost = filled * price + (wanted - filled) * ceiling
        if cost < best:
            best, choice = cost, k
    out[choice] = 1.0


@njit
def _ceiling(order: Any, venues: Any, parameters: Any, market: Any, continuation: float) -> float:
    """What an unfilled share costs: the continuation price, or the clean-up price at the last step."""
    if order.step + 1 < market.horizon_steps:
        return continuation
    dearest = order.dearest_bps
    for k in range(venues.size):
        touch = venues[k].offset_bps + max(venues[k].touch_move_bps, 0.0) + parameters[k].take_fee_bps
        dearest = max(dearest, touch + parameters[k].walk_bps)
    return dearest + market.cleanup_penalty_bps


@njit
def _notebook(order: Any, venues: Any, market: Any, out: Any) -> None:
    best, choice = np.inf, 0
    for k in range(venues.size):
        venue = venues[k]
        price = venue.offset_bps + venue.touch_move_bps + market.latency_cost * venue.latency_ms
        price += market.liquidity_cost * order.slice_shares / venue.arrival_size_shares
        if price < best:
            best, choice = price, k
        out[k] = 0.0
    out[choice] = 1.0


@entry_point()
def _route_batch(
    orders: Any, venues: Any, parameters: Any, market: Any, continuation: float, one_venue: bool, out: Any
) -> None:
    work = np.zeros((5, venues.shape[1]))
    for i in range(orders.size):
        if market[0].model == NOTEBOOK:
            _notebook(orders[i], venues[i], market[0], out[i])
        elif one_venue:
            _select(orders[i], venues[i], parameters, market[0], continuation, out[i])
        else:
            _route(orders[i], venues[i], parameters, market[0], continuation, out[i], work)


class SnapshotOracle:
    """Splits each slice with full knowledge of latency, fade, price and size at arrival; blind to the steps after.

    For every venue as the first to be reached (fade depends on nothing else) it solves the convex split
    ``min sum_k touch_k f_k + walk_k f_k^2 / avail_k`` and takes the cheapest. A share that it leaves for later is
    charged the market's `continuation_bps` (the clean-up price at the last step; a share is never left where the
    market names no such price). In ``VenueSelect-v0`` it takes the one venue that is cheapest by the same reckoning.
    It is myopic: a policy that manages depletion or waits well may pass it, and reports say so.
    """

    name = "snapshot_oracle"

    def __init__(self, core: RoutingCore, env_id: str) -> None:
        self.core = core
        self.codec = make_codec(env_id, core.market.n_venues)
        continuation = core.market.continuation_bps
        self.continuation_bps = 1e9 if continuation is None else continuation

    def predict(
        self,
        observation: np.ndarray,
        state: Any = None,
        episode_start: Any = None,
        deterministic: bool = False,
        **kwargs: Any,
    ) -> tuple[np.ndarray, Any]:
        """Actions for all members of the env that it was made for; `observation` (n, D) tells it nothing more."""
        sim = self.core.simulator
        out = np.zeros((sim.n, self.core.market.n_venues))
        _route_batch(
            sim.orders,
            sim.venues,
            sim.venue_parameters,
            sim.market_record,
            self.continuation_bps,
            self.codec.masked,
            out,
        )
        totals = out.sum(axis=1, keepdims=True)
        actions = self.codec.encode(np.where(totals > 0.0, out / np.maximum(totals, 1e-300), 1.0 / out.shape[1]))
        return (actions if np.asarray(observation).ndim > 1 else actions[0]), state
