"""The critic of envs that share scenarios, and the advantages computed from it."""

from __future__ import annotations

import numpy as np
import pytest
import torch as th
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import configure

import sor_sb3
from sor_sb3.callbacks.paired_critic import (
    PairedCriticCallback,
    critic_parameters,
    fit_last_layer,
    less_the_others,
    returns_to_go,
    spread_of_scenarios,
)

th.set_num_threads(1)
MARKET, GROUP, N = "us_equity", 4, 32


def make(algorithm=PPO, policy="SplitPolicy", **settings):
    from sor_sb3.algorithms.hyperparameters import policy_of

    settings = {"n_steps": 40, "gamma": 1.0, "gae_lambda": 0.8, "seed": 0, "device": "cpu", **settings}
    if algorithm is not TRPO:
        settings["vf_coef"] = 0.0
    venv = sor_sb3.make_vec_env("OrderSplit-v1", MARKET, N, seed=1, variance_reduction=True, envs_per_scenario=GROUP)
    return algorithm(policy_of(policy), venv, **settings)


class Stop(BaseCallback):
    """Keeps what the rollout's advantages were when the actor was about to learn from them."""

    def _on_step(self):
        return True

    def _on_rollout_end(self):
        buffer = self.model.rollout_buffer  # type: ignore[attr-defined]
        self.advantages, self.values, self.rewards = (
            np.array(getattr(buffer, n)) for n in ("advantages", "values", "rewards")
        )


def test_returns_by_hand():
    rewards = np.array([[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]])
    ends = np.array([[0, 1], [1, 0], [0, 0]])
    last = np.array([10.0, 20.0])
    np.testing.assert_array_equal(returns_to_go(rewards, ends, last), [[3, 1], [2, 26], [14, 24]])
    np.testing.assert_array_equal(returns_to_go(rewards, ends, last, gamma=0.5), [[2, 1], [2, 9], [9, 14]])


def test_what_all_of_a_scenario_share_goes_out():
    rng = np.random.default_rng(0)
    own, luck = rng.normal(size=(5, 12)), rng.normal(size=(5, 3)).repeat(4, axis=1)
    np.testing.assert_allclose(less_the_others(own + luck, 4), less_the_others(own, 4), atol=1e-12)
    np.testing.assert_allclose(less_the_others(own, 4).reshape(5, 3, 4).sum(axis=2), 0.0, atol=1e-12)
    others = own.reshape(5, 3, 4)[:, 0, 1:].mean(axis=1)
    np.testing.assert_allclose(less_the_others(own, 4)[:, 0], own[:, 0] - others)
    assert less_the_others(own, 1) is own


@pytest.mark.parametrize(
    ("algorithm", "settings"), [(PPO, {"batch_size": 320, "n_epochs": 1}), (A2C, {}), (TRPO, {"batch_size": 320})]
)
def test_algorithms_learn_from_the_advantages_of_the_fitted_critic(algorithm, settings):
    model, seen = make(algorithm, **settings), Stop()
    before = [p.clone() for p in critic_parameters(model.policy)]
    actor = {n: p.clone() for n, p in model.policy.named_parameters() if "critic" not in n and "value_net" not in n}
    model.learn(40 * N, callback=[PairedCriticCallback(GROUP), seen])
    np.testing.assert_allclose(seen.advantages.reshape(40, -1, GROUP).sum(axis=2), 0.0, atol=1e-5)
    changed = [not th.equal(a, b) for a, b in zip(before, critic_parameters(model.policy), strict=True)]
    assert any(changed)
    assert any(not th.equal(p, dict(model.policy.named_parameters())[n]) for n, p in actor.items())


def test_the_first_fit_finds_the_level_of_costs():
    """A blank critic says 0; unfilled shares would be free in the first advantages."""
    model, seen = make(), Stop()
    model.learn(40 * N, callback=[PairedCriticCallback(GROUP, updates=0), seen])
    returns = returns_to_go(seen.rewards, np.zeros_like(seen.rewards), np.zeros(N))
    assert seen.values[0].mean() == pytest.approx(returns[0].mean(), rel=0.15)
    assert abs(seen.values[-1]).mean() < abs(seen.values[0]).mean() / 5


