"""A synthetic preset as an ordinary Gymnasium env: what `bench_speed.py` compares the package with.

One order, NumPy over its venues, plain Python over steps: what a competent user would write. Same model,
same actions (``OrderSplit-v0``), same observation row and same reward as the package, which a test proves by
giving both the same random numbers (`AddressedDraws`). For timing it draws from ``numpy.random.Generator``,
which is faster.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket

MARKET_FEATURES, VENUE_FEATURES = 6, 9
FILL_MEMORY = 0.7


class Opening(NamedTuple):
    """Random numbers that open an episode; z are standard normals, u uniforms, (K,) in a venue's."""

    z_drift: float
    u_stress: float
    u_day: float
    z_offset_fast: np.ndarray
    z_offset_slow: np.ndarray
    z_size_fast: np.ndarray
    z_size_slow: np.ndarray
    z_latency: np.ndarray
    z_volume: np.ndarray
    u_congested: np.ndarray
    u_halted: np.ndarray


class Tick(NamedTuple):
    """Random numbers of one step."""

    z_mid: float
    z_drift: float
    z_signal: float
    z_jump: float
    u_stress: float
    u_jump: float
    u_informed: float
    u_news: float
    against_us: bool
    z_offset_fast: np.ndarray
    z_offset_slow: np.ndarray
    z_size_fast: np.ndarray
    z_size_slow: np.ndarray
    z_latency: np.ndarray
    z_volume: np.ndarray
    u_congested: np.ndarray
    u_halted: np.ndarray
    u_change: np.ndarray
    u_tail: np.ndarray


class Draws(Protocol):
    """Where the random numbers come from."""

    def seed(self, seed: int | None) -> None: ...

    def opening(self) -> Opening: ...

    def tick(self, step: int) -> Tick: ...


class GeneratorDraws:
    """The usual source: ``numpy.random.Generator``, one call for all normals and one for all uniforms."""

    def __init__(self, n_venues: int) -> None:
        self.n_venues = n_venues
        self.generator = np.random.default_rng()

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self.generator = np.random.default_rng(seed)

    def opening(self) -> Opening:
        z = self.generator.standard_normal((6, self.n_venues))
        u = self.generator.random((2, self.n_venues))
        return Opening(self.generator.standard_normal(), *self.generator.random(2).tolist(), *z, *u)

    def tick(self, step: int) -> Tick:
        z = self.generator.standard_normal(4 + 6 * self.n_venues)
        u = self.generator.random(5 + 4 * self.n_venues)
        *market, against_us = u[:5].tolist()
        venues = z[4:].reshape(6, self.n_venues)
        return Tick(*z[:4].tolist(), *market, against_us < 0.5, *venues, *u[5:].reshape(4, self.n_venues))


