"""What our child orders do: the endogenous half of the market, one scalar kernel for every kind of path.

It asks a path what is in force at a venue when a child arrives and never where that comes from, so that synthetic and
recorded markets cannot drift apart. Costs are in units of the whole order (bps of its arrival value); the parts add up
to the shortfall.

A decision has one wave of children or several. A child reaches its venue after the latency, fills or not, and is
acknowledged after as long again; a venue in an outage answers with a late rejection. Until then its shares are in
flight: not available to be sent, and its venue takes no other child of ours. Times of children are milliseconds after
the decision at hand. An env step ends with a wave that another may follow, or with the next decision.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.book import (
    LADDER,
    deplete,
    fill_of,
    ladder_at,
    left_of,
    now_s,
    remove,
)
from sor_sb3.simulator.elementary import exp
from sor_sb3.simulator.observing import push_bps
from sor_sb3.simulator.paths import price_at
from sor_sb3.simulator.resting import age_resting, count_resting, live_shares, pass_resting, sell_excess, set_targets
from sor_sb3.simulator.state import LANES_APART, lanes

MEMORY = 0.7  # weight of the past in a venue's recent fill ratio, and in its last rejection
ARRIVED_MS = -1.0  # in place of the arrival of a child that has arrived
TOLERANCE_MS = 1e-9  # by which a child may arrive after the end of its wave: rounding

WORK = np.dtype(  # of a decision: by lane, and the ladder of the venue at hand
    [
        ("remainder", "i8", (LANES_APART,)),
        ("due", "i8", (LANES_APART,)),  # lanes whose children arrive, in order
        *((name, "f8", (LANES_APART,)) for name in ("shares", "total", "lots", "lot_shares", "whole_lots")),
        ("ladder", LADDER),
    ],
    align=True,
)


# ---------------------------------------------------------------------------------------------- what is known


@njit(inline="always")
def scheduled_slice(block: Any, i: int, market: Any) -> float:
    """Shares that a TWAP schedule wants done in this step, with what was missed carried forward."""
    still_allowed = market.quantity_shares * (1.0 - (block.step[i] + 1.0) / market.horizon_steps)
    left = block.available_shares[i] + block.resting_shares[i] - block.overbooked_shares[i]
    return max(left - max(still_allowed, 0.0), 0.0)


@njit(inline="always")
def displayed_shares(block: Any, j: int) -> float:
    """What a venue shows at its far touch, as observed, less what we took there; 0 where it is closed or dark."""
    return block.observed_shares[j]


@njit(inline="always")
def takes_orders(block: Any, j: Any) -> bool:
    """Whether a child that reaches this venue now is executed; an open venue that takes none rejects the child."""
    return (block.open[j] == 1.0) & (block.outage[j] == 0.0)


@njit(inline="always")
def best_observed_bps(block: Any, i: int, fixed: Any, market: Any) -> float:
    """The best observed far touch, above the observed midpoint; infinite where nobody quotes."""
    best = math.inf
    for j in lanes(i, market):
        if fixed.dark[j] == 0.0 and block.observed_shares[j] > 0.0:
            best = min(best, block.observed_offset_bps[j])
    return best


@njit
def untaken_quotes(block: Any, i: int, fixed: Any, market: Any, sent: bool) -> tuple[int, float, float]:
    """Of the observed quotes that this wave's children do not take whole: whose is best, at what, and the second.

    Infinite where there is none. Before any child is `sent`, no quote is taken.
    """
    at, best, second = -1, math.inf, math.inf
    for j in lanes(i, market):
        shown, offset_bps = block.observed_shares[j], block.observed_offset_bps[j]
        taken = sent and block.sent_shares[j] >= shown * (1.0 - 1e-9)
        if fixed.dark[j] == 0.0 and shown > 0.0 and not taken:
            if offset_bps < best:
                at, best, second = j, offset_bps, best
            else:
                second = min(second, offset_bps)
    return at, best, second


@njit
def limit_of(
    block: Any, fixed: Any, market: Any, j: int, observed_bps: float, untaken: tuple[int, float, float]
) -> float:
    """The highest price, above the observed midpoint, that a child in lane `j` may pay.

    The far touch observed at its own venue (in the dark, the best one), or the best observed touch plus the market's
    offset; with order protection, no more than a quote that is left elsewhere.
    """
    limit_bps = observed_bps + market.limit_offset_bps
    if market.sweeps == 0:
        limit_bps = observed_bps if fixed.dark[j] == 1.0 else block.observed_offset_bps[j]
    if market.order_protection == 1:
        limit_bps = min(limit_bps, untaken[2] if untaken[0] == j else untaken[1])
    return limit_bps


@njit
def fade_of(block: Any, i: int, j: int, fixed: Any, market: Any, at_ms: float) -> float:
    """Displayed shares that have left lane `j` since the decision, since we were filled elsewhere before `at_ms`."""
    if fixed.toxicity[j] <= 0.0 or block.printed_shares[i] <= 0.0:
        return 0.0
    per_ms, at = 1.0 / market.reaction_time_ms, at_ms
    fresh = block.printed_fresh_shares[i] * exp((block.printed_ms[i] - at) * per_ms)
    own_fresh = block.venue_printed_fresh_shares[j] * exp((block.venue_printed_ms[j] - at) * per_ms)
    answered = block.printed_shares[i] - fresh - (block.venue_printed_shares[j] - own_fresh)
    return fixed.toxicity[j] * max(answered, 0.0)


@njit
def print_fill(block: Any, i: int, j: int, market: Any, at_ms: float, filled: float) -> None:
    """Let others see a fill of lane `j`."""
    per_ms = 1.0 / market.reaction_time_ms
    fresh = block.printed_fresh_shares[i]
    if fresh > 0.0:
        fresh *= exp((block.printed_ms[i] - at_ms) * per_ms)
    block.printed_shares[i] += filled
    block.printed_fresh_shares[i], block.printed_ms[i] = fresh + filled, at_ms
    fresh = block.venue_printed_fresh_shares[j]
    if fresh > 0.0:
        fresh *= exp((block.venue_printed_ms[j] - at_ms) * per_ms)
    block.venue_printed_shares[j] += filled
    block.venue_printed_fresh_shares[j], block.venue_printed_ms[j] = fresh + filled, at_ms


@njit(inline="always")
def begin_order(block: Any, i: int, market: Any) -> None:
    """What the router knows of a new order: all of it is left, and every venue fills. Its fields are zero."""
    block.remaining_shares[i], block.available_shares[i] = market.quantity_shares, market.quantity_shares
    for j in lanes(i, market):
        block.fill_ratio[j] = 1.0
    block.slice_shares[i] = scheduled_slice(block, i, market)


# ------------------------------------------------------------------------------------------- sending children


@njit(inline="always")
def shares_to_send(block: Any, i: int, market: Any, pace: float) -> float:
    """This step's slice of the schedule, or `pace` of what is offered: whole lots of it where the market has lots.

    Offered is all that is left and not in flight, of which no more is sent than is available; in a later wave it is
    what came back in this decision.
    """
    if pace < 0.0:
        return min(block.slice_shares[i], block.available_shares[i])
    free = block.available_shares[i] if block.wave[i] == 0 else block.returned_shares[i]
    offered = free
    if block.wave[i] == 0:
        offered = max(free + block.resting_shares[i] - block.overbooked_shares[i], 0.0)
    lots = math.ceil(offered / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
    part = math.floor(min(pace, 1.0) * lots + 0.5) / lots if lots > 0.0 else min(pace, 1.0)
    return min(part * offered, free)


@njit(error_model="numpy")
def _assign_shares(block: Any, i: int, n: int, fixed: Any, market: Any, weights: Any, member: int, work: Any) -> None:
    """Lay weights times shares of orders ``i .. i + n - 1`` into `sent_shares`, in whole lots if there are any.

    The lots are the fewest equal ones no larger than the market's; each venue gets the whole lots in its share, and
    what is left goes one by one to the largest remainders (to nine decimals), ties by name. `weights` is flat, (N K,).
    """
    n_venues = market.n_venues
    first, last = np.uint64(i * n_venues), np.uint64((i + n) * n_venues)
    at = np.uint64(member * n_venues) - first
    for j in range(first, last):
        weight, lots = weights[at + j], work.lots[j]
        whole = math.floor(weight * lots + 1e-9)
        rank = (np.int64(255) - fixed.name_rank[j]) * np.int64(256) + work.remainder[j]
        work.remainder[j] = np.int64(math.floor((weight * lots - whole) * 1e9 + 0.5)) * np.int64(65536) + rank
        work.whole_lots[j] = whole
        block.ack_ms[j], block.filled_shares[j], block.fill_cost[j], block.fill_value_bps[j] = 0.0, 0.0, 0.0, 0.0
        block.sent_shares[j] = whole * work.lot_shares[j] if lots > 0.0 else weight * work.shares[j]
    if market.lot_shares <= 0.0:
        return
    for order in range(i, i + n):
        begin = order * n_venues
        left = math.floor(work.total[begin] * work.lots[begin] + 1e-9)
        for j in range(begin, begin + n_venues):
            left -= work.whole_lots[j]
        for _ in range(n_venues):  # each lacks less than a lot, so fewer lots are left than there are venues
            if not left > 0.5:
                break
            most = work.remainder[begin]
            for j in range(begin + 1, begin + n_venues):
                most = max(most, work.remainder[j])
            best = begin + (most & 255)
            block.sent_shares[best] += work.lot_shares[best]
            work.remainder[best] = -1
            left -= 1.0


@njit(inline="always")
def latest_expected_ms(block: Any, i: int, fixed: Any, market: Any) -> float:
    """The longest typical latency among the venues that children go to."""
    latest = 0.0
    for j in lanes(i, market):
        if block.sent_shares[j] > 0.0:
            latest = max(latest, fixed.median_latency_ms[j] + fixed.speed_bump_ms[j])
    return latest


@njit(inline="always")
def held_back_ms(fixed: Any, j: int, market: Any, latest_ms: float) -> float:
    """How long a child waits here, so that all of them are expected at once."""
    return latest_ms - fixed.median_latency_ms[j] - fixed.speed_bump_ms[j] if market.synchronise == 1 else 0.0


@njit
def _dispatch(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Put the shares in `sent_shares` on their way as children."""
    observed_bps, untaken = best_observed_bps(block, i, fixed, market), (-1, math.inf, math.inf)
    if market.order_protection == 1:
        untaken = untaken_quotes(block, i, fixed, market, True)
    latest_ms = latest_expected_ms(block, i, fixed, market) if market.synchronise == 1 else 0.0
    elapsed_ms = block.elapsed_ms[i]
    for j in lanes(i, market):
        sent = block.sent_shares[j]
        if sent <= 0.0:
            continue
        latency_ms = block.latency_ms[j]
        arrives_ms = elapsed_ms + held_back_ms(fixed, j, market, latest_ms) + latency_ms
        limit_bps = limit_of(block, fixed, market, j, observed_bps, untaken)
        block.child_shares[j], block.child_filled_shares[j], block.child_rejected[j] = sent, 0.0, 0.0
        block.child_arrives_ms[j], block.child_is_new[j] = arrives_ms, 1.0
        block.child_answers_ms[j] = arrives_ms + latency_ms - fixed.speed_bump_ms[j]
        block.ack_ms[j] = block.child_answers_ms[j] - elapsed_ms
        block.child_limit_bps[j] = limit_bps + block.observed_mid_bps[i]
        block.episode_sent_shares[j] += sent
        block.decision_sent_shares[j] += sent
        block.leak_bps[i] += fixed.leak_bps_per_share[j] * sent
        block.in_flight[i] += 1


