"""The oracle of one step where orders may rest: a router that knows the coming step. A bound, not a strategy."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.envs.core import RoutingCore
from sor_sb3.errors import UserError
from sor_sb3.market.spec import MarketSpec
from sor_sb3.policies.oracles.snapshot import BOOKS, FIT_SCENARIOS, FIT_SEED, LOTS, Posted, resting_lots, route
from sor_sb3.policies.protocol import Oracle
from sor_sb3.simulator.batch import BatchSimulator
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.views import Truth

SURPLUS_VENUES = 4  # where shares rest that the coming step does not fill, at most


class Patience(NamedTuple):
    """What a share costs that the coming step leaves, above the efficient price at its end, and how many rest."""

    price_bps: float = 0.0
    per_slice_bps: float = 0.0  # more for each even slice that the order is behind its schedule
    resting: float = 0.0  # share of what is left that rests for the steps to come


class Prospect(NamedTuple):
    """What the coming step does with what rests, by member and venue (n, K); prices apart from our own push so far.

    Attributes:
        kept_shares: of orders that are neither being cancelled nor too far behind the touch.
        kept_fill: shares that will fill of all that rests now, if nothing is cancelled; at `kept_bps` all-in.
        new_fill: shares that will fill of an order, however large, that is sent now; at `new_bps` all-in.
        end_bps: (n,), the efficient price at the end of the step, with what is left of our own push.
        cleanup_bps: (n,), what the clean-up then charges above it.
    """

    kept_shares: np.ndarray
    kept_fill: np.ndarray
    kept_bps: np.ndarray
    new_fill: np.ndarray
    new_bps: np.ndarray
    end_bps: np.ndarray
    cleanup_bps: np.ndarray


# ------------------------------------------------------------------------------------------------ the coming step


def _kept_shares(simulator: BatchSimulator, truth: Truth) -> np.ndarray:
    """Shares (n, K) of orders that the simulator counts towards a target: see `set_targets`."""
    n, n_venues = truth.dark.shape
    rests = {
        name: getattr(truth, f"rest_{name}").reshape(n, n_venues, -1) for name in ("shares", "cancel_shares", "key")
    }
    cancelling = rests["cancel_shares"] > 0.0
    pending = truth.rest_cancel_ms.reshape(rests["key"].shape) >= 0.0
    kept = np.maximum(rests["shares"] - np.where(cancelling & pending, rests["cancel_shares"], 0.0), 0.0)
    near = np.floor((truth.observed_bid_bps - truth.grid_bps[:, None]) / truth.tick_bps[:, None] + 0.5)
    behind = near[:, :, None] - rests["key"] > truth.repeg_ticks[:, None, None]
    kept[behind & ~cancelling & ~truth.dark[:, :, None]] = 0.0
    shares: np.ndarray = kept.sum(axis=2)
    return shares


def _pass_step(simulator: BatchSimulator, targets: np.ndarray, more_shares: np.ndarray) -> Truth:
    """A branch after the coming step, in which nothing is taken, and `targets` (n, K) of shares rest.

    The order has `more_shares` (n,) than it has. Nothing here depends on that, since what rests moves nothing.
    """
    ahead = simulator.branch(np.arange(simulator.n))
    truth = Truth(ahead)
    available, step = truth.available_shares + more_shares, truth.step
    ahead.overwrite(available_shares=available, remaining_shares=truth.remaining_shares + more_shares)
    base = np.maximum(available + truth.resting_shares, 1e-300)[:, None]
    nothing, rest = np.zeros(targets.shape), targets / base
    for _ in range(simulator.market.order.waves):
        ahead.step(nothing, np.zeros(simulator.n), rest=rest)
        if (truth.step > step).all():
            break
        ahead = ahead.branch(np.arange(simulator.n))
    return truth


def prospect(simulator: BatchSimulator) -> Prospect:
    """What the coming step does with what rests and with what could."""
    order, truth = simulator.market.order, Truth(simulator)
    kept = _kept_shares(simulator, truth)
    push_bps = (truth.permanent_bps + truth.transient_bps)[:, None]
    first = (truth.wave == 0) & (truth.remaining_shares > 0.0)
    enough = np.where(first, truth.available_shares + 2.0 * (order.lot_shares or 0.0), 0.0)
    enough = np.where(truth.available_shares > 0.0, enough, 0.0)
    without = _pass_step(simulator, kept, np.zeros(simulator.n))
    more = _pass_step(simulator, kept + enough[:, None], enough * simulator.market.n_venues - enough * 0.5)
    fills, values = (
        [getattr(t, name) * first[:, None] for t in (without, more)] for name in ("passive_shares", "passive_value_bps")
    )
    new_fill, new_value = np.maximum(fills[1] - fills[0], 0.0), values[1] - values[0]
    fee_bps = truth.make_fee_bps - push_bps

    def price(value: np.ndarray, shares: np.ndarray) -> np.ndarray:
        return np.divide(value, shares, out=np.zeros_like(value), where=shares > 0.0) + fee_bps

    decay = 0.5 ** ((order.step_s - 1e-3 * truth.elapsed_ms) / truth.transient_half_life_s)
    end_bps = without.mark_bps + truth.leak_bps * (1.0 - truth.leak_decay) - truth.transient_bps * (1.0 - decay)
    cleanup_bps = without.worst_offered_bps + without.cleanup_penalty_bps
    return Prospect(
        kept, fills[0], price(values[0], fills[0]), new_fill, price(new_value, new_fill), end_bps, cleanup_bps
    )


# ---------------------------------------------------------------------------------------- the cheapest placement


@njit
def _post_greedily(
    lots: int,
    lot: float,
    whole: float,
    ceiling: float,
    coming: float,
    fill: Any,
    price: Any,
    leak: Any,
    dark: Any,
    turn: Any,
) -> Posted:
    """What lots that rest will come to, and in `turn` (lots,) the venue of each further lot.

    The next lot goes where most is saved against the `ceiling`; from where nothing is, `turn` is -1.
    """
    used, dark_fill = np.zeros(fill.size), np.zeros((fill.size, lots + 2))
    posted = Posted(np.zeros(lots + 1), np.zeros(lots + 1), np.zeros(lots + 1), dark_fill, price, whole)
    posted.filled[0] = coming
    for x in range(lots):
        most, best = 0.0, -1
        for k in range(fill.size):
            saved = max(min(lot, fill[k] - used[k] * lot), 0.0) * (ceiling - price[k])
            if saved > most:
                most, best = saved, k
        turn[x] = best
        filled, paid, leaked = 0.0, 0.0, 0.0
        posted.dark[:, x + 1] = posted.dark[:, x]
        if best >= 0:
            filled = max(min(lot, fill[best] - used[best] * lot), 0.0)
            paid, leaked = filled * price[best], leak[best] * lot
            used[best] += 1.0
            if dark[best] == 1.0:
                posted.dark[best, x + 1] += filled
        posted.filled[x + 1] = posted.filled[x] + filled
        posted.cost[x + 1] = posted.cost[x] + paid
        posted.leaked[x + 1] = posted.leaked[x] + leaked
    for k in range(fill.size):
        posted.dark[k, lots + 1] = fill[k]
    return posted


@entry_point()
def _place_batch(
    state: Any, ceilings: Any, coming: Any, new_fill: Any, new_bps: Any, venues: Any, takes: Any, posts: Any, out: Any
) -> None:
    """Fill `takes` and `posts` (N, K) with lots, and `out` (N, 2) with the shares of a lot and how many are kept."""
    drawn, per_block = state.market.size > 1, state.market[0].block_orders
    n_venues = state.market[0].n_venues
    books, row = np.empty(n_venues, BOOKS), np.zeros(n_venues + 2, np.int64)
    for member in range(len(out)):
        block, fixed = state.blocks[member // per_block], state.venues[member // per_block if drawn else 0]
        i, market = member % per_block, state.market[member if drawn else 0]
        shares = block.available_shares[i] if block.wave[i] == 0 else block.returned_shares[i]
        if not shares > 0.0 or block.remaining_shares[i] <= 0.0:
            continue
        lots = LOTS if market.lot_shares <= 0.0 else max(math.ceil(shares / market.lot_shares - 1e-9), 1)
        order, lot, ceiling = (block, i, fixed, market, state.recording), shares / lots, ceilings[member]
        turn, fill, price = np.empty(lots, np.int64), new_fill[member], new_bps[member]
        leak, dark = venues[0, member], venues[1, member]
        least = market.lot_shares if market.lot_shares > 0.0 else lot
        posted = _post_greedily(lots, least, lot / least, ceiling, coming[member], fill, price, leak, dark, turn)
        row[:] = 0
        route(order, lots, lot, True, True, ceiling, books, posted, row)
        out[member, 0], out[member, 1] = lot, row[n_venues + 1]
        for k in range(n_venues):
            takes[member, k] = row[k]
        for x in range(resting_lots(row, posted)):
            if turn[x] >= 0:
                posts[member, turn[x]] += 1
                out[member, 1] -= 1
        out[member, 1] += row[n_venues]


def plan(simulator: BatchSimulator, patience: Patience) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the oracle does for every member of a simulator: weights to take (n, K), pace (n,), weights that rest."""
    order, truth, n_venues = simulator.market.order, Truth(simulator), simulator.market.n_venues
    coming = prospect(simulator)
    horizon = truth.horizon_steps
    behind = truth.remaining_shares * horizon / truth.quantity_shares - horizon + truth.step
    left_bps = patience.price_bps + patience.per_slice_bps * behind
    is_last = truth.step >= horizon - 1
    ceilings = coming.end_bps + np.where(is_last, coming.cleanup_bps, left_bps)
    venues = np.stack([truth.leak_bps_per_share, truth.dark.astype(np.float64)])
    takes, posts = np.zeros((2, simulator.n, n_venues), np.int64)
    out = np.zeros((simulator.n, 2))  # shares of a lot, and lots kept back
    copy, fills = simulator.branch(np.arange(simulator.n)), coming.kept_fill.sum(axis=1)
    _place_batch(copy.kernel_state(), ceilings, fills, coming.new_fill, coming.new_bps, venues, takes, posts, out)
    lot, left = out[:, :1], out[:, 1]
    # orders at rest stay, unless the coming step would fill them at more than waiting costs
    unwanted = (coming.kept_fill > 0.0) & (coming.kept_bps > ceilings[:, None])
    kept = np.where(unwanted, 0.0, coming.kept_shares)
    # what does not fill in the step before the last is freed for the last
    ends = (truth.step == horizon - 2)[:, None]
    least = order.lot_shares or 1e-9 * order.quantity_shares
    kept = np.where(ends, np.minimum(kept, np.ceil(coming.kept_fill / least - 1e-6) * least), kept)
    posts = posts + _surplus(truth, coming, posts * lot, np.where((ends[:, 0] | is_last), 0.0, left * patience.resting))
    return _encode(truth, order, takes, posts, lot, kept)