class AddressedDraws:
    """The package's own numbers, to prove that the model is the same. Slow: one Python call a number."""

    def __init__(self, venue_names: tuple[str, ...], split: str = "train") -> None:
        from sor_sb3.simulator.random import name_key

        self.split = split
        self.names = np.array([name_key(name) for name in venue_names], dtype=np.uint64)
        self.episode_seed, self.episode = 0, -1

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self.episode_seed, self.episode = seed, -1

    def _words(self, place: int) -> tuple[float, float, list[tuple[int, int]]]:
        from sor_sb3.simulator.random import draw_bits

        def words(key: np.uint64) -> tuple[int, int]:
            bits = int(draw_bits(key, place))
            return bits >> 32, bits & 0xFFFFFFFF

        return *words(self.key), [words(key) for key in self.venue_keys]

    def opening(self) -> Opening:
        from sor_sb3.simulator.paths import RESET_PLACE
        from sor_sb3.simulator.random import episode_keys, mix64

        self.episode += 1
        seeds, episodes = np.array([self.episode_seed], np.uint64), np.array([self.episode])
        self.key = episode_keys(self.split, seeds, episodes)[0]
        self.venue_keys = [np.uint64(mix64(self.key ^ name)) for name in self.names]
        (high, low, fast), (day, _, slow) = self._words(RESET_PLACE), self._words(RESET_PLACE + 1)
        (_, _, status), (_, _, late) = self._words(RESET_PLACE + 2), self._words(RESET_PLACE + 3)
        return Opening(
            z_drift=_normal(high),
            u_stress=_uniform(low),
            u_day=_uniform(day),
            z_offset_fast=_normals(fast, 0),
            z_offset_slow=_normals(slow, 0),
            z_size_fast=_normals(fast, 1),
            z_size_slow=_normals(slow, 1),
            z_latency=_normals(late, 0),
            z_volume=_normals(late, 1),
            u_congested=_uniforms(status, 0),
            u_halted=_uniforms(status, 1),
        )

    def tick(self, step: int) -> Tick:
        from sor_sb3.simulator.paths import PLACES_PER_STEP

        place = step * PLACES_PER_STEP
        high, low, per_venue = zip(*(self._words(place + i) for i in range(5)), strict=True)
        fast, slow, late, change, status = per_venue
        return Tick(
            z_mid=_normal(high[0]),
            z_drift=_normal(low[0]),
            z_signal=_normal(high[1]),
            z_jump=_normal(high[4]),
            u_stress=_uniform(low[1]),
            u_jump=_uniform(high[3]),
            u_informed=_uniform(high[2]),
            u_news=_uniform(low[2]),
            against_us=low[3] < 1 << 31,
            z_offset_fast=_normals(fast, 0),
            z_offset_slow=_normals(slow, 0),
            z_size_fast=_normals(fast, 1),
            z_size_slow=_normals(slow, 1),
            z_latency=_normals(late, 0),
            z_volume=_normals(late, 1),
            u_congested=_uniforms(status, 0),
            u_halted=_uniforms(status, 1),
            u_change=_uniforms(change, 0),
            u_tail=_uniforms(change, 1),
        )


def _normal(word: int) -> float:
    from sor_sb3.simulator.random import normal

    return float(normal(np.uint64(word)))


def _uniform(word: int) -> float:
    return (word + 0.5) / 2**32


def _normals(words: list[tuple[int, int]], half: int) -> np.ndarray:
    return np.array([_normal(word[half]) for word in words])


def _uniforms(words: list[tuple[int, int]], half: int) -> np.ndarray:
    return np.array([_uniform(word[half]) for word in words])


def _decay(step_s: float, half_life_s: float) -> float:
    return 2.0 ** (-step_s / half_life_s)


def _shock(sd: float, decay: float) -> float:
    return sd * math.sqrt(1.0 - decay**2)


def _chance(step_s: float, per_hour: float) -> float:
    return 1.0 - math.exp(-step_s * per_hour / 3600.0)


@dataclass
class _Costs:
    """The ledger of one episode, bps of the whole order."""

    spread: float = 0.0
    impact: float = 0.0
    delay: float = 0.0
    fee: float = 0.0
    cleanup: float = 0.0


@dataclass
class _Fills:
    """What child orders of one episode did."""

    sent: float = 0.0
    filled: float = 0.0
    value_bps_shares: float = 0.0
    costs: _Costs = field(default_factory=_Costs)


