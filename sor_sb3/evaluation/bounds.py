"""A lower bound on what an order can cost in a given scenario, for markets too large for the clairvoyant.

The bound holds for the variance-reduced cost only: a bound that used the mid's path would wait for the best price and
say nothing. In expectation the variance-reduced cost is the shortfall, so the mean of the bounds is below every
policy's mean shortfall too. The bound is no policy and never the denominator of "gap closed": report how loose it is.
"""

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec, ReplayMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.views import Truth

SEGMENTS = 6  # of the piecewise linear function that stands for a book's walk, from below
TOLERANCE_BPS = 1e-6  # of the linear program's solution


@dataclass(frozen=True)
class _Path:
    """One scenario without trading, (T, K) by venue, else (T,): prices bounded from below, sizes from above."""

    price_bps: np.ndarray  # all-in, of the first share
    held_shares: np.ndarray
    walk_bps: np.ndarray
    refill_decay: np.ndarray  # (K,)
    hold_bps: np.ndarray  # the mid's move against what is left after a step, its noise apart
    spared_bps: float  # the same times what the schedule leaves, which variance reduction leaves out
    cleanup_bps: float


def relaxed_bound(
    market: str | MarketSpec, env: str, scenarios: int, seed: int = 10_000, data_split: str = "test"
) -> np.ndarray:
    """A variance-reduced cost that no policy goes below, for each of these scenarios.

    Each scenario is a linear program over what is filled where and when, with the whole path known. Kept: sizes, hidden
    ones included; depletion and refills; books that walk; outages and halts; the schedule, where the env has one.
    Relaxed: fade, limits, minimum executions and lots are left out; impact and leaks cost nothing; a child may choose
    its time of arrival where it can be late; an empty venue's size never falls below 0 (a chord replaces the kink).

    Arguments are those of :func:`sor_sb3.evaluation.evaluator.evaluate`; only "OrderExecute-v0" has no schedule.

    Returns:
        float64 (scenarios,), in the market's cost unit.

    Raises:
        UserError: the market is a recording, or its children have limits.
    """
    market = load_market(market)
    if isinstance(market, ReplayMarket):
        raise UserError(f"market '{market.name}' is a recording; the relaxed bound is for synthetic markets")
    scheduled = not make_action_adapter(env, 1).paced
    simulator = BatchSimulator(market, scenarios, data_split)
    simulator.reset(np.arange(seed, seed + scenarios).astype(np.uint64), np.zeros(scenarios, dtype=np.int64))
    if not market.has_partial_fills:
        return _notebook_bounds(simulator, scheduled)
    paths = _record(simulator, scheduled)
    quantity = market.order.quantity_shares
    return np.array([_solve(path, quantity, scheduled) for path in paths])


def _notebook_bounds(simulator: BatchSimulator, scheduled: bool) -> np.ndarray:
    """The cheapest venue at each step, or of the cheapest step: steps do not depend on each other."""
    best = []
    weights = np.eye(simulator.market.n_venues)
    for _ in range(simulator.market.order.horizon_steps):
        costs = [simulator.branch(np.arange(simulator.n)).step(np.tile(w, (simulator.n, 1)))[0] for w in weights]
        best.append(np.min(costs, axis=0))
        simulator.step(np.tile(weights[0], (simulator.n, 1)))
    cost = np.sum(best, axis=0) if scheduled else len(best) * np.min(best, axis=0)
    return np.asarray(cost - TOLERANCE_BPS)


