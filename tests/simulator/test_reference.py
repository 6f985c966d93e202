"""The plain env that speed is compared with runs the same market: same numbers in, same trajectories out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from plain_env import CounterDraws, PlainEnv
from stable_baselines3.common.env_checker import check_env

from sor_sb3.envs.gym_env import RoutingEnv
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket


class WatchedEnv(PlainEnv):
    """The plain env, which notes in `seen` what has happened in it."""

    def __init__(self, market: SyntheticMarket, draws: CounterDraws) -> None:
        super().__init__(market, draws)
        self.seen: set[str] = set()
        self.steps_in_flight = np.zeros(self.n_venues, dtype=int)
        self.arrived_ms = np.zeros(self.n_venues)  # whether somebody is there or not

    def note(self, **happened: Any) -> None:
        self.seen |= {what for what, where in happened.items() if np.any(where)}

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.steps_in_flight[:] = 0
        return super().reset(**options)

    def _send(self, sent: np.ndarray) -> None:
        super()._send(sent)
        new, lot_shares, lots = sent > 0.0, self.market.order.lot_shares, np.zeros(self.n_venues)
        if lot_shares is not None and new.any():
            lots = sent / self._slice() * np.ceil(self._slice() / lot_shares - 1e-9)
            np.testing.assert_allclose(lots, np.round(lots), atol=1e-6)
        self.arrived_ms[new] = self.latency_ms[new]
        self.note(
            several_lots=lots > 1.5,
            one_lot=np.isclose(lots, 1.0),
            held_back=new & (self.children.arrives_ms > self.latency_ms) & np.isfinite(self.children.arrives_ms),
            leak=self.leak_bps > 0.0,
        )

    def _limits(self, sent: np.ndarray) -> np.ndarray:
        limits = super()._limits(sent)
        shown = self._displayed()
        observed_bps = np.where(shown > 0.0, self.observed_offset, np.inf).min()
        protected = (sent > 0.0) & (limits < observed_bps + self.limit_offset_bps)
        self.note(protected_quote=protected, quote_taken_whole=(shown > 0.0) & (sent >= shown))
        return limits

    def _now(self, times_ms: np.ndarray) -> np.ndarray:
        return (times_ms >= 0.0) & (times_ms < self.step_ms)

    def _fill(self) -> np.ndarray:
        children, arriving, earlier = self.children, self._arriving(), self.steps_in_flight > 0
        arrives = (children.shares > 0.0) & self._now(children.arrives_ms)
        filled = super()._fill()
        wanted = np.where(arriving, np.minimum(children.shares, self.held), 0.0)
        beyond = self.offset + self.touch_move > children.limit_bps
        missed = (filled < wanted) & ~beyond
        self.note(
            hidden_fill=self.lit & (filled > np.maximum(self.size, self.next_size)),
            dark_fill=self.dark & (filled > 0.0),
            touch_beyond_limit=(wanted > 0.0) & beyond,
            stopped_at_limit=missed & (filled > 0.0),
            below_minimum=missed & (filled == 0.0) & (self.min_execution > 0.0),
            filled_later=earlier & (filled > 0.0),
            gone_in_flight=earlier & arrives & ~arriving,
            behind_news=arriving & (children.arrives_ms > self.news_ms),
            changed_quote=arriving & (children.arrives_ms / self.step_ms > self.change_at),
            fade=arriving & (children.late_ms * self.fade_per_ms > 0.1),
            halt=~self.open & (children.shares > 0.0),
        )
        return filled

    def _hear_answers(self) -> None:
        busy = self.children.shares > 0.0
        super()._hear_answers()
        still = self.children.shares > 0.0
        self.steps_in_flight = np.where(still, self.steps_in_flight + 1, 0)
        self.arrived_ms -= self.step_ms
        self.note(
            in_flight=still,
            in_flight_for_steps=self.steps_in_flight >= 3,
            filled_unheard=still & (self.children.filled > 0.0),
            reject=busy & ~still & (self.reject == 1.0),
            reject_under_way=still & self.children.rejected,
        )

    def _advance(self, draw: Any) -> None:
        super()._advance(draw)
        self.note(
            late_feed=self.observed_offset != self.offset,
            late_and_congested_feed=(self.observed_offset != self.offset) & self.congested,
            stress=self.stressed,
            outage=self.outage,
        )


def changed(name: str, venues: dict[str, Any], **parts: Any) -> SyntheticMarket:
    """A preset with other values in all of its venues, and in its parts."""
    values = load_market(name).model_dump()
    for venue in values["venues"]:
        venue |= venues
    for part, fields in parts.items():
        values[part] = values[part] | fields if isinstance(fields, dict) else fields
    return SyntheticMarket.model_validate(values)


def restless_market() -> SyntheticMarket:
    """us_equity off the grid of ticks, with all that is rare made frequent."""
    return changed(
        "us_equity",
        {"halts_per_hour": 200.0, "outages_per_hour": 200.0},
        order_protection=True,
        quotes={"tick_bps": 0.0},
        mid={"jumps_per_hour": 200.0},
        stress={"entries_per_hour": 60.0},
        latency={"tail_probability": 0.05, "congestions_per_hour": 300.0},
        response={"permanent_impact_bps_per_1000_shares": 1.0},
    )


def distant_market() -> SyntheticMarket:
    """Exchanges up to two and a half steps away, feeds of half a step, outages that reject after three steps."""
    market = changed(
        "crypto",
        {
            "feed_latency_ms": 500.0,
            "hidden_fraction": 0.5,
            "outages_per_hour": 200.0,
            "outage_duration_s": 2.0,
            "halts_per_hour": 200.0,
            "halt_duration_s": 2.0,
        },
        order={"limit_offset_bps": 1.0},
        mid={"volatility_bps_per_sqrt_s": 0.3},
        latency={"congestions_per_hour": 300.0},
        informed={"window_ms": 300.0},
        response={"outage_reject_ms": 3000.0, "reaction_time_ms": 300.0},
    ).model_dump()
    for venue, latency_ms in zip(market["venues"], (200.0, 450.0, 800.0, 1400.0, 2500.0), strict=True):
        venue["latency_ms"] = latency_ms
    return SyntheticMarket.model_validate(market)


def strict_market() -> SyntheticMarket:
    """An exchange more and leaky pools with a minimum; children in lots, together, at the best price or not at all."""
    values = changed(
        "dark",
        {"outages_per_hour": 50.0, "outage_duration_s": 10.0},
        order={"limit_offset_bps": 0.0, "lot_shares": 40.0, "synchronise_arrivals": True},
        order_protection=True,
        mid={"volatility_bps_per_sqrt_s": 0.02, "drift_sd_bps_per_s": 0.01},
        informed={"probability": 0.6},
        response={"outage_reject_ms": 17_000.0},
    ).model_dump()
    lit = values["venues"][0]
    values["venues"] = [lit, lit | {"name": "FAR", "latency_ms": 2000.0, "speed_bump_ms": 100.0}, *values["venues"][1:]]
    for i, venue in enumerate(values["venues"][2:]):
        venue["latency_ms"] = 200.0 * (i + 1)
        venue["dark"] |= {"zero_probability": 0.3, "min_execution_shares": 20.0 * i, "leakage_bps_per_1000_shares": 4.0}
    return SyntheticMarket.model_validate(values)


def everything_market() -> SyntheticMarket:
    """us_equity on steps of a millisecond: latencies become steps, and every option of orders is on."""
    step_s, per_step = 0.001, 3.6e6
    values = changed(
        "us_equity",
        {
            "halts_per_hour": 0.03 * per_step,
            "halt_duration_s": 3 * step_s,
            "outages_per_hour": 0.05 * per_step,
            "outage_duration_s": 3 * step_s,
            "refill_half_life_s": 2 * step_s,
        },
        order={
            "quantity_shares": 30_000.0,
            "step_s": step_s,
            "limit_offset_bps": 1.0,
            "lot_shares": 70.0,
            "synchronise_arrivals": True,
        },
        order_protection=True,
        quotes={"fast_half_life_s": 2 * step_s, "slow_half_life_s": 20 * step_s, "tick_bps": 0.5},
        mid={"volatility_bps_per_sqrt_s": 5.0, "jumps_per_hour": 0.05 * per_step, "jump_sd_bps": 1.0},
        stress={"entries_per_hour": 0.05 * per_step, "duration_s": 10 * step_s},
        latency={
            "congestions_per_hour": 0.03 * per_step,
            "congestion_duration_s": 10 * step_s,
            "congestion_factor": 12.0,
        },
        informed={"probability": 0.3, "jump_bps": 0.8},
        response={
            "reaction_time_ms": 2.0,
            "outage_reject_ms": 2.5,
            "leakage_half_life_s": 3 * step_s,
            "permanent_impact_bps_per_1000_shares": 0.1,
        },
    ).model_dump()
    for venue in values["venues"]:
        if venue["dark"] is not None:
            venue["dark"] |= {
                "zero_probability": 0.3,
                "min_execution_shares": 150.0,
                "leakage_bps_per_1000_shares": 2.0,
            }
    return SyntheticMarket.model_validate(values)


PRESETS = {
    "us_equity": "dark_fill hidden_fill behind_news fade leak below_minimum",
    "tick_bound": "behind_news fade",
    "crypto": "in_flight changed_quote behind_news fade outage reject reject_under_way late_feed filled_later",
    "fx_two_dealer": "behind_news fade changed_quote",
    "dark": "dark_fill behind_news leak below_minimum",
}
HARD_MARKETS = {
    "restless": "halt outage reject stress dark_fill behind_news hidden_fill fade protected_quote",
    "distant": "in_flight_for_steps filled_later filled_unheard gone_in_flight halt stress "
    "reject reject_under_way changed_quote late_feed late_and_congested_feed touch_beyond_limit stopped_at_limit "
    "hidden_fill behind_news",
    "strict": "several_lots one_lot held_back leak below_minimum dark_fill touch_beyond_limit quote_taken_whole reject "
    "stopped_at_limit reject_under_way in_flight_for_steps",
    "everything": "several_lots one_lot held_back leak dark_fill below_minimum touch_beyond_limit protected_quote halt "
    "quote_taken_whole stopped_at_limit in_flight_for_steps filled_later filled_unheard stress gone_in_flight reject "
    "reject_under_way late_feed late_and_congested_feed behind_news changed_quote hidden_fill",
}


def hard_market(name: str) -> SyntheticMarket:
    makers = (restless_market, distant_market, strict_market, everything_market)
    return dict(zip(HARD_MARKETS, makers, strict=True))[name]()


def any_venue(generator: np.random.Generator, k: int, step_s: float) -> dict[str, Any]:
    def one(*values: Any) -> Any:
        return values[generator.integers(len(values))]

    step_ms, per_step = 1000.0 * step_s, 3600.0 / step_s
    venue = {
        "name": f"{generator.integers(1000)}-{k}",
        "take_fee_bps": generator.uniform(-1.0, 3.0),
        "latency_ms": one(0.0, 0.01, 0.3, 1.0, 2.5) * step_ms * generator.uniform(0.3, 1.0),
        "latency_sigma": one(0.0, 0.3, 0.8),
        "speed_bump_ms": one(0.0, 0.4) * step_ms,
        "feed_latency_ms": one(None, 0.0, 0.1 * step_ms, 0.5 * step_ms),
        "toxicity": one(0.0, 0.5, 2.0),
        "walk_bps": one(0.0, 1.0, 3.0),
        "refill_half_life_s": one(0.3, 1.0, 5.0) * step_s,
        "volume_share": one(0.0, 1.0, 2.0),
        "halts_per_hour": one(0.0, 0.1) * per_step,
        "halt_duration_s": 3.0 * step_s,
        "outages_per_hour": one(0.0, 0.15) * per_step,
        "outage_duration_s": one(1.0, 4.0) * step_s,
    }
    if k == 0 or generator.random() > 0.35:
        lit = {"offset_bps": generator.uniform(0.5, 2.0), "size_shares": generator.uniform(10.0, 200.0)}
        return venue | lit | {"hidden_fraction": one(0.0, 0.3, 1.0)}
    pool = {
        "zero_probability": one(0.0, 0.3, 0.7),
        "power_exponent": one(0.25, 0.6, 1.0, 1.3),
        "max_shares": one(50.0, 500.0),
        "min_execution_shares": one(0.0, 10.0, 40.0),
        "leakage_bps_per_1000_shares": one(0.0, 5.0),
    }
    return venue | {"dark": pool}


def any_market(seed: int) -> SyntheticMarket:
    """A market with every option drawn at random."""
    generator = np.random.default_rng(seed)

    def one(*values: Any) -> Any:
        return values[generator.integers(len(values))]

    step_s = one(0.05, 0.5, 2.0)
    step_ms, per_step = 1000.0 * step_s, 3600.0 / step_s
    market = {
        "order": {
            "quantity_shares": 1000.0,
            "horizon_steps": one(1, 10, 20),
            "step_s": step_s,
            "lot_shares": one(None, 1.0, 7.5, 60.0, 2000.0),
            "limit_offset_bps": one(None, 0.0, 0.3, 1.0, 5.0),
            "synchronise_arrivals": one(False, True),
        },
        "order_protection": one(False, True),
        "venues": [any_venue(generator, k, step_s) for k in range(generator.integers(2, 9))],
        "quotes": {"tick_bps": one(0.0, 0.0, 0.5)},
        "mid": {
            "volatility_bps_per_sqrt_s": one(0.01, 0.1, 1.0) / np.sqrt(step_s),
            "jumps_per_hour": one(0.0, 0.1) * per_step,
            "drift_sd_bps_per_s": one(0.0, 0.3),
        },
        "stress": {"entries_per_hour": 0.05 * per_step, "duration_s": 4.0 * step_s},
        "latency": {"congestions_per_hour": one(0.0, 0.1) * per_step, "tail_probability": 0.05},
        "informed": {"probability": one(0.0, 0.6), "window_ms": one(0.05, 0.5, 2.0) * step_ms},
        "volume": {"shares_per_day": one(0.0, 1e6)},
        "response": {
            "reaction_time_ms": 0.2 * step_ms,
            "permanent_impact_bps_per_1000_shares": one(0.0, 2.0),
            "outage_reject_ms": one(0.1, 1.5, 3.0) * step_ms,
            "leakage_half_life_s": 2.0 * step_s,
        },
    }
    return SyntheticMarket.model_validate(market)


def some_action(generator: np.random.Generator, n_venues: int) -> np.ndarray:
    """Mostly a split at random; now and then everything to one venue, or evenly to all."""
    kind = generator.random()
    if kind < 0.1:
        return np.full(n_venues, -1.0, dtype=np.float32)
    if kind < 0.25:
        return np.eye(n_venues, dtype=np.float32)[generator.integers(n_venues)]
    return generator.uniform(-1.0, 1.0, n_venues).astype(np.float32)


def play_both(market: SyntheticMarket, seed: int, episodes: int, split: str = "train") -> set[str]:
    """Play whole episodes in both envs on the same numbers and compare all that they say; what happened in them."""
    ours = RoutingEnv("OrderSplit-v0", market, split)
    plain = WatchedEnv(market, CounterDraws(market.venue_names, split))
    generator = np.random.default_rng(seed)
    for episode in range(episodes):
        episode_seed = seed if episode == 0 else None
        expected, _ = ours.reset(seed=episode_seed)
        row, _ = plain.reset(seed=episode_seed)
        done = False
        while not done:
            np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
            action = some_action(generator, market.n_venues)
            expected, reward, done, _, expected_info = ours.step(action)
            row, plain_reward, plain_done, truncated, info = plain.step(action)
            assert plain_reward == pytest.approx(reward, rel=1e-6, abs=1e-6)
            assert plain_done == done and not truncated
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
        assert info["episode_cost"] == pytest.approx(expected_info["episode_cost"], abs=1e-9)
        for measure in ("slippage_bps", "fee_bps", "fill_rate", "completion"):
            assert info[measure] == pytest.approx(expected_info[measure], abs=1e-9, nan_ok=True)
    return plain.seen


@pytest.mark.parametrize(("name", "features"), PRESETS.items(), ids=PRESETS)
def test_same_random_numbers_same_trajectories(name, features):
    seen: set[str] = set()
    for seed in (7, 2026, 2**63 + 11):
        seen |= play_both(load_market(name), seed, episodes=10)
    assert set(features.split()) <= seen


@pytest.mark.parametrize(("name", "features"), HARD_MARKETS.items(), ids=HARD_MARKETS)
def test_same_trajectories_where_all_that_is_rare_is_frequent(name, features):
    seen: set[str] = set()
    for seed, split in ((7, "train"), (2026, "validation"), (2**63 + 11, "test")):
        seen |= play_both(hard_market(name), seed, 8, split)
    assert set(features.split()) <= seen


@pytest.mark.parametrize("market", ["us_equity", hard_market("everything")], ids=["us_equity", "everything"])
def test_variance_reduction_leaves_out_the_same_noise(market):
    market = load_market(market)
    ours = RoutingVecEnv("OrderSplit-v0", market, 1, seed=7, variance_reduction=True)
    plain = PlainEnv(market, CounterDraws(market.venue_names), variance_reduction=True)
    generator = np.random.default_rng(0)
    ours.reset()
    plain.reset(seed=7)
    for _ in range(8 * market.order.horizon_steps):
        action = some_action(generator, market.n_venues)
        _, rewards, dones, _ = ours.step(action[None])
        _, reward, done, _, _ = plain.step(action)
        assert reward == pytest.approx(rewards[0], rel=1e-5, abs=1e-6) and done == dones[0]
        if done:
            plain.reset()


@pytest.mark.parametrize("seed", range(40))
def test_same_trajectories_in_any_market(seed):
    play_both(any_market(seed), seed, episodes=3)


def test_it_is_an_ordinary_gymnasium_env():
    check_env(PlainEnv("us_equity"))


def test_a_family_of_markets_is_refused():
    with pytest.raises(ValueError, match="randomise"):
        PlainEnv(changed("fx_two_dealer", {}, randomise={"informed.probability": (0.1, 0.5)}))


@pytest.mark.parametrize(
    "market", [load_market("us_equity"), hard_market("everything")], ids=["us_equity", "everything"]
)
def test_drawn_from_a_generator_it_is_the_same_market_on_average(market):
    parts = ("spread", "impact", "fee")
    costs: dict[RoutingEnv | PlainEnv, list[list[float]]] = {}
    for env in (RoutingEnv("OrderSplit-v0", market), PlainEnv(market)):
        env.reset(seed=0)
        costs[env] = []
        while len(costs[env]) < 400:
            _, _, done, _, info = env.step(np.ones(market.n_venues, dtype=np.float32))
            if done:
                costs[env].append([info["episode_cost"][part] for part in parts] + [info["completion"]])
                env.reset()
    ours, plain = (np.array(rows) for rows in costs.values())
    error = np.sqrt((ours.var(axis=0) + plain.var(axis=0)) / 400)
    assert np.all(np.abs(ours.mean(axis=0) - plain.mean(axis=0)) < 4 * error + 1e-12)
