"""Algorithms by name: spelling, action spaces, classes from elsewhere."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sor_sb3.algorithms import registry
from sor_sb3.algorithms.registry import algorithm_names, find_algorithm, register_algorithm
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.experiments.comparison import compare
from sor_sb3.experiments.config import compare_config, train_config
from sor_sb3.experiments.run import load_policy, train
from sor_sb3.market.loading import load_market

BOX, DISCRETE = spaces.Box(-1, 1, (3,)), spaces.Discrete(3)


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_ALGORITHMS", dict(registry._ALGORITHMS))


@pytest.mark.parametrize("name", algorithm_names())
def test_every_registered_algorithm_imports(name):
    assert issubclass(find_algorithm(name).load(), BaseAlgorithm)


@pytest.mark.parametrize("name", ["recurrentppo", "RecurrentPPO", "recurrent-ppo", "Recurrent_PPO"])
def test_case_and_dashes_do_not_matter(name):
    assert find_algorithm(name).name == "recurrentppo"


@pytest.mark.parametrize("name", ["PPO", "p-po", "p_po"])
def test_a_config_names_an_algorithm_one_way(name):
    market = load_market("notebook")
    assert train_config(name, "OrderSplit-v1", market, 0) == train_config("ppo", "OrderSplit-v1", market, 0)


def test_names_by_action_space():
    assert "sac" in algorithm_names(BOX)
    assert "dqn" not in algorithm_names(BOX)
    assert "dqn" in algorithm_names(DISCRETE)
    assert "sac" not in algorithm_names(DISCRETE)
    assert {"ppo", "a2c", "reinforce"} <= set(algorithm_names(BOX)) & set(algorithm_names(DISCRETE))


@pytest.mark.parametrize(("name", "space"), [("dqn", BOX), ("qrdqn", BOX), ("maskableppo", BOX), ("sac", DISCRETE)])
def test_what_does_not_fit_is_refused_with_those_that_do(name, space):
    with pytest.raises(UserError, match=f"'{name}' does not fit") as caught:
        find_algorithm(name, space)
    for other in algorithm_names(space):
        assert other in str(caught.value)


def test_unknown_name_is_refused_with_a_suggestion():
    with pytest.raises(UserError, match="did you mean 'reinforce'"):
        find_algorithm("reinfroce")


def test_class_by_module_and_name():
    assert find_algorithm("stable_baselines3:PPO", BOX).load() is PPO


def test_config_keeps_the_case_of_module_and_class():
    config = train_config("stable_baselines3:PPO", "OrderSplit-v1", load_market("notebook"), 0)
    assert find_algorithm(config.algo).load() is PPO


@pytest.mark.parametrize("where", ["no_such_module:PPO", "stable_baselines3:PPPO"])
def test_class_that_cannot_be_imported(where):
    with pytest.raises(UserError, match="cannot be imported"):
        find_algorithm(where).load()


class Own(PPO):
    """A class of the user's."""


def test_register_a_class(own_registry):
    register_algorithm("Own", Own, ("Box",))
    assert find_algorithm("own", BOX).load() is Own
    assert "own" not in algorithm_names(DISCRETE)
    with pytest.raises(UserError, match="does not fit"):
        find_algorithm("own", DISCRETE)


def test_a_registered_class_is_kept_in_configs_by_where_it_is(own_registry):
    """So that the config means the same in a process that has registered nothing."""
    register_algorithm("own", Own, ("Box",))
    config = train_config("own", "OrderSplit-v1", load_market("notebook"), 0)
    assert config.algo == f"{__name__}:Own"
    assert train_config(config.algo, "OrderSplit-v1", load_market("notebook"), 0) == config
    with pytest.raises(UserError, match="does not fit"):
        find_algorithm(config.algo, DISCRETE)


def test_a_registered_class_trains_in_a_comparisons_processes(own_registry, tmp_path):
    register_algorithm("own", Own, ("Box",))
    small = {"n_steps": 50, "batch_size": 100, "n_epochs": 1}
    config = compare_config(load_market("notebook"), "OrderSplit-v1", ["own"], 1, 0, 200, 4, 10, small)
    results = compare(config, tmp_path, workers=1)
    learned = [policy["name"] for policy in results["policies"] if policy["kind"] == "learned"]
    assert learned == [f"{__name__}:Own"]


class Outer:
    """Holds a class."""

    class Inner(PPO):
        """A class inside another."""


def test_a_class_inside_a_class(own_registry):
    register_algorithm("inner", Outer.Inner)
    assert find_algorithm("inner").load() is Outer.Inner


def test_what_another_process_could_not_import_is_refused(own_registry):
    class Local(PPO):
        """Nobody else can import this."""

    for algorithm in (Local, "stable_baselines3.PPO"):
        with pytest.raises(UserError, match=r"package\.module:Class"):
            register_algorithm("local", algorithm)


def test_an_optional_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sbx", None)
    with pytest.raises(UserError, match="pip install sbx-rl") as caught:
        find_algorithm("sbx:PPO").load()
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(find_spec("sbx") is None, reason="needs sbx")
@pytest.mark.parametrize(
    ("algo", "env_id"), [("sbx:PPO", "OrderSplit-v1"), ("sbx:SAC", "OrderSplit-v1"), ("sbx:DQN", "VenueSelect-v1")]
)
def test_sbx_trains_saves_and_loads(algo, env_id, tmp_path):
    settings = {"batch_size": 64, **({"n_steps": 50} if algo == "sbx:PPO" else {"learning_starts": 100})}
    config = train_config(algo, env_id, load_market("notebook"), 0, 400, 4, settings)
    model = train(config, tmp_path)
    rows = Evaluator(env_id, config.market, 16, 5, "validation").start()
    loaded = load_policy(config, tmp_path, best=False)
    np.testing.assert_array_equal(
        loaded.predict(rows, deterministic=True)[0], model.predict(rows, deterministic=True)[0]
    )
    assert load_policy(config, tmp_path) is not None


@pytest.mark.parametrize("name", ["my-own", "My_Own"])
def test_a_registered_name_with_dashes_is_found(own_registry, name):
    register_algorithm(name, "stable_baselines3:PPO")
    assert find_algorithm(name).load() is PPO