def _surplus(truth: Truth, coming: Prospect, posted: np.ndarray, lots: np.ndarray) -> np.ndarray:
    """Lots (n, K) that rest for the steps to come, of `lots` (n,), by what the outflow would save against taking.

    By how long the queue is they are not: the oracle can join a short one whenever the coming step fills it.
    No venue is among them whose fills in the coming step are not wanted.
    """
    rests = truth.open & ~truth.dark & (truth.observed_near_shares > 0.0) & (coming.new_fill <= posted + 1e-9)
    taking = np.where(truth.observed_shares > 0.0, truth.observed_offset_bps + truth.take_fee_bps, np.inf)
    best = taking.min(axis=1, keepdims=True)
    saving = np.where(np.isfinite(best), best, 0.0) + truth.observed_near_offset_bps - truth.make_fee_bps
    score = np.where(rests, np.maximum(saving, 0.0) * truth.recent_outflow_shares, 0.0)
    worst = -np.sort(-score, axis=1)[:, min(SURPLUS_VENUES, score.shape[1]) - 1, None]
    score = np.where(score >= np.maximum(worst, 1e-300), score, 0.0)
    total = score.sum(axis=1, keepdims=True)
    parts: np.ndarray = np.divide(score, total, out=np.zeros_like(score), where=total > 0.0) * lots[:, None]
    return np.floor(parts + 1e-9).astype(np.int64)


