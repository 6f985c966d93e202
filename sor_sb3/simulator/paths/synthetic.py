"""The synthetic market: quotes, latencies, halts, outages, news and volume. It never reads our actions.

`advance` first moves the mid of each order (scalars), then all venues of neighbouring orders in one loop over lanes
without branches. The result for a lane does not depend on its neighbours.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp, log
from sor_sb3.simulator.random import (
    PLACES_PER_STEP,
    RESET_PLACE,
    draw_table,
    normal_at,
    stream_at,
    uniform_at,
)
from sor_sb3.simulator.state import LANES_APART, lanes

# The numbers that are drawn, standard normals (z) and uniforms (u); a new one takes a word that is still free.
OPENING_ORDER_DRAWS = draw_table("z_drift u_stress", "u_day")
OPENING_VENUE_DRAWS = draw_table(
    "z_offset_fast z_size_fast",
    "z_offset_slow z_size_slow",
    "u_congested u_halted",
    "z_latency z_volume",
    "- u_outage",
)
ORDER_DRAWS = draw_table("z_mid z_drift", "z_signal u_stress", "u_informed u_news", "u_jump u_against", "z_jump")
VENUE_DRAWS = draw_table(
    "z_offset_fast z_size_fast",
    "z_offset_slow z_size_slow",
    "z_latency z_volume",
    "u_change u_tail",
    "u_congested u_halted",
    "u_hidden u_outage",
    "u_dark_zero u_dark_size",
)

SCRATCH = np.dtype(  # what is one number for an order, laid out by lane
    [
        ("stream", "u8", (LANES_APART,)),
        *((name, "f8", (LANES_APART,)) for name in ("stressed", "volume", "smooth_move_bps", "news_ms", "jump_bps")),
    ],
    align=True,
)


@njit(inline="always")
def turned(state: float, enter: float, leave: float, u: float) -> float:
    """The next state, 0 or 1, of a two-state Markov chain."""
    return 1.0 - state if u < (leave if state == 1.0 else enter) else state


@njit(inline="always")
def in_regime(enter: float, leave: float, u: float) -> float:
    """1 with the stationary probability of the chain's state 1, else 0."""
    return 1.0 if u * (enter + leave) < enter else 0.0


@njit(inline="always")
def latency_ms(fixed: Any, j: Any, z: float, regime_factor: float, tail_factor: float) -> float:
    """One way, of a child sent now: lognormal, slower in congestion and in the tail; and the speed bump."""
    return (
        fixed.median_latency_ms[j] * exp(fixed.latency_sigma[j] * z) * regime_factor * tail_factor
        + fixed.speed_bump_ms[j]
    )


@njit(inline="always")
def _far_touch_bps(log_offset: float, tick_bps: float) -> float:
    """Offset of the far touch; on a grid 1/2, 3/2, ... ticks from a mid half-way between two ticks."""
    offset_bps = exp(log_offset)
    on_grid_bps = (math.floor(max(offset_bps / tick_bps - 0.5, 0.0) + 0.5) + 0.5) * tick_bps
    return on_grid_bps if tick_bps > 0.0 else offset_bps


@njit(inline="always")
def _market_volume_shares(block: Any, i: int, market: Any) -> float:
    """What all venues trade in a step at this time of the day, on average."""
    x = block.day_position[i] + block.step[i] / market.volume_day_steps
    x = 2.0 * (x - math.floor(x)) - 1.0
    return market.volume_per_step * (1.0 + market.volume_curve * (x * x - 1.0 / 3.0))


@njit(inline="always")
def _volume_noise(sd: float, z: float) -> float:
    return exp(sd * (z - 0.5 * sd))


@njit(inline="always")
def _power_law(exponent: float, log_most: float, u: float) -> float:
    """Quantile `u` of the density ``s ** -exponent`` on [1, most]."""
    rest = 1.0 - exponent
    if abs(rest) < 1e-9:
        return exp(u * log_most)
    return exp(log(1.0 + u * (exp(rest * log_most) - 1.0)) / rest)


