"""Exported policies: the answers of `model.predict`, for every policy class, a row or a batch, and from a file."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import threading
from copy import deepcopy
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from sb3_contrib import ARS, QRDQN, TQC, TRPO, CrossQ, MaskablePPO, RecurrentPPO
from sb3_contrib.common.torch_layers import BatchRenorm1d
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

import sor_sb3
from sor_sb3.algorithms.onnx_export import export_onnx, onnx_bytes
from sor_sb3.algorithms.onnx_policy import FORMAT, OnnxPolicy, sealed
from sor_sb3.algorithms.policies import (
    POLICIES,
    MaskableVenuePolicy,
    SplitPolicy,
    VenuePolicy,
)
from sor_sb3.algorithms.registry import algorithm_names, find_algorithm
from sor_sb3.algorithms.reinforce import REINFORCE
from sor_sb3.algorithms.sac_policy import VenueSACPolicy
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.errors import UserError
from sor_sb3.evaluation.evaluator import Evaluator
from sor_sb3.policies.normalisation import NormalizedPolicy

th.set_num_threads(1)

SELECT, SPLIT, EXECUTE, PLACE = "VenueSelect-v1", "OrderSplit-v1", "OrderExecute-v1", "OrderPlace-v1"
ROWS = 300
OFF_POLICY = {"buffer_size": 10, "policy_kwargs": {"net_arch": [16, 12]}}


D = len(MARKET_FEATURES) + 10 * len(VENUE_FEATURES)  # features of us_equity


@cache
def rows_of(market: str) -> np.ndarray:
    """Real observations (300, D) of random orders under way; of every ten, four have halted venues, one all of them."""
    venv = make_vec_env(SPLIT, market=market, n_envs=60, seed=3)
    rng = np.random.default_rng(0)
    seen = [venv.reset()]
    for _ in range(ROWS // 60 - 1):
        seen.append(venv.step(rng.uniform(-1, 1, (60, *venv.action_space.shape)).astype(np.float32))[0])
    rows = np.concatenate(seen)
    is_open = rows[:, len(MARKET_FEATURES) + VENUE_FEATURES.index("open") :: len(VENUE_FEATURES)]
    n_venues = is_open.shape[1]
    is_open[0::10] = 0.0
    is_open[1::10] = np.eye(n_venues)[np.arange(len(rows[1::10])) % n_venues]
    is_open[2::10] *= rng.random(is_open[2::10].shape) < 0.5
    is_open[3::10] *= rng.random(is_open[3::10].shape) < 0.5
    return rows


def exported(model: Any) -> OnnxPolicy:
    return OnnxPolicy(onnx_bytes(model))


def perturbed(model: Any, scale: float = 0.1, seed: int = 0) -> Any:
    """The model with weights away from where they begin, so that nothing is right by accident."""
    generator = th.Generator().manual_seed(seed)
    with th.no_grad():
        for parameter in model.policy.parameters():
            noise = th.randn(parameter.shape, generator=generator)
            parameter.add_(noise * scale / max(1.0, parameter.shape[-1] / 32) ** 0.5 if parameter.ndim else noise * 0.1)
        for module in model.policy.modules():
            if isinstance(module, BatchRenorm1d):
                module.ra_mean.normal_(generator=generator)
                module.ra_var.uniform_(0.1, 3.0, generator=generator)
    return model


def make(algorithm: Any, policy: Any = "MlpPolicy", env: str = SPLIT, market: str = "us_equity", **options: Any) -> Any:
    venv = make_vec_env(env, market=market, n_envs=1, seed=0)
    return perturbed(algorithm(policy, venv, seed=0, **deepcopy(options)))  # SB3 writes into policy_kwargs


def statistics_in(venv: VecNormalize) -> RunningMeanStd:
    """Those of observations, which are one array."""
    assert isinstance(venv.obs_rms, RunningMeanStd)
    return venv.obs_rms


def statistics_of(env: str, market: str) -> VecNormalize:
    """Statistics of features, of which one never varied."""
    venv = VecNormalize(make_vec_env(env, market=market, n_envs=1), clip_obs=3.0, epsilon=1e-6)
    rng = np.random.default_rng(0)
    rms = statistics_in(venv)
    rms.mean, rms.var = rng.normal(size=(2, *rms.mean.shape)) ** 2
    rms.var[3] = 0.0
    return venv


def scores(model: Any, rows: np.ndarray, masks: np.ndarray | None = None) -> np.ndarray:
    """What discrete actions are the best of, (n, A), by the model itself."""
    policy, observations = model.policy, th.as_tensor(rows)
    with th.no_grad():
        if isinstance(model, QRDQN):
            return policy.quantile_net(observations).mean(dim=1).numpy()
        if isinstance(model, DQN):
            return policy.q_net(observations).numpy()
        if isinstance(model, ARS):
            return policy.action_net(observations).numpy()
        extra = {} if masks is None else {"action_masks": masks}
        return policy.get_distribution(observations, **extra).distribution.logits.numpy()


def assert_same_choices(ours: np.ndarray, theirs: np.ndarray, values: np.ndarray) -> None:
    """The same, but where the two are nearly tied for the best."""
    assert ours.dtype == theirs.dtype == np.int64
    assert ours.shape == theirs.shape
    for i in np.flatnonzero(ours != theirs):
        best = values[i].max()
        assert best - values[i, ours[i]] < 1e-5
        assert best - values[i, theirs[i]] < 1e-5


def assert_same(model: Any, fast: OnnxPolicy, rows: np.ndarray, atol: float = 1e-6, **masks: Any) -> None:
    """In batches of several sizes, and one by one."""
    inner = getattr(model, "model", model)
    normalised = model.vec_normalize.normalize_obs(rows) if model is not inner else rows
    for part in (*(slice(n) for n in (1, 2, 7, ROWS)), *range(12)):
        observation, chosen = rows[part], {name: value[part] for name, value in masks.items()}
        theirs, _ = model.predict(observation, deterministic=True, **chosen)
        ours, state = fast.predict(observation, **({"action_masks": None} | chosen))
        assert state is None
        assert type(ours) is np.ndarray
        if isinstance(inner.action_space, spaces.Discrete):
            values = scores(inner, normalised[part].reshape(-1, rows.shape[1]), chosen.get("action_masks"))
            assert ours.shape == theirs.shape
            assert_same_choices(ours.reshape(-1), theirs.reshape(-1), values)
        else:
            assert ours.dtype == theirs.dtype == np.float32
            assert ours.shape == theirs.shape
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol)


# ------------------------------------------------------------------------------------------- every policy class

GSDE = {"use_sde": True, "policy_kwargs": {"squash_output": True, "net_arch": [16]}}
CASES: dict[str, tuple[Any, Any, str, str, dict[str, Any]]] = {
    "ppo": (PPO, "MlpPolicy", SPLIT, "us_equity", {}),
    "ppo execute": (PPO, "MlpPolicy", EXECUTE, "crypto", {}),
    "ppo select": (PPO, "MlpPolicy", SELECT, "us_equity", {}),
    "ppo gsde squashed": (PPO, "MlpPolicy", SPLIT, "dark", GSDE),
    "ppo gsde": (PPO, "MlpPolicy", SPLIT, "dark", {"use_sde": True}),
    "ppo no layers": (PPO, "MlpPolicy", SPLIT, "notebook", {"policy_kwargs": {"net_arch": []}}),
    "ppo vf only": (PPO, "MlpPolicy", SPLIT, "notebook", {"policy_kwargs": {"net_arch": {"vf": [8]}}}),
    "ppo apart": (
        PPO,
        "MlpPolicy",
        SPLIT,
        "notebook",
        {"policy_kwargs": {"net_arch": {"pi": [32, 8, 5], "vf": [4]}, "share_features_extractor": False}},
    ),
    "a2c": (A2C, "MlpPolicy", SPLIT, "tick_bound", {}),
    "a2c select": (A2C, "MlpPolicy", SELECT, "fx_two_dealer", {}),
    "reinforce": (REINFORCE, "MlpPolicy", EXECUTE, "notebook", {}),
    "reinforce select": (REINFORCE, "MlpPolicy", SELECT, "notebook", {}),
    "trpo": (TRPO, "MlpPolicy", SPLIT, "us_equity", {}),
    "maskable ppo": (MaskablePPO, "MlpPolicy", SELECT, "us_equity", {}),
    "sac": (SAC, "MlpPolicy", SPLIT, "us_equity", {"buffer_size": 10}),
    "sac gsde": (SAC, "MlpPolicy", EXECUTE, "notebook", {**OFF_POLICY, "use_sde": True}),
    "tqc": (TQC, "MlpPolicy", SPLIT, "crypto", OFF_POLICY),
    "crossq": (CrossQ, "MlpPolicy", SPLIT, "us_equity", OFF_POLICY),
    "td3": (TD3, "MlpPolicy", EXECUTE, "us_equity", OFF_POLICY),
    "ddpg": (DDPG, "MlpPolicy", SPLIT, "notebook", OFF_POLICY),
    "dqn": (DQN, "MlpPolicy", SELECT, "us_equity", OFF_POLICY),
    "qrdqn": (QRDQN, "MlpPolicy", SELECT, "us_equity", OFF_POLICY),
    "ars": (ARS, "MlpPolicy", SPLIT, "us_equity", {}),
    "ars linear": (ARS, "LinearPolicy", SPLIT, "us_equity", {}),
    "ars linear select": (ARS, "LinearPolicy", SELECT, "us_equity", {}),
    "ars clipped": (ARS, "MlpPolicy", SPLIT, "notebook", {"policy_kwargs": {"squash_output": False}}),
    "venue split": (PPO, VenuePolicy, SPLIT, "us_equity", {}),
    "venue execute": (A2C, VenuePolicy, EXECUTE, "dark", {}),
    "venue select": (REINFORCE, VenuePolicy, SELECT, "us_equity", {}),
    "venue gsde": (PPO, VenuePolicy, SPLIT, "notebook", {"use_sde": True, "policy_kwargs": {"squash_output": True}}),
    "venue tanh": (
        PPO,
        VenuePolicy,
        EXECUTE,
        "crypto",
        {"policy_kwargs": {"hidden": 5, "activation_fn": nn.Tanh}},
    ),
    "ppo place": (PPO, "MlpPolicy", PLACE, "us_equity", {}),
    "venue place": (PPO, VenuePolicy, PLACE, "us_equity", {}),
    "maskable venue": (MaskablePPO, MaskableVenuePolicy, SELECT, "us_equity", {}),
    "split": (PPO, SplitPolicy, SPLIT, "us_equity", {}),
    "split execute": (PPO, SplitPolicy, EXECUTE, "us_equity", {}),
    "split without a prior": (PPO, SplitPolicy, SPLIT, "us_equity", {"policy_kwargs": {"prior": False}}),
    "select without a prior": (PPO, VenuePolicy, SELECT, "us_equity", {"policy_kwargs": {"prior": False}}),
    "split two venues": (PPO, SplitPolicy, EXECUTE, "fx_two_dealer", {}),
    "venue sac": (SAC, VenueSACPolicy, SPLIT, "us_equity", {"buffer_size": 10}),
    "venue sac execute": (SAC, VenueSACPolicy, EXECUTE, "dark", {"buffer_size": 10}),
}


@pytest.mark.parametrize("name", CASES)
def test_answers_are_those_of_the_model(name):
    algorithm, policy, env, market, options = CASES[name]
    model, rows = make(algorithm, policy, env, market, **options), rows_of(market)
    assert_same(model, exported(model), rows)
    normalised = NormalizedPolicy(model, statistics_of(env, market))
    assert_same(normalised, exported(normalised), rows, atol=1e-5)  # features of up to 3: float32 ends sooner


def test_every_algorithm_of_the_registry_is_tried():
    tried = {algorithm for algorithm, *_ in CASES.values()} | {RecurrentPPO}
    assert tried == {find_algorithm(name).load() for name in algorithm_names()}
    classes = {type(make(*case[:4], **case[4]).policy) for case in CASES.values() if isinstance(case[1], type)}
    assert classes == {*POLICIES.values(), VenueSACPolicy}


@pytest.mark.parametrize("policy", ["MlpPolicy", MaskableVenuePolicy])
def test_masks_are_heeded_by_those_who_know_them(policy):
    model, rows = make(MaskablePPO, policy, SELECT), rows_of("us_equity")
    fast = exported(model)
    masks = np.random.default_rng(0).random((ROWS, fast.n_actions)) < 0.4
    masks[:3] = False  # then everything is equally bad
    assert_same(model, fast, rows, action_masks=masks)
    assert len(np.unique(fast.predict(rows, action_masks=masks)[0])) > 1
    assert not np.array_equal(fast.predict(rows, action_masks=masks)[0], fast.predict(rows)[0])
    with pytest.raises(UserError, match="action_masks"):
        fast.predict(rows, action_masks=masks[:, 1:])
    deaf = exported(make(PPO, "MlpPolicy", SELECT))
    np.testing.assert_array_equal(deaf.predict(rows, action_masks=masks)[0], deaf.predict(rows)[0])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("env", [SPLIT, SELECT])
@pytest.mark.parametrize("normalised", [False, True])
def test_recurrent_state_is_carried(env, layers, normalised):
    kwargs = {"lstm_hidden_size": 12, "n_lstm_layers": layers, "net_arch": [8]}
    model, rows = make(RecurrentPPO, "MlpLstmPolicy", env, policy_kwargs=kwargs), rows_of("us_equity")
    if normalised:
        model = NormalizedPolicy(model, statistics_of(env, "us_equity"))
    fast, rng = exported(model), np.random.default_rng(0)
    for n in (1, 7, 130):
        theirs = ours = None
        for step in range(4):
            batch, starts = rows[rng.integers(0, ROWS, n)], rng.random(n) < (1.0 if step == 0 else 0.3)
            given_starts = None if step == 2 else starts
            kept = None if ours is None else [part.copy() for part in ours]
            expected, theirs = model.predict(batch, theirs, given_starts, deterministic=True)
            actions, following = fast.predict(batch, ours, given_starts)
            if kept is not None:  # the state that was handed in is the caller's
                assert all(np.array_equal(a, b) for a, b in zip(ours, kept, strict=True))
            ours = following
            for mine, others in zip((actions, *ours), (expected, *theirs), strict=True):
                assert mine.shape == others.shape
                np.testing.assert_allclose(mine, others, rtol=0, atol=1e-6)
    expected, theirs = model.predict(rows[0], deterministic=True)
    actions, ours = fast.predict(rows[0])
    assert (actions.shape, ours[0].shape) == (expected.shape, theirs[0].shape)
    with pytest.raises(UserError, match="state has shapes"):
        fast.predict(rows[:5], ours)
    with pytest.raises(UserError, match="episode_start"):
        fast.predict(rows[:5], None, np.ones(4))


TANH_GELU = partial(nn.GELU, approximate="tanh")


@pytest.mark.parametrize(
    "activation", [nn.ReLU, nn.LeakyReLU, nn.ELU, nn.SiLU, nn.GELU, TANH_GELU, nn.Sigmoid, nn.ReLU6, nn.Hardtanh]
)
def test_activations(activation):
    for policy, width in (("MlpPolicy", {"net_arch": [16, 16]}), (VenuePolicy, {"hidden": 8})):
        model = make(PPO, policy, SPLIT, "notebook", policy_kwargs={"activation_fn": activation, **width})
        assert_same(model, exported(model), rows_of("notebook"))


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [(PPO, "MlpPolicy", SPLIT), (DQN, "MlpPolicy", SELECT), (SAC, VenueSACPolicy, SPLIT), (PPO, VenuePolicy, EXECUTE)],
)
def test_normalisation_is_inside(algorithm, policy, env):
    venv = VecNormalize(make_vec_env(env, market="us_equity", n_envs=8, seed=0), clip_obs=3.0, epsilon=1e-6)
    rng = np.random.default_rng(0)
    venv.reset()
    for _ in range(20):  # some features never vary: theirs is a scale of 1,000
        venv.step(np.array([venv.action_space.sample() for _ in range(8)]))
    statistics_in(venv).mean[:4] += rng.normal(size=4)
    options = {"buffer_size": 10} if algorithm in (SAC, DQN) else {}
    model = perturbed(algorithm(policy, venv, seed=0, **options), 0.05)
    normalised, rows = NormalizedPolicy(model, venv), rows_of("us_equity")
    assert_same(normalised, exported(normalised), rows)
    fast = exported(model)  # the env carries the statistics
    assert fast.about["normalised"]
    assert_same(normalised, fast, rows)
    before = fast.predict(rows)[0]
    statistics_in(venv).mean[:] = 1e3
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(fast.predict(rows)[0], before)  # a copy of that moment
    venv.norm_obs = False
    assert not exported(model).about["normalised"]
    assert_same(model, exported(model), rows)


def test_other_bounds_of_actions():
    observations = spaces.Box(-np.inf, np.inf, (6,), np.float32)
    actions = spaces.Box(np.array([-2, 0, -0.5], np.float32), np.array([1, 3, 9], np.float32))
    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    for options in ({}, {"use_sde": True, "squash_output": True}):
        policy = ActorCriticPolicy(observations, actions, lambda _: 1e-3, **options)
        with th.no_grad():
            for parameter in policy.parameters():
                parameter.add_(th.randn_like(parameter) * 0.3)
        expected = policy.predict(rows, deterministic=True)[0]
        np.testing.assert_allclose(exported(policy).predict(rows)[0], expected, rtol=0, atol=5e-6)
        assert expected.std(axis=0).min() > 0


_ACTIVATIONS = [nn.Tanh, nn.ReLU, nn.SiLU, nn.ELU, nn.GELU, nn.Sigmoid, nn.Softplus, nn.Mish]


@settings(max_examples=15, deadline=None)
@given(
    widths=st.lists(st.integers(1, 70), max_size=3),
    sizes=st.tuples(st.integers(1, 40), st.integers(1, 9)),
    activation=st.sampled_from(_ACTIVATIONS),
    n=st.integers(1, 300),
    seed=st.integers(0, 2**31),
)
def test_any_network_answers_alike(widths, sizes, activation, n, seed):
    th.manual_seed(seed)
    features, actions = sizes
    observations, box = spaces.Box(-np.inf, np.inf, (features,), np.float32), spaces.Box(-9, 9, (actions,), np.float32)
    policy = ActorCriticPolicy(observations, box, lambda _: 1e-3, net_arch=widths, activation_fn=activation)
    perturbed(SimpleNamespace(policy=policy), 0.3, seed)
    rows = np.random.default_rng(seed).normal(size=(n, features)).astype(np.float32)
    expected = policy.predict(rows, deterministic=True)[0]
    np.testing.assert_allclose(exported(policy).predict(rows)[0], expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------------------ its uses


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [(PPO, "MlpPolicy", SPLIT), (MaskablePPO, MaskableVenuePolicy, SELECT), (RecurrentPPO, "MlpLstmPolicy", SPLIT)],
)
def test_it_is_evaluated_like_any_other(algorithm, policy, env):
    model = make(algorithm, policy, env)
    evaluator = Evaluator(env, "us_equity", 20)
    own, fast = evaluator.score("own", model), evaluator.score("fast", exported(model))
    assert fast.kind == "learned"
    np.testing.assert_allclose(fast.cost, own.cost, rtol=0, atol=1e-2)
    with pytest.raises(UserError, match="deterministic is False"):
        evaluator.score("fast", exported(model), deterministic=False)


def test_observations_of_other_types_and_layouts():
    fast, rows = exported(make(PPO)), rows_of("us_equity")
    expected = fast.predict(rows)[0]
    shown = rows.copy()
    shown.flags.writeable = False
    for other in (rows.astype(np.float64), np.asfortranarray(rows), rows.tolist(), shown, np.repeat(rows, 2, 0)[::2]):
        np.testing.assert_array_equal(fast.predict(other)[0], expected)
    assert fast.predict(rows[:0])[0].shape == (0, fast.n_actions)
    for n in (1, 3, 4, 5, 127, 128, 129, 256, 300):
        np.testing.assert_allclose(fast.predict(rows[:n])[0], expected[:n], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (np.zeros(D - 1), "shape"),
        (np.zeros((2, D + 1)), "shape"),
        (np.zeros((1, 1, D)), "shape"),
        (np.float32(1.0), "shape"),
        ({"row": np.zeros(D)}, "dict"),
        ((np.zeros(D), {}), "tuple"),
        (np.where(np.arange(D) == 5, np.nan, 0.0), "nan at row 0, feature 5"),
        (np.where(np.arange(2 * D) == D + 3, np.inf, 0.0).reshape(2, D), "inf at row 1, feature 3"),
        (np.full(D, 3e38, np.float32), "sum of .* not finite"),
    ],
)
def test_observations_that_cannot_be(observation, words):
    for model in (make(PPO), make(PPO, "MlpPolicy", SELECT)):
        weights = model.policy.action_net.weight
        with th.no_grad():
            weights.mul_(1e38)
        model.policy.mlp_extractor.policy_net = nn.Sequential()
        model.policy.action_net = nn.Linear(D, len(weights))
        with th.no_grad():
            model.policy.action_net.weight.fill_(1.0)
        with pytest.raises(UserError, match=words):
            exported(model).predict(observation)


def test_threads_share_one():
    fast, rows = exported(make(PPO)), rows_of("us_equity")
    expected, wrong = fast.predict(rows)[0], []

    def work(first: int) -> None:
        for i in range(first, ROWS, 4):
            if np.abs(fast.predict(rows[i])[0] - expected[i]).max() > 1e-6:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# --------------------------------------------------------------------------------------------- what is not covered


class MyPolicy(ActorCriticPolicy):
    """Somebody's own."""


