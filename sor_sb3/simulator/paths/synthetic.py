"""The synthetic market: efficient price, quotes, latencies, halts, news and volume. It never reads our actions.

The path lives on a clock of its own, in ticks of `path_dt_s`, and its random numbers are addressed by tick and venue.
`advance` moves it by one tick: first the price of each order (scalars), then all venues of neighbouring orders in one
loop over lanes without branches. The result for a lane does not depend on its neighbours. What only a child or an
observation reads is drawn when it is read (`synthetic_touch` and :mod:`sor_sb3.simulator.book`).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit

from sor_sb3.simulator.elementary import exp, log, toward
from sor_sb3.simulator.random import (
    PLACES_PER_STEP,
    RESET_PLACE,
    draw_bits,
    draw_table,
    high_word,
    normal_at,
    poisson,
    stream_at,
    uniform,
    uniform_at,
)
from sor_sb3.simulator.state import LANES_APART, ORDERS_APART, lanes

# The numbers that are drawn, standard normals (z) and uniforms (u); a new one takes a word that is still free.
OPENING_ORDER_DRAWS = draw_table("z_drift u_stress", "u_day u_grid", "z_volatility z_flow")
OPENING_VENUE_DRAWS = draw_table(
    "z_offset_fast z_size_fast",
    "z_offset_slow z_size_slow",
    "u_congested u_halted",
    "z_latency z_volume",
    "u_supplied u_outage",
    "u_dark_size u_join",
    "z_near z_near_offset",
)
ORDER_DRAWS = draw_table(
    "z_price z_drift", "z_signal u_stress", "u_news u_news_time", "u_jump u_sign", "z_jump z_volatility", "z_flow"
)
VENUE_DRAWS = draw_table(
    "z_offset_fast z_size_fast",
    "z_offset_slow z_size_slow",
    "u_update u_change",
    "u_congested u_halted",
    "u_outage z_volume",
    "u_dark_supply u_dark_size",
    "u_hidden u_mid",
    "-",  # LEVELS_PLACE
    "z_near u_cancel",
    "u_sell u_buy",
    "z_near_offset",
)
LEVELS_PLACE = 7  # 64 bits: a byte for each level behind the touch
LATENCY_DRAWS = draw_table("z_latency u_tail")
LATENCY_PLACE, MOST_WAVES = 1 << 42, 4  # a place for each wave of each tick
TRADES_PLACE, MOST_TRADES = 1 << 43, 1024  # a place for each sell of a tick whose size is drawn

SCRATCH = np.dtype(  # numbers of orders laid out by lane, and what is gathered from the lanes of an order
    [
        ("stream", "u8", (LANES_APART,)),
        *((name, "f8", (LANES_APART,)) for name in ("stressed", "volume", "price_bps", "low_bps", "sell_share")),
        *((name, "f8", (LANES_APART,)) for name in ("best_ask_ticks", "best_bid_ticks", "near_factor")),
        *((name, "f8", (ORDERS_APART,)) for name in ("best_bid", "lowest_ask", "outflow", "there", "per_share")),
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
def latencies_stream(tick: int, wave: int) -> Any:
    """What the stream of the latencies of a tick and wave is beyond a venue's key."""
    return stream_at(np.uint64(0), LATENCY_PLACE + tick * MOST_WAVES + wave)


@njit(inline="always")
def draw_latency_ms(block: Any, j: Any, stream: Any, fixed: Any, market: Any) -> float:
    """The latency of a child that is sent to lane `j` at the tick and wave of `stream`."""
    stream, of = block.venue_key[j] + stream, LATENCY_DRAWS
    regime_factor = market.congest_factor if block.congested[j] == 1.0 else 1.0
    tail_factor = market.tail_factor if uniform_at(stream, of.u_tail) < market.tail_probability else 1.0
    return latency_ms(fixed, j, normal_at(stream, of.z_latency), regime_factor, tail_factor)


@njit(error_model="numpy")
def draw_latencies(block: Any, i: int, n: int, fixed: Any, market: Any, scratch: Any) -> None:
    """The latencies of children that orders ``i .. i + n - 1`` send now: drawn by the path's tick and the wave."""
    n_venues = market.n_venues
    for member in range(i, i + n):
        stream = latencies_stream(block.tick[member], block.wave[member])
        for j in range(np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)):
            scratch.stream[j] = stream
    for j in range(np.uint64(i * n_venues), np.uint64((i + n) * n_venues)):
        block.observed_latency_ms[j] = block.latency_ms[j]
        block.latency_ms[j] = draw_latency_ms(block, j, scratch.stream[j], fixed, market)


@njit(inline="always")
def round_lots(shares: float, lot_shares: float) -> float:
    """A displayed size in whole round lots, at least one; any size where `lot_shares` is 0."""
    return max(math.floor(shares / lot_shares + 0.5), 1.0) * lot_shares if lot_shares > 0.0 else shares


