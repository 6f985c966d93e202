"""Envs that share a scenario meet the same market, and their steps correspond."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import sor_sb3
from sor_sb3 import routers
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.gym_env import RoutingEnv
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market

ENV, MARKET, N, PER_SCENARIO = "OrderSplit-v1", "us_equity", 12, 4
WAVES = load_market(MARKET).order.waves


def random_actions(venv, steps, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (steps, venv.num_envs, *venv.action_space.shape)).astype("f4")


@pytest.mark.parametrize("seed", [7, None])
def test_neighbours_begin_on_the_same_day(seed):
    venv = RoutingVecEnv(ENV, MARKET, N, seed=seed, envs_per_scenario=PER_SCENARIO)
    for _ in range(2):  # as made, and with fresh seeds
        groups = venv.reset().reshape(N // PER_SCENARIO, PER_SCENARIO, -1)
        np.testing.assert_array_equal(groups, groups[:, :1].repeat(PER_SCENARIO, axis=1))
        assert len({group[0].tobytes() for group in groups}) == N // PER_SCENARIO
        venv.seed()


def test_each_env_equals_a_lone_one_of_its_days_seed():
    base = load_market(MARKET)  # in a market of two waves a lone env leaves out those that have nothing to send
    market = base.model_copy(update={"order": base.order.model_copy(update={"waves": 1})})
    venv = RoutingVecEnv(ENV, market, N, seed=7, envs_per_scenario=PER_SCENARIO)
    actions = random_actions(venv, 25)
    rows = [venv.reset(), *(venv.step(action)[0] for action in actions)]
    lone = RoutingEnv(ENV, market)
    for i in (0, 5, 11):
        np.testing.assert_array_equal(rows[0][i], lone.reset(seed=7 + i // PER_SCENARIO)[0])
        for action, row in zip(actions, rows[1:], strict=True):
            observation, _, ended, _, _ = lone.step(action[i])
            np.testing.assert_array_equal(row[i], lone.reset()[0] if ended else observation)


def test_the_monitor_inside_sees_what_an_episode_earned():
    venv = sor_sb3.make_vec_env(ENV, MARKET, n_envs=N, seed=3, envs_per_scenario=PER_SCENARIO)
    venv.reset()
    for action in random_actions(venv, 20 * WAVES):
        _, _, _, infos = venv.step(action)
    for info in infos:
        assert info["episode"]["l"] == 20 * WAVES
        assert info["episode"]["r"] == pytest.approx(-info["episode_cost"]["shortfall"], abs=1e-3)


def test_a_baseline_does_not_depend_on_an_envs_own_actions():
    """What makes it leave expected gradients as they are."""
    venv = RoutingVecEnv(ENV, MARKET, N, seed=5, envs_per_scenario=PER_SCENARIO)
    actions = random_actions(venv, 40)
    others = [j for j in range(N) if j != 2]

    def rewards(actions):
        venv.seed(5)
        venv.reset()
        return np.array([venv.step(action)[1] for action in actions])

    before = rewards(actions)
    actions[:, 2] = random_actions(venv, 40, seed=1)[:, 2]
    after = rewards(actions)
    np.testing.assert_array_equal(after[:, others], before[:, others])
    assert (after[:, 2] != before[:, 2]).any()


def test_waves_without_anything_to_send_cost_nothing():
    """Neighbours keep in step through waves that a lone env skips; the scenario costs the same."""
    costs = []
    for every_wave in (False, True):
        core = RoutingCore(ENV, MARKET, 64, every_wave=every_wave)
        core.seed(list(range(64)))
        rows, cost, steps, idle = core.reset(), np.full(64, np.nan), np.zeros(64), 0
        rule = routers.make("net_price_sweep", MARKET)
        while np.isnan(cost).any():
            steps += np.isnan(cost)
            rows, _, done = core.step(rule.predict(rows)[0])
            ended = np.flatnonzero(done & np.isnan(cost))
            cost[ended] = core.simulator.ledger(ended)["shortfall"]
            later = np.isnan(cost) & (core.simulator.read("wave") > 0)
            idle += (later & (core.simulator.read("slice_shares") == 0.0)).sum()
        assert (steps == 40).all() and idle > 500 if every_wave else steps.max() < 40 and idle == 0
        costs.append(cost)
    np.testing.assert_allclose(costs[0], costs[1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("n_envs", "envs_per_scenario"), [(10, 4), (8, 0)])
def test_what_does_not_fit_is_refused(n_envs, envs_per_scenario):
    with pytest.raises(UserError, match="multiple of envs_per_scenario"):
        sor_sb3.make_vec_env(ENV, MARKET, n_envs=n_envs, envs_per_scenario=envs_per_scenario)


@pytest.mark.parametrize("env", ["OrderExecute-v1", "OrderPlace-v1"])
def test_an_order_that_is_filled_early_waits_for_its_neighbours(env):
    """Whoever takes all at once still has as many steps as whoever waits, at no further cost."""
    venv = RoutingVecEnv(env, MARKET, 2, seed=3, envs_per_scenario=2)
    rows: Any = venv.reset()
    rule, ended, early = routers.make("net_price_sweep", MARKET, env), [], 0
    for step in range(2 * 20 * WAVES):
        action = np.array(rule.predict(rows)[0])
        action[0, -1] = 1.0  # all of it, now
        rows, rewards, dones, _ = venv.step(action)
        assert np.isfinite(rows).all() and np.isfinite(rewards).all()
        left = venv.core.simulator.read("remaining_shares")
        early += left[0] <= 0.0 < left[1]
        if dones.any():
            ended.append(step)
            assert dones.all()
    assert early > 20
    assert ended == [20 * WAVES - 1, 2 * 20 * WAVES - 1]
