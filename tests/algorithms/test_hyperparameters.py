"""Hyperparameters: what ships, how it is merged, and how ``--set`` is read."""

from __future__ import annotations

import inspect
import json
from importlib import resources
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import SAC
from torch import nn

from sor_sb3.algorithms import hyperparameters as hp
from sor_sb3.algorithms.registry import algorithm_names, find_algorithm
from sor_sb3.envs.action_adapters import make_action_adapter
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.market.loading import load_market

FOLDER = resources.files("sor_sb3.algorithms") / "hyperparams"
SHIPPED = sorted(f.name.removesuffix(".yml") for f in FOLDER.iterdir() if f.name.endswith(".yml"))


@pytest.mark.parametrize("name", SHIPPED)
@pytest.mark.parametrize("env_id", ["VenueSelect-v1", "OrderSplit-v1"])
def test_every_shipped_file_gives_constructor_arguments(name, env_id):
    values = hp.default_hyperparameters(name, env_id, "us_equity")
    assert isinstance(values["n_timesteps"], int)
    assert isinstance(values["n_envs"], int)
    arguments = hp.constructor_arguments(values)
    assert not set(hp.ZOO_KEYS) & set(arguments)
    assert not [v for v in arguments.values() if isinstance(v, str) and v.startswith("lin_")]


def test_an_algorithm_without_a_file_takes_the_others():
    others = yaml.safe_load((FOLDER / "others.yml").read_text(encoding="utf-8"))["default"]
    assert hp.default_hyperparameters("own.module:Own", "OrderSplit-v1", "us_equity") == others


