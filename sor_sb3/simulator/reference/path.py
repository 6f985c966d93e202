"""The exogenous half of the reference: price, quotes, sizes, status, latency and volume, tick by tick.

Prices are in bps relative to the midpoint at arrival, without our own push of it; times within a tick in ms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy.stats import norm, poisson

from sor_sb3.market.spec import SyntheticMarket

MOST_TRADES = 1024  # sells of a tick whose sizes are drawn one by one


class Draws(Protocol):
    """Where the random numbers come from: attributes by the names of `sor_sb3.simulator.paths.synthetic.VENUE_DRAWS`
    and its neighbours; ``z_`` are standard normals, ``u_`` uniforms, floats of the order's and (K,) of the venues'."""

    def seed(self, seed: int | None) -> None:
        """Begin anew from a seed; None goes on."""

    def opening(self) -> Any:
        """Numbers that open the next episode."""
        ...

    def tick(self, tick: int) -> Any:
        """Numbers of one tick of the path's clock."""
        ...

    def latency(self, tick: int, wave: int) -> Any:
        """Numbers of the latencies of children sent in wave 0, 1, ... of a decision at a tick."""
        ...

    def levels(self, tick: int) -> np.ndarray:
        """64 random bits a venue, for the levels behind the touch of the quote of a tick; uint64 (K,)."""
        ...

    def trades(self, tick: int, venue: int, n: int) -> np.ndarray:
        """Uniforms (n,) of the sizes of a tick's sells at a venue."""
        ...


def decayed(time_s: float, half_life_s: Any) -> Any:
    """What is left of 1 after a time."""
    return 2.0 ** (-time_s / half_life_s)


def _shock(sd: float, decay: float) -> float:
    return sd * math.sqrt(1.0 - decay**2)


def _chance(time_s: float, per_hour: float) -> float:
    return 1.0 - math.exp(-time_s * per_hour / 3600.0)


def _turned(state: Any, enter: Any, leave: Any, u: Any) -> Any:
    """The next state of a two-state Markov chain."""
    return state ^ (u < np.where(state, leave, enter))


@dataclass
class Quotes:
    """What venues quote at one moment, (K,) each; a dark pool asks infinity, bids minus infinity and shows nothing."""

    ask: np.ndarray  # whole ticks
    bid: np.ndarray
    size: np.ndarray  # displayed at the far touch, in round lots
    near_size: np.ndarray  # displayed at the near touch
    tick: np.ndarray  # int: the path's tick whose quote it is

    def where(self, condition: np.ndarray, other: Quotes) -> Quotes:
        """These quotes where the condition (K,) holds, else the other ones."""
        return Quotes(
            *(
                np.where(condition, mine, theirs)
                for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)
            )
        )


