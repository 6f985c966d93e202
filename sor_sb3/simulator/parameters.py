"""Turn a market specification into the parameter records that the kernels read. The only place that does."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sor_sb3.market.spec import LatencyDynamics, NotebookMarket, ReplayMarket, SyntheticMarket
from sor_sb3.simulator.random import name_key
from sor_sb3.simulator.records import MARKET, NOTEBOOK, REPLAY, SYNTHETIC, VENUE_PARAMETERS


def _decay(step_s: float, half_life_s: float) -> float:
    return 2.0 ** (-step_s / half_life_s)


def _shock(sd: float, decay: float) -> float:
    """Innovation sd of an AR(1) with this stationary sd."""
    return sd * math.sqrt(1.0 - decay * decay)


def _chance(step_s: float, per_hour: float) -> float:
    """Probability that an event of this rate happens within a step."""
    return 1.0 - math.exp(-step_s * per_hour / 3600.0)


def market_record(market: SyntheticMarket | NotebookMarket | ReplayMarket) -> np.ndarray:
    """MARKET record (1,) of a specification."""
    record = np.zeros(1, MARKET)
    m: Any = record[0]
    order = market.order
    m["horizon_steps"], m["step_s"] = order.horizon_steps, order.step_s
    m["quantity_shares"] = order.quantity_shares
    m["side"] = 1.0 if order.side == "buy" else -1.0
    m["cost_scale"] = 1.0
    if isinstance(market, NotebookMarket):
        m["model"], m["cost_scale"], m["blind"] = NOTEBOOK, order.horizon_steps, market.blind
        m["spread_low"], m["spread_high"] = market.spread
        m["liquidity_low"], m["liquidity_high"] = market.liquidity
        m["notebook_latency_low"], m["notebook_latency_high"] = market.latency
        slice_shares = order.quantity_shares / order.horizon_steps
        m["liquidity_cost"] = market.liquidity_cost * 100.0 / slice_shares
        m["latency_cost"] = market.latency_cost
        m["reaction_time_ms"] = 1.0
        return record
    m["cleanup_penalty_bps"] = market.response.cleanup_penalty_bps
    m["reaction_time_ms"] = market.response.reaction_time_ms
    m["permanent_bps_per_share"] = market.response.permanent_impact_bps_per_1000_shares / 1000.0
    _fill_latency(m, market.latency, order.step_s)
    if isinstance(market, ReplayMarket):
        m["model"] = REPLAY
        m["volume_memory"] = _decay(order.step_s, market.volume_memory_half_life_s)
        return record
    m["model"] = SYNTHETIC
    _fill_dynamics(m, market, order.step_s)
    return record


def _fill_latency(m: Any, latency: LatencyDynamics, step_s: float) -> None:
    m["congest_enter"] = _chance(step_s, latency.congestions_per_hour)
    m["congest_leave"] = _chance(step_s, 3600.0 / latency.congestion_duration_s)
    m["congest_factor"] = latency.congestion_factor
    m["congest_stress_factor"] = latency.stress_multiplies_congestions
    m["tail_probability"], m["tail_factor"] = latency.tail_probability, latency.tail_factor


def _fill_dynamics(m: Any, market: SyntheticMarket, step_s: float) -> None:
    quotes, mid, stress, informed, volume = (
        market.quotes,
        market.mid,
        market.stress,
        market.informed,
        market.volume,
    )
    fast, slow = _decay(step_s, quotes.fast_half_life_s), _decay(step_s, quotes.slow_half_life_s)
    m["fast_decay"], m["slow_decay"] = fast, slow
    for what in ("offset", "size"):
        for speed, decay in (("fast", fast), ("slow", slow)):
            sd = getattr(quotes, f"{what}_{speed}_sd")
            m[f"{what}_{speed}_sd"], m[f"{what}_{speed}_shock"] = sd, _shock(sd, decay)
    m["tick_bps"] = quotes.tick_bps
    m["volatility_step_bps"] = mid.volatility_bps_per_sqrt_s * math.sqrt(step_s)
    m["jump_probability"], m["jump_sd_bps"] = _chance(step_s, mid.jumps_per_hour), mid.jump_sd_bps
    m["drift_decay"] = _decay(step_s, mid.drift_half_life_s)
    m["drift_sd_bps_per_s"] = mid.drift_sd_bps_per_s
    m["drift_shock"] = _shock(mid.drift_sd_bps_per_s, float(m["drift_decay"]))
    m["signal_correlation"] = mid.signal_correlation
    m["signal_noise"] = math.sqrt(1.0 - mid.signal_correlation**2)
    m["stress_enter"] = _chance(step_s, stress.entries_per_hour)
    m["stress_leave"] = _chance(step_s, 3600.0 / stress.duration_s)
    m["stress_log_offset"], m["stress_log_size"] = (
        math.log(stress.offset_factor),
        math.log(stress.size_factor),
    )
    m["stress_volatility"] = stress.volatility_factor
    m["informed_probability"], m["informed_window_ms"] = informed.probability, informed.window_ms
    m["informed_jump_bps"], m["informed_removed"] = informed.jump_bps, informed.removed_fraction
    shares = sum(v.volume_share for v in market.venues)
    m["volume_per_step"] = volume.shares_per_day * step_s / volume.day_s / shares if shares else 0.0
    m["volume_curve"], m["volume_noise_sd"] = volume.curve, volume.noise_sd
    m["volume_memory"] = _decay(step_s, volume.memory_half_life_s)
    m["volume_day_steps"] = volume.day_s / step_s


def venue_records(market: SyntheticMarket | NotebookMarket | ReplayMarket) -> np.ndarray:
    """VENUE_PARAMETERS records (K,) of a specification, in the order of its venues."""
    records = np.zeros(market.n_venues, VENUE_PARAMETERS)
    by_name = sorted(market.venue_names)
    step_s = market.order.step_s
    venue: Any  # of one of three kinds
    for record, venue in zip(records, market.venues, strict=True):
        v: Any = record
        v["name_key"], v["name_rank"] = name_key(venue.name), by_name.index(venue.name)
        if isinstance(market, NotebookMarket):
            continue
        for field in ("take_fee_bps", "latency_ms", "latency_sigma", "toxicity", "walk_bps"):
            v[field] = getattr(venue, field)
        v["refill_decay"] = _decay(step_s, venue.refill_half_life_s)
        if isinstance(market, SyntheticMarket):
            v["log_offset"], v["log_size"] = math.log(venue.offset_bps), math.log(venue.size_shares)
            v["volume_share"] = venue.volume_share
            v["halt_enter"] = _chance(step_s, venue.halts_per_hour)
            v["halt_leave"] = _chance(step_s, 3600.0 / venue.halt_duration_s)
    return records
