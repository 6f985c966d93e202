"""The oracle of one wave: a router that reads true books at arrival. A bound, not a strategy."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.envs.action_adapters import ActionAdapter, make_action_adapter
from sor_sb3.envs.core import RoutingCore
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.protocol import Oracle
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.book import LADDER, fill_of, ladder_at, left_of, remove
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.elementary import exp
from sor_sb3.simulator.execution import (
    best_observed_bps,
    fade_of,
    held_back_ms,
    latest_expected_ms,
    limit_of,
    print_fill,
    push_bps,
    takes_orders,
    untaken_quotes,
)
from sor_sb3.simulator.state import MOST_LEVELS, lanes
from sor_sb3.simulator.views import Truth

LOTS = 32  # equal lots that the oracle splits a wave's shares into, where the market does not say
NEVER_MS = math.inf  # arrival of a child that finds no book that one could know now
SEARCHES, MOST_ROUNDS = 2, 200  # from so many starts; a search takes 3 rounds as a rule

BOOKS = np.dtype(  # what children meet, by venue
    [
        ("ladder", LADDER),
        ("shares", "f8", (MOST_LEVELS,)),  # of the ladder's levels, before fade
        ("arrives_ms", "f8"),
        ("turn", "i8"),  # the venues in the order of arrival
        ("filled", "f8"),  # of the placement at hand
        ("latest_ms", "f8"),  # of the first venue's record: which children these arrivals wait for
    ],
    align=True,
)


class Posted(NamedTuple):
    """What becomes of lots that rest, by their number, if they go where they save most; empty where none may."""

    filled: np.ndarray  # (lots + 1,), shares that fill in the step
    cost: np.ndarray  # (lots + 1,), of these
    leaked: np.ndarray  # (lots + 1,), bps
    dark: np.ndarray  # (K, lots + 2), of the shares those in each dark pool; last all that it would fill
    price: np.ndarray  # (K,), of fills
    whole: float  # what a lot is of a whole one of the market's, which alone may rest


@njit
def no_posts() -> Posted:
    """Nothing may rest."""
    return Posted(np.empty(0), np.empty(0), np.empty(0), np.empty((0, 0)), np.empty(0), 1.0)


@njit
def resting_lots(lots: Any, posted: Any) -> int:
    """How many whole lots of the market's rest, of `lots` (K + 2,): no more than those that are not taken."""
    if posted.filled.size == 0:
        return 0
    return min(lots[-2], math.floor((lots[-2] + lots[-1]) * posted.whole + 1e-9))


# ------------------------------------------------------------------------------------ what a placement costs


@njit
def _look_up(order: Any, latest_ms: float, books: Any) -> None:
    """Read the book that each venue's child meets, the one in flight or one sent now, and sort them by arrival."""
    block, i, fixed, market, recording = order
    tick_ms, begin = 1e3 * market.path_dt_s, i * market.n_venues
    books[0].latest_ms = latest_ms
    for k in range(market.n_venues):
        j, book = begin + k, books[k]
        arrives_ms = block.child_arrives_ms[j]
        if block.child_shares[j] <= 0.0:
            arrives_ms = block.elapsed_ms[i] + held_back_ms(fixed, j, market, latest_ms) + block.latency_ms[j]
        known = 0.0 <= arrives_ms < tick_ms and takes_orders(block, j)
        book.arrives_ms, book.turn = arrives_ms if known else NEVER_MS, k
        if known:
            ladder_at(block, i, j, fixed, market, recording, arrives_ms, math.inf, book.ladder)
            book.shares[:] = book.ladder.shares
        at = k
        while at > 0 and books[books[at - 1].turn].arrives_ms > book.arrives_ms:
            books[at].turn = books[at - 1].turn
            at -= 1
        books[at].turn = k


@njit
def _fill(order: Any, j: int, books: Any, limit_bps: float, shares: float, fade_shares: float) -> tuple[float, float]:
    """What a child of `shares` takes of its book, faded: shares, and what they cost in bps x shares, fee included."""
    _, i, fixed, market, _ = order
    book = books[j - i * market.n_venues]
    ladder = book.ladder
    for level in range(ladder.n_levels):
        ladder.shares[level] = book.shares[level]
    remove(ladder, fade_shares)
    filled, value = fill_of(ladder, shares, limit_bps, fixed.min_execution_shares[j])
    return filled, value + filled * fixed.take_fee_bps[j]


