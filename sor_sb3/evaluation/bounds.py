"""A lower bound on what an order can cost in a given scenario, for markets too large for the clairvoyant.

The bound knows the whole path, so it cannot be one on the shortfall: it would wait for the best price and say nothing.
It is one on the *bounded cost*: the shortfall without each tick's noise times what was to be done before it (children
sent at that moment included), without the drift times what the schedule leaves, and without the midpoint's distance
from the efficient price at arrival. What is left out has mean 0 whatever a policy does, so the mean of the bounds is
below every policy's mean shortfall. The bound is no policy and never the denominator of "gap closed": report how loose
it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from scipy import sparse
from scipy.optimize import linprog

from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec, ReplayMarket, SyntheticMarket
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.book import LADDER, ladder_at
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import exp, log
from sor_sb3.simulator.execution import takes_orders
from sor_sb3.simulator.paths import touch_at
from sor_sb3.simulator.paths.synthetic import VENUE_DRAWS, change_ms, draw_latency_ms, latencies_stream
from sor_sb3.simulator.random import PLACES_PER_STEP, stream_at, uniform_at
from sor_sb3.simulator.state import MOST_LEVELS, SLOTS, lanes
from sor_sb3.simulator.views import Truth

TOLERANCE_BPS = 1e-6  # of the linear program's solution
PARTS = 2 * MOST_LEVELS + 1  # of a book in a tick: the levels of its quote, those of the next one, and the midpoint


@entry_point()
def _latencies(state: Any, waves: int, out: Any) -> None:
    """Fill `out` (N, K) with the longest latency of a child sent in any wave of the decision at this tick."""
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    for member in range(len(out)):
        block, fixed = state.blocks[member // per_block], state.venues[member // per_block if drawn else 0]
        i, market = member % per_block, state.market[member if drawn else 0]
        for wave in range(waves):
            stream = latencies_stream(block.tick[i], wave)
            for j in lanes(i, market):
                k = j - i * market.n_venues
                out[member, k] = max(out[member, k], draw_latency_ms(block, j, stream, fixed, market))


@entry_point()
def _books(state: Any, within_ms: Any, waves: int, price: Any, shares: Any) -> None:
    """Fill `price` and `shares` (N, K, PARTS): what children could take that arrive `within_ms` (N, K) of this tick.

    No price is above the true one, no size below. A negative `within_ms` says that no child can arrive.
    """
    ladders = np.empty(1, LADDER)
    ladder = ladders[0]
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    for member in range(len(price)):
        block, fixed = state.blocks[member // per_block], state.venues[member // per_block if drawn else 0]
        i, market = member % per_block, state.market[member if drawn else 0]
        latest_ms, ask_bps, bid_bps = -1.0, math.inf, -math.inf
        for k in range(market.n_venues):
            latest_ms = max(latest_ms, within_ms[member, k])
        for j in lanes(i, market):
            if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
                far, near, _, _ = touch_at(block, i, j, market, state.recording, 0.0)
                if change_ms(block, i, j, market) <= latest_ms:
                    next_far, next_near, _, _ = touch_at(block, i, j, market, state.recording, math.inf)
                    far, near = min(far, next_far), min(near, next_near)
                ask_bps, bid_bps = min(ask_bps, far), max(bid_bps, near)
        for j in lanes(i, market):
            k = j - i * market.n_venues
            latest_ms = within_ms[member, k]
            if latest_ms < 0.0 or not takes_orders(block, j) or ask_bps == math.inf:
                continue
            price[member, k, PARTS - 1] = 0.5 * (ask_bps + bid_bps)
            if fixed.dark[j] == 1.0:
                shares[member, k, PARTS - 1] = block.dark_shares[j]
                continue
            _lit_book(block, i, j, fixed, market, latest_ms, waves, ladder, price[member, k], shares[member, k])


@njit
def _lit_book(
    block: Any, i: int, j: int, fixed: Any, market: Any, latest_ms: float, waves: int, ladder: Any, price: Any, out: Any
) -> None:
    both, touch_shares, keys, collides = 1, 0.0, np.empty(2 * MOST_LEVELS), False
    if change_ms(block, i, j, market) <= latest_ms:
        both = 2
    for version in range(both):
        at_ms = 0.0 if version == 0 else math.inf
        touch_shares = max(touch_shares, touch_at(block, i, j, market, None, at_ms)[2])
        ladder_at(block, i, j, fixed, market, None, at_ms, math.inf, ladder)
        for level in range(ladder.n_levels):
            to, held = version * MOST_LEVELS + level, ladder.shares[level]
            if level == 0:
                held += ladder.hidden_shares
            keys[to], price[to], out[to] = ladder.key[level], ladder.price_bps[level], held
            for before in range(ladder.n_levels * version):
                slots = math.floor(keys[to] / market.level_ticks), math.floor(keys[before] / market.level_ticks)
                if keys[before] == keys[to]:  # what was taken there is remembered
                    out[before], out[to] = max(out[before], held), 0.0
                elif (slots[0] - slots[1]) % SLOTS == 0:
                    collides = True
    if fixed.mid_probability[j] > 0.0:
        stream = stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP)
        u = uniform_at(stream, VENUE_DRAWS.u_mid)
        if u < fixed.mid_probability[j]:
            out[PARTS - 1] = -fixed.mid_fraction[j] * touch_shares * log(u / fixed.mid_probability[j])
    refilled = 1.0 - exp(-math.log(2.0) * 1e-3 * latest_ms / fixed.refill_half_life_s[j])
    again = 1.0 + waves * (1.0 if collides else refilled)  # later children meet what is refilled, or forgotten
    for part in range(PARTS):
        out[part] *= again


@dataclass(frozen=True)
class _Path:
    """One scenario without trading, by tick (T,): prices bounded from below, sizes from above."""

    price_bps: np.ndarray  # (T, K, PARTS), fees included, relative to the midpoint at arrival
    shares: np.ndarray
    dark_shares: np.ndarray  # (T, K), 0 at lit venues
    noise_bps: np.ndarray
    may_be_in_flight: np.ndarray  # bool: whether a child of an earlier tick may be unacknowledged
    opening_bps: float  # the efficient price at arrival, and
    closing_bps: float  # at the deadline
    cleanup_bps: float  # above it
    spared_bps: float  # the drift times what the schedule leaves, in bps of the order


def relaxed_bound(
    market: str | MarketSpec, env: str, scenarios: int, seed: int = 10_000, data_split: str = "test"
) -> np.ndarray:
    """A bounded cost (see the module) that no policy goes below, for each of these scenarios.

    Each scenario is a linear program over what is filled where, when and at which level, with the whole path known.
    Kept: levels and their sizes, hidden and midpoint size included, that a child could meet in the ticks in which one
    can arrive; what a dark pool holds until it is supplied anew; outages and halts; the schedule, where the env has
    one. Relaxed: fade, limits, protection, minimum executions, lots, and depletion from tick to tick are left out;
    impact and leaks cost nothing; a child chooses its time of arrival and the quote that it meets.

    Arguments are those of :func:`sor_sb3.evaluation.evaluator.evaluate`; only "OrderExecute-v1" has no schedule.

    Returns:
        float64 (scenarios,), in the market's cost unit.

    Raises:
        UserError: the market is a recording, or the env lets orders rest.
    """
    market = load_market(market)
    if isinstance(market, ReplayMarket):
        raise UserError(f"market '{market.name}' is a recording; the relaxed bound is for synthetic markets")
    adapter = make_action_adapter(env, market.n_venues)
    if adapter.rests:
        raise UserError(f"the relaxed bound is of marketable children; {adapter.env_id} also lets orders rest")
    scheduled = not adapter.paced
    seeds = np.arange(seed, seed + scenarios).astype(np.uint64)
    if not isinstance(market, SyntheticMarket):
        simulator = BatchSimulator(market, scenarios, data_split)
        simulator.reset(seeds, np.zeros(scenarios, dtype=np.int64))
        return _notebook_bounds(simulator, scheduled)
    found = np.empty(scenarios)
    for horizon, which, quantity in _orders(market, seeds, data_split):
        paths = _record(horizon, seeds[which], data_split, scheduled)
        found[which] = [_solve(path, horizon, q, scheduled) for path, q in zip(paths, quantity, strict=True)]
    return found


def _orders(
    market: SyntheticMarket, seeds: np.ndarray, data_split: str
) -> list[tuple[SyntheticMarket, np.ndarray, np.ndarray]]:
    """The market with each horizon that these scenarios draw, which ones draw it, and their quantities."""
    simulator = BatchSimulator(market, len(seeds), data_split)
    simulator.reset(seeds, np.zeros(len(seeds), dtype=np.int64))
    horizons, quantity = simulator.read("horizon_steps"), simulator.read("quantity_shares")
    found = []
    for horizon in np.unique(horizons):
        which = np.flatnonzero(horizons == horizon)
        found.append((market.with_order(horizon_steps=int(horizon)), which, quantity[which]))
    return found


def bounded_cost(core: RoutingCore, policy: Any, seeds: list[int]) -> np.ndarray:
    """The cost that `relaxed_bound` bounds, of an episode of `policy` (with SB3's ``predict``) for each of these seeds.

    Returns:
        float64 (N,), in the market's cost unit; its mean is the mean shortfall.
    """
    core.seed(list(seeds))
    rows, simulator = core.reset(), core.simulator
    truth = Truth(simulator)
    quantity = truth.quantity_shares
    total, running = np.zeros(core.n), np.full(core.n, True)
    while running.any():
        begins, noise_bps = truth.wave == 0, truth.tick_noise_bps
        carried = truth.remaining_shares - truth.available_shares
        actions, _ = policy.predict(rows, deterministic=True)
        rows, _, done = core.step(actions)
        carried = carried + truth.sent_shares.sum(axis=1)
        total -= np.where(running & begins, carried * noise_bps / quantity, 0.0)
        ended = np.flatnonzero(running & done)
        total[ended] += simulator.reduced_cost(ended)
        running &= ~done
    return total


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


def _record(market: SyntheticMarket, seeds: np.ndarray, data_split: str, scheduled: bool) -> list[_Path]:
    """The paths of all scenarios, played tick by tick without trading: the path does not depend on the step."""
    order, n, n_ticks = market.order, len(seeds), market.ticks_per_step
    tick_ms = 1e3 * market.path_dt_s
    steps = order.model_copy(update={"step_s": market.path_dt_s, "horizon_steps": order.horizon_steps * n_ticks})
    simulator = BatchSimulator(market.model_copy(update={"order": steps}), n, data_split)
    simulator.reset(seeds, np.zeros(n, dtype=np.int64))
    truth = Truth(simulator)
    expected_ms = truth.median_latency_ms + truth.speed_bump_ms
    waits_ms = (order.waves - 1) * order.wave_timeout_ms + np.zeros_like(expected_ms)
    if order.synchronise_arrivals:
        waits_ms += expected_ms.max(axis=1, keepdims=True) - expected_ms
    until_ms, answers_ms = np.full(expected_ms.shape, -1.0), np.full(n, -1.0)  # of children, from the coming tick on
    path: list[dict[str, np.ndarray]] = []
    spared, opening_bps = np.zeros(n), truth.price_bps
    for tick in range(steps.horizon_steps):
        in_flight = answers_ms > 0.0
        if tick % n_ticks == 0:
            latency_ms = np.zeros_like(expected_ms)
            _latencies(simulator.kernel_state(), order.waves, latency_ms)
            until_ms = np.maximum(until_ms, waits_ms + latency_ms)
            answers_ms = np.maximum(answers_ms, (waits_ms + 2.0 * latency_ms).max(axis=1))
            in_flight[:] = False  # what is sent at a decision counts as carried, as does what is in flight
        arriving = until_ms >= 0.0
        within_ms = np.where(arriving, np.minimum(until_ms, tick_ms), -1.0)
        rejects = (arriving & truth.outage).any(axis=1)
        rejected_ms = within_ms.max(axis=1) + market.response.outage_reject_ms
        answers_ms = np.where(rejects, np.maximum(answers_ms, rejected_ms), answers_ms)
        price, shares = np.zeros((2, *within_ms.shape, PARTS))
        _books(simulator.kernel_state(), within_ms, order.waves, price, shares)
        drift_bps = truth.next_price_bps - truth.price_bps - truth.tick_noise_bps
        if scheduled:
            spared += (1.0 - (tick // n_ticks + 1.0) / order.horizon_steps) * drift_bps
        path.append(
            {
                "price_bps": price + truth.take_fee_bps[:, :, None],
                "shares": shares,
                "dark_shares": np.where(truth.dark, truth.dark_shares, 0.0),
                "noise_bps": truth.tick_noise_bps,
                "may_be_in_flight": in_flight,
            }
        )
        until_ms = np.where(until_ms >= tick_ms, until_ms - tick_ms, -1.0)
        answers_ms -= tick_ms
        simulator.step(np.zeros_like(expected_ms))
    stacked: dict[str, Any] = {name: np.stack([step[name] for step in path], axis=1) for name in path[0]}
    stacked |= {"opening_bps": opening_bps, "closing_bps": truth.mark_bps, "spared_bps": spared}
    stacked["cleanup_bps"] = truth.worst_offered_bps + truth.cleanup_penalty_bps
    return [_Path(**{name: values[i] for name, values in stacked.items()}) for i in range(n)]


def _solve(path: _Path, market: SyntheticMarket, quantity_shares: float, scheduled: bool) -> float:
    """The bounded cost of the cheapest fills of one scenario, in bps of the order.

    A share that is filled in tick m costs its price; one that is not, the clean-up's, and the noise of every tick that
    it sees begin is left out. So a fill saves the clean-up's price and earns the noise after its own tick. In a tick in
    which children may be in flight, all that is left may be, and the noise is not left out.
    """
    steps, shares = market.order.horizon_steps, path.shares / quantity_shares  # of the order, for the solver
    after = np.cumsum(path.noise_bps[::-1])[::-1] - path.noise_bps  # noise of the ticks after each
    left_bps = path.closing_bps + path.cleanup_bps
    slope = path.price_bps - left_bps + after[:, None, None]
    constant = left_bps - path.opening_bps - path.noise_bps.sum() - path.spared_bps
    t, k, part = np.nonzero((shares > 1e-9) & (slope < 0.0))
    exposed = np.flatnonzero(path.may_be_in_flight & (path.noise_bps < 0.0))
    if not t.size:
        return float(constant + path.noise_bps[exposed].sum() - TOLERANCE_BPS)
    rows, room = [np.full((1, t.size), True)], [np.ones(1)]
    if scheduled:
        rows = [t[None, :] // market.ticks_per_step <= np.arange(steps)[:, None]]
        room = [np.arange(1, steps + 1) / steps]
    for venue in np.flatnonzero(path.dark_shares.any(axis=0)):
        held = path.dark_shares[:, venue] / quantity_shares
        supply = np.cumsum(np.diff(held, prepend=-1.0) != 0.0)  # counts how often it was supplied or went dry
        spells = np.unique(supply[t[k == venue]])
        rows.append((k == venue)[None, :] & (supply[t][None, :] == spells[:, None]))
        room.append(np.array([held[np.argmax(supply == spell)] for spell in spells]))
    fills = sparse.csr_matrix(np.concatenate(rows).astype(float))
    before = sparse.csr_matrix((t[None, :] < exposed[:, None]).astype(float))
    most = np.concatenate([shares[t, k, part], np.ones(exposed.size)])
    solution = linprog(
        np.concatenate([slope[t, k, part], path.noise_bps[exposed]]),
        A_ub=sparse.bmat([[fills, None], [before, sparse.eye(exposed.size)]]) if exposed.size else fills,
        b_ub=np.concatenate([*room, np.ones(exposed.size)]),
        bounds=np.stack([np.zeros(most.size), most], axis=1),
        method="highs",
    )
    if solution.status != 0:
        raise RuntimeError(f"the linear program of a bound was not solved: {solution.message}")
    return float(solution.fun + constant - TOLERANCE_BPS)
