"""How the market moves when we do nothing: synthetic, notebook and recorded paths, one scalar kernel each.

A path writes, at every decision, what the router hears (quotes, sizes, status, volume) and what a child sent now
will meet (latency, move of the far touch, size at arrival) into the venue records. It never reads our actions.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS
from sor_sb3.simulator.random import draw_bits, high_word, low_word, mix64, normal, uniform
from sor_sb3.simulator.records import NOTEBOOK, REPLAY, SYNTHETIC

PLACES_PER_STEP = 8  # of a stream; purposes below must stay under it
RESET_PLACE = 1 << 40  # draws that open an episode lie far from those of its steps


class Recording(NamedTuple):
    """Flat arrays of recorded quotes; empty for markets that are not replayed. Seconds since the recording began."""

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


# --------------------------------------------------------------------------------------------------- synthetic


@njit(cache=True, inline="always")
def _markov(state: int, enter: float, leave: float, u: float) -> int:
    if state == 1:
        return 0 if u < leave else 1
    return 1 if u < enter else 0


@njit(cache=True, inline="always")
def _in_regime(enter: float, leave: float, u: float) -> int:
    return 1 if u * (enter + leave) < enter else 0


@njit(cache=True, inline="always")
def _set_next_quote(venue: Any, parameters: Any, order: Any, market: Any) -> None:
    log_offset = parameters.log_offset + venue.offset_fast + venue.offset_slow
    log_size = parameters.log_size + venue.size_fast + venue.size_slow
    if order.stressed == 1:
        log_offset += market.stress_log_offset
        log_size += market.stress_log_size
    offset_bps = math.exp(log_offset)
    if market.tick_bps > 0.0:  # touches at 1/2, 3/2, ... ticks from a mid half-way between two ticks
        offset_bps = (math.floor(max(offset_bps / market.tick_bps - 0.5, 0.0) + 0.5) + 0.5) * market.tick_bps
    venue.next_offset_bps = offset_bps
    venue.next_shares = math.exp(log_size)


@njit(cache=True, inline="always")
def _draw_latency(venue: Any, parameters: Any, market: Any, z: float, u_tail: float) -> None:
    latency_ms = parameters.latency_ms * math.exp(parameters.latency_sigma * z)
    if venue.congested == 1:
        latency_ms *= market.congest_factor
    if u_tail < market.tail_probability:
        latency_ms *= market.tail_factor
    venue.latency_ms = latency_ms


@njit(cache=True)
def _volume_shares(order: Any, parameters: Any, market: Any, z: float) -> float:
    x = order.day_position + order.step / market.volume_day_steps
    x = 2.0 * (x - math.floor(x)) - 1.0
    curve = 1.0 + market.volume_curve * (x * x - 1.0 / 3.0)
    noise = math.exp(market.volume_noise_sd * (z - 0.5 * market.volume_noise_sd))
    return market.volume_per_step * parameters.volume_share * curve * noise


@njit(cache=True)
def _begin_synthetic(order: Any, venues: Any, parameters: Any, market: Any) -> None:
    bits = draw_bits(order.key, RESET_PLACE)
    order.drift_bps_per_s = market.drift_sd_bps_per_s * normal(high_word(bits))
    order.stressed = _in_regime(market.stress_enter, market.stress_leave, uniform(low_word(bits)))
    order.day_position = uniform(high_word(draw_bits(order.key, RESET_PLACE + 1)))
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
        venue.recent_volume_shares = _volume_shares(order, parameters[k], market, 0.5 * normal(low_word(bits)))
        _set_next_quote(venue, parameters[k], order, market)


@njit(cache=True)
def _move_mid(order: Any, market: Any) -> tuple[float, float]:
    """Draw the mid's coming move. Returns when news against us breaks (ms; infinite: none) and its jump (bps)."""
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
    order.next_mid_bps = order.mid_bps + order.drift_bps_per_s * market.step_s + noise_bps
    news_ms, jump_bps = math.inf, 0.0
    informed = draw_bits(order.key, place + 2)
    if uniform(high_word(informed)) < market.informed_probability:
        against = low_word(bits) < np.uint64(1 << 31)
        if against:
            news_ms = uniform(low_word(informed)) * market.informed_window_ms
            jump_bps = market.informed_jump_bps
        order.next_mid_bps += market.informed_jump_bps if against else -market.informed_jump_bps
    return news_ms, jump_bps


