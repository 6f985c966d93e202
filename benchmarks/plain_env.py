"""A synthetic preset as an ordinary Gymnasium env: what the benchmarks compare the package with.

One order, NumPy over its venues, plain Python over steps: what a competent user would write around
:class:`sor_sb3.simulator.reference.ReferenceMarket`. Same actions (``OrderSplit-v0``), same observation row and same
reward as the package, which a test proves by giving both the same random numbers (`CounterDraws`). For timing it draws
from ``numpy.random.Generator``, which is faster.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket
from sor_sb3.simulator.reference import Draws, Opening, ReferenceMarket, Tick

MARKET_FEATURES, VENUE_FEATURES = 7, 12


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
        u = self.generator.random((3, self.n_venues))
        return Opening(self.generator.standard_normal(), *self.generator.random(2).tolist(), *z, *u)

    def tick(self, step: int) -> Tick:
        z = self.generator.standard_normal(4 + 6 * self.n_venues)
        u = 1.0 - self.generator.random(5 + 8 * self.n_venues)  # in (0, 1]: logarithms are taken of some
        *market, against_us = u[:5].tolist()
        venues = z[4:].reshape(6, self.n_venues)
        return Tick._make([*z[:4].tolist(), *market, against_us < 0.5, *venues, *u[5:].reshape(8, self.n_venues)])


class CounterDraws:
    """The package's own numbers, to prove that the model is the same. Slow: one Python call a number."""

    def __init__(self, venue_names: tuple[str, ...], split: str = "train") -> None:
        from sor_sb3.simulator.random import name_key

        self.data_split = split
        self.names = np.array([name_key(name) for name in venue_names], dtype=np.uint64)
        self.episode_seed, self.episode = 0, -1

    def seed(self, seed: int | None) -> None:
        if seed is not None:
            self.episode_seed, self.episode = seed, -1

    def _words(self, place: int) -> tuple[int, int, list[tuple[int, int]]]:
        from sor_sb3.simulator.random import draw_bits

        def words(key: np.uint64) -> tuple[int, int]:
            bits = int(draw_bits(key, place))
            return bits >> 32, bits & 0xFFFFFFFF

        return *words(self.key), [words(key) for key in self.venue_keys]

    def opening(self) -> Opening:
        from sor_sb3.simulator.random import RESET_PLACE, episode_keys, mix64

        self.episode += 1
        seeds, episodes = np.array([self.episode_seed], np.uint64), np.array([self.episode])
        self.key = episode_keys(self.data_split, seeds, episodes)[0]
        self.venue_keys = [np.uint64(mix64(self.key ^ name)) for name in self.names]
        (high, low, fast), (day, _, slow) = self._words(RESET_PLACE), self._words(RESET_PLACE + 1)
        (_, _, status), (_, _, late) = self._words(RESET_PLACE + 2), self._words(RESET_PLACE + 3)
        _, _, hidden = self._words(RESET_PLACE + 4)
        return Opening(
            z_drift=_normal(high),
            u_stress=_uniform(low),
            u_day=_uniform(day),
            **_of_venues(fast, slow, late, status, hidden),
        )

    def tick(self, step: int) -> Tick:
        from sor_sb3.simulator.random import PLACES_PER_STEP

        place = step * PLACES_PER_STEP
        high, low, per_venue = zip(*(self._words(place + i) for i in range(7)), strict=True)
        fast, slow, late, change, status, hidden, dark = per_venue
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
            **_of_venues(fast, slow, late, status, hidden),
            u_change=_uniforms(change, 0),
            u_tail=_uniforms(change, 1),
            u_hidden=_uniforms(hidden, 0),
            u_dark_zero=_uniforms(dark, 0),
            u_dark_size=_uniforms(dark, 1),
        )


Words = list[tuple[int, int]]  # (high, low) of each venue


def _of_venues(fast: Words, slow: Words, late: Words, status: Words, hidden: Words) -> dict[str, np.ndarray]:
    """What venues draw when an episode opens, and again in each step."""
    return {
        "z_offset_fast": _normals(fast, 0),
        "z_offset_slow": _normals(slow, 0),
        "z_size_fast": _normals(fast, 1),
        "z_size_slow": _normals(slow, 1),
        "z_latency": _normals(late, 0),
        "z_volume": _normals(late, 1),
        "u_congested": _uniforms(status, 0),
        "u_halted": _uniforms(status, 1),
        "u_outage": _uniforms(hidden, 1),
    }


def _normal(word: int) -> float:
    from sor_sb3.simulator.random import normal

    return float(normal(np.uint64(word)))


def _uniform(word: int) -> float:
    return (word + 0.5) / 2**32