@njit(inline="always")
def arrival(
    smooth_move_bps: float,
    jump_bps: float,
    news_ms: float,
    quote_move_bps: float,
    change_at: float,
    shares: float,
    next_shares: float,
    kept: float,
    elapsed_ms: float,
    elapsed: float,
) -> tuple[float, float]:
    """What a child finds that arrives `elapsed_ms` (a part `elapsed` of the step) after a decision, fade apart.

    Returns the far touch's move (bps) since the decision, and displayed size (shares). The mid moves evenly over the
    step and jumps once there is bad news, of which others keep `kept` of their quotes; the venue's quote becomes the
    next one at `change_at`.
    """
    changed, late = elapsed > change_at, elapsed_ms > news_ms
    move_bps = smooth_move_bps * elapsed + (jump_bps if late else 0.0) + (quote_move_bps if changed else 0.0)
    return move_bps, (next_shares if changed else shares) * (kept if late else 1.0)


@njit(error_model="numpy")
def synthetic_arrival(block: Any, i: int, j: int, market: Any, elapsed_ms: float) -> tuple[float, float, float]:
    """`arrival` in lane `j` of order `i`, and the hidden size behind it (shares)."""
    move_bps, shares = arrival(
        block.smooth_move_bps[i],
        max(block.news_bps[i], 0.0),
        block.news_ms[i],
        block.next_offset_bps[j] - block.offset_bps[j],
        block.change_at[j],
        block.quote_shares[j],
        block.next_shares[j],
        1.0 - market.informed_removed,
        elapsed_ms,
        min(1e-3 * elapsed_ms / market.step_s, 1.0),
    )
    return move_bps, shares, block.hidden_shares[j]