@njit(cache=True)
def _advance_synthetic(order: Any, venues: Any, parameters: Any, market: Any) -> None:
    news_ms, jump_bps = _move_mid(order, market)
    smooth_move_bps = order.next_mid_bps - order.mid_bps - jump_bps
    place = order.step * PLACES_PER_STEP
    step_ms = 1000.0 * market.step_s
    for k in range(venues.size):
        venue, fixed = venues[k], parameters[k]
        venue.offset_bps, venue.quote_shares = venue.next_offset_bps, venue.next_shares
        venue.heard_latency_ms = venue.latency_ms
        bits = draw_bits(venue.key, place)
        venue.offset_fast = market.fast_decay * venue.offset_fast + market.offset_fast_shock * normal(high_word(bits))
        venue.size_fast = market.fast_decay * venue.size_fast + market.size_fast_shock * normal(low_word(bits))
        bits = draw_bits(venue.key, place + 1)
        venue.offset_slow = market.slow_decay * venue.offset_slow + market.offset_slow_shock * normal(high_word(bits))
        venue.size_slow = market.slow_decay * venue.size_slow + market.size_slow_shock * normal(low_word(bits))
        _set_next_quote(venue, fixed, order, market)
        bits = draw_bits(venue.key, place + 4)
        enter = market.congest_enter * (market.congest_stress_factor if order.stressed == 1 else 1.0)
        venue.congested = _markov(venue.congested, enter, market.congest_leave, uniform(high_word(bits)))
        venue.open = 1 - _markov(1 - venue.open, fixed.halt_enter, fixed.halt_leave, uniform(low_word(bits)))
        latency_bits = draw_bits(venue.key, place + 2)
        bits = draw_bits(venue.key, place + 3)
        _draw_latency(venue, fixed, market, normal(high_word(latency_bits)), uniform(low_word(bits)))
        if market.volume_per_step > 0.0:
            volume = _volume_shares(order, fixed, market, normal(low_word(latency_bits)))
            venue.recent_volume_shares += (1.0 - market.volume_memory) * (volume - venue.recent_volume_shares)
        # what a child sent now will meet
        elapsed = min(venue.latency_ms / step_ms, 1.0)
        venue.touch_move_bps = smooth_move_bps * elapsed
        venue.arrival_size_shares = venue.quote_shares
        if elapsed > uniform(high_word(bits)):  # the venue's quote changes before we arrive
            venue.touch_move_bps += venue.next_offset_bps - venue.offset_bps
            venue.arrival_size_shares = venue.next_shares
        if venue.latency_ms > news_ms:
            venue.touch_move_bps += jump_bps
            venue.arrival_size_shares *= 1.0 - market.informed_removed


# ---------------------------------------------------------------------------------------------------- notebook


@njit(cache=True, inline="always")
def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


@njit(cache=True)
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
        venue.heard_latency_ms = venue.latency_ms
        venue.touch_move_bps = 0.0
        venue.arrival_size_shares = venue.quote_shares
        if market.blind == 1:
            first, second = draw_bits(venue.key, place + 2), draw_bits(venue.key, place + 3)
            spread = _between(market.spread_low, market.spread_high, uniform(high_word(first)))
            venue.touch_move_bps = spread - venue.offset_bps
            venue.arrival_size_shares = _between(
                market.liquidity_low, market.liquidity_high, uniform(low_word(first))
            )
            venue.latency_ms = _between(
                market.notebook_latency_low, market.notebook_latency_high, uniform(high_word(second))
            )


# ------------------------------------------------------------------------------------------------------ replay


@njit(cache=True)
def _row_at(times: Any, low: int, high: int, time_s: float) -> int:
    """Last row in [low, high) whose time is <= `time_s`; low - 1 if there is none."""
    while low < high:
        middle = (low + high) // 2
        if times[middle] <= time_s:
            low = middle + 1
        else:
            high = middle
    return low - 1


@njit(cache=True)
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