def _encode(
    truth: Truth, order: Any, takes: np.ndarray, posts: np.ndarray, lot: np.ndarray, kept: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights and pace of lots to take, and weights of targets: what is kept, and lots to post on top."""
    n_taken = takes.sum(axis=1)
    taken = n_taken * lot[:, 0]
    offered = np.where(truth.wave == 0, truth.available_shares + truth.resting_shares, truth.returned_shares)
    pace = np.clip(taken / np.maximum(offered, 1e-300), 0.0, 1.0)
    base = np.maximum(offered - taken, 1e-300)[:, None]
    least = order.lot_shares or 1e-9 * order.quantity_shares
    if order.lot_shares:  # a target is whole lots: up to the next where more is to be posted, or else below
        whole = np.floor(kept / least + 1e-6)
        above = np.where(posts > 0, np.ceil(kept / least - 1e-6) + posts, whole) * least
        over = above.sum(axis=1, keepdims=True) > base * (1.0 + 1e-9)
        targets = np.where(over, (whole + posts) * least, above)
    else:
        targets = kept + posts * lot
    weights = targets / base
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1.0)
    return takes / np.maximum(n_taken, 1)[:, None], pace, weights


# ------------------------------------------------------------------------------- what a share left for later costs

_FITTED: dict[str, Patience] = {}


def fitted_patience(market: MarketSpec) -> Patience:
    """The patience with which the oracle of this market is cheapest on validation scenarios; found once a process."""
    key = hashlib.sha256(json.dumps(market.without_prose(), sort_keys=True).encode()).hexdigest()
    if key not in _FITTED:
        _FITTED[key] = _fit(market)
    return _FITTED[key]


def _fit(market: MarketSpec) -> Patience:
    if market.order.horizon_steps == 1 and not market.draws_order:
        return Patience()
    scale, costs = max(abs(market.scales[0]), 1e-3), dict[Patience, float]()

    def best_of(*candidates: Patience) -> Patience:
        for candidate in candidates:
            if candidate not in costs:
                costs[candidate] = float(_mean_cost(market, candidate))
        return min(costs, key=lambda c: costs[c])

    best = best_of(*(Patience(t * scale, 0.1 * scale, share) for t in (-1.0, 0.0, 1.0) for share in (0.0, 0.5)))
    best = best_of(*(best._replace(per_slice_bps=slope * scale) for slope in (0.03, 0.3)))
    for step in (0.5, 0.25):
        best = best_of(*(best._replace(price_bps=best.price_bps + d * step * scale) for d in (-1.0, 1.0)))
    best = best_of(*(best._replace(resting=share) for share in (0.0, 0.25, 0.5, 1.0)))
    return best


def _mean_cost(market: MarketSpec, patience: Patience) -> float:
    """The oracle's mean cost with a patience, on the validation scenarios; noise and all, since the oracle knows it."""
    simulator = BatchSimulator(market, FIT_SCENARIOS, "validation")
    seeds = np.arange(FIT_SEED, FIT_SEED + FIT_SCENARIOS, dtype=np.uint64)
    simulator.reset(seeds, np.zeros(FIT_SCENARIOS, dtype=np.int64))
    running = np.full(FIT_SCENARIOS, True)
    while running.any():
        takes, pace, rests = plan(simulator, patience)
        running &= ~simulator.step(takes, pace, rest=rests)[2]
    return float(simulator.ledger()["shortfall"].mean())


class PlacementOracle(Oracle):
    """Places a step's lots, to take and to rest, with full knowledge of the coming step; blind to what comes after.

    It knows the books that its children meet, what sellers will bring to every queue, which touches fall through, and
    where the efficient price is when the step ends. It posts where a fill is cheaper than what a share left for later
    costs (`fitted_patience`; at the last decision, the clean-up's price), takes what `SnapshotOracle` would at that
    price, and leaves in its queue what harms nothing there. Taking and posting are weighed together, in lots. What
    comes after the step it does not know: a policy may be cheaper, and reports say so.

    Raises:
        UserError: no order may rest in the env.
    """

    name = "placement_oracle"

    def __init__(self, core: RoutingCore, patience: Patience | None = None) -> None:
        if not core.action_adapter.rests:
            raise UserError(f"router 'placement_oracle' rests orders, which {core.env_id} cannot; take snapshot_oracle")
        super().__init__(core)
        self.patience = patience or fitted_patience(core.market)

    def actions(self, observations: np.ndarray) -> np.ndarray:
        """Actions (N, 2 K + 1), float64: a target that is rounded to float32 might be a lot less."""
        takes, pace, rests = plan(self.core.simulator, self.patience)
        return np.concatenate([takes, rests, 2.0 * pace[:, None] - 1.0], axis=1)
