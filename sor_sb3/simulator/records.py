"""The records that the compiled kernels read and write: parameters, parent orders, venues. No logic.

Kernels see one parent order as a record ``order`` and its venues as a record array ``venues``; the batch is
an array of them. All floats are float64 so that the ledger is exact to 1e-9.
"""

from __future__ import annotations

import numpy as np

SYNTHETIC, NOTEBOOK, REPLAY = 0, 1, 2


def _record(**fields: str) -> np.dtype:
    """An aligned record, never a power of two long: neighbours' fields would fight for the same lines of the cache."""
    size = np.dtype(list(fields.items()), align=True).itemsize
    padding = {"padding": "f8"} if size & (size - 1) == 0 else {}
    return np.dtype(list({**fields, **padding}.items()), align=True)


MARKET = _record(
    model="i8",
    horizon_steps="i8",
    step_s="f8",
    quantity_shares="f8",
    side="f8",
    cost_scale="f8",  # 1, or the horizon where costs are stated per episode of unit steps
    cleanup_penalty_bps="f8",
    reaction_time_ms="f8",
    permanent_bps_per_share="f8",
    outage_reject_ms="f8",
    leak_decay="f8",  # share of a leak that has not moved the mid after a step
    # how children are sent
    lot_shares="f8",  # 0: any size
    limit_offset_bps="f8",  # above the best price heard; infinite: no limit
    order_protection="i8",
    synchronise="i8",
    # quotes
    fast_decay="f8",
    slow_decay="f8",
    offset_fast_shock="f8",
    offset_slow_shock="f8",
    offset_fast_sd="f8",
    offset_slow_sd="f8",
    size_fast_shock="f8",
    size_slow_shock="f8",
    size_fast_sd="f8",
    size_slow_sd="f8",
    tick_bps="f8",
    # mid
    volatility_step_bps="f8",
    jump_probability="f8",
    jump_sd_bps="f8",
    drift_decay="f8",
    drift_shock="f8",
    drift_sd_bps_per_s="f8",
    signal_correlation="f8",
    signal_noise="f8",
    # stress
    stress_enter="f8",
    stress_leave="f8",
    stress_log_offset="f8",
    stress_log_size="f8",
    stress_volatility="f8",
    # latency
    congest_enter="f8",
    congest_leave="f8",
    congest_factor="f8",
    congest_stress_factor="f8",
    tail_probability="f8",
    tail_factor="f8",
    # informed flow
    informed_probability="f8",
    informed_window_ms="f8",
    informed_jump_bps="f8",
    informed_removed="f8",
    # volume
    volume_per_step="f8",
    volume_curve="f8",
    volume_noise_sd="f8",
    volume_memory="f8",
    volume_day_steps="f8",
    # notebook
    spread_low="f8",
    spread_high="f8",
    liquidity_low="f8",
    liquidity_high="f8",
    notebook_latency_low="f8",
    notebook_latency_high="f8",
    liquidity_cost="f8",
    latency_cost="f8",
    blind="i8",
)

VENUE_PARAMETERS = _record(
    name_key="u8",
    name_rank="i8",
    take_fee_bps="f8",
    log_offset="f8",
    log_size="f8",
    latency_ms="f8",
    latency_sigma="f8",
    toxicity="f8",
    walk_bps="f8",
    refill_decay="f8",  # share of a depletion that is left after a step
    volume_share="f8",
    halt_enter="f8",
    halt_leave="f8",
    outage_enter="f8",
    outage_leave="f8",
    speed_bump_ms="f8",
    feed_ms="f8",
    hidden_fraction="f8",
    # dark pools
    dark="i8",
    zero_probability="f8",
    power_exponent="f8",
    log_max_size="f8",
    min_execution_shares="f8",
    leak_bps_per_share="f8",
)