def test_merging_order_is_default_then_env_then_env_at_market(tmp_path, monkeypatch):
    text = """
    default: {n_timesteps: 1, n_envs: 2, gamma: 0.5, ent_coef: 0.0}
    OrderSplit-v1: {gamma: 0.6, ent_coef: 0.1}
    OrderSplit-v1@notebook: {ent_coef: 0.2}
    VenueSelect-v1: {gamma: 0.7}
    """
    (tmp_path / "hyperparams").mkdir()
    (tmp_path / "hyperparams" / "ppo.yml").write_text(text, encoding="utf-8")
    monkeypatch.setattr(hp.resources, "files", lambda package: tmp_path)
    start = {"n_timesteps": 1, "n_envs": 2}
    assert hp.default_hyperparameters("ppo", "OrderSplit-v1", "notebook") == {
        **start,
        "gamma": 0.6,
        "ent_coef": 0.2,
    }
    assert hp.default_hyperparameters("PPO", "OrderSplit-v1", "us_equity") == {
        **start,
        "gamma": 0.6,
        "ent_coef": 0.1,
    }
    assert hp.default_hyperparameters("ppo", "VenueSelect-v1", "notebook") == {
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


# --- settings against the constructor -------------------------------------------------------------

NOTEBOOK = load_market("notebook")
ALGORITHMS = algorithm_names()


def completed(algo: str, *settings: str, **options: Any) -> dict[str, Any]:
    space = make_action_adapter("OrderSplit-v1", 3).space
    env = "OrderSplit-v1" if find_algorithm(algo).fits(space) else "VenueSelect-v1"
    return hp.complete_hyperparameters(algo, env, NOTEBOOK, hp.parse_settings(list(settings)), **options)


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_defaults_of_every_algorithm_pass_the_check(algo):
    values = completed(algo, n_envs=4, timesteps=400)
    assert (values["n_envs"], values["n_timesteps"]) == (4, 400)
    assert hp.check_hyperparameters(find_algorithm(algo).load(), values) == values


@pytest.mark.parametrize("market", ["us_equity", "crypto", "notebook_blind"])
@pytest.mark.parametrize("env", ["OrderSplit-v1", "VenueSelect-v1", "OrderExecute-v1", "OrderPlace-v1"])
@pytest.mark.parametrize("algo", ["ppo", "reinforce", "a2c"])
def test_shipped_defaults_are_not_changed_by_the_check(algo, env, market):
    shipped = hp.default_hyperparameters(algo, env, market)
    values = hp.complete_hyperparameters(algo, env, load_market(market), {})
    for key in shipped.keys() - {"n_steps", "envs_per_scenario"}:
        assert values[key] == shipped[key] and type(values[key]) is type(shipped[key])


@pytest.mark.parametrize("algo", ALGORITHMS)
def test_whole_numbers_may_be_written_as_decimals_in_every_algorithm(algo):
    signature = inspect.signature(find_algorithm(algo).load().__init__).parameters
    whole = [key for key in ("batch_size", "n_epochs", "n_steps", "train_freq", "n_delta") if key in signature]
    assert whole
    for key in whole:
        values = completed(algo, f"{key}=2e1")
        assert values[key] == 20 and type(values[key]) is int
        assert completed(algo, f"{key}=20.0") == values


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("gama=0.9", "is no setting of"),
        ("learning_rate=.inf", "learning_rate is inf; expected a number"),
        ("learning_rate=nan", "learning_rate is 'nan'; expected a number"),
        ("learning_rate=fast", "learning_rate is 'fast'; expected a number"),
        ("learning_rate=-1", "expected a number from 0 to 1"),
        ("learning_rate=lin_-1", "learning_rate is -1.0; expected a number from 0 to 1"),
        ("learning_rate=lin_inf", "learning_rate is inf; expected a number from 0 to 1"),
        ("learning_rate=[1]", "learning_rate is [1]; expected a number"),
        ("learning_rate=true", "learning_rate is True; expected a number"),
        ("seed=3", "seed is no setting of"),
        ("n_envs=0", "n_envs is 0; expected a number from 1"),
        ("n_envs=1.5", "n_envs is 1.5; expected a whole number"),
        ("n_timesteps=many", "n_timesteps is 'many'; expected a whole number"),
        ("envs_per_scenario=-1", "envs_per_scenario is -1; expected a number from 1"),
        ("normalize={foo: 1}", "normalize.foo is no setting of VecNormalize; expected one of clip_obs"),
        ("normalize={norm_obs: 3}", "normalize.norm_obs is 3; expected true or false"),
        ("normalize={clip_obs: -1}", "normalize.clip_obs is -1"),
        ("normalize=perhaps", "normalize is 'perhaps'; expected true or false or a mapping"),
        ("policy=Mlp", "policy is 'Mlp'"),
        ("policy=3", "policy is 3; expected a word"),
        ("policy_kwargs=3", "policy_kwargs is 3; expected a mapping"),
        ("variance_reduction=3", "variance_reduction is 3; expected true or false"),
    ],
)
def test_a_wrong_setting_is_one_sentence_in_every_algorithm(algo, setting, said):
    with pytest.raises(UserError) as caught:
        completed(algo, setting)
    assert said in str(caught.value) and str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("algo", "setting", "said"),
    [
        ("ppo", "gamma=lin_0.9", "gamma is 'lin_0.9'; expected a number"),
        ("ppo", "gamma=1.1", "gamma is 1.1; expected a number from 0 to 1"),
        ("ppo", "batch_size=-64", "batch_size is -64; expected a number from 1"),
        ("ppo", "batch_size=0", "batch_size is 0; expected a number from 1"),
        ("ppo", "batch_size=1.5", "batch_size is 1.5; expected a whole number"),
        ("ppo", "batch_size=true", "batch_size is True; expected a whole number"),
        ("ppo", "batch_size=", "batch_size is None; expected a whole number"),
        ("ppo", "n_steps=1e300", "n_steps is 1e+300; expected a whole number"),
        ("ppo", "normalize_advantage=maybe", "expected true or false"),
        ("ppo", "clip_range=0", "clip_range is 0.0; expected a number from 1e-09"),
        ("ppo", "rollout_buffer_class=mine", "which only Python can give"),
        (
            "ppo",
            "policy_kwargs={hiden: 8}",
            "policy_kwargs.hiden is no setting of SplitPolicy (did you mean 'hidden'?)",
        ),
        ("ppo", "policy_kwargs={hidden: 8.5}", "policy_kwargs.hidden is 8.5; expected a whole number"),
        ("ppo", "policy_kwargs={hidden: 1e6}", "policy_kwargs.hidden is 1000000; expected a number from 1 to 10000"),
        (
            "ppo",
            "policy_kwargs={hidden: 8, activation_fn: Module}",
            "activation_fn is 'Module'; expected an activation",
        ),
        ("ppo", "policy_kwargs={activation_fn: 3}", "policy_kwargs.activation_fn is 3"),
        ("a2c", "policy_kwargs={optimizer_kwargs: {eps: .nan}}", "policy_kwargs.optimizer_kwargs.eps is nan"),
        ("reinforce", "baseline=mena", "baseline is 'mena'; expected one of none, mean, value"),
        ("sac", "learning_starts=-1", "learning_starts is -1; expected a number from 0"),
        ("sac", "train_freq=[1, episode]", "train_freq is [1, 'episode']; expected steps"),
        ("dqn", "exploration_fraction=0", "exploration_fraction is 0.0; expected a number from 1e-09 to 1"),
        ("dqn", "buffer_size=1e12", "buffer_size is 1000000000000; expected a number from 1 to 1e+08"),
    ],
)
def test_a_wrong_setting_of_one_algorithm_is_one_sentence(algo, setting, said):
    with pytest.raises(UserError) as caught:
        completed(algo, setting)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("algo", "setting", "value"),
    [
        ("ppo", "learning_rate=lin_1e-3", "lin_1e-3"),
        ("ppo", "clip_range=lin_0.2", "lin_0.2"),
        ("ppo", "target_kl=null", None),
        ("ppo", "gamma=1", 1.0),
        ("sac", "ent_coef=auto_0.1", "auto_0.1"),
        ("sac", "ent_coef=1e-3", 0.001),
        ("sac", "gradient_steps=-1", -1),
        ("sac", "train_freq=[2.0, step]", [2, "step"]),
        ("reinforce", "baseline=mean", "mean"),
        ("td3", "policy_kwargs={net_arch: {pi: [8.0], qf: [1e1]}}", {"net_arch": {"pi": [8], "qf": [10]}}),
        ("ppo", "normalize={norm_reward: false, clip_obs: 5}", {"norm_reward": False, "clip_obs": 5.0}),
    ],
)
def test_a_right_setting_is_taken(algo, setting, value):
    found = completed(algo, setting)[setting.partition("=")[0]]
    assert found == value and type(found) is type(value)
    assert json.loads(json.dumps(found)) == found