class ReferencePath:
    """How a synthetic market moves when nobody trades.

    Args:
        market: specification, without ranges.
        draws: where the random numbers come from.
    """

    def __init__(self, market: SyntheticMarket, draws: Draws) -> None:
        if market.randomise:
            raise ValueError("the reference is for one market, not a family of them; take 'randomise' out")
        self.market, self.draws, self.n_venues = market, draws, market.n_venues
        self.dt_s, self.dt_ms = market.path_dt_s, 1e3 * market.path_dt_s
        self.dark = np.array([venue.dark is not None for venue in market.venues])
        self.lit = ~self.dark
        self._prepare_venues()
        self._prepare_dark_pools()
        self._prepare_dynamics()

    # --------------------------------------------------------------------------------------------- constants

    def per_venue(self, name: str, missing: float = 0.0) -> np.ndarray:
        """A number of every venue, float64 (K,)."""
        values = [getattr(venue, name) for venue in self.market.venues]
        return np.array([missing if value is None else value for value in values], dtype=np.float64)

    def _prepare_venues(self) -> None:
        venues, dt = self.market.venues, self.dt_s
        self.log_offset = np.log(self.per_venue("offset_bps", missing=1.0))
        self.log_size = np.log(self.per_venue("size_shares", missing=1.0))
        self.update = np.array([1.0 - math.exp(-dt / v.quote_delay_s) if v.quote_delay_s > 0 else 1.0 for v in venues])
        self.latency_median, self.latency_sigma = self.per_venue("latency_ms"), self.per_venue("latency_sigma")
        self.bump_ms = self.per_venue("speed_bump_ms")
        feeds = [v.latency_ms if v.feed_latency_ms is None else v.feed_latency_ms for v in venues]
        self.feed_ms = np.array(feeds, dtype=np.float64)
        self.halt_enter = np.array([_chance(dt, v.halts_per_hour) for v in venues])
        self.halt_leave = np.array([_chance(dt, 3600.0 / v.halt_duration_s) for v in venues])
        self.outage_enter = np.array([_chance(dt, v.outages_per_hour) for v in venues])
        self.outage_leave = np.array([_chance(dt, 3600.0 / v.outage_duration_s) for v in venues])

    def _prepare_dark_pools(self) -> None:
        """Zeros for lit venues."""
        self.zero_probability, self.supply_turn = np.ones(self.n_venues), np.zeros(self.n_venues)
        self.power_rest, self.power_total = np.ones(self.n_venues), np.zeros(self.n_venues)
        for k, venue in enumerate(self.market.venues):
            if venue.dark is not None:
                self.zero_probability[k] = venue.dark.zero_probability
                self.supply_turn[k] = 1.0 - decayed(self.dt_s, venue.dark.half_life_s)
                rest = 1.0 - venue.dark.power_exponent
                self.power_rest[k] = 1e-12 if abs(rest) < 1e-12 else rest  # of the integral of s**-exponent, or nearly
                self.power_total[k] = math.expm1(self.power_rest[k] * math.log(venue.dark.max_shares))

    def _prepare_dynamics(self) -> None:
        spec, dt = self.market, self.dt_s
        quotes, price, stress, latency, volume = spec.quotes, spec.price, spec.stress, spec.latency, spec.volume
        self.fast, self.slow = decayed(dt, quotes.fast_half_life_s), decayed(dt, quotes.slow_half_life_s)
        size_fast_s = quotes.size_fast_half_life_s or quotes.fast_half_life_s
        size_slow_s = quotes.size_slow_half_life_s or quotes.slow_half_life_s
        self.size_fast_decay, self.size_slow_decay = decayed(dt, size_fast_s), decayed(dt, size_slow_s)
        self.offset_fast_shock = _shock(quotes.offset_fast_sd, self.fast)
        self.offset_slow_shock = _shock(quotes.offset_slow_sd, self.slow)
        self.size_fast_shock = _shock(quotes.size_fast_sd, self.size_fast_decay)
        self.size_slow_shock = _shock(quotes.size_slow_sd, self.size_slow_decay)
        self.volatility_bps = price.volatility_bps_per_sqrt_s * math.sqrt(dt)
        self.volatility_decay = decayed(dt, price.volatility_half_life_s)
        self.volatility_shock = _shock(price.volatility_log_sd, self.volatility_decay)
        self.jump_chance = _chance(dt, price.jumps_per_hour)
        self.drift_decay = decayed(dt, price.drift_half_life_s)
        self.drift_shock = _shock(price.drift_sd_bps_per_s, self.drift_decay)
        self.signal_noise = math.sqrt(1.0 - price.signal_correlation**2)
        self.news_chance = 1.0 - math.exp(-spec.informed.news_per_s * dt)
        self.stress_enter = _chance(dt, stress.entries_per_hour)
        self.stress_leave = _chance(dt, 3600.0 / stress.duration_s)
        self.stress_log_offset, self.stress_log_size = math.log(stress.offset_factor), math.log(stress.size_factor)
        self.congest_enter = _chance(dt, latency.congestions_per_hour)
        self.congest_leave = _chance(dt, 3600.0 / latency.congestion_duration_s)
        shares = self.per_venue("volume_share")
        total = shares.sum()
        self.venue_volume = shares * (volume.shares_per_day * dt / volume.day_s / total if total else 0.0)
        self.volume_forget = 1.0 - decayed(dt, volume.memory_half_life_s)

    # ----------------------------------------------------------------------------------------------- opening

    def begin(self) -> None:
        """Draw the state in which an order finds the market, and move on to tick 0."""
        draw, quotes, price = self.draws.opening(), self.market.quotes, self.market.price
        self.tick = 0
        self.drift, self.flow = price.drift_sd_bps_per_s * draw.z_drift, draw.z_flow
        self.log_volatility = price.volatility_log_sd * draw.z_volatility
        self.stressed = draw.u_stress * (self.stress_enter + self.stress_leave) < self.stress_enter
        self.day_position = draw.u_day
        self.offset_fast = quotes.offset_fast_sd * draw.z_offset_fast
        self.offset_slow = quotes.offset_slow_sd * draw.z_offset_slow
        self.near_offset_fast = quotes.offset_fast_sd * draw.z_near_offset
        self.size_fast = quotes.size_fast_sd * draw.z_size_fast
        self.size_slow = quotes.size_slow_sd * draw.z_size_slow
        self.near_fast = quotes.size_fast_sd * draw.z_near
        self.congested = draw.u_congested * (self.congest_enter + self.congest_leave) < self.congest_enter
        self.open = draw.u_halted * (self.halt_enter + self.halt_leave) >= self.halt_enter
        self.outage = draw.u_outage * (self.outage_enter + self.outage_leave) < self.outage_enter
        self.first_latency_ms = self._latency(draw.z_latency) + self.bump_ms
        self.traded = self._traded(0.5 * draw.z_volume)
        self.volume, self.outflow = self.traded * self.market.ticks_per_step, 0.5 * self.traded
        self.recent_outflow = 0.5 * self.volume
        supplied = self.dark & (draw.u_supplied >= self.zero_probability)
        self.dark_size = np.where(supplied, self._power_law(draw.u_dark_size), 0.0)
        self.grid_bps, self.next_price = 0.0, quotes.tick_bps * draw.u_grid
        ask, bid = self._quoted_anew(self.next_price)
        everyone = self.lit & self.open if (self.lit & self.open).any() else self.lit
        joins, best_ask, best_bid = quotes.join_probability, ask[everyone].min(), bid[everyone].max()
        ask = np.where(self.lit & (draw.u_join < joins), best_ask, ask)
        bid = np.where(self.lit & (draw.u_join >= 1.0 - joins), best_bid, bid)
        first = np.zeros(self.n_venues, dtype=np.int64)
        self.next_quotes = self.quotes = Quotes(
            ask, bid, self._sizes(self.size_fast), self._sizes(self.near_fast), first
        )
        self._set_arrival_midpoint()
        self.change_ms = np.full(self.n_venues, -math.inf)  # the first quotes have stood for long
        self._enter_tick()

    def _set_arrival_midpoint(self) -> None:
        """From here on prices are relative to the midpoint at arrival."""
        counted = self.open & self.lit if (self.open & self.lit).any() else self.lit
        ask, bid = self.next_quotes.ask[counted].min(), self.next_quotes.bid[counted].max()
        self.grid_bps = -0.5 * self.market.quotes.tick_bps * (ask + bid)
        self.next_price += self.grid_bps

    def advance(self) -> None:
        """Move on to the next tick."""
        self.tick += 1
        self._enter_tick()

    def _enter_tick(self) -> None:
        """Draw the tick's status, and what it leads to until the next."""
        draw = self.draws.tick(self.tick)
        self._hear_feeds()
        self.price, self.quotes = self.next_price, self.next_quotes
        self._move_price(draw)
        self._move_quotes(draw)
        self._move_status(draw)
        self._supply_dark(draw)
        self.u_hidden, self.u_mid, self.u_cancel = draw.u_hidden, draw.u_mid, draw.u_cancel

    # ------------------------------------------------------------------------------------------------- price

    def _move_price(self, draw: Any) -> None:
        price, informed = self.market.price, self.market.informed
        sigma = self.volatility_bps * math.exp(self.log_volatility - price.volatility_log_sd**2)
        self.log_volatility = self.volatility_decay * self.log_volatility + self.volatility_shock * draw.z_volatility
        if self.stressed:
            sigma *= self.market.stress.volatility_factor
        foresight = self.market.informed.flow_foresight
        foreseen, self.flow = sigma * foresight * self.flow, draw.z_flow
        noise = sigma * math.sqrt(1.0 - foresight**2) * draw.z_price
        if draw.u_jump < self.jump_chance:
            noise += price.jump_sd_bps * draw.z_jump
        self.drift = self.drift_decay * self.drift + self.drift_shock * draw.z_drift
        self.signal = self.signal_noise * draw.z_signal
        if price.drift_sd_bps_per_s > 0.0:
            self.signal += price.signal_correlation * self.drift / price.drift_sd_bps_per_s
        self.stressed = bool(_turned(self.stressed, self.stress_enter, self.stress_leave, draw.u_stress))
        self.news_ms, self.news_bps = math.inf, 0.0
        if draw.u_news < self.news_chance:
            self.news_ms = draw.u_news_time * self.dt_ms
            self.news_bps = informed.jump_bps if draw.u_sign < 0.5 else -informed.jump_bps
        self.noise, self.expected = noise, self.drift * self.dt_s + foreseen
        self.smooth = self.expected + noise
        self.next_price = self.price + self.smooth + self.news_bps

    def price_at(self, ms: float) -> float:
        """The efficient price so long after the tick's begin."""
        return self.price + self.smooth * min(ms / self.dt_ms, 1.0) + (self.news_bps if ms >= self.news_ms else 0.0)

    # ------------------------------------------------------------------------------------------------ quotes

    def _quoted_anew(self, price: float) -> tuple[np.ndarray, np.ndarray]:
        """Asks and bids of venues that follow a price, in ticks: rounded away from it."""
        slow = self.log_offset + self.offset_slow + (self.stress_log_offset if self.stressed else 0.0)
        above, tick_bps = price - self.grid_bps, self.market.quotes.tick_bps
        together = self.market.quotes.sides_correlation
        near = together * self.offset_fast + math.sqrt(1.0 - together**2) * self.near_offset_fast
        ask = np.ceil((above + np.exp(slow + self.offset_fast)) / tick_bps)
        bid = np.floor((above - np.exp(slow + near)) / tick_bps)
        return np.where(self.lit, ask, math.inf), np.where(self.lit, bid, -math.inf)

    def _sizes(self, fast: np.ndarray) -> np.ndarray:
        """Displayed sizes at a touch, whose fast part is given."""
        x = fast + self.size_slow
        stretched = np.where(x < 0.0, x, x * (1.0 + self.market.quotes.size_tail))
        log_size = self.log_size + stretched + (self.stress_log_size if self.stressed else 0.0)
        return np.where(self.lit, self.in_round_lots(np.exp(log_size)), 0.0)

    def in_round_lots(self, shares: Any) -> Any:
        """Whole round lots, at least one, where the market has them."""
        lot = self.market.quotes.round_lot_shares
        return shares if lot is None else np.maximum(np.floor(shares / lot + 0.5), 1.0) * lot

    def bps(self, ticks: Any) -> Any:
        """A price in ticks, relative to the midpoint at arrival."""
        return self.grid_bps + self.market.quotes.tick_bps * ticks

    def _move_quotes(self, draw: Any) -> None:
        """The quotes of the next tick, and when in this one they come into force."""
        self.offset_fast = self.fast * self.offset_fast + self.offset_fast_shock * draw.z_offset_fast
        self.offset_slow = self.slow * self.offset_slow + self.offset_slow_shock * draw.z_offset_slow
        self.near_offset_fast = self.fast * self.near_offset_fast + self.offset_fast_shock * draw.z_near_offset
        self.size_fast = self.size_fast_decay * self.size_fast + self.size_fast_shock * draw.z_size_fast
        self.size_slow = self.size_slow_decay * self.size_slow + self.size_slow_shock * draw.z_size_slow
        self.near_fast = self.size_fast_decay * self.near_fast + self.size_fast_shock * draw.z_near
        ask_bps, bid_bps = self.bps(self.quotes.ask), self.bps(self.quotes.bid)
        above, below = self.next_price > ask_bps, self.next_price < bid_bps
        anew = (draw.u_update < self.update) | above | below
        ask, bid = self._quoted_anew(self.next_price)
        stays, joins = self.quotes, self.market.quotes.join_probability
        if (there := self.lit & self.open).any() and joins > 0.0:
            best_ask, best_bid = stays.ask[there].min(), stays.bid[there].max()
            within = draw.u_update / np.where(
                above | below, 1.0, self.update
            )  # uniform, of the sides that are made anew
            ask = np.where((within < joins) & (self.bps(best_ask) >= self.next_price), best_ask, ask)
            bid = np.where((within >= 1.0 - joins) & (self.bps(best_bid) <= self.next_price), best_bid, bid)
            ask, bid = np.where(self.lit, ask, math.inf), np.where(self.lit, bid, -math.inf)
        ask, bid = np.where(anew, ask, stays.ask), np.where(anew, bid, stays.bid)
        tick = np.full(self.n_venues, self.tick + 1)
        self.next_quotes = Quotes(ask, bid, self._sizes(self.size_fast), self._sizes(self.near_fast), tick)
        self.change_ms = draw.u_change * self.dt_ms
        for k in np.flatnonzero(above | below):
            passed_ms = self.passing_ms(ask_bps[k] if above[k] else bid_bps[k], bool(above[k]))
            self.change_ms[k] = passed_ms - self.market.response.reaction_time_ms * math.log(draw.u_change[k])

    def passing_ms(self, edge: float, upwards: bool) -> float:
        """When the price passes an edge that it is beyond at the tick's end: on its way, by the news, or after it."""
        sign = 1.0 if upwards else -1.0
        away, speed = sign * (edge - self.price), sign * self.smooth / self.dt_ms
        if away <= 0.0:
            return 0.0
        if speed > 0.0 and away <= speed * min(self.news_ms, self.dt_ms):
            return away / speed
        if math.isinf(self.news_ms):
            return self.dt_ms  # but for rounding
        after_ms = (away - sign * self.news_bps) / speed if speed > 0.0 else 0.0
        return max(min(after_ms, self.dt_ms), self.news_ms)

    def quotes_at(self, ms: float) -> Quotes:
        """Those in force so long after the tick's begin; the next ones no further than the price lets them be."""
        changed, old = ms >= self.change_ms, self.quotes
        now, price = (
            self.next_quotes.where(changed, old),
            (self.price_at(ms) - self.grid_bps) / self.market.quotes.tick_bps,
        )
        ask = np.clip(np.ceil(price), now.ask, np.maximum(old.ask, now.ask))
        bid = np.clip(np.floor(price), np.minimum(old.bid, now.bid), now.bid)
        return replace(now, ask=np.where(changed, ask, now.ask), bid=np.where(changed, bid, now.bid))

    def midpoint_at(self, ms: float) -> tuple[float, bool]:
        """Of the best quotes of open venues, and whether they leave room to trade there; else the efficient price."""
        quotes, counted = self.quotes_at(ms), self.open & self.lit
        if not counted.any():
            return self.price_at(ms), False
        ask, bid = quotes.ask[counted].min(), quotes.bid[counted].max()
        return 0.5 * (self.bps(ask) + self.bps(bid)), bool(bid < ask)

    def _hear_feeds(self) -> None:
        """At a tick's begin: the quotes now in force, or those before, of which the feeds have not heard yet."""
        feed_ms = np.where(self.congested, self.market.latency.congestion_factor, 1.0) * self.feed_ms
        unheard = (feed_ms > 0.0) & (feed_ms > self.dt_ms - self.change_ms)
        self.heard = self.quotes.where(unheard & (self.tick > 0), self.next_quotes)

    def level_sizes(self, k: int, size: float, tick: int) -> np.ndarray:
        """What venue `k` displays at each level of the quote of a tick, whose touch shows `size`."""
        profile = np.array(self.market.quotes.level_profile) / self.market.quotes.level_profile[0]
        bits = int(self.draws.levels(tick)[k])
        noise = [0.5 + ((bits >> 8 * (level - 1) & 255) + 0.5) / 256 for level in range(1, len(profile))]
        return np.array([size, *(self.in_round_lots(size * profile[1:] * noise))])

    # ----------------------------------------------------------------------------- status, latency, volume, dark

    def _move_status(self, draw: Any) -> None:
        latency = self.market.latency
        enter = self.congest_enter * (latency.stress_multiplies_congestions if self.stressed else 1.0)
        self.congested = _turned(self.congested, enter, self.congest_leave, draw.u_congested)
        self.open = _turned(self.open, self.halt_leave, self.halt_enter, draw.u_halted)
        self.outage = _turned(self.outage, self.outage_enter, self.outage_leave, draw.u_outage)
        ticks = self.market.ticks_per_step
        self.volume = self.volume + self.volume_forget * (ticks * self.traded - self.volume)  # of the tick before
        self.recent_outflow = self.recent_outflow + self.volume_forget * (ticks * self.outflow - self.recent_outflow)
        self._trade(draw)

    def _latency(self, z: np.ndarray) -> np.ndarray:
        """Without the speed bump."""
        factor = np.where(self.congested, self.market.latency.congestion_factor, 1.0)
        return self.latency_median * np.exp(self.latency_sigma * z) * factor

    def latency_ms(self, wave: int) -> np.ndarray:
        """One way, of children sent now; (K,)."""
        draw, latency = self.draws.latency(self.tick, wave), self.market.latency
        tail = np.where(draw.u_tail < latency.tail_probability, latency.tail_factor, 1.0)
        return self._latency(draw.z_latency) * tail + self.bump_ms

    def _trade(self, draw: Any) -> None:
        """Volume of the coming tick, and the outflow, what sellers hit near touches with: along with the price."""
        volume, move = self.market.volume, self.smooth + self.news_bps
        along = move / max(self.volatility_bps, 1e-9)
        along += 2.0 * self.market.informed.flow_foresight * self.flow
        sells = 0.5 * (1.0 - volume.side_correlation * math.tanh(min(max(along, -20.0), 20.0)))
        size = volume.trade_shares
        if size is None:
            self.traded = self._traded(draw.z_volume)
            self.outflow = self.traded * sells
            self._hit_best_bids()
            return
        mean = self._mean_traded() / size
        sold, bought = self._poisson(mean * sells, draw.u_sell), self._poisson(mean * (1.0 - sells), draw.u_buy)
        if volume.trade_sizes == "exponential":
            counts = np.minimum(sold, MOST_TRADES).astype(int)
            sold = np.array([-np.log(self.draws.trades(self.tick, k, n)).sum() for k, n in enumerate(counts)])
        self.traded, self.outflow = size * (sold + bought), size * sold
        self._hit_best_bids()

    def _hit_best_bids(self) -> None:
        """Where quotes are protected, sellers hit the best bids only, the more so the nearer they are to the price."""
        there = self.lit & self.open
        there &= self.quotes.bid == np.max(self.quotes.bid, where=there, initial=-math.inf)
        if self.market.order_protection and self.outflow[there].sum() > 0.0:
            bid, ask = (
                self.quotes.bid[there].max(),
                np.min(self.quotes.ask, where=self.lit & self.open, initial=math.inf),
            )
            above = (self.price - self.grid_bps) / self.market.quotes.tick_bps - bid
            place = 2.0 * above / max(ask - bid, 1.0) - 1.0
            near = 0.5 - 0.5 * min(max(place, -1.0), 1.0)
            focus = self.market.informed.flow_focus
            informed = (focus + 1.0) * near**focus
            richness = 1.0 - self.market.volume.side_correlation * (1.0 - informed)
            sold = np.where(there, self.outflow * richness * self.outflow.sum() / self.outflow[there].sum(), 0.0)
            self.traded, self.outflow = self.traded + sold - self.outflow, sold

    @staticmethod
    def _poisson(mean: np.ndarray, u: np.ndarray) -> np.ndarray:
        """Quantiles of Poisson laws; by their normal expansion where the mean is large."""
        z = norm.ppf(u)
        large = np.maximum(np.floor(mean + np.sqrt(mean) * z + (z * z - 1.0) / 6.0 + 0.5), 0.0)
        return np.where(mean > 200.0, large, np.maximum(poisson.ppf(u, np.maximum(mean, 0.0)), 0.0))

    def _traded(self, z: np.ndarray) -> np.ndarray:
        """Volume of a tick at each venue."""
        sd = self.market.volume.noise_sd
        return self._mean_traded() * np.exp(sd * (z - 0.5 * sd))

    def _mean_traded(self) -> np.ndarray:
        volume = self.market.volume
        x = (self.day_position + self.tick * self.dt_s / volume.day_s) % 1.0
        curve = 1.0 + volume.curve * ((2.0 * x - 1.0) ** 2 - 1.0 / 3.0)
        return self.venue_volume * curve

    def _power_law(self, u: np.ndarray) -> np.ndarray:
        return np.exp(np.log1p(u * self.power_total) / self.power_rest)

    def _supply_dark(self, draw: Any) -> None:
        """Pools turn dry or are supplied; one that is never dry is supplied anew."""
        supplied, zero = self.dark_size > 0.0, self.zero_probability
        runs_dry = supplied & (draw.u_dark_supply < self.supply_turn * zero)
        renewed = supplied & (zero == 0.0) & (draw.u_dark_supply < self.supply_turn)
        entered = ~supplied & (draw.u_dark_supply < self.supply_turn * (1.0 - zero))
        self.supplied_anew = self.dark & (renewed | entered)
        self.dark_size = np.where(self.supplied_anew, self._power_law(draw.u_dark_size), self.dark_size)
        self.dark_size[runs_dry] = 0.0