@njit(inline="always")
def _market_volume_shares(block: Any, i: int, market: Any) -> float:
    """What all venues trade in a tick at this time of the day, on average."""
    x = block.day_position[i] + block.tick[i] / market.volume_day_ticks
    x = 2.0 * (x - math.floor(x)) - 1.0
    return market.volume_per_tick * (1.0 + market.volume_curve * (x * x - 1.0 / 3.0))


@njit(inline="always")
def _volume_noise(sd: float, z: float) -> float:
    return exp(sd * (z - 0.5 * sd))


@njit(inline="always")
def _stretched(x: float, market: Any) -> float:
    """The moving part of the logarithm of a displayed size, its right half stretched."""
    return x * (1.0 + market.size_tail) if x > 0.0 else x


@njit(inline="always")
def _near_factor(offset_fast: float, near_own: float, market: Any) -> float:
    """The offset at the near touch over that at the far touch."""
    return exp((market.sides_correlation - 1.0) * offset_fast + market.sides_apart * near_own)


@njit(inline="always")
def _power_law(exponent: float, log_most: float, u: float) -> float:
    """Quantile `u` of the density ``s ** -exponent`` on [1, most]."""
    rest = 1.0 - exponent
    if abs(rest) < 1e-9:
        return exp(u * log_most)
    return exp(log(1.0 + u * (exp(rest * log_most) - 1.0)) / rest)


# ------------------------------------------------------------------------------------------- reading the path


@njit(inline="always")
def synthetic_price(block: Any, i: int, market: Any, elapsed_ms: float) -> float:
    """The efficient price `elapsed_ms` into the tick."""
    part = min(1e-3 * elapsed_ms / market.path_dt_s, 1.0)
    jump_bps = block.news_bps[i] if elapsed_ms >= block.news_ms[i] else 0.0
    return block.price_bps[i] + block.smooth_move_bps[i] * part + jump_bps


@njit(error_model="numpy")
def passing_ms(block: Any, i: int, market: Any, edge_bps: float, above: bool) -> float:
    """When, in the tick, the efficient price passes an edge that it is beyond at the tick's end: evenly, or by news."""
    sign, tick_ms, news_ms = 1.0 if above else -1.0, 1e3 * market.path_dt_s, block.news_ms[i]
    away_bps, speed = sign * (edge_bps - block.price_bps[i]), sign * block.smooth_move_bps[i] / tick_ms
    jump_bps = sign * block.news_bps[i]
    if away_bps <= 0.0:
        return 0.0
    if speed > 0.0 and away_bps <= speed * min(news_ms, tick_ms):
        return away_bps / speed
    if not news_ms < math.inf:
        return tick_ms  # but for rounding
    return max(min((away_bps - jump_bps) / speed, tick_ms), news_ms) if speed > 0.0 else news_ms


@njit(error_model="numpy")
def synthetic_fallen_ms(block: Any, i: int, market: Any, price_bps: float, from_ms: float) -> float:
    """When, in the tick and after `from_ms`, the efficient price falls through a price; infinite if it does not."""
    if not block.next_price_bps[i] < price_bps:
        return math.inf
    return max(passing_ms(block, i, market, price_bps, False), from_ms)


@njit(error_model="numpy")
def change_ms(block: Any, i: int, j: int, market: Any) -> float:
    """When, in the tick, the quote of lane `j` becomes the next one; later than the tick's end: at its end.

    A quote that the price passes is quoted anew a reaction time later; any other at a time that is uniform.
    """
    grid, tick_bps, end_bps = block.grid_bps[i], market.tick_bps, block.next_price_bps[i]
    ask_bps, bid_bps = grid + tick_bps * block.ask_ticks[j], grid + tick_bps * block.bid_ticks[j]
    above = end_bps > ask_bps
    if above or end_bps < bid_bps:
        passed_ms = passing_ms(block, i, market, ask_bps if above else bid_bps, above)
        return passed_ms - market.reaction_time_ms * log(block.u_change[j])
    return block.u_change[j] * 1e3 * market.path_dt_s


@njit(inline="always")
def changes_until(block: Any, i: int, j: int, market: Any, elapsed_ms: float) -> bool:
    """Whether the quote of lane `j` is already the next one, `elapsed_ms` into the tick."""
    grid, tick_bps, end_bps = block.grid_bps[i], market.tick_bps, block.next_price_bps[i]
    ask_bps, bid_bps = grid + tick_bps * block.ask_ticks[j], grid + tick_bps * block.bid_ticks[j]
    if (end_bps <= ask_bps) & (end_bps >= bid_bps):  # mostly: the price does not pass the quote
        return (elapsed_ms > 0.0) & (elapsed_ms >= block.u_change[j] * 1e3 * market.path_dt_s)
    return elapsed_ms > 0.0 and elapsed_ms >= change_ms(block, i, j, market)