ORDER = _record(
    key="u8",  # address of the episode's randomness
    step="i8",
    # the exogenous market
    mid_bps="f8",  # since arrival, without our own impact
    next_mid_bps="f8",
    mid_noise_bps="f8",  # the part of the coming move that fills do not read, mean 0
    news_bps="f8",  # the part that they do read, up or down alike, mean 0
    news_ms="f8",  # when news against us breaks, after the decision; infinite: none
    smooth_move_bps="f8",  # the part of the coming move that the mid makes evenly over the step
    last_move_bps="f8",  # of the observed mid over the last step
    drift_bps_per_s="f8",
    signal="f8",
    stressed="i8",
    day_position="f8",  # of the intraday volume curve, in [0, 1)
    start_s="f8",  # replay: where in the recording the window starts
    arrival_mid_px="f8",  # replay: the mid at arrival, the unit of bps
    worst_offered_bps="f8",  # the dearest all-in price above the mid that any venue has offered so far
    # our own order
    displacement_bps="f8",  # permanent impact so far
    leak_bps="f8",  # that leaky pools gave away and that has not moved the mid yet
    remaining_shares="f8",  # truly not filled
    in_flight="i8",  # how many children are not acknowledged
    in_flight_shares="f8",  # theirs: not available, and filled or not, nobody has heard
    available_shares="f8",  # to be sent: neither known to be filled nor in flight
    slice_shares="f8",  # what the schedule wants done in this step
    sent_shares="f8",  # at the last decision
    paced="i8",  # whether that was a pace of the router's own, not the schedule's slice
    fill_value_bps_shares="f8",  # sum over child fills of filled x (price - arrival mid)
    cleanup_value_bps_shares="f8",  # the same for the clean-up
    # the ledger, in cost units of the whole order
    spread_cost="f8",
    impact_cost="f8",
    timing_cost="f8",
    fee_cost="f8",
    cleanup_cost="f8",
    cleanup_shares="f8",
    step_cost="f8",  # of the last step
    step_noise_cost="f8",  # the part of it that variance reduction leaves out
    noise_cost="f8",  # the sum of those parts so far
)

VENUE = _record(
    key="u8",
    # how the quote moves when nobody trades
    offset_fast="f8",
    offset_slow="f8",
    size_fast="f8",
    size_slow="f8",
    congested="i8",
    next_offset_bps="f8",
    next_shares="f8",
    change_at="f8",  # when, in the coming step, the quote changes to the next one; a share of the step
    outage="i8",  # order entry is down, and nobody says so
    cursor="i8",  # replay: the row of the quote in force
    # the quote in force at the decision
    offset_bps="f8",  # far touch above the mid
    quote_shares="f8",  # displayed size when nobody trades
    # what the router hears at its decision: the same, as late as the feed
    open="i8",
    observed_offset_bps="f8",
    observed_shares="f8",  # when nobody trades; see `displayed_shares`
    observed_latency_ms="f8",
    recent_volume_shares="f8",  # per step
    fill_ratio="f8",  # of our own children here, recent
    reject="f8",  # 1 when a child came back from an outage, fading; 0 after any other answer
    # what a child sent now will meet: hidden from routers
    latency_ms="f8",
    touch_move_bps="f8",  # of the far touch, between decision and arrival
    arrival_size_shares="f8",  # without fade and without what we took
    hidden_shares="f8",  # behind it, on arrival
    # our own doing
    depleted_shares="f8",
    sent_shares="f8",  # at this decision
    ack_ms="f8",  # of that child: from the decision to its answer
    filled_shares="f8",  # in this step, whenever it was sent
    fill_cost="f8",  # of that fill, all-in, in cost units of the whole order
    effective_spread_bps_shares="f8",  # sum over the episode of filled x (price - mid at decision)
    episode_sent_shares="f8",
    episode_filled_shares="f8",
)

CHILD = _record(  # one per venue: the child there that has not been acknowledged; times from the coming decision on
    shares="f8",  # 0: none
    filled_shares="f8",  # unheard
    arrives_ms="f8",  # negative: it has
    answers_ms="f8",
    late_ms="f8",  # after the first child of its decision
    limit_bps="f8",  # above the arrival mid
    rejected="i8",
    # what it finds if it arrives in the coming step
    move_bps="f8",  # of the far touch, since the decision
    shown_shares="f8",
    hidden_shares="f8",
)

RECORDING = _record(  # one per venue: where its rows lie in the flat arrays of a recording
    first="i8",
    last="i8",
    first_trade="i8",
    last_trade="i8",
)
