"""Policies without marks: order and number of venues change nothing but the order and number of what they answer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import PPO

from sor_sb3.algorithms.onnx_export import onnx_bytes
from sor_sb3.algorithms.onnx_policy import OnnxPolicy
from sor_sb3.algorithms.policies import POLICIES, MaskableVenuePolicy, VenuePolicy
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES
from sor_sb3.envs.sb3_vec_env import make_vec_env

G, F, MOST = len(MARKET_FEATURES), len(VENUE_FEATURES), 7
th.set_num_threads(1)
SPLIT, EXECUTE, PLACE, SELECT = "split", "execute", "place", "select"
CASES = [(name, kind) for name in ("VenuePolicy", "SplitPolicy") for kind in (SPLIT, EXECUTE)]
CASES += [("VenuePolicy", PLACE), ("VenuePolicy", SELECT), ("MaskableVenuePolicy", SELECT)]


def actions_of(kind: str, k: int) -> spaces.Space:
    sizes = {SPLIT: k, EXECUTE: k + 1, PLACE: 2 * k + 1}
    return spaces.Discrete(k) if kind == SELECT else spaces.Box(-1, 1, (sizes[kind],), np.float32)


def policy(name: str, kind: str, k: int, weights: Any = None, marks: bool = False) -> Any:
    th.manual_seed(0)
    observations = spaces.Box(-np.inf, np.inf, (G + k * F,), np.float32)
    model = POLICIES[name](observations, actions_of(kind, k), lambda _: 1e-3, hidden=8, marks=marks)
    if weights is None:
        with th.no_grad():  # as if trained: what is small at first is not
            for parameter in model.mlp_extractor.parameters():
                parameter.add_(0.2 * th.randn_like(parameter))
    else:
        model.load_state_dict(weights)
    return model.eval()


def rows_of(seed: int, k: int, n: int = 5) -> th.Tensor:
    generator = th.Generator().manual_seed(seed)
    rows = th.rand(n, G + k * F, generator=generator)
    for name in ("open", "dark", "in_flight", "reject"):
        at = slice(G + VENUE_FEATURES.index(name), None, F)
        rows[:, at] = (rows[:, at] > 0.3).float()
    return rows


def reordered(rows: th.Tensor, order: th.Tensor) -> th.Tensor:
    venues = rows[:, G:].reshape(len(rows), -1, F)[:, order]
    return th.cat([rows[:, :G], venues.reshape(len(rows), -1)], dim=1)


def parts(actions: th.Tensor, kind: str, k: int) -> list[th.Tensor]:
    """What an action says of venues, part by part, then of none."""
    return [
        actions[:, :k],
        *([actions[:, k : 2 * k]] if kind == PLACE else []),
        actions[:, k * (1 + (kind == PLACE)) :],
    ]


def modes(model: Any, rows: th.Tensor, kind: str) -> tuple[th.Tensor, th.Tensor]:
    """Modes of actions, or of a choice its probabilities; and values."""
    with th.no_grad():
        found = model.get_distribution(rows)
        return (found.distribution.probs if kind == SELECT else found.mode()), model.predict_values(rows)


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(2, MOST))
def test_permuting_venues_permutes_actions(name, kind, seed, k):
    model, rows = policy(name, kind, k), rows_of(seed, k)
    order = th.randperm(k, generator=th.Generator().manual_seed(seed))
    before, value = modes(model, rows, kind)
    after, value_after = modes(model, reordered(rows, order), kind)
    *venues, rest = parts(before, kind, k)
    *venues_after, rest_after = parts(after, kind, k)
    for mine, theirs in zip(venues, venues_after, strict=True):
        th.testing.assert_close(theirs, mine[:, order], atol=1e-6, rtol=1e-6)
    th.testing.assert_close(rest_after, rest, atol=1e-6, rtol=1e-6)
    th.testing.assert_close(value_after, value, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "kind"), CASES)
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), k=st.integers(2, MOST - 1))
def test_the_same_weights_fit_any_number_of_venues_and_blank_ones_change_nothing(name, kind, seed, k):
    small = policy(name, kind, k)
    large, rows = policy(name, kind, MOST, small.state_dict()), rows_of(seed, k)
    padded = th.cat([rows, th.zeros(len(rows), (MOST - k) * F)], dim=1)
    (mode, value), (mode_padded, value_padded) = modes(small, rows, kind), modes(large, padded, kind)
    *venues, rest = parts(mode, kind, k)
    *venues_padded, rest_padded = parts(mode_padded, kind, MOST)
    some_open = (rows[:, G::F] > 0.5).any(dim=1) | (name == "VenuePolicy")  # else a forced wait, uniform over rows
    for mine, theirs in zip(venues, venues_padded, strict=True):
        th.testing.assert_close(theirs[some_open, :k], mine[some_open], atol=1e-6, rtol=1e-6)
        assert not theirs[some_open, k:].any()
    th.testing.assert_close(rest_padded, rest, atol=1e-6, rtol=1e-6)
    th.testing.assert_close(value_padded, value, atol=1e-5, rtol=1e-5)
    if kind == SELECT:
        return
    with th.no_grad():
        actions = large.get_distribution(padded).sample()
        own = th.cat(
            [*(part[:, :k] for part in parts(actions, kind, MOST)[:-1]), parts(actions, kind, MOST)[-1]], dim=1
        )
        chances = [model.evaluate_actions(r, a) for model, r, a in ((small, rows, own), (large, padded, actions))]
    for mine, theirs in zip(*chances, strict=True):  # values, log-probabilities, entropies
        th.testing.assert_close(theirs[some_open], mine[some_open], atol=1e-4, rtol=1e-4)


def test_marks_are_what_differs(name="VenuePolicy"):
    with_marks = {key for key, _ in policy(name, SPLIT, 3, marks=True).named_parameters()}
    without = {key for key, _ in policy(name, SPLIT, 3).named_parameters()}
    assert (
        with_marks - without == {"mlp_extractor.actor.mark", "mlp_extractor.critic.mark"} and not without - with_marks
    )


@pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case[1] != SELECT])
def test_an_exported_policy_answers_the_same(name, kind):
    model, rows = policy(name, kind, MOST), rows_of(3, MOST, 40)
    rows[::2, G + 4 * F :] = 0.0
    exported = OnnxPolicy(onnx_bytes(model))
    expected, _ = model.predict(rows.numpy(), deterministic=True)
    np.testing.assert_allclose(exported.predict(rows.numpy())[0], expected, atol=1e-5)
    np.testing.assert_allclose(exported.predict(rows[0].numpy())[0], expected[0], atol=1e-5)


def test_choices_are_exported_too():
    for kind in (VenuePolicy, MaskableVenuePolicy):
        model, rows = policy(kind.__name__, SELECT, MOST), rows_of(4, MOST, 40)
        rows[:, G + 3 * F :] = 0.0
        masks = {"action_masks": np.ones((40, MOST), bool)} if kind is MaskableVenuePolicy else {}
        answers = OnnxPolicy(onnx_bytes(model)).predict(rows.numpy(), **masks)[0]
        np.testing.assert_array_equal(answers, model.predict(rows.numpy(), deterministic=True, **masks)[0])
        assert answers.max() < 3


def test_a_model_is_saved_and_loaded_for_another_market(tmp_path):
    venv = make_vec_env("OrderSplit-v1", "us_equity", n_envs=2, seed=0)
    model = PPO(VenuePolicy, venv, n_steps=8, batch_size=16, policy_kwargs={"marks": False, "hidden": 8}, device="cpu")
    model.learn(16)
    model.save(tmp_path / "model")
    other = make_vec_env("OrderSplit-v1", "crypto", n_envs=2, seed=0)
    to = {"observation_space": other.observation_space, "action_space": other.action_space}
    loaded = PPO.load(tmp_path / "model", device="cpu", custom_objects=to)
    assert loaded.predict(other.reset())[0].shape == (2, 5)
    with pytest.raises(ValueError, match="use_sde must be False"):
        PPO(VenuePolicy, venv, use_sde=True, policy_kwargs={"marks": False})