@njit
def _cost(order: Any, lots: Any, lot: float, ceiling: float, books: Any, posted: Any, printed: Any) -> float:
    """Cost (bps x shares) of whole `lots` (K,) as children: fills, what they push the rest up by, and what is left.

    What is left costs `ceiling` a share. Where `posted` is not empty (see `Posted`), the entry of `lots` after the
    venues' are lots that rest. `printed` is what we filled before in this decision. The functions that fill
    children in the simulator fill them here, in the same order, on the copy of the state that the oracle works on.
    """
    block, i, fixed, market, _ = order
    begin, n_venues = i * market.n_venues, market.n_venues
    for j in lanes(i, market):
        block.sent_shares[j] = lots[j - begin] * lot if block.child_shares[j] <= 0.0 else 0.0
    if market.synchronise == 1:
        latest_ms = latest_expected_ms(block, i, fixed, market)
        if latest_ms != books[0].latest_ms:
            _look_up(order, latest_ms, books)
    observed_bps, untaken = best_observed_bps(block, i, fixed, market), (-1, math.inf, math.inf)
    if market.order_protection == 1:
        untaken = untaken_quotes(block, i, fixed, market, True)
    _recall(block, i, market, printed)
    above_bps = block.observed_mid_bps[i] - push_bps(block, i)
    cost, left, pushed, leaked, at = 0.0, block.remaining_shares[i], 0.0, 0.0, 0
    for j in lanes(i, market):
        leaked += fixed.leak_bps_per_share[j] * block.sent_shares[j]
    resting = resting_lots(lots, posted)
    if posted.filled.size > 0:
        left -= posted.filled[resting]
        cost += posted.cost[resting]
        leaked += posted.leaked[resting]
    while at < n_venues:
        at_ms, end = books[books[at].turn].arrives_ms, at
        if at_ms == NEVER_MS:
            break
        while end < n_venues and books[books[end].turn].arrives_ms == at_ms:
            j, filled = begin + books[end].turn, 0.0
            shares, limit_bps = block.child_shares[j], block.child_limit_bps[j] - push_bps(block, i)
            if shares <= 0.0:
                shares = block.sent_shares[j]
                limit_bps = limit_of(block, fixed, market, j, observed_bps, untaken) + above_bps
            if shares > 0.0:
                fade_shares = fade_of(block, i, j, fixed, market, at_ms)
                filled, paid = _fill(order, j, books, limit_bps, shares, fade_shares)
                cost += paid
                left -= filled
                pushed += fixed.impact[j] * filled
                if posted.filled.size > 0 and fixed.dark[j] == 1.0:  # the pool holds so much in all
                    twice = max(filled + posted.dark[j - begin, resting] - posted.dark[j - begin, -1], 0.0)
                    twice = min(twice, posted.dark[j - begin, resting])
                    left += twice
                    cost -= twice * posted.price[j - begin]
            books[j - begin].filled = filled
            end += 1
        for turn in range(at, end):
            k = books[turn].turn
            if books[k].filled > 0.0:
                print_fill(block, i, begin + k, market, at_ms, books[k].filled)
        at = end
    return cost + left * (ceiling + _push_of(order, pushed, leaked))


@njit
def _push_of(order: Any, pushed: float, leaked_bps: float) -> float:
    """By how much these fills and leaks raise what is left, on average until the deadline."""
    block, i, _, market, _ = order
    half_life_s, leaks = market.transient_half_life_s, 1.0
    lasting = left_of(1.0, market.step_s - 1e-3 * block.elapsed_ms[i], half_life_s)
    x = math.log(2.0) * market.step_s * (market.horizon_steps - 1.0 - block.step[i]) / half_life_s
    if x > 1e-9:
        lasting *= (1.0 - exp(-x)) / x
    else:
        leaks -= market.leak_decay
    return pushed * (market.permanent_bps_per_share + lasting * market.transient_bps_per_share) + leaked_bps * leaks


@njit
def _longest_expected_ms(block: Any, i: int, fixed: Any, market: Any) -> float:
    """What children wait for if one goes to every venue that can take one."""
    for j in lanes(i, market):
        block.sent_shares[j] = 1.0 if block.child_shares[j] <= 0.0 else 0.0
    return latest_expected_ms(block, i, fixed, market)