def _normals(words: Words, half: int) -> np.ndarray:
    return np.array([_normal(word[half]) for word in words])


def _uniforms(words: Words, half: int) -> np.ndarray:
    return np.array([_uniform(word[half]) for word in words])


class PlainEnv(ReferenceMarket, gym.Env[np.ndarray, np.ndarray]):
    """``OrderSplit-v0`` of a synthetic market, the plain way.

    Args:
        market: preset name or specification, without ranges.
        draws: where the random numbers come from; a ``numpy.random.Generator`` by default.
        variance_reduction: leave the mid's pure noise out of the rewards, as the package's training envs do, so that
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
        all_in = np.abs(self._per_venue("take_fee_bps")) + self._per_venue("offset_bps")
        self.price_scale = float(np.median(all_in[self.lit]))
        self.share_scale = self.quantity / self.horizon
        self.latency_scale = float(np.median(self.expected_ms)) or 1.0

    # ------------------------------------------------------------------------------------------ Gymnasium

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        gym.Env.reset(self, seed=seed)
        self.draws.seed(seed)
        self.begin()
        return self._observation(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        weights = np.maximum(np.asarray(action, dtype=np.float64), 0.0)
        total = weights.sum()
        weights = weights / total if total > 0.0 else np.full(self.n_venues, 1.0 / self.n_venues)
        cost, noise_cost, done = self.execute(weights)
        reward = noise_cost - cost if self.variance_reduction else -cost
        return self._observation(), reward, done, False, self.summary() if done else {}

    # ------------------------------------------------------------------------------------------ what is seen

    def _observation(self) -> np.ndarray:
        wanted, shown = self._slice(), self._displayed()
        all_in = self.observed_offset + self.fee_bps
        price, best = self._slice_prices(wanted, shown, all_in)
        in_flight, volume = float(self.children.shares.sum()), self.volume.sum()
        row = np.empty(MARKET_FEATURES + self.n_venues * VENUE_FEATURES, dtype=np.float32)
        row[0] = 1.0 - self.step_number / self.horizon
        row[1] = (self.available + in_flight) / self.quantity
        row[2] = in_flight / self.quantity
        row[3] = math.log1p(wanted / self.share_scale)
        row[4] = self.signal
        row[5] = self.last_move_bps / self.price_scale
        row[6] = best / self.price_scale
        venues = row[MARKET_FEATURES:].reshape(self.n_venues, VENUE_FEATURES)
        venues[:, 0] = self.open
        venues[:, 1] = self.dark
        venues[:, 2] = self.children.shares > 0.0
        venues[:, 3] = (price - price.min()) / self.price_scale
        venues[:, 4] = self.observed_offset / self.price_scale
        venues[:, 5] = self.fee_bps / self.price_scale
        venues[:, 6] = np.log1p(shown / self.share_scale)
        venues[:, 7] = np.log1p(self.observed_latency_ms / self.latency_scale)
        venues[:, 8] = self.volume / volume if volume > 0.0 else 0.0
        venues[:, 9] = self.fill_ratio
        venues[:, 10] = self.reject
        venues[:, 11] = self._marginal_split(wanted, shown, all_in)
        return row

    def _slice_prices(self, wanted: float, shown: np.ndarray, all_in: np.ndarray) -> tuple[np.ndarray, float]:
        """All-in price of the whole slice at each venue, and the best all-in touch; 0 if nobody quotes."""
        quoting = self.open & self.lit
        best, miss = 0.0, 0.0
        if quoting.any():
            best, miss = float(all_in[quoting].min()), float((all_in + self.walk_bps)[quoting].max())
        slice_shares = max(wanted, 1e-9)
        part = np.minimum(shown / slice_shares, 1.0)
        walked = self.walk_bps * np.minimum(slice_shares / np.maximum(shown, 1e-300), 1.0)
        return part * (all_in + walked) + (1.0 - part) * miss, best

    def _marginal_split(self, wanted: float, shown: np.ndarray, all_in: np.ndarray) -> np.ndarray:
        """Shares of the slice at the one price below which displays, their books walked, offer just the slice."""
        if wanted <= 0.0 or not shown.any():
            return np.zeros(self.n_venues)
        steepness = np.maximum(2.0 * self.walk_bps, 1e-6)
        quoted = shown > 0.0
        low, high = float(all_in[quoted].min()), float((all_in + steepness)[quoted].max())
        for _ in range(60):
            price = 0.5 * (low + high)
            enough = float(shown @ np.clip((price - all_in) / steepness, 0.0, 1.0)) > wanted
            low, high = (low, price) if enough else (price, high)
        return shown * np.clip((high - all_in) / steepness, 0.0, 1.0) / wanted