@njit(error_model="numpy")
def quote_ticks(block: Any, i: int, j: int, market: Any, elapsed_ms: float) -> tuple[float, float, bool]:
    """Far and near touch in force, in ticks, and whether the quote is already the next one.

    A next quote that the price has not reached comes in steps: until then it is as near as the price lets it be, so
    that venues cross in reaction times only.
    """
    ask, bid = block.ask_ticks[j], block.bid_ticks[j]
    if not changes_until(block, i, j, market, elapsed_ms):
        return ask, bid, False
    price = (synthetic_price(block, i, market, elapsed_ms) - block.grid_bps[i]) / market.tick_bps
    next_ask, next_bid = block.next_ask_ticks[j], block.next_bid_ticks[j]
    ask = min(max(next_ask, math.ceil(price)), max(ask, next_ask))
    bid = max(min(next_bid, math.floor(price)), min(bid, next_bid))
    return ask, bid, True


@njit(error_model="numpy")
def synthetic_touch(block: Any, i: int, j: int, market: Any, elapsed_ms: float) -> tuple[float, float, float, int]:
    """Far and near touch (relative to the midpoint at arrival), displayed size, and the tick that the quote is of."""
    ask, bid, later = quote_ticks(block, i, j, market, elapsed_ms)
    log_shares = block.next_log_shares[j] if later else block.log_shares[j]
    shares = round_lots(exp(log_shares), market.round_lot_shares)
    grid, tick = block.grid_bps[i], block.tick[i] + (1 if later else 0)
    return grid + market.tick_bps * ask, grid + market.tick_bps * bid, shares, tick


@njit(error_model="numpy")
def synthetic_near_shares(block: Any, i: int, j: int, market: Any, elapsed_ms: float) -> float:
    """Displayed size at the near touch."""
    later = changes_until(block, i, j, market, elapsed_ms)
    log_shares = block.next_near_log_shares[j] if later else block.near_log_shares[j]
    return round_lots(exp(log_shares), market.round_lot_shares)


@njit(error_model="numpy")
def synthetic_midpoint(block: Any, i: int, fixed: Any, market: Any, elapsed_ms: float) -> tuple[float, bool]:
    """The midpoint of the best quotes of open venues in force, and whether they neither lock nor cross."""
    ask, bid = math.inf, -math.inf
    for j in lanes(i, market):
        its_ask, its_bid = block.ask_ticks[j], block.bid_ticks[j]
        if (fixed.dark[j] == 0.0) & (block.open[j] == 1.0):
            if elapsed_ms > 0.0 and changes_until(block, i, j, market, elapsed_ms):
                its_ask, its_bid, _ = quote_ticks(block, i, j, market, elapsed_ms)
            ask, bid = min(ask, its_ask), max(bid, its_bid)
    if ask == math.inf:
        return synthetic_price(block, i, market, elapsed_ms), False
    return block.grid_bps[i] + 0.5 * market.tick_bps * (ask + bid), bid < ask


# --------------------------------------------------------------------------------------------- moving the path


