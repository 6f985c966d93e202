"""What the router sees at a decision or wave, and what is true there: the step from the path to the public fields."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.book import observed_level
from sor_sb3.simulator.paths import midpoint_at, near_shares_at, price_at, touch_at
from sor_sb3.simulator.paths.synthetic import changes_until, draw_latencies
from sor_sb3.simulator.state import lanes


@njit(inline="always")
def push_bps(block: Any, i: int) -> float:
    """By how much our own trading has moved the mid."""
    return block.permanent_bps[i] + block.transient_bps[i]


@njit
def look(block: Any, i: int, n: int, fixed: Any, market: Any, recording: Any, scratch: Any) -> None:
    """Begin an env step of orders ``i .. i + n - 1``: what the router observes, what is true at its decision or wave.

    The path has laid down what the feeds show at a decision; in a later wave the same tick is asked again.
    """
    draw_latencies(block, i, n, fixed, market, scratch)
    for member in range(i, i + n):
        elapsed_ms = block.elapsed_ms[member]
        block.mark_bps[member] = price_at(block, member, market, recording, elapsed_ms)
        _see_quotes(block, member, fixed, market, recording, elapsed_ms)
        if market.has_dark == 1:
            mid_bps, _ = midpoint_at(block, member, fixed, market, recording, elapsed_ms)
            for j in lanes(member, market):
                if fixed.dark[j] == 1.0:
                    block.offset_bps[j] = mid_bps - block.mark_bps[member]
        observe_midpoint(block, member, fixed, market)


@njit(error_model="numpy")
def _see_quotes(block: Any, i: int, fixed: Any, market: Any, recording: Any, elapsed_ms: float) -> None:
    """Lay down each lane's quote as observed and in force: mostly one and the same, of which we took nothing."""
    mark_bps, tick = block.mark_bps[i], block.tick[i]
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + 1) * market.n_venues)):
        shown, quotes = block.observed_quote_shares[j], (fixed.dark[j] == 0.0) & (block.open[j] == 1.0)
        block.offset_bps[j], block.quote_shares[j] = block.observed_ask_bps[j] - mark_bps, shown
        block.observed_shares[j] = shown if quotes else 0.0
    for j in lanes(i, market):
        if fixed.dark[j] == 1.0:
            continue
        if recording is not None or block.observed_tick[j] != tick or changes_until(block, i, j, market, elapsed_ms):
            _see_other_quote(block, i, j, fixed, market, recording, elapsed_ms)
        if block.open[j] == 1.0 and block.slots_used[j] > 0:
            block.observed_shares[j] = observed_level(block, i, j, fixed, market, recording, 0)[1]


@njit
def _see_other_quote(block: Any, i: int, j: Any, fixed: Any, market: Any, recording: Any, elapsed_ms: float) -> None:
    """Lay down the quotes of a lane where the one that was observed may not be in force."""
    feed_ms = fixed.feed_ms[j] * (market.congest_factor if block.congested[j] == 1.0 else 1.0)
    if elapsed_ms > 0.0 and elapsed_ms >= feed_ms:
        far_bps, near_bps, shares, tick = touch_at(block, i, j, market, recording, elapsed_ms - feed_ms)
        block.observed_ask_bps[j], block.observed_bid_bps[j] = far_bps, near_bps
        block.observed_quote_shares[j], block.observed_tick[j] = shares, tick
        block.observed_near_shares[j] = near_shares_at(block, i, j, market, recording, elapsed_ms - feed_ms)
        block.observed_shares[j] = shares if block.open[j] == 1.0 else 0.0
    far_bps, _, block.quote_shares[j], _ = touch_at(block, i, j, market, recording, elapsed_ms)
    block.offset_bps[j] = far_bps - block.mark_bps[i]


@njit
def observe_midpoint(block: Any, i: int, fixed: Any, market: Any) -> None:
    """The midpoint of the observed quotes, how it has moved, and how far from it each venue quotes."""
    ask_bps, bid_bps, before, push = math.inf, -math.inf, block.observed_mid_bps[i], push_bps(block, i)
    for j in lanes(i, market):
        if fixed.dark[j] == 0.0 and block.open[j] == 1.0 and block.observed_quote_shares[j] > 0.0:
            ask_bps, bid_bps = min(ask_bps, block.observed_ask_bps[j]), max(bid_bps, block.observed_bid_bps[j])
    if ask_bps < math.inf and bid_bps > -math.inf:
        block.observed_mid_bps[i] = 0.5 * (ask_bps + bid_bps) + push
        block.observed_spread_bps[i] = ask_bps - bid_bps
    middle = block.observed_mid_bps[i] - push
    first = block.step[i] == 0 and block.wave[i] == 0
    block.last_move_bps[i] = 0.0 if first else block.observed_mid_bps[i] - before
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + 1) * market.n_venues)):
        lit = fixed.dark[j] == 0.0
        far_bps, near_bps = block.observed_ask_bps[j] - middle, middle - block.observed_bid_bps[j]
        block.observed_offset_bps[j], block.observed_near_offset_bps[j] = (
            (far_bps if lit else 0.0),
            (near_bps if lit else 0.0),
        )
