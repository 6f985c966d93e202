"""A synthetic preset as an ordinary Gymnasium env: what the benchmarks compare the package with.

One order, NumPy over its venues, plain Python over steps: what a competent user would write around
:class:`sor_sb3.simulator.reference.ReferenceMarket`. Same actions (``OrderSplit-v1``), same observation row and same
reward as the package, which a test proves by giving both the same random numbers (`CounterDraws`). For timing it draws
from ``numpy.random.Generator``, which is faster.
"""

from __future__ import annotations

import math
from collections import namedtuple
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.paths.synthetic import (
    LATENCY_DRAWS,
    LATENCY_PLACE,
    LEVELS_PLACE,
    MOST_TRADES,
    MOST_WAVES,
    OPENING_ORDER_DRAWS,
    OPENING_VENUE_DRAWS,
    ORDER_DRAWS,
    TRADES_PLACE,
    VENUE_DRAWS,
)
from sor_sb3.simulator.random import PLACES_PER_STEP, RESET_PLACE, draw_bits, episode_keys, mix64, name_key, normal
from sor_sb3.simulator.reference import Draws, ReferenceMarket

MARKET_FEATURES, VENUE_FEATURES = 10, 19
Names = tuple[str, ...]


def _names(*tables: Any) -> tuple[Names, ...]:
    """Normals and uniforms of each table."""
    return tuple(tuple(name for name in table._fields if name.startswith(kind)) for kind in "zu" for table in tables)


NO_DRAWS: Any = namedtuple("NoDraws", ())()
OPENING_NAMES = _names(OPENING_ORDER_DRAWS, OPENING_VENUE_DRAWS)
TICK_NAMES = _names(ORDER_DRAWS, VENUE_DRAWS)
LATENCY_NAMES = _names(NO_DRAWS, LATENCY_DRAWS)


class GeneratorDraws:
    """The usual source: ``numpy.random.Generator``, one call for all normals and one for all uniforms."""

    def __init__(self, n_venues: int) -> None:
        self.n_venues = n_venues
        self.generator = np.random.default_rng()
        self.level_bits: dict[int, np.ndarray] = {}

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self.generator = np.random.default_rng(seed)

    def opening(self) -> SimpleNamespace:
        self.level_bits.clear()
        return self._draw(*OPENING_NAMES)

    def tick(self, tick: int) -> SimpleNamespace:
        return self._draw(*TICK_NAMES)

    def latency(self, tick: int, wave: int) -> SimpleNamespace:
        return self._draw(*LATENCY_NAMES)

    def levels(self, tick: int) -> np.ndarray:
        if tick not in self.level_bits:
            self.level_bits[tick] = self.generator.integers(0, 2**64, self.n_venues, np.uint64)
        return self.level_bits[tick]

    def trades(self, tick: int, venue: int, n: int) -> np.ndarray:
        return 1.0 - self.generator.random(n)

    def _draw(self, z_order: Names, z_venue: Names, u_order: Names, u_venue: Names) -> SimpleNamespace:
        z = self.generator.standard_normal(len(z_order) + len(z_venue) * self.n_venues)
        u = 1.0 - self.generator.random(len(u_order) + len(u_venue) * self.n_venues)  # in (0, 1]: for logarithms
        drawn = dict(zip(z_order + u_order, z[: len(z_order)].tolist() + u[: len(u_order)].tolist(), strict=True))
        drawn |= zip(z_venue, z[len(z_order) :].reshape(-1, self.n_venues), strict=True)
        drawn |= zip(u_venue, u[len(u_order) :].reshape(-1, self.n_venues), strict=True)
        return SimpleNamespace(**drawn)


