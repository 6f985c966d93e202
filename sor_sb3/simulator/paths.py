"""How the market moves when we do nothing: synthetic, notebook and recorded paths, one kernel each.

A path writes, at every decision, what the router hears (quotes, sizes, status, volume) and what a child sent
now will meet (latency, move of the far touch, size at arrival) into the venue records. It never reads our
actions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS
from sor_sb3.simulator.elementary import exp, log
from sor_sb3.simulator.random import (
    draw_at,
    draw_bits,
    high_word,
    low_word,
    mix64,
    normal,
    stream_at,
    uniform,
)
from sor_sb3.simulator.records import NOTEBOOK, REPLAY, SYNTHETIC

PLACES_PER_STEP = 8  # of a stream; purposes below must stay under it
RESET_PLACE = 1 << 40  # draws that open an episode lie far from those of its steps


class Recording(NamedTuple):
    """Flat arrays of recorded quotes; empty for other markets. Seconds since the recording began."""

    time_s: np.ndarray
    bid_px: np.ndarray
    bid_shares: np.ndarray
    ask_px: np.ndarray
    ask_shares: np.ndarray
    mid_time_s: np.ndarray
    mid_px: np.ndarray
    trade_time_s: np.ndarray
    trade_cumulative_shares: np.ndarray
    rows: np.ndarray  # RECORDING (K,)
    window_low_s: np.ndarray  # (G,) earliest start of a window in each allowed stretch
    window_cumulative_s: np.ndarray  # (G + 1,) total length of allowed starts up to each stretch


# -------------------------------------------------------------------------------------------------- synthetic
#
# Venues of a block of orders are laid side by side into lanes (lane = member of the block x venue), so that
# their step is one loop without branches, which compilers turn into vector instructions. The result for a
# lane does not depend on its neighbours. `lanes` is one flat array; the quantity Q of lane j stands at
# lanes[Q + j].

LANES = 256  # lanes that there is room for; no market has more venues
LANES_APART = LANES + 8  # no power of two, or a lane's quantities would fight for the same lines of the cache
N_QUANTITIES = 30
(  # unsigned, so that the compiler need not ask whether an index counts from the end
    OFFSET_FAST,
    OFFSET_SLOW,
    SIZE_FAST,
    SIZE_SLOW,
    CONGESTED,
    OPEN,
    OFFSET,
    SHARES,
    LATENCY,
    RECENT_VOLUME,
    ARRIVAL_SHARES,
    MOVE,
    STRESSED,
    NEWS,
    JUMP,
    VOLUME,
    LOG_OFFSET,
    LOG_SIZE,
    LATENCY_MEDIAN,
    LATENCY_SIGMA,
    HALT_ENTER,
    HALT_LEAVE,
    VOLUME_SHARE,
    OUTAGE,
    OUTAGE_ENTER,
    OUTAGE_LEAVE,
    BUMP,
    HIDDEN,
    HIDDEN_FRACTION,
    CHANGE,
) = (np.uint64(LANES_APART * quantity) for quantity in range(N_QUANTITIES))
LANE_FLOATS = N_QUANTITIES * LANES_APART


@njit
def block_size(n_venues: int) -> int:
    """How many orders of so many venues the lanes hold."""
    return LANES // n_venues


@njit(inline="always")
def _markov(state: int, enter: float, leave: float, u: float) -> int:
    if state == 1:
        return 0 if u < leave else 1
    return 1 if u < enter else 0


@njit(inline="always")
def _in_regime(enter: float, leave: float, u: float) -> int:
    return 1 if u * (enter + leave) < enter else 0


@njit(inline="always")
def _far_touch_bps(log_offset: float, tick_bps: float) -> float:
    """Offset of the far touch; on a grid 1/2, 3/2, ... ticks from a mid half-way between two ticks."""
    offset_bps = exp(log_offset)
    on_grid_bps = (math.floor(max(offset_bps / tick_bps - 0.5, 0.0) + 0.5) + 0.5) * tick_bps
    return on_grid_bps if tick_bps > 0.0 else offset_bps


@njit(inline="always")
def _latency_ms(
    median_ms: float, sigma: float, z: float, regime_factor: float, tail_factor: float, bump_ms: float
) -> float:
    return median_ms * exp(sigma * z) * regime_factor * tail_factor + bump_ms


@njit
def _draw_latency(venue: Any, parameters: Any, market: Any, z: float, u_tail: float) -> None:
    regime = market.congest_factor if venue.congested == 1 else 1.0
    tail = market.tail_factor if u_tail < market.tail_probability else 1.0
    bump_ms = parameters.speed_bump_ms
    venue.latency_ms = _latency_ms(parameters.latency_ms, parameters.latency_sigma, z, regime, tail, bump_ms)


@njit(inline="always")
def _market_volume_shares(order: Any, market: Any) -> float:
    """What all venues trade in a step at this time of the day, on average."""
    x = order.day_position + order.step / market.volume_day_steps
    x = 2.0 * (x - math.floor(x)) - 1.0
    return market.volume_per_step * (1.0 + market.volume_curve * (x * x - 1.0 / 3.0))


@njit(inline="always")
def _volume_noise(sd: float, z: float) -> float:
    return exp(sd * (z - 0.5 * sd))


@njit(error_model="numpy")
def _begin_synthetic(order: Any, venues: Any, parameters: Any, market: Any) -> None:
    bits = draw_bits(order.key, RESET_PLACE)
    order.drift_bps_per_s = market.drift_sd_bps_per_s * normal(high_word(bits))
    order.stressed = _in_regime(market.stress_enter, market.stress_leave, uniform(low_word(bits)))
    order.day_position = uniform(high_word(draw_bits(order.key, RESET_PLACE + 1)))
    volume_shares = _market_volume_shares(order, market)
    stress_offset = market.stress_log_offset if order.stressed == 1 else 0.0
    stress_size = market.stress_log_size if order.stressed == 1 else 0.0
    for k in range(venues.size):
        venue = venues[k]
        bits = draw_bits(venue.key, RESET_PLACE)
        venue.offset_fast = market.offset_fast_sd * normal(high_word(bits))
        venue.size_fast = market.size_fast_sd * normal(low_word(bits))
        bits = draw_bits(venue.key, RESET_PLACE + 1)
        venue.offset_slow = market.offset_slow_sd * normal(high_word(bits))
        venue.size_slow = market.size_slow_sd * normal(low_word(bits))
        bits = draw_bits(venue.key, RESET_PLACE + 2)
        venue.congested = _in_regime(market.congest_enter, market.congest_leave, uniform(high_word(bits)))
        venue.open = 1 - _in_regime(parameters[k].halt_enter, parameters[k].halt_leave, uniform(low_word(bits)))
        bits = draw_bits(venue.key, RESET_PLACE + 3)
        _draw_latency(venue, parameters[k], market, normal(high_word(bits)), 1.0)
        noise = _volume_noise(market.volume_noise_sd, 0.5 * normal(low_word(bits)))
        venue.recent_volume_shares = volume_shares * parameters[k].volume_share * noise
        u_outage = uniform(low_word(draw_bits(venue.key, RESET_PLACE + 4)))
        venue.outage = _in_regime(parameters[k].outage_enter, parameters[k].outage_leave, u_outage)
        log_offset = parameters[k].log_offset + venue.offset_fast + venue.offset_slow + stress_offset
        venue.next_offset_bps = _far_touch_bps(log_offset, market.tick_bps)
        venue.next_shares = exp(parameters[k].log_size + venue.size_fast + venue.size_slow + stress_size)


@njit(inline="always")
def _move_mid(order: Any, market: Any) -> None:
    """Draw the mid's coming move, and the news: an exponential time, and a jump that fast traders act on.

    Only news against us moves a far touch before the next decision: others cancel at once and improve at leisure.
    """
    place = order.step * PLACES_PER_STEP
    bits = draw_bits(order.key, place)
    noise_bps = market.volatility_step_bps * normal(high_word(bits))
    drift_normal = normal(low_word(bits))
    bits = draw_bits(order.key, place + 1)
    order.signal = market.signal_noise * normal(high_word(bits))
    u_stress = uniform(low_word(bits))
    if market.drift_sd_bps_per_s > 0.0:
        order.drift_bps_per_s = market.drift_decay * order.drift_bps_per_s + market.drift_shock * drift_normal
        order.signal += market.signal_correlation * order.drift_bps_per_s / market.drift_sd_bps_per_s
    if order.stressed == 1:
        noise_bps *= market.stress_volatility
    order.stressed = _markov(order.stressed, market.stress_enter, market.stress_leave, u_stress)
    bits = draw_bits(order.key, place + 3)
    if uniform(high_word(bits)) < market.jump_probability:
        noise_bps += market.jump_sd_bps * normal(high_word(draw_bits(order.key, place + 4)))
    order.mid_noise_bps = noise_bps
    order.smooth_move_bps = order.drift_bps_per_s * market.step_s + noise_bps
    order.news_bps, order.news_ms = 0.0, math.inf
    informed = draw_bits(order.key, place + 2)
    if uniform(high_word(informed)) < market.informed_probability:
        against = low_word(bits) < np.uint64(1 << 31)
        if against:
            order.news_ms = -market.informed_window_ms * log(uniform(low_word(informed)))
        order.news_bps = market.informed_jump_bps if against else -market.informed_jump_bps
    order.next_mid_bps = order.mid_bps + order.smooth_move_bps + order.news_bps


@njit
def tile_parameters(lanes: Any, parameters: Any, first: int, n_lanes: int) -> None:
    """Write what does not change from step to step into the lanes from `first` on: venue parameters, over and over."""
    for i in range(np.uint64(n_lanes)):
        fixed, j = parameters[i % np.uint64(parameters.size)], np.uint64(first) + i
        lanes[LOG_OFFSET + j], lanes[LOG_SIZE + j] = fixed.log_offset, fixed.log_size
        lanes[LATENCY_MEDIAN + j], lanes[LATENCY_SIGMA + j] = fixed.latency_ms, fixed.latency_sigma
        lanes[HALT_ENTER + j], lanes[HALT_LEAVE + j] = fixed.halt_enter, fixed.halt_leave
        lanes[OUTAGE_ENTER + j], lanes[OUTAGE_LEAVE + j] = fixed.outage_enter, fixed.outage_leave
        lanes[VOLUME_SHARE + j], lanes[BUMP + j] = fixed.volume_share, fixed.speed_bump_ms
        lanes[HIDDEN_FRACTION + j] = fixed.hidden_fraction


@njit(inline="always")
def _hear(venue: Any, feed_ms: float, market: Any) -> None:
    """The quote in force, and what the feed says of it: the one before, if that has changed since the feed left."""
    old_offset_bps, old_shares = venue.offset_bps, venue.quote_shares
    venue.offset_bps, venue.quote_shares = venue.next_offset_bps, venue.next_shares
    venue.observed_offset_bps, venue.observed_shares = venue.offset_bps, venue.quote_shares
    congestion = market.congest_factor if venue.congested == 1 else 1.0
    if feed_ms * congestion > 1e3 * market.step_s * (1.0 - venue.change_at) and old_shares > 0.0:
        venue.observed_offset_bps, venue.observed_shares = old_offset_bps, old_shares


@njit(inline="always")
def _load_lanes(order: Any, venues: Any, parameters: Any, market: Any, first: int, streams: Any, lanes: Any) -> None:
    _move_mid(order, market)
    volume_shares = _market_volume_shares(order, market)
    place = np.uint64(order.step * PLACES_PER_STEP)
    jump_bps = max(order.news_bps, 0.0)
    for k in range(venues.size):
        venue, j = venues[k], np.uint64(first + k)
        _hear(venue, parameters[k].feed_ms, market)
        venue.observed_latency_ms = venue.latency_ms
        streams[j] = stream_at(venue.key, place)
        lanes[OFFSET_FAST + j], lanes[OFFSET_SLOW + j] = venue.offset_fast, venue.offset_slow
        lanes[SIZE_FAST + j], lanes[SIZE_SLOW + j] = venue.size_fast, venue.size_slow
        lanes[CONGESTED + j], lanes[OPEN + j], lanes[OUTAGE + j] = venue.congested, venue.open, venue.outage
        lanes[OFFSET + j], lanes[SHARES + j] = venue.next_offset_bps, venue.next_shares
        lanes[RECENT_VOLUME + j] = venue.recent_volume_shares
        lanes[STRESSED + j], lanes[VOLUME + j] = order.stressed, volume_shares
        lanes[MOVE + j], lanes[NEWS + j], lanes[JUMP + j] = order.smooth_move_bps, order.news_ms, jump_bps


@njit(error_model="numpy")
def _move_lanes(market: Any, n_lanes: int, streams: Any, lanes: Any) -> None:
    """One step of every lane. Straight-line arithmetic without branches: the compiler makes vectors of it."""
    fast, slow = market.fast_decay, market.slow_decay
    offset_fast_shock, offset_slow_shock = market.offset_fast_shock, market.offset_slow_shock
    size_fast_shock, size_slow_shock = market.size_fast_shock, market.size_slow_shock
    stress_log_offset, stress_log_size = market.stress_log_offset, market.stress_log_size
    congest_enter, congest_leave = market.congest_enter, market.congest_leave
    congest_stress_factor, congest_factor = market.congest_stress_factor, market.congest_factor
    tail_probability, tail_factor = market.tail_probability, market.tail_factor
    noise_sd, forget = market.volume_noise_sd, 1.0 - market.volume_memory
    kept, tick_bps, per_step_ms = 1.0 - market.informed_removed, market.tick_bps, 1e-3 / market.step_s
    for j in range(np.uint64(n_lanes)):
        stream, stressed = streams[j], lanes[STRESSED + j] == 1.0
        fast_bits, slow_bits, latency_bits = draw_at(stream, 0), draw_at(stream, 1), draw_at(stream, 2)
        change_bits, regime_bits, hidden_bits = draw_at(stream, 3), draw_at(stream, 4), draw_at(stream, 5)
        # the quote of the next decision
        offset_fast = fast * lanes[OFFSET_FAST + j] + offset_fast_shock * normal(high_word(fast_bits))
        offset_slow = slow * lanes[OFFSET_SLOW + j] + offset_slow_shock * normal(high_word(slow_bits))
        size_fast = fast * lanes[SIZE_FAST + j] + size_fast_shock * normal(low_word(fast_bits))
        size_slow = slow * lanes[SIZE_SLOW + j] + size_slow_shock * normal(low_word(slow_bits))
        log_offset = lanes[LOG_OFFSET + j] + offset_fast + offset_slow + (stress_log_offset if stressed else 0.0)
        log_size = lanes[LOG_SIZE + j] + size_fast + size_slow + (stress_log_size if stressed else 0.0)
        next_offset_bps, next_shares = _far_touch_bps(log_offset, tick_bps), exp(log_size)
        # latency and status
        was = lanes[CONGESTED + j]
        turn = congest_leave if was == 1.0 else congest_enter * (congest_stress_factor if stressed else 1.0)
        congested = 1.0 - was if uniform(high_word(regime_bits)) < turn else was
        was, enter, leave = lanes[OPEN + j], lanes[HALT_ENTER + j], lanes[HALT_LEAVE + j]
        turn = enter if was == 1.0 else leave
        is_open = 1.0 - was if uniform(low_word(regime_bits)) < turn else was
        was, enter, leave = lanes[OUTAGE + j], lanes[OUTAGE_ENTER + j], lanes[OUTAGE_LEAVE + j]
        turn = leave if was == 1.0 else enter
        outage = 1.0 - was if uniform(low_word(hidden_bits)) < turn else was
        regime = congest_factor if congested == 1.0 else 1.0
        tail = tail_factor if uniform(low_word(change_bits)) < tail_probability else 1.0
        z = normal(high_word(latency_bits))
        median_ms, sigma, bump_ms = lanes[LATENCY_MEDIAN + j], lanes[LATENCY_SIGMA + j], lanes[BUMP + j]
        latency_ms = _latency_ms(median_ms, sigma, z, regime, tail, bump_ms)
        volume = lanes[VOLUME + j] * lanes[VOLUME_SHARE + j] * _volume_noise(noise_sd, normal(low_word(latency_bits)))
        # what a child sent now will meet
        elapsed, change_at = min(latency_ms * per_step_ms, 1.0), uniform(high_word(change_bits))
        changed = elapsed > change_at  # the venue's quote, before we arrive
        late = latency_ms > lanes[NEWS + j]
        jump_bps, shares = lanes[JUMP + j], lanes[SHARES + j]
        quote_move_bps = next_offset_bps - lanes[OFFSET + j]
        move_bps = lanes[MOVE + j] * elapsed + (jump_bps if late else 0.0) + (quote_move_bps if changed else 0.0)
        hidden = -lanes[HIDDEN_FRACTION + j] * log(uniform(high_word(hidden_bits)))  # exponential
        lanes[HIDDEN + j] = hidden * shares
        shares = (next_shares if changed else shares) * (kept if late else 1.0)
        lanes[OFFSET_FAST + j], lanes[OFFSET_SLOW + j] = offset_fast, offset_slow
        lanes[SIZE_FAST + j], lanes[SIZE_SLOW + j] = size_fast, size_slow
        lanes[CONGESTED + j], lanes[OPEN + j], lanes[LATENCY + j] = congested, is_open, latency_ms
        lanes[OUTAGE + j], lanes[CHANGE + j] = outage, change_at
        lanes[OFFSET + j], lanes[SHARES + j] = next_offset_bps, next_shares
        lanes[RECENT_VOLUME + j] += forget * (volume - lanes[RECENT_VOLUME + j])
        lanes[MOVE + j], lanes[ARRIVAL_SHARES + j] = move_bps, shares


@njit(inline="always")
def _store_lanes(order: Any, venues: Any, parameters: Any, market: Any, first: int, lanes: Any) -> None:
    for k in range(venues.size):
        venue, j = venues[k], np.uint64(first + k)
        venue.congested, venue.open = np.int64(lanes[CONGESTED + j]), np.int64(lanes[OPEN + j])
        venue.outage, venue.change_at = np.int64(lanes[OUTAGE + j]), lanes[CHANGE + j]
        venue.latency_ms, venue.recent_volume_shares = lanes[LATENCY + j], lanes[RECENT_VOLUME + j]
        if parameters[k].dark == 1:
            _rest_in_the_dark(order, venue, parameters[k], market)
            continue
        venue.offset_fast, venue.offset_slow = lanes[OFFSET_FAST + j], lanes[OFFSET_SLOW + j]
        venue.size_fast, venue.size_slow = lanes[SIZE_FAST + j], lanes[SIZE_SLOW + j]
        venue.next_offset_bps, venue.next_shares = lanes[OFFSET + j], lanes[SHARES + j]
        venue.touch_move_bps, venue.arrival_size_shares = lanes[MOVE + j], lanes[ARRIVAL_SHARES + j]
        venue.hidden_shares = lanes[HIDDEN + j]


@njit(inline="always")
def _rest_in_the_dark(order: Any, venue: Any, parameters: Any, market: Any) -> None:
    """What rests at the midpoint until the next decision: nothing, or a power law's size; no quote is ever seen."""
    venue.offset_bps, venue.next_offset_bps, venue.observed_offset_bps = 0.0, 0.0, 0.0
    venue.quote_shares, venue.next_shares, venue.observed_shares = 0.0, 0.0, 0.0
    bits = draw_bits(venue.key, order.step * PLACES_PER_STEP + 6)
    venue.touch_move_bps = _mid_move_bps(order, market, venue.latency_ms)
    venue.arrival_size_shares, venue.hidden_shares = 0.0, 0.0
    if uniform(high_word(bits)) >= parameters.zero_probability:
        venue.hidden_shares = _power_law(parameters.power_exponent, parameters.log_max_size, uniform(low_word(bits)))