def test_least_squares_are_exact_where_they_can_be():
    model = make()
    rows = th.as_tensor(model.env.reset())
    with th.no_grad():
        latent = model.policy.mlp_extractor.forward_critic(rows)
        wanted = latent @ th.linspace(-1, 1, latent.shape[1]) + 0.5
        many = rows.repeat(20, 1) + 0.1 * th.randn(20 * len(rows), rows.shape[1])
        wanted = model.policy.mlp_extractor.forward_critic(many) @ th.linspace(-1, 1, latent.shape[1]) + 0.5
    fit_last_layer(model.policy, many, wanted)
    with th.no_grad():
        np.testing.assert_allclose(model.policy.predict_values(many).ravel(), wanted, atol=0.05)


def test_the_paired_critic_prices_what_is_left():
    """Neighbours that are late must look dearer by what they pay later: the slope that an absolute fit misses."""
    model = make(n_steps=40, batch_size=1280)
    callback, seen = PairedCriticCallback(GROUP, updates=200), Stop()
    model.learn(40 * N * 3, callback=[callback, seen])
    returns = returns_to_go(seen.rewards, np.zeros_like(seen.rewards), np.zeros(N))
    residual = less_the_others(returns - seen.values, GROUP)
    assert (residual**2).mean() < 0.9 * (less_the_others(returns, GROUP) ** 2).mean()


def test_mlp_policies_have_a_critic_of_their_own():
    model, seen = make(policy="MlpPolicy", batch_size=320), Stop()
    model.learn(40 * N, callback=[PairedCriticCallback(GROUP, updates=5), seen])
    assert np.isfinite(seen.values).all()


def test_state_goes_over_into_another_callback():
    one, other = PairedCriticCallback(GROUP, updates=3), PairedCriticCallback(GROUP, updates=3)
    make(batch_size=320).learn(40 * N, callback=one)
    other.set_state(one.get_state())
    make(batch_size=320).learn(1, callback=other)
    assert other._fitted and other._optimizer.state_dict()["state"]


def test_at_power_1_scenarios_count_alike_and_at_power_0_as_they_come():
    """A scenario whose envs differ ten times as much has ten times the advantages, and at power 1 the same ones."""
    rng = np.random.default_rng(0)
    first = rng.normal(size=(6, 4))
    values = np.hstack([first, 10.0 * first + 3.0])
    alike = less_the_others(values, 4) / spread_of_scenarios(values, 4, 1.0)
    assert alike[:, :4] == pytest.approx(alike[:, 4:])
    assert spread_of_scenarios(values, 4, 0.0) == pytest.approx(np.ones_like(values))
    assert spread_of_scenarios(values, 4, 1.0).mean() == pytest.approx(1.0)
    callback = PairedCriticCallback(4)
    assert (callback._spread(values) == 1.0).all()


def test_scenarios_without_differences_are_no_division_by_zero():
    flat = np.zeros((3, 8))
    assert np.isfinite(spread_of_scenarios(flat, 4, 1.0)).all()
    flat[:, 1] = 1.0
    spread = spread_of_scenarios(flat, 4, 1.0)
    assert np.isfinite(1.0 / spread).all() and (spread > 0.0).all()


@pytest.mark.parametrize(("algorithm", "settings"), [(PPO, {"batch_size": 320, "n_epochs": 2}), (A2C, {})])
def test_an_idle_critic_changes_nothing_that_is_learned(algorithm, settings, monkeypatch):
    """SB3's passes neither compute nor differentiate the critic; the weights are those that they would end with."""

    def learned() -> dict[str, th.Tensor]:
        model = make(algorithm, **settings)
        return model.learn(2 * 40 * N, callback=PairedCriticCallback(GROUP, updates=3)).policy.state_dict()

    idle = learned()
    monkeypatch.setattr("sor_sb3.callbacks.paired_critic.leave_critic_idle", lambda policy: None)
    monkeypatch.setattr(PairedCriticCallback, "_let_learn", lambda self, whether: None)
    busy = learned()
    for name, weight in busy.items():
        th.testing.assert_close(idle[name], weight, rtol=1e-4, atol=1e-5)


def test_the_critics_loss_is_that_of_its_own_fit():
    model, seen, recorded = make(batch_size=320), Stop(), []
    model.set_logger(configure(None, []))

    class Look(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            recorded.append(self.logger.name_to_value["train/value_loss"])

    model.learn(40 * N, callback=[PairedCriticCallback(GROUP, updates=3), seen, Look()])
    returns = returns_to_go(seen.rewards, np.zeros_like(seen.rewards), np.zeros(N))
    assert recorded == [pytest.approx(((returns - seen.values) ** 2).mean(), rel=1e-5)]
