"""VenuePolicy: venues are treated alike, and it is an SB3 policy like any other."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, PPO

from sor_sb3.algorithms.policies import POLICIES, QuickTanh, VenuePolicy, suggested_logits
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
@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1"])
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


PLACE = spaces.Box(-1, 1, (2 * K + 1,))


def place_rows(**features: float) -> th.Tensor:
    """One row of the first decision of an order, all venues lit and open, with other venue features 0.5."""
    market = dict.fromkeys(MARKET_FEATURES, 0.0) | {"time_left": 1.0, "remaining": 1.0, "best_all_in": 1.0}
    venue = dict.fromkeys(VENUE_FEATURES, 0.5) | {"open": 1.0, "dark": 0.0, "resting": 0.0, "make_fee": 0.0}
    market |= {name: value for name, value in features.items() if name in market}
    return th.tensor([[*market.values(), *list(venue.values()) * K]])


def test_permuting_venues_permutes_what_rests_too():
    th.manual_seed(0)
    model, rows, order = policy(PLACE), th.rand(7, G + K * F), th.randperm(K)
    shuffled = th.cat([rows[:, :G], rows[:, G:].reshape(7, K, F)[:, order].reshape(7, K * F)], dim=1)
    before, after = (model.get_distribution(r).mode() for r in (rows, shuffled))
    assert before.shape == (7, 2 * K + 1)
    expected = th.cat([before[:, :K][:, order], before[:, K : 2 * K][:, order], before[:, -1:]], dim=1)
    th.testing.assert_close(after, expected)


def test_a_new_policy_rests_what_is_wanted_soon_at_the_shortest_wait_and_little_at_the_end():
    rows = place_rows()
    at = G + 2 * F + VENUE_FEATURES.index("outflow")
    rows[0, at] = 2.0  # sellers hit the third venue most
    rests = policy(PLACE).get_distribution(rows).mode()[0, K : 2 * K]
    assert rests.argmax() == 2 and rests.sum().item() == pytest.approx(0.3, abs=0.02)
    late = policy(PLACE).get_distribution(place_rows(time_left=0.05, remaining=0.1)).mode()[0]
    assert late[K : 2 * K].sum() < 0.06 and late[-1] > 0.9  # the pace: all of it


def test_a_policy_without_a_head_for_what_rests_says_so():
    observations = spaces.Box(-np.inf, np.inf, (G + K * F,), np.float32)
    with pytest.raises(
        ValueError, match="SplitPolicy gives no weights of what rests, as OrderPlace has; take VenuePolicy"
    ):
        POLICIES["SplitPolicy"](observations, PLACE, lambda _: 1e-3)


def test_dark_pools_are_tried_first_and_not_again_in_the_decision():
    """At first a dark pool has the largest displayed part in a first wave, less as time goes, and nothing later."""
    share = th.tensor([[0.6, 0.3, 0.0]]).repeat(3, 1)
    dark = th.tensor([[0.0, 0.0, 1.0]]).repeat(3, 1)
    time_left, wave = th.tensor([[1.0], [0.5], [1.0]]), th.tensor([[0.0], [0.0], [1.0]])
    weights = suggested_logits(share, time_left, wave, dark).exp()
    assert weights[:, 2].tolist() == pytest.approx([1.003, 0.503, 0.003])
    assert weights[:, :2].numpy() == pytest.approx(np.array([[1.003, 0.503]] * 3), abs=1e-6)


def test_the_quick_tanh_is_tanh():
    x = th.linspace(-12.0, 12.0, 2001, requires_grad=True)
    y = QuickTanh()(x * 1.0)
    y.sum().backward()
    th.testing.assert_close(y, th.tanh(x), atol=3e-7, rtol=0)
    th.testing.assert_close(x.grad, 1.0 - th.tanh(x) ** 2, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("baseline", "idle"), [("value", False), ("none", True)])
def test_reinforce_runs_its_critic_only_where_it_has_one(baseline, idle):
    venv = make_vec_env("OrderSplit-v1", "us_equity", 8, seed=0)
    model = REINFORCE(VenuePolicy, venv, baseline=baseline, n_steps=20, seed=0, device="cpu")
    rows = th.as_tensor(venv.reset())
    assert (model.policy(rows)[1] == 0.0).all().item() is idle
    assert (model.policy.predict_values(rows) != 0.0).any()
