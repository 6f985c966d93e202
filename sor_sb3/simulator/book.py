"""A venue's book as a child finds it: levels, size that nobody sees, what we took before, and what a child takes of it.

A fill pays the level that it takes. Prices are relative to the midpoint at arrival, without our own push of it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp, log
from sor_sb3.simulator.paths import midpoint_at, touch_at
from sor_sb3.simulator.paths.replay import recorded_level
from sor_sb3.simulator.paths.synthetic import LEVELS_PLACE, VENUE_DRAWS, round_lots
from sor_sb3.simulator.random import PLACES_PER_STEP, draw_at, stream_at, uniform_at
from sor_sb3.simulator.state import MOST_LEVELS, SLOTS

TOLERANCE_BPS = 1e-9  # by which a price may pass a limit: rounding
_LN_2, _SLOT_BITS = math.log(2.0), np.int64(SLOTS - 1)

LADDER = np.dtype(  # what a child finds at a venue, in the order in which it takes it
    [
        ("mid_bps", "f8"),
        ("mid_shares", "f8"),  # at the midpoint; of a dark pool, all there is
        ("hidden_shares", "f8"),  # at the touch, behind what is displayed
        ("touch_bps", "f8"),  # of a dark pool, the midpoint
        ("n_levels", "i8"),
        ("price_bps", "f8", (MOST_LEVELS,)),
        ("shares", "f8", (MOST_LEVELS,)),  # displayed, less what we took and what news removed
        ("key", "f8", (MOST_LEVELS,)),  # the price in ticks, under which it is remembered what we took
        ("filled", "f8", (MOST_LEVELS,)),  # what the last child took of each level,
        ("mid_filled", "f8"),  # and at the midpoint
    ],
    align=True,
)


@njit(inline="always")
def now_s(block: Any, i: int, market: Any, elapsed_ms: float) -> float:
    """Time since arrival, `elapsed_ms` into the tick."""
    return block.tick[i] * market.path_dt_s + 1e-3 * elapsed_ms


@njit(inline="always")
def left_of(shares: float, age_s: float, half_life_s: float) -> float:
    """What is left, after `age_s`, of shares that decay with this half-life."""
    return shares * exp(-_LN_2 * age_s / half_life_s) if shares > 0.0 and age_s > 0.0 else shares


@njit(inline="always")
def _slot(key: float, market: Any) -> Any:
    """Under which of a lane's slots a price is remembered: neighbouring levels in neighbouring ones."""
    return np.int64(math.floor(key / market.level_ticks)) & _SLOT_BITS


@njit
def taken_at(block: Any, j: Any, fixed: Any, market: Any, key: float, at_s: float) -> float:
    """Shares that we took at a price of lane `j`, in ticks, and that have not been refilled."""
    slot = _slot(key, market)
    if (block.slots_used[j] >> slot) & 1 == 0:  # mostly: the slots themselves lie far apart in memory
        return 0.0
    at = np.int64(j) * SLOTS + slot
    if block.slot_key[at] != key:
        return 0.0
    return left_of(block.slot_shares[at], at_s - block.slot_s[at], fixed.refill_half_life_s[j])


@njit
def _take_at(block: Any, j: Any, fixed: Any, market: Any, key: float, at_s: float, filled: float) -> None:
    before, slot = taken_at(block, j, fixed, market, key, at_s), _slot(key, market)
    at = np.int64(j) * SLOTS + slot
    block.slot_shares[at], block.slot_key[at], block.slot_s[at] = before + filled, key, at_s
    block.slots_used[j] |= np.int64(1) << slot


@njit(inline="always")
def _level_shares(market: Any, level: int, touch_shares: float, bits: Any) -> float:
    """Displayed size of a level behind the touch: by the profile, with noise of its own from 8 of 64 bits."""
    shares = touch_shares * market.level_profile[level]
    if market.level_noise == 1:
        byte = (np.int64(bits) >> np.int64(8 * (level - 1))) & np.int64(255)
        shares = round_lots(shares * (0.5 + (np.float64(byte) + 0.5) / 256.0), market.round_lot_shares)
    return shares


@njit(inline="always")
def _level_bits(block: Any, j: Any, tick: int) -> Any:
    return draw_at(stream_at(block.venue_key[j], tick * PLACES_PER_STEP), LEVELS_PLACE)


@njit(inline="always")
def _key_of(block: Any, i: int, market: Any, price_bps: float) -> float:
    return math.floor((price_bps - block.grid_bps[i]) / market.tick_bps + 0.5)


@njit
def level_of(
    block: Any,
    i: int,
    j: Any,
    fixed: Any,
    market: Any,
    recording: Any,
    touch_bps: float,
    shares: float,
    tick: int,
    level: int,
    at_s: float,
) -> tuple[float, float, float, float]:
    """A displayed level of a quote: its price, its size, what we took there, and its key.

    The price is infinite where a recorded book has ended.
    """
    if recording is not None and level > 0 and recording.level_px.shape[1] > 0:
        touch_bps, shares = recorded_level(block, i, recording, tick, level)
        level = 0
    if touch_bps == math.inf:
        return touch_bps, 0.0, 0.0, 0.0
    key = _key_of(block, i, market, touch_bps)
    if level > 0:
        key += level * market.level_ticks
        shares = _level_shares(market, level, shares, _level_bits(block, j, tick))
        touch_bps = block.grid_bps[i] + market.tick_bps * key
    return touch_bps, shares, taken_at(block, j, fixed, market, key, at_s), key


