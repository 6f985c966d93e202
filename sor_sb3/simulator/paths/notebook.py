"""The notebook's market: quotes and latencies drawn anew at each decision, uniformly. It never reads our actions."""

from __future__ import annotations

from typing import Any

from numba import njit

from sor_sb3.simulator.random import PLACES_PER_STEP, draw_bits, high_word, low_word, uniform
from sor_sb3.simulator.state import lanes


@njit(inline="always")
def _between(low: float, high: float, u: float) -> float:
    return low + (high - low) * u


@njit
def advance(block: Any, i: int, market: Any) -> None:
    """Draw what order `i` of a block meets at its decision `step`; blind, a child meets other draws than are shown."""
    place = block.step[i] * PLACES_PER_STEP
    for j in lanes(i, market):
        key = block.venue_key[j]
        first, second = draw_bits(key, place), draw_bits(key, place + 1)
        spread = _between(market.spread_low, market.spread_high, uniform(high_word(first)))
        shares = _between(market.liquidity_low, market.liquidity_high, uniform(low_word(first)))
        latency = _between(market.notebook_latency_low, market.notebook_latency_high, uniform(high_word(second)))
        block.open[j] = 1.0
        block.offset_bps[j], block.observed_offset_bps[j] = spread, spread
        block.quote_shares[j], block.observed_shares[j] = shares, shares
        block.observed_latency_ms[j] = latency
        if market.blind == 1:
            first, second = draw_bits(key, place + 2), draw_bits(key, place + 3)
            met = _between(market.spread_low, market.spread_high, uniform(high_word(first)))
            block.touch_move_bps[j] = met - spread
            shares = _between(market.liquidity_low, market.liquidity_high, uniform(low_word(first)))
            latency = _between(market.notebook_latency_low, market.notebook_latency_high, uniform(high_word(second)))
        block.arrival_size_shares[j], block.latency_ms[j] = shares, latency
