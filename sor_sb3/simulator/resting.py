"""Our resting orders: how they are sent and cancelled, wait in a queue, and are filled by the exogenous outflow.

A lane has room for a few orders at a time. Times are milliseconds after the decision at hand. An order is filled where
sellers hit the near touch for more than the queue before it, and whole where the efficient price falls through its
price: selectively, since the path draws sells along with the price's move. Nothing here moves the path.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp, log
from sor_sb3.simulator.observing import push_bps
from sor_sb3.simulator.paths import fallen_ms, midpoint_at, near_shares_at, price_at, touch_at
from sor_sb3.simulator.paths.replay import recorded_queue
from sor_sb3.simulator.paths.synthetic import VENUE_DRAWS
from sor_sb3.simulator.random import PLACES_PER_STEP, binomial, stream_at, uniform_at
from sor_sb3.simulator.state import RESTS, lanes

ACTION_ROUNDING = 1e-4  # of a lot: actions are float32, and a full target shall not lose its last lot
RESTS_MS = -1.0  # in place of the arrival of an order that rests, or of a cancel that has arrived
_LN_2 = math.log(2.0)


@njit(inline="always")
def rests_of(j: Any) -> Any:
    """Where the orders of lane `j` are recorded, as a range."""
    return range(np.int64(j) * RESTS, (np.int64(j) + 1) * RESTS)


@njit(inline="always")
def live_shares(block: Any, i: int, market: Any) -> float:
    """Shares of ours that rest or are on their way to it, cancels that have not arrived apart."""
    live = 0.0
    if block.resting[i] > 0:
        for j in lanes(i, market):
            if block.rest_total_shares[j] > 0.0:
                for r in rests_of(j):
                    live += block.rest_shares[r]
    return live


@njit
def count_resting(block: Any, i: int, market: Any) -> float:
    """Count the resting orders that the router knows of; returns their shares, which it cannot send.

    Lanes whose total is 0 hold no order: a post adds to the total at once, and nothing but this count lowers it.
    """
    block.resting[i], total = 0, 0.0
    for j in lanes(i, market):
        if block.rest_total_shares[j] <= 0.0:
            continue
        here, oldest, estimate = 0.0, math.inf, 0.0
        for r in rests_of(j):
            known = block.rest_shares[r] + (block.rest_cancel_shares[r] if block.rest_cancel_ms[r] < 0.0 else 0.0)
            if known > 0.0:
                here += known
                block.resting[i] += 1
                if block.rest_number[r] < oldest:
                    oldest, estimate = block.rest_number[r], block.rest_estimate_shares[r]
        block.rest_total_shares[j], block.queue_ahead_shares[j] = here, estimate
        total += here
    block.resting_shares[i] = total
    return total


# --------------------------------------------------------------------------------------------------- decisions


@njit(inline="always")
def _near_key(block: Any, i: int, j: Any, market: Any) -> float:
    return math.floor((block.observed_bid_bps[j] - block.grid_bps[i]) / market.tick_bps + 0.5)


@njit
def _cancel(block: Any, i: int, j: Any, r: Any, fixed: Any, shares: float) -> None:
    """Send a cancel of `shares` of an order; it may lose the race against a fill."""
    at_ms = block.elapsed_ms[i] + block.latency_ms[j]
    block.rest_cancel_shares[r], block.rest_cancel_ms[r] = shares, max(at_ms, block.rest_arrives_ms[r])
    block.rest_answer_ms[r] = block.rest_cancel_ms[r] + block.latency_ms[j] - fixed.speed_bump_ms[j]


@njit
def _post(block: Any, i: int, j: Any, fixed: Any, market: Any, shares: float) -> None:
    """Send an order of `shares` to rest at the observed near touch, or in a dark pool, where room is left for one."""
    for r in rests_of(j):
        if block.rest_shares[r] <= 0.0 and block.rest_cancel_shares[r] <= 0.0:
            block.rest_shares[r], block.rest_number[r] = shares, block.step[i] + 1.0
            block.rest_key[r] = 0.0 if fixed.dark[j] == 1.0 else _near_key(block, i, j, market)
            block.rest_price_bps[r] = block.observed_bid_bps[j] + push_bps(block, i)
            block.rest_arrives_ms[r] = block.elapsed_ms[i] + block.latency_ms[j]
            block.rest_answer_ms[r] = block.rest_arrives_ms[r] + block.latency_ms[j] - fixed.speed_bump_ms[j]
            block.rest_ahead_shares[r], block.rest_cancel_ms[r] = 0.0, 0.0
            block.rest_estimate_shares[r] = 0.0 if fixed.dark[j] == 1.0 else block.observed_near_shares[j]
            block.leak_bps[i] += fixed.leak_bps_per_share[j] * shares
            block.resting[i] += 1
            block.rest_total_shares[j] += shares
            return


@njit
def set_targets(block: Any, i: int, fixed: Any, market: Any, weights: Any, row: int, missing_shares: Any) -> None:
    """Move what rests towards `weights` (flat, from `row` on) of what is neither filled, nor in flight, nor taken now.

    What is too much is cancelled, youngest first, and what is too far behind the touch as a whole. What is missing
    (laid into `missing_shares`, by lane) is posted; where fewer shares are free, since cancels are under way, an equal
    part of it everywhere; each may rest `most_resting_ratio` times. Differences below a lot are let be.
    """
    least = market.lot_shares if market.lot_shares > 0.0 else 1e-9 * market.quantity_shares
    taken, all_missing = 0.0, 0.0
    for j in lanes(i, market):
        taken += block.sent_shares[j]
    free = block.available_shares[i] - taken
    base = max(free + block.resting_shares[i] - block.overbooked_shares[i], 0.0)
    for j in lanes(i, market):
        missing_shares[j] = 0.0
        target = weights[row + np.int64(j) - i * market.n_venues] * base
        if target < 0.5 * least and block.rest_total_shares[j] <= 0.0:
            continue
        target = math.floor(target / least + ACTION_ROUNDING) * least if market.lot_shares > 0.0 else target
        excess = _kept_shares(block, i, j, fixed, market) - target
        while excess >= least * (1.0 - 1e-9):
            youngest, number = -1, -1.0
            for r in rests_of(j):
                cancellable = block.rest_shares[r] > 0.0 and block.rest_cancel_shares[r] <= 0.0
                if cancellable and block.rest_number[r] > number:
                    youngest, number = r, block.rest_number[r]
            if youngest < 0:
                break
            whole = block.rest_shares[youngest]
            shares = whole if excess > whole * (1.0 - 1e-9) else excess  # rounding leaves no order behind
            _cancel(block, i, j, youngest, fixed, shares)
            excess -= shares
        quoted = fixed.dark[j] == 1.0 or block.observed_quote_shares[j] > 0.0
        if -excess >= least and block.open[j] == 1.0 and quoted:
            missing_shares[j] = -excess
            all_missing -= excess
    part = min(max(free, 0.0) * market.most_resting_ratio / all_missing, 1.0) if all_missing > 0.0 else 0.0
    for j in lanes(i, market):
        missing = missing_shares[j] * part
        missing = math.floor(missing / least + 1e-9) * least if market.lot_shares > 0.0 else missing
        if missing >= least:
            _post(block, i, j, fixed, market, missing)


@njit
def _kept_shares(block: Any, i: int, j: Any, fixed: Any, market: Any) -> float:
    """Cancel the orders of a lane that are too far behind the touch; shares of the others, without those in cancel."""
    if block.rest_total_shares[j] <= 0.0:
        return 0.0
    kept, near = 0.0, _near_key(block, i, j, market)
    for r in rests_of(j):
        if block.rest_shares[r] > 0.0:
            if block.rest_cancel_shares[r] > 0.0:  # what a cancel has taken is gone already
                pending = block.rest_cancel_shares[r] if block.rest_cancel_ms[r] >= 0.0 else 0.0
                kept += max(block.rest_shares[r] - pending, 0.0)
            elif fixed.dark[j] == 0.0 and near - block.rest_key[r] > market.repeg_ticks:
                _cancel(block, i, j, r, fixed, block.rest_shares[r])
            else:
                kept += block.rest_shares[r]
    return kept


# ---------------------------------------------------------------------------------------------------- time passes


@njit(inline="always")
def _book_passive(
    block: Any, i: int, j: Any, fixed: Any, market: Any, filled: float, price_bps: float, value_bps: float, at_ms: float
) -> None:
    """Write a fill of a resting order into the ledger, its price with our push when it was sent.

    `value_bps` is the efficient price of the moment without our push.
    """
    share_cost, push = market.cost_scale / market.quantity_shares, push_bps(block, i)
    spread_bps, timing_bps = price_bps - push - value_bps, value_bps - block.mark_bps[i]
    cost = filled * (spread_bps + timing_bps + fixed.make_fee_bps[j]) * share_cost
    block.spread_cost[i] += filled * spread_bps * share_cost
    block.timing_cost[i] += filled * timing_bps * share_cost
    block.fee_cost[i] += filled * fixed.make_fee_bps[j] * share_cost
    block.step_cost[i] += cost
    block.passive_cost[j] += cost
    block.passive_shares[j] += filled
    block.passive_value_bps[j] += filled * price_bps
    block.passive_ms[j] = at_ms
    block.fill_value_bps_shares[i] += filled * price_bps
    block.episode_passive_shares[j] += filled
    block.remaining_shares[i] -= filled


@njit
def _ahead_at(
    block: Any, i: int, j: Any, market: Any, recording: Any, key: float, bid: float, elapsed_ms: float
) -> tuple[float, float]:
    """The displayed queue at a price of a lane, and what stands at better prices; none of both above the near touch.

    The near touch, `bid` in ticks, is the one in force `elapsed_ms` into the tick.
    """
    behind = (bid - key) / market.level_ticks
    if behind < 0.0:
        return 0.0, 0.0
    near_shares = near_shares_at(block, i, j, market, recording, elapsed_ms)
    if recording is not None and recording.near_level_px.shape[1] > 0:
        return recorded_queue(block, i, j, market, recording, key, near_shares, elapsed_ms)
    better, levels = 0.0, min(np.int64(math.ceil(behind - 1e-9)), market.n_levels)
    for level in range(levels):
        better += near_shares * market.level_profile[level]
    return near_shares * market.level_profile[min(levels, market.n_levels - 1)], better


@njit
def _bid_key(block: Any, i: int, j: Any, market: Any, recording: Any) -> float:
    """The near touch at the tick's begin, in ticks."""
    if recording is None:
        return block.bid_ticks[j]
    else:
        near_bps = touch_at(block, i, j, market, recording, 0.0)[1]
        return math.floor((near_bps - block.grid_bps[i]) / market.tick_bps + 0.5)


