"""What our child orders do: the endogenous half of the market, one scalar kernel for every kind of path.

It reads the quotes that a path module laid into the venue records and never asks where they come from, so
that synthetic and recorded markets cannot drift apart. Costs are in units of the whole order (bps of its
arrival value); the parts add up to the shortfall.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from sor_sb3.simulator.elementary import exp
from sor_sb3.simulator.records import NOTEBOOK

FILL_MEMORY = 0.7  # weight of the past in a venue's recent fill ratio


@njit
def scheduled_slice(order: Any, market: Any) -> float:
    """Shares that a TWAP schedule wants done in this step, with what was missed carried forward."""
    still_allowed = market.quantity_shares * (1.0 - (order.step + 1.0) / market.horizon_steps)
    return max(order.remaining_shares - still_allowed, 0.0)


@njit
def displayed_shares(venue: Any) -> float:
    """What a venue shows: its quoted size, less what we took and it has not refilled."""
    return max(venue.quote_shares - venue.depleted_shares, 0.0) if venue.open == 1 else 0.0


@njit
def first_arrival_ms(venues: Any) -> float:
    """When the first child reaches an open venue; infinite if none does."""
    first = math.inf
    for k in range(venues.size):
        if venues[k].sent_shares > 0.0 and venues[k].open == 1:
            first = min(first, venues[k].latency_ms)
    return first


@njit
def shares_at_arrival(venue: Any, parameters: Any, market: Any, first_ms: float) -> float:
    """What a child finds: displayed size, less what we took and what faded since our first child arrived."""
    left = max(venue.arrival_size_shares - venue.depleted_shares, 0.0)
    late_ms = venue.latency_ms - first_ms
    if late_ms > 0.0 and parameters.toxicity > 0.0:
        left *= exp(-parameters.toxicity * late_ms / market.reaction_time_ms)
    return left


@njit
def fill_children(order: Any, venues: Any, parameters: Any, market: Any) -> float:
    """Fill the children that `sent_shares` of the venues name; book their costs. Returns shares filled."""
    share_cost = market.cost_scale / market.quantity_shares
    first_ms = first_arrival_ms(venues)
    total = 0.0
    for k in range(venues.size):
        venue = venues[k]
        venue.filled_shares = 0.0
        venue.fill_cost = 0.0
        sent = venue.sent_shares
        if sent <= 0.0:
            continue
        venue.episode_sent_shares += sent
        filled, walk_bps, touch_move_bps = 0.0, 0.0, venue.touch_move_bps
        if market.model == NOTEBOOK:
            filled = sent  # the notebook's cost is linear: everything fills, at the price of the whole slice
            walk_bps = market.liquidity_cost * order.slice_shares / venue.arrival_size_shares
            touch_move_bps += market.latency_cost * venue.latency_ms
        elif venue.open == 1:
            available = shares_at_arrival(venue, parameters[k], market, first_ms)
            filled = min(sent, available)
            if filled > 0.0:
                walk_bps = parameters[k].walk_bps * filled / available
        venue.fill_ratio = FILL_MEMORY * venue.fill_ratio + (1.0 - FILL_MEMORY) * filled / sent
        if filled > 0.0:
            fee_bps = parameters[k].take_fee_bps
            price_bps = venue.offset_bps + touch_move_bps + walk_bps
            order.spread_cost += filled * venue.offset_bps * share_cost
            order.delay_cost += filled * touch_move_bps * share_cost
            order.impact_cost += filled * walk_bps * share_cost
            order.fee_cost += filled * fee_bps * share_cost
            order.fill_value_bps_shares += filled * (price_bps + order.mid_bps + order.displacement_bps)
            venue.effective_spread_bps_shares += filled * price_bps
            venue.fill_cost = filled * (price_bps + fee_bps) * share_cost
            venue.filled_shares = filled
            venue.episode_filled_shares += filled
            venue.depleted_shares += filled
            order.step_cost += venue.fill_cost
            total += filled
    return total


@njit
def note_dearest(order: Any, venues: Any, parameters: Any, market: Any) -> None:
    """Remember the dearest all-in price above the mid that a child of this step could have paid."""
    for k in range(venues.size):
        venue = venues[k]
        walk_bps = parameters[k].walk_bps
        if market.model == NOTEBOOK:
            walk_bps = market.spread_high + market.liquidity_cost * order.slice_shares / market.liquidity_low
            walk_bps += market.latency_cost * market.notebook_latency_high
        dearest = venue.offset_bps + max(venue.touch_move_bps, 0.0) + walk_bps + parameters[k].take_fee_bps
        order.dearest_bps = max(order.dearest_bps, dearest)


@njit
def mark_to_next_mid(order: Any, market: Any, filled_shares: float) -> None:
    """Charge the mid's move, and our own lasting push of it, on what is still to be done.

    What variance reduction may leave out is each noise times the inventory fixed before that noise is drawn: fills do
    not read the mid's noise, so what they leave is fixed before it; they do read the news, so only what was to be done
    before them is.
    """
    share_cost = market.cost_scale / market.quantity_shares
    push_bps = market.permanent_bps_per_share * filled_shares
    move_bps = order.next_mid_bps - order.mid_bps
    delay = order.remaining_shares * move_bps * share_cost
    push = order.remaining_shares * push_bps * share_cost
    order.delay_cost += delay
    order.impact_cost += push
    order.step_cost += delay + push
    noise = order.remaining_shares * order.mid_noise_bps
    noise += (order.remaining_shares + filled_shares) * order.news_bps
    order.step_noise_cost = noise * share_cost
    order.displacement_bps += push_bps
    order.mid_bps = order.next_mid_bps
    order.last_move_bps = move_bps + push_bps


@njit
def clean_up(order: Any, market: Any) -> None:
    """Sweep what is left at the deadline, at a price dearer than any fill that the episode offered."""
    if order.remaining_shares <= 0.0:
        return
    price_bps = order.dearest_bps + market.cleanup_penalty_bps
    cost = order.remaining_shares * price_bps * market.cost_scale / market.quantity_shares
    order.cleanup_shares = order.remaining_shares
    order.cleanup_cost += cost
    order.step_cost += cost
    order.cleanup_value_bps_shares = order.remaining_shares * (price_bps + order.mid_bps + order.displacement_bps)
    order.remaining_shares = 0.0


@njit
def execute(order: Any, venues: Any, parameters: Any, market: Any, weights: Any, pace: float) -> None:
    """One decision: send `weights` of this step's shares, fill them, mark to the next mid, clean up at the end.

    `pace` in [0, 1] is a share of what remains; negative means this step's slice of the schedule.
    """
    order.step_cost = 0.0
    order.step_noise_cost = 0.0
    shares = order.slice_shares if pace < 0.0 else min(pace, 1.0) * order.remaining_shares
    for k in range(venues.size):
        venues[k].sent_shares = weights[k] * shares
    note_dearest(order, venues, parameters, market)
    filled = fill_children(order, venues, parameters, market)
    order.remaining_shares -= filled
    if order.remaining_shares < 1e-12 * market.quantity_shares:  # rounding of the weights, not shares
        order.remaining_shares = 0.0
    for k in range(venues.size):
        venues[k].depleted_shares *= parameters[k].refill_decay
    mark_to_next_mid(order, market, filled)
    order.step += 1
    if order.step >= market.horizon_steps:
        clean_up(order, market)
