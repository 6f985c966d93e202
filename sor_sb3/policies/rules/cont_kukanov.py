"""Cont and Kukanov's optimal order placement: how much to take now, how much to rest where. Solver and rule.

Cont and Kukanov 2017, "Optimal order placement in limit order markets", Quantitative Finance 17, 21-39.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numba import njit

from sor_sb3.envs.observation import ObservationView
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.rules.resting import _PostingRule
from sor_sb3.policies.tuning import tuned_constants
from sor_sb3.simulator.compiled import entry_point


@dataclass(frozen=True)
class Placement:
    """What to do with an order: `market_shares` are taken now, `limit_shares` (K,) rest; `cost` is what it is expected
    to cost, in the unit of the costs a share that were given, times shares."""

    market_shares: float
    limit_shares: np.ndarray
    cost: float


@dataclass(frozen=True)
class PlacementCosts:
    """Costs a share, in any one unit, of what a placement may end in.

    Attributes:
        taking: h + f, half the spread and the fee of a marketable order.
        resting_gain: h + r_k, float64 (K,), half the spread and the rebate of a resting order that is filled.
        underfill: of each share that is not filled in the end; it must be taken then.
        overfill: of each share that is filled beyond the order.
        impact: theta, of each share that is sent, and of each that is missing in the end.
    """

    taking: float
    resting_gain: np.ndarray
    underfill: float
    overfill: float
    impact: float = 0.0


def allocate_to_one(
    shares: float, queue_ahead: float, costs: PlacementCosts, quantile: Callable[[float], float]
) -> tuple[float, float]:
    """Shares to take and shares to rest where there is one venue: the closed form (their Proposition 3).

    ``L = F^-1(p) - Q`` with ``p = (2 h + f + r) / (underfill + h + r + impact)``, between 0 and all of the order, and
    the rest is taken; never more than the order in all.

    Args:
        shares: of the order.
        queue_ahead: Q, shares that stand before a new resting order.
        costs: their meaning is that of the class; one venue.
        quantile: F^-1, of the shares that sellers bring to the venue until the end.
    """
    gain = float(costs.resting_gain[0])
    level = (costs.taking + gain) / (costs.underfill + gain + costs.impact)
    resting = shares if level >= 1.0 else min(max(quantile(level) - queue_ahead, 0.0), shares)
    return shares - resting, resting


def allocate(
    shares: float,
    queue_ahead: np.ndarray,
    costs: PlacementCosts,
    outflows: np.ndarray,
    overbook: bool = True,
    iterations: int = 2000,
) -> Placement:
    """The placement whose expected cost is lowest, for outflows drawn from a sample.

    For shares A that are filled in the end, M taken and what rests where it is reached, their program is: minimise the
    mean of ``taking M - sum_k gain_k fill_k + underfill (S - A)^+ + overfill (A - S)^+ + impact (M + sum_k L_k +
    (S - A)^+)``, with ``fill_k = (xi_k - Q_k)^+ - (xi_k - Q_k - L_k)^+``. It is convex. One venue has a closed form;
    several are solved by averaged subgradients of the sample's mean, each projected on what is allowed: at most the
    order at every place, or, without `overbook`, the order in all.

    Args:
        shares: S, of the order.
        queue_ahead: float64 (K,), Q.
        costs: a share.
        outflows: float64 (n, K), draws of what sellers bring to each venue until the end.
        overbook: whether more may rest and be taken in all than the order holds.
        iterations: of the descent.

    Returns:
        The placement with its mean cost on the sample.
    """
    queue, flows = np.asarray(queue_ahead, np.float64), np.ascontiguousarray(outflows, np.float64)
    gains, n_venues = np.asarray(costs.resting_gain, np.float64), np.shape(outflows)[1]
    rates = costs.taking, costs.underfill, costs.overfill, costs.impact
    chosen = np.empty(1 + n_venues)
    if n_venues == 1:
        chosen[:] = allocate_to_one(shares, float(queue[0]), costs, _quantile_of(flows[:, 0]))
    else:
        _descend(shares, queue, gains, rates, flows, overbook, iterations, chosen, np.empty((3, 1 + n_venues)))
    return Placement(float(chosen[0]), chosen[1:], _mean_cost(shares, queue, gains, rates, flows, chosen))


def _quantile_of(sample: np.ndarray) -> Callable[[float], float]:
    return lambda level: float(np.quantile(sample, level, method="inverted_cdf"))


@entry_point()
def _mean_cost(shares: float, queue: Any, gains: Any, rates: Any, flows: Any, chosen: Any) -> float:
    taking, underfill, overfill, impact = rates
    total, sent = 0.0, chosen.sum()
    for s in range(len(flows)):
        filled, earned = chosen[0], 0.0
        for k in range(len(queue)):
            here = min(max(flows[s, k] - queue[k], 0.0), chosen[k + 1])
            filled += here
            earned += gains[k] * here
        missing, excess = max(shares - filled, 0.0), max(filled - shares, 0.0)
        total += taking * chosen[0] - earned + underfill * missing + overfill * excess + impact * (sent + missing)
    return total / len(flows)


@njit
def _subgradient(shares: float, queue: Any, gains: Any, rates: Any, flows: Any, chosen: Any, out: Any) -> None:
    """Write the mean over the sample of a subgradient at `chosen` into `out` (1 + K,)."""
    taking, underfill, overfill, impact = rates
    out[0] = taking + impact
    out[1:] = impact
    weight = 1.0 / len(flows)
    for s in range(len(flows)):
        filled = chosen[0]
        for k in range(len(queue)):
            filled += min(max(flows[s, k] - queue[k], 0.0), chosen[k + 1])
        slope = -(underfill + impact) if filled < shares else overfill
        out[0] += weight * slope
        for k in range(len(queue)):
            if flows[s, k] > queue[k] + chosen[k + 1]:
                out[k + 1] += weight * (slope - gains[k])


@njit
def _project(point: Any, shares: float, overbook: bool, support: Any) -> None:
    """Move `point` to the nearest one of a box [0, shares], or of the simplex that sums to `shares` (Michelot 1986)."""
    if overbook:
        for k in range(len(point)):
            point[k] = min(max(point[k], 0.0), shares)
        return
    support[:] = 1.0
    shift = 0.0
    for _ in range(len(point)):
        total, size = 0.0, 0.0
        for k in range(len(point)):
            total += support[k] * point[k]
            size += support[k]
        shift, left = (total - shares) / size, 0
        for k in range(len(point)):
            if support[k] == 1.0 and point[k] - shift < 0.0:
                support[k], left = 0.0, 1
        if left == 0:
            break
    for k in range(len(point)):
        point[k] = max(point[k] - shift, 0.0) if support[k] == 1.0 else 0.0


@njit
def _descend(
    shares: float,
    queue: Any,
    gains: Any,
    rates: Any,
    flows: Any,
    overbook: bool,
    iterations: int,
    chosen: Any,
    work: Any,
) -> None:
    """Write the average of the last half of the iterates into `chosen` (1 + K,); `work` is (3, 1 + K).

    Steps shorten as the subgradients so far add up: AdaGrad with one length (Duchi, Hazan, Singer 2011).
    """
    at, slope, support, squares = work[0], work[1], work[2], 0.0
    at[:] = shares / len(at)
    chosen[:] = 0.0
    first = iterations // 2
    for t in range(iterations):
        _subgradient(shares, queue, gains, rates, flows, at, slope)
        for k in range(len(at)):
            squares += slope[k] * slope[k]
        length = 0.5 * shares / math.sqrt(squares) if squares > 0.0 else 0.0
        for k in range(len(at)):
            at[k] -= length * slope[k]
        _project(at, shares, overbook, support)
        if t >= first:
            for k in range(len(at)):
                chosen[k] += at[k] / (iterations - first)


@entry_point()
def _allocate_rows(
    shares: Any,
    queues: Any,
    gains: Any,
    taking: Any,
    underfill: float,
    overfill: float,
    overbook: bool,
    outflows: Any,
    draws: Any,
    out: Any,
) -> None:
    """Solve a program for each row into `out` (n, 1 + K): expected outflows times `draws`."""
    flows, work = np.empty_like(draws), np.empty((3, out.shape[1]))
    for i in range(len(shares)):
        out[i] = 0.0
        if shares[i] > 0.0:
            for s in range(len(draws)):
                flows[s] = outflows[i] * draws[s]
            rates = taking[i], underfill * taking[i], overfill, 0.0
            _descend(shares[i], queues[i], gains[i], rates, flows, overbook, 60, out[i], work)


class ContKukanov(_PostingRule):
    """Cont and Kukanov's placement, anew at each decision, of what the schedule wants done in the next `patience` ones.

    Taken is what the solution takes, by net price; the rest of it rests where the solution says, and what the schedule
    wants later is held back. Taking costs the best all-in price, a fill of what rests gains the near offset less the
    make fee, and a share that is not filled costs `underfill` times what taking costs. A venue's outflow is exponential
    about what was recently observed; before a new order stands what is displayed, before one that rests its own queue.
    Both constants are tuned on validation scenarios. More rests than the order holds only where the market's
    `order.overbooking` lets it, and at its cost.
    """

    name = "cont_kukanov"
    constants: ClassVar = {"patience": (4, 1, 2, 8, 16), "underfill": (1.5, 1.1, 2.0, 4.0)}
    draws: ClassVar[int] = 64  # of the outflows

    def __init__(self, market: MarketSpec, env_id: str = "OrderPlace-v1", seed: int = 0, **constants: Any) -> None:
        if len(constants) < len(self.constants):
            constants = tuned_constants(type(self), market, env_id) | constants
        super().__init__(market, env_id, seed, **constants)
        self.underfill = float(constants["underfill"])
        self._draws = np.random.default_rng(seed).exponential(size=(self.draws, market.n_venues))
        self._solved: tuple[ObservationView | None, np.ndarray] = None, np.empty(0)

    def placement(self, view: ObservationView) -> np.ndarray:
        """Shares (n, 1 + K) to take, and to rest by venue."""
        if self._solved[0] is not view:
            self._solved = view, self._place(view)
        return self._solved[1]

    def _place(self, view: ObservationView) -> np.ndarray:
        order = self.market.order
        left = np.maximum(view.remaining - view.in_flight_share, 0.0)
        decisions = np.rint(view.time_left * order.horizon_steps)  # to come, this one among them
        ahead = np.clip(decisions - 2.0, 0.0, self.patience)  # what rests is cancelled one before the last
        allowed = np.maximum((decisions - np.maximum(ahead, 1.0)) / view.even_slices, 0.0)
        wanted = np.maximum(left - allowed, 0.0) * order.quantity_shares
        taking = np.where(view.quoted, view.offset_bps + view.fee_bps, np.inf).min(axis=1)
        taking = np.maximum(np.where(np.isfinite(taking), taking, view.spread_bps), 1e-9)
        rests = view.open & ~view.dark & (view.near_size_shares > 0.0) & (view.outflow_shares > 0.0)
        queues = np.where(view.resting_share > 0.0, view.queue_ahead_shares, view.near_size_shares)
        gains = np.where(rests, view.near_offset_bps - view.make_fee_bps, 0.0)
        outflows = np.where(rests, view.outflow_shares, 0.0) * np.maximum(ahead, 1.0)[:, None]
        out = np.empty((len(wanted), 1 + self.market.n_venues))
        costs = self.underfill, 0.0 if order.overbooking is None else order.overbooking.overfill_cost_bps
        overbooks = order.overbooking is not None
        _allocate_rows(wanted, queues, gains, taking, *costs, overbooks, outflows, self._draws, out)
        out[:, 1:] *= rests & (ahead > 0.0)[:, None]
        out[:, 0] = np.where(ahead > 0.0, out[:, 0], wanted)
        return out

    def attraction(self, view: ObservationView) -> np.ndarray:
        """Shares (n, K) that should rest."""
        return self.placement(view)[:, 1:]

    def pace(self, view: ObservationView) -> np.ndarray:
        """What the solution takes, as a share of what is offered; all of what came back in a later wave."""
        offered = (view.remaining - view.in_flight_share) * self.market.order.quantity_shares
        taken = self.placement(view)[:, 0]
        pace = np.divide(taken, offered, out=np.ones_like(offered), where=offered > 0.0)
        return np.where(view.is_later, 1.0, np.clip(pace, 0.0, 1.0))

    def resting(self, view: ObservationView) -> np.ndarray:
        """What the solution rests, to the nearest lot, as shares of what is not taken."""
        shares, lot = self.attraction(view), self.market.order.lot_shares
        if lot:
            lots = np.rint(shares / lot)
            shares = (lots + 0.25 * (lots > 0.0)) * lot  # a target is rounded down: above what float32 may lose
        offered = (view.remaining - view.in_flight_share) * self.market.order.quantity_shares
        base = np.maximum(offered - self.placement(view)[:, 0], 0.0)[:, None]
        weights = np.divide(shares, base, out=np.zeros_like(shares), where=base > 0.0)
        most = self.market.order.most_resting_ratio
        return weights / np.maximum(weights.sum(axis=1, keepdims=True) / most, 1.0)