@njit
def _arrive(block: Any, i: int, j: Any, r: Any, fixed: Any, market: Any, recording: Any, elapsed_ms: float) -> None:
    """Let an order join the queue, or come back: where it would trade at once, and where the venue takes none."""
    block.rest_arrives_ms[r] = RESTS_MS
    takes = block.open[j] == 1.0 and block.outage[j] == 0.0
    if takes and fixed.dark[j] == 0.0:
        far_bps, near_bps, shares, _ = touch_at(block, i, j, market, recording, elapsed_ms)
        ask = math.floor((far_bps - block.grid_bps[i]) / market.tick_bps + 0.5)
        bid = math.floor((near_bps - block.grid_bps[i]) / market.tick_bps + 0.5)
        takes = shares > 0.0 and block.rest_key[r] < ask
        ahead, _ = _ahead_at(block, i, j, market, recording, block.rest_key[r], bid, elapsed_ms)
        block.rest_ahead_shares[r] = ahead
        if takes:
            block.leak_bps[i] += market.display_leak_bps_per_share * block.rest_shares[r]
    if not takes:
        block.rest_cancel_shares[r], block.rest_cancel_ms[r], block.rest_shares[r] = block.rest_shares[r], RESTS_MS, 0.0


@njit
def _drop_cancelled(block: Any, r: Any) -> None:
    """Let a cancel take what it still finds."""
    gone = min(block.rest_cancel_shares[r], block.rest_shares[r])
    block.rest_shares[r] -= gone
    block.rest_cancel_shares[r], block.rest_cancel_ms[r] = gone, RESTS_MS