@njit
def _remember(block: Any, i: int, market: Any, printed: Any) -> None:
    printed[0], printed[1], printed[2] = block.printed_shares[i], block.printed_fresh_shares[i], block.printed_ms[i]
    at = 3
    for j in lanes(i, market):
        printed[at], printed[at + 1] = block.venue_printed_shares[j], block.venue_printed_fresh_shares[j]
        printed[at + 2] = block.venue_printed_ms[j]
        at += 3


@njit
def _recall(block: Any, i: int, market: Any, printed: Any) -> None:
    block.printed_shares[i], block.printed_fresh_shares[i], block.printed_ms[i] = printed[0], printed[1], printed[2]
    at = 3
    for j in lanes(i, market):
        block.venue_printed_shares[j], block.venue_printed_fresh_shares[j] = printed[at], printed[at + 1]
        block.venue_printed_ms[j] = printed[at + 2]
        at += 3


# --------------------------------------------------------------------------------- the cheapest placement


@njit
def _next_quote_bps(block: Any, fixed: Any, i: int, market: Any, above_bps: float) -> float:
    """The lowest observed quote above a price; infinite where there is none, or no order protection."""
    lowest = math.inf
    for j in lanes(i, market):
        if market.order_protection == 1 and fixed.dark[j] == 0.0 and block.observed_shares[j] > 0.0:
            if block.observed_offset_bps[j] > above_bps:
                lowest = min(lowest, block.observed_offset_bps[j])
    return lowest


@njit
def _separable_costs(
    order: Any, lot: float, ceiling: float, saturated: bool, untaken_bps: float, books: Any, costs: Any
) -> None:
    """Costs (K, lots + 1) of each venue by itself, against leaving all: blind to fade, or as if the rest had filled.

    The best observed quote that is left is at `untaken_bps`: all better ones are taken whole.
    """
    block, i, fixed, market, _ = order
    observed_bps, untaken = best_observed_bps(block, i, fixed, market), (-1, untaken_bps, math.inf)
    above_bps, n_lots = block.observed_mid_bps[i] - push_bps(block, i), costs.shape[1] - 1
    first_ms = books[books[0].turn].arrives_ms
    for j in lanes(i, market):
        k, needed = j - i * market.n_venues, 0.0
        if market.order_protection == 1 and fixed.dark[j] == 0.0 and block.observed_offset_bps[j] < untaken_bps:
            needed = block.observed_shares[j] * (1.0 - 1e-9)
        costs[k, :] = 0.0
        arrives_ms, leak = books[k].arrives_ms, fixed.leak_bps_per_share[j]
        limit_bps = limit_of(block, fixed, market, j, observed_bps, untaken) + above_bps
        known = arrives_ms < NEVER_MS and block.child_shares[j] <= 0.0
        late = 1.0 - exp(-(arrives_ms - first_ms) / market.reaction_time_ms) if known else 0.0
        for x in range(n_lots + 1):
            filled, paid = 0.0, 0.0
            if known and x > 0:
                fade_shares = fixed.toxicity[j] * late * (n_lots - x) * lot if saturated else 0.0
                filled, paid = _fill(order, j, books, limit_bps, x * lot, fade_shares)
            rest = block.remaining_shares[i] - filled
            costs[k, x] = paid - filled * ceiling + rest * _push_of(order, fixed.impact[j] * filled, leak * x * lot)
            if x * lot < needed:
                costs[k, x] = np.inf


@njit
def _place(costs: Any, best: Any, choice: Any) -> None:
    """Cheapest way to place 0, 1, 2, ... lots: ``best[k + 1, m] = min_x best[k, m - x] + costs[k, x]``."""
    n_venues, size = costs.shape
    best[0, 0] = 0.0
    best[0, 1:] = np.inf
    for k in range(n_venues):
        for m in range(size):
            lowest, at = np.inf, 0
            for x in range(m + 1):
                cost = best[k, m - x] + costs[k, x]
                if cost < lowest:
                    lowest, at = cost, x
            best[k + 1, m], choice[k, m] = lowest, at


