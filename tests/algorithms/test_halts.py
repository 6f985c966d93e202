"""Halts: a venue known to be closed gets nothing, all closed is a wait, and on-policy algorithms train through them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecEnvWrapper

from sor_sb3.algorithms.policies import (
    MaskableVenuePolicy,
    SplitPolicy,
    VenuePolicy,
    open_venues,
    venue_inputs,
)
from sor_sb3.algorithms.reinforce import REINFORCE
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import RoutingVecEnv
from sor_sb3.errors import UserError
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.run import check_settings
from sor_sb3.market.loading import load_market
from sor_sb3.market.spec import MarketSpec
from tests.simulator.records import venues_of

th.set_num_threads(1)
G, F, K = len(MARKET_FEATURES), len(VENUE_FEATURES), 5
SIMPLEX = [SplitPolicy]
ALGORITHMS: dict[Any, dict[str, Any]] = {
    PPO: {"n_steps": 16, "batch_size": 64, "n_epochs": 2},
    A2C: {"n_steps": 16},
    TRPO: {"n_steps": 16, "batch_size": 64, "n_critic_updates": 2},
    REINFORCE: {"n_steps": 20},
}


def halting(per_hour: float, duration_s: float) -> MarketSpec:
    market = load_market("us_equity")
    halts = {"halts_per_hour": per_hour, "halt_duration_s": duration_s}
    return market.model_copy(update={"venues": tuple(v.model_copy(update=halts) for v in market.venues)})


def make(policy: Any, pace: bool = False, **kwargs: Any) -> Any:
    observations = spaces.Box(-np.inf, np.inf, (G + K * F,), np.float32)
    return policy(observations, spaces.Box(-1, 1, (K + pace,)), lambda _: 1e-3, **kwargs)


def rows_with(is_open: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(len(is_open), G + K * F)).astype(np.float32)
    rows[:, G + VENUE_FEATURES.index("open") :: F] = is_open
    return rows


class WithPace(VecEnvWrapper):
    """The split env with a pace that it throws away: the action space of an env that has one."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv, action_space=spaces.Box(-1, 1, (venv.action_space.shape[0] + 1,), np.float32))
        self.paces: list[np.ndarray] = []

    def reset(self) -> Any:
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        self.paces.append(actions[:, -1])
        self.venv.step_async(actions[:, :-1])

    def step_wait(self) -> Any:
        return self.venv.step_wait()


class Watched(RoutingVecEnv):
    """Fails where a venue gets weight after its halt was heard."""

    hidden, waits = 0, 0

    def step_async(self, actions: np.ndarray) -> None:
        is_open = venues_of(self.core.simulator)["open"] == 1
        some = is_open.any(axis=1)
        assert (actions[some][~is_open[some]] == 0).all(), "a venue got weight after its halt was heard"
        np.testing.assert_allclose(actions.sum(axis=1), 1.0, rtol=1e-5)
        if (~some).any():
            assert (actions[~some] == np.float32(1 / actions.shape[1])).all()
        self.hidden, self.waits = self.hidden + int((~is_open[some]).sum()), self.waits + int((~some).sum())
        super().step_async(actions)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", SIMPLEX)
def test_no_weight_goes_to_a_venue_whose_halt_was_heard(policy, algorithm):
    venv = Watched("OrderSplit-v1", halting(900, 60), n_envs=16, seed=0)
    model = algorithm(policy, venv, seed=0, device="cpu", policy_kwargs={"hidden": 8}, **ALGORITHMS[algorithm])
    before = [p.detach().clone() for p in model.policy.mlp_extractor.actor.parameters()]
    model.learn(640)
    assert any(not th.equal(a, b) for a, b in zip(before, model.policy.mlp_extractor.actor.parameters(), strict=True))
    assert all(th.isfinite(p).all() for p in model.policy.parameters())
    assert venv.hidden > 500, "nothing was ever halted"
    assert venv.waits > 0, "never was all halted"
    rows: Any = venv.reset()
    for _ in range(20):
        rows, _, _, _ = venv.step(model.predict(rows, deterministic=True)[0])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("policy", SIMPLEX)
def test_a_market_that_is_all_halted_is_a_forced_wait(policy, algorithm):
    venv = Watched("OrderSplit-v1", halting(1e9, 1e9), n_envs=8, seed=0)
    options = {**ALGORITHMS[algorithm], **({"batch_size": 128} if "batch_size" in ALGORITHMS[algorithm] else {})}
    model = algorithm(policy, venv, seed=0, device="cpu", policy_kwargs={"hidden": 8}, **options)
    before = [p.detach().clone() for p in model.policy.mlp_extractor.actor.parameters()]
    model.learn(320)
    for a, b in zip(before, model.policy.mlp_extractor.actor.parameters(), strict=True):
        assert th.equal(a, b)  # nothing can be learned from actions that do nothing
    assert venv.waits == 320 + (-320) % (8 * options["n_steps"])


