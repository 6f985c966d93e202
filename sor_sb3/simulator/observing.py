"""What the router sees at a decision or wave, and what is true there: the step from the path to the public fields."""

from __future__ import annotations

import math
from typing import Any

from numba import njit

from sor_sb3.simulator.book import observed_level
from sor_sb3.simulator.paths import midpoint_at, near_shares_at, price_at, touch_at
from sor_sb3.simulator.paths.synthetic import draw_latency_ms
from sor_sb3.simulator.state import lanes


@njit(inline="always")
def push_bps(block: Any, i: int) -> float:
    """By how much our own trading has moved the mid."""
    return block.permanent_bps[i] + block.transient_bps[i]


@njit
def look(block: Any, i: int, fixed: Any, market: Any, recording: Any) -> None:
    """Begin an env step: what the router observes and what is true at its decision or wave.

    The path has laid down what the feeds show at a decision; in a later wave the same tick is asked again.
    """
    elapsed_ms, push = block.elapsed_ms[i], push_bps(block, i)
    ask_bps, bid_bps = math.inf, -math.inf
    mark_bps = price_at(block, i, market, recording, elapsed_ms)
    block.mark_bps[i] = mark_bps
    for j in lanes(i, market):
        block.observed_latency_ms[j] = block.latency_ms[j]
        block.latency_ms[j] = draw_latency_ms(block, i, j, fixed, market)
        block.observed_shares[j] = 0.0
        if fixed.dark[j] == 0.0:
            if elapsed_ms > 0.0:
                feed_ms = fixed.feed_ms[j] * (market.congest_factor if block.congested[j] == 1.0 else 1.0)
                if elapsed_ms >= feed_ms:
                    far, near, shares, tick = touch_at(block, i, j, market, recording, elapsed_ms - feed_ms)
                    block.observed_ask_bps[j], block.observed_bid_bps[j] = far, near
                    block.observed_quote_shares[j], block.observed_tick[j] = shares, tick
                    block.observed_near_shares[j] = near_shares_at(block, i, j, market, recording, elapsed_ms - feed_ms)
            ask, shown, tick = block.observed_ask_bps[j], block.observed_quote_shares[j], block.observed_tick[j]
            if recording is None and elapsed_ms == 0.0 and tick == block.tick[i]:  # what is observed is in force
                block.offset_bps[j], block.quote_shares[j] = ask - mark_bps, shown
            else:
                far_bps, _, shares, _ = touch_at(block, i, j, market, recording, elapsed_ms)
                block.offset_bps[j], block.quote_shares[j] = far_bps - mark_bps, shares
            if block.open[j] == 1.0:
                block.observed_shares[j] = observed_level(block, i, j, fixed, market, recording, 0)[1]
                if shown > 0.0:
                    ask_bps, bid_bps = min(ask_bps, ask), max(bid_bps, block.observed_bid_bps[j])
    if market.has_dark == 1:
        mid_bps, _ = midpoint_at(block, i, fixed, market, recording, elapsed_ms)
        for j in lanes(i, market):
            if fixed.dark[j] == 1.0:
                block.offset_bps[j] = mid_bps - mark_bps
    _observe_midpoint(block, i, fixed, market, ask_bps, bid_bps, push)


@njit(inline="always")
def _observe_midpoint(block: Any, i: int, fixed: Any, market: Any, ask_bps: float, bid_bps: float, push: float) -> None:
    before = block.observed_mid_bps[i]
    if ask_bps < math.inf and bid_bps > -math.inf:
        block.observed_mid_bps[i] = 0.5 * (ask_bps + bid_bps) + push
        block.observed_spread_bps[i] = ask_bps - bid_bps
    middle = block.observed_mid_bps[i] - push
    first = block.step[i] == 0 and block.wave[i] == 0
    block.last_move_bps[i] = 0.0 if first else block.observed_mid_bps[i] - before
    for j in lanes(i, market):
        if fixed.dark[j] == 0.0:
            block.observed_offset_bps[j] = block.observed_ask_bps[j] - middle
            block.observed_near_offset_bps[j] = middle - block.observed_bid_bps[j]