@njit
def _exchange(
    order: Any, lots: Any, lot: float, ceiling: float, may_wait: bool, books: Any, posted: Any, printed: Any
) -> float:
    """Move 1, 2, 4, ... or all lots from place to place while it gets cheaper; the last of `lots` are kept back."""
    places = lots.size
    targets, lowest = places - (0 if may_wait else 1), _cost(order, lots, lot, ceiling, books, posted, printed)
    for _ in range(MOST_ROUNDS):
        improved = False
        for a in range(places):
            for b in range(targets):
                moved = 1
                while a != b and lots[a] > 0:
                    moved = min(moved, lots[a])
                    lots[a] -= moved
                    lots[b] += moved
                    cost = _cost(order, lots, lot, ceiling, books, posted, printed)
                    if cost < lowest - 1e-12 * (1.0 + abs(lowest)):
                        lowest, improved = cost, True
                    else:
                        lots[a] += moved
                        lots[b] -= moved
                        if moved == lots[a]:
                            break
                        moved *= 2
        if not improved:
            break
    return lowest


@njit
def _start(
    order: Any, n_lots: int, lot: float, may_wait: bool, ceiling: float, books: Any, posted: Any, starts: Any
) -> int:
    """Fill `starts` (.., places + 1) with placements that would be best if each could be priced by itself; how many."""
    block, i, fixed, market, _ = order
    places, n = starts.shape[1] - 1, 0
    costs, best = np.empty((places, n_lots + 1)), np.empty((places + 1, n_lots + 1))
    choice = np.empty((places, n_lots + 1), np.int64)
    for x in range(n_lots + 1 if posted.filled.size > 0 else 0):
        rest = block.remaining_shares[i] - posted.filled[x]
        leak = rest * _push_of(order, 0.0, posted.leaked[x])
        costs[places - 1, x] = posted.cost[x] - posted.filled[x] * ceiling + leak
    untaken_bps = -math.inf
    while untaken_bps < math.inf:
        untaken_bps = _next_quote_bps(block, fixed, i, market, untaken_bps)
        for saturated in range(2):
            _separable_costs(order, lot, ceiling, saturated == 1, untaken_bps, books, costs)
            _place(costs, best, choice)
            left = int(np.argmin(best[places])) if may_wait else n_lots
            if best[places, left] == np.inf:  # not lots enough to take all better quotes
                continue
            starts[n, places] = n_lots - left
            for k in range(places - 1, -1, -1):
                starts[n, k] = choice[k, left]
                left -= choice[k, left]
            n += 1
    return n


@njit
def route(
    order: Any,
    n_lots: int,
    lot: float,
    may_wait: bool,
    may_pause: bool,
    ceiling: float,
    books: Any,
    posted: Any,
    out: Any,
) -> float:
    """Fill `out` with the cheapest whole lots found; returns what the placement costs.

    It is (K + 1,), last those kept back; where orders may rest (see `_cost`) it is (K + 2,), those that rest before.

    Any number of lots may be kept back if the router `may_wait`, or else all of them if it `may_pause`. Fade depends on
    what fills elsewhere before, so that venues cannot be priced one by one. Dynamic programming over venues as if they
    could (without fade, and with all of it; for every price up to which all better quotes are taken) gives the starts,
    and the cheapest of them begin a search that exchanges lots.
    """
    block, i, fixed, market, _ = order
    n_venues, printed = market.n_venues, np.empty(3 + 3 * market.n_venues)
    _remember(block, i, market, printed)
    _look_up(order, _longest_expected_ms(block, i, fixed, market), books)
    starts, lowest = np.zeros((2 * n_venues + 3, out.size), np.int64), np.inf
    n = _start(order, n_lots, lot, may_wait, ceiling, books, posted, starts)
    if may_wait or may_pause:
        starts[n, -1] = n_lots
        n += 1
    costs = np.empty(n)
    for start in range(n):
        costs[start] = _cost(order, starts[start], lot, ceiling, books, posted, printed)
    for _ in range(SEARCHES):
        start = int(np.argmin(costs))
        cost = costs[start]
        if cost == np.inf:
            break
        costs[costs == cost] = np.inf
        if may_wait or starts[start, -1] == 0:
            cost = _exchange(order, starts[start], lot, ceiling, may_wait, books, posted, printed)
        if cost < lowest:
            lowest = cost
            out[:] = starts[start]
    return lowest


@njit
def _select(order: Any, shares: float, ceiling: float, books: Any, out: Any) -> float:
    """The one venue that takes all `shares` most cheaply, into zeros."""
    block, i, fixed, market, _ = order
    printed = np.empty(3 + 3 * market.n_venues)
    _remember(block, i, market, printed)
    _look_up(order, _longest_expected_ms(block, i, fixed, market), books)
    lowest, best = np.inf, 0
    for k in range(market.n_venues):
        out[k] = 1
        cost = _cost(order, out, shares, ceiling, books, no_posts(), printed)
        out[k] = 0
        if cost < lowest:
            lowest, best = cost, k
    out[best] = 1
    return lowest


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
    out[choice] = 1


