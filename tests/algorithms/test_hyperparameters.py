"""Hyperparameters: what ships, how it is merged, and how ``--set`` is read."""

from __future__ import annotations

from importlib import resources

import pytest
import yaml
from torch import nn

from sor_sb3.algorithms import hyperparameters as hp
from sor_sb3.errors import UserError

FOLDER = resources.files("sor_sb3.algorithms") / "hyperparams"
SHIPPED = sorted(f.name.removesuffix(".yml") for f in FOLDER.iterdir() if f.name.endswith(".yml"))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("env_id", ["VenueSelect-v0", "OrderSplit-v0"])
def test_every_shipped_file_gives_constructor_arguments(name, env_id):
    values = hp.default_hyperparameters(name, env_id, "us_equity")
    assert isinstance(values["n_timesteps"], int)
    assert isinstance(values["n_envs"], int)
    arguments = hp.constructor_arguments(values)
    assert not set(hp.ZOO_KEYS) & set(arguments)
    assert not [v for v in arguments.values() if isinstance(v, str) and v.startswith("lin_")]


def test_an_algorithm_without_a_file_takes_the_others():
    others = yaml.safe_load((FOLDER / "others.yml").read_text(encoding="utf-8"))["default"]
    assert hp.default_hyperparameters("own.module:Own", "OrderSplit-v0", "us_equity") == others


def test_merging_order_is_default_then_env_then_env_at_market(tmp_path, monkeypatch):
    text = """
    default: {n_timesteps: 1, n_envs: 2, gamma: 0.5, ent_coef: 0.0}
    OrderSplit-v0: {gamma: 0.6, ent_coef: 0.1}
    OrderSplit-v0@notebook: {ent_coef: 0.2}
    VenueSelect-v0: {gamma: 0.7}
    """
    (tmp_path / "hyperparams").mkdir()
    (tmp_path / "hyperparams" / "ppo.yml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(hp.resources, "files", lambda package: tmp_path)
    start = {"n_timesteps": 1, "n_envs": 2}
    assert hp.default_hyperparameters("ppo", "OrderSplit-v0", "notebook") == {
        **start,
        "gamma": 0.6,
        "ent_coef": 0.2,
    }
    assert hp.default_hyperparameters("PPO", "OrderSplit-v0", "us_equity") == {
        **start,
        "gamma": 0.6,
        "ent_coef": 0.1,
    }
    assert hp.default_hyperparameters("ppo", "VenueSelect-v0", "notebook") == {
        **start,
        "gamma": 0.7,
        "ent_coef": 0.0,
    }


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("3", 3),
        ("-0.5", -0.5),
        ("true", True),
        ("lin_3e-4", "lin_3e-4"),
        ("[64, 64]", [64, 64]),
        ("{net_arch: [8], activation_fn: Tanh}", {"net_arch": [8], "activation_fn": "Tanh"}),
        ("VenuePolicy", "VenuePolicy"),
        ("", None),
        ("a=b", "a=b"),
    ],
)
def test_set_reads(text, value):
    parsed = hp.parse_settings([f"key={text}"])
    assert parsed == {"key": value}
    assert type(parsed["key"]) is type(value)


def test_set_reads_numbers_inside_lists_and_mappings():
    parsed = hp.parse_settings(["policy_kwargs={log_std_init: -1e-1, optimizer_kwargs: {eps: 1e-5, betas: [9e-1, 1]}}"])
    assert parsed["policy_kwargs"] == {
        "log_std_init": -0.1,
        "optimizer_kwargs": {"eps": 1e-5, "betas": [0.9, 1]},
    }


def test_the_last_set_of_a_key_counts():
    assert hp.parse_settings(["gamma=0.5", "gamma=0.9"]) == {"gamma": 0.9}


@pytest.mark.parametrize("setting", ["gamma", "=1", " =1", "gamma=[1, 2", "gamma={a: 1", "gamma=a: b: c"])
def test_set_refuses(setting):
    with pytest.raises(UserError, match="--set"):
        hp.parse_settings([setting])


def test_set_runs_no_code(tmp_path):
    mark = tmp_path / "mark"
    with pytest.raises(UserError):
        hp.parse_settings([f"key=!!python/object/apply:os.mkdir ['{mark}']"])
    text = f"__import__('os').mkdir('{mark}')"
    assert hp.parse_settings([f"key={text}"])["key"] == text
    hp.constructor_arguments({"key": text, "policy_kwargs": {"net_arch": text}})
    assert not mark.exists()


def test_schedule_falls_linearly_to_zero():
    schedule = hp.linear_schedule("lin_3e-4", "learning_rate")
    assert [schedule(p) for p in (1.0, 0.5, 0.0)] == pytest.approx([3e-4, 1.5e-4, 0.0])
    assert hp.constructor_arguments({"clip_range": "lin_0.2"})["clip_range"](0.5) == pytest.approx(0.1)


def test_misspelt_schedule_names_key_and_value():
    with pytest.raises(UserError, match="learning_rate is 'lin_fast'"):
        hp.constructor_arguments({"learning_rate": "lin_fast"})


@pytest.mark.parametrize("name", ["ReLU", "nn.ReLU"])
def test_activation_names_become_classes(name):
    arguments = hp.constructor_arguments({"policy_kwargs": {"activation_fn": name, "net_arch": [8]}})
    assert arguments["policy_kwargs"] == {"activation_fn": nn.ReLU, "net_arch": [8]}


@pytest.mark.parametrize("name", ["Relu", "functional", "__import__"])
def test_unknown_activation_is_a_user_error(name):
    with pytest.raises(UserError, match=f"activation_fn is '{name}'"):
        hp.constructor_arguments({"policy_kwargs": {"activation_fn": name}})


def test_policy_kwargs_must_be_a_mapping():
    with pytest.raises(UserError, match="policy_kwargs is 3"):
        hp.constructor_arguments({"policy_kwargs": 3})


def test_constructor_arguments_leave_the_hyperparameters_alone():
    values = {"learning_rate": "lin_1e-3", "policy_kwargs": {"activation_fn": "ReLU"}, "n_envs": 2}
    hp.constructor_arguments(values)
    assert values == {"learning_rate": "lin_1e-3", "policy_kwargs": {"activation_fn": "ReLU"}, "n_envs": 2}
