"""Algorithms by name: spelling, action spaces, classes from elsewhere."""

from __future__ import annotations

import pytest
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm

from sor_sb3.algorithms import registry
from sor_sb3.algorithms.registry import algorithm_names, find_algorithm, register_algorithm
from sor_sb3.errors import UserError
from sor_sb3.experiments.training import train_config
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
    assert train_config(name, "OrderSplit-v0", market, 0) == train_config("ppo", "OrderSplit-v0", market, 0)


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
    config = train_config("stable_baselines3:PPO", "OrderSplit-v0", load_market("notebook"), 0)
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


@pytest.mark.parametrize("name", ["my-own", "My_Own"])
def test_a_registered_name_with_dashes_is_found(own_registry, name):
    register_algorithm(name, "stable_baselines3:PPO")
    assert find_algorithm(name).load() is PPO
