"""Simplex distributions: densities, entropies, divergences and draws, against torch's and numerical integration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch as th
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from sor_sb3.algorithms.distributions import LogisticNormal, SplitAndPace

th.set_num_threads(1)
K = 4
MEAN = th.tensor([0.3, -0.5, 1.1, 0.0], dtype=th.float64)
LOG_STD = th.tensor([-0.4, 0.2, -0.1, 0.3], dtype=th.float64)
MASKS = [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]


def mask(*rows: list[int]) -> th.Tensor:
    return th.tensor(rows, dtype=th.bool)


def make(is_open: th.Tensor, shift: float = 0.0, scale: float = 1.0) -> LogisticNormal:
    mean = (MEAN * scale + shift * th.arange(K)).expand(len(is_open), K)
    return LogisticNormal(mean, LOG_STD * scale, is_open)


def log_ratio_normal(is_open: list[int], reference: int) -> tuple[MultivariateNormal, list[int]]:
    """What the log-ratios to one open venue follow, by the rules for differences of Gaussians."""
    venues = [k for k in range(K) if is_open[k]]
    others = [k for k in venues if k != venues[reference]]
    ref = venues[reference]
    variance = th.exp(2 * LOG_STD)
    covariance = th.diag(variance[others]) + variance[ref]
    return MultivariateNormal(MEAN[others] - MEAN[ref], covariance), [ref, *others]


@pytest.mark.parametrize("reference", [0, 1])
@pytest.mark.parametrize("is_open", MASKS)
def test_logistic_normal_is_gaussian_in_log_ratios(is_open, reference):
    normal, (ref, *others) = log_ratio_normal(is_open, reference)
    distribution = make(mask(is_open))
    weights = distribution.rsample((50,)).squeeze(1)
    ratios = weights[:, others].log() - weights[:, [ref]].log()
    th.testing.assert_close(distribution.log_prob(weights), normal.log_prob(ratios))
    th.testing.assert_close(distribution.entropy()[0], normal.entropy())


def grid_mean(function: Any, n: int = 400) -> float:
    """Integral over the simplex of three venues by midpoints in the unit square, (u, (1 - u) v)."""
    u = (th.arange(n, dtype=th.float64) + 0.5) / n
    first, share = th.meshgrid(u, u, indexing="ij")
    w1, w2 = first.ravel(), ((1 - first) * share).ravel()
    weights = th.stack([w1, w2, 1 - w1 - w2], dim=1)
    return float((function(weights) * (1 - w1)).sum() / n**2)


def three() -> LogisticNormal:
    mean, log_std = th.tensor([[0.2, -0.3, 0.4]]).double(), th.tensor([-0.3, 0.1, -0.2]).double()
    return LogisticNormal(mean, log_std, mask([1, 1, 1]))


def test_density_integrates_to_one_over_the_simplex():
    assert grid_mean(lambda w: three().log_prob_simplex(w).exp()) == pytest.approx(1.0, abs=2e-4)


def test_entropy_by_integration():
    normal = three()
    integral = grid_mean(lambda w: -normal.log_prob(w) * normal.log_prob_simplex(w).exp())
    assert float(normal.entropy()) == pytest.approx(integral, abs=2e-3)


@pytest.mark.parametrize("is_open", MASKS)
def test_divergences(is_open):
    venues = [k for k in range(K) if is_open[k]]
    one, other = (make(mask(is_open), shift, 1 + shift) for shift in (0.0, 0.4))
    ref, *others = venues
    normals = []
    for shift in (0.0, 0.4):
        mean, variance = MEAN * (1 + shift) + shift * th.arange(K), th.exp(2 * LOG_STD * (1 + shift))
        covariance = th.diag(variance[others]) + variance[ref]
        normals.append(MultivariateNormal(mean[others] - mean[ref], covariance))
    th.testing.assert_close(kl_divergence(one, other)[0], kl_divergence(*normals))
    th.testing.assert_close(kl_divergence(one, one)[0], th.zeros((), dtype=th.float64), atol=1e-12, rtol=0)


def test_draws_follow_the_density():
    th.manual_seed(0)
    distribution = three()
    draws = distribution.rsample((20_000,)).squeeze(1)
    th.testing.assert_close(draws.sum(dim=1), th.ones(20_000, dtype=th.float64))
    density = distribution.log_prob_simplex
    for k in range(3):
        for power in (1, 2):
            expected = grid_mean(lambda w, k=k, power=power: w[:, k] ** power * density(w).exp())
            assert float((draws[:, k] ** power).mean()) == pytest.approx(expected, abs=5e-3)


def test_closed_venues_get_nothing_and_certain_rows_are_not_random():
    is_open = mask([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0])
    distribution = make(is_open)
    for weights in (distribution.rsample((100,)), distribution.mode.unsqueeze(0)):
        assert (weights[:, ~is_open & is_open.any(1, keepdim=True)] == 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-12)
        np.testing.assert_array_equal(weights[:, 2], np.eye(K)[[2] * len(weights)])
        assert (weights[:, 3] == 1 / K).all()
        log_prob = distribution.log_prob(weights[0])
        assert th.isfinite(log_prob).all()
        assert (log_prob[2:] == 0).all()
    assert (distribution.entropy()[2:] == 0).all()
    assert (kl_divergence(distribution, make(is_open, 0.5))[2:] == 0).all()


def test_gradients_are_finite_wherever_venues_are_closed():
    is_open = mask([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0])
    parameter = th.rand(4, K, requires_grad=True)
    spread = th.zeros(K, requires_grad=True)
    distribution = LogisticNormal(parameter, spread, is_open)
    with th.no_grad():
        weights = distribution.rsample()
    loss = distribution.log_prob(weights).sum() + distribution.entropy().sum() + distribution.rsample().square().sum()
    loss.backward()
    assert th.isfinite(parameter.grad).all()
    assert th.isfinite(spread.grad).all()
    assert (parameter.grad[~is_open] == 0).all()
    assert (parameter.grad[2:] == 0).all()
    assert (parameter.grad[:2][is_open[:2]] != 0).all()


def test_a_weight_of_zero_is_no_infinity():
    distribution = make(mask([1, 1, 1, 1]))
    weights = th.tensor([[0.0, 0.5, 0.5, 0.0]], dtype=th.float64)
    assert th.isfinite(distribution.log_prob(weights)).all()


def test_log_probability_is_the_score_function_of_the_mean():
    """E[grad log p] = 0, which holds for a density and for nothing else."""
    th.manual_seed(1)
    mean = MEAN.clone().requires_grad_()
    log_std = LOG_STD.clone().requires_grad_()
    distribution = LogisticNormal(mean.expand(1, K), log_std, mask([1, 1, 0, 1]))
    weights = distribution.rsample((40_000,)).detach().squeeze(1)
    distribution.log_prob(weights).mean().backward()
    assert mean.grad is not None
    assert mean.grad.abs().max() < 0.03
    assert log_std.grad is not None
    assert log_std.grad.abs().max() < 0.03


# --- a pace beside the split


def pair(value: float) -> LogisticNormal:
    return LogisticNormal(th.tensor([[value, 0.0]]).double(), th.tensor([-0.2]).double(), mask([1, 1]))


def test_pace_is_independent_of_the_split():
    split, pace = make(mask([1, 0, 1, 1])), pair(1.5)
    both = SplitAndPace(split, pace)
    actions = both.rsample((200,)).squeeze(1)
    assert actions.shape == (200, K + 1)
    assert ((actions[:, -1] > -1) & (actions[:, -1] < 1)).all()
    share = (actions[:, -1] + 1) / 2
    spread = math.sqrt(2) * math.exp(-0.2)  # its log-odds are the difference of two Gaussians
    theirs = Normal(th.tensor(1.5).double(), th.tensor(spread).double())
    expected = theirs.log_prob(th.logit(share))
    th.testing.assert_close(both.log_prob(actions), split.log_prob(actions[:, :-1]) + expected)
    th.testing.assert_close(both.entropy()[0], split.entropy()[0] + theirs.entropy())
    other = SplitAndPace(make(mask([1, 0, 1, 1]), 0.3), pair(2.5))
    expected_kl = kl_divergence(split, other.split) + kl_divergence(pace, other.pace)
    th.testing.assert_close(kl_divergence(both, other), expected_kl)


def test_mode_has_the_paces_mode_last():
    mode = SplitAndPace(make(mask([1, 1, 1, 1])), pair(3.0)).mode
    expected = 1 / (1 + math.exp(-3.0))
    assert float(mode[0, -1]) == pytest.approx(2 * expected - 1)


@pytest.mark.parametrize("value", [-1.0, 1.0])
def test_a_pace_at_the_edge_is_no_infinity(value):
    both = SplitAndPace(make(mask([1, 1, 1, 1])), pair(3.0))
    actions = th.tensor([[0.25, 0.25, 0.25, 0.25, value]], dtype=th.float64)
    assert th.isfinite(both.log_prob(actions)).all()