class CounterDraws:
    """The package's own numbers, to prove that the model is the same. Slow: one Python call a number."""

    def __init__(self, venue_names: tuple[str, ...], split: str = "train") -> None:
        self.data_split = split
        self.names = np.array([name_key(name) for name in venue_names], dtype=np.uint64)
        self.episode_seed, self.episode = 0, -1

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self.episode_seed, self.episode = seed, -1

    def opening(self) -> SimpleNamespace:
        self.episode += 1
        seeds, episodes = np.array([self.episode_seed], np.uint64), np.array([self.episode])
        self.key = episode_keys(self.data_split, seeds, episodes)[0]
        self.venue_keys = [np.uint64(mix64(self.key ^ name)) for name in self.names]
        return self._draw(RESET_PLACE, OPENING_ORDER_DRAWS, OPENING_VENUE_DRAWS)

    def tick(self, tick: int) -> SimpleNamespace:
        return self._draw(tick * PLACES_PER_STEP, ORDER_DRAWS, VENUE_DRAWS)

    def latency(self, tick: int, wave: int) -> SimpleNamespace:
        return self._draw(LATENCY_PLACE + tick * MOST_WAVES + wave, NO_DRAWS, LATENCY_DRAWS)

    def levels(self, tick: int) -> np.ndarray:
        place = tick * PLACES_PER_STEP + LEVELS_PLACE
        return np.array([draw_bits(key, place) for key in self.venue_keys], dtype=np.uint64)

    def trades(self, tick: int, venue: int, n: int) -> np.ndarray:
        begin = TRADES_PLACE + tick * MOST_TRADES
        words = [int(draw_bits(self.venue_keys[venue], begin + trade)) >> 32 for trade in range(n)]
        return (np.array(words, dtype=np.float64) + 0.5) / 2**32

    def _draw(self, begin: int, of_order: Any, of_venues: Any) -> SimpleNamespace:
        def number(key: np.uint64, name: str, at: tuple[int, int]) -> float:
            word = int(draw_bits(key, begin + at[0])) >> at[1] & 0xFFFFFFFF
            return float(normal(np.uint64(word))) if name.startswith("z_") else (word + 0.5) / 2**32

        drawn: dict[str, Any] = {name: number(self.key, name, at) for name, at in of_order._asdict().items()}
        for name, at in of_venues._asdict().items():
            drawn[name] = np.array([number(key, name, at) for key in self.venue_keys])
        return SimpleNamespace(**drawn)


