"""Recorded quotes, played again from a window's start. It never reads our actions."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS
from sor_sb3.simulator.paths.synthetic import in_regime, latency_ms, turned
from sor_sb3.simulator.random import (
    PLACES_PER_STEP,
    RESET_PLACE,
    draw_bits,
    high_word,
    low_word,
    normal,
    uniform,
)
from sor_sb3.simulator.state import lanes

BITS = 63  # halvings of an int64: a bound on searches


@njit
def _row_at(times: Any, low: int, high: int, time_s: float) -> int:
    """Last row in [low, high) whose time is <= `time_s`; low - 1 if there is none."""
    for _ in range(BITS):
        if low >= high:
            break
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
    for _ in range(BITS):
        if row + stride >= high or times[row + stride] > time_s:
            break
        row += stride
        stride *= 2
    for _ in range(BITS):
        if stride == 0:
            break
        if row + stride < high and times[row + stride] <= time_s:
            row += stride
        stride //= 2
    return row


@njit
def _row_back(times: Any, row: int, low: int, time_s: float) -> int:
    """The last row from `low` to `row` whose time is <= `time_s`, or `low`."""
    for earlier in range(row, low, -1):
        if times[earlier] <= time_s:
            return earlier
    return min(low, row)


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
    for _ in range(BITS):  # back in strides that double: spans are short
        if row < low or times[row] <= time_s - span_s:
            break
        high = row
        row -= stride
        stride *= 2
    before = _row_at(times, max(row, low), high, time_s - span_s)
    volume = recording.trade_cumulative_shares[last] if last >= low else 0.0
    return volume - (recording.trade_cumulative_shares[before] if before >= low else 0.0)


@njit
def begin(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Draw where the window of order `i` starts, uniformly over all that is allowed."""
    total = recording.window_cumulative_s[-1]
    position = uniform(high_word(draw_bits(block.order_key[i], RESET_PLACE))) * total
    stretch = _row_at(recording.window_cumulative_s, 0, recording.window_low_s.size, position)
    start_s = recording.window_low_s[stretch] + position - recording.window_cumulative_s[stretch]
    block.start_s[i], block.arrival_mid_px[i] = start_s, _mid_at(recording, start_s)
    for j in lanes(i, market):
        rows = recording.rows[j - i * market.n_venues]
        bits = draw_bits(block.venue_key[j], RESET_PLACE)
        congested = in_regime(market.congest_enter, market.congest_leave, uniform(low_word(bits)))
        regime = market.congest_factor if congested == 1.0 else 1.0
        block.congested[j] = congested
        block.latency_ms[j] = latency_ms(fixed, j, normal(high_word(bits)), regime, 1.0)
        block.cursor[j] = _row_at(recording.time_s, rows.first, rows.last, start_s)
        if rows.last_trade > rows.first_trade:
            volume = _traded_shares(recording, rows, start_s, VOLUME_LOOKBACK_STEPS * market.step_s)
            block.recent_volume_shares[j] = volume / VOLUME_LOOKBACK_STEPS