@njit
def _after_cancels(ahead: float, half_lives: float, market: Any, u: float) -> float:
    """What is left of a queue of others after some of them cancel: each trade size by itself, or a noisy share.

    A queue of no whole number of trade sizes is between those of the next ones, so that a longer queue never shrinks to
    a shorter one.
    """
    if market.trade_shares > 0.0:
        orders, chance = ahead / market.trade_shares, 1.0 - exp(-_LN_2 * half_lives)
        whole = math.floor(orders + 1e-9)
        left, over = whole - binomial(whole, chance, u), orders - whole
        if over > 1e-9:
            left += over * (whole + 1.0 - binomial(whole + 1.0, chance, u) - left)
        return left * market.trade_shares
    return ahead * exp(_LN_2 * half_lives * log(u))


@njit
def _meet_outflow(
    block: Any,
    i: int,
    j: Any,
    r: Any,
    fixed: Any,
    market: Any,
    recording: Any,
    window: Any,
    begin_ms: float,
    bid: float,
    filled: float,
) -> float:
    """Fill an order within a window (first and last, ms) of the tick that began at `begin_ms`; shares.

    `bid` is the near touch at its begin, in ticks; `filled` are the shares that own orders before this one filled in
    the tick.
    """
    from_ms, to_ms = window
    tick_ms, price_bps = 1e3 * market.path_dt_s, block.grid_bps[i] + market.tick_bps * block.rest_key[r]
    fell_ms = begin_ms + fallen_ms(block, i, j, market, recording, price_bps, from_ms - begin_ms)
    to_ms = min(to_ms, fell_ms)
    part, total = max(to_ms - from_ms, 0.0) / tick_ms, 0.0
    if part > 0.0 and block.open[j] == 1.0:
        ahead, better, key = block.rest_ahead_shares[r], 0.0, block.rest_key[r]
        if ahead > 0.0:
            stream = stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP)
            half_lives = part * market.path_dt_s / market.cancel_half_life_s
            ahead = _after_cancels(ahead, half_lives, market, uniform_at(stream, VENUE_DRAWS.u_cancel))
        if ahead > 0.0 or key < bid:
            shown, better = _ahead_at(block, i, j, market, recording, key, bid, 0.0)
            ahead = min(ahead, shown) if key >= bid else ahead
        flow = part * block.tick_outflow_shares[j]
        reaching = max(flow - better - filled, 0.0)
        total = min(block.rest_shares[r], max(reaching - ahead, 0.0))
        if total > 0.0:
            share = (better + filled + ahead + 0.5 * total) / flow
            at_ms = from_ms + (to_ms - from_ms) * min(share, 1.0)
            value_bps = price_at(block, i, market, recording, at_ms - begin_ms)
            _book_passive(block, i, j, fixed, market, total, block.rest_price_bps[r], value_bps, at_ms)
            block.rest_shares[r] -= total
        block.rest_ahead_shares[r] = max(ahead - reaching, 0.0)
        block.rest_estimate_shares[r] = max(block.rest_estimate_shares[r] - flow, 0.0)
    if fell_ms <= to_ms and block.rest_shares[r] > 0.0:
        rest = block.rest_shares[r]
        _book_passive(block, i, j, fixed, market, rest, block.rest_price_bps[r], price_bps, fell_ms)
        block.rest_shares[r] = 0.0
        total += rest
    return total


