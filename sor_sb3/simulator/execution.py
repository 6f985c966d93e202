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

from numba import njit

from sor_sb3.simulator.elementary import exp
from sor_sb3.simulator.paths import arrival_state
from sor_sb3.simulator.records import NOTEBOOK, SYNTHETIC

# The kernels of every step are inlined into the batch's loop: a call would count the references of all its arrays.

MEMORY = 0.7  # weight of the past in a venue's recent fill ratio, and in its last rejection


@njit(inline="always")
def scheduled_slice(order: Any, market: Any) -> float:
    """Shares that a TWAP schedule wants done in this step, with what was missed carried forward."""
    still_allowed = market.quantity_shares * (1.0 - (order.step + 1.0) / market.horizon_steps)
    return max(order.available_shares - still_allowed, 0.0)


@njit(inline="always")
def displayed_shares(venue: Any) -> float:
    """What a venue shows, as heard: its quoted size, less what we took and it has not refilled; no rounding rests."""
    left = venue.observed_shares - venue.depleted_shares
    return left if venue.open == 1 and left > 1e-9 * venue.observed_shares else 0.0


@njit(inline="always")
def faded(parameters: Any, market: Any, late_ms: float) -> float:
    """Share of a displayed size that is left when a child comes `late_ms` after the first of its decision."""
    if late_ms > 0.0 and parameters.toxicity > 0.0:
        return exp(-parameters.toxicity * late_ms / market.reaction_time_ms)
    return 1.0


@njit(inline="always")
def held_shares(venue: Any, shown_shares: float, hidden_shares: float, left: float) -> float:
    """What a child can take: displayed and hidden size, less what we took before, the displayed part times `left`."""
    shown = max(shown_shares - venue.depleted_shares, 0.0) * left
    return shown + max(hidden_shares - max(venue.depleted_shares - shown_shares, 0.0), 0.0)


@njit(inline="always")
def fill_of(parameters: Any, sent: float, held: float, touch_bps: float, limit_bps: float) -> tuple[float, float]:
    """(shares filled, walk in bps) of a child that finds `held` shares from `touch_bps` on.

    The average price of f shares is the touch plus ``walk f / held`` (of all that is held: hidden size makes a book
    deeper, fade makes it shallower), so the f-th share costs the touch plus
    ``2 walk f / held``: the child stops where that reaches its limit. A dark pool fills nothing below its minimum.
    """
    if touch_bps > limit_bps + 1e-9 or held <= 0.0:
        return 0.0, 0.0
    filled = min(sent, held)
    if parameters.walk_bps > 0.0 and limit_bps < math.inf:
        filled = min(filled, held * max(limit_bps - touch_bps, 0.0) / (2.0 * parameters.walk_bps))
    if parameters.dark == 1 and filled < parameters.min_execution_shares * (1.0 - 1e-9):
        filled = 0.0
    return filled, parameters.walk_bps * filled / held


@njit(inline="always")
def _book_fill(
    order: Any, venue: Any, parameters: Any, share_cost: float, filled: float, move_bps: float, walk_bps: float
) -> None:
    """Write a fill into the ledger: `move_bps` is the far touch's, since the decision that this step began with."""
    fee_bps = parameters.take_fee_bps
    price_bps = venue.offset_bps + move_bps + walk_bps
    order.spread_cost += filled * venue.offset_bps * share_cost
    order.timing_cost += filled * move_bps * share_cost
    order.impact_cost += filled * walk_bps * share_cost
    order.fee_cost += filled * fee_bps * share_cost
    order.fill_value_bps_shares += filled * (price_bps + order.mid_bps + order.displacement_bps)
    venue.effective_spread_bps_shares += filled * price_bps
    venue.fill_cost = filled * (price_bps + fee_bps) * share_cost
    venue.filled_shares = filled
    venue.episode_filled_shares += filled
    venue.depleted_shares += filled
    order.step_cost += venue.fill_cost


@njit(inline="always")
def _answer(venue: Any, sent: float, filled: float, rejected: bool) -> None:
    """The router hears what became of a child."""
    venue.fill_ratio = MEMORY * venue.fill_ratio + (1.0 - MEMORY) * filled / sent
    venue.reject = 1.0 if rejected else 0.0


# ------------------------------------------------------------------------------------------- sending children