@njit(inline="always")
def _mid_move_bps(order: Any, market: Any, elapsed_ms: float) -> float:
    """What the mid does against us until then: evenly over the step, and in a jump once there is bad news."""
    jump_bps = max(order.news_bps, 0.0) if elapsed_ms > order.news_ms else 0.0
    return order.smooth_move_bps * min(1e-3 * elapsed_ms / market.step_s, 1.0) + jump_bps


@njit(inline="always")
def _power_law(exponent: float, log_most: float, u: float) -> float:
    """Quantile `u` of the density ``s ** -exponent`` on [1, most]."""
    rest = 1.0 - exponent
    if abs(rest) < 1e-9:
        return exp(u * log_most)
    return exp(log(1.0 + u * (exp(rest * log_most) - 1.0)) / rest)


@njit(inline="always")
def _advance_synthetic(
    which: Any, orders: Any, venues: Any, parameters: Any, market: Any, streams: Any, lanes: Any
) -> None:
    """A block of orders; those with parameters of their own go one by one, since lanes share the market's."""
    n_venues, together = venues.shape[1], max(which.size, 1) if market.size == 1 else 1
    for low in range(0, which.size, together):
        for j in range(together):
            i = which[low + j]
            fixed, its_market = parameters[i % len(parameters)], market[i % market.size]
            if market.size > 1:
                tile_parameters(lanes, fixed, j * n_venues, n_venues)
            _load_lanes(orders[i], venues[i], fixed, its_market, j * n_venues, streams, lanes)
        _move_lanes(market[which[low] % market.size], together * n_venues, streams, lanes)
        for j in range(together):
            i = which[low + j]
            fixed, its_market = parameters[i % len(parameters)], market[i % market.size]
            _store_lanes(orders[i], venues[i], fixed, its_market, j * n_venues, lanes)