@njit(error_model="numpy")
def begin(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Draw the state in which an order finds the market, from its stationary distribution."""
    of, stream = OPENING_ORDER_DRAWS, stream_at(block.order_key[i], RESET_PLACE)
    block.drift_bps_per_s[i] = market.drift_sd_bps_per_s * normal_at(stream, of.z_drift)
    stressed = in_regime(market.stress_enter, market.stress_leave, uniform_at(stream, of.u_stress))
    block.stressed[i] = stressed
    block.day_position[i] = uniform_at(stream, of.u_day)
    volume_shares = _market_volume_shares(block, i, market)
    stress_offset = market.stress_log_offset if stressed == 1.0 else 0.0
    stress_size = market.stress_log_size if stressed == 1.0 else 0.0
    for j in lanes(i, market):
        of, stream = OPENING_VENUE_DRAWS, stream_at(block.venue_key[j], RESET_PLACE)
        block.offset_fast[j] = market.offset_fast_sd * normal_at(stream, of.z_offset_fast)
        block.size_fast[j] = market.size_fast_sd * normal_at(stream, of.z_size_fast)
        block.offset_slow[j] = market.offset_slow_sd * normal_at(stream, of.z_offset_slow)
        block.size_slow[j] = market.size_slow_sd * normal_at(stream, of.z_size_slow)
        congested = in_regime(market.congest_enter, market.congest_leave, uniform_at(stream, of.u_congested))
        block.congested[j] = congested
        u_halted = uniform_at(stream, of.u_halted)
        block.open[j] = 1.0 - in_regime(fixed.halt_enter[j], fixed.halt_leave[j], u_halted)
        regime = market.congest_factor if congested == 1.0 else 1.0
        block.latency_ms[j] = latency_ms(fixed, j, normal_at(stream, of.z_latency), regime, 1.0)
        noise = _volume_noise(market.volume_noise_sd, 0.5 * normal_at(stream, of.z_volume))
        block.recent_volume_shares[j] = volume_shares * fixed.volume_share[j] * noise
        u_outage = uniform_at(stream, of.u_outage)
        block.outage[j] = in_regime(fixed.outage_enter[j], fixed.outage_leave[j], u_outage)
        if fixed.dark[j] == 0.0:
            log_offset = fixed.log_offset[j] + block.offset_fast[j] + block.offset_slow[j] + stress_offset
            block.next_offset_bps[j] = _far_touch_bps(log_offset, market.tick_bps)
            block.next_shares[j] = exp(fixed.log_size[j] + block.size_fast[j] + block.size_slow[j] + stress_size)


@njit(error_model="numpy")
def _move_mid(block: Any, i: int, market: Any) -> None:
    """Draw the mid's coming move, and the news: an exponential time, and a jump that fast traders act on.

    Only news against us moves a far touch before the next decision: others cancel at once and improve at leisure.
    """
    of, stream = ORDER_DRAWS, stream_at(block.order_key[i], block.step[i] * PLACES_PER_STEP)
    stressed, drift_bps_per_s = block.stressed[i], block.drift_bps_per_s[i]
    noise_bps = market.volatility_step_bps * normal_at(stream, of.z_mid)
    signal = market.signal_noise * normal_at(stream, of.z_signal)
    if market.drift_sd_bps_per_s > 0.0:
        drift_bps_per_s = market.drift_decay * drift_bps_per_s + market.drift_shock * normal_at(stream, of.z_drift)
        signal += market.signal_correlation * drift_bps_per_s / market.drift_sd_bps_per_s
        block.drift_bps_per_s[i] = drift_bps_per_s
    block.signal[i] = signal
    if stressed == 1.0:
        noise_bps *= market.stress_volatility
    block.stressed[i] = turned(stressed, market.stress_enter, market.stress_leave, uniform_at(stream, of.u_stress))
    if uniform_at(stream, of.u_jump) < market.jump_probability:
        noise_bps += market.jump_sd_bps * normal_at(stream, of.z_jump)
    block.mid_noise_bps[i] = noise_bps
    smooth_move_bps = drift_bps_per_s * market.step_s + noise_bps
    block.smooth_move_bps[i] = smooth_move_bps
    news_bps, news_ms = 0.0, math.inf
    if uniform_at(stream, of.u_informed) < market.informed_probability:
        against = uniform_at(stream, of.u_against) < 0.5
        if against:
            news_ms = -market.informed_window_ms * log(uniform_at(stream, of.u_news))
        news_bps = market.informed_jump_bps if against else -market.informed_jump_bps
    block.news_bps[i], block.news_ms[i] = news_bps, news_ms
    block.next_mid_bps[i] = block.mid_bps[i] + smooth_move_bps + news_bps


@njit(error_model="numpy")
def _lay_out(block: Any, i: int, market: Any, scratch: Any) -> None:
    """Give each lane of an order what its loop needs to know of the order."""
    stream = stream_at(np.uint64(0), block.step[i] * PLACES_PER_STEP)
    stressed, volume_shares = block.stressed[i], _market_volume_shares(block, i, market)
    smooth_move_bps, news_ms, jump_bps = block.smooth_move_bps[i], block.news_ms[i], max(block.news_bps[i], 0.0)
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + 1) * market.n_venues)):
        scratch.stream[j], scratch.stressed[j], scratch.volume[j] = stream, stressed, volume_shares
        scratch.smooth_move_bps[j], scratch.news_ms[j], scratch.jump_bps[j] = smooth_move_bps, news_ms, jump_bps


@njit(error_model="numpy")
def _move_lanes(block: Any, fixed: Any, market: Any, first: int, last: int, scratch: Any) -> None:
    """One step of the lanes from `first` up to `last`: straight-line arithmetic without branches, for vectors."""
    fast, slow = market.fast_decay, market.slow_decay
    offset_fast_shock, offset_slow_shock = market.offset_fast_shock, market.offset_slow_shock
    size_fast_shock, size_slow_shock = market.size_fast_shock, market.size_slow_shock
    stress_log_offset, stress_log_size = market.stress_log_offset, market.stress_log_size
    congest_enter, congest_leave = market.congest_enter, market.congest_leave
    congest_stress_factor, congest_factor = market.congest_stress_factor, market.congest_factor
    tail_probability, tail_factor = market.tail_probability, market.tail_factor
    noise_sd, forget = market.volume_noise_sd, 1.0 - market.volume_memory
    kept, tick_bps, per_step_ms = 1.0 - market.informed_removed, market.tick_bps, 1e-3 / market.step_s
    step_ms, of = 1e3 * market.step_s, VENUE_DRAWS
    for j in range(np.uint64(first), np.uint64(last)):
        stream, stressed, lit = block.venue_key[j] + scratch.stream[j], scratch.stressed[j] == 1.0, fixed.dark[j] == 0.0
        # the quote in force, and what the feed says of it: the one before, if that has changed since the feed left
        was_congested, offset_bps, shares = block.congested[j], block.next_offset_bps[j], block.next_shares[j]
        old_offset_bps, old_shares = block.offset_bps[j], block.quote_shares[j]
        feed_ms = fixed.feed_ms[j] * (congest_factor if was_congested == 1.0 else 1.0)
        stale = (feed_ms > step_ms * (1.0 - block.change_at[j])) & (old_shares > 0.0)
        block.offset_bps[j], block.quote_shares[j] = offset_bps, shares
        block.observed_offset_bps[j] = old_offset_bps if stale else offset_bps
        block.observed_shares[j] = old_shares if stale else shares
        block.observed_latency_ms[j] = block.latency_ms[j]
        # the quote of the next decision; a dark pool quotes nothing
        offset_fast = fast * block.offset_fast[j] + offset_fast_shock * normal_at(stream, of.z_offset_fast)
        offset_slow = slow * block.offset_slow[j] + offset_slow_shock * normal_at(stream, of.z_offset_slow)
        size_fast = fast * block.size_fast[j] + size_fast_shock * normal_at(stream, of.z_size_fast)
        size_slow = slow * block.size_slow[j] + size_slow_shock * normal_at(stream, of.z_size_slow)
        log_offset = fixed.log_offset[j] + offset_fast + offset_slow + (stress_log_offset if stressed else 0.0)
        log_size = fixed.log_size[j] + size_fast + size_slow + (stress_log_size if stressed else 0.0)
        next_offset_bps = _far_touch_bps(log_offset, tick_bps) if lit else 0.0
        next_shares = exp(log_size) if lit else 0.0
        block.offset_fast[j], block.offset_slow[j] = offset_fast, offset_slow
        block.size_fast[j], block.size_slow[j] = size_fast, size_slow
        block.next_offset_bps[j], block.next_shares[j] = next_offset_bps, next_shares
        # latency and status
        enter = congest_enter * (congest_stress_factor if stressed else 1.0)
        congested = turned(was_congested, enter, congest_leave, uniform_at(stream, of.u_congested))
        regime = congest_factor if congested == 1.0 else 1.0
        tail = tail_factor if uniform_at(stream, of.u_tail) < tail_probability else 1.0
        late_ms = latency_ms(fixed, j, normal_at(stream, of.z_latency), regime, tail)
        block.congested[j], block.latency_ms[j] = congested, late_ms
        block.open[j] = turned(block.open[j], fixed.halt_leave[j], fixed.halt_enter[j], uniform_at(stream, of.u_halted))
        outage = turned(block.outage[j], fixed.outage_enter[j], fixed.outage_leave[j], uniform_at(stream, of.u_outage))
        block.outage[j] = outage
        volume = scratch.volume[j] * fixed.volume_share[j] * _volume_noise(noise_sd, normal_at(stream, of.z_volume))
        block.recent_volume_shares[j] += forget * (volume - block.recent_volume_shares[j])
        # what a child sent now will meet
        change_at = uniform_at(stream, of.u_change)
        block.change_at[j] = change_at
        block.touch_move_bps[j], block.arrival_size_shares[j] = arrival(
            scratch.smooth_move_bps[j],
            scratch.jump_bps[j],
            scratch.news_ms[j],
            next_offset_bps - offset_bps,
            change_at,
            shares,
            next_shares,
            kept,
            late_ms,
            min(late_ms * per_step_ms, 1.0),
        )
        hidden = -fixed.hidden_fraction[j] * log(uniform_at(stream, of.u_hidden))  # exponential
        block.hidden_shares[j] = hidden * shares


@njit
def _rest_in_the_dark(block: Any, i: int, fixed: Any, market: Any) -> None:
    """What rests in dark pools at the midpoint until the next decision: nothing, or a power law's size."""
    for j in lanes(i, market):
        if fixed.dark[j] == 1.0:
            stream = stream_at(block.venue_key[j], block.step[i] * PLACES_PER_STEP)
            block.hidden_shares[j] = 0.0
            if uniform_at(stream, VENUE_DRAWS.u_dark_zero) >= fixed.zero_probability[j]:
                u_size = uniform_at(stream, VENUE_DRAWS.u_dark_size)
                block.hidden_shares[j] = _power_law(fixed.power_exponent[j], fixed.log_max_size[j], u_size)


@njit
def advance(block: Any, i: int, n: int, fixed: Any, market: Any, scratch: Any) -> None:
    """Move the market of the orders ``i .. i + n - 1`` of a block to their decision `step`."""
    for member in range(i, i + n):
        _move_mid(block, member, market)
        _lay_out(block, member, market, scratch)
    _move_lanes(block, fixed, market, i * market.n_venues, (i + n) * market.n_venues, scratch)
    if market.has_dark == 1:
        for member in range(i, i + n):
            _rest_in_the_dark(block, member, fixed, market)