@njit
def _meet_in_the_dark(
    block: Any, i: int, j: Any, r: Any, fixed: Any, market: Any, recording: Any, at_ms: float, begin_ms: float
) -> None:
    """Fill an order that rests in a pool by what the pool holds, at the midpoint."""
    held = max(block.dark_shares[j] - block.taken_shares[j], 0.0)
    filled = min(block.rest_shares[r], held)
    if filled > 0.0 and filled >= fixed.min_execution_shares[j] * (1.0 - 1e-9) and block.open[j] == 1.0:
        mid_bps, trades = midpoint_at(block, i, fixed, market, recording, at_ms - begin_ms)
        if trades:
            value_bps = price_at(block, i, market, recording, at_ms - begin_ms)
            price_bps = mid_bps + push_bps(block, i)
            _book_passive(block, i, j, fixed, market, filled, price_bps, value_bps, at_ms)
            block.rest_shares[r] -= filled
            block.taken_shares[j] += filled


@njit
def _next_order(block: Any, j: Any, key: float, number: float) -> int:
    """The order of a lane that comes after one of this price and number: best price first, then age; -1: none."""
    at, best, oldest = -1, -math.inf, math.inf
    for r in rests_of(j):
        its_key, its_number = block.rest_key[r], block.rest_number[r]
        after = its_key < key or (its_key == key and its_number > number)
        if block.rest_shares[r] > 0.0 and after and (its_key > best or (its_key == best and its_number < oldest)):
            at, best, oldest = r, its_key, its_number
    return at