@njit(inline="always")
def _synthetic_arrival(
    order: Any, venue: Any, parameters: Any, market: Any, elapsed_ms: float
) -> tuple[float, float, float]:
    move_bps = _mid_move_bps(order, market, elapsed_ms)
    if parameters.dark == 1:
        return move_bps, 0.0, venue.hidden_shares
    shares = venue.quote_shares
    if min(1e-3 * elapsed_ms / market.step_s, 1.0) > venue.change_at:
        move_bps += venue.next_offset_bps - venue.offset_bps
        shares = venue.next_shares
    return (
        move_bps,
        shares * (1.0 - market.informed_removed if elapsed_ms > order.news_ms else 1.0),
        venue.hidden_shares,
    )


# --------------------------------------------------------------------------------------------------- notebook


@njit(inline="always")
def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


@njit
def _advance_notebook(order: Any, venues: Any, market: Any) -> None:
    order.next_mid_bps = order.mid_bps
    place = order.step * PLACES_PER_STEP
    for k in range(venues.size):
        venue = venues[k]
        first, second = draw_bits(venue.key, place), draw_bits(venue.key, place + 1)
        venue.open = 1
        venue.offset_bps = _between(market.spread_low, market.spread_high, uniform(high_word(first)))
        venue.quote_shares = _between(market.liquidity_low, market.liquidity_high, uniform(low_word(first)))
        venue.latency_ms = _between(
            market.notebook_latency_low, market.notebook_latency_high, uniform(high_word(second))
        )
        venue.observed_latency_ms = venue.latency_ms
        venue.observed_offset_bps, venue.observed_shares = venue.offset_bps, venue.quote_shares
        venue.touch_move_bps = 0.0
        venue.arrival_size_shares = venue.quote_shares
        if market.blind == 1:
            first, second = draw_bits(venue.key, place + 2), draw_bits(venue.key, place + 3)
            spread = _between(market.spread_low, market.spread_high, uniform(high_word(first)))
            venue.touch_move_bps = spread - venue.offset_bps
            venue.arrival_size_shares = _between(market.liquidity_low, market.liquidity_high, uniform(low_word(first)))
            venue.latency_ms = _between(
                market.notebook_latency_low, market.notebook_latency_high, uniform(high_word(second))
            )


