"""Simplex distributions: densities, entropies, divergences and draws, against torch's and numerical integration."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch as th
from torch.distributions import Beta, Dirichlet, MultivariateNormal, Normal, kl_divergence

from sor_sb3.algorithms.distributions import LogisticNormal, MaskedDirichlet, SplitAndPace

th.set_num_threads(1)
K = 4
MEAN = th.tensor([0.3, -0.5, 1.1, 0.0], dtype=th.float64)
LOG_STD = th.tensor([-0.4, 0.2, -0.1, 0.3], dtype=th.float64)
CONCENTRATION = th.tensor([1.5, 2.0, 3.5, 1.2], dtype=th.float64)
MASKS = [[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 0]]
FAMILIES = ["logistic_normal", "dirichlet"]


def mask(*rows: list[int]) -> th.Tensor:
    return th.tensor(rows, dtype=th.bool)


def make(family: str, is_open: th.Tensor, shift: float = 0.0, scale: float = 1.0) -> Any:
    n = len(is_open)
    if family == "logistic_normal":
        mean = (MEAN * scale + shift * th.arange(K)).expand(n, K)
        return LogisticNormal(mean, LOG_STD * scale, is_open)
    return MaskedDirichlet((CONCENTRATION * scale + abs(shift)).expand(n, K), is_open)


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
    distribution = make("logistic_normal", mask(is_open))
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


def three(family: str) -> Any:
    is_open = mask([1, 1, 1])
    if family == "logistic_normal":
        return LogisticNormal(th.tensor([[0.2, -0.3, 0.4]]).double(), th.tensor([-0.3, 0.1, -0.2]).double(), is_open)
    return MaskedDirichlet(th.tensor([[1.5, 2.5, 4.0]]).double(), is_open)


@pytest.mark.parametrize("family", FAMILIES)
def test_density_integrates_to_one_over_the_simplex(family):
    distribution = three(family)
    log_prob = distribution.log_prob_simplex if family == "logistic_normal" else distribution.log_prob
    assert grid_mean(lambda w: log_prob(w).exp()) == pytest.approx(1.0, abs=2e-4)


def test_entropies_by_integration():
    dirichlet = three("dirichlet")
    integral = grid_mean(lambda w: -dirichlet.log_prob(w) * dirichlet.log_prob(w).exp())
    assert float(dirichlet.entropy()) == pytest.approx(integral, abs=2e-3)
    normal = three("logistic_normal")
    integral = grid_mean(lambda w: -normal.log_prob(w) * normal.log_prob_simplex(w).exp())
    assert float(normal.entropy()) == pytest.approx(integral, abs=2e-3)


@pytest.mark.parametrize("is_open", MASKS)
def test_dirichlet_is_torchs_over_the_open_venues(is_open):
    venues = [k for k in range(K) if is_open[k]]
    theirs = Dirichlet(CONCENTRATION[venues])
    ours = make("dirichlet", mask(is_open))
    weights = ours.rsample((50,)).squeeze(1)
    th.testing.assert_close(ours.log_prob(weights), theirs.log_prob(weights[:, venues]))
    th.testing.assert_close(ours.entropy()[0], theirs.entropy())
    th.testing.assert_close(ours.mode[0, venues], theirs.mode)


def test_mode_where_some_concentrations_are_one():
    some = MaskedDirichlet(th.tensor([[1.0, 3.0, 1.0, 2.0]]), mask([1, 1, 1, 1]))
    th.testing.assert_close(some.mode, th.tensor([[0.0, 2 / 3, 0.0, 1 / 3]]))
    flat = MaskedDirichlet(th.ones(1, K), mask([1, 1, 1, 1]))  # no mode: the mean
    th.testing.assert_close(flat.mode, th.full((1, K), 1 / K))
    below = MaskedDirichlet(th.tensor([[0.5, 1.5, 1.0, 1.0]]), mask([1, 1, 1, 1]))
    th.testing.assert_close(below.mode, th.tensor([[0.125, 0.375, 0.25, 0.25]]))


@pytest.mark.parametrize("is_open", MASKS)
def test_divergences(is_open):
    venues = [k for k in range(K) if is_open[k]]
    one, other = (make("dirichlet", mask(is_open), shift) for shift in (0.0, 0.7))
    theirs = [Dirichlet(CONCENTRATION[venues] + shift) for shift in (0.0, 0.7)]
    th.testing.assert_close(kl_divergence(one, other)[0], kl_divergence(*theirs))

    one, other = (make("logistic_normal", mask(is_open), shift, 1 + shift) for shift in (0.0, 0.4))
    ref, *others = venues
    normals = []
    for shift in (0.0, 0.4):
        mean, variance = MEAN * (1 + shift) + shift * th.arange(K), th.exp(2 * LOG_STD * (1 + shift))
        covariance = th.diag(variance[others]) + variance[ref]
        normals.append(MultivariateNormal(mean[others] - mean[ref], covariance))
    th.testing.assert_close(kl_divergence(one, other)[0], kl_divergence(*normals))
    th.testing.assert_close(kl_divergence(one, one)[0], th.zeros((), dtype=th.float64), atol=1e-12, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_draws_follow_the_density(family):
    th.manual_seed(0)
    distribution = three(family)
    draws = distribution.rsample((20_000,)).squeeze(1)
    th.testing.assert_close(draws.sum(dim=1), th.ones(20_000, dtype=th.float64))
    density = distribution.log_prob_simplex if family == "logistic_normal" else distribution.log_prob
    for k in range(3):
        for power in (1, 2):
            expected = grid_mean(lambda w, k=k, power=power: w[:, k] ** power * density(w).exp())
            assert float((draws[:, k] ** power).mean()) == pytest.approx(expected, abs=5e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_venues_get_nothing_and_certain_rows_are_not_random(family):
    is_open = mask([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0])
    distribution = make(family, is_open)
    for weights in (distribution.rsample((100,)), distribution.mode.unsqueeze(0)):
        assert (weights[:, ~is_open & is_open.any(1, keepdim=True)] == 0).all()
        np.testing.assert_allclose(weights.sum(-1), 1.0, atol=1e-12)
        np.testing.assert_array_equal(weights[:, 2], np.eye(K)[[2] * len(weights)])
        assert (weights[:, 3] == 1 / K).all()
        log_prob = distribution.log_prob(weights[0])
        assert th.isfinite(log_prob).all()
        assert (log_prob[2:] == 0).all()
    assert (distribution.entropy()[2:] == 0).all()
    assert (kl_divergence(distribution, make(family, is_open, 0.5))[2:] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_are_finite_wherever_venues_are_closed(family):
    is_open = mask([1, 1, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0])
    parameter = th.rand(4, K, requires_grad=True)
    spread = th.zeros(K, requires_grad=True)
    if family == "logistic_normal":
        distribution: Any = LogisticNormal(parameter, spread, is_open)
    else:
        distribution = MaskedDirichlet(1 + parameter * spread.exp(), is_open)
    with th.no_grad():
        weights = distribution.rsample()
    loss = distribution.log_prob(weights).sum() + distribution.entropy().sum() + distribution.rsample().square().sum()
    loss.backward()
    assert th.isfinite(parameter.grad).all()
    assert th.isfinite(spread.grad).all()
    assert (parameter.grad[~is_open] == 0).all()
    assert (parameter.grad[2:] == 0).all()
    assert (parameter.grad[:2][is_open[:2]] != 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_weight_of_zero_is_no_infinity(family):
    distribution = make(family, mask([1, 1, 1, 1]))
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


def pair(family: str, value: float) -> Any:
    both = mask([1, 1])
    if family == "logistic_normal":
        return LogisticNormal(th.tensor([[value, 0.0]]).double(), th.tensor([-0.2]).double(), both)
    return MaskedDirichlet(th.tensor([[value, 2.0]]).double(), both)


@pytest.mark.parametrize("family", FAMILIES)
def test_pace_is_independent_of_the_split(family):
    split, pace = make(family, mask([1, 0, 1, 1])), pair(family, 1.5)
    both = SplitAndPace(split, pace)
    actions = both.rsample((200,)).squeeze(1)
    assert actions.shape == (200, K + 1)
    assert ((actions[:, -1] > -1) & (actions[:, -1] < 1)).all()
    share = (actions[:, -1] + 1) / 2
    theirs: Beta | Normal
    if family == "dirichlet":
        theirs = Beta(th.tensor(1.5).double(), th.tensor(2.0).double())
        expected = theirs.log_prob(share)
    else:  # its log-odds are the difference of two Gaussians
        spread = math.sqrt(2) * math.exp(-0.2)
        theirs = Normal(th.tensor(1.5).double(), th.tensor(spread).double())
        expected = theirs.log_prob(th.logit(share))
    th.testing.assert_close(both.log_prob(actions), split.log_prob(actions[:, :-1]) + expected)
    th.testing.assert_close(both.entropy()[0], split.entropy()[0] + theirs.entropy())
    other = SplitAndPace(make(family, mask([1, 0, 1, 1]), 0.3), pair(family, 2.5))
    expected_kl = kl_divergence(split, other.split) + kl_divergence(pace, other.pace)
    th.testing.assert_close(kl_divergence(both, other), expected_kl)


@pytest.mark.parametrize("family", FAMILIES)
def test_mode_has_the_paces_mode_last(family):
    mode = SplitAndPace(make(family, mask([1, 1, 1, 1])), pair(family, 3.0)).mode
    expected = 1 / (1 + math.exp(-3.0)) if family == "logistic_normal" else 2 / 3  # (3 - 1) / (3 + 2 - 2)
    assert float(mode[0, -1]) == pytest.approx(2 * expected - 1)


@pytest.mark.parametrize("value", [-1.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_pace_at_the_edge_is_no_infinity(family, value):
    both = SplitAndPace(make(family, mask([1, 1, 1, 1])), pair(family, 3.0))
    actions = th.tensor([[0.25, 0.25, 0.25, 0.25, value]], dtype=th.float64)
    assert th.isfinite(both.log_prob(actions)).all()