@pytest.mark.parametrize("policy", SIMPLEX)
@pytest.mark.parametrize("pace", [False, True])
def test_log_probabilities_of_evaluation_are_those_of_the_rollout(policy, pace):
    th.manual_seed(0)
    model = make(policy, pace)
    is_open = np.random.default_rng(1).random((200, K)) < 0.6
    rows = th.as_tensor(rows_with(is_open))
    actions, values, log_prob = model(rows)
    assert actions.shape == (200, K + pace)
    assert (actions[:, :K][~is_open & is_open.any(1, keepdims=True)] == 0).all()
    values_again, log_prob_again, entropy = model.evaluate_actions(rows, actions.detach())
    th.testing.assert_close(log_prob_again, log_prob, rtol=1e-4, atol=1e-4)
    th.testing.assert_close(values_again, values)
    assert th.isfinite(entropy).all()


@pytest.mark.parametrize("policy", SIMPLEX)
def test_deterministic_weights_are_the_softmax_of_the_scores(policy):
    model = make(policy)
    is_open = np.ones((20, K), bool)
    is_open[:10, 2] = False
    rows = rows_with(is_open)
    actions, _ = model.predict(rows, deterministic=True)
    scores = model.mlp_extractor.forward_actor(th.as_tensor(rows)).detach().numpy()
    expected = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(actions, expected, rtol=1e-4, atol=1e-6)
    assert (actions[:10, 2] == 0).all()


@pytest.mark.parametrize("policy", [*SIMPLEX, VenuePolicy])
def test_every_parameter_is_optimised(policy):
    model = make(policy, pace=True, hidden=8)
    held = {id(p) for group in model.optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}


@pytest.mark.parametrize("policy", [*SIMPLEX, VenuePolicy])
def test_an_env_with_a_pace(policy, tmp_path):
    venv = WithPace(RoutingVecEnv("OrderSplit-v1", "us_equity", n_envs=8, seed=0))
    model = PPO(policy, venv, n_steps=16, batch_size=64, n_epochs=2, seed=0, device="cpu")
    pace = model.policy.mlp_extractor.pace.weight
    before = pace.detach().clone()
    model.learn(256)
    assert not th.equal(before, pace)
    paces = np.concatenate(venv.paces)
    assert paces.min() >= -1 and paces.max() <= 1 and paces.std() > 0.1
    model.save(tmp_path / "model")
    rows = venv.reset()
    loaded = PPO.load(tmp_path / "model", device="cpu")
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )


@pytest.mark.parametrize("policy", SIMPLEX)
def test_saves_and_loads_with_its_arguments(policy, tmp_path):
    venv = RoutingVecEnv("OrderSplit-v1", "notebook", n_envs=4, seed=0)
    kwargs = {"hidden": 8, "parts": 4, "concentration": 1.0}
    model = PPO(policy, venv, n_steps=50, batch_size=100, device="cpu", policy_kwargs=kwargs).learn(200)
    model.save(tmp_path / "model")
    loaded = PPO.load(tmp_path / "model", device="cpu")
    rows = venv.reset()
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
    model.policy.save(tmp_path / "policy")
    assert policy.load(tmp_path / "policy").hidden == 8


@pytest.mark.parametrize("policy", SIMPLEX)
def test_foreign_uses_are_refused(policy):
    observations = spaces.Box(-np.inf, np.inf, (G + K * F,), np.float32)
    with pytest.raises(ValueError, match="gives weights over venues"):
        policy(observations, spaces.Discrete(K), lambda _: 1e-3)
    with pytest.raises(ValueError, match="reads the observations"):
        policy(observations, spaces.Box(-1, 1, (K + 2,)), lambda _: 1e-3)
    with pytest.raises(ValueError, match="use_sde"):
        make(policy, use_sde=True)


def test_usable_by_name():
    name = "SplitPolicy"
    market = load_market("notebook")
    for algo in ("ppo", "a2c", "trpo", "reinforce"):
        check_settings(train_config(algo, "OrderSplit-v1", market, 0, settings={"policy": name}))
    config = train_config("ppo", "OrderSplit-v1", market, 0, settings={"policy": name, "normalize": True})
    with pytest.raises(UserError, match="normalize"):
        check_settings(config)
    check_settings(
        train_config("ppo", "OrderSplit-v1", market, 0, settings={"policy": name, "normalize": {"norm_obs": False}})
    )


def test_open_venues_are_read_from_the_row():
    is_open = np.random.default_rng(0).random((50, K)) < 0.5
    inputs = venue_inputs(th.as_tensor(rows_with(is_open)), K)
    np.testing.assert_array_equal(open_venues(inputs).numpy(), is_open)


def test_maskable_ppo_with_the_shared_network_never_takes_a_masked_venue():
    class WatchedSelect(RoutingVecEnv):
        hidden = 0

        def step_async(self, actions: np.ndarray) -> None:
            masks = self.core.action_masks()
            assert masks[np.arange(self.num_envs), actions].all(), "a masked venue was taken"
            self.hidden += int((~masks).sum())
            super().step_async(actions)

    venv = WatchedSelect("VenueSelect-v1", halting(900, 60), n_envs=16, seed=0)
    model = MaskablePPO(MaskableVenuePolicy, venv, n_steps=32, batch_size=256, n_epochs=2, seed=0, device="cpu")
    model.learn(1024)
    assert venv.hidden > 500, "nothing was ever masked"
    rows: Any = venv.reset()
    for _ in range(20):
        masks = np.stack(venv.env_method("action_masks"))
        rows, _, _, _ = venv.step(model.predict(rows, deterministic=True, action_masks=masks)[0])