# ----------------------------------------------------------------------------------------------------- replay


@njit
def _row_at(times: Any, low: int, high: int, time_s: float) -> int:
    """Last row in [low, high) whose time is <= `time_s`; low - 1 if there is none."""
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= time_s:
            low = middle + 1
        else:
            high = middle
    return low - 1


@njit
def _row_from(times: Any, row: int, high: int, time_s: float) -> int:
    """The same, from a `row` that is no later than the answer: in strides that double, then halve."""
    stride = 1
    while row + stride < high and times[row + stride] <= time_s:
        row += stride
        stride *= 2
    while stride > 0:
        if row + stride < high and times[row + stride] <= time_s:
            row += stride
        stride //= 2
    return row


@njit
def _row_back(times: Any, row: int, low: int, time_s: float) -> int:
    """The last row from `low` to `row` whose time is <= `time_s`, or `low`."""
    while row > low and times[row] > time_s:
        row -= 1
    return row


@njit
def _mid_at(recording: Any, time_s: float) -> float:
    row = _row_at(recording.mid_time_s, 0, recording.mid_time_s.size, time_s)
    return recording.mid_px[max(row, 0)]


@njit
def _traded_shares(recording: Any, rows: Any, time_s: float, span_s: float) -> float:
    """Shares that a venue traded in the `span_s` up to and with `time_s`."""
    times, low = recording.trade_time_s, rows.first_trade
    last = _row_at(times, low, rows.last_trade, time_s)
    high, row, stride = last + 1, last, 1
    while row >= low and times[row] > time_s - span_s:  # back in strides that double: spans are short
        high = row
        row -= stride
        stride *= 2
    before = _row_at(times, max(row, low), high, time_s - span_s)
    volume = recording.trade_cumulative_shares[last] if last >= low else 0.0
    return volume - (recording.trade_cumulative_shares[before] if before >= low else 0.0)


