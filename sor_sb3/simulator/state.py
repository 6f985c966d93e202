"""The state of N parent orders by field: every field is declared here once, and the storage is made from it. No logic.

Orders lie in *blocks*. In a block each field is one array: a field of orders has an entry for each order of the block,
a field of venues an entry for each *lane* (order of the block x venue), so that one loop over lanes moves all venues of
a block and compilers turn it into vector instructions. Arrays of a block have the same length in every market: the
distance from field to field is known when kernels are compiled. Order `i` of a block has the lanes
``i * K .. (i + 1) * K - 1``.

A kernel takes ``(block, i, fixed, market, ...)``: the block, which order of it, the parameters of the lanes, the rules
of the market. All numbers are 8 bytes, and floats are float64 so that the ledger is exact to 1e-9. A record such as
``blocks[b]`` does not keep its array alive: hold the array. Outside this package the
state is read by :class:`sor_sb3.simulator.views.Observed` and :class:`~sor_sb3.simulator.views.Truth`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.market.replay_arrays import Recording
from sor_sb3.simulator.compiled import entry_point

SYNTHETIC, NOTEBOOK, REPLAY = 0, 1, 2
LANES, ORDERS = 256, 64  # of a block at most; no market has more venues than lanes
LANES_APART, ORDERS_APART = LANES + 8, ORDERS + 8  # no powers of two: fields would share the same lines of the cache

# Kinds of fields: "f8" float64, "i8" int64, "u8" uint64, and "flag": 0.0 or 1.0 in the storage, bool in views.


def _by_field(**fields: tuple[int, dict[str, str]]) -> np.dtype:
    """A record of arrays: each group of fields with the length of its arrays."""
    columns = [
        (name, kind.replace("flag", "f8"), (length,))
        for length, group in fields.values()
        for name, kind in group.items()
    ]
    return np.dtype(columns, align=True)


def _record(**fields: Any) -> np.dtype:
    return np.dtype(
        [(name, *kind) if isinstance(kind, tuple) else (name, kind) for name, kind in fields.items()], align=True
    )


MOST_LEVELS = 8  # of a side of a book

MARKET = _record(
    model="i8",
    n_venues="i8",
    block_orders="i8",  # how many orders share a block
    has_dark="i8",
    has_mid="i8",  # some venue holds unseen size at the midpoint
    fills_all="i8",  # costs are linear and all children fill, as in the notebook
    horizon_steps="i8",
    step_s="f8",
    path_dt_s="f8",  # the clock of the path, whatever the step
    ticks_per_step="i8",
    quantity_shares="f8",
    cost_scale="f8",  # 1, or the horizon where costs are stated per episode of unit steps
    cleanup_penalty_bps="f8",
    reaction_time_ms="f8",
    permanent_bps_per_share="f8",
    transient_bps_per_share="f8",
    transient_half_life_s="f8",
    outage_reject_ms="f8",
    cancel_half_life_s="f8",
    display_leak_bps_per_share="f8",  # of ours that come to rest at a lit venue
    leak_decay="f8",  # share of a leak that has not moved the mid after a step
    # how children are sent
    lot_shares="f8",  # 0: any size
    sweeps="i8",  # 1: a child pays `limit_offset_bps` above the best observed touch; 0: its venue's observed touch
    limit_offset_bps="f8",  # infinite: no limit
    order_protection="i8",
    synchronise="i8",
    repeg_ticks="i8",
    most_resting_ratio="f8",  # of what rests over what is left; above 1: more may rest than is left
    overfill_cost_bps="f8",
    waves="i8",
    wave_timeout_ms="f8",
    every_wave="i8",  # 1: a wave follows even where nothing came back, so that episodes are equally long
    # quotes
    fast_decay="f8",
    slow_decay="f8",
    size_fast_decay="f8",
    size_slow_decay="f8",
    offset_fast_shock="f8",
    offset_slow_shock="f8",
    offset_fast_sd="f8",
    offset_slow_sd="f8",
    sides_correlation="f8",
    sides_apart="f8",  # of what is the near side's own; 0: both sides have one offset
    join_probability="f8",
    size_fast_shock="f8",
    size_slow_shock="f8",
    size_fast_sd="f8",
    size_slow_sd="f8",
    size_tail="f8",
    tick_bps="f8",
    round_lot_shares="f8",  # 0: none
    n_levels="i8",
    level_profile=("f8", (MOST_LEVELS,)),  # displayed size of each level in sizes of the touch
    level_ticks="f8",  # from level to level
    level_noise="i8",  # 1: sizes of the levels behind the touch are noisy
    # efficient price
    volatility_tick_bps="f8",  # root mean square of a calm tick's move
    volatility_log_sd="f8",
    volatility_decay="f8",
    volatility_shock="f8",
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
    news_probability="f8",  # of a tick
    news_jump_bps="f8",
    news_removed="f8",
    flow_foresight="f8",
    flow_focus="f8",
    # volume
    volume_per_tick="f8",
    volume_curve="f8",
    volume_noise_sd="f8",
    side_correlation="f8",
    trade_shares="f8",  # 0: volume is continuous
    exponential_trades="i8",
    volume_memory="f8",  # kept by a tick
    volume_day_ticks="f8",
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

PUBLIC_VENUE_PARAMETERS = dict(
    take_fee_bps="f8",
    make_fee_bps="f8",
    dark="flag",
)
HIDDEN_VENUE_PARAMETERS = dict(
    name_key="u8",
    name_rank="i8",
    log_offset="f8",
    log_size="f8",
    requote_probability="f8",  # of a tick, where the price has not passed the quote
    median_latency_ms="f8",
    latency_sigma="f8",
    toxicity="f8",  # shares that leave here for each share filled elsewhere
    impact="f8",  # of a fill here on the mid, in units of the market's
    refill_half_life_s="f8",
    volume_share="f8",
    halt_enter="f8",
    halt_leave="f8",
    outage_enter="f8",
    outage_leave="f8",
    speed_bump_ms="f8",
    feed_ms="f8",
    hidden_fraction="f8",
    mid_probability="f8",
    mid_fraction="f8",
    # dark pools
    supply_enter="f8",
    supply_leave="f8",
    supply_renew="f8",  # a pool that is never dry is supplied anew with this chance
    zero_probability="f8",
    power_exponent="f8",
    log_max_size="f8",
    min_execution_shares="f8",
    leak_bps_per_share="f8",
)

PUBLIC_ORDER_FIELDS = dict(
    step="i8",  # the decision, from 0
    wave="i8",  # of the decision, from 0
    elapsed_ms="f8",  # since the decision; above 0 in a second wave
    observed_mid_bps="f8",  # midpoint of the best quotes observed, since arrival
    observed_spread_bps="f8",  # best observed far touch less best observed near touch
    last_move_bps="f8",  # of the observed midpoint since the decision or wave before
    signal="f8",
    in_flight="i8",  # how many children are not acknowledged
    in_flight_shares="f8",  # theirs: not available, and not known to be filled
    available_shares="f8",  # to be sent: neither known to be filled, nor in flight, nor bound by what rests
    resting="i8",  # how many orders rest, are on their way to it, or are being cancelled
    resting_shares="f8",  # theirs
    overbooked_shares="f8",  # by how much they and the available ones pass what is left and not in flight
    returned_shares="f8",  # sent in this decision, and known to have come back: what a later wave distributes
    slice_shares="f8",  # what the schedule wants done in this step; in a later wave what came back
    step_shares="f8",  # taken at the last decision or wave, to all venues
    paced="flag",  # whether that was a pace of the router's own, not the schedule's slice
)
HIDDEN_ORDER_FIELDS = dict(
    order_key="u8",  # address of the episode's random numbers
    tick="i8",  # of the path's clock
    # the exogenous market; prices are relative to the midpoint at arrival
    grid_bps="f8",  # price of tick 0 of the grid
    price_bps="f8",  # the efficient price at this tick
    next_price_bps="f8",
    tick_noise_bps="f8",  # the part of the coming tick's move that has mean 0, news included
    smooth_move_bps="f8",  # the part that the price makes evenly over the tick
    news_bps="f8",  # the jump of it
    news_ms="f8",  # when, after the tick's begin; infinite: no news
    drift_bps_per_s="f8",
    log_volatility="f8",
    flow="f8",  # who trades in the coming tick: buyers above 0
    stressed="flag",
    sell_share="f8",  # of the coming tick's volume
    day_position="f8",  # of the intraday volume curve, in [0, 1)
    start_s="f8",  # replay: where in the recording the window starts
    arrival_mid_px="f8",  # replay: the mid at arrival, the unit of bps
    worst_offered_bps="f8",  # the highest all-in price above the efficient price that a lit venue has offered so far
    idle_shares="f8",  # that no child carried when the path's tick began
    # our own order
    mark_bps="f8",  # the efficient price that what is left was last marked at
    permanent_bps="f8",  # our own lasting push of the mid
    transient_bps="f8",  # and the one that decays
    leak_bps="f8",  # that leaky pools gave away and that has not moved the mid yet
    remaining_shares="f8",  # truly not filled
    printed_shares="f8",  # filled since the decision, anywhere: what venues fade by
    printed_fresh_shares="f8",  # of these, what others had not answered when the last was filled,
    printed_ms="f8",  # so long after the decision
    fill_value_bps_shares="f8",  # sum over child fills of filled x (price - arrival mid)
    cleanup_value_bps_shares="f8",  # the same for the clean-up, or for the sale of what was filled beyond the order
    # the ledger, in cost units of the whole order
    spread_cost="f8",
    impact_cost="f8",
    timing_cost="f8",
    fee_cost="f8",
    cleanup_cost="f8",
    cleanup_shares="f8",  # swept at the deadline; negative: filled beyond the order, and sold
    step_cost="f8",  # of the last step
    step_noise_cost="f8",  # the part of it that variance reduction leaves out
    noise_cost="f8",  # the sum of those parts so far
)

PUBLIC_VENUE_FIELDS = dict(
    # what the router observes at its decision: the quote in force, as late as the feed
    open="flag",
    observed_offset_bps="f8",  # far touch above the observed midpoint; 0 in the dark
    observed_near_offset_bps="f8",  # near touch below it
    observed_shares="f8",  # displayed at the far touch, less what we took there; 0 in the dark and where it is closed
    observed_near_shares="f8",  # displayed at the near touch
    observed_latency_ms="f8",
    recent_volume_shares="f8",  # per step
    recent_outflow_shares="f8",  # of it, what sellers hit the near touch with
    rest_total_shares="f8",  # of our orders that rest here, are on their way to it, or are being cancelled
    queue_ahead_shares="f8",  # before the oldest of them: displayed when it was sent, less what has printed since
    # our own doing
    fill_ratio="f8",  # of our own children here, recent
    reject="f8",  # 1 when a child came back rejected, fading; 0 after any other answer
    sent_shares="f8",  # at this decision or wave
    decision_sent_shares="f8",  # at this decision, in all its waves
    decision_filled_shares="f8",  # known to be filled of it
    child_shares="f8",  # of the child here that has not been acknowledged; 0: none
)
HIDDEN_VENUE_FIELDS = dict(
    venue_key="u8",
    # how the quote moves when nobody trades
    offset_fast="f8",
    offset_slow="f8",
    size_fast="f8",
    size_slow="f8",
    near_fast="f8",
    near_offset_fast="f8",  # the near side's own
    congested="flag",
    ask_ticks="f8",  # whole number; the far touch is grid_bps + tick_bps ask_ticks
    bid_ticks="f8",
    log_shares="f8",  # of the displayed size, before round lots
    next_ask_ticks="f8",
    next_bid_ticks="f8",
    next_log_shares="f8",
    near_log_shares="f8",  # of the displayed size at the near touch
    next_near_log_shares="f8",
    tick_volume_shares="f8",  # traded in the coming tick,
    tick_outflow_shares="f8",  # and of it what sellers hit the near touch with
    u_change="f8",  # when, in the tick, the quote becomes the next one
    outage="flag",  # order entry is down, and nobody says so
    cursor="i8",  # replay: the row of the quote in force
    dark_shares="f8",  # supplied in the dark; 0: dry
    # the quote in force at the decision or wave, true and as observed
    offset_bps="f8",  # far touch above the mark, without our own push
    quote_shares="f8",
    observed_ask_bps="f8",  # relative to the midpoint at arrival, without our own push
    observed_bid_bps="f8",
    observed_quote_shares="f8",  # displayed there, our own takings apart
    observed_tick="i8",  # the path's tick whose quote is observed; replay: the row
    latency_ms="f8",  # of a child sent now
    lane_worst_bps="f8",  # the highest all-in price above the efficient price that was offered here
    # notebook: what a child sent now will meet
    touch_move_bps="f8",
    arrival_size_shares="f8",
    # our own doing
    taken_shares="f8",  # of size unseen at the midpoint or in the dark, not refilled
    taken_s="f8",  # when that was last written, since arrival
    slots_used="i8",  # a bit for each of the venue's slots that holds a price
    ack_ms="f8",  # of a child sent now: from the decision or wave to its answer
    filled_shares="f8",  # in this env step, whenever the child was sent
    fill_cost="f8",  # of that fill, all-in, in cost units of the whole order
    fill_touch_bps="f8",  # far touch when it was filled, relative to the midpoint at arrival, with our own push
    fill_value_bps="f8",  # filled x (price - midpoint at arrival) of that fill
    episode_sent_shares="f8",
    episode_filled_shares="f8",
    passive_shares="f8",  # filled of resting orders in this env step,
    passive_value_bps="f8",  # times price less midpoint at arrival,
    passive_cost="f8",  # and what that cost, all-in, in cost units of the whole order
    passive_ms="f8",  # when the last of it was filled, after the decision
    episode_passive_shares="f8",
    answered="flag",  # whether a child got its answer since the decision
    venue_printed_shares="f8",  # as the order's `printed_shares`, of this venue alone
    venue_printed_fresh_shares="f8",
    venue_printed_ms="f8",
    # the child that has not been acknowledged; times are from the coming decision on
    child_filled_shares="f8",  # not known to the router
    child_arrives_ms="f8",  # negative: it has
    child_answers_ms="f8",
    child_limit_bps="f8",  # relative to the midpoint at arrival
    child_rejected="flag",
    child_is_new="flag",  # sent since the last decision
)

SLOTS = 8  # prices of a venue at which it is remembered what we took: one for each remainder of the price by SLOTS
SLOT_FIELDS = dict(
    slot_key="f8",  # the price, in ticks
    slot_shares="f8",
    slot_s="f8",  # when it was last written, since arrival
)

RESTS = 4  # resting orders of ours at a venue at most
REST_FIELDS = dict(
    rest_shares="f8",  # not filled and not cancelled; 0: no order
    rest_key="f8",  # its price in ticks
    rest_price_bps="f8",  # relative to the midpoint at arrival, with our push when it was sent
    rest_ahead_shares="f8",  # the queue before it
    rest_estimate_shares="f8",  # the same as the router knows it
    rest_arrives_ms="f8",  # after the decision at hand; negative: it rests
    rest_cancel_shares="f8",  # that are being cancelled
    rest_cancel_ms="f8",  # when the cancel arrives, negative: it has; 0 without one
    rest_answer_ms="f8",  # when the router hears of the cancel, or of an order that came back
    rest_number="f8",  # later orders have higher numbers
)

VENUE_PARAMETER_FIELDS = PUBLIC_VENUE_PARAMETERS | HIDDEN_VENUE_PARAMETERS
ORDER_FIELDS = PUBLIC_ORDER_FIELDS | HIDDEN_ORDER_FIELDS
VENUE_FIELDS = PUBLIC_VENUE_FIELDS | HIDDEN_VENUE_FIELDS
PUBLIC_FIELDS = PUBLIC_ORDER_FIELDS | PUBLIC_VENUE_FIELDS | PUBLIC_VENUE_PARAMETERS
ALL_FIELDS = ORDER_FIELDS | VENUE_FIELDS | SLOT_FIELDS | REST_FIELDS | VENUE_PARAMETER_FIELDS
ALL_FIELDS |= dict.fromkeys(MARKET.names or (), "")
_DECLARED = (ORDER_FIELDS, VENUE_FIELDS, SLOT_FIELDS, REST_FIELDS, VENUE_PARAMETER_FIELDS, MARKET.names or ())
if len(ALL_FIELDS) < sum(len(group) for group in _DECLARED):
    raise ValueError("two fields of the state have one name")

BLOCK = _by_field(
    orders=(ORDERS_APART, ORDER_FIELDS),
    venues=(LANES_APART, VENUE_FIELDS),
    slots=(LANES_APART * SLOTS, SLOT_FIELDS),
    rests=(LANES_APART * RESTS, REST_FIELDS),
)
VENUE_PARAMETERS = _by_field(venues=(LANES_APART, VENUE_PARAMETER_FIELDS))
_N_ORDER_FIELDS, _N_VENUE_FIELDS = len(ORDER_FIELDS), len(VENUE_FIELDS)
_N_SLOT_FIELDS, _N_REST_FIELDS = len(SLOT_FIELDS), len(REST_FIELDS)


class State(NamedTuple):
    """All that the kernels read and write, as one argument.

    Attributes:
        blocks: BLOCK (B,), see `block_orders`.
        words: uint64 (B, words of a block), the same memory.
        venues: VENUE_PARAMETERS (1,) for all blocks, or (B,) where the market has ranges.
        market: MARKET (1,) for all orders, or (N,) where the market has ranges.
        recording: what a replay reads; None in other markets, for which kernels are compiled without it.
    """

    blocks: np.ndarray
    words: np.ndarray
    venues: np.ndarray
    market: np.ndarray
    recording: Recording | None


def block_orders(n_venues: int) -> int:
    """How many orders of so many venues share a block."""
    return min(LANES // n_venues, ORDERS)


@njit(inline="always")
def lanes(i: int, market: Any) -> Any:
    """The lanes of order `i` of a block, as a range."""
    return range(i * market.n_venues, (i + 1) * market.n_venues)


@njit
def blank(words: Any, b: int, i: int, n_venues: int) -> None:
    """Set every field of order `i` of block `b` to zero."""
    for field in range(_N_ORDER_FIELDS):
        words[b, field * ORDERS_APART + i] = 0
    at = _N_ORDER_FIELDS * ORDERS_APART
    for _ in range(_N_VENUE_FIELDS):
        words[b, at + i * n_venues : at + (i + 1) * n_venues] = 0
        at += LANES_APART
    for _ in range(_N_SLOT_FIELDS):
        words[b, at + i * n_venues * SLOTS : at + (i + 1) * n_venues * SLOTS] = 0
        at += LANES_APART * SLOTS
    for _ in range(_N_REST_FIELDS):
        words[b, at + i * n_venues * RESTS : at + (i + 1) * n_venues * RESTS] = 0
        at += LANES_APART * RESTS


@entry_point()
def _copy_members(source: Any, target: Any, members: Any, per_block: int, groups: Any) -> None:
    """Copy members; `groups` (g, 3): how many fields, how far apart, and how many words of each an order has."""
    for to in range(members.size):
        b, i, c, h = members[to] // per_block, members[to] % per_block, to // per_block, to % per_block
        at = 0
        for n_fields, apart, words in groups:
            for _ in range(n_fields):
                for word in range(words):
                    target[c, at + h * words + word] = source[b, at + i * words + word]
                at += apart


def words_of(blocks: np.ndarray) -> np.ndarray:
    """The same memory as uint64 (B, words of a block)."""
    return blocks.view(np.uint64).reshape(len(blocks), -1)


def members_of(blocks: np.ndarray, members: np.ndarray, n_venues: int) -> np.ndarray:
    """New blocks, of the same fields, with the orders `members` (int (m,), repeats allowed) in their order."""
    per_block = block_orders(n_venues)
    chosen = np.zeros(-(-len(members) // per_block), blocks.dtype)
    groups = [(len(VENUE_PARAMETER_FIELDS), LANES_APART, n_venues)]
    if blocks.dtype == BLOCK:
        groups = [
            (_N_ORDER_FIELDS, ORDERS_APART, 1),
            (_N_VENUE_FIELDS, LANES_APART, n_venues),
            (_N_SLOT_FIELDS, LANES_APART * SLOTS, n_venues * SLOTS),
            (_N_REST_FIELDS, LANES_APART * RESTS, n_venues * RESTS),
        ]
    members = np.asarray(members, dtype=np.int64)
    _copy_members(words_of(blocks), words_of(chosen), members, per_block, np.array(groups, dtype=np.int64))
    return chosen
