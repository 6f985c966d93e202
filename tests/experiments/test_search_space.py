"""What a search may try: the syntax, the shipped spaces, and that a search begins with the defaults."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sor_sb3.algorithms.registry import algorithm_names
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.errors import UserError
from sor_sb3.experiments.config import train_config
from sor_sb3.experiments.search_space import (
    Choice,
    Range,
    check_space,
    combinations,
    parse_choices,
    runs_of,
    size_of,
    space_of,
    tune_config,
    with_params,
)
from sor_sb3.market.loading import load_market
from sor_sb3.policies.registry import find_rule

NOTEBOOK, US_EQUITY, DARK = (load_market(name) for name in ("notebook", "us_equity", "dark"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1e-4..1e-2:log", Range(1e-4, 1e-2, True)),
        ("-2.5..0.0", Range(-2.5, 0.0, False)),
        ("1..8", Range(1, 8, False)),
        ("5|10|20", Choice((5, 10, 20))),
        ("true|false", Choice((True, False))),
        ("null|0.2", Choice((None, 0.2))),
        ("Tanh|ReLU", Choice(("Tanh", "ReLU"))),
        ("[64, 64]|[32]", Choice(("[64, 64]", "[32]"))),
        ("lin_1e-3", Choice(("lin_1e-3",))),
    ],
)
def test_syntax(text, expected):
    assert parse_choices("key", text) == expected


@pytest.mark.parametrize("text", ["", "1..", "a..b", "1..2:lin", "2..1", "1..1", "0..1:log", "1|", "true..false", "[1"])
def test_what_is_no_space_is_one_sentence(text):
    with pytest.raises(UserError, match="key"):
        parse_choices("key", text)


@given(st.lists(st.one_of(st.integers(-9, 9), st.sampled_from(["a", "b", True, None, 0.5])), min_size=1, max_size=5))
def test_choices_are_read_as_they_are_written(values):
    text = "|".join(yaml.safe_dump(value).split("\n")[0] for value in values)
    assert parse_choices("key", text).ends == tuple(values)


def test_params_become_hyperparameters():
    before: dict[str, Any] = {"learning_rate": "lin_1e-3", "n_envs": 4, "n_steps": 10, "policy_kwargs": {"hidden": 8}}
    params = {"learning_rate": 0.0123456, "n_envs": 8, "minibatches": 5, "policy_kwargs.hidden": 16, "x": "[1, 2]"}
    after = with_params(before, {**params, "policy_kwargs.log_std_init": -1.23456})
    assert after == {
        **{"learning_rate": "lin_0.0123", "n_envs": 8, "n_steps": 10, "batch_size": 16, "x": [1, 2]},
        "policy_kwargs": {"hidden": 16, "log_std_init": -1.23},
    }
    assert before["policy_kwargs"] == {"hidden": 8}


def numbers(hyperparameters: dict[str, Any]) -> dict[str, Any]:
    """Top-level settings, with lin_1e-3 and lin_0.001 the same."""
    plain = {key: value for key, value in hyperparameters.items() if key != "policy_kwargs"}
    return {key: f"lin_{float(v[4:]):g}" if str(v).startswith("lin_") else v for key, v in plain.items()}


@pytest.mark.parametrize(
    ("env", "markets"),
    [("VenueSelect-v1", (NOTEBOOK,)), ("OrderSplit-v1", (US_EQUITY, DARK)), ("OrderPlace-v1", (US_EQUITY,))],
)
def test_every_algorithm_begins_with_its_defaults(env, markets):
    for algo in algorithm_names(make_action_adapter(env, 3).space):
        config = tune_config(algo, env, markets)
        assert len(config.space) >= 2, algo
        if len(markets) == 2:
            check_space(config, config.space)
        run = runs_of(config, config.start)[0]
        if len(markets) == 1:
            default = train_config(algo, env, markets[0], 0).hyperparameters
            found = run.hyperparameters
            assert numbers(default).items() <= numbers(found).items(), algo
            assert default.get("policy_kwargs", {}).items() <= found.get("policy_kwargs", {}).items(), algo
        assert run.timesteps == config.hyperparameters["n_timesteps"]


def test_several_markets_have_the_envs_defaults_and_none_of_a_market():
    config = tune_config("ppo", "OrderSplit-v1", [US_EQUITY, DARK], seeds=2)
    assert config.hyperparameters["learning_rate"] == "lin_1e-2"
    runs = runs_of(config, config.start)
    assert [(run.market.name, run.seed) for run in runs] == [
        ("us_equity", 0),
        ("dark", 0),
        ("us_equity", 1),
        ("dark", 1),
    ]


def test_what_is_set_is_not_searched_unless_it_is_named():
    fixed = tune_config("ppo", "OrderSplit-v1", [US_EQUITY], settings={"learning_rate": 0.5})
    assert "learning_rate" not in fixed.space
    assert runs_of(fixed, fixed.start)[0].hyperparameters["learning_rate"] == 0.5
    space = ["learning_rate=1e-4..1e-2:log", "clip_range=0.1|0.3"]
    free = tune_config("ppo", "OrderSplit-v1", [US_EQUITY], settings={"learning_rate": 0.5}, space=space)
    assert free.start["learning_rate"] == 0.5
    assert free.space["clip_range"] == "0.1|0.3|0.2", "the start is among the choices"
    assert free.digest() != fixed.digest()


def test_actions_without_noise_have_no_noise_to_search():
    assert "policy_kwargs.log_std_init" not in tune_config("ppo", "VenueSelect-v1", [NOTEBOOK]).space
    assert (
        "policy_kwargs.hidden"
        not in tune_config("ppo", "VenueSelect-v1", [NOTEBOOK], settings={"policy": "MlpPolicy"}).space
    )


def test_a_rules_constants():
    config = tune_config("dark_first", "OrderSplit-v1", [US_EQUITY])
    rule = find_rule("dark_first")
    assert rule is not None
    space = space_of(config)
    assert {key: part.ends for key, part in space.items()} == rule.constants
    assert size_of(space) == 18
    tried = combinations({key: part for key, part in space.items() if isinstance(part, Choice)}, config.start)
    assert tried[0] == {key: values[0] for key, values in rule.constants.items()}
    assert len({tuple(one.values()) for one in tried}) == 18
    some = tune_config("dark_first", "OrderSplit-v1", [US_EQUITY], settings={"dark_share": 0.3})
    assert list(some.space) == ["least_attention"] and some.hyperparameters == {"dark_share": 0.3}
    wider = tune_config("dark_first", "OrderSplit-v1", [US_EQUITY], space=["dark_share=0.0..1.0"])
    assert size_of(space_of(wider)) == inf


@pytest.mark.parametrize(
    ("algo", "options", "said"),
    [
        ("pppo", {}, "did you mean 'ppo'"),
        (
            "vwap",
            {},
            "rule 'vwap' has no constants to tune; those that have: epsilon_greedy, .*, dark_first, dark_then_sweep",
        ),
        ("dark_first", {"space": ["dark_sahre=0..1"]}, "did you mean 'dark_share'"),
        ("cont_kukanov", {}, "means nothing on us_equity in OrderSplit-v1"),
        ("ppo", {"space": ["lerning_rate=1e-4..1e-2"]}, "did you mean 'learning_rate'"),
        ("ppo", {"space": ["learning_rate=1e-4..5"]}, "learning_rate is 5"),
        ("ppo", {"space": ["policy_kwargs.hiden=1|2"]}, "did you mean 'hidden'"),
        ("ppo", {"space": ["minibatches=0|1"], "settings": {"n_steps": 40}}, "whole numbers of at least 1"),
        ("ppo", {"space": ["minibatches=1|2"]}, "n_steps is episode, which differs by market"),
        ("ppo", {"space": ["learning_rate"]}, "--space learning_rate: expected key=value"),
        ("ppo", {"settings": {"gama": 1}}, "did you mean 'gamma'"),
    ],
)
def test_mistakes(algo, options, said):
    with pytest.raises(UserError, match=said.replace("'", ".")):
        tune_config(algo, "OrderSplit-v1", [US_EQUITY], **options)
    with pytest.raises(UserError, match="each market once"):
        tune_config("ppo", "OrderSplit-v1", [US_EQUITY, US_EQUITY])