@njit(error_model="numpy")
def begin(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Draw the state in which an order finds the market, from its stationary distribution, and its first quotes."""
    of, stream = OPENING_ORDER_DRAWS, stream_at(block.order_key[i], RESET_PLACE)
    block.drift_bps_per_s[i] = market.drift_sd_bps_per_s * normal_at(stream, of.z_drift)
    stressed = in_regime(market.stress_enter, market.stress_leave, uniform_at(stream, of.u_stress))
    block.stressed[i], block.day_position[i] = stressed, uniform_at(stream, of.u_day)
    block.log_volatility[i] = market.volatility_log_sd * normal_at(stream, of.z_volatility)
    block.flow[i] = normal_at(stream, of.z_flow)
    price_bps = market.tick_bps * uniform_at(stream, of.u_grid)  # above the grid's tick 0
    volume_shares = _market_volume_shares(block, i, market) * market.ticks_per_step
    stress_offset = market.stress_log_offset if stressed == 1.0 else 0.0
    stress_size = market.stress_log_size if stressed == 1.0 else 0.0
    bid_all, ask_all, bid_open, ask_open = -math.inf, math.inf, -math.inf, math.inf
    for j in lanes(i, market):
        of, stream = OPENING_VENUE_DRAWS, stream_at(block.venue_key[j], RESET_PLACE)
        block.offset_fast[j] = market.offset_fast_sd * normal_at(stream, of.z_offset_fast)
        block.size_fast[j] = market.size_fast_sd * normal_at(stream, of.z_size_fast)
        block.offset_slow[j] = market.offset_slow_sd * normal_at(stream, of.z_offset_slow)
        block.size_slow[j] = market.size_slow_sd * normal_at(stream, of.z_size_slow)
        block.near_fast[j] = market.size_fast_sd * normal_at(stream, of.z_near)
        congested = in_regime(market.congest_enter, market.congest_leave, uniform_at(stream, of.u_congested))
        block.congested[j] = congested
        u_halted = uniform_at(stream, of.u_halted)
        block.open[j] = 1.0 - in_regime(fixed.halt_enter[j], fixed.halt_leave[j], u_halted)
        regime = market.congest_factor if congested == 1.0 else 1.0
        block.latency_ms[j] = latency_ms(fixed, j, normal_at(stream, of.z_latency), regime, 1.0)
        noise = _volume_noise(market.volume_noise_sd, 0.5 * normal_at(stream, of.z_volume))
        block.recent_volume_shares[j] = volume_shares * fixed.volume_share[j] * noise
        block.recent_outflow_shares[j] = 0.5 * block.recent_volume_shares[j]
        block.tick_volume_shares[j] = block.recent_volume_shares[j] / market.ticks_per_step  # before the first tick
        block.tick_outflow_shares[j] = 0.5 * block.tick_volume_shares[j]
        u_outage = uniform_at(stream, of.u_outage)
        block.outage[j] = in_regime(fixed.outage_enter[j], fixed.outage_leave[j], u_outage)
        if fixed.dark[j] == 1.0:
            if uniform_at(stream, of.u_supplied) >= fixed.zero_probability[j]:
                u_size = uniform_at(stream, of.u_dark_size)
                block.dark_shares[j] = _power_law(fixed.power_exponent[j], fixed.log_max_size[j], u_size)
            continue
        offset_bps = exp(fixed.log_offset[j] + block.offset_fast[j] + block.offset_slow[j] + stress_offset)
        near_offset_bps = offset_bps
        if market.sides_apart > 0.0:
            block.near_offset_fast[j] = market.offset_fast_sd * normal_at(stream, of.z_near_offset)
            near_offset_bps *= _near_factor(block.offset_fast[j], block.near_offset_fast[j], market)
        ask = math.ceil((price_bps + offset_bps) / market.tick_bps)
        bid = math.floor((price_bps - near_offset_bps) / market.tick_bps)
        block.next_ask_ticks[j], block.next_bid_ticks[j] = ask, bid
        size = fixed.log_size[j] + stress_size
        block.next_log_shares[j] = size + _stretched(block.size_fast[j] + block.size_slow[j], market)
        block.next_near_log_shares[j] = size + _stretched(block.near_fast[j] + block.size_slow[j], market)
        ask_all, bid_all = min(ask_all, ask), max(bid_all, bid)
        if block.open[j] == 1.0:
            ask_open, bid_open = min(ask_open, ask), max(bid_open, bid)
    if ask_open == math.inf:
        ask_open, bid_open = ask_all, bid_all
    if market.join_probability > 0.0:
        _open_at_the_best(block, i, fixed, market, ask_open, bid_open)
    block.grid_bps[i] = -0.5 * market.tick_bps * (ask_open + bid_open)
    block.next_price_bps[i] = price_bps + block.grid_bps[i]


@njit
def _open_at_the_best(block: Any, i: int, fixed: Any, market: Any, best_ask: float, best_bid: float) -> None:
    """Of the first quotes, those that join the best ones."""
    for j in lanes(i, market):
        u = uniform_at(stream_at(block.venue_key[j], RESET_PLACE), OPENING_VENUE_DRAWS.u_join)
        if fixed.dark[j] == 0.0 and u < market.join_probability:
            block.next_ask_ticks[j] = best_ask
        if fixed.dark[j] == 0.0 and u >= 1.0 - market.join_probability:
            block.next_bid_ticks[j] = best_bid


@njit(error_model="numpy")
def _move_prices(block: Any, first: int, last: int, market: Any) -> None:
    """Begin a tick of the orders from `first` up to `last`: the move until the next, the news, the regimes that follow.

    As of lanes, straight-line arithmetic without branches.
    """
    of, sd, tick_ms = ORDER_DRAWS, market.volatility_log_sd, 1e3 * market.path_dt_s
    calm_bps, log_decay, log_shock = market.volatility_tick_bps, market.volatility_decay, market.volatility_shock
    stress_volatility, foresight = market.stress_volatility, market.flow_foresight
    unforeseen, jump_chance, jump_sd_bps = (
        math.sqrt(1.0 - foresight * foresight),
        market.jump_probability,
        market.jump_sd_bps,
    )
    drift_decay, drift_shock, dt_s = market.drift_decay, market.drift_shock, market.path_dt_s
    per_drift = market.signal_correlation / market.drift_sd_bps_per_s if market.drift_sd_bps_per_s > 0.0 else 0.0
    signal_noise, news_chance, jump_bps = market.signal_noise, market.news_probability, market.news_jump_bps
    stress_enter, stress_leave, correlation = market.stress_enter, market.stress_leave, market.side_correlation
    per_calm = 1.0 / max(calm_bps, 1e-9)
    for i in range(np.uint64(first), np.uint64(last)):
        stream = stream_at(block.order_key[i], block.tick[i] * PLACES_PER_STEP)
        stressed, price_bps, log_volatility = block.stressed[i], block.next_price_bps[i], block.log_volatility[i]
        sigma_bps = calm_bps * exp(log_volatility - sd * sd)  # so that the mean square is the market's
        sigma_bps *= stress_volatility if stressed == 1.0 else 1.0
        block.log_volatility[i] = log_decay * log_volatility + log_shock * normal_at(stream, of.z_volatility)
        foreseen_bps = sigma_bps * foresight * block.flow[i]  # by who traded in the tick before
        jump = jump_sd_bps * normal_at(stream, of.z_jump) if uniform_at(stream, of.u_jump) < jump_chance else 0.0
        noise_bps = sigma_bps * unforeseen * normal_at(stream, of.z_price) + jump
        flow = normal_at(stream, of.z_flow)
        drift_bps_per_s = drift_decay * block.drift_bps_per_s[i] + drift_shock * normal_at(stream, of.z_drift)
        block.signal[i] = signal_noise * normal_at(stream, of.z_signal) + per_drift * drift_bps_per_s
        block.flow[i], block.drift_bps_per_s[i] = flow, drift_bps_per_s
        block.stressed[i] = turned(stressed, stress_enter, stress_leave, uniform_at(stream, of.u_stress))
        has_news = uniform_at(stream, of.u_news) < news_chance
        news_bps = jump_bps if uniform_at(stream, of.u_sign) < 0.5 else -jump_bps
        news_bps = news_bps if has_news else 0.0
        block.news_ms[i] = tick_ms * uniform_at(stream, of.u_news_time) if has_news else math.inf
        smooth_bps = drift_bps_per_s * dt_s + foreseen_bps + noise_bps
        block.news_bps[i], block.smooth_move_bps[i] = news_bps, smooth_bps
        block.tick_noise_bps[i] = noise_bps + news_bps
        block.price_bps[i], block.next_price_bps[i] = price_bps, price_bps + smooth_bps + news_bps
        along = (smooth_bps + news_bps) * per_calm + 2.0 * foresight * flow
        doubled = exp(2.0 * min(max(along, -20.0), 20.0))
        block.sell_share[i] = 0.5 * (1.0 - correlation * (doubled - 1.0) / (doubled + 1.0))


@njit(error_model="numpy")
def _lay_out(block: Any, i: int, fixed: Any, market: Any, scratch: Any) -> None:
    """Give each lane of an order what its loop needs to know of the order."""
    stream = stream_at(np.uint64(0), block.tick[i] * PLACES_PER_STEP)
    stressed, volume_shares = block.stressed[i], _market_volume_shares(block, i, market)
    sell_share = block.sell_share[i]
    price_bps = block.next_price_bps[i] - block.grid_bps[i]
    low_bps = block.price_bps[i] + min(block.smooth_move_bps[i], 0.0) + min(block.news_bps[i], 0.0) - block.grid_bps[i]
    for j in range(np.uint64(i * market.n_venues), np.uint64((i + 1) * market.n_venues)):
        scratch.stream[j], scratch.stressed[j], scratch.volume[j] = stream, stressed, volume_shares
        scratch.price_bps[j], scratch.low_bps[j], scratch.sell_share[j] = price_bps, low_bps, sell_share
        scratch.near_factor[j] = 1.0
    if market.join_probability > 0.0:
        best_ask, best_bid = math.inf, -math.inf
        for j in lanes(i, market):
            if fixed.dark[j] == 0.0 and block.open[j] == 1.0:
                best_ask, best_bid = min(best_ask, block.next_ask_ticks[j]), max(best_bid, block.next_bid_ticks[j])
        for j in lanes(i, market):
            scratch.best_ask_ticks[j] = best_ask if best_ask < math.inf else -math.inf  # nobody joins that
            scratch.best_bid_ticks[j] = best_bid if best_bid > -math.inf else math.inf


@njit(error_model="numpy")
def _part_sides(block: Any, market: Any, first: int, last: int, scratch: Any) -> None:
    """Move what is the near sides' own of offsets, before the lanes move."""
    fast, shock, of = market.fast_decay, market.offset_fast_shock, VENUE_DRAWS
    for j in range(np.uint64(first), np.uint64(last)):
        stream = block.venue_key[j] + scratch.stream[j]
        offset_fast = fast * block.offset_fast[j] + shock * normal_at(stream, of.z_offset_fast)  # as it is going to be
        near_own = fast * block.near_offset_fast[j] + shock * normal_at(stream, of.z_near_offset)
        block.near_offset_fast[j] = near_own
        scratch.near_factor[j] = _near_factor(offset_fast, near_own, market)


@njit(error_model="numpy")
def _move_lanes(block: Any, fixed: Any, market: Any, first: int, last: int, scratch: Any) -> None:
    """One tick of the lanes from `first` up to `last`: straight-line arithmetic without branches, for vectors."""
    fast, slow = market.fast_decay, market.slow_decay
    size_fast_decay, size_slow_decay = market.size_fast_decay, market.size_slow_decay
    offset_fast_shock, offset_slow_shock = market.offset_fast_shock, market.offset_slow_shock
    size_fast_shock, size_slow_shock = market.size_fast_shock, market.size_slow_shock
    stress_log_offset, stress_log_size = market.stress_log_offset, market.stress_log_size
    congest_enter, congest_leave = market.congest_enter, market.congest_leave
    congest_stress_factor, tail = market.congest_stress_factor, 1.0 + market.size_tail
    join, noise_sd, forget, tick_bps = (
        market.join_probability,
        market.volume_noise_sd,
        1.0 - market.volume_memory,
        market.tick_bps,
    )
    ticks_per_step = np.float64(market.ticks_per_step)
    per_tick, span_bps, of = 1.0 / tick_bps, tick_bps * market.level_ticks * (market.n_levels - 1), VENUE_DRAWS
    for j in range(np.uint64(first), np.uint64(last)):
        stream, stressed, lit = block.venue_key[j] + scratch.stream[j], scratch.stressed[j] == 1.0, fixed.dark[j] == 0.0
        ask, bid, price_bps = block.next_ask_ticks[j], block.next_bid_ticks[j], scratch.price_bps[j]
        # the quote of the next tick: anew, or as it stood; a quote that the price has passed is always quoted anew
        offset_fast = fast * block.offset_fast[j] + offset_fast_shock * normal_at(stream, of.z_offset_fast)
        offset_slow = slow * block.offset_slow[j] + offset_slow_shock * normal_at(stream, of.z_offset_slow)
        size_fast = size_fast_decay * block.size_fast[j] + size_fast_shock * normal_at(stream, of.z_size_fast)
        size_slow = size_slow_decay * block.size_slow[j] + size_slow_shock * normal_at(stream, of.z_size_slow)
        log_offset = fixed.log_offset[j] + offset_fast + offset_slow + (stress_log_offset if stressed else 0.0)
        near_fast = size_fast_decay * block.near_fast[j] + size_fast_shock * normal_at(stream, of.z_near)
        offset_bps, size, near = exp(log_offset), size_fast + size_slow, near_fast + size_slow
        passed = (price_bps > tick_bps * ask) | (price_bps < tick_bps * bid)
        u_update, requoted = uniform_at(stream, of.u_update), fixed.requote_probability[j]
        anew = (u_update < requoted) | passed
        chance, best_ask, best_bid = 1.0 if passed else requoted, scratch.best_ask_ticks[j], scratch.best_bid_ticks[j]
        joins_ask = (u_update < join * chance) & (tick_bps * best_ask >= price_bps)
        joins_bid = anew & (u_update >= (1.0 - join) * chance) & (tick_bps * best_bid <= price_bps)
        own_ask = math.ceil((price_bps + offset_bps) * per_tick)
        own_bid = math.floor((price_bps - offset_bps * scratch.near_factor[j]) * per_tick)
        next_ask = (best_ask if joins_ask else own_ask) if anew else ask
        next_bid = (best_bid if joins_bid else own_bid) if anew else bid
        log_size = fixed.log_size[j] + (stress_log_size if stressed else 0.0)
        log_shares, near_log_shares = log_size + (size * tail if size > 0.0 else size), block.next_near_log_shares[j]
        block.ask_ticks[j], block.bid_ticks[j], block.log_shares[j] = ask, bid, block.next_log_shares[j]
        block.next_ask_ticks[j], block.next_bid_ticks[j] = next_ask if lit else 0.0, next_bid if lit else 0.0
        block.next_log_shares[j], block.u_change[j] = log_shares, uniform_at(stream, of.u_change)
        block.offset_fast[j], block.offset_slow[j] = offset_fast, offset_slow
        block.size_fast[j], block.size_slow[j], block.near_fast[j] = size_fast, size_slow, near_fast
        block.near_log_shares[j] = near_log_shares
        block.next_near_log_shares[j] = log_size + (near * tail if near > 0.0 else near)
        worst_bps = tick_bps * max(ask, next_ask) + span_bps + fixed.take_fee_bps[j] - scratch.low_bps[j]
        block.lane_worst_bps[j] = max(block.lane_worst_bps[j], worst_bps) if lit else 0.0
        # status, what was traded in the tick before, and what will be in this one
        enter = congest_enter * (congest_stress_factor if stressed else 1.0)
        u_congested, u_halted = uniform_at(stream, of.u_congested), uniform_at(stream, of.u_halted)
        block.congested[j] = turned(block.congested[j], enter, congest_leave, u_congested)
        block.open[j] = turned(block.open[j], fixed.halt_leave[j], fixed.halt_enter[j], u_halted)
        u_outage = uniform_at(stream, of.u_outage)
        block.outage[j] = turned(block.outage[j], fixed.outage_enter[j], fixed.outage_leave[j], u_outage)
        recent, outflow = block.recent_volume_shares[j], block.recent_outflow_shares[j]
        block.recent_volume_shares[j] = toward(recent, ticks_per_step * block.tick_volume_shares[j], forget)
        block.recent_outflow_shares[j] = toward(outflow, ticks_per_step * block.tick_outflow_shares[j], forget)
        volume = scratch.volume[j] * fixed.volume_share[j] * _volume_noise(noise_sd, normal_at(stream, of.z_volume))
        block.tick_volume_shares[j], block.tick_outflow_shares[j] = volume, volume * scratch.sell_share[j]


@njit
def _trade(block: Any, i: int, fixed: Any, market: Any) -> None:
    """The coming tick's volume where trades have a size: a Poisson number of sells, and one of buys."""
    volume_shares, size = _market_volume_shares(block, i, market), market.trade_shares
    of, sell_share = VENUE_DRAWS, block.sell_share[i]
    for j in lanes(i, market):
        stream = stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP)
        mean = volume_shares * fixed.volume_share[j] / size
        sold = poisson(mean * sell_share, uniform_at(stream, of.u_sell))
        bought = poisson(mean * (1.0 - sell_share), uniform_at(stream, of.u_buy))
        if market.exponential_trades == 1:
            trades, sold = int(min(sold, MOST_TRADES)), 0.0
            for trade in range(trades):
                place = TRADES_PLACE + block.tick[i] * MOST_TRADES + trade
                sold -= log(uniform(high_word(draw_bits(block.venue_key[j], place))))
        block.tick_volume_shares[j], block.tick_outflow_shares[j] = size * (sold + bought), size * sold


