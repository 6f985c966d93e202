"""The plain env that speed is compared with runs the same market: same numbers in, same trajectories out."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3.common.env_checker import check_env

from benchmarks.plain_env import AddressedDraws, PlainEnv
from sor_sb3.envs.gym_env import RoutingEnv
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import SyntheticMarket


def restless_market() -> SyntheticMarket:
    """us_equity off the grid of ticks, with all that is rare made frequent."""
    spec = load_market("us_equity").model_dump()
    spec["quotes"]["tick_bps"] = 0.0
    spec["mid"]["jumps_per_hour"] = 200.0
    spec["stress"]["entries_per_hour"] = 60.0
    spec["latency"] |= {"tail_probability": 0.05, "congestions_per_hour": 300.0}
    spec["response"]["permanent_impact_bps_per_1000_shares"] = 1.0
    for venue in spec["venues"]:
        venue["halts_per_hour"] = 200.0
    return SyntheticMarket.model_validate(spec)


@pytest.mark.parametrize("market", [load_market("us_equity"), restless_market()], ids=["us_equity", "restless"])
def test_same_random_numbers_same_trajectories(market):
    ours = RoutingEnv("OrderSplit-v0", market)
    plain = PlainEnv(market, AddressedDraws(market.venue_names))
    generator = np.random.default_rng(0)
    for episode in range(12):
        seed = 7 if episode == 0 else None
        expected, _ = ours.reset(seed=seed)
        row, _ = plain.reset(seed=seed)
        done = False
        while not done:
            np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
            action = generator.uniform(-1, 1, plain.action_space.shape).astype(np.float32)
            expected, reward, done, _, expected_info = ours.step(action)
            row, plain_reward, plain_done, truncated, info = plain.step(action)
            assert plain_reward == pytest.approx(reward, rel=1e-6, abs=1e-6)
            assert plain_done == done and not truncated
        np.testing.assert_allclose(row, expected, rtol=1e-6, atol=1e-6)
        assert info["episode_cost"] == pytest.approx(expected_info["episode_cost"], abs=1e-9)
        for measure in ("slippage_bps", "fee_bps", "fill_rate", "completion"):
            assert info[measure] == pytest.approx(expected_info[measure], abs=1e-9)


def test_it_is_an_ordinary_gymnasium_env():
    check_env(PlainEnv("us_equity"))


def test_drawn_from_a_generator_it_is_the_same_market_on_average():
    ours = RoutingEnv("OrderSplit-v0", "us_equity")
    plain = PlainEnv("us_equity")
    action = np.ones(plain.action_space.shape, dtype=np.float32)
    costs = {}
    for env in (ours, plain):
        env.reset(seed=0)
        costs[env] = []
        while len(costs[env]) < 400:
            _, _, done, _, info = env.step(action)
            if done:
                costs[env].append(sum(info["episode_cost"][k] for k in ("spread", "impact", "fee")))
                env.reset()
    gap = np.mean(costs[ours]) - np.mean(costs[plain])
    error = np.hypot(np.std(costs[ours]), np.std(costs[plain])) / np.sqrt(400)
    assert abs(gap) < 4 * error
