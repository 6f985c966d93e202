"""VenueSACPolicy: an SB3 policy like any other, whose critics see what each venue is sent."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import SAC

from sor_sb3.algorithms.sac_policy import VenueSACPolicy
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import make_vec_env

th.set_num_threads(1)
G, F, K = len(MARKET_FEATURES), len(VENUE_FEATURES), 5


def make(pace: bool = False, features: int = G + K * F, **kwargs) -> VenueSACPolicy:
    observations = spaces.Box(-np.inf, np.inf, (features,), np.float32)
    return VenueSACPolicy(observations, spaces.Box(-1, 1, (K + pace,)), lambda _: 1e-3, hidden=8, **kwargs)


@pytest.mark.parametrize("pace", [False, True])
def test_shapes(pace):
    policy = make(pace)
    rows, actions = th.randn(7, G + K * F), th.rand(7, K + pace) * 2 - 1
    assert policy.actor(rows).shape == (7, K + pace)
    values = policy.critic(rows, actions)
    assert [v.shape for v in values] == [(7, 1)] * 2
    assert not th.equal(*values)
    for mine, theirs in zip(values, policy.critic_target(rows, actions), strict=True):
        assert th.equal(mine, theirs)


def test_permuting_venues_and_their_actions_changes_no_value():
    policy = make(pace=True)
    rows, actions, order = th.randn(7, G + K * F), th.rand(7, K + 1) * 2 - 1, th.randperm(K)
    shuffled = th.cat([rows[:, :G], rows[:, G:].reshape(7, K, F)[:, order].reshape(7, K * F)], dim=1)
    moved = th.cat([actions[:, :K][:, order], actions[:, K:]], dim=1)
    with th.no_grad():
        for before, after in zip(policy.critic(rows, actions), policy.critic(shuffled, moved), strict=True):
            th.testing.assert_close(before, after)
        mean = policy.actor(rows, deterministic=True)
        th.testing.assert_close(policy.actor(shuffled, deterministic=True)[:, :K], mean[:, :K][:, order])


def test_every_parameter_is_optimised_once():
    policy = make(pace=True)
    for net in (policy.actor, policy.critic):
        held = [id(p) for group in net.optimizer.param_groups for p in group["params"]]
        assert len(held) == len(set(held))
        assert set(held) == {id(p) for p in net.parameters()}


def test_trains_saves_and_loads(tmp_path):
    venv = make_vec_env("OrderSplit-v1", market="notebook", n_envs=4, seed=0)
    options = {"learning_starts": 50, "buffer_size": 500, "batch_size": 16, "device": "cpu", "seed": 0}
    model = SAC(VenueSACPolicy, venv, policy_kwargs={"hidden": 8}, **options)
    before = {name: p.detach().clone() for name, p in model.policy.named_parameters()}
    model.learn(400)
    unchanged = [name for name, p in model.policy.named_parameters() if th.equal(before[name], p)]
    assert unchanged == []
    model.save(tmp_path / "model")
    rows = venv.reset()
    loaded = SAC.load(tmp_path / "model", device="cpu")
    assert loaded.policy.hidden == 8
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )


def test_foreign_uses_are_refused():
    with pytest.raises(ValueError, match="VenueSACPolicy reads"):
        make(features=G + K * F + 1)
    with pytest.raises(ValueError, match="use_sde"):
        make(use_sde=True)