@njit(error_model="numpy")
def _hit_best_bids(block: Any, i: int, n: int, fixed: Any, market: Any, scratch: Any) -> None:
    """Where quotes are protected, sellers hit the best bids only: venues there share what was for all.

    The more so, the nearer the bid is to the efficient price within the best quotes: sellers know what a bid is worth.
    """
    n_venues, tick_bps = market.n_venues, market.tick_bps
    correlation, focus = market.side_correlation, market.flow_focus
    for member in range(i, i + n):
        first, last = np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)
        best, lowest, total, there = -math.inf, math.inf, 0.0, 0.0
        for j in range(first, last):  # what is picked is read before, so that no branch is needed
            bid, ask, quotes = block.bid_ticks[j], block.ask_ticks[j], (fixed.dark[j] == 0.0) & (block.open[j] == 1.0)
            best, lowest = max(best, bid if quotes else -math.inf), min(lowest, ask if quotes else math.inf)
            total += block.tick_outflow_shares[j]
        for j in range(first, last):
            outflow, quotes = block.tick_outflow_shares[j], (fixed.dark[j] == 0.0) & (block.open[j] == 1.0)
            there += outflow if quotes & (block.bid_ticks[j] == best) else 0.0
        scratch.best_bid[member], scratch.lowest_ask[member] = best, lowest
        scratch.outflow[member], scratch.there[member] = total, there
    for member in range(np.uint64(i), np.uint64(i + n)):  # for vectors; no matter where nobody bids
        best = scratch.best_bid[member]
        above = (block.price_bps[member] - block.grid_bps[member]) / tick_bps - best
        place = 2.0 * above / max(scratch.lowest_ask[member] - best, 1.0) - 1.0  # locked: nothing lies between
        place = min(max(place, -1.0), 1.0)
        near = exp(focus * log(max(0.5 - 0.5 * place, 1e-9)))  # its mean over places is 1 / (focus + 1)
        richness = 1.0 - correlation * ((1.0 - (focus + 1.0) * near) if focus > 1.0 else place)
        scratch.per_share[member] = scratch.outflow[member] * richness / scratch.there[member]
    for member in range(i, i + n):
        best, per_share = scratch.best_bid[member], scratch.per_share[member]
        if scratch.there[member] > 0.0:
            for j in range(np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)):
                outflow, quotes = block.tick_outflow_shares[j], (fixed.dark[j] == 0.0) & (block.open[j] == 1.0)
                sold = outflow * per_share if quotes & (block.bid_ticks[j] == best) else 0.0
                block.tick_volume_shares[j] += sold - outflow
                block.tick_outflow_shares[j] = sold


