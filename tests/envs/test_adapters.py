"""The three adapters of one batched env: sound by everyone's checker, and equal to one another bit for bit."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import sor_sb3
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.errors import UserError

MARKETS = ("notebook", "notebook_blind", "us_equity")
ENV_IDS = ("VenueSelect-v1", "OrderSplit-v1")
adapters = pytest.mark.parametrize(("env_id", "market"), [(e, m) for e in ENV_IDS for m in MARKETS])


def single(env_id: str, market: str, **options) -> gym.Env:
    return gym.make(f"sor_sb3:{env_id}", market=market, **options)


@adapters
@pytest.mark.filterwarnings("ignore")
def test_gymnasium_and_sb3_find_no_fault(env_id, market):
    gymnasium_check_env(single(env_id, market).unwrapped, skip_render_check=True)
    sb3_check_env(single(env_id, market).unwrapped)


@adapters
def test_sb3_has_nothing_to_warn_of(env_id, market, recwarn):
    sb3_check_env(single(env_id, market).unwrapped, warn=True)
    said = [str(w.message) for w in recwarn if "stable_baselines3" in str(w.filename)]
    assert not said


@adapters
def test_member_i_equals_a_lone_env_seeded_s_plus_i(env_id, market):
    n, episodes, seed = 3, 3, 2**40
    venv = RoutingVecEnv(env_id, market, n_envs=n, seed=seed)
    lone = [single(env_id, market) for _ in range(n)]
    rows: Any = venv.reset()
    for i, env in enumerate(lone):
        assert rows[i].tobytes() == env.reset(seed=seed + i)[0].tobytes()
    venv.action_space.seed(0)
    ended = 0
    while ended < episodes * n:
        actions = np.array([venv.action_space.sample() for _ in range(n)])
        rows, rewards, dones, infos = venv.step(actions)
        for i, env in enumerate(lone):
            row, reward, terminated, truncated, info = env.step(actions[i])
            assert reward == rewards[i] and terminated == dones[i] and not truncated
            if terminated:
                ended += 1
                assert row.tobytes() == infos[i].pop("terminal_observation").tobytes()
                assert infos[i].pop("TimeLimit.truncated") is False
                assert str(info) == str(infos[i]) and set(info) >= {
                    "episode_cost",
                    "slippage_bps",
                    "fill_rate",
                }
                row, _ = env.reset()
            assert row.tobytes() == rows[i].tobytes()


@adapters
def test_sb3s_own_vec_env_over_lone_envs_gives_the_same(env_id, market):
    ours = RoutingVecEnv(env_id, market, n_envs=2)
    theirs = DummyVecEnv([lambda: single(env_id, market)] * 2)
    ours.seed(3), theirs.seed(3)
    assert np.array_equal(ours.reset(), theirs.reset())
    for _ in range(60):
        actions = np.array([ours.action_space.sample() for _ in range(2)])
        for mine, other in zip(ours.step(actions)[:3], theirs.step(actions)[:3], strict=True):
            assert mine.dtype == other.dtype and np.array_equal(mine, other)


@adapters
def test_the_gymnasium_vector_env_resets_in_the_same_step(env_id, market):
    n = 2
    vector = gym.make_vec(f"sor_sb3:{env_id}", num_envs=n, market=market)
    assert vector.metadata["autoreset_mode"] == AutoresetMode.SAME_STEP
    venv = RoutingVecEnv(env_id, market, n_envs=n, seed=9)
    rows, infos = vector.reset(seed=9)
    assert rows.tobytes() == venv.reset().tobytes() and rows in vector.observation_space and infos == {}
    vector.action_space.seed(0)
    ends = 0
    for _ in range(110):
        actions = vector.action_space.sample()
        rows, rewards, terminated, truncated, infos = vector.step(actions)
        expected, paid, dones, sb3_infos = venv.step(actions)
        assert rows.tobytes() == expected.tobytes()
        assert np.array_equal(rewards, paid) and np.array_equal(terminated, dones) and not truncated.any()
        assert ("final_obs" in infos) == bool(dones.any())
        for i in np.flatnonzero(dones):
            ends += 1
            assert infos["_final_obs"][i] and infos["_final_info"][i]
            assert np.array_equal(infos["final_obs"][i], sb3_infos[i]["terminal_observation"])
            cost = infos["final_info"]["episode_cost"]["shortfall"][i]
            assert cost == sb3_infos[i]["episode_cost"]["shortfall"]
    assert ends >= 2 * n
    vector.close()


def test_the_vector_env_takes_a_list_of_seeds():
    vector = gym.make_vec("sor_sb3:OrderSplit-v1", num_envs=3, market="us_equity")
    by_number, _ = vector.reset(seed=4)
    by_list, _ = vector.reset(seed=[4, 5, 6])
    assert np.array_equal(by_number, by_list)


def test_the_vector_envs_observations_are_fresh_arrays():
    vector = gym.make_vec("sor_sb3:OrderSplit-v1", num_envs=2, market="us_equity")
    rows = [vector.reset(seed=0)[0]]
    copies = [rows[0].copy()]
    for _ in range(45):
        rows.append(vector.step(vector.action_space.sample())[0])
        copies.append(rows[-1].copy())
    assert all(np.array_equal(row, copy) for row, copy in zip(rows, copies, strict=True))
    assert not any(np.shares_memory(a, b) for a, b in pairwise(rows))


@adapters
def test_rewards_are_minus_the_cost_of_the_step(env_id, market):
    venv = RoutingVecEnv(env_id, market, n_envs=4, seed=1)
    venv.reset()
    total = np.zeros(4)
    costs: dict[int, Any] = {}
    while len(costs) < 4:  # an episode is as long as its waves are many
        actions = np.array([venv.action_space.sample() for _ in range(4)])
        _, rewards, dones, infos = venv.step(actions)
        total[[i for i in range(4) if i not in costs]] += rewards[[i for i in range(4) if i not in costs]]
        costs |= {i: infos[i]["episode_cost"] for i in np.flatnonzero(dones).tolist() if i not in costs}
    for i, cost in costs.items():
        parts = sum(value for part, value in cost.items() if part != "shortfall")
        assert abs(cost["shortfall"] - parts) < 1e-9
        assert total[i] == pytest.approx(-cost["shortfall"], abs=1e-5 * (1 + abs(cost["shortfall"])))


def test_each_reward_is_the_ledgers_in_float32():
    venv = RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=4, seed=1)
    venv.reset()
    for _ in range(19):
        before = venv.core.simulator.ledger()["shortfall"]
        _, rewards, _, _ = venv.step(np.array([venv.action_space.sample() for _ in range(4)]))
        paid = venv.core.simulator.ledger()["shortfall"] - before
        np.testing.assert_allclose(rewards, -paid, rtol=1e-6, atol=1e-9)


def test_variance_reduction_changes_rewards_but_neither_observations_nor_the_ledger():
    plain, reduced = (
        RoutingVecEnv("OrderSplit-v1", "us_equity", 64, seed=0, variance_reduction=on) for on in (False, True)
    )
    assert np.array_equal(plain.reset(), reduced.reset())
    returns = np.zeros((2, 64))
    for _ in range(20):
        actions = np.array([plain.action_space.sample() for _ in range(64)])
        (rows, rewards, _, infos), (same, quieter, _, same_infos) = plain.step(actions), reduced.step(actions)
        returns += rewards, quieter
        for info in (*infos, *same_infos):
            info.pop("terminal_observation", None)
        assert np.array_equal(rows, same) and infos == same_infos
    assert not np.array_equal(returns[0], returns[1]) and returns[1].std() < returns[0].std()


def ends_of(venv, steps: int) -> list[dict]:
    """Infos of the episodes that end within so many steps of random actions."""
    ended = []
    for _ in range(steps):
        _, _, dones, infos = venv.step(np.array([venv.action_space.sample() for _ in range(venv.num_envs)]))
        ended += [infos[i] for i in np.flatnonzero(dones)]
    return ended


def test_vec_monitor_reports_the_shortfall_as_the_return():
    venv = sor_sb3.make_vec_env("OrderSplit-v1", market="us_equity", n_envs=4, seed=0)
    assert isinstance(venv, VecMonitor)
    venv.reset()
    ended = ends_of(venv, 40)
    assert len(ended) >= 4
    for info in ended:
        assert info["episode"]["r"] == pytest.approx(-info["episode_cost"]["shortfall"], abs=1e-4)
        assert 20 <= info["episode"]["l"] <= 40


def test_vec_monitor_takes_our_measures_as_keywords():
    bare = sor_sb3.make_vec_env("OrderSplit-v1", market="us_equity", n_envs=2, seed=0, monitor=False)
    venv = VecMonitor(bare, info_keywords=("slippage_bps", "fee_bps", "fill_rate", "completion"))
    venv.reset()
    ended = ends_of(venv, 40)
    assert ended and all(0.0 < info["episode"]["fill_rate"] <= 1.0 for info in ended)


def test_splits_meet_different_market_days():
    rows = [RoutingVecEnv("OrderSplit-v1", "us_equity", 2, seed=0, data_split=s).reset() for s in ("train", "test")]
    assert not np.array_equal(*rows)


def test_episodes_of_a_seed_differ_and_reseeding_starts_over():
    env = single("OrderSplit-v1", "us_equity")
    first, second = env.reset(seed=3)[0], env.reset()[0]
    assert not np.array_equal(first, second)
    assert np.array_equal(first, env.reset(seed=3)[0]) and np.array_equal(second, env.reset()[0])


def test_envs_without_a_seed_differ():
    rows = [RoutingVecEnv("OrderSplit-v1", "us_equity", 3).reset() for _ in range(2)]
    assert not np.array_equal(*rows) and not np.array_equal(rows[0][0], rows[0][1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"market": "us_equities"}, r"did you mean 'us_equity'"),
        ({"data_split": "training"}, r"data_split 'training' is unknown; expected one of train, validation, test"),
    ],
)
def test_what_is_unknown_is_refused_in_one_sentence(options, said):
    for make in (
        lambda: single("OrderSplit-v1", **{"market": "us_equity", **options}),
        lambda: sor_sb3.make_vec_env("OrderSplit-v1", **options),
    ):
        with pytest.raises(UserError, match=said):
            make()


def test_an_unknown_env_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match=r"env 'OrderSplits-v1' is unknown \(did you mean 'OrderSplit-v1'\?\)"):
        sor_sb3.make_vec_env("OrderSplits-v1")


def test_the_package_prefix_is_allowed_everywhere():
    assert sor_sb3.make_vec_env("sor_sb3:OrderSplit-v1", market="notebook").action_space.shape == (3,)


def test_importing_the_package_loads_neither_torch_nor_numba():
    code = "import sys, sor_sb3; print([m for m in ('torch', 'numba', 'stable_baselines3') if m in sys.modules])"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"