class MyExtractor(FlattenExtractor):
    """Somebody's own."""


class MyActivation(nn.Module):
    """Somebody's own."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        return x**3


@pytest.mark.parametrize(
    ("make_model", "words"),
    [
        (lambda: make(PPO, MyPolicy), "PPO with MyPolicy"),
        (lambda: make(PPO, policy_kwargs={"features_extractor_class": MyExtractor}), "MyExtractor"),
        (lambda: make(PPO, policy_kwargs={"activation_fn": MyActivation}), "MyActivation"),
        (lambda: make(PPO, VenuePolicy, policy_kwargs={"activation_fn": MyActivation}), "MyActivation"),
        (lambda: PPO("CnnPolicy", spaces_env(spaces.Box(0, 255, (3, 36, 36), np.uint8))), "ActorCriticCnnPolicy"),
        (lambda: PPO("MultiInputPolicy", spaces_env(spaces.Dict({"a": spaces.Box(0, 1, (2,))}))), "MultiInput"),
        (lambda: PPO("MlpPolicy", spaces_env(spaces.Box(0, 1, (2, 3)))), "rows"),
        (lambda: PPO("MlpPolicy", spaces_env(spaces.Box(0, 1, (2,)), spaces.MultiBinary(3))), "MultiBinary"),
        (lambda: sor_sb3.routers.make("pro_rata", sor_sb3.load_market("notebook"), SPLIT), "no export"),
        (
            lambda: NormalizedPolicy(make(PPO), VecNormalize(make_vec_env(SPLIT, market="notebook"))),
            "VecNormalize is of",
        ),
    ],
)
def test_what_cannot_be_exported(make_model, words):
    model = make_model()
    with pytest.raises(UserError, match=words) as refused:
        exported(model)
    assert "expected" in str(refused.value)


def spaces_env(observations: spaces.Space, actions: spaces.Space | None = None) -> Any:
    import gymnasium as gym

    class Env(gym.Env):
        observation_space = observations
        action_space = actions or spaces.Discrete(2)

    return Env()


def test_weights_that_are_no_numbers():
    model = make(PPO)
    with th.no_grad():
        model.policy.action_net.bias[0] = np.nan
    with pytest.raises(UserError, match="bias is not finite"):
        exported(model)


# ------------------------------------------------------------------------------------------------------- the file


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [
        (PPO, "MlpPolicy", SPLIT),
        (MaskablePPO, MaskableVenuePolicy, SELECT),
        (RecurrentPPO, "MlpLstmPolicy", SPLIT),
        (PPO, SplitPolicy, EXECUTE),
        (CrossQ, "MlpPolicy", SPLIT),
    ],
)
def test_saved_loaded_and_pickled_it_is_the_same(algorithm, policy, env, tmp_path):
    options = OFF_POLICY if algorithm is CrossQ else {}
    model, rows = make(algorithm, policy, env, **options), rows_of("us_equity")
    first = exported(model)
    export_onnx(model, tmp_path / "in" / "policy.onnx")
    assert [file.name for file in (tmp_path / "in").iterdir()] == ["policy.onnx"]
    loaded = OnnxPolicy.load(str(tmp_path / "in" / "policy.onnx"))
    loaded.save(tmp_path / "copy.onnx")
    assert (tmp_path / "copy.onnx").read_bytes() == (tmp_path / "in" / "policy.onnx").read_bytes()
    for other in (loaded, pickle.loads(pickle.dumps(first))):
        np.testing.assert_array_equal(other.predict(rows)[0], first.predict(rows)[0])
        for name in ("n_features", "n_actions", "is_discrete", "takes_masks", "about"):
            assert getattr(other, name) == getattr(first, name)
        assert repr(other) == repr(first)


@pytest.mark.parametrize(
    ("algorithm", "policy", "env"),
    [(PPO, VenuePolicy, EXECUTE), (MaskablePPO, "MlpPolicy", SELECT), (RecurrentPPO, "MlpLstmPolicy", SPLIT)],
)
def test_other_programs_find_names_shapes_and_meaning(algorithm, policy, env, tmp_path):
    file = tmp_path / "policy.onnx"
    venues = [f"V{k}" for k in range(10)]
    export_onnx(make(algorithm, policy, env), file, {"venues": venues, "market": "us_equity"})
    onnx.checker.check_model(onnx.load(file), full_check=True)
    with pytest.raises(UserError, match="names 2 venues; expected 10"):
        onnx_bytes(make(algorithm, policy, env), {"venues": ["A", "B"]})
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["format"] == FORMAT
    assert json.loads(metadata["market"]) == "us_equity"
    types = {"float32": "tensor(float)", "int64": "tensor(int64)", "bool": "tensor(bool)"}
    for found, key in ((session.get_inputs(), "inputs"), (session.get_outputs(), "outputs")):
        told = json.loads(metadata[key])
        assert [(each.name, each.shape, each.type) for each in found] == [
            (name, held["shape"], types[held["type"]]) for name, held in told.items()
        ]
        assert all(held["meaning"] for held in told.values())
    features = json.loads(metadata["inputs"])["observation"]["features"]
    assert len(features) == rows_of("us_equity").shape[1]
    assert features[: len(MARKET_FEATURES) + 1] == [*MARKET_FEATURES, f"V0.{VENUE_FEATURES[0]}"]


_LIVE = """
import sys, json, numpy as np
assert "onnx" not in sys.modules
from sor_sb3 import OnnxPolicy
policy = OnnxPolicy.load(sys.argv[1])
actions = [policy.predict(row)[0].tolist() for row in np.load(sys.argv[2])]
loaded = [name for name in ("torch", "stable_baselines3", "sb3_contrib", "numba", "onnx") if name in sys.modules]
print(json.dumps([actions, loaded]))
"""


def test_a_live_process_needs_no_learner(tmp_path):
    model, rows = make(PPO), rows_of("us_equity")
    export_onnx(model, tmp_path / "policy.onnx")
    np.save(tmp_path / "rows.npy", rows[:2])
    command = [sys.executable, "-c", _LIVE, str(tmp_path / "policy.onnx"), str(tmp_path / "rows.npy")]
    actions, loaded = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert loaded == []
    np.testing.assert_allclose(actions, model.predict(rows[:2], deterministic=True)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("missing", ["onnx", "onnxruntime"])
def test_a_missing_package_is_one_sentence(missing, good_file, monkeypatch):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UserError, match=r"cannot be imported .*: pip install 'sor-sb3\[onnx\]'$"):
        OnnxPolicy.load(good_file) if missing == "onnxruntime" else onnx_bytes(make(PPO, market="notebook"))


@pytest.fixture(scope="module")
def good_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("onnx") / "policy.onnx"
    export_onnx(make(PPO, VenuePolicy, EXECUTE, "notebook", policy_kwargs={"hidden": 4}), file)
    return file


def test_a_folder_is_no_file(good_file, tmp_path):
    policy = OnnxPolicy.load(good_file)
    (tmp_path / "folder").mkdir()
    for write in (policy.save, partial(export_onnx, make(PPO, market="notebook"))):
        with pytest.raises(UserError, match="folder cannot be written"):
            write(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    for wrong in (tmp_path / "folder", tmp_path / "nothing.onnx"):
        with pytest.raises(UserError, match=r"cannot be read \(.*expected a file of sor-sb3 export"):
            OnnxPolicy.load(wrong)


def _foreign(file: Path) -> None:
    node = onnx.helper.make_node("Identity", ["a"], ["b"])
    one, other = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "ab")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([node], "foreign", [one], [other])), file)


def test_a_file_of_another_kind(tmp_path):
    for name, write in {
        "empty": lambda file: file.write_bytes(b""),
        "words": lambda file: file.write_text("not arrays"),
        "array": lambda file: np.save(file.open("wb"), np.zeros(3)),
        "foreign": _foreign,
        "model": lambda file: make(PPO, market="notebook").save(file),
    }.items():
        file = tmp_path / f"{name}.zip"
        write(file)
        with pytest.raises(UserError, match=f"{name}.zip: no policy that sor-sb3 export wrote, or damaged"):
            OnnxPolicy.load(file)


def test_a_damaged_file(good_file, tmp_path):
    whole = good_file.read_bytes()
    file = tmp_path / "damaged.onnx"
    damaged = [whole[:length] for length in range(0, len(whole), max(1, len(whole) // 60))]
    for at in range(0, len(whole), max(1, len(whole) // 150)):
        damaged.append(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
    for content in damaged:
        file.write_bytes(content)
        with pytest.raises(UserError, match="damaged"):
            OnnxPolicy.load(file)


def test_a_file_of_another_version(good_file, tmp_path):
    model = onnx.load(good_file)
    del model.metadata_props[-1]  # the seal
    onnx.helper.set_model_props(model, {"format": "sor_sb3 policy 2"})
    (tmp_path / "later.onnx").write_bytes(sealed(model.SerializeToString()))
    with pytest.raises(UserError, match=f"another version; expected {FORMAT}"):
        OnnxPolicy.load(tmp_path / "later.onnx")


def test_old_names_still_work_and_warn():
    model, rows = make(PPO), rows_of("us_equity")
    with pytest.warns(DeprecationWarning, match=r"fast_policy.* is now .*export_onnx"):
        fast = sor_sb3.fast_policy(model)
    assert_same(model, fast, rows)
    statistics = VecNormalize(make_vec_env(SPLIT, market="us_equity", n_envs=2), clip_obs=3.0)
    statistics_in(statistics).mean += 1.0
    with pytest.warns(DeprecationWarning):
        fast = sor_sb3.fast_policy(model, statistics)
    assert_same(NormalizedPolicy(model, statistics), fast, rows)
    with pytest.warns(DeprecationWarning, match="OnnxPolicy"):
        assert sor_sb3.FastPolicy is OnnxPolicy
