"""Turn a market specification into the parameters that the kernels read. The only place that does.

A market with ranges has parameters for each parent order, drawn by its episode's key; any other has the same for all.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from sor_sb3.market.spec import NotebookMarket, ReplayMarket, SyntheticMarket, ranged_paths
from sor_sb3.simulator.compiled import entry_point
from sor_sb3.simulator.random import draw_bits, high_word, mix64, name_key, uniform
from sor_sb3.simulator.state import (
    MARKET,
    NOTEBOOK,
    REPLAY,
    SYNTHETIC,
    VENUE_PARAMETER_FIELDS,
    VENUE_PARAMETERS,
    block_orders,
    members_of,
)

REPLAY_KEY_BPS = 1e-3  # prices of a recording that are nearer to each other count as one

RANGE_PLACE = 1 << 41  # of the draws from ranges, far from those of paths

MARKET_NAMES = MARKET.names or ()

Market = SyntheticMarket | NotebookMarket | ReplayMarket


# Every number below may be a float, or an array of one for each of n episodes.


def _decay(step_s: Any, half_life_s: Any) -> Any:
    return 2.0 ** (-step_s / half_life_s)


def _shock(sd: Any, decay: Any) -> Any:
    """Innovation sd of an AR(1) with this stationary sd."""
    return sd * np.sqrt(1.0 - decay * decay)


def _chance(step_s: Any, per_hour: Any) -> Any:
    """Probability that an event of this rate happens within a step."""
    return 1.0 - np.exp(-step_s * per_hour / 3600.0)


def _copy(source: dict[str, Any], target: Any, names: Iterable[str]) -> None:
    """Copy the numbers that have the same name in a specification and in the storage; None leaves what is there."""
    for name in names:
        if isinstance(source.get(name), int | float | np.ndarray):
            target[name][:] = source[name]


def market_records(market: Market, values: dict[str, Any], n: int = 1) -> np.ndarray:
    """MARKET records (n,) of a specification whose numbers are `values`, its dump or one with ranges drawn."""
    m, order = np.zeros(n, MARKET), values["order"]
    m["limit_offset_bps"] = np.inf
    _copy(values | order, m, MARKET_NAMES)
    m["cost_scale"] = m["ticks_per_step"] = m["n_levels"] = m["level_ticks"] = 1
    m["level_profile"], m["path_dt_s"] = 1.0, order["step_s"]
    m["n_venues"], m["block_orders"] = market.n_venues, block_orders(market.n_venues)
    m["has_dark"] = market.has_dark
    m["most_resting_ratio"] = 1.0
    if (overbooking := order["overbooking"]) is not None:
        m["most_resting_ratio"] = overbooking["most_ratio"]
        m["overfill_cost_bps"] = overbooking["overfill_cost_bps"]
    m["synchronise"], m["sweeps"] = order["synchronise_arrivals"], order["limit"] == "sweep"
    if isinstance(market, NotebookMarket):
        m["model"], m["fills_all"] = NOTEBOOK, 1
        m["cost_scale"] = order["horizon_steps"]
        m["spread_low"], m["spread_high"] = market.spread
        m["liquidity_low"], m["liquidity_high"] = market.liquidity
        m["notebook_latency_low"], m["notebook_latency_high"] = market.latency
        slice_shares = market.order.quantity_shares / market.order.horizon_steps
        m["liquidity_cost"] = market.liquidity_cost * 100.0 / slice_shares
        m["reaction_time_ms"] = 1.0
        return m
    _fill_response(m, values["response"], order["step_s"])
    _fill_latency(m, values["latency"], getattr(market, "path_dt_s", order["step_s"]))
    if isinstance(market, ReplayMarket):
        m["model"] = REPLAY
        m["volume_memory"] = _decay(order["step_s"], market.volume_memory_half_life_s)
        m["tick_bps"] = REPLAY_KEY_BPS
        m["repeg_ticks"] = np.rint(order["repeg_ticks"] * market.level_spacing_bps / REPLAY_KEY_BPS)
        _fill_levels(m, market.level_profile, market.level_spacing_bps)
        m["n_levels"] = max(len(market.level_profile), market.recorded_levels)
        return m
    m["model"], m["ticks_per_step"], m["level_noise"] = SYNTHETIC, market.ticks_per_step, 1
    resting = [np.broadcast_to(venue["mid_probability"], n) > 0.0 for venue in values["venues"]]  # drawn, it may be
    m["has_mid"] = np.any(resting, axis=0)
    _fill_dynamics(m, values, market.path_dt_s)
    return m


def _fill_levels(m: np.ndarray, profile: tuple[float, ...], spacing_bps: float | None) -> None:
    m["n_levels"] = len(profile)
    m["level_profile"][:, : len(profile)] = np.array(profile) / profile[0]
    if spacing_bps is not None:
        m["level_ticks"] = np.maximum(np.rint(spacing_bps / m["tick_bps"]), 1.0)


def _fill_response(m: np.ndarray, response: dict[str, Any], step_s: float) -> None:
    _copy(response, m, MARKET_NAMES)
    m["permanent_bps_per_share"] = response["permanent_impact_bps_per_1000_shares"] / 1000.0
    m["transient_bps_per_share"] = response["transient_impact_bps_per_1000_shares"] / 1000.0
    m["display_leak_bps_per_share"] = response["display_leakage_bps_per_1000_shares"] / 1000.0
    m["leak_decay"] = _decay(step_s, response["leakage_half_life_s"])


def _fill_latency(m: np.ndarray, latency: dict[str, Any], tick_s: float) -> None:
    _copy(latency, m, MARKET_NAMES)
    m["congest_enter"] = _chance(tick_s, latency["congestions_per_hour"])
    m["congest_leave"] = _chance(tick_s, 3600.0 / latency["congestion_duration_s"])
    m["congest_factor"] = latency["congestion_factor"]
    m["congest_stress_factor"] = latency["stress_multiplies_congestions"]


def _fill_dynamics(m: np.ndarray, values: dict[str, Any], tick_s: float) -> None:
    quotes, price, stress = values["quotes"], values["price"], values["stress"]
    informed, volume = values["informed"], values["volume"]
    m["path_dt_s"] = tick_s
    _copy(quotes | price, m, MARKET_NAMES)
    _fill_levels(m, quotes["level_profile"], quotes["level_spacing_bps"])
    for speed in ("fast", "slow"):
        half_life_s, of_sizes = quotes[f"{speed}_half_life_s"], quotes[f"size_{speed}_half_life_s"]
        decay = _decay(tick_s, half_life_s)
        size_decay = decay if of_sizes is None else _decay(tick_s, of_sizes)
        m[f"{speed}_decay"], m[f"size_{speed}_decay"] = decay, size_decay
        m[f"offset_{speed}_shock"] = _shock(quotes[f"offset_{speed}_sd"], decay)
        m[f"size_{speed}_shock"] = _shock(quotes[f"size_{speed}_sd"], size_decay)
    m["sides_apart"] = np.sqrt(1.0 - quotes["sides_correlation"] ** 2)
    m["volatility_tick_bps"] = price["volatility_bps_per_sqrt_s"] * np.sqrt(tick_s)
    m["volatility_decay"] = _decay(tick_s, price["volatility_half_life_s"])
    m["volatility_shock"] = _shock(price["volatility_log_sd"], m["volatility_decay"])
    m["jump_probability"] = _chance(tick_s, price["jumps_per_hour"])
    m["drift_decay"] = _decay(tick_s, price["drift_half_life_s"])
    m["drift_shock"] = _shock(price["drift_sd_bps_per_s"], m["drift_decay"])
    m["signal_noise"] = np.sqrt(1.0 - price["signal_correlation"] ** 2)
    m["stress_enter"] = _chance(tick_s, stress["entries_per_hour"])
    m["stress_leave"] = _chance(tick_s, 3600.0 / stress["duration_s"])
    m["stress_log_offset"], m["stress_log_size"] = np.log(stress["offset_factor"]), np.log(stress["size_factor"])
    m["stress_volatility"] = stress["volatility_factor"]
    m["news_probability"] = _chance(tick_s, 3600.0 * informed["news_per_s"])
    m["news_jump_bps"], m["news_removed"] = informed["jump_bps"], informed["removed_fraction"]
    m["flow_foresight"], m["flow_focus"] = informed["flow_foresight"], informed["flow_focus"]
    shares = np.asarray(sum(venue["volume_share"] for venue in values["venues"]), dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_tick = volume["shares_per_day"] * tick_s / volume["day_s"] / shares
    m["volume_per_tick"] = np.where(shares > 0.0, per_tick, 0.0)
    m["volume_curve"], m["volume_noise_sd"] = volume["curve"], volume["noise_sd"]
    m["exponential_trades"] = volume["trade_sizes"] == "exponential"
    m["side_correlation"], m["trade_shares"] = volume["side_correlation"], volume["trade_shares"] or 0.0
    m["volume_memory"] = _decay(tick_s, volume["memory_half_life_s"])
    m["volume_day_ticks"] = volume["day_s"] / tick_s


def venue_parameters(market: Market, values: dict[str, Any], n: int = 1) -> dict[str, np.ndarray]:
    """Each venue parameter, (n, K), of a specification whose numbers are `values`, in the order of its venues."""
    shape, by_name = (n, market.n_venues), sorted(market.venue_names)
    fields = {name: np.zeros(shape, "u8" if kind == "u8" else "f8") for name, kind in VENUE_PARAMETER_FIELDS.items()}
    for k, venue in enumerate(values["venues"]):
        v = {name: field[:, k] for name, field in fields.items()}
        v["name_key"][:], v["name_rank"][:] = name_key(venue["name"]), by_name.index(venue["name"])
        if isinstance(market, NotebookMarket):
            continue
        _copy(venue, v, VENUE_PARAMETER_FIELDS)
        v["median_latency_ms"][:] = venue["latency_ms"]
        v["feed_ms"][:] = venue["latency_ms"] if venue["feed_latency_ms"] is None else venue["feed_latency_ms"]
        if isinstance(market, SyntheticMarket):
            _fill_synthetic_venue(v, venue, market.path_dt_s)
    return fields


def _fill_synthetic_venue(v: dict[str, np.ndarray], venue: dict[str, Any], tick_s: float) -> None:
    v["halt_enter"][:] = _chance(tick_s, venue["halts_per_hour"])
    v["halt_leave"][:] = _chance(tick_s, 3600.0 / venue["halt_duration_s"])
    v["outage_enter"][:] = _chance(tick_s, venue["outages_per_hour"])
    v["outage_leave"][:] = _chance(tick_s, 3600.0 / venue["outage_duration_s"])
    dark = venue["dark"]
    if dark is None:
        v["log_offset"][:], v["log_size"][:] = np.log(venue["offset_bps"]), np.log(venue["size_shares"])
        with np.errstate(divide="ignore"):
            v["requote_probability"][:] = 1.0 - np.exp(-tick_s / np.asarray(venue["quote_delay_s"], dtype=np.float64))
        return
    v["dark"][:], v["toxicity"][:] = 1, 0.0  # nothing that others could see fade
    v["hidden_fraction"][:], v["mid_probability"][:] = 0.0, 0.0
    _copy(dark, v, VENUE_PARAMETER_FIELDS)
    turns = 1.0 - _decay(tick_s, dark["half_life_s"])
    v["supply_enter"][:], v["supply_leave"][:] = turns * (1.0 - v["zero_probability"]), turns * v["zero_probability"]
    v["supply_renew"][:] = np.where(v["zero_probability"] == 0.0, turns, 0.0)
    v["log_max_size"][:] = np.log(dark["max_shares"])
    v["leak_bps_per_share"][:] = dark["leakage_bps_per_1000_shares"] / 1000.0


@entry_point()
def _draw_ranges(keys: Any, path_keys: Any, out: Any) -> None:
    for i in range(keys.size):
        for j in range(path_keys.size):
            out[i, j] = uniform(high_word(draw_bits(mix64(keys[i] ^ path_keys[j]), RANGE_PLACE)))


class Parameters:
    """The parameters of a market, for `n` parent orders: one set for all, or one each where the market has ranges.

    Attributes:
        market: MARKET (1,), or (n,) where the market has ranges.
        venues: VENUE_PARAMETERS (1,), its lanes filled over and over, or (B,), each order's lanes its own.
    """

    def __init__(self, market: Market, n: int, every_wave: bool = False) -> None:
        self._spec, self._block_orders = market, block_orders(market.n_venues)
        self._values = market.model_dump()
        self._ranges = ranged_paths(market) if isinstance(market, SyntheticMarket) else {}
        self._path_keys = np.array([name_key(".".join(path)) for path in self._ranges], dtype=np.uint64)
        self._every_wave = every_wave
        self.market = market_records(market, self._values, n if self._ranges else 1)
        self.market["every_wave"] = every_wave
        self.venues = np.zeros(-(-n // self._block_orders) if self._ranges else 1, VENUE_PARAMETERS)
        everyone = np.arange(len(self.venues) * self._block_orders)
        self._lay(everyone, venue_parameters(market, self._values))

    @property
    def is_drawn(self) -> bool:
        """Whether every parent order has parameters of its own."""
        return bool(self._ranges)

    def _lay(self, which: np.ndarray, fields: dict[str, np.ndarray]) -> None:
        block, i = np.divmod(which, self._block_orders)
        lanes = i[:, None] * self._spec.n_venues + np.arange(self._spec.n_venues)
        for name, values in fields.items():
            self.venues[name][block[:, None], lanes] = values

    def draw(self, keys: np.ndarray, which: np.ndarray) -> None:
        """Draw the parameters of members `which` anew, by their episodes' keys (n,)."""
        if not self._ranges:
            return
        uniforms = np.empty((len(keys), len(self._ranges)))
        _draw_ranges(keys, self._path_keys, uniforms)
        values = self._spec.model_dump()
        for column, (path, (low, high)) in enumerate(self._ranges.items()):
            target: Any = values
            for part in path[:-1]:
                target = (
                    next(v for v in target if v["name"] == part) if isinstance(target, list | tuple) else target[part]
                )
            if isinstance(target[path[-1]], int):  # whole numbers, each as likely
                target[path[-1]] = np.floor(low + (high + 1.0 - low) * uniforms[:, column])
            else:
                target[path[-1]] = low + (high - low) * uniforms[:, column]
        self.market[which] = market_records(self._spec, values, len(keys))
        self.market["every_wave"] = self._every_wave
        self._lay(which, venue_parameters(self._spec, values, len(keys)))

    def of(self, members: np.ndarray) -> Parameters:
        """The parameters that `members` have, in their order."""
        copy = Parameters.__new__(Parameters)
        copy.__dict__.update(self.__dict__)
        if self._ranges:
            copy.market, copy.venues = self.market[members], members_of(self.venues, members, self._spec.n_venues)
        return copy