@njit(inline="always")
def shares_to_send(order: Any, market: Any, pace: float) -> float:
    """This step's slice of the schedule, or `pace` of what is available: whole lots of it where the market has lots."""
    if pace < 0.0:
        return order.slice_shares
    lots = math.ceil(order.available_shares / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
    part = math.floor(min(pace, 1.0) * lots + 0.5) / lots if lots > 0.0 else min(pace, 1.0)
    return part * order.available_shares


@njit(inline="always")
def assign_shares(venues: Any, parameters: Any, market: Any, weights: Any, shares: float, missing: Any) -> None:
    """Lay `weights` of `shares` into `sent_shares`, in whole lots where the market has them.

    The lots are the fewest equal ones no larger than the market's; each venue gets the whole lots in its share, and
    what is left goes one by one to the largest remainders, ties by name. A venue with a child in flight takes none.
    `missing` (K,) is scratch: how many lots a venue lacks.
    """
    lots = math.ceil(shares / market.lot_shares - 1e-9) if market.lot_shares > 0.0 else 0.0
    lot_shares, left = shares / max(lots, 1.0), lots
    for k in range(venues.size):
        venues[k].ack_ms = 0.0
        venues[k].sent_shares = weights[k] * shares
        if lots > 0.0:
            whole = math.floor(weights[k] * lots + 1e-9)
            venues[k].sent_shares = whole * lot_shares
            missing[k] = weights[k] * lots - whole
            left -= whole
    while lots > 0.0 and left > 0.5:
        best, most = 0, -1.0
        for k in range(venues.size):
            tied = abs(missing[k] - most) <= 1e-9
            if parameters[k].name_rank < parameters[best].name_rank if tied else missing[k] > most:
                best, most = k, missing[k]
        venues[best].sent_shares += lot_shares
        missing[best] -= 1.0
        left -= 1.0


@njit
def _keep_back(venues: Any, children: Any) -> None:
    for k in range(venues.size):
        if children[k].shares > 0.0:
            venues[k].sent_shares = 0.0


@njit(inline="always")
def latest_expected_ms(venues: Any, parameters: Any) -> float:
    """The longest typical latency among the venues that children go to."""
    latest = 0.0
    for k in range(venues.size):
        if venues[k].sent_shares > 0.0:
            latest = max(latest, parameters[k].latency_ms + parameters[k].speed_bump_ms)
    return latest


@njit(inline="always")
def held_back_ms(parameters: Any, market: Any, latest_ms: float) -> float:
    """How long a child waits here, so that all of them are expected at once."""
    return latest_ms - parameters.latency_ms - parameters.speed_bump_ms if market.synchronise == 1 else 0.0


@njit(inline="always")
def first_arrival_ms(venues: Any, parameters: Any, market: Any, latest_ms: float) -> float:
    """When the first child reaches a venue that trades, as far as one knows now; infinite if none does."""
    first = math.inf
    for k in range(venues.size):
        if venues[k].sent_shares > 0.0 and venues[k].open == 1 and venues[k].outage == 0:
            first = min(first, venues[k].latency_ms + held_back_ms(parameters[k], market, latest_ms))
    return first


@njit(inline="always")
def best_observed_bps(venues: Any, parameters: Any) -> float:
    """The best far touch heard, above the mid; infinite where nobody quotes."""
    best = math.inf
    for k in range(venues.size):
        if parameters[k].dark == 0 and displayed_shares(venues[k]) > 0.0:
            best = min(best, venues[k].observed_offset_bps)
    return best


@njit
def untaken_quotes(venues: Any, parameters: Any, sent: bool) -> tuple[int, float, float]:
    """Of the quotes heard that this decision's children do not take whole: whose is best, at what, and the second.

    Infinite where there is none. To be asked before any child fills, which changes what venues show; before any is
    `sent`, no quote is taken.
    """
    at, best, second = -1, math.inf, math.inf
    for k in range(venues.size):
        shown, offset_bps = displayed_shares(venues[k]), venues[k].observed_offset_bps
        taken = sent and venues[k].sent_shares >= shown * (1.0 - 1e-9)
        if parameters[k].dark == 0 and shown > 0.0 and not taken:
            if offset_bps < best:
                at, best, second = k, offset_bps, best
            else:
                second = min(second, offset_bps)
    return at, best, second


@njit
def limit_of(market: Any, k: int, observed_bps: float, untaken: tuple[int, float, float]) -> float:
    """The dearest price, above the mid at the decision, that a child at venue `k` may pay.

    The best price heard plus the market's offset and, with order protection, no quote that is left elsewhere.
    """
    limit_bps = observed_bps + market.limit_offset_bps
    if market.order_protection == 1:
        limit_bps = min(limit_bps, untaken[2] if untaken[0] == k else untaken[1])
    return limit_bps


# ------------------------------------------------------------------------------------------- filling children


@njit
def fill_notebook(order: Any, venues: Any, parameters: Any, market: Any) -> float:
    """The notebook's children: its cost is linear, so everything fills, at the price of a whole even slice."""
    share_cost, even_slice = market.cost_scale / market.quantity_shares, market.quantity_shares / market.horizon_steps
    total = 0.0
    for k in range(venues.size):
        venue, sent = venues[k], venues[k].sent_shares
        venue.filled_shares, venue.fill_cost = 0.0, 0.0
        if sent > 0.0:
            venue.episode_sent_shares += sent
            venue.ack_ms = venue.latency_ms
            walk_bps = market.liquidity_cost * even_slice / venue.arrival_size_shares
            move_bps = venue.touch_move_bps + market.latency_cost * venue.latency_ms
            _book_fill(order, venue, parameters[k], share_cost, sent, move_bps, walk_bps)
            _answer(venue, sent, sent, False)
            total += sent
    return total


@njit
def look_up_arrivals(order: Any, venues: Any, children: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Write into `children` what those find that arrive in this step, but not at their venue's own latency.

    These are the ones sent earlier, and those that are held back so that all arrive at once. Their fills are part of
    what the episode offered, for the clean-up's price.
    """
    step_ms = 1e3 * market.step_s
    latest_ms = latest_expected_ms(venues, parameters)
    for k in range(venues.size):
        child, venue, fixed = children[k], venues[k], parameters[k]
        arrives_ms = child.arrives_ms
        if child.shares <= 0.0:
            arrives_ms = venue.latency_ms + held_back_ms(fixed, market, latest_ms) if venue.sent_shares > 0.0 else -1.0
        if 0.0 <= arrives_ms < step_ms and venue.open == 1:
            move_bps, shown, hidden = arrival_state(order, venue, k, fixed, market, recording, arrives_ms)
            child.move_bps, child.shown_shares, child.hidden_shares = move_bps, shown, hidden
            worst_offered_bps = venue.offset_bps + max(move_bps, 0.0) + fixed.walk_bps + fixed.take_fee_bps
            order.worst_offered_bps = max(order.worst_offered_bps, worst_offered_bps)


@njit(inline="always")
def fill_children(order: Any, venues: Any, children: Any, parameters: Any, market: Any) -> float:
    """Send the children that `sent_shares` of the venues name; fill those that arrive in this step.

    Books their costs, and keeps those that are not acknowledged by the next decision. Returns shares filled.
    """
    share_cost, step_ms = market.cost_scale / market.quantity_shares, 1e3 * market.step_s
    latest_ms = latest_expected_ms(venues, parameters) if market.synchronise == 1 else 0.0
    first_ms = first_arrival_ms(venues, parameters, market, latest_ms)
    limited = market.limit_offset_bps < math.inf or market.order_protection == 1
    observed_bps, untaken = math.inf, (-1, math.inf, math.inf)
    if limited:
        observed_bps, untaken = best_observed_bps(venues, parameters), untaken_quotes(venues, parameters, True)
    total = 0.0
    for k in range(venues.size):
        venue, fixed = venues[k], parameters[k]
        venue.filled_shares, venue.fill_cost = 0.0, 0.0
        venue.reject *= MEMORY
        sent = venue.sent_shares
        if sent <= 0.0:
            continue
        venue.episode_sent_shares += sent
        order.leak_bps += fixed.leak_bps_per_share * sent
        hold_ms = held_back_ms(fixed, market, latest_ms)
        arrives_ms = venue.latency_ms + hold_ms
        late = arrives_ms >= step_ms  # then what the venue is on arrival counts, not what it is now
        rejected = venue.open == 1 and venue.outage == 1 and not late
        answers_ms = arrives_ms + venue.latency_ms - fixed.speed_bump_ms
        venue.ack_ms = max(answers_ms, market.outage_reject_ms) if rejected else answers_ms
        limit_bps = limit_of(market, k, observed_bps, untaken) if limited else math.inf
        filled = 0.0
        if venue.open == 1 and venue.outage == 0 and not late:
            move_bps, shown, hidden = venue.touch_move_bps, venue.arrival_size_shares, venue.hidden_shares
            if hold_ms > 0.0:
                move_bps, shown, hidden = children[k].move_bps, children[k].shown_shares, children[k].hidden_shares
            held = held_shares(venue, shown, hidden, faded(fixed, market, arrives_ms - first_ms))
            filled, walk_bps = fill_of(fixed, sent, held, venue.offset_bps + move_bps, limit_bps)
            if filled > 0.0:
                _book_fill(order, venue, fixed, share_cost, filled, move_bps, walk_bps)
                total += filled
        if venue.ack_ms <= step_ms:
            _answer(venue, sent, filled, rejected)
        else:
            child = children[k]
            child.shares, child.filled_shares, child.rejected = sent, filled, 1 if rejected else 0
            child.answers_ms = venue.ack_ms
            child.arrives_ms = arrives_ms if late else -1.0
            child.late_ms = arrives_ms - first_ms
            child.limit_bps = limit_bps + order.mid_bps + order.displacement_bps
            order.in_flight += 1
    return total


@njit
def fill_arrivals(order: Any, venues: Any, children: Any, parameters: Any, market: Any) -> float:
    """Fill the children of earlier decisions that arrive in this step; hear those that are acknowledged in it.

    Returns shares filled. A venue that is closed at the arrival fills nothing; one in an outage rejects late.
    """
    share_cost, step_ms = market.cost_scale / market.quantity_shares, 1e3 * market.step_s
    total = 0.0
    for k in range(venues.size):
        child, venue, fixed = children[k], venues[k], parameters[k]
        if child.shares <= 0.0 or venue.sent_shares > 0.0:  # none, or one of this very decision
            continue
        arrives = 0.0 <= child.arrives_ms < step_ms and venue.open == 1
        if arrives and venue.outage == 1:
            child.rejected = 1
            child.answers_ms = max(child.answers_ms, child.arrives_ms + market.outage_reject_ms)
        elif arrives:
            move_bps = child.move_bps
            held = held_shares(venue, child.shown_shares, child.hidden_shares, faded(fixed, market, child.late_ms))
            limit_bps = child.limit_bps - order.mid_bps - order.displacement_bps
            filled, walk_bps = fill_of(fixed, child.shares, held, venue.offset_bps + move_bps, limit_bps)
            if filled > 0.0:
                _book_fill(order, venue, fixed, share_cost, filled, move_bps, walk_bps)
                child.filled_shares = filled
                total += filled
        if child.answers_ms <= step_ms:
            _answer(venue, child.shares, child.filled_shares, child.rejected == 1)
            child.shares = 0.0
            order.in_flight -= 1
    return total


@njit(inline="always")
def age_children(order: Any, children: Any, market: Any) -> None:
    """Let a step's time pass for the children in flight, and count the shares that are not available."""
    step_ms = 1e3 * market.step_s
    order.in_flight_shares, unfilled = 0.0, 0.0
    if order.in_flight > 0:
        for k in range(children.size):
            child = children[k]
            if child.shares > 0.0:
                child.answers_ms -= step_ms
                child.arrives_ms = max(child.arrives_ms - step_ms, -1.0)
                order.in_flight_shares += child.shares
                unfilled += child.shares - child.filled_shares
    order.available_shares = max(order.remaining_shares - unfilled, 0.0)


# ---------------------------------------------------------------------------------------------------- the step


@njit(inline="always")
def worst_offer_of_step_bps(order: Any, venues: Any, parameters: Any, market: Any) -> float:
    """The dearest all-in price above the mid that a child of this step could pay anywhere, however late it comes."""
    smooth_bps, jump_bps = max(order.smooth_move_bps, 0.0), max(order.news_bps, 0.0)
    worst_offered_bps = -math.inf
    for k in range(venues.size):
        venue = venues[k]
        move_bps, walk_bps = venue.touch_move_bps, parameters[k].walk_bps
        if market.model == NOTEBOOK:
            even_slice = market.quantity_shares / market.horizon_steps
            walk_bps = market.spread_high + market.liquidity_cost * even_slice / market.liquidity_low
            walk_bps += market.latency_cost * market.notebook_latency_high
        elif market.model == SYNTHETIC:
            move_bps = smooth_bps + jump_bps + max(venue.next_offset_bps - venue.offset_bps, 0.0)
        worst_offered_bps = max(
            worst_offered_bps, venue.offset_bps + max(move_bps, 0.0) + walk_bps + parameters[k].take_fee_bps
        )
    return worst_offered_bps


@njit(inline="always")
def mark_to_next_mid(order: Any, market: Any, filled_shares: float, idle_shares: float) -> None:
    """Charge the mid's move, and our own lasting push of it, on what is still to be done.

    What variance reduction may leave out is each noise times an inventory fixed before that noise is drawn. Fills do
    not read the mid's noise, so what they leave is fixed before it; under a limit they do, and then only the
    `idle_shares` are, which no child carries. They do read the news, and routers hear of the drift, so of these what
    the schedule leaves is taken, which is fixed from the start and near to what is really left; without a schedule, of
    the news what was to be done before the fills.
    """
    share_cost = market.cost_scale / market.quantity_shares
    leaked_bps = order.leak_bps * (1.0 - market.leak_decay)
    order.leak_bps -= leaked_bps
    push_bps = market.permanent_bps_per_share * filled_shares + leaked_bps
    move_bps = order.next_mid_bps - order.mid_bps
    timing = order.remaining_shares * move_bps * share_cost
    push = order.remaining_shares * push_bps * share_cost
    order.timing_cost += timing
    order.impact_cost += push
    order.step_cost += timing + push
    limited = market.limit_offset_bps < math.inf or market.order_protection == 1
    noise = (idle_shares if limited else order.remaining_shares) * order.mid_noise_bps
    scheduled = market.quantity_shares * (1.0 - (order.step + 1.0) / market.horizon_steps)
    if order.paced == 1:
        noise += (order.remaining_shares + filled_shares) * order.news_bps
    else:
        noise += scheduled * (order.news_bps + order.smooth_move_bps - order.mid_noise_bps)
    order.step_noise_cost = noise * share_cost
    order.noise_cost += order.step_noise_cost
    order.displacement_bps += push_bps
    order.mid_bps = order.next_mid_bps
    order.last_move_bps = move_bps + push_bps


@njit(inline="always")
def clean_up(order: Any, market: Any) -> None:
    """Sweep what is left at the deadline, at a price dearer than any fill that the episode offered."""
    if order.remaining_shares <= 0.0:
        return
    price_bps = order.worst_offered_bps + market.cleanup_penalty_bps
    cost = order.remaining_shares * price_bps * market.cost_scale / market.quantity_shares
    order.cleanup_shares = order.remaining_shares
    order.cleanup_cost += cost
    order.step_cost += cost
    order.cleanup_value_bps_shares = order.remaining_shares * (price_bps + order.mid_bps + order.displacement_bps)
    order.remaining_shares = 0.0


@njit(inline="always")
def send_children(
    order: Any, venues: Any, children: Any, parameters: Any, market: Any, weights: Any, pace: float, scratch: Any
) -> None:
    """Begin a decision: lay `weights` of this step's shares into the venues' `sent_shares`.

    `pace` in [0, 1] is a share of what is available; negative means this step's slice of the schedule. `scratch` is
    (K,).
    """
    order.step_cost, order.step_noise_cost, order.paced = 0.0, 0.0, 1 if pace >= 0.0 else 0
    order.sent_shares = shares_to_send(order, market, pace)
    assign_shares(venues, parameters, market, weights, order.sent_shares, scratch)
    order.worst_offered_bps = max(order.worst_offered_bps, worst_offer_of_step_bps(order, venues, parameters, market))
    if order.in_flight > 0:
        _keep_back(venues, children)


@njit(inline="always")
def settle(order: Any, venues: Any, children: Any, parameters: Any, market: Any) -> None:
    """End a decision: fill what arrives, mark to the next mid, clean up at the deadline."""
    idle_shares = order.available_shares - order.sent_shares
    if market.model == NOTEBOOK:
        filled = fill_notebook(order, venues, parameters, market)
    else:
        earlier = order.in_flight
        filled = fill_children(order, venues, children, parameters, market)
        if earlier > 0:
            filled += fill_arrivals(order, venues, children, parameters, market)
    order.remaining_shares -= filled
    if order.remaining_shares < 1e-12 * market.quantity_shares:  # rounding of the weights, not shares
        order.remaining_shares = 0.0
    age_children(order, children, market)
    for k in range(venues.size):
        venues[k].depleted_shares *= parameters[k].refill_decay
    mark_to_next_mid(order, market, filled, idle_shares)
    order.step += 1
    if order.step >= market.horizon_steps:
        clean_up(order, market)