@njit
def _supply_dark(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Turn dark pools dry or supplied; what we took is forgotten when a pool is supplied anew."""
    of = VENUE_DRAWS
    for j in lanes(i, market):
        if fixed.dark[j] == 1.0:
            stream, supplied = (
                stream_at(block.venue_key[j], block.tick[i] * PLACES_PER_STEP),
                block.dark_shares[j] > 0.0,
            )
            u = uniform_at(stream, of.u_dark_supply)
            if supplied and u < fixed.supply_leave[j]:
                block.dark_shares[j] = 0.0
            elif u < (fixed.supply_renew[j] if supplied else fixed.supply_enter[j]):
                u_size = uniform_at(stream, of.u_dark_size)
                block.dark_shares[j] = _power_law(fixed.power_exponent[j], fixed.log_max_size[j], u_size)
                block.taken_shares[j] = 0.0


@njit(error_model="numpy")
def _observe_quotes(block: Any, i: int, n: int, fixed: Any, market: Any) -> None:
    """Before the tick of a decision begins: which quotes the feeds show there, the coming ones or those before."""
    n_venues, lot_shares = market.n_venues, market.round_lot_shares
    for j in range(np.uint64(i * n_venues), np.uint64((i + n) * n_venues)):
        lit = fixed.dark[j] == 0.0
        shares = round_lots(exp(block.next_log_shares[j]), lot_shares)
        near_shares = round_lots(exp(block.next_near_log_shares[j]), lot_shares)
        block.observed_quote_shares[j], block.observed_near_shares[j] = (
            (shares if lit else 0.0),
            (near_shares if lit else 0.0),
        )
    for member in range(i, i + n):
        grid, tick_bps, tick = block.grid_bps[member], market.tick_bps, block.tick[member]
        for j in range(np.uint64(member * n_venues), np.uint64((member + 1) * n_venues)):
            lit = fixed.dark[j] == 0.0
            ask_bps, bid_bps = grid + tick_bps * block.next_ask_ticks[j], grid + tick_bps * block.next_bid_ticks[j]
            block.observed_ask_bps[j], block.observed_bid_bps[j] = (ask_bps if lit else 0.0), (bid_bps if lit else 0.0)
            block.observed_tick[j] = tick if lit else 0
        if tick > 0:
            _observe_late_feeds(block, member, fixed, market)


@njit(error_model="numpy")
def _observe_late_feeds(block: Any, i: int, fixed: Any, market: Any) -> None:
    """Put back what was quoted before where a feed is too slow to show the coming quote."""
    tick_ms, grid, tick_bps = 1e3 * market.path_dt_s, block.grid_bps[i], market.tick_bps
    for j in lanes(i, market):
        feed_ms = fixed.feed_ms[j] * (market.congest_factor if block.congested[j] == 1.0 else 1.0)
        unheard = feed_ms > 0.0 and not changes_until(block, i, j, market, tick_ms - feed_ms)
        if fixed.dark[j] == 0.0 and unheard:
            block.observed_ask_bps[j] = grid + tick_bps * block.ask_ticks[j]
            block.observed_bid_bps[j] = grid + tick_bps * block.bid_ticks[j]
            block.observed_quote_shares[j] = round_lots(exp(block.log_shares[j]), market.round_lot_shares)
            block.observed_near_shares[j] = round_lots(exp(block.near_log_shares[j]), market.round_lot_shares)
            block.observed_tick[j] = block.tick[i] - 1


@njit
def advance(block: Any, i: int, n: int, fixed: Any, market: Any, scratch: Any, observes: bool) -> None:
    """Move the market of the orders ``i .. i + n - 1`` of a block to their `tick`; a decision `observes` quotes."""
    if observes:
        _observe_quotes(block, i, n, fixed, market)
    _move_prices(block, i, i + n, market)
    for member in range(i, i + n):
        _lay_out(block, member, fixed, market, scratch)
    if market.sides_apart > 0.0:
        _part_sides(block, market, i * market.n_venues, (i + n) * market.n_venues, scratch)
    _move_lanes(block, fixed, market, i * market.n_venues, (i + n) * market.n_venues, scratch)
    if market.trade_shares > 0.0:
        for member in range(i, i + n):
            _trade(block, member, fixed, market)
    if market.order_protection == 1 and market.volume_per_tick > 0.0:
        _hit_best_bids(block, i, n, fixed, market, scratch)
    if market.has_dark == 1:
        for member in range(i, i + n):
            _supply_dark(block, member, fixed, market)
