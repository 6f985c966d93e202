"""What our child orders do: the endogenous half of the market, one scalar kernel for every kind of path.

It reads the quotes that a path module laid into the venue records and never asks where they come from, so
that synthetic and recorded markets cannot drift apart. Costs are in units of the whole order (bps of its
arrival value); the parts add up to the shortfall.

A child reaches its venue after the latency, fills or not, and is acknowledged after as long again; a venue in an
outage answers with a late rejection. Until then its shares are in flight: not available to be sent, and its venue
takes no other child of ours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp
from sor_sb3.simulator.paths import arrival_state
from sor_sb3.simulator.state import LANES_APART, SYNTHETIC, lanes

MEMORY = 0.7  # weight of the past in a venue's recent fill ratio, and in its last rejection

WORK = np.dtype(  # of a step, by lane
    [
        ("remainder", "i8", (LANES_APART,)),
        *(
            (name, "f8", (LANES_APART,))
            for name in (
                # of the order
                "shares",
                "lots",
                "lot_shares",
                "worst_move_bps",
                "first_ms",  # when its first child arrives
                # of the lane
                "whole_lots",
                "offer_bps",
                "limit_bps",
                "hold_ms",
                "move_bps",
                "shown_shares",
                "hidden_shares",
                "pending",  # 1: the child sent now is not acknowledged by the next decision
                # of the fill, times shares
                "spread",
                "timing",
                "impact",
                "fee",
                "value",
            )
        ),
    ],
    align=True,
)


@njit(inline="always")
def scheduled_slice(block: Any, i: int, market: Any) -> float:
    """Shares that a TWAP schedule wants done in this step, with what was missed carried forward."""
    still_allowed = market.quantity_shares * (1.0 - (block.step[i] + 1.0) / market.horizon_steps)
    return max(block.available_shares[i] - still_allowed, 0.0)


@njit(inline="always")
def displayed_shares(block: Any, j: int) -> float:
    """What a venue shows, as observed: its quoted size, less what we took and it has not refilled, rounding apart."""
    left = block.observed_shares[j] - block.depleted_shares[j]
    return left if block.open[j] == 1 and left > 1e-9 * block.observed_shares[j] else 0.0


@njit(inline="always")
def faded(fixed: Any, j: int, market: Any, late_ms: float) -> float:
    """Share of a displayed size that is left when a child comes `late_ms` after the first of its decision."""
    if late_ms > 0.0 and fixed.toxicity[j] > 0.0:
        return exp(-fixed.toxicity[j] * late_ms / market.reaction_time_ms)
    return 1.0


@njit(inline="always")
def held_shares(block: Any, j: int, shown_shares: float, hidden_shares: float, left: float) -> float:
    """What a child can take: displayed and hidden size, less what we took before, the displayed part times `left`."""
    shown = max(shown_shares - block.depleted_shares[j], 0.0) * left
    return shown + max(hidden_shares - max(block.depleted_shares[j] - shown_shares, 0.0), 0.0)


@njit(inline="always", error_model="numpy")
def fill_of(fixed: Any, j: Any, sent: float, held: float, touch_bps: float, limit_bps: float) -> float:
    """Shares filled of a child that finds `held` shares from `touch_bps` on.

    The average price of f shares is the touch plus ``walk f / held`` (of all that is held: hidden size makes a book
    deeper, fade makes it shallower), so the f-th share costs the touch plus
    ``2 walk f / held``: the child stops where that reaches its limit. A dark pool fills nothing below its minimum.
    """
    walk_bps, filled = fixed.walk_bps[j], min(sent, held)
    within = min(filled, held * max(limit_bps - touch_bps, 0.0) / (2.0 * max(walk_bps, 1e-300)))
    filled = within if (walk_bps > 0.0) & (limit_bps < math.inf) else filled
    too_small = (fixed.dark[j] == 1.0) & (filled < fixed.min_execution_shares[j] * (1.0 - 1e-9))
    return 0.0 if (touch_bps > limit_bps + 1e-9) | (held <= 0.0) | too_small else filled


@njit(inline="always")
def _book_fill(
    block: Any, i: int, j: int, fixed: Any, share_cost: float, filled: float, move_bps: float, walk_bps: float
) -> None:
    """Write a fill into the ledger: `move_bps` is the far touch's, since the decision that this step began with."""
    fee_bps = fixed.take_fee_bps[j]
    price_bps = block.offset_bps[j] + move_bps + walk_bps
    block.spread_cost[i] += filled * block.offset_bps[j] * share_cost
    block.timing_cost[i] += filled * move_bps * share_cost
    block.impact_cost[i] += filled * walk_bps * share_cost
    block.fee_cost[i] += filled * fee_bps * share_cost
    block.fill_value_bps_shares[i] += filled * (price_bps + block.mid_bps[i] + block.displacement_bps[i])
    block.fill_cost[j] = filled * (price_bps + fee_bps) * share_cost
    block.filled_shares[j] = filled
    block.episode_filled_shares[j] += filled
    block.depleted_shares[j] += filled
    block.step_cost[i] += block.fill_cost[j]