@njit(error_model="numpy")
def send_children(
    block: Any, i: int, n: int, fixed: Any, market: Any, weights: Any, pace: Any, rest: Any, member: int, work: Any
) -> None:
    """Begin an env step of orders ``i .. i + n - 1``, which are members `member` and following of the batch.

    `weights` (N K,) of this step's shares go into the venues' `sent_shares`; a row of zeros sends nothing. A `pace`
    (N,) in [0, 1] is a share of what is offered; negative means this step's slice of the schedule. A venue with a child
    in flight takes no other. `rest` (N K,), or (0,) where nothing may rest, are the targets of what rests.
    """
    n_venues = market.n_venues
    for order in range(i, i + n):
        its_pace, row = pace[member + order - i], (member + order - i) * n_venues
        block.step_cost[order], block.step_noise_cost[order] = 0.0, 0.0
        block.paced[order] = 1.0 if its_pace >= 0.0 else 0.0
        total = 0.0
        for k in range(n_venues):
            total += weights[row + k]
        shares = shares_to_send(block, order, market, its_pace) if total > 0.0 else 0.0
        block.step_shares[order] = shares
        lots = math.ceil(shares / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
        lot_shares = shares / max(lots, 1.0)
        for j in range(np.uint64(order * n_venues), np.uint64((order + 1) * n_venues)):
            work.shares[j], work.total[j], work.lots[j], work.lot_shares[j] = shares, total, lots, lot_shares
            work.remainder[j] = np.int64(j) - order * n_venues  # which venue
    _assign_shares(block, i, n, fixed, market, weights, member, work)
    if market.fills_all == 1:
        return
    for order in range(i, i + n):
        if block.in_flight[order] > 0:
            for j in lanes(order, market):
                if block.child_shares[j] > 0.0:
                    block.sent_shares[j] = 0.0
        _dispatch(block, order, fixed, market)
        if block.wave[order] == 0:
            if rest.size > 0:
                for j in lanes(order, market):
                    block.passive_shares[j], block.passive_value_bps[j], block.passive_cost[j] = 0.0, 0.0, 0.0
                set_targets(block, order, fixed, market, rest, (member + order - i) * n_venues, work.shares)
            block.idle_shares[order] = _idle_shares(block, order, market)


@njit(inline="always")
def _idle_shares(block: Any, i: int, market: Any) -> float:
    """Shares to be done that no child carries and that do not rest; negative: filled beyond the order, to be sold."""
    idle = block.remaining_shares[i] - unfilled_in_flight(block, i, market) - live_shares(block, i, market)
    return max(idle, min(block.remaining_shares[i], 0.0)) if market.most_resting_ratio > 1.0 else idle


@njit(inline="always")
def unfilled_in_flight(block: Any, i: int, market: Any) -> float:
    """Shares of children without an answer that are truly not filled."""
    unfilled = 0.0
    if block.in_flight[i] > 0:
        for j in lanes(i, market):
            unfilled += block.child_shares[j] - block.child_filled_shares[j]
    return unfilled


# ------------------------------------------------------------------------------------------- filling children


@njit(inline="always")
def _book_fill(
    block: Any, i: int, j: int, fixed: Any, share_cost: float, filled: float, price_bps: float, touch_bps: float
) -> None:
    """Write a fill into the ledger, at an average price and a far touch of the moment, our own push apart."""
    push, fee_bps, mark_bps = push_bps(block, i), fixed.take_fee_bps[j], block.mark_bps[i]
    block.spread_cost[i] += filled * block.offset_bps[j] * share_cost
    block.timing_cost[i] += filled * (touch_bps - mark_bps - block.offset_bps[j]) * share_cost
    block.impact_cost[i] += filled * (price_bps - touch_bps) * share_cost
    block.fee_cost[i] += filled * fee_bps * share_cost
    cost = filled * (price_bps - mark_bps + fee_bps) * share_cost
    block.step_cost[i] += cost
    block.fill_cost[j], block.filled_shares[j] = cost, filled
    block.fill_touch_bps[j], block.fill_value_bps[j] = touch_bps + push, filled * (price_bps + push)
    block.fill_value_bps_shares[i] += block.fill_value_bps[j]
    block.episode_filled_shares[j] += filled
    block.remaining_shares[i] -= filled


@njit
def _fill_child(
    block: Any, i: int, j: int, fixed: Any, market: Any, recording: Any, at_ms: float, tick_ms: float, work: Any
) -> None:
    """Fill the child of lane `j`, which arrives `at_ms` after the decision; its tick began at `tick_ms`."""
    if not takes_orders(block, j):
        if block.open[j] == 1.0:
            block.child_rejected[j] = 1.0
            block.child_answers_ms[j] = max(block.child_answers_ms[j], at_ms + market.outage_reject_ms)
            if block.sent_shares[j] > 0.0:
                block.ack_ms[j] = block.child_answers_ms[j] - block.elapsed_ms[i]
        return
    ladder, elapsed_ms = work.ladder, at_ms - tick_ms
    limit_bps = block.child_limit_bps[j] - push_bps(block, i)
    ladder_at(block, i, j, fixed, market, recording, elapsed_ms, limit_bps, ladder)
    remove(ladder, fade_of(block, i, j, fixed, market, at_ms))
    filled, value = fill_of(ladder, block.child_shares[j], limit_bps, fixed.min_execution_shares[j])
    if filled > 0.0:
        deplete(block, j, fixed, market, ladder, now_s(block, i, market, elapsed_ms))
        share_cost = market.cost_scale / market.quantity_shares
        _book_fill(block, i, j, fixed, share_cost, filled, value / filled, ladder.touch_bps)
        block.child_filled_shares[j] = filled


@njit
def fill_until(
    block: Any, i: int, fixed: Any, market: Any, recording: Any, until_ms: float, tick_ms: float, work: Any
) -> None:
    """Fill the children that arrive before `until_ms`, in the order of their arrival; ties are blind to one another."""
    due, n_due = work.due, 0
    for j in lanes(i, market):  # sorted by arrival as they are found
        arrives_ms = block.child_arrives_ms[j]
        if block.child_shares[j] > 0.0 and 0.0 <= arrives_ms < until_ms:
            at = n_due
            while at > 0 and block.child_arrives_ms[due[at - 1]] > arrives_ms:
                due[at] = due[at - 1]
                at -= 1
            due[at] = j
            n_due += 1
    first = 0
    for last in range(n_due):
        j = due[last]
        at_ms = block.child_arrives_ms[j]
        _fill_child(block, i, j, fixed, market, recording, at_ms, tick_ms, work)
        if last + 1 == n_due or block.child_arrives_ms[due[last + 1]] > at_ms:
            for tied in range(first, last + 1):
                j = due[tied]
                block.child_arrives_ms[j] = ARRIVED_MS
                if block.child_filled_shares[j] > 0.0:
                    print_fill(block, i, j, market, at_ms, block.child_filled_shares[j])
            first = last + 1


@njit
def hear_answers(block: Any, i: int, market: Any, until_ms: float) -> float:
    """Give the router the answers that are due by `until_ms`; returns the shares of this decision that came back."""
    returned = 0.0
    for j in lanes(i, market):
        sent, filled = block.child_shares[j], block.child_filled_shares[j]
        if sent > 0.0 and block.child_answers_ms[j] <= until_ms:
            block.fill_ratio[j] = MEMORY * block.fill_ratio[j] + (1.0 - MEMORY) * filled / sent
            block.reject[j], block.answered[j] = block.child_rejected[j], 1.0
            if block.child_is_new[j] == 1.0:
                returned += sent - filled
                block.decision_filled_shares[j] += filled
            block.child_shares[j], block.child_filled_shares[j], block.child_is_new[j] = 0.0, 0.0, 0.0
            block.in_flight[i] -= 1
    return returned


@njit
def fill_all(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Fill all children, at the price of a whole even slice: the notebook's cost is linear."""
    share_cost, even_slice = market.cost_scale / market.quantity_shares, market.quantity_shares / market.horizon_steps
    for j in lanes(i, market):
        sent = block.sent_shares[j]
        if sent > 0.0:
            block.episode_sent_shares[j] += sent
            block.ack_ms[j] = block.latency_ms[j]
            touch_bps = block.offset_bps[j] + block.touch_move_bps[j] + market.latency_cost * block.latency_ms[j]
            price_bps = touch_bps + market.liquidity_cost * even_slice / block.arrival_size_shares[j]
            _book_fill(block, i, j, fixed, share_cost, sent, price_bps, touch_bps)
            block.fill_ratio[j] = MEMORY * block.fill_ratio[j] + (1.0 - MEMORY)


# ---------------------------------------------------------------------------------------------------- env steps


@njit(inline="always")
def _push_mid(block: Any, i: int, fixed: Any, market: Any, elapsed_s: float, ends: bool) -> float:
    """Let our fills of this env step move the mid; returns by how much it has moved. Leaks move it as decisions end."""
    before, weighted = push_bps(block, i), 0.0
    for j in lanes(i, market):
        weighted += fixed.impact[j] * block.filled_shares[j]
    block.permanent_bps[i] += market.permanent_bps_per_share * weighted
    block.transient_bps[i] += market.transient_bps_per_share * weighted
    block.transient_bps[i] = left_of(block.transient_bps[i], elapsed_s, market.transient_half_life_s)
    if ends:
        leaked_bps = block.leak_bps[i] * (1.0 - market.leak_decay)
        block.leak_bps[i] -= leaked_bps
        block.permanent_bps[i] += leaked_bps
    return push_bps(block, i) - before


@njit
def mark(block: Any, i: int, fixed: Any, market: Any, price_bps: float, elapsed_s: float, ends: bool) -> None:
    """End an env step: charge the efficient price's move, and our own push of it, on what is still to be done.

    Variance reduction leaves out each tick's noise times the shares that no child carried when the tick began
    (`step_noise_cost` gathers it while time passes), the drift times what the schedule leaves, and what the midpoint
    at arrival is above the efficient price: inventories fixed before noise whose mean is zero.
    """
    share_cost = market.cost_scale / market.quantity_shares
    rounding = 1e-12 * market.quantity_shares  # of the weights, not shares
    overfilled = market.most_resting_ratio > 1.0 and block.remaining_shares[i] <= -rounding
    if block.remaining_shares[i] < rounding and not overfilled:
        block.remaining_shares[i] = 0.0
    if block.step[i] == 0 and block.wave[i] == 0:
        opening = market.cost_scale * block.mark_bps[i]
        block.timing_cost[i] += opening
        block.step_cost[i] += opening
        block.step_noise_cost[i] += opening
    timing = block.remaining_shares[i] * (price_bps - block.mark_bps[i]) * share_cost
    push = block.remaining_shares[i] * _push_mid(block, i, fixed, market, elapsed_s, ends) * share_cost
    block.timing_cost[i] += timing
    block.impact_cost[i] += push
    block.step_cost[i] += timing + push
    block.noise_cost[i] += block.step_noise_cost[i]
    block.mark_bps[i] = price_bps


@njit
def end_wave(block: Any, i: int, fixed: Any, market: Any, recording: Any, work: Any) -> bool:
    """Fill a wave's children until all of them are acknowledged or time is up; whether another wave follows."""
    if block.wave[i] + 1 >= market.waves:
        return False
    tick_ms, answered_ms = 1e3 * market.path_dt_s, block.elapsed_ms[i]
    for j in lanes(i, market):
        if block.child_shares[j] > 0.0 and block.child_is_new[j] == 1.0:
            answers_ms, arrives_ms = block.child_answers_ms[j], block.child_arrives_ms[j]
            if 0.0 <= arrives_ms < tick_ms and block.open[j] == 1.0 and not takes_orders(block, j):
                answers_ms = max(answers_ms, arrives_ms + market.outage_reject_ms)
            answered_ms = max(answered_ms, answers_ms)
    limit_ms = min(block.elapsed_ms[i] + market.wave_timeout_ms, tick_ms * (1.0 - 1e-12))
    until_ms = min(answered_ms, limit_ms)
    fill_until(block, i, fixed, market, recording, until_ms + TOLERANCE_MS, 0.0, work)
    returned = 0.0
    for j in lanes(i, market):
        if block.child_is_new[j] == 1.0 and block.child_answers_ms[j] <= until_ms:
            returned += block.child_shares[j] - block.child_filled_shares[j]
    if returned <= 1e-12 * market.quantity_shares and market.every_wave == 0:
        return False
    block.returned_shares[i] = hear_answers(block, i, market, until_ms)
    price_bps, elapsed_s = price_at(block, i, market, recording, until_ms), 1e-3 * (until_ms - block.elapsed_ms[i])
    mark(block, i, fixed, market, price_bps, elapsed_s, False)
    begin_wave(block, i, market, until_ms)
    return True


@njit(inline="always")
def begin_wave(block: Any, i: int, market: Any, elapsed_ms: float) -> None:
    """Begin a later wave, so long after the decision: it distributes what came back."""
    count_shares(block, i, market)
    if market.most_resting_ratio > 1.0:  # what rests may have been filled meanwhile
        block.returned_shares[i] = min(block.returned_shares[i], block.available_shares[i])
    block.wave[i] += 1
    block.elapsed_ms[i] = elapsed_ms
    block.slice_shares[i] = block.returned_shares[i]


@njit(error_model="numpy")
def pass_tick(block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, tick: int, work: Any) -> None:
    """Fill what arrives in a decision's `tick`, before the path moves on, and gather the tick's noise.

    Of orders ``i .. i + n - 1``.
    """
    tick_ms = 1e3 * market.path_dt_s
    for order in range(i, i + n):
        if tick > 0:
            block.idle_shares[order] = _idle_shares(block, order, market)
        if block.in_flight[order] > 0:
            fill_until(block, order, fixed, market, recording, (tick + 1) * tick_ms, tick * tick_ms, work)
            hear_answers(block, order, market, (tick + 1) * tick_ms)
        if block.resting[order] > 0:
            pass_resting(block, order, fixed, market, recording, tick)
    scale, per_horizon = market.cost_scale / market.quantity_shares, 1.0 / market.horizon_steps
    for order in range(np.uint64(i), np.uint64(i + n)):
        scheduled = market.quantity_shares * max(1.0 - (block.step[order] + 1.0) * per_horizon, 0.0)
        drift_bps = block.smooth_move_bps[order] + block.news_bps[order] - block.tick_noise_bps[order]
        drift_bps = drift_bps if block.paced[order] == 0.0 else 0.0  # a free pace may end an episode as drift says
        noise = block.idle_shares[order] * block.tick_noise_bps[order] + scheduled * drift_bps
        block.step_noise_cost[order] += noise * scale
        block.tick[order] += 1


@njit(inline="always")
def count_shares(block: Any, i: int, market: Any) -> None:
    """Count the shares that are in flight, and those that can be sent."""
    block.in_flight_shares[i], unfilled = 0.0, 0.0
    if block.in_flight[i] > 0:
        for j in lanes(i, market):
            block.in_flight_shares[i] += block.child_shares[j]
            unfilled += block.child_shares[j] - block.child_filled_shares[j]
    resting = count_resting(block, i, market) if block.resting[i] > 0 else 0.0
    left = block.remaining_shares[i] - unfilled
    available = left - resting / market.most_resting_ratio
    block.available_shares[i] = available if available > 1e-12 * market.quantity_shares else 0.0  # rounding apart
    if market.most_resting_ratio > 1.0:
        block.overbooked_shares[i] = block.available_shares[i] + resting - left


@njit
def end_decision(block: Any, i: int, fixed: Any, market: Any) -> None:
    """End a decision when its last tick has passed: mark, let children age, clean up at the deadline."""
    step_ms, price_bps = 1e3 * market.step_s, block.price_bps[i]
    mark(block, i, fixed, market, price_bps, market.step_s - 1e-3 * block.elapsed_ms[i], True)
    if market.most_resting_ratio > 1.0 and block.remaining_shares[i] <= 0.0:
        finish(block, i, market)
        sell_excess(block, i, market)
    for j in lanes(i, market):
        if block.answered[j] == 0.0:
            block.reject[j] *= MEMORY
        block.answered[j], block.child_is_new[j] = 0.0, 0.0
        block.decision_sent_shares[j], block.decision_filled_shares[j] = 0.0, 0.0
        block.venue_printed_shares[j], block.venue_printed_fresh_shares[j] = 0.0, 0.0
        if block.child_shares[j] > 0.0:
            block.child_answers_ms[j] -= step_ms
            if block.child_arrives_ms[j] >= 0.0:
                block.child_arrives_ms[j] = max(block.child_arrives_ms[j] - step_ms, 0.0)
    block.printed_shares[i], block.printed_fresh_shares[i] = 0.0, 0.0
    if block.resting[i] > 0:
        age_resting(block, i, market)
    count_shares(block, i, market)
    block.step[i] += 1
    block.wave[i], block.elapsed_ms[i], block.returned_shares[i] = 0, 0.0, 0.0
    if block.step[i] >= market.horizon_steps:
        clean_up(block, i, market)
    block.slice_shares[i] = scheduled_slice(block, i, market)


@njit(inline="always")
def finish(block: Any, i: int, market: Any) -> None:
    """Forget what is in flight and what rests: stepped on, a finished order does nothing."""
    for j in lanes(i, market):
        block.child_shares[j] = 0.0
    block.in_flight[i], block.in_flight_shares[i], block.available_shares[i] = 0, 0.0, 0.0
    block.resting[i] = 0


@njit(inline="always")
def clean_up(block: Any, i: int, market: Any) -> None:
    """Sweep what is left at the deadline, at a price dearer than any fill that the episode offered."""
    for j in lanes(i, market):
        block.worst_offered_bps[i] = max(block.worst_offered_bps[i], block.lane_worst_bps[j])
    finish(block, i, market)  # what is in flight is swept with the rest
    if block.remaining_shares[i] <= 0.0:
        return
    price_bps = block.worst_offered_bps[i] + market.cleanup_penalty_bps
    cost = block.remaining_shares[i] * price_bps * market.cost_scale / market.quantity_shares
    block.cleanup_shares[i] = block.remaining_shares[i]
    block.cleanup_cost[i] += cost
    block.step_cost[i] += cost
    price_bps += block.mark_bps[i] + push_bps(block, i)
    block.cleanup_value_bps_shares[i] = block.remaining_shares[i] * price_bps
    block.remaining_shares[i] = 0.0