@njit
def _pass_order(
    block: Any,
    i: int,
    j: Any,
    r: Any,
    fixed: Any,
    market: Any,
    recording: Any,
    span: Any,
    bid: float,
    before: float,
) -> float:
    """Let a tick (its `span`: begin and end, ms) pass for one order; shares that the outflow fills of it.

    `before` are those that own orders before it filled in the tick.
    """
    begin_ms, end_ms = span
    from_ms, filled, lit = begin_ms, 0.0, fixed.dark[j] == 0.0
    if block.rest_arrives_ms[r] >= 0.0:
        if block.rest_arrives_ms[r] >= end_ms:
            return 0.0
        from_ms = max(block.rest_arrives_ms[r], begin_ms)
        _arrive(block, i, j, r, fixed, market, recording, from_ms - begin_ms)
    if block.rest_shares[r] > 0.0 and not lit:
        _meet_in_the_dark(block, i, j, r, fixed, market, recording, from_ms, begin_ms)
    cancel_ms = block.rest_cancel_ms[r] if block.rest_cancel_shares[r] > 0.0 else -1.0
    until_ms = min(end_ms, max(cancel_ms, from_ms)) if cancel_ms >= 0.0 else end_ms
    if block.rest_shares[r] > 0.0 and lit:
        window = (from_ms, until_ms)
        filled = _meet_outflow(block, i, j, r, fixed, market, recording, window, begin_ms, bid, before)
    if 0.0 <= cancel_ms < end_ms:
        _drop_cancelled(block, r)
        if block.rest_shares[r] > 0.0 and lit:
            window = (until_ms, end_ms)
            filled += _meet_outflow(block, i, j, r, fixed, market, recording, window, begin_ms, bid, before + filled)
    return filled


@njit
def pass_resting(block: Any, i: int, fixed: Any, market: Any, recording: Any, tick: int) -> None:
    """Let a decision's `tick` pass for an order's resting orders, before the path moves on."""
    tick_ms = 1e3 * market.path_dt_s
    span = (tick * tick_ms, (tick + 1) * tick_ms)
    for j in lanes(i, market):
        if block.rest_total_shares[j] <= 0.0:
            continue
        n_orders, r, bid = 0, np.int64(-1), 0.0
        for at in rests_of(j):
            if block.rest_shares[at] > 0.0:
                n_orders, r = n_orders + 1, at
        if n_orders > 0 and fixed.dark[j] == 0.0:
            bid = _bid_key(block, i, j, market, recording)
        key, number, filled = math.inf, math.inf, 0.0
        for _ in range(n_orders):
            if n_orders > 1:
                r = np.int64(_next_order(block, j, key, number))
            key, number = block.rest_key[r], block.rest_number[r]
            filled += _pass_order(block, i, j, r, fixed, market, recording, span, bid, filled)
        for r in rests_of(j):
            if block.rest_cancel_ms[r] == 0.0 and block.rest_cancel_shares[r] <= 0.0:
                continue
            answered = block.rest_cancel_ms[r] < 0.0 and block.rest_answer_ms[r] <= span[1]
            if answered or (block.rest_shares[r] <= 0.0 and block.rest_cancel_ms[r] >= 0.0):  # or filled before
                block.rest_cancel_shares[r], block.rest_cancel_ms[r] = 0.0, 0.0


@njit
def age_resting(block: Any, i: int, market: Any) -> None:
    """Let a step's time pass for the times of resting orders."""
    step_ms = 1e3 * market.step_s
    for j in lanes(i, market):
        if block.rest_total_shares[j] <= 0.0:
            continue
        for r in rests_of(j):
            block.rest_answer_ms[r] -= step_ms
            if block.rest_arrives_ms[r] >= 0.0:
                block.rest_arrives_ms[r] = max(block.rest_arrives_ms[r] - step_ms, 0.0)
            if block.rest_cancel_ms[r] > 0.0:
                block.rest_cancel_ms[r] = max(block.rest_cancel_ms[r] - step_ms, 1e-12)


@njit
def sell_excess(block: Any, i: int, market: Any) -> None:
    """Sell what is filled beyond the order, if anything, at the efficient price less a stated cost.

    The ledger marked these shares with our push, which selling does not earn: nobody gains by pushing the price.
    """
    block.resting_shares[i], shares = 0.0, -block.remaining_shares[i]
    if shares <= 0.0:
        return
    lost_bps = market.overfill_cost_bps + push_bps(block, i)
    cost = shares * lost_bps * market.cost_scale / market.quantity_shares
    block.cleanup_cost[i] += cost
    block.step_cost[i] += cost
    price_bps = block.mark_bps[i] - market.overfill_cost_bps
    block.cleanup_shares[i], block.cleanup_value_bps_shares[i] = -shares, -shares * price_bps
    block.remaining_shares[i] = 0.0