class PlainEnv(ReferenceMarket, gym.Env[np.ndarray, np.ndarray]):
    """``OrderSplit-v1`` of a synthetic market, the plain way.

    Args:
        market: preset name or specification, without ranges.
        draws: where the random numbers come from; a ``numpy.random.Generator`` by default.
        variance_reduction: leave the price's pure noise out of the rewards, as the package's training envs do, so that
            a learner on this env meets the same noise.
    """

    def __init__(
        self,
        market: str | SyntheticMarket = "us_equity",
        draws: Draws | None = None,
        variance_reduction: bool = False,
    ) -> None:
        spec = load_market(market)
        if not isinstance(spec, SyntheticMarket):
            raise ValueError(f"PlainEnv is for synthetic markets; got {spec.model}")
        super().__init__(spec, GeneratorDraws(spec.n_venues) if draws is None else draws)
        self.variance_reduction = variance_reduction
        self.action_space = spaces.Box(-1.0, 1.0, (self.n_venues,), np.float32)
        size = MARKET_FEATURES + self.n_venues * VENUE_FEATURES
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float32)
        self._prepare_units()

    def _prepare_units(self) -> None:
        """Of observations."""
        half_spread_bps = self.path.per_venue("offset_bps") + 0.5 * self.market.quotes.tick_bps
        all_in = np.abs(self.fee_bps) + half_spread_bps
        self.price_scale = float(np.median(all_in[self.lit]))
        self.share_scale = self.quantity / self.horizon
        self.latency_scale = float(np.median(self.expected_ms)) or 1.0
        self.spacing_bps = self.level_ticks * self.market.quotes.tick_bps
        self.sweeps = self.market.order.limit == "sweep"

    # ------------------------------------------------------------------------------------------ Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.draws.seed(seed)
        self.begin()
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.split(np.asarray(action, dtype=np.float64))

    def split(
        self, action: np.ndarray, pace: float | None = None
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """`step`, at a pace of one's own if one is given."""
        weights = np.maximum(action, 0.0)
        total = weights.sum()
        if total > 0.0:
            weights = weights / total
        elif self.wave == 0:  # in a later wave, nothing is sent
            weights = np.full(self.n_venues, 1.0 / self.n_venues)
        return self.place(weights, pace)

    def place(
        self, weights: np.ndarray, pace: float | None, rest: np.ndarray | None = None
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """`step` by weights of what is taken and of what should rest."""
        cost, noise_cost, done = self.execute(weights, pace, rest)
        reward = noise_cost - cost if self.variance_reduction else -cost
        return self._observation(), reward, done, False, self.summary() if done else {}

    # ------------------------------------------------------------------------------------------ what is seen

    def _observation(self) -> np.ndarray:
        price, wanted, busy = self.price_scale, self.slice_shares(), self.children.busy
        in_flight, volume = float(self.children.shares.sum()), self.path.volume.sum()
        all_in, quoting = self.observed_offset + self.fee_bps, self.path.open & self.lit
        levels = self._levels_within_limit()
        slice_prices = self._slice_prices(wanted, all_in, levels)
        came_back = min(self.returned / max(self.step_shares, 1e-300), 1.0) if self.wave > 0 else 0.0
        best = float(all_in[quoting].min()) if quoting.any() else 0.0
        row = np.empty(MARKET_FEATURES + self.n_venues * VENUE_FEATURES, dtype=np.float32)
        row[:MARKET_FEATURES] = (
            1.0 - self.step_number / self.horizon,
            (self.available + in_flight + self.resting.known - self.overbooked) / self.quantity,
            in_flight / self.quantity,
            math.log1p(wanted / self.share_scale),
            self.wave,
            came_back,
            self.path.signal,
            self.last_move_bps / price,
            self.observed_spread_bps / price,
            best / price,
        )
        venues = row[MARKET_FEATURES:].reshape(self.n_venues, VENUE_FEATURES)
        venues[:, 0], venues[:, 1], venues[:, 2] = self.path.open, self.dark, busy
        venues[:, 3] = (slice_prices - slice_prices.min()) / price
        venues[:, 4] = self.observed_offset / price
        venues[:, 5] = self.observed_near_offset / price
        venues[:, 6] = self.fee_bps / price
        venues[:, 7] = np.log1p(self.observed_shares / self.share_scale)
        venues[:, 8] = np.log1p(self.heard.near_size * self.path.open / self.share_scale)
        venues[:, 9] = np.log1p(levels.sum(axis=1) / self.share_scale)
        venues[:, 10] = np.log1p(self.observed_latency_ms / self.latency_scale)
        venues[:, 11] = self.path.volume / volume if volume > 0.0 else 0.0
        venues[:, 12] = np.log1p(self.path.recent_outflow / self.share_scale)
        venues[:, 13] = self.fill_ratio
        venues[:, 14] = self.reject
        venues[:, 15] = self.resting.make_fee_bps / price
        resting, queue = self.resting.observed()
        venues[:, 16] = resting / self.quantity
        venues[:, 17] = np.log1p(queue / self.share_scale)
        venues[:, 18] = self._sweep(wanted, all_in, levels * ~busy[:, None])
        return row

    def _levels_within_limit(self) -> np.ndarray:
        """Shares that venues display, less what we took, at each level that a child may take; (K, L)."""
        if not self.sweeps:
            return self.observed_shares[:, None]
        n_levels = len(self.market.quotes.level_profile)
        quoted = np.where(self.observed_shares > 0.0, self.observed_offset, math.inf)
        prices = self.observed_offset[:, None] + self.spacing_bps * np.arange(n_levels)
        levels, now_s = np.zeros((self.n_venues, n_levels)), self._now_s(self.elapsed_ms)
        for k in np.flatnonzero(self.path.open & self.lit):
            shown = self.path.level_sizes(int(k), self.heard.size[k], int(self.heard.tick[k]))
            ticks = self.heard.ask[k] + self.level_ticks * np.arange(n_levels)
            left = shown - [self.taken[k].at(price, now_s) for price in ticks]
            levels[k] = np.where(left > 1e-9 * shown, left, 0.0)
        return np.where(prices <= quoted.min() + self.limit_offset_bps + 1e-9, levels, 0.0)

    def _slice_prices(self, wanted: float, all_in: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """All-in price of the whole slice at each venue; what one does not show, at the worst price that any shows."""
        slice_shares, apart = max(wanted, 1e-9), self.spacing_bps * np.arange(levels.shape[1])
        before = np.cumsum(levels, axis=1) - levels
        taken = np.clip(slice_shares - before, 0.0, levels)
        last = all_in + np.where(levels > 0.0, apart, 0.0).max(axis=1)
        quoting = self.path.open & self.lit
        worst = float(last[quoting].max()) if quoting.any() else 0.0
        value = (taken * (all_in[:, None] + apart)).sum(axis=1) + (slice_shares - taken.sum(axis=1)) * worst
        return value / slice_shares

    def _sweep(self, wanted: float, all_in: np.ndarray, levels: np.ndarray) -> np.ndarray:
        """Shares of the slice that go where, if levels are taken in order of all-in price, ties by name."""
        swept = np.zeros(self.n_venues)
        if wanted <= 0.0:
            return swept
        prices = all_in[:, None] + self.spacing_bps * np.arange(levels.shape[1])
        shown = np.argwhere(levels > 0.0)
        for _, _, k, level in sorted((round(prices[k, level], 7), self.by_name[k], k, level) for k, level in shown):
            swept[k] += min(levels[k, level], wanted - swept.sum())
        return swept / wanted
