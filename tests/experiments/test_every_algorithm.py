"""Every algorithm of the registry on every env that it fits: 20,000 steps, save, load, the same actions, a score."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th

import sor_sb3
from sor_sb3.algorithms.registry import algorithm_names
from sor_sb3.envs import ENV_IDS
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.config import TrainConfig, train_config
from sor_sb3.experiments.run import load_policy, train
from sor_sb3.market.loading import load_market

th.set_num_threads(1)

STEPS = 20_000
SMALL = {"net_arch": [8]}
ON_POLICY = {"n_envs": 100, "n_steps": 50}
OFF_POLICY = {  # a gradient step every 500 steps keeps twenty thousand of them short
    "n_envs": 100,
    "learning_starts": 500,
    "buffer_size": 5000,
    "batch_size": 32,
    "train_freq": 5,
    "gradient_steps": 1,
    "policy_kwargs": SMALL,
}
QUICK: dict[str, dict[str, Any]] = {
    **{algo: {**ON_POLICY, "batch_size": 1000} for algo in ("ppo", "maskableppo", "trpo")},
    **dict.fromkeys(("a2c", "reinforce"), ON_POLICY),
    "recurrentppo": {**ON_POLICY, "batch_size": 1000, "n_epochs": 1, "policy_kwargs": {**SMALL, "lstm_hidden_size": 8}},
    "sac": {**OFF_POLICY, "policy_kwargs": {"hidden": 8}},
    **dict.fromkeys(("td3", "ddpg", "tqc", "crossq", "dqn", "qrdqn"), OFF_POLICY),
    "ars": {},
}
FITTING = [(algo, env_id) for env_id in ENV_IDS for algo in algorithm_names(make_action_adapter(env_id, 3).space)]


def first_env(algo: str) -> str:
    """The env in which an algorithm is tried by default; the others that it fits are slow tests."""
    fitting = [env_id for name, env_id in FITTING if name == algo]
    return "OrderSplit-v1" if "OrderSplit-v1" in fitting else fitting[0]


def quick_config(algo: str, env_id: str) -> TrainConfig:
    rests = make_action_adapter(env_id, 3).rests  # needs traded volume, and has no VenueSACPolicy
    settings = QUICK[algo] | ({"policy_kwargs": SMALL} if rests and algo == "sac" else {})
    config = train_config(algo, env_id, load_market("us_equity" if rests else "notebook"), 0, STEPS, None, settings)
    return config.model_copy(update={"validation_scenarios": 20, "evaluations": 2})


def test_none_is_left_out():
    assert {algo for algo, _ in FITTING} == set(algorithm_names()) == set(QUICK)


@pytest.mark.parametrize(
    ("algo", "env_id"),
    [pytest.param(*pair, marks=[] if pair[1] == first_env(pair[0]) else pytest.mark.slow) for pair in FITTING],
)
def test_trains_saves_loads_predicts_and_is_scored(algo, env_id, tmp_path):
    config = quick_config(algo, env_id)
    model = train(config, tmp_path)
    assert model.num_timesteps >= STEPS
    assert model._n_updates > 0

    rows = Evaluator(env_id, config.market, 64, 5, "validation").start()
    loaded = load_policy(config, tmp_path, best=False)
    actions, _ = model.predict(rows, deterministic=True)
    np.testing.assert_array_equal(loaded.predict(rows, deterministic=True)[0], actions)
    assert all(make_action_adapter(env_id, config.market.n_venues).space.contains(action) for action in actions)
    best = Evaluator(env_id, config.market, 20, 1, "validation").score("best", load_policy(config, tmp_path))
    with np.load(tmp_path / "evaluations.npz") as log:
        assert best.cost.mean() == pytest.approx(-log["results"].mean(axis=1).max(), rel=1e-6)

    result = sor_sb3.evaluate({algo: loaded, "random": "random"}, env=env_id, market=config.market, scenarios=50)
    assert np.isfinite(result.cost(algo).mean)
    assert result.scores[algo].kind == "learned"
