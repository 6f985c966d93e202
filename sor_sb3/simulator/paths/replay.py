"""Recorded quotes, played again from a window's start. It never reads our actions.

The path's clock ticks once a decision; within a tick the recording's own times hold. A sell replays the mirror that
the loader made, in which asks are the negated bids, so nothing here knows the side.
"""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from sor_sb3.market.spec import VOLUME_LOOKBACK_STEPS
from sor_sb3.simulator.elementary import toward
from sor_sb3.simulator.paths.synthetic import OPENING_VENUE_DRAWS, VENUE_DRAWS, in_regime, latency_ms, turned
from sor_sb3.simulator.random import (
    PLACES_PER_STEP,
    RESET_PLACE,
    draw_bits,
    high_word,
    normal_at,
    stream_at,
    uniform,
    uniform_at,
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
def _row_near(times: Any, row: int, low: int, high: int, time_s: float) -> int:
    """The last row in [low, high) whose time is <= `time_s`, or `low`, from a `row` that is not far from it."""
    if row >= low and times[row] > time_s:
        return _row_back(times, row, low, time_s)
    return _row_from(times, row, high, time_s)


@njit
def _mid_at(recording: Any, time_s: float) -> float:
    row = _row_at(recording.mid_time_s, 0, recording.mid_time_s.size, time_s)
    return recording.mid_px[max(row, 0)]


@njit
def _traded_shares(recording: Any, rows: Any, time_s: float, span_s: float) -> tuple[float, float]:
    """Shares that a venue traded in the `span_s` up to and with `time_s`, and of these what hit the near touch."""
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
    if last < low:
        return 0.0, 0.0
    volume, outflow = recording.trade_cumulative_shares[last], recording.trade_cumulative_sold_shares[last]
    if before >= low:
        volume -= recording.trade_cumulative_shares[before]
        outflow -= recording.trade_cumulative_sold_shares[before]
    return volume, outflow


@njit
def begin(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Draw where the window of order `i` starts, uniformly over all that is allowed."""
    total = recording.window_cumulative_s[-1]
    position = uniform(high_word(draw_bits(block.order_key[i], RESET_PLACE))) * total
    stretch = _row_at(recording.window_cumulative_s, 0, recording.window_low_s.size, position)
    start_s = recording.window_low_s[stretch] + position - recording.window_cumulative_s[stretch]
    mid_px = _mid_at(recording, start_s)
    block.start_s[i], block.arrival_mid_px[i] = start_s, abs(mid_px)
    block.grid_bps[i] = -math.copysign(1e4, mid_px)  # what a price of nothing is, relative to the midpoint
    for j in lanes(i, market):
        rows, of = recording.rows[j - i * market.n_venues], OPENING_VENUE_DRAWS
        stream = stream_at(block.venue_key[j], RESET_PLACE)
        congested = in_regime(market.congest_enter, market.congest_leave, uniform_at(stream, of.u_congested))
        regime = market.congest_factor if congested == 1.0 else 1.0
        block.congested[j] = congested
        block.latency_ms[j] = latency_ms(fixed, j, normal_at(stream, of.z_latency), regime, 1.0)
        block.cursor[j] = _row_at(recording.time_s, rows.first, rows.last, start_s)
        if rows.last_trade > rows.first_trade:
            volume, outflow = _traded_shares(recording, rows, start_s, VOLUME_LOOKBACK_STEPS * market.step_s)
            block.recent_volume_shares[j] = volume / VOLUME_LOOKBACK_STEPS
            block.recent_outflow_shares[j] = outflow / VOLUME_LOOKBACK_STEPS


@njit(inline="always")
def _time_s(block: Any, i: int, market: Any, elapsed_ms: float) -> float:
    return block.start_s[i] + block.tick[i] * market.path_dt_s + 1e-3 * elapsed_ms


@njit(inline="always")
def relative_bps(px: float, mid_px: float) -> float:
    """A price relative to the midpoint at arrival; both are negative for a seller, whose market is mirrored."""
    return (px - mid_px) * (1e4 / abs(mid_px))


@njit(inline="always")
def book_imbalance(bid_shares: float, ask_shares: float) -> float:
    """How much more is bid for than is offered, as a share of both; 0 where nothing is."""
    total = bid_shares + ask_shares
    return (bid_shares - ask_shares) / total if total > 0.0 else 0.0


@njit(inline="always")
def _bps(block: Any, i: int, px: float) -> float:
    """A recorded price relative to the midpoint at arrival."""
    return relative_bps(px, math.copysign(block.arrival_mid_px[i], -block.grid_bps[i]))


@njit
def advance(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Lay down what is in force at the tick of order `i`, which is a decision, and what the feeds show there."""
    now_s, step_s, opening = _time_s(block, i, market, 0.0), market.path_dt_s, block.tick[i] == 0
    block.price_bps[i] = replay_price(block, i, market, recording, 0.0)
    block.next_price_bps[i] = replay_price(block, i, market, recording, 1e3 * step_s)
    block.news_ms[i] = math.inf
    lowest_bps = _bps(block, i, _lowest_mid(recording, now_s, now_s + step_s))
    bid_total, ask_total, memory = 0.0, 0.0, market.volume_memory
    for j in lanes(i, market):
        rows = recording.rows[j - i * market.n_venues]
        row = _row_from(recording.time_s, block.cursor[j], rows.last, now_s)
        block.cursor[j] = row
        block.open[j] = 1.0 if row >= rows.first and not math.isnan(recording.ask_px[row]) else 0.0
        feed_ms = fixed.feed_ms[j] * (market.congest_factor if block.congested[j] == 1.0 else 1.0)
        u_congested = uniform_at(
            stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP), VENUE_DRAWS.u_congested
        )
        block.congested[j] = turned(block.congested[j], market.congest_enter, market.congest_leave, u_congested)
        if block.open[j] == 1.0:
            shown = _row_near(recording.time_s, row, rows.first, rows.last, now_s - 1e-3 * feed_ms)
            shown = row if math.isnan(recording.ask_px[shown]) else shown
            _observe(block, i, j, recording, shown)
            bid_total += recording.bid_shares[shown]
            ask_total += recording.ask_shares[shown]
        dearest_px = _highest_ask(recording, max(row, rows.first), rows.last, now_s + step_s)
        if dearest_px > -math.inf:
            assumed = 0 if recording.level_px.shape[1] > 0 else market.n_levels - 1
            span_bps = market.tick_bps * market.level_ticks * assumed
            worst_bps = _bps(block, i, dearest_px) + span_bps + fixed.take_fee_bps[j] - lowest_bps
            block.lane_worst_bps[j] = max(block.lane_worst_bps[j], worst_bps)
        if rows.last_trade > rows.first_trade:
            if not opening:
                recent, outflow, forget = block.recent_volume_shares[j], block.recent_outflow_shares[j], 1.0 - memory
                block.recent_volume_shares[j] = toward(recent, block.tick_volume_shares[j], forget)
                block.recent_outflow_shares[j] = toward(outflow, block.tick_outflow_shares[j], forget)
            volume, sold = _traded_shares(recording, rows, now_s + step_s, step_s)
            block.tick_volume_shares[j], block.tick_outflow_shares[j] = volume, sold
    if opening:
        guess_unheard(block, i, market)
    block.signal[i] = book_imbalance(bid_total, ask_total)


@njit(inline="always")
def _observe(block: Any, i: int, j: int, recording: Any, row: int) -> None:
    block.observed_ask_bps[j] = _bps(block, i, recording.ask_px[row])
    block.observed_bid_bps[j] = _bps(block, i, recording.bid_px[row])
    block.observed_quote_shares[j], block.observed_tick[j] = recording.ask_shares[row], row
    block.observed_near_shares[j] = recording.bid_shares[row]


@njit
def guess_unheard(block: Any, i: int, market: Any) -> None:
    """Closed venues of which no price is known: as dear as the dearest that trade; later they keep what was heard."""
    ask_bps, bid_bps = -math.inf, math.inf
    for j in lanes(i, market):
        if block.open[j] == 1.0:
            ask_bps = max(ask_bps, block.observed_ask_bps[j])
            bid_bps = min(bid_bps, block.observed_bid_bps[j])
    for j in lanes(i, market):
        unheard = block.observed_ask_bps[j] == 0.0 and block.observed_bid_bps[j] == 0.0
        if block.open[j] == 0.0 and unheard and ask_bps > -math.inf:
            block.observed_ask_bps[j], block.observed_bid_bps[j] = ask_bps, bid_bps


@njit
def _highest_ask(recording: Any, first: int, last: int, until_s: float) -> float:
    """The highest recorded ask, of all levels, in the rows from `first` up to a time; -inf if there is none."""
    highest = -math.inf
    for row in range(first, last):
        if recording.time_s[row] > until_s:
            break
        if recording.ask_px[row] > highest:  # False where the venue does not quote
            highest = recording.ask_px[row]
        for level in range(recording.level_px.shape[1]):
            if recording.level_px[row, level] > highest:
                highest = recording.level_px[row, level]
    return highest


@njit
def _lowest_mid(recording: Any, from_s: float, until_s: float) -> float:
    row = max(_row_at(recording.mid_time_s, 0, recording.mid_time_s.size, from_s), 0)
    lowest = recording.mid_px[row]
    while row + 1 < recording.mid_time_s.size and recording.mid_time_s[row + 1] <= until_s:
        row += 1
        lowest = min(lowest, recording.mid_px[row])
    return lowest


@njit
def replay_touch(
    block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float
) -> tuple[float, float, float, int]:
    """Far and near touch, displayed size, and the row in force `elapsed_ms` into the tick (negative: before it).

    Where the venue does not quote then, the size is 0 and the prices are those last observed.
    """
    rows, row = recording.rows[j - i * market.n_venues], block.cursor[j]
    row = _row_near(recording.time_s, row, rows.first, rows.last, _time_s(block, i, market, elapsed_ms))
    if row < rows.first or math.isnan(recording.ask_px[row]):
        return block.observed_ask_bps[j], block.observed_bid_bps[j], 0.0, row
    return _bps(block, i, recording.ask_px[row]), _bps(block, i, recording.bid_px[row]), recording.ask_shares[row], row


@njit
def replay_price(block: Any, i: int, market: Any, recording: Any, elapsed_ms: float) -> float:
    """The consolidated midpoint `elapsed_ms` into the tick."""
    return _bps(block, i, _mid_at(recording, _time_s(block, i, market, elapsed_ms)))


@njit
def replay_near_shares(block: Any, i: int, j: int, market: Any, recording: Any, elapsed_ms: float) -> float:
    """Displayed size at the near touch; none where the venue does not quote."""
    rows, row = recording.rows[j - i * market.n_venues], block.cursor[j]
    row = _row_near(recording.time_s, row, rows.first, rows.last, _time_s(block, i, market, elapsed_ms))
    return recording.bid_shares[row] if row >= rows.first and not math.isnan(recording.ask_px[row]) else 0.0


@njit
def recorded_level(block: Any, i: int, recording: Any, row: int, level: int) -> tuple[float, float]:
    """Price and displayed size of a level behind the touch of a recorded row; infinite and 0 where the book has ended.

    Levels are counted from the touch, which is 0.
    """
    px = recording.level_px[row, level - 1]
    if math.isnan(px):
        return math.inf, 0.0
    return _bps(block, i, px), recording.level_shares[row, level - 1]


@njit
def recorded_queue(
    block: Any, i: int, j: int, market: Any, recording: Any, key: float, touch_shares: float, elapsed_ms: float
) -> tuple[float, float]:
    """What is displayed at a price at or behind the near touch, in ticks, and what at better ones, by recorded levels.

    Between two levels nothing is displayed. Behind the last of them it is not known what is, and as much is taken to
    be there as at the last.
    """
    if touch_shares <= 0.0:  # the venue does not quote
        return 0.0, 0.0
    rows, row = recording.rows[j - i * market.n_venues], block.cursor[j]
    row = _row_near(recording.time_s, row, rows.first, rows.last, _time_s(block, i, market, elapsed_ms))
    px, here, better = recording.bid_px[row], touch_shares, 0.0
    for level in range(recording.near_level_px.shape[1] + 1):
        its_key = math.floor((_bps(block, i, px) - block.grid_bps[i]) / market.tick_bps + 0.5)
        if its_key <= key:
            return here if its_key == key else 0.0, better
        better += here
        if level == recording.near_level_px.shape[1] or math.isnan(recording.near_level_px[row, level]):
            break
        px, here = recording.near_level_px[row, level], recording.near_level_shares[row, level]
    return here, better


@njit
def replay_fallen_ms(
    block: Any, i: int, j: int, market: Any, recording: Any, price_bps: float, from_ms: float
) -> float:
    """When, in the tick after `from_ms`, the near touch falls through a price or the far touch reaches it; else inf."""
    rows, end_s = recording.rows[j - i * market.n_venues], _time_s(block, i, market, 1e3 * market.path_dt_s)
    row = _row_near(recording.time_s, block.cursor[j], rows.first, rows.last, _time_s(block, i, market, from_ms))
    edge_bps = 0.5 * market.tick_bps
    stood = row >= rows.first and _bps(block, i, recording.bid_px[row]) >= price_bps - edge_bps
    for later in range(max(row + 1, rows.first), rows.last):
        if recording.time_s[later] >= end_s:
            break
        far_bps, near_bps = _bps(block, i, recording.ask_px[later]), _bps(block, i, recording.bid_px[later])
        if far_bps <= price_bps + edge_bps or (stood and near_bps < price_bps - edge_bps):  # False of no quote
            return 1e3 * (recording.time_s[later] - _time_s(block, i, market, 0.0))
        stood = near_bps >= price_bps - edge_bps
    return math.inf