@njit(inline="always")
def _answer(block: Any, j: int, sent: float, filled: float, rejected: bool) -> None:
    """Tell the router what became of a child."""
    block.fill_ratio[j] = MEMORY * block.fill_ratio[j] + (1.0 - MEMORY) * filled / sent
    block.reject[j] = 1.0 if rejected else 0.0


# ------------------------------------------------------------------------------------------- sending children


@njit(inline="always")
def shares_to_send(block: Any, i: int, market: Any, pace: float) -> float:
    """This step's slice of the schedule, or `pace` of what is available: whole lots of it where the market has lots."""
    if pace < 0.0:
        return block.slice_shares[i]
    lots = math.ceil(block.available_shares[i] / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
    part = math.floor(min(pace, 1.0) * lots + 0.5) / lots if lots > 0.0 else min(pace, 1.0)
    return part * block.available_shares[i]


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
        block.ack_ms[j] = 0.0
        block.sent_shares[j] = whole * work.lot_shares[j] if lots > 0.0 else weight * work.shares[j]
    if market.lot_shares <= 0.0:
        return
    for order in range(i, i + n):
        begin = order * n_venues
        left = work.lots[begin]
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


@njit(inline="always")
def takes_orders(block: Any, j: Any) -> bool:
    """Whether a child that reaches this venue now is executed; an open venue that takes none rejects the child."""
    return (block.open[j] == 1.0) & (block.outage[j] == 0.0)


@njit(inline="always")
def first_arrival_ms(block: Any, i: int, fixed: Any, market: Any, latest_ms: float) -> float:
    """When the first child reaches a venue that trades, as far as one knows now; infinite if none does."""
    first = math.inf
    for j in lanes(i, market):
        arrives_ms = block.latency_ms[j] + held_back_ms(fixed, j, market, latest_ms)
        first = min(first, arrives_ms if (block.sent_shares[j] > 0.0) & takes_orders(block, j) else math.inf)
    return first


@njit(inline="always")
def best_observed_bps(block: Any, i: int, fixed: Any, market: Any) -> float:
    """The best observed far touch, above the mid; infinite where nobody quotes."""
    best = math.inf
    for j in lanes(i, market):
        if fixed.dark[j] == 0 and displayed_shares(block, j) > 0.0:
            best = min(best, block.observed_offset_bps[j])
    return best


@njit
def untaken_quotes(block: Any, i: int, fixed: Any, market: Any, sent: bool) -> tuple[int, float, float]:
    """Of the observed quotes that this decision's children do not take whole: whose is best, at what, and the second.

    Infinite where there is none. To be asked before any child fills, which changes what venues show; before any is
    `sent`, no quote is taken.
    """
    at, best, second = -1, math.inf, math.inf
    for j in lanes(i, market):
        shown, offset_bps = displayed_shares(block, j), block.observed_offset_bps[j]
        taken = sent and block.sent_shares[j] >= shown * (1.0 - 1e-9)
        if fixed.dark[j] == 0 and shown > 0.0 and not taken:
            if offset_bps < best:
                at, best, second = j, offset_bps, best
            else:
                second = min(second, offset_bps)
    return at, best, second


@njit
def limit_of(market: Any, j: int, observed_bps: float, untaken: tuple[int, float, float]) -> float:
    """The highest price, above the mid at the decision, that a child in lane `j` may pay.

    The best observed price plus the market's offset and, with order protection, no quote that is left elsewhere.
    """
    limit_bps = observed_bps + market.limit_offset_bps
    if market.order_protection == 1:
        limit_bps = min(limit_bps, untaken[2] if untaken[0] == j else untaken[1])
    return limit_bps


# ------------------------------------------------------------------------------------------- filling children


@njit
def fill_all(block: Any, i: int, fixed: Any, market: Any) -> float:
    """Fill all children, at the price of a whole even slice: the notebook's cost is linear."""
    share_cost, even_slice = market.cost_scale / market.quantity_shares, market.quantity_shares / market.horizon_steps
    total = 0.0
    for j in lanes(i, market):
        sent = block.sent_shares[j]
        block.filled_shares[j], block.fill_cost[j] = 0.0, 0.0
        if sent > 0.0:
            block.episode_sent_shares[j] += sent
            block.ack_ms[j] = block.latency_ms[j]
            walk_bps = market.liquidity_cost * even_slice / block.arrival_size_shares[j]
            move_bps = block.touch_move_bps[j] + market.latency_cost * block.latency_ms[j]
            _book_fill(block, i, j, fixed, share_cost, sent, move_bps, walk_bps)
            _answer(block, j, sent, sent, False)
            total += sent
    return total


@njit
def look_up_arrivals(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Write into `children` what those find that arrive in this step, but not at their venue's own latency.

    These are the ones sent earlier, and those that are held back so that all arrive at once. Their fills are part of
    what the episode offered, for the clean-up's price.
    """
    step_ms = 1e3 * market.step_s
    latest_ms = latest_expected_ms(block, i, fixed, market)
    for j in lanes(i, market):
        arrives_ms = block.child_arrives_ms[j]
        if block.child_shares[j] <= 0.0:
            arrives_ms = (
                block.latency_ms[j] + held_back_ms(fixed, j, market, latest_ms) if block.sent_shares[j] > 0.0 else -1.0
            )
        if 0.0 <= arrives_ms < step_ms and block.open[j] == 1:
            move_bps, shown, hidden = arrival_state(block, i, j, market, recording, arrives_ms)
            block.child_move_bps[j], block.child_shown_shares[j], block.child_hidden_shares[j] = move_bps, shown, hidden
            worst_offered_bps = block.offset_bps[j] + max(move_bps, 0.0) + fixed.walk_bps[j] + fixed.take_fee_bps[j]
            block.worst_offered_bps[i] = max(block.worst_offered_bps[i], worst_offered_bps)


@njit
def _prepare_fills(block: Any, i: int, fixed: Any, market: Any, work: Any) -> None:
    """Write what the children of one order have in common: the first arrival, limits, and how long they are held."""
    latest_ms = latest_expected_ms(block, i, fixed, market) if market.synchronise == 1 else 0.0
    first_ms = first_arrival_ms(block, i, fixed, market, latest_ms)
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + 1) * market.n_venues)):
        work.first_ms[j] = first_ms
    if market.limit_offset_bps < math.inf or market.order_protection == 1:
        observed_bps = best_observed_bps(block, i, fixed, market)
        untaken = untaken_quotes(block, i, fixed, market, True)
        for j in lanes(i, market):
            work.limit_bps[j] = limit_of(market, j, observed_bps, untaken)
    if market.synchronise == 1:
        for j in lanes(i, market):
            work.hold_ms[j] = held_back_ms(fixed, j, market, latest_ms)
            if work.hold_ms[j] > 0.0:
                work.move_bps[j], work.shown_shares[j] = block.child_move_bps[j], block.child_shown_shares[j]
                work.hidden_shares[j] = block.child_hidden_shares[j]


@njit(error_model="numpy")
def _fill_lanes(block: Any, fixed: Any, market: Any, first: int, last: int, work: Any) -> None:
    """Fill the children sent now in the lanes from `first` up to `last`: no branches, for vectors."""
    share_cost, step_ms = market.cost_scale / market.quantity_shares, 1e3 * market.step_s
    outage_reject_ms, reaction_time_ms = market.outage_reject_ms, market.reaction_time_ms
    for j in range(np.uint64(first), np.uint64(last)):
        sent, latency_ms, depleted = block.sent_shares[j], block.latency_ms[j], block.depleted_shares[j]
        new, is_open, takes = sent > 0.0, block.open[j] == 1.0, takes_orders(block, j)
        arrives_ms = latency_ms + work.hold_ms[j]
        on_time = arrives_ms < step_ms  # else what the venue is on arrival counts, not what it is now
        rejected = is_open & (not takes) & on_time
        answers_ms = arrives_ms + latency_ms - fixed.speed_bump_ms[j]
        ack_ms = max(answers_ms, outage_reject_ms) if rejected else answers_ms
        answered = new & (ack_ms <= step_ms)
        late_ms = max(arrives_ms - work.first_ms[j], 0.0)
        left = exp(-fixed.toxicity[j] * late_ms / reaction_time_ms)
        shown, hidden = work.shown_shares[j], work.hidden_shares[j]
        held = max(shown - depleted, 0.0) * left + max(hidden - max(depleted - shown, 0.0), 0.0)
        offset_bps, move_bps, walk_bps = block.offset_bps[j], work.move_bps[j], fixed.walk_bps[j]
        within = fill_of(fixed, j, sent, held, offset_bps + move_bps, work.limit_bps[j])
        filled = within if new & takes & on_time else 0.0
        walked_bps = walk_bps * filled / held if filled > 0.0 else 0.0
        price_bps, fee_bps = offset_bps + move_bps + walked_bps, fixed.take_fee_bps[j]
        move_bps = move_bps if filled > 0.0 else 0.0
        work.spread[j], work.timing[j] = filled * offset_bps * share_cost, filled * move_bps * share_cost
        work.impact[j], work.fee[j] = filled * walked_bps * share_cost, filled * fee_bps * share_cost
        work.value[j] = filled * price_bps if filled > 0.0 else 0.0
        work.pending[j] = 1.0 if new and not answered else 0.0
        block.filled_shares[j] = filled
        block.fill_cost[j] = filled * (price_bps + fee_bps) * share_cost if filled > 0.0 else 0.0
        block.episode_sent_shares[j] += sent if new else 0.0
        block.episode_filled_shares[j] += filled
        block.depleted_shares[j] = depleted + filled
        block.ack_ms[j] = ack_ms if new else 0.0
        ratio = MEMORY * block.fill_ratio[j] + (1.0 - MEMORY) * filled / sent
        block.fill_ratio[j] = ratio if answered else block.fill_ratio[j]
        block.reject[j] = (1.0 if rejected else 0.0) if answered else MEMORY * block.reject[j]


@njit
def _book_fills(block: Any, i: int, fixed: Any, market: Any, work: Any) -> float:
    """Write the fills of an order's children sent now into its ledger; shares filled."""
    total, spread, timing, impact, fee, cost, value = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
    leaked_bps, pending, mid_bps = 0.0, 0.0, block.mid_bps[i] + block.displacement_bps[i]
    for j in lanes(i, market):
        filled = block.filled_shares[j]
        total += filled
        spread += work.spread[j]
        timing += work.timing[j]
        impact += work.impact[j]
        fee += work.fee[j]
        cost += block.fill_cost[j]
        value += work.value[j]
        pending += work.pending[j]
        leaked_bps += fixed.leak_bps_per_share[j] * block.sent_shares[j]
    block.spread_cost[i] += spread
    block.timing_cost[i] += timing
    block.impact_cost[i] += impact
    block.fee_cost[i] += fee
    block.step_cost[i] += cost
    block.fill_value_bps_shares[i] += value + total * mid_bps
    block.leak_bps[i] += leaked_bps
    if pending > 0.0:
        _keep_pending(block, i, fixed, market, work)
    return total


@njit
def _keep_pending(block: Any, i: int, fixed: Any, market: Any, work: Any) -> None:
    """Keep the children sent now that are not acknowledged by the next decision."""
    step_ms = 1e3 * market.step_s
    for j in lanes(i, market):
        if work.pending[j] == 1.0:
            arrives_ms = block.latency_ms[j] + work.hold_ms[j]
            late = arrives_ms >= step_ms
            block.child_shares[j], block.child_filled_shares[j] = block.sent_shares[j], block.filled_shares[j]
            block.child_rejected[j] = 1.0 if block.open[j] == 1.0 and not takes_orders(block, j) and not late else 0.0
            block.child_answers_ms[j] = block.ack_ms[j]
            block.child_arrives_ms[j] = arrives_ms if late else -1.0
            block.child_late_ms[j] = arrives_ms - work.first_ms[j]
            block.child_limit_bps[j] = work.limit_bps[j] + block.mid_bps[i] + block.displacement_bps[i]
            block.in_flight[i] += 1


@njit
def fill_children(block: Any, i: int, n: int, fixed: Any, market: Any, work: Any) -> None:
    """Fill the children that orders ``i .. i + n - 1`` sent now and that arrive in this step."""
    first, last = i * market.n_venues, (i + n) * market.n_venues
    for j in range(np.uint64(first), np.uint64(last)):
        work.move_bps[j], work.shown_shares[j] = block.touch_move_bps[j], block.arrival_size_shares[j]
        work.hidden_shares[j], work.limit_bps[j], work.hold_ms[j] = block.hidden_shares[j], math.inf, 0.0
    for order in range(i, i + n):
        _prepare_fills(block, order, fixed, market, work)
    _fill_lanes(block, fixed, market, first, last, work)


@njit
def fill_arrivals(block: Any, i: int, fixed: Any, market: Any) -> float:
    """Fill the children of earlier decisions that arrive in this step; give the answers that are due in it.

    Returns shares filled. A venue that is closed at the arrival fills nothing; one in an outage rejects late.
    """
    share_cost, step_ms = market.cost_scale / market.quantity_shares, 1e3 * market.step_s
    total = 0.0
    for j in lanes(i, market):
        if block.child_shares[j] <= 0.0 or block.sent_shares[j] > 0.0:  # none, or one of this very decision
            continue
        arrives = 0.0 <= block.child_arrives_ms[j] < step_ms and block.open[j] == 1
        if arrives and not takes_orders(block, j):
            block.child_rejected[j] = 1
            given_up_ms = block.child_arrives_ms[j] + market.outage_reject_ms
            block.child_answers_ms[j] = max(block.child_answers_ms[j], given_up_ms)
        elif arrives:
            move_bps = block.child_move_bps[j]
            left = faded(fixed, j, market, block.child_late_ms[j])
            held = held_shares(block, j, block.child_shown_shares[j], block.child_hidden_shares[j], left)
            limit_bps = block.child_limit_bps[j] - block.mid_bps[i] - block.displacement_bps[i]
            filled = fill_of(fixed, j, block.child_shares[j], held, block.offset_bps[j] + move_bps, limit_bps)
            if filled > 0.0:
                walk_bps = fixed.walk_bps[j] * filled / held
                _book_fill(block, i, j, fixed, share_cost, filled, move_bps, walk_bps)
                block.child_filled_shares[j] = filled
                total += filled
        if block.child_answers_ms[j] <= step_ms:
            _answer(block, j, block.child_shares[j], block.child_filled_shares[j], block.child_rejected[j] == 1)
            block.child_shares[j] = 0.0
            block.in_flight[i] -= 1
    return total


@njit(inline="always")
def age_children(block: Any, i: int, market: Any) -> None:
    """Let a step's time pass for the children in flight, and count the shares that are not available."""
    step_ms = 1e3 * market.step_s
    block.in_flight_shares[i], unfilled = 0.0, 0.0
    if block.in_flight[i] > 0:
        for j in lanes(i, market):
            if block.child_shares[j] > 0.0:
                block.child_answers_ms[j] -= step_ms
                block.child_arrives_ms[j] = max(block.child_arrives_ms[j] - step_ms, -1.0)
                block.in_flight_shares[i] += block.child_shares[j]
                unfilled += block.child_shares[j] - block.child_filled_shares[j]
    block.available_shares[i] = max(block.remaining_shares[i] - unfilled, 0.0)


# ---------------------------------------------------------------------------------------------------- the step


@njit(inline="always")
def worst_offer_bps(block: Any, j: Any, fixed: Any, market: Any, up_bps: float) -> float:
    """The highest all-in price above the mid that a child of this step could pay in lane `j`, however late it comes.

    `up_bps` is the most that the mid moves against it in a synthetic market, which a quote's own change adds to.
    """
    quote_bps = max(block.next_offset_bps[j] - block.offset_bps[j], 0.0)
    move_bps = up_bps + quote_bps if market.model == SYNTHETIC else max(block.touch_move_bps[j], 0.0)
    return block.offset_bps[j] + move_bps + fixed.worst_walk_bps[j] + fixed.take_fee_bps[j]


@njit
def worst_offer_of_step_bps(block: Any, i: int, fixed: Any, market: Any) -> float:
    """The highest all-in price above the mid that a child of this step could pay anywhere."""
    worst_bps, up_bps = -math.inf, max(block.smooth_move_bps[i], 0.0) + max(block.news_bps[i], 0.0)
    for j in lanes(i, market):
        worst_bps = max(worst_bps, worst_offer_bps(block, j, fixed, market, up_bps))
    return worst_bps


@njit(inline="always")
def mark_to_next_mid(block: Any, i: int, market: Any, filled_shares: float, idle_shares: float) -> None:
    """Charge the mid's move, and our own lasting push of it, on what is still to be done.

    What variance reduction may leave out is each noise times an inventory fixed before that noise is drawn. Fills do
    not read the mid's noise, so what they leave is fixed before it; under a limit they do, and then only the
    `idle_shares` are, which no child carries. They do read the news, and routers hear of the drift, so of these what
    the schedule leaves is taken, which is fixed from the start and near to what is really left; without a schedule, of
    the news what was to be done before the fills.
    """
    share_cost = market.cost_scale / market.quantity_shares
    leaked_bps = block.leak_bps[i] * (1.0 - market.leak_decay)
    block.leak_bps[i] -= leaked_bps
    push_bps = market.permanent_bps_per_share * filled_shares + leaked_bps
    move_bps = block.next_mid_bps[i] - block.mid_bps[i]
    timing = block.remaining_shares[i] * move_bps * share_cost
    push = block.remaining_shares[i] * push_bps * share_cost
    block.timing_cost[i] += timing
    block.impact_cost[i] += push
    block.step_cost[i] += timing + push
    limited = market.limit_offset_bps < math.inf or market.order_protection == 1
    noise = (idle_shares if limited else block.remaining_shares[i]) * block.mid_noise_bps[i]
    scheduled = market.quantity_shares * (1.0 - (block.step[i] + 1.0) / market.horizon_steps)
    if block.paced[i] == 1:
        noise += (block.remaining_shares[i] + filled_shares) * block.news_bps[i]
    else:
        noise += scheduled * (block.news_bps[i] + block.smooth_move_bps[i] - block.mid_noise_bps[i])
    block.step_noise_cost[i] = noise * share_cost
    block.noise_cost[i] += block.step_noise_cost[i]
    block.displacement_bps[i] += push_bps
    block.mid_bps[i] = block.next_mid_bps[i]
    block.last_move_bps[i] = move_bps + push_bps


@njit(inline="always")
def clean_up(block: Any, i: int, market: Any) -> None:
    """Sweep what is left at the deadline, at a price dearer than any fill that the episode offered."""
    if block.remaining_shares[i] <= 0.0:
        return
    price_bps = block.worst_offered_bps[i] + market.cleanup_penalty_bps
    cost = block.remaining_shares[i] * price_bps * market.cost_scale / market.quantity_shares
    block.cleanup_shares[i] = block.remaining_shares[i]
    block.cleanup_cost[i] += cost
    block.step_cost[i] += cost
    block.cleanup_value_bps_shares[i] = block.remaining_shares[i] * (
        price_bps + block.mid_bps[i] + block.displacement_bps[i]
    )
    block.remaining_shares[i] = 0.0


@njit(error_model="numpy")
def send_children(
    block: Any, i: int, n: int, fixed: Any, market: Any, weights: Any, pace: Any, member: int, work: Any
) -> None:
    """Begin a decision of orders ``i .. i + n - 1``, which are members `member` and following of the batch.

    `weights` (N K,) of this step's shares go into the venues' `sent_shares`. A `pace` (N,) in [0, 1] is a share of what
    is available; negative means this step's slice of the schedule. A venue with a child in flight takes no other.
    """
    n_venues, in_flight = market.n_venues, 0
    for order in range(i, i + n):
        its_pace = pace[member + order - i]
        block.step_cost[order], block.step_noise_cost[order] = 0.0, 0.0
        block.paced[order] = 1.0 if its_pace >= 0.0 else 0.0
        shares = shares_to_send(block, order, market, its_pace)
        block.step_shares[order] = shares
        lots = math.ceil(shares / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
        lot_shares, up_bps = (
            shares / max(lots, 1.0),
            max(block.smooth_move_bps[order], 0.0) + max(block.news_bps[order], 0.0),
        )
        in_flight += block.in_flight[order]
        for j in range(np.uint64(order * n_venues), np.uint64((order + 1) * n_venues)):
            work.shares[j], work.lots[j], work.lot_shares[j], work.worst_move_bps[j] = shares, lots, lot_shares, up_bps
            work.remainder[j] = np.int64(j) - order * n_venues  # which venue
    _assign_shares(block, i, n, fixed, market, weights, member, work)
    for j in range(np.uint64(i * n_venues), np.uint64((i + n) * n_venues)):
        work.offer_bps[j] = worst_offer_bps(block, j, fixed, market, work.worst_move_bps[j])
    for order in range(i, i + n):
        worst_bps = block.worst_offered_bps[order]
        for j in lanes(order, market):
            worst_bps = max(worst_bps, work.offer_bps[j])
        block.worst_offered_bps[order] = worst_bps
    if in_flight > 0:
        for j in range(i * n_venues, (i + n) * n_venues):
            if block.child_shares[j] > 0.0:
                block.sent_shares[j] = 0.0


@njit
def settle(block: Any, i: int, n: int, fixed: Any, market: Any, work: Any) -> None:
    """End a decision of orders ``i .. i + n - 1``: fill what arrives, mark to the mid, clean up at the deadline."""
    if market.fills_all == 0:
        fill_children(block, i, n, fixed, market, work)
    for order in range(i, i + n):
        idle_shares = block.available_shares[order] - block.step_shares[order]
        if market.fills_all == 1:
            filled = fill_all(block, order, fixed, market)
        else:
            earlier = block.in_flight[order]
            filled = _book_fills(block, order, fixed, market, work)
            if earlier > 0:
                filled += fill_arrivals(block, order, fixed, market)
        block.remaining_shares[order] -= filled
        if block.remaining_shares[order] < 1e-12 * market.quantity_shares:  # rounding of the weights, not shares
            block.remaining_shares[order] = 0.0
        age_children(block, order, market)
        mark_to_next_mid(block, order, market, filled, idle_shares)
        block.step[order] += 1
        if block.step[order] >= market.horizon_steps:
            clean_up(block, order, market)
        block.slice_shares[order] = scheduled_slice(block, order, market)
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + n) * market.n_venues)):
        block.depleted_shares[j] *= fixed.refill_decay[j]
