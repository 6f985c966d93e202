"""Splits of equal parts that stay together: the distribution, and the policy that draws them."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from sor_sb3.algorithms.distributions import DirichletMultinomial
from sor_sb3.algorithms.policies import SplitPolicy
from sor_sb3.envs.observation import MARKET_FEATURES, VENUE_FEATURES, ObservationView
from sor_sb3.envs.sb3_vec_env import make_vec_env
from sor_sb3.market.loading import load_market

th.set_num_threads(1)
ALL_OPEN = th.ones(1, 3, dtype=th.bool)
LOGITS = th.tensor([[0.5, -1.0, 0.2]])


def split_policy(env: str = "OrderSplit-v1", market: str = "us_equity", **kwargs: Any) -> tuple[SplitPolicy, Any]:
    venv = make_vec_env(env, market, 16, seed=3)
    return SplitPolicy(venv.observation_space, venv.action_space, lambda _: 1e-3, **kwargs), venv


@given(
    logits=st.lists(st.floats(-4, 4), min_size=3, max_size=3),
    parts=st.integers(1, 4),
    concentration=st.floats(0.1, 50),
)
@settings(deadline=None)
def test_chances_of_all_sequences_sum_to_one(logits: list[float], parts: int, concentration: float) -> None:
    split = DirichletMultinomial(th.tensor([logits], dtype=th.float64), ALL_OPEN, parts, concentration)
    total, mean = 0.0, np.zeros(3)
    for sequence in itertools.product(range(3), repeat=parts):
        weights = np.bincount(sequence, minlength=3) / parts
        chance = math.exp(split.log_prob(th.tensor(weights[None])).item())
        total, mean = total + chance, mean + chance * weights
    assert total == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(mean, split.mean[0].numpy(), atol=1e-6)


def test_draws_have_the_mean_and_the_variance_of_the_formula() -> None:
    """Variance of a weight: m (1 - m) / N times (N + c) / (1 + c), Mosimann 1962."""
    th.manual_seed(0)
    parts, concentration = 10, 2.0
    split = DirichletMultinomial(LOGITS, ALL_OPEN, parts, concentration)
    draws = split.sample((40_000,))[:, 0].numpy()
    mean = split.mean[0].numpy()
    expected = mean * (1 - mean) / parts * (parts + concentration) / (1 + concentration)
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=4 * np.sqrt(expected.max() / 40_000))
    np.testing.assert_allclose(draws.var(axis=0), expected, rtol=0.04)
    np.testing.assert_allclose(draws.sum(axis=1), 1.0, atol=1e-6)


def test_parts_stay_together_the_more_the_smaller_the_concentration() -> None:
    th.manual_seed(0)
    largest = []
    for concentration in (0.01, 2.0, 500.0):
        draws = DirichletMultinomial(LOGITS, ALL_OPEN, 10, concentration).sample((2000,))
        largest.append(draws.amax(dim=-1).mean().item())
    assert largest[0] > 0.97 > largest[1] > largest[2] + 0.1


def test_closed_venues_get_nothing_and_none_open_is_a_wait() -> None:
    is_open = th.tensor([[True, False, True], [False, True, False], [False, False, False]])
    split = DirichletMultinomial(LOGITS.repeat(3, 1), is_open, 10, 2.0)
    draws = split.sample((200,))
    assert (draws[:, 0, 1] == 0.0).all()
    np.testing.assert_array_equal(draws[:, 1], np.tile([0.0, 1.0, 0.0], (200, 1)))
    np.testing.assert_allclose(draws[:, 2], 1 / 3)
    log_prob = split.log_prob(draws[0])
    assert log_prob[0] < 0.0 and (log_prob[1:] == 0.0).all() and (split.entropy()[1:] == 0.0).all()


def test_gradients_are_finite_where_a_venue_has_no_chance() -> None:
    logits = th.tensor([[200.0, -200.0, 0.0], [0.0, 0.0, -300.0]], requires_grad=True)
    split = DirichletMultinomial(logits, th.tensor([[True, True, False], [True, True, True]]), 10, 2.0)
    (split.log_prob(split.sample()).sum() + split.entropy().sum()).backward()
    assert logits.grad is not None and th.isfinite(logits.grad).all()


def test_divergence_is_zero_of_itself_and_bounds_that_of_the_draws() -> None:
    th.manual_seed(0)
    p = DirichletMultinomial(LOGITS, ALL_OPEN, 10, 2.0)
    q = DirichletMultinomial(LOGITS + th.tensor([[0.3, 0.0, -0.3]]), ALL_OPEN, 10, 2.0)
    assert th.distributions.kl_divergence(p, p).item() == pytest.approx(0.0, abs=1e-6)
    draws = p.sample((20_000,))
    of_draws = (p.log_prob(draws) - q.log_prob(draws)).mean().item()
    assert 0.0 < of_draws < th.distributions.kl_divergence(p, q).item()


@pytest.mark.parametrize("env", ["OrderSplit-v1", "OrderExecute-v1"])
def test_an_untrained_policy_splits_as_displays_do_and_tries_dark_pools_at_the_schedules_pace(env: str) -> None:
    policy, venv = split_policy(env)
    rows = venv.reset()
    actions, _ = policy.predict(rows, deterministic=True)
    view = ObservationView.of(rows, load_market("us_equity"))
    share = view.sweep_share / view.sweep_share.max(axis=1, keepdims=True) + view.dark  # pools are tried first
    share /= share.sum(axis=1, keepdims=True)
    assert np.abs(actions[:, : share.shape[1]] - share).max() < 0.1
    if env == "OrderExecute-v1":
        np.testing.assert_allclose((actions[:, -1] + 1) / 2, view.pace, atol=0.02)


def test_a_policy_without_a_prior_holds_all_venues_alike() -> None:
    policy, venv = split_policy(prior=False)
    actions, _ = policy.predict(venv.reset(), deterministic=True)
    is_open = ObservationView.of(venv.reset(), load_market("us_equity")).open
    assert np.ptp(actions[:, is_open.all(axis=0)], axis=1).max() < 1e-6


def test_what_is_left_scales_the_value() -> None:
    policy, venv = split_policy()
    rows = th.as_tensor(venv.reset())
    none_left = rows.clone()
    none_left[:, MARKET_FEATURES.index("remaining")] = 0.0
    with th.no_grad():
        values = policy.predict_values(none_left)
        np.testing.assert_allclose(values.numpy(), policy.value_net.bias.item(), atol=1e-6)


def test_the_policy_refuses_what_it_cannot_weigh() -> None:
    observations = spaces.Box(-np.inf, np.inf, (len(MARKET_FEATURES) + 3 * len(VENUE_FEATURES),), np.float32)
    with pytest.raises(ValueError, match="SplitPolicy gives weights over venues"):
        SplitPolicy(observations, spaces.Discrete(3), lambda _: 1e-3)
    with pytest.raises(ValueError, match="SplitPolicy gives no weights of what rests"):
        SplitPolicy(observations, spaces.Box(-1, 1, (7,)), lambda _: 1e-3)