def _record(simulator: BatchSimulator, scheduled: bool) -> list[_Path]:
    """The paths of all scenarios, played without trading.

    Variance reduction leaves out news and drift times what the schedule leaves. Without a schedule it leaves out the
    news times the shares open before the fills: those left after the fills cost no news, and filled shares earn them.
    """
    order, n = simulator.market.order, simulator.n
    step_ms, may_wait = 1e3 * order.step_s, order.synchronise_arrivals
    truth = Truth(simulator)
    idle, weights = np.zeros(n), np.full((n, simulator.market.n_venues), 1.0 / simulator.market.n_venues)
    latest_ms = np.zeros((n, simulator.market.n_venues))  # of children sent so far, from the coming decision on
    path: list[dict[str, np.ndarray]] = []
    for _ in range(order.horizon_steps):
        on_time = truth.latency_ms < step_ms
        late = np.full(on_time.shape, True) if may_wait else latest_ms > 0.0
        quote_move = np.where(truth.dark, 0.0, truth.next_offset_bps - truth.offset_bps)
        least_move = np.minimum(truth.smooth_move_bps, 0.0)[:, None] + np.minimum(quote_move, 0.0)
        move = np.where(on_time, truth.touch_move_bps, np.inf)
        move = np.where(late, np.minimum(move, least_move), move)
        shown = np.where(on_time, truth.arrival_size_shares, 0.0)
        shown = np.where(late, np.maximum(truth.quote_shares, truth.next_shares), shown)
        held = np.where(truth.takes_orders & (on_time | late), shown + truth.hidden_shares, 0.0)
        price = truth.offset_bps + np.where(held > 0.0, move, 0.0) + truth.take_fee_bps
        hold = truth.next_mid_bps - truth.mid_bps - truth.mid_noise_bps
        spared = np.zeros(n)
        if scheduled:
            spared = (1.0 - (truth.step + 1.0) / order.horizon_steps) * hold
        else:
            price, hold = price - truth.news_bps[:, None], hold - truth.news_bps
        limited = (truth.limit_offset_bps < np.inf) | (truth.order_protection == 1)
        if limited.any():  # then only idle shares are spared the noise: see `mark_to_next_mid`
            raise UserError("the relaxed bound is for markets without limits and order protection")
        path.append({"price_bps": price, "held_shares": held, "hold_bps": hold, "spared_bps": spared})
        latest_ms = np.maximum(np.maximum(latest_ms, truth.latency_ms) - step_ms, 0.0)
        worst_bps = truth.worst_offered_bps.copy()
        simulator.step(weights, idle)
        worst_bps = np.maximum(worst_bps, truth.worst_offered_bps)
    stacked = {name: np.stack([step[name] for step in path], axis=1) for name in path[0]}
    stacked["spared_bps"] = stacked["spared_bps"].sum(axis=1)
    stacked |= {"walk_bps": truth.walk_bps, "refill_decay": truth.refill_decay}
    stacked["cleanup_bps"] = worst_bps + truth.cleanup_penalty_bps
    return [_Path(**{name: values[i] for name, values in stacked.items()}) for i in range(n)]


def _solve(path: _Path, quantity: float, scheduled: bool) -> float:
    """The cost of the cheapest fills of one scenario, in bps of the order.

    A fill f costs ``price f + walk f^2 / held``; the square is replaced by its tangents at f = 0, held / S, 2 held / S,
    ..., a convex function that is never above it: slopes ``2 walk i / S`` between the tangents' crossings.
    """
    steps = len(path.price_bps)
    t, k = np.nonzero(path.held_shares > 1e-9)
    if not t.size:
        return float(path.hold_bps.sum() - path.spared_bps + path.cleanup_bps - TOLERANCE_BPS)
    held, segment = path.held_shares[t, k], np.arange(SEGMENTS + 1)
    widths = np.full(SEGMENTS + 1, 1.0 / SEGMENTS)
    widths[[0, -1]] = 0.5 / SEGMENTS
    # A share filled at t is not held from t on, nor cleaned up.
    saved = np.cumsum(path.hold_bps[::-1])[::-1] + path.cleanup_bps
    slope = (path.price_bps[t, k] - saved[t])[:, None] + 2.0 * path.walk_bps[k][:, None] * segment / SEGMENTS
    upper = held[:, None] * widths
    fills = sparse.kron(sparse.eye(t.size), np.ones((1, SEGMENTS + 1)), format="csr")  # segments to fills
    cumulative = sparse.csr_matrix((t[None, :] <= np.arange(steps)[:, None]).astype(float)) @ fills
    allowed = quantity * (np.arange(1, steps + 1) / steps if scheduled else np.ones(steps))
    refill, room = _depletion(path, t, k)
    solution = linprog(
        slope.ravel() / quantity,
        A_ub=sparse.vstack([cumulative, refill @ fills]),
        b_ub=np.concatenate([allowed, room]),
        bounds=np.stack([np.zeros(upper.size), upper.ravel()], axis=1),
        method="highs",
    )
    if solution.status != 0:
        raise RuntimeError(f"the linear program of a bound was not solved: {solution.message}")
    return float(solution.fun + path.hold_bps.sum() - path.spared_bps + path.cleanup_bps - TOLERANCE_BPS)


def _depletion(path: _Path, t: np.ndarray, k: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows ``f + slack x (what earlier fills left depleted) <= held``, one for each fill, over fills.

    A venue holds ``max(held - depleted, 0)``; above it lies the chord from no depletion to the most there can be.
    """
    same, earlier = k[:, None] == k[None, :], t[None, :] < t[:, None]
    left = np.where(same & earlier, path.refill_decay[k][None, :] ** (t[:, None] - t[None, :]), 0.0)
    held = path.held_shares[t, k]
    most = left @ held
    slope = held / np.maximum(held, most)
    return sparse.csr_matrix(np.eye(t.size) + slope[:, None] * left), held
