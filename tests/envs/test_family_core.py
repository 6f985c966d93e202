"""Many markets in one batch: each env is a lone env of the market that was drawn, in a longer row."""

from __future__ import annotations

import numpy as np
import pytest
from stable_baselines3 import PPO

import sor_sb3
from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.envs.core import RoutingCore
from sor_sb3.envs.family_core import EPISODES, NEIGHBOURS, FamilyCore
from sor_sb3.market.family import MarketFamily
from tests.market.test_family import TINY

N = 2 * NEIGHBOURS


@pytest.fixture(scope="module")
def family() -> MarketFamily:
    return MarketFamily.model_validate({**TINY, "name": "tiny"})


def started(env_id: str, family: MarketFamily, n: int = N) -> FamilyCore:
    core = FamilyCore(env_id, family, n)
    core.seed(list(range(n)))
    core.reset()
    return core


def actions_for(core: FamilyCore, rng: np.random.Generator) -> np.ndarray:
    return rng.uniform(-0.2, 1.0, (core.n, *core.action_adapter.shape)).astype(np.float32)


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"])
def test_an_env_is_a_lone_env_of_the_market_drawn_for_it(env_id, family):
    core, rng, member = started(env_id, family), np.random.default_rng(0), NEIGHBOURS + 3
    core.seed(list(range(N)))
    rows, lone, episode, sizes = core.reset(), None, -1, set()
    for _ in range(120):
        if lone is None:
            episode += 1
            market = family.draw("train", NEIGHBOURS, episode // EPISODES)
            lone = RoutingCore(env_id, market, 1)
            lone.seed([member])
            lone.episodes[:] = episode - 1
            width, before = lone.observation_space.shape[0], lone.reset()
            sizes.add(market.n_venues)
        np.testing.assert_array_equal(rows[member, :width], before[0])
        assert not rows[member, width:].any()
        actions = actions_for(core, rng)
        rows, rewards, done, ended = core.step_and_reset(actions)
        chosen, n_parts = actions[member], 2 if env_id == "OrderPlace-v1" else 1
        own = [chosen[i * family.n_venues :][: market.n_venues] for i in range(n_parts)]
        own += [] if env_id == "OrderSplit-v1" else [chosen[-1:]]
        before, reward, over = lone.step(np.concatenate(own)[None])
        assert rewards[member] == pytest.approx(reward[0] / market.scales[0], rel=1e-6)
        assert done[member] == over[0]
        if over[0]:
            last, info = ended[member]
            np.testing.assert_array_equal(last[:width], before[0])
            assert info == lone.episode_infos(np.array([0]))[0]
            lone = None
    assert episode >= 2 * EPISODES and len(sizes) > 1


def test_what_is_said_of_venues_that_are_not_there_is_not_read(family):
    rng, one, other = np.random.default_rng(1), started("OrderSplit-v1", family), started("OrderSplit-v1", family)
    rows = one.reset()
    other.reset()
    for _ in range(12):
        actions = actions_for(one, rng)
        absent = ~rows[:, 10:].reshape(N, family.n_venues, 19).any(axis=2)
        assert absent.any()
        changed = np.where(absent, rng.uniform(0, 9, actions.shape), actions)
        rows, *mine = one.step_and_reset(actions)[:3]
        for expected, found in zip((rows, *mine), other.step_and_reset(changed)[:3], strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("env_id", ["OrderSplit-v1", "OrderExecute-v1"])
def test_a_state_put_back_goes_on_as_before(env_id, family):
    core, rng = started(env_id, family), np.random.default_rng(2)
    for _ in range(17):
        core.step_and_reset(actions_for(core, rng))
    state, actions = core.get_state(), [actions_for(core, rng) for _ in range(30)]
    expected = [core.step_and_reset(a)[:3] for a in actions]
    other = FamilyCore(env_id, family, N)
    other.set_state(state)
    for found, a in zip(expected, actions, strict=True):
        for mine, theirs in zip(found, other.step_and_reset(a)[:3], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_neighbours_of_a_scenario_stay_together(family):
    venv = sor_sb3.make_vec_env("OrderSplit-v1", family, n_envs=24, seed=0, envs_per_scenario=6)
    rows, rng = venv.reset(), np.random.default_rng(3)
    for _ in range(60):
        np.testing.assert_array_equal(rows[0, -19 * family.n_venues], rows[5, -19 * family.n_venues])
        rows, _, done, infos = venv.step(rng.uniform(0, 1, (24, family.n_venues)).astype(np.float32))
        assert (done.reshape(4, 6) == done.reshape(4, 6)[:, :1]).all()
    assert all({"episode", "terminal_observation"} <= set(info) for info, over in zip(infos, done, strict=True) if over)


def test_it_is_a_vec_env_as_sb3_expects(family):
    venv = sor_sb3.make_vec_env("VenueSelect-v1", family, n_envs=4, seed=0)
    options = {"n_steps": 50, "batch_size": 100, "device": "cpu", "seed": 0}
    PPO(VenuePolicy, venv, policy_kwargs={"marks": False, "hidden": 8}, **options).learn(400)
    masks = np.stack(venv.env_method("action_masks"))
    assert masks.shape == (4, family.n_venues) and not masks.all() and masks.any(axis=1).all()