@njit
def advance(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Quotes in force at the decision of order `i`, and what is in force when a child sent now arrives.

    A venue without a quote is closed and keeps its last offset. Before its first quote, the offset is the highest of
    the venues that quote.
    """
    now_s, arrival_mid_px = _now_s(block, i, market), block.arrival_mid_px[i]
    to_bps, step = market.side * 1e4 / arrival_mid_px, block.step[i]
    block.next_mid_bps[i] = (_mid_at(recording, now_s + market.step_s) - arrival_mid_px) * to_bps
    block.mid_noise_bps[i] = 0.0
    far, far_shares = _far_side(market, recording)
    bid_total, ask_total, highest_bps = 0.0, 0.0, -math.inf
    for j in lanes(i, market):
        rows = recording.rows[j - i * market.n_venues]
        row = _row_from(recording.time_s, block.cursor[j], rows.last, now_s)
        block.cursor[j] = row
        block.observed_latency_ms[j] = block.latency_ms[j]
        _draw_latency(block, i, j, fixed, market)
        block.open[j], block.quote_shares[j], block.observed_shares[j] = 0.0, 0.0, 0.0
        if row >= rows.first and not math.isnan(far[row]):
            block.open[j], block.quote_shares[j] = 1.0, far_shares[row]
            block.offset_bps[j] = (far[row] - arrival_mid_px) * to_bps - block.mid_bps[i]
            shown = _row_back(recording.time_s, row, rows.first, now_s - 1e-3 * fixed.feed_ms[j])
            shown = row if math.isnan(far[shown]) else shown
            block.observed_offset_bps[j] = block.offset_bps[j] + (far[shown] - far[row]) * to_bps
            block.observed_shares[j] = far_shares[shown]
            highest_bps = max(highest_bps, block.offset_bps[j])
            bid_total += recording.bid_shares[row]
            ask_total += recording.ask_shares[row]
        move_bps, shares = replay_arrival(block, i, j, market, recording, block.latency_ms[j])
        block.touch_move_bps[j], block.arrival_size_shares[j] = move_bps, shares
        if rows.last_trade > rows.first_trade and step > 0:
            volume = _traded_shares(recording, rows, now_s, market.step_s)
            block.recent_volume_shares[j] += (1.0 - market.volume_memory) * (volume - block.recent_volume_shares[j])
    if step == 0 and highest_bps > -math.inf:
        for j in lanes(i, market):
            if block.open[j] == 0.0:
                block.offset_bps[j], block.observed_offset_bps[j] = highest_bps, highest_bps
    total = bid_total + ask_total
    block.signal[i] = market.side * (bid_total - ask_total) / total if total > 0.0 else 0.0


@njit(inline="always")
def _now_s(block: Any, i: int, market: Any) -> float:
    return block.start_s[i] + block.step[i] * market.step_s


@njit(inline="always")
def _far_side(market: Any, recording: Any) -> tuple[Any, Any]:
    far = recording.ask_px if market.side > 0.0 else recording.bid_px
    return far, recording.ask_shares if market.side > 0.0 else recording.bid_shares


@njit
def _draw_latency(block: Any, i: int, j: int, fixed: Any, market: Any) -> None:
    place = block.step[i] * PLACES_PER_STEP
    bits = draw_bits(block.venue_key[j], place + 2)
    u_congest = uniform(high_word(draw_bits(block.venue_key[j], place + 4)))
    congested = turned(block.congested[j], market.congest_enter, market.congest_leave, u_congest)
    regime = market.congest_factor if congested == 1.0 else 1.0
    tail = market.tail_factor if uniform(low_word(bits)) < market.tail_probability else 1.0
    block.congested[j] = congested
    block.latency_ms[j] = latency_ms(fixed, j, normal(high_word(bits)), regime, tail)


@njit
def replay_arrival(block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float) -> tuple[float, float]:
    """Move of the far touch (bps) since the decision, and displayed size; nothing if the venue does not quote then."""
    far, far_shares = _far_side(market, recording)
    cursor, last = block.cursor[j], recording.rows[j - i * market.n_venues].last
    if block.open[j] == 0.0:
        return 0.0, 0.0
    row = _row_from(recording.time_s, cursor, last, _now_s(block, i, market) + 1e-3 * elapsed_ms)
    if math.isnan(far[row]):
        return 0.0, 0.0
    return (far[row] - far[cursor]) * (market.side * 1e4 / block.arrival_mid_px[i]), far_shares[row]


@njit
def replay_touch(block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float) -> Any:
    """To be written."""
    return 0.0, 0.0, 0.0, 0


@njit
def replay_price(block: Any, i: int, market: Any, recording: Any, elapsed_ms: float) -> Any:
    """To be written."""
    return 0.0