@njit(cache=True)
def _mid_at(recording: Any, time_s: float) -> float:
    row = _row_at(recording.mid_time_s, 0, recording.mid_time_s.size, time_s)
    return recording.mid_px[max(row, 0)]


@njit(cache=True)
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


@njit(cache=True)
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


@njit(cache=True)
def _advance_replay(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Quotes in force at the decision, and what is in force when a child sent now arrives.

    A venue without a quote is closed and keeps its last offset; one that stops quoting before the child arrives
    has nothing to give. Before the first quote heard, the offset is the dearest of the venues that quote.
    """
    now_s = order.start_s + order.step * market.step_s
    to_bps = market.side * 1e4 / order.arrival_mid_px
    order.next_mid_bps = (_mid_at(recording, now_s + market.step_s) - order.arrival_mid_px) * to_bps
    order.mid_noise_bps = 0.0
    far = recording.ask_px if market.side > 0.0 else recording.bid_px
    far_shares = recording.ask_shares if market.side > 0.0 else recording.bid_shares
    bid_total, ask_total, dearest_bps = 0.0, 0.0, -math.inf
    place = order.step * PLACES_PER_STEP
    for k in range(venues.size):
        venue, rows = venues[k], recording.rows[k]
        row = _row_from(recording.time_s, venue.cursor, rows.last, now_s)
        venue.cursor = row
        latency_bits = draw_bits(venue.key, place + 2)
        u_congest = uniform(high_word(draw_bits(venue.key, place + 4)))
        venue.heard_latency_ms = venue.latency_ms
        venue.congested = _markov(venue.congested, market.congest_enter, market.congest_leave, u_congest)
        z, u_tail = normal(high_word(latency_bits)), uniform(low_word(latency_bits))
        _draw_latency(venue, parameters[k], market, z, u_tail)
        venue.open, venue.quote_shares = 0, 0.0
        venue.touch_move_bps, venue.arrival_size_shares = 0.0, 0.0
        if row >= rows.first and not math.isnan(far[row]):
            venue.open, venue.quote_shares = 1, far_shares[row]
            venue.offset_bps = (far[row] - order.arrival_mid_px) * to_bps - order.mid_bps
            dearest_bps = max(dearest_bps, venue.offset_bps)
            bid_total += recording.bid_shares[row]
            ask_total += recording.ask_shares[row]
            arrival = _row_from(recording.time_s, row, rows.last, now_s + 1e-3 * venue.latency_ms)
            if not math.isnan(far[arrival]):
                venue.touch_move_bps = (far[arrival] - far[row]) * to_bps
                venue.arrival_size_shares = far_shares[arrival]
        if rows.last_trade > rows.first_trade and order.step > 0:
            volume = _traded_shares(recording, rows, now_s, market.step_s)
            venue.recent_volume_shares += (1.0 - market.volume_memory) * (volume - venue.recent_volume_shares)
    if order.step == 0 and dearest_bps > -math.inf:
        for k in range(venues.size):
            if venues[k].open == 0:
                venues[k].offset_bps = dearest_bps
    total = bid_total + ask_total
    order.signal = market.side * (bid_total - ask_total) / total if total > 0.0 else 0.0


# ---------------------------------------------------------------------------------------------------- dispatch


@njit(cache=True)
def begin_path(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Draw the market of a new episode up to its first decision. `order` and `venues` arrive zeroed but for keys."""
    for k in range(venues.size):
        venues[k].key = mix64(order.key ^ parameters[k].name_key)
    if market.model == SYNTHETIC:
        _begin_synthetic(order, venues, parameters, market)
    elif market.model == REPLAY:
        _begin_replay(order, venues, parameters, market, recording)
    advance_path(order, venues, parameters, market, recording)


@njit(cache=True)
def advance_path(order: Any, venues: Any, parameters: Any, market: Any, recording: Any) -> None:
    """Move the market to decision `order.step`, without looking at what we did."""
    if market.model == SYNTHETIC:
        _advance_synthetic(order, venues, parameters, market)
    elif market.model == NOTEBOOK:
        _advance_notebook(order, venues, market)
    else:
        _advance_replay(order, venues, parameters, market, recording)