@entry_point()
def _route_batch(state: Any, ceilings: Any, one_venue: bool, may_wait: bool, out: Any, pace: Any, costs: Any) -> None:
    """Fill `out` (N, K + 1), see `route`, `pace` (N,), the share of what is offered that is sent, and `costs` (N,)."""
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    books, posted = np.empty(state.market[0].n_venues, BOOKS), no_posts()
    for member in range(len(out)):
        block, fixed = state.blocks[member // per_block], state.venues[member // per_block if drawn else 0]
        i, market, row = member % per_block, state.market[member if drawn else 0], out[member]
        order, shares = (block, i, fixed, market, state.recording), block.slice_shares[i]
        costs[member], pace[member] = 0.0, 0.0
        if may_wait and block.wave[i] == 0:
            shares = block.available_shares[i]
        if market.fills_all == 1:
            _cheapest(block, i, market, row)
            pace[member] = block.slice_shares[i] / max(block.available_shares[i], 1e-300)
        elif not shares > 0.0 or block.remaining_shares[i] <= 0.0:
            row[0] = 1
        elif one_venue:
            costs[member] = _select(order, shares, ceilings[member], books, row)
        else:
            lots = LOTS if market.lot_shares <= 0.0 else max(math.ceil(shares / market.lot_shares - 1e-9), 1)
            may_pause = block.wave[i] > 0
            ceiling = ceilings[member]
            costs[member] = route(order, lots, shares / lots, may_wait, may_pause, ceiling, books, posted, row)
            pace[member] = 1.0 - row[-1] / lots


# -------------------------------------------------------------------------------- what a share left for later costs


class Continuation(NamedTuple):
    """What a share costs that is left for later, above the efficient price, but for its expected drift."""

    price_bps: float = 0.0
    per_slice_bps: float = 0.0  # more for each even slice that the order is behind its schedule
    scheduled: bool = False  # `OrderExecute`: whether no more is offered than the schedule wants


FIT_SCENARIOS, FIT_SEED = 100, 20_000  # of the validation scenarios
_FITTED: dict[tuple[str, str], Continuation] = {}


def fitted_continuation(market: MarketSpec, env_id: str) -> Continuation:
    """The continuation with which the oracle of this market and env is cheapest on validation scenarios.

    It is found once a process, always the same: on a grid, then by halving steps. Where the env lets the oracle keep
    shares back, what it would do without that freedom is one of the candidates: freedom does not make it dearer.
    """
    adapter = make_action_adapter(env_id, market.n_venues)
    plain = json.dumps(market.without_prose(), sort_keys=True)
    key = hashlib.sha256(plain.encode()).hexdigest(), adapter.env_id
    if key not in _FITTED:
        _FITTED[key] = _fit(market, adapter)
    return _FITTED[key]


def _fit(market: MarketSpec, adapter: ActionAdapter) -> Continuation:
    if not market.has_partial_fills or (market.order.horizon_steps == 1 and not market.draws_order):
        return Continuation()
    scale, costs = max(abs(market.scales[0]), 1e-3), dict[Continuation, float]()

    def best_of(*candidates: Continuation) -> Continuation:
        for candidate in candidates:
            if candidate not in costs:
                costs[candidate] = _mean_cost(market, adapter, candidate)
        return min(costs, key=lambda c: costs[c])

    if adapter.paced:
        best_of(fitted_continuation(market, "OrderSplit-v1")._replace(scheduled=True))
    best = best_of(*(Continuation(times * scale) for times in (1.0, 2.0, 4.0)))
    best = best_of(*(best._replace(per_slice_bps=slope * scale) for slope in (0.05, 0.5)))
    for step in (1.4, 1.2):
        best = best_of(*(best._replace(price_bps=best.price_bps * factor) for factor in (1.0 / step, step)))
    return best


def _mean_cost(market: MarketSpec, adapter: ActionAdapter, continuation: Continuation) -> float:
    """The oracle's mean variance-reduced cost with a continuation, on the validation scenarios."""
    simulator = BatchSimulator(market, FIT_SCENARIOS, "validation")
    seeds = np.arange(FIT_SEED, FIT_SEED + FIT_SCENARIOS, dtype=np.uint64)
    simulator.reset(seeds, np.zeros(FIT_SCENARIOS, dtype=np.int64))
    total, running = 0.0, np.full(FIT_SCENARIOS, True)
    while running.any():
        lots, pace, _ = place(simulator, adapter, continuation)
        weights = lots / np.maximum(lots.sum(axis=1, keepdims=True), 1)
        cost, noise, done = simulator.step(weights, pace if adapter.paced else None)
        total += float((cost - noise)[running].sum())
        running &= ~done
    return total / FIT_SCENARIOS


def place(
    simulator: BatchSimulator, adapter: ActionAdapter, continuation: Continuation
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The cheapest children for every member of a simulator: lots (n, K), pace (n,), and their cost (n,).

    Lots that are all 0 hold the wave back. The cost is in bps x shares, relative to the midpoint at arrival.
    """
    copy, market = simulator.branch(np.arange(simulator.n)), simulator.market
    out, pace = np.zeros((simulator.n, market.n_venues + 1), np.int64), np.zeros(simulator.n)
    costs, may_wait = np.zeros(simulator.n), adapter.paced and not continuation.scheduled
    _route_batch(copy.kernel_state(), _ceilings(simulator, continuation), adapter.masked, may_wait, out, pace, costs)
    if adapter.paced and continuation.scheduled:
        truth = Truth(simulator)
        offered = np.where(truth.wave == 0, truth.available_shares, truth.returned_shares)
        pace *= truth.slice_shares / np.maximum(offered, 1e-300)
    return out[:, :-1], pace, costs


def _ceilings(simulator: BatchSimulator, continuation: Continuation) -> np.ndarray:
    """What a share costs that is left, relative to the midpoint at arrival, float64 (n,).

    After the last decision that is the clean-up's price, which is read off the path ahead; before, the `continuation`
    and the drift expected in a step. In an early wave, too: what comes back can be kept for the next decision.
    """
    order, truth = simulator.market.order, Truth(simulator)
    if not simulator.market.has_partial_fills:
        return np.zeros(simulator.n)
    horizon = truth.horizon_steps
    behind = truth.remaining_shares * horizon / truth.quantity_shares - horizon + truth.step
    price_bps = continuation.price_bps + continuation.per_slice_bps * behind
    drift_s = 0.0
    if hasattr(simulator.market, "price"):
        half_life_s = simulator.market.price.drift_half_life_s
        drift_s = half_life_s / math.log(2.0) * (1.0 - 2.0 ** (-order.step_s / half_life_s))
    ceilings: np.ndarray = truth.mark_bps + price_bps + truth.drift_bps_per_s * drift_s
    last = np.flatnonzero((truth.step == horizon - 1) & (truth.remaining_shares > 0.0))
    if last.size:
        ahead = simulator.branch(last)
        ahead.step(np.zeros((last.size, simulator.market.n_venues)))
        end = Truth(ahead)
        decay = 0.5 ** ((order.step_s - 1e-3 * truth.elapsed_ms) / truth.transient_half_life_s)
        push_bps = truth.leak_bps * (1.0 - truth.leak_decay) - truth.transient_bps * (1.0 - decay)
        ceilings[last] = end.mark_bps + end.worst_offered_bps + end.cleanup_penalty_bps + push_bps[last]
    return ceilings


class SnapshotOracle(Oracle):
    """Places a wave's shares with full knowledge of books, latencies and sizes at arrival; blind to what comes after.

    The oracle places whole lots: the market's, or 32 equal lots of the wave's shares where the market has none. A share
    that comes back, or that ``OrderExecute-v1`` lets the oracle keep, is charged what a share left for later costs
    (`fitted_continuation`; at the last decision, the clean-up's price), and what is left is charged the push of what
    fills. In ``VenueSelect-v1`` the oracle takes the one cheapest venue. A child that arrives after the path's tick is
    taken to come back. The oracle is myopic: a policy may be cheaper, and reports say so.
    """

    name = "snapshot_oracle"

    def __init__(self, core: RoutingCore, continuation: Continuation | None = None) -> None:
        super().__init__(core)
        self.continuation = continuation or fitted_continuation(core.market, core.env_id)

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, ...) by which the lots of `place` go out."""
        lots, pace, _ = place(self.core.simulator, self.core.action_adapter, self.continuation)
        return self.core.action_adapter.encode(lots / np.maximum(lots.sum(axis=1, keepdims=True), 1), pace)