@njit
def observed_level(
    block: Any, i: int, j: Any, fixed: Any, market: Any, recording: Any, level: int
) -> tuple[float, float]:
    """A level of the observed book of an open lit venue: price, our own push apart, and displayed size less ours."""
    at_s = now_s(block, i, market, block.elapsed_ms[i])
    ask_bps, shares, tick = block.observed_ask_bps[j], block.observed_quote_shares[j], block.observed_tick[j]
    price_bps, shown, taken, _ = level_of(block, i, j, fixed, market, recording, ask_bps, shares, tick, level, at_s)
    left = shown - taken
    return price_bps, left if left > 1e-9 * shown else 0.0


@njit
def ladder_at(
    block: Any, i: int, j: int, fixed: Any, market: Any, recording: Any, elapsed_ms: float, limit_bps: float, out: Any
) -> None:
    """Fill `out`, a LADDER, with what lane `j` holds `elapsed_ms` into the tick up to a limit price; fade apart."""
    at_s = now_s(block, i, market, elapsed_ms)
    out.n_levels, out.mid_shares, out.hidden_shares, out.mid_bps = 0, 0.0, 0.0, 0.0
    if fixed.dark[j] == 1.0:
        mid_bps, trades = midpoint_at(block, i, fixed, market, recording, elapsed_ms)
        out.mid_bps, out.touch_bps = mid_bps, mid_bps
        out.mid_shares = max(block.dark_shares[j] - block.taken_shares[j], 0.0) if trades else 0.0
        return
    touch_bps, _, shares, tick = touch_at(block, i, j, market, recording, elapsed_ms)
    out.touch_bps = touch_bps
    if shares <= 0.0:
        return
    _fill_levels(block, i, j, fixed, market, recording, touch_bps, shares, tick, at_s, limit_bps, out)
    stream, of = stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP), VENUE_DRAWS
    if fixed.hidden_fraction[j] > 0.0 and out.n_levels > 0:
        hidden = -fixed.hidden_fraction[j] * shares * log(uniform_at(stream, of.u_hidden))  # exponential
        out.hidden_shares = max(hidden - max(taken_at(block, j, fixed, market, out.key[0], at_s) - shares, 0.0), 0.0)
    if elapsed_ms >= block.news_ms[i] and block.news_bps[i] > 0.0 and tick == block.tick[i]:
        remove(out, market.news_removed * shares)
    if market.has_mid == 1 and fixed.mid_probability[j] > 0.0:
        u = uniform_at(stream, of.u_mid)
        if u < fixed.mid_probability[j]:
            mid_bps, trades = midpoint_at(block, i, fixed, market, recording, elapsed_ms)
            if trades and mid_bps < touch_bps:
                resting = -fixed.mid_fraction[j] * shares * log(u / fixed.mid_probability[j])
                taken = left_of(block.taken_shares[j], at_s - block.taken_s[j], fixed.refill_half_life_s[j])
                out.mid_bps, out.mid_shares = mid_bps, max(resting - taken, 0.0)


@njit
def _fill_levels(
    block: Any,
    i: int,
    j: int,
    fixed: Any,
    market: Any,
    recording: Any,
    touch_bps: float,
    shares: float,
    tick: int,
    at_s: float,
    limit_bps: float,
    out: Any,
) -> None:
    for level in range(market.n_levels):
        beyond = touch_bps + market.tick_bps * level * market.level_ticks > limit_bps + 2.0 * TOLERANCE_BPS
        if recording is None and beyond:  # without a draw of its size
            break
        price_bps, shown, taken, key = level_of(
            block, i, j, fixed, market, recording, touch_bps, shares, tick, level, at_s
        )
        if price_bps > limit_bps + 2.0 * TOLERANCE_BPS:
            break
        out.price_bps[level], out.key[level] = price_bps, key
        out.shares[level] = max(shown - taken, 0.0)
        out.n_levels = level + 1


@njit
def remove(ladder: Any, shares: float) -> None:
    """Take displayed `shares` out of a ladder, from the top downwards; what nobody sees stays."""
    for level in range(ladder.n_levels):
        if shares <= 0.0:
            break
        gone = min(ladder.shares[level], shares)
        ladder.shares[level] -= gone
        shares -= gone


@njit
def fill_of(ladder: Any, sent: float, limit_bps: float, min_shares: float) -> tuple[float, float]:
    """What a child of `sent` shares takes, in order of price up to its limit: shares, and sum of shares x price.

    `ladder.filled` and `ladder.mid_filled` say what it takes where. A child that would get less than `min_shares`
    takes nothing.
    """
    limit_bps += TOLERANCE_BPS
    ladder.mid_filled = min(sent, ladder.mid_shares) if ladder.mid_bps <= limit_bps else 0.0
    filled, value = ladder.mid_filled, ladder.mid_filled * ladder.mid_bps
    for level in range(ladder.n_levels):
        held = ladder.shares[level] + (ladder.hidden_shares if level == 0 else 0.0)
        here = min(sent - filled, held) if ladder.price_bps[level] <= limit_bps else 0.0
        ladder.filled[level] = here
        filled += here
        value += here * ladder.price_bps[level]
    if filled < min_shares * (1.0 - 1e-9):
        ladder.mid_filled, filled, value = 0.0, 0.0, 0.0
        ladder.filled[: ladder.n_levels] = 0.0
    return filled, value


@njit
def deplete(block: Any, j: int, fixed: Any, market: Any, ladder: Any, at_s: float) -> None:
    """Remember what the last child took of a ladder."""
    for level in range(ladder.n_levels):
        if ladder.filled[level] > 0.0:
            _take_at(block, j, fixed, market, ladder.key[level], at_s, ladder.filled[level])
    if ladder.mid_filled > 0.0:
        taken = block.taken_shares[j]
        if fixed.dark[j] == 0.0:
            taken = left_of(taken, at_s - block.taken_s[j], fixed.refill_half_life_s[j])
        block.taken_shares[j], block.taken_s[j] = taken + ladder.mid_filled, at_s
