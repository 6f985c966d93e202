"""VenuePolicy: venues are treated alike, and it is an SB3 policy like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, PPO

from sor_sb3.algorithms.policies import VenuePolicy
from sor_sb3.algorithms.reinforce import REINFORCE
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import make_vec_env

G, F, K = len(MARKET_FEATURES), len(VENUE_FEATURES), 5
th.set_num_threads(1)


def policy(action_space: spaces.Space, features: int = G + K * F, **kwargs) -> VenuePolicy:
    observations = spaces.Box(-np.inf, np.inf, (features,), np.float32)
    return VenuePolicy(observations, action_space, lambda _: 1e-3, **kwargs)


@pytest.mark.parametrize("space", [spaces.Discrete(K), spaces.Box(-1, 1, (K,))], ids=["select", "split"])
def test_permuting_venues_permutes_scores(space):
    th.manual_seed(0)
    model = policy(space)
    with th.no_grad():
        for trunk in (model.mlp_extractor.actor, model.mlp_extractor.critic):
            trunk.mark.normal_()
    rows = th.randn(7, G + K * F)
    order = th.randperm(K)
    shuffled = th.cat([rows[:, :G], rows[:, G:].reshape(7, K, F)[:, order].reshape(7, K * F)], dim=1)
    with th.no_grad():
        before, value = model.mlp_extractor.forward_actor(rows), model.predict_values(rows)
        without_marks = model.mlp_extractor.forward_actor(shuffled)
        for trunk in (model.mlp_extractor.actor, model.mlp_extractor.critic):
            trunk.mark.copy_(trunk.mark[order])
        after, value_after = model.mlp_extractor.forward_actor(shuffled), model.predict_values(shuffled)
    assert before.shape == (7, K)
    th.testing.assert_close(after, before[:, order])
    th.testing.assert_close(value_after, value)
    assert not th.allclose(without_marks, before[:, order])  # a mark makes a venue differ from its equals


def test_new_policy_prefers_no_venue_among_equals():
    model = policy(spaces.Discrete(K))
    venue = th.randn(1, F).repeat(1, K)
    scores = model.mlp_extractor.forward_actor(th.cat([th.randn(1, G), venue], dim=1))
    th.testing.assert_close(scores, scores[:, :1].expand_as(scores))


def test_split_means_lie_within_the_bounds_of_the_actions():
    model = policy(spaces.Box(-1, 1, (K,)))
    with th.no_grad():
        model.mlp_extractor.score.bias.fill_(50.0)
    actions, _ = model.predict(np.zeros((2, G + K * F), np.float32), deterministic=True)
    assert np.abs(actions).max() <= 1.0
    distribution = model.get_distribution(th.zeros(2, G + K * F))
    assert distribution.distribution.mean.abs().max() <= 1.0


def test_every_parameter_is_optimised():
    model = policy(spaces.Box(-1, 1, (K,)), hidden=8)
    held = {id(p) for group in model.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


def test_hidden_is_the_width():
    assert policy(spaces.Discrete(K), hidden=8).mlp_extractor.score.weight.shape == (1, 8)


@pytest.mark.parametrize(
    ("space", "features"),
    [
        (spaces.MultiDiscrete([2, 2]), G + 2 * F),
        (spaces.Discrete(K), G + K * F + 1),
        (spaces.Box(-1, 1, (K,)), 4),
    ],
)
def test_foreign_spaces_are_refused(space, features):
    with pytest.raises(ValueError, match="VenuePolicy"):
        policy(space, features)


@pytest.mark.parametrize("algorithm", [PPO, A2C, REINFORCE])
@pytest.mark.parametrize("env_id", ["VenueSelect-v0", "OrderSplit-v0"])
def test_trains_saves_and_loads(algorithm, env_id, tmp_path):
    venv = make_vec_env(env_id, market="notebook", n_envs=4, seed=0)
    options = {"batch_size": 100} if algorithm is PPO else {}
    model = algorithm(VenuePolicy, venv, n_steps=50, seed=0, device="cpu", policy_kwargs={"hidden": 8}, **options)
    before = [p.detach().clone() for p in model.policy.mlp_extractor.parameters()]
    model.learn(400)
    after = list(model.policy.mlp_extractor.parameters())
    assert any(not th.equal(a, b) for a, b in zip(before, after, strict=True))
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", device="cpu")
    rows = np.random.default_rng(0).normal(size=(16, *venv.observation_space.shape)).astype(np.float32)
    assert loaded.policy.hidden == 8
    for one, other in zip(
        model.predict(rows, deterministic=True), loaded.predict(rows, deterministic=True), strict=True
    ):
        np.testing.assert_array_equal(one, other)
