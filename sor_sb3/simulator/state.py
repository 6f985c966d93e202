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


def _record(**fields: str) -> np.dtype:
    return np.dtype(list(fields.items()), align=True)


MARKET = _record(
    model="i8",
    n_venues="i8",
    block_orders="i8",  # how many orders share a block
    has_dark="i8",
    fills_all="i8",  # costs are linear and all children fill, as in the notebook
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
    limit_offset_bps="f8",  # above the best observed price; infinite: no limit
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

PUBLIC_VENUE_PARAMETERS = dict(
    take_fee_bps="f8",
    walk_bps="f8",
    dark="flag",
)
HIDDEN_VENUE_PARAMETERS = dict(
    name_key="u8",
    name_rank="i8",
    log_offset="f8",
    log_size="f8",
    median_latency_ms="f8",
    latency_sigma="f8",
    toxicity="f8",
    worst_walk_bps="f8",  # the most that a child can walk here
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
    zero_probability="f8",
    power_exponent="f8",
    log_max_size="f8",
    min_execution_shares="f8",
    leak_bps_per_share="f8",
)

PUBLIC_ORDER_FIELDS = dict(
    step="i8",
    last_move_bps="f8",  # of the observed mid over the last step
    signal="f8",
    in_flight="i8",  # how many children are not acknowledged
    in_flight_shares="f8",  # theirs: not available, and not known to be filled
    available_shares="f8",  # to be sent: neither known to be filled nor in flight
    slice_shares="f8",  # what the schedule wants done in this step
    step_shares="f8",  # sent at the last decision, to all venues
    paced="flag",  # whether that was a pace of the router's own, not the schedule's slice
)
HIDDEN_ORDER_FIELDS = dict(
    order_key="u8",  # address of the episode's random numbers
    # the exogenous market
    mid_bps="f8",  # since arrival, without our own impact
    next_mid_bps="f8",
    mid_noise_bps="f8",  # the part of the coming move that fills do not read, mean 0
    news_bps="f8",  # the part that they do read, up or down alike, mean 0
    news_ms="f8",  # when news against us breaks, after the decision; infinite: none
    smooth_move_bps="f8",  # the part of the coming move that the mid makes evenly over the step
    drift_bps_per_s="f8",
    stressed="flag",
    day_position="f8",  # of the intraday volume curve, in [0, 1)
    start_s="f8",  # replay: where in the recording the window starts
    arrival_mid_px="f8",  # replay: the mid at arrival, the unit of bps
    worst_offered_bps="f8",  # the highest all-in price above the mid that any venue has offered so far
    # our own order
    displacement_bps="f8",  # permanent impact so far
    leak_bps="f8",  # that leaky pools gave away and that has not moved the mid yet
    remaining_shares="f8",  # truly not filled
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

PUBLIC_VENUE_FIELDS = dict(
    # what the router observes at its decision: the quote in force, as late as the feed
    open="flag",
    observed_offset_bps="f8",  # far touch above the mid
    observed_shares="f8",  # displayed size when nobody trades; see `displayed_shares`
    observed_latency_ms="f8",
    recent_volume_shares="f8",  # per step
    # our own doing
    fill_ratio="f8",  # of our own children here, recent
    reject="f8",  # 1 when a child came back rejected, fading; 0 after any other answer
    depleted_shares="f8",
    sent_shares="f8",  # at this decision
    child_shares="f8",  # of the child here that has not been acknowledged; 0: none
)
HIDDEN_VENUE_FIELDS = dict(
    venue_key="u8",
    # how the quote moves when nobody trades
    offset_fast="f8",
    offset_slow="f8",
    size_fast="f8",
    size_slow="f8",
    congested="flag",
    next_offset_bps="f8",
    next_shares="f8",
    change_at="f8",  # when, in the coming step, the quote changes to the next one; a share of the step
    outage="flag",  # order entry is down, and nobody says so
    cursor="i8",  # replay: the row of the quote in force
    # the quote in force at the decision
    offset_bps="f8",
    quote_shares="f8",
    # what a child sent now will meet
    latency_ms="f8",
    touch_move_bps="f8",  # of the far touch, between decision and arrival
    arrival_size_shares="f8",  # displayed, without fade and without what we took
    hidden_shares="f8",  # behind it, on arrival
    # our own doing
    ack_ms="f8",  # of a child sent now: from the decision to its answer
    filled_shares="f8",  # in this step, whenever the child was sent
    fill_cost="f8",  # of that fill, all-in, in cost units of the whole order
    episode_sent_shares="f8",
    episode_filled_shares="f8",
    # the child that has not been acknowledged; times from the coming decision on
    child_filled_shares="f8",  # not known to the router
    child_arrives_ms="f8",  # negative: it has
    child_answers_ms="f8",
    child_late_ms="f8",  # after the first child of its decision
    child_limit_bps="f8",  # above the arrival mid
    child_rejected="flag",
    # what it finds if it arrives in the coming step
    child_move_bps="f8",  # of the far touch, since the decision
    child_shown_shares="f8",
    child_hidden_shares="f8",
)

VENUE_PARAMETER_FIELDS = PUBLIC_VENUE_PARAMETERS | HIDDEN_VENUE_PARAMETERS
ORDER_FIELDS = PUBLIC_ORDER_FIELDS | HIDDEN_ORDER_FIELDS
VENUE_FIELDS = PUBLIC_VENUE_FIELDS | HIDDEN_VENUE_FIELDS
PUBLIC_FIELDS = PUBLIC_ORDER_FIELDS | PUBLIC_VENUE_FIELDS | PUBLIC_VENUE_PARAMETERS
ALL_FIELDS = ORDER_FIELDS | VENUE_FIELDS | VENUE_PARAMETER_FIELDS | dict.fromkeys(MARKET.names or ())
if len(ALL_FIELDS) < len(ORDER_FIELDS) + len(VENUE_FIELDS) + len(VENUE_PARAMETER_FIELDS) + len(MARKET.names or ()):
    raise ValueError("two fields of the state have one name")

BLOCK = _by_field(orders=(ORDERS_APART, ORDER_FIELDS), venues=(LANES_APART, VENUE_FIELDS))
VENUE_PARAMETERS = _by_field(venues=(LANES_APART, VENUE_PARAMETER_FIELDS))
_N_ORDER_FIELDS, _N_VENUE_FIELDS = len(ORDER_FIELDS), len(VENUE_FIELDS)


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
    for field in range(_N_VENUE_FIELDS):
        at = _N_ORDER_FIELDS * ORDERS_APART + field * LANES_APART
        for j in range(at + i * n_venues, at + (i + 1) * n_venues):
            words[b, j] = 0


@entry_point()
def _copy_members(source: Any, target: Any, members: Any, n_venues: int, per_block: int, n_order_fields: int) -> None:
    begin = n_order_fields * ORDERS_APART
    n_fields = (source.shape[1] - begin) // LANES_APART
    for to in range(members.size):
        b, i, c, h = members[to] // per_block, members[to] % per_block, to // per_block, to % per_block
        for field in range(n_order_fields):
            target[c, field * ORDERS_APART + h] = source[b, field * ORDERS_APART + i]
        for field in range(n_fields):
            at = begin + field * LANES_APART
            for k in range(n_venues):
                target[c, at + h * n_venues + k] = source[b, at + i * n_venues + k]


def words_of(blocks: np.ndarray) -> np.ndarray:
    """The same memory as uint64 (B, words of a block)."""
    return blocks.view(np.uint64).reshape(len(blocks), -1)


def members_of(blocks: np.ndarray, members: np.ndarray, n_venues: int) -> np.ndarray:
    """New blocks, of the same fields, with the orders `members` (int (m,), repeats allowed) in their order."""
    per_block = block_orders(n_venues)
    chosen = np.zeros(-(-len(members) // per_block), blocks.dtype)
    n_order_fields = _N_ORDER_FIELDS if blocks.dtype == BLOCK else 0
    members = np.asarray(members, dtype=np.int64)
    _copy_members(words_of(blocks), words_of(chosen), members, n_venues, per_block, n_order_fields)
    return chosen