@njit
def _begin_replay(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Draw where the window starts, uniformly over all that is allowed."""
    total = recording.window_cumulative_s[-1]
    position = uniform(high_word(draw_bits(order.key, RESET_PLACE))) * total
    stretch = _row_at(recording.window_cumulative_s, 0, recording.window_low_s.size, position)
    order.start_s = recording.window_low_s[stretch] + position - recording.window_cumulative_s[stretch]
    order.arrival_mid_px = _mid_at(recording, order.start_s)
    for k in range(venues.size):
        venue, rows = venues[k], recording.rows[k]
        bits = draw_bits(venue.key, RESET_PLACE)
        venue.congested = _in_regime(market.congest_enter, market.congest_leave, uniform(low_word(bits)))
        _draw_latency(venue, parameters[k], market, normal(high_word(bits)), 1.0)
        venue.cursor = _row_at(recording.time_s, rows.first, rows.last, order.start_s)
        if rows.last_trade > rows.first_trade:
            span_s = VOLUME_LOOKBACK_STEPS * market.step_s
            volume = _traded_shares(recording, rows, order.start_s, span_s)
            venue.recent_volume_shares = volume / VOLUME_LOOKBACK_STEPS


@njit
def _advance_replay(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Quotes in force at the decision, and what is in force when a child sent now arrives.

    A venue without a quote is closed and keeps its last offset; one that stops quoting before the child
    arrives has nothing to give. Before the first quote heard, the offset is the dearest of the venues that
    quote.
    """
    now_s = order.start_s + order.step * market.step_s
    to_bps = market.side * 1e4 / order.arrival_mid_px
    order.next_mid_bps = (_mid_at(recording, now_s + market.step_s) - order.arrival_mid_px) * to_bps
    order.mid_noise_bps = 0.0
    far = recording.ask_px if market.side > 0.0 else recording.bid_px
    far_shares = recording.ask_shares if market.side > 0.0 else recording.bid_shares
    bid_total, ask_total, worst_offered_bps = 0.0, 0.0, -math.inf
    place = order.step * PLACES_PER_STEP
    for k in range(venues.size):
        venue, rows = venues[k], recording.rows[k]
        row = _row_from(recording.time_s, venue.cursor, rows.last, now_s)
        venue.cursor = row
        latency_bits = draw_bits(venue.key, place + 2)
        u_congest = uniform(high_word(draw_bits(venue.key, place + 4)))
        venue.observed_latency_ms = venue.latency_ms
        venue.congested = _markov(venue.congested, market.congest_enter, market.congest_leave, u_congest)
        z, u_tail = normal(high_word(latency_bits)), uniform(low_word(latency_bits))
        _draw_latency(venue, parameters[k], market, z, u_tail)
        venue.open, venue.quote_shares, venue.observed_shares = 0, 0.0, 0.0
        venue.touch_move_bps, venue.arrival_size_shares = 0.0, 0.0
        if row >= rows.first and not math.isnan(far[row]):
            venue.open, venue.quote_shares = 1, far_shares[row]
            venue.offset_bps = (far[row] - order.arrival_mid_px) * to_bps - order.mid_bps
            heard = _row_back(recording.time_s, row, rows.first, now_s - 1e-3 * parameters[k].feed_ms)
            heard = row if math.isnan(far[heard]) else heard
            venue.observed_offset_bps = venue.offset_bps + (far[heard] - far[row]) * to_bps
            venue.observed_shares = far_shares[heard]
            worst_offered_bps = max(worst_offered_bps, venue.offset_bps)
            bid_total += recording.bid_shares[row]
            ask_total += recording.ask_shares[row]
            arrival = _row_from(recording.time_s, row, rows.last, now_s + 1e-3 * venue.latency_ms)
            if not math.isnan(far[arrival]):
                venue.touch_move_bps = (far[arrival] - far[row]) * to_bps
                venue.arrival_size_shares = far_shares[arrival]
        if rows.last_trade > rows.first_trade and order.step > 0:
            volume = _traded_shares(recording, rows, now_s, market.step_s)
            venue.recent_volume_shares += (1.0 - market.volume_memory) * (volume - venue.recent_volume_shares)
    if order.step == 0 and worst_offered_bps > -math.inf:
        for k in range(venues.size):
            if venues[k].open == 0:
                venues[k].offset_bps, venues[k].observed_offset_bps = worst_offered_bps, worst_offered_bps
    total = bid_total + ask_total
    order.signal = market.side * (bid_total - ask_total) / total if total > 0.0 else 0.0


@njit
def _replay_arrival(
    order: Any, venue: Any, k: int, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, float]:
    """Move of the far touch since the decision, and displayed size; nothing if the venue does not quote by then."""
    now_s = order.start_s + order.step * market.step_s
    far = recording.ask_px if market.side > 0.0 else recording.bid_px
    far_shares = recording.ask_shares if market.side > 0.0 else recording.bid_shares
    row = _row_from(recording.time_s, venue.cursor, recording.rows[k].last, now_s + 1e-3 * elapsed_ms)
    if math.isnan(far[row]):
        return 0.0, 0.0
    return (far[row] - far[venue.cursor]) * market.side * 1e4 / order.arrival_mid_px, far_shares[row]


# --------------------------------------------------------------------------------------------------- dispatch


@njit
def arrival_state(
    order: Any, venue: Any, k: int, parameters: Any, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, float, float]:
    """What a child finds at venue `k` that arrives `elapsed_ms` after this step's decision, whenever it was sent.

    Returns the far touch's move (bps) since the decision, displayed size and hidden size (shares), before fade and
    before what we took. At the venue's own latency these are the venue's `touch_move_bps`, `arrival_size_shares` and
    `hidden_shares`.
    """
    if market.model == REPLAY:
        move_bps, shares = _replay_arrival(order, venue, k, market, recording, elapsed_ms)
        return move_bps, shares, 0.0
    return _synthetic_arrival(order, venue, parameters, market, elapsed_ms)


@njit
def begin_path(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Draw the state in which a new episode finds the market. The records arrive zeroed but for the key."""
    for k in range(venues.size):
        venues[k].key = mix64(order.key ^ parameters[k].name_key)
    if market.model == SYNTHETIC:
        _begin_synthetic(order, venues, parameters, market)
    elif market.model == REPLAY:
        _begin_replay(order, venues, parameters, market, recording)


@njit
def advance_paths(
    which: Any,
    orders: Any,
    venues: Any,
    parameters: Any,
    market: Any,
    recording: Any,
    streams: Any,
    lanes: Any,
) -> None:
    """Move the markets of a block of orders to decision `order.step`, without looking at what we did.

    `which` (at most `block_size` members) says which; `parameters` (1 or N, K) and `market` (1 or N,) are shared by all
    orders or one each; `streams` and `lanes` are scratch, with shared parameters tiled into the latter.
    """
    if market[0].model == SYNTHETIC:
        _advance_synthetic(which, orders, venues, parameters, market, streams, lanes)
    elif market[0].model == NOTEBOOK:
        for i in which:
            _advance_notebook(orders[i], venues[i], market[0])
    else:
        for i in which:
            _advance_replay(orders[i], venues[i], parameters[0], market[0], recording)