class PlainEnv(gym.Env[np.ndarray, np.ndarray]):
    """``OrderSplit-v0`` of a synthetic market, the plain way.

    Args:
        market: preset name or specification.
        draws: where the random numbers come from; a ``numpy.random.Generator`` by default.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self, market: str | SyntheticMarket = "us_equity", draws: Draws | None = None) -> None:
        spec = load_market(market)
        if not isinstance(spec, SyntheticMarket):
            raise ValueError(f"PlainEnv is for synthetic markets; got {spec.model}")
        self.spec = spec
        self.n_venues = spec.n_venues
        self.draws = GeneratorDraws(self.n_venues) if draws is None else draws
        self.action_space = spaces.Box(-1.0, 1.0, (self.n_venues,), np.float32)
        size = MARKET_FEATURES + self.n_venues * VENUE_FEATURES
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._prepare()

    def _prepare(self) -> None:
        """Constants per step and per venue."""
        spec, step_s = self.spec, self.spec.order.step_s
        quotes, mid, stress, latency, volume = spec.quotes, spec.mid, spec.stress, spec.latency, spec.volume

        def per_venue(name: str) -> np.ndarray:
            return np.array([getattr(venue, name) for venue in spec.venues], dtype=np.float64)

        self.quantity, self.horizon = spec.order.quantity_shares, spec.order.horizon_steps
        self.fee_bps, self.walk_bps = per_venue("take_fee_bps"), per_venue("walk_bps")
        self.log_offset, self.log_size = np.log(per_venue("offset_bps")), np.log(per_venue("size_shares"))
        self.latency_median, self.latency_sigma = per_venue("latency_ms"), per_venue("latency_sigma")
        self.fade_per_ms = per_venue("toxicity") / spec.response.reaction_time_ms
        self.refill_decay = np.array([_decay(step_s, v.refill_half_life_s) for v in spec.venues])
        self.halt_enter = np.array([_chance(step_s, v.halts_per_hour) for v in spec.venues])
        self.halt_leave = np.array([_chance(step_s, 3600.0 / v.halt_duration_s) for v in spec.venues])
        self.by_name = np.argsort(np.argsort(spec.venue_names))
        self.fast, self.slow = (
            _decay(step_s, quotes.fast_half_life_s),
            _decay(step_s, quotes.slow_half_life_s),
        )
        self.offset_fast_shock = _shock(quotes.offset_fast_sd, self.fast)
        self.offset_slow_shock = _shock(quotes.offset_slow_sd, self.slow)
        self.size_fast_shock = _shock(quotes.size_fast_sd, self.fast)
        self.size_slow_shock = _shock(quotes.size_slow_sd, self.slow)
        self.volatility_bps = mid.volatility_bps_per_sqrt_s * math.sqrt(step_s)
        self.jump_probability = _chance(step_s, mid.jumps_per_hour)
        self.drift_decay = _decay(step_s, mid.drift_half_life_s)
        self.drift_shock = _shock(mid.drift_sd_bps_per_s, self.drift_decay)
        self.signal_noise = math.sqrt(1.0 - mid.signal_correlation**2)
        self.stress_enter = _chance(step_s, stress.entries_per_hour)
        self.stress_leave = _chance(step_s, 3600.0 / stress.duration_s)
        self.stress_log_offset, self.stress_log_size = (
            math.log(stress.offset_factor),
            math.log(stress.size_factor),
        )
        self.congest_enter = _chance(step_s, latency.congestions_per_hour)
        self.congest_leave = _chance(step_s, 3600.0 / latency.congestion_duration_s)
        shares = per_venue("volume_share")
        total = shares.sum()
        self.venue_volume = shares * (volume.shares_per_day * step_s / volume.day_s / total if total else 0.0)
        self.volume_forget = 1.0 - _decay(step_s, volume.memory_half_life_s)
        self.impact_bps_per_share = spec.response.permanent_impact_bps_per_1000_shares / 1000.0
        self.price_scale = float(np.median(per_venue("offset_bps")))
        self.share_scale = self.quantity / self.horizon
        self.latency_scale = float(np.median(self.latency_median)) or 1.0

    # ------------------------------------------------------------------------------------------ Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.draws.seed(seed)
        self.step_number, self.remaining = 0, self.quantity
        self.mid_bps = self.next_mid_bps = self.displacement_bps = self.last_move_bps = 0.0
        self.dearest_bps = 0.0
        self.depleted = np.zeros(self.n_venues)
        self.fill_ratio = np.ones(self.n_venues)
        self.fills = _Fills()
        self._open_market(self.draws.opening())
        self._advance(self.draws.tick(0))
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        weights = np.maximum(np.asarray(action, dtype=np.float64), 0.0)
        total = weights.sum()
        weights = weights / total if total > 0.0 else np.full(self.n_venues, 1.0 / self.n_venues)
        cost = self._execute(weights * self._slice())
        self.step_number += 1
        if self.step_number >= self.horizon:
            cost += self._clean_up()
        done = self.remaining <= 0.0
        if not done:
            self._advance(self.draws.tick(self.step_number))
        return self._observation(), -cost, done, False, self._summary() if done else {}

    # ------------------------------------------------------------------------------------------ the market

    def _quotes(self) -> tuple[np.ndarray, np.ndarray]:
        log_offset = self.log_offset + self.offset_fast + self.offset_slow
        log_size = self.log_size + self.size_fast + self.size_slow
        if self.stressed:
            log_offset += self.stress_log_offset
            log_size += self.stress_log_size
        offset_bps, tick_bps = np.exp(log_offset), self.spec.quotes.tick_bps
        if tick_bps > 0.0:
            offset_bps = (np.floor(np.maximum(offset_bps / tick_bps - 0.5, 0.0) + 0.5) + 0.5) * tick_bps
        return offset_bps, np.exp(log_size)

    def _latency(self, z: np.ndarray) -> np.ndarray:
        latency_ms = self.latency_median * np.exp(self.latency_sigma * z)
        latency_ms[self.congested] *= self.spec.latency.congestion_factor
        return latency_ms

    def _traded(self, z: np.ndarray) -> np.ndarray:
        volume = self.spec.volume
        x = (self.day_position + self.step_number * self.spec.order.step_s / volume.day_s) % 1.0
        curve = 1.0 + volume.curve * ((2.0 * x - 1.0) ** 2 - 1.0 / 3.0)
        sd = volume.noise_sd
        return self.venue_volume * curve * np.exp(sd * (z - 0.5 * sd))

    def _open_market(self, draw: Opening) -> None:
        quotes = self.spec.quotes
        self.drift = self.spec.mid.drift_sd_bps_per_s * draw.z_drift
        self.stressed = draw.u_stress * (self.stress_enter + self.stress_leave) < self.stress_enter
        self.day_position = draw.u_day
        self.offset_fast = quotes.offset_fast_sd * draw.z_offset_fast
        self.offset_slow = quotes.offset_slow_sd * draw.z_offset_slow
        self.size_fast = quotes.size_fast_sd * draw.z_size_fast
        self.size_slow = quotes.size_slow_sd * draw.z_size_slow
        self.congested = draw.u_congested * (self.congest_enter + self.congest_leave) < self.congest_enter
        self.open = draw.u_halted * (self.halt_enter + self.halt_leave) >= self.halt_enter
        self.latency_ms = self._latency(draw.z_latency)
        self.volume = self._traded(0.5 * draw.z_volume)
        self.next_offset, self.next_size = self._quotes()

    def _move_mid(self, draw: Tick) -> tuple[float, float, float]:
        """Smooth move (bps), when news against us breaks (ms), and its jump (bps)."""
        mid, informed = self.spec.mid, self.spec.informed
        noise_bps = self.volatility_bps * draw.z_mid
        self.signal = self.signal_noise * draw.z_signal
        if mid.drift_sd_bps_per_s > 0.0:
            self.drift = self.drift_decay * self.drift + self.drift_shock * draw.z_drift
            self.signal += mid.signal_correlation * self.drift / mid.drift_sd_bps_per_s
        if self.stressed:
            noise_bps *= self.spec.stress.volatility_factor
        if draw.u_stress < (self.stress_leave if self.stressed else self.stress_enter):
            self.stressed = not self.stressed
        if draw.u_jump < self.jump_probability:
            noise_bps += mid.jump_sd_bps * draw.z_jump
        smooth_bps = self.drift * self.spec.order.step_s + noise_bps
        news_ms, jump_bps = math.inf, 0.0
        if draw.u_informed < informed.probability:
            if draw.against_us:
                news_ms, jump_bps = draw.u_news * informed.window_ms, informed.jump_bps
            else:
                smooth_bps -= informed.jump_bps
        self.next_mid_bps = self.mid_bps + smooth_bps + jump_bps
        return smooth_bps, news_ms, jump_bps

    def _advance(self, draw: Tick) -> None:
        """Move the market to the next decision, and draw what a child order sent then will meet."""
        smooth_bps, news_ms, jump_bps = self._move_mid(draw)
        latency = self.spec.latency
        self.offset, self.size = self.next_offset, self.next_size
        self.heard_latency_ms = self.latency_ms
        self.offset_fast = self.fast * self.offset_fast + self.offset_fast_shock * draw.z_offset_fast
        self.offset_slow = self.slow * self.offset_slow + self.offset_slow_shock * draw.z_offset_slow
        self.size_fast = self.fast * self.size_fast + self.size_fast_shock * draw.z_size_fast
        self.size_slow = self.slow * self.size_slow + self.size_slow_shock * draw.z_size_slow
        self.next_offset, self.next_size = self._quotes()
        enter = self.congest_enter * (latency.stress_multiplies_congestions if self.stressed else 1.0)
        self.congested ^= draw.u_congested < np.where(self.congested, self.congest_leave, enter)
        self.open ^= draw.u_halted < np.where(self.open, self.halt_enter, self.halt_leave)
        self.latency_ms = self._latency(draw.z_latency)
        self.latency_ms[draw.u_tail < latency.tail_probability] *= latency.tail_factor
        self.volume = self.volume + self.volume_forget * (self._traded(draw.z_volume) - self.volume)
        elapsed = np.minimum(self.latency_ms / (1000.0 * self.spec.order.step_s), 1.0)
        changed = elapsed > draw.u_change
        self.touch_move = smooth_bps * elapsed + np.where(changed, self.next_offset - self.offset, 0.0)
        self.arrival_size = np.where(changed, self.next_size, self.size)
        if news_ms < math.inf:
            late = self.latency_ms > news_ms
            self.touch_move[late] += jump_bps
            self.arrival_size[late] *= 1.0 - self.spec.informed.removed_fraction

    # ------------------------------------------------------------------------------------------ our order

    def _slice(self) -> float:
        still_allowed = self.quantity * (1.0 - (self.step_number + 1.0) / self.horizon)
        return max(self.remaining - still_allowed, 0.0)

    def _execute(self, sent: np.ndarray) -> float:
        """Fill child orders of `sent` shares and mark to the next mid; the cost in bps of the order."""
        costs, quantity = self.fills.costs, self.quantity
        dearest = self.offset + np.maximum(self.touch_move, 0.0) + self.walk_bps + self.fee_bps
        self.dearest_bps = max(self.dearest_bps, float(dearest.max()))
        went = sent > 0.0
        reached = went & self.open
        filled = np.zeros(self.n_venues)
        if reached.any():
            late_ms = np.maximum(self.latency_ms - self.latency_ms[reached].min(), 0.0)
            available = np.maximum(self.arrival_size - self.depleted, 0.0) * np.exp(-self.fade_per_ms * late_ms)
            filled[reached] = np.minimum(sent, available)[reached]
            walked = self.walk_bps * filled / np.maximum(available, 1e-300)
            spread, delay = float(filled @ self.offset), float(filled @ self.touch_move)
            impact, fee = float(filled @ walked), float(filled @ self.fee_bps)
            costs.spread += spread / quantity
            costs.delay += delay / quantity
            costs.impact += impact / quantity
            costs.fee += fee / quantity
            cost = (spread + delay + impact + fee) / quantity
            total = float(filled.sum())
            self.fills.value_bps_shares += spread + delay + impact + total * (self.mid_bps + self.displacement_bps)
        else:
            cost, total = 0.0, 0.0
        ratio = np.divide(filled, sent, out=np.zeros(self.n_venues), where=went)
        self.fill_ratio = np.where(went, FILL_MEMORY * self.fill_ratio + (1.0 - FILL_MEMORY) * ratio, self.fill_ratio)
        self.fills.sent += float(sent.sum())
        self.fills.filled += total
        self.depleted = (self.depleted + filled) * self.refill_decay
        self.remaining -= total
        if self.remaining < 1e-12 * quantity:
            self.remaining = 0.0
        return cost + self._mark_to_next_mid(total)

    def _mark_to_next_mid(self, filled: float) -> float:
        push_bps = self.impact_bps_per_share * filled
        move_bps = self.next_mid_bps - self.mid_bps
        share = self.remaining / self.quantity
        self.fills.costs.delay += share * move_bps
        self.fills.costs.impact += share * push_bps
        self.displacement_bps += push_bps
        self.mid_bps = self.next_mid_bps
        self.last_move_bps = move_bps + push_bps
        return share * self.last_move_bps

    def _clean_up(self) -> float:
        price_bps = self.dearest_bps + self.spec.response.cleanup_penalty_bps
        cost = self.remaining / self.quantity * price_bps
        self.fills.costs.cleanup += cost
        self.remaining = 0.0
        return cost

    # ------------------------------------------------------------------------------------------ what is seen

    def _observation(self) -> np.ndarray:
        wanted = self._slice()
        shown = np.where(self.open, np.maximum(self.size - self.depleted, 0.0), 0.0)
        all_in = self.offset + self.fee_bps
        best, miss = 0.0, 0.0
        if self.open.any():
            best = float(all_in[self.open].min())
            miss = float((all_in + self.walk_bps)[self.open].max())
        slice_shares = max(wanted, 1e-9)
        part = np.minimum(shown / slice_shares, 1.0)
        walked = self.walk_bps * np.minimum(slice_shares / np.maximum(shown, 1e-300), 1.0)
        price = part * (all_in + walked) + (1.0 - part) * miss
        volume = self.volume.sum()
        row = np.empty(MARKET_FEATURES + self.n_venues * VENUE_FEATURES, dtype=np.float32)
        row[0] = 1.0 - self.step_number / self.horizon
        row[1] = self.remaining / self.quantity
        row[2] = math.log1p(wanted / self.share_scale)
        row[3] = self.signal
        row[4] = self.last_move_bps / self.price_scale
        row[5] = best / self.price_scale
        venues = row[MARKET_FEATURES:].reshape(self.n_venues, VENUE_FEATURES)
        venues[:, 0] = self.open
        venues[:, 1] = (price - price.min()) / self.price_scale
        venues[:, 2] = self.offset / self.price_scale
        venues[:, 3] = self.fee_bps / self.price_scale
        venues[:, 4] = np.log1p(shown / self.share_scale)
        venues[:, 5] = np.log1p(self.heard_latency_ms / self.latency_scale)
        venues[:, 6] = self.volume / volume if volume > 0.0 else 0.0
        venues[:, 7] = self.fill_ratio
        venues[:, 8] = self._sweep(wanted, shown, all_in)
        return row

    def _sweep(self, wanted: float, shown: np.ndarray, all_in: np.ndarray) -> np.ndarray:
        """Share of the slice that taking displayed sizes, cheapest first, puts at each venue."""
        if wanted <= 0.0:
            return np.zeros(self.n_venues)
        order = np.lexsort((self.by_name, all_in))
        in_order = shown[order]
        before = np.cumsum(in_order) - in_order
        shares = np.empty(self.n_venues)
        shares[order] = np.clip(wanted - before, 0.0, in_order) / wanted
        return shares

    def _summary(self) -> dict[str, Any]:
        fills, parts = self.fills, dict(vars(self.fills.costs))
        nothing = math.nan
        return {
            "episode_cost": {"shortfall": sum(parts.values()), **parts},
            "slippage_bps": fills.value_bps_shares / fills.filled if fills.filled > 0.0 else nothing,
            "fee_bps": fills.costs.fee,
            "fill_rate": fills.filled / fills.sent if fills.sent > 0.0 else nothing,
            "completion": fills.filled / self.quantity,
        }