def test_a_frequency_in_steps_reaches_the_algorithm():
    arguments = hp.constructor_arguments(completed("sac", "train_freq=[2.0, step]", "policy=MlpPolicy"))
    assert arguments["train_freq"] == (2, "step")
    model = SAC(
        "MlpPolicy", make_vec_env("OrderSplit-v1", NOTEBOOK, 2), buffer_size=10, train_freq=arguments["train_freq"]
    )
    assert model.train_freq.frequency == 2


def test_settings_of_ones_own_algorithm_are_checked_by_its_defaults():
    class Own:
        def __init__(self, policy, env, rate=0.1, size=3, flag=False, other=None, **more):
            pass

    values = {"rate": 1, "size": 3.0, "other": [1], "unknown": 2}
    assert hp.check_hyperparameters(Own, values) == {**values, "size": 3}
    for wrong in ({"size": "2"}, {"rate": "x"}, {"flag": 2}, {"size": -1}, {"unknown": float("nan")}):
        with pytest.raises(UserError):
            hp.check_hyperparameters(Own, wrong)


VALUES = st.one_of(
    st.sampled_from(
        ["lin_0.1", "lin_x", "auto", "ReLU", "", None, True, {}, {"a": 1}, [1, "step"], {"net_arch": [4.0]}]
    ),
    st.integers(-(10**12), 10**12),
    st.floats(),
    st.text(max_size=10),
    st.recursive(st.floats() | st.text(max_size=3), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)),
)


def check_random_settings(algo: str, data: Any) -> None:
    algorithm = find_algorithm(algo).load()
    keys = [*hp.ZOO_KEYS, *inspect.signature(algorithm.__init__).parameters, "policy_kwargs", "gama"]
    values = data.draw(st.dictionaries(st.sampled_from(keys), VALUES, min_size=1, max_size=4))
    try:
        checked = hp.check_hyperparameters(algorithm, values)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 3000
        return
    assert hp.check_hyperparameters(algorithm, checked) == checked, "what was taken is taken again"
    hp.constructor_arguments(checked)


@settings(deadline=None)
@given(st.sampled_from(ALGORITHMS), st.data())
def test_any_settings_are_taken_or_one_sentence(algo, data):
    check_random_settings(algo, data)


@pytest.mark.slow
@settings(deadline=None, max_examples=10_000)
@given(st.sampled_from(ALGORITHMS), st.data())
def test_ten_thousand_settings_are_taken_or_one_sentence(algo, data):
    check_random_settings(algo, data)
