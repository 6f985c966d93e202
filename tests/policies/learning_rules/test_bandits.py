"""Bandits: regrets on stationary arms order as theory says, and keep to its bounds."""

from __future__ import annotations

import numpy as np
import pytest

from sor_sb3.policies.learning_rules.bandits import UCB1, EpsilonGreedy, LinUCB, Thompson
from sor_sb3.policies.learning_rules.risk_aware import Rise, g_optimal_design, products
from tests.policies.golden import GOLDEN

MEANS = np.array([0.5, 0.45, 0.4, 0.3])
GAPS = MEANS.max() - MEANS
NO_FEATURES = np.zeros((1, 1, 0))


def regrets(bandit, rounds: int = 10_000, n: int = 60, seed: int = 0) -> np.ndarray:
    """Mean regret (rounds,) over n lives on Bernoulli arms."""
    rng, draws = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    state, allowed, total = bandit.start(n), np.ones((n, 4), bool), np.zeros(rounds)
    for t in range(rounds):
        arms = bandit.choose(state, allowed, NO_FEATURES, rng)
        state = bandit.learn(state, arms, (draws.random(n) < MEANS[arms]) * 1.0, NO_FEATURES)
        total[t] = GAPS[arms].mean()
    return np.cumsum(total)


def test_regrets_order_as_theory_says():
    """Thompson near the bound of Lai and Robbins, UCB1 below that of Auer et al., epsilon-greedy linear."""
    thompson, ucb, epsilon = (regrets(bandit(4)) for bandit in (Thompson, UCB1, EpsilonGreedy))
    last, rounds = -1, 10_000
    print(thompson[last], ucb[last], epsilon[last])
    kl = MEANS * np.log(MEANS / 0.5) + (1 - MEANS) * np.log((1 - MEANS) / 0.5)
    lai_robbins = (GAPS[1:] / kl[1:]).sum() * np.log(rounds)
    GOLDEN["thompson"].check(thompson_bound=thompson[last] / lai_robbins, to_ucb=thompson[last] / ucb[last])
    auer = (8.0 * np.log(rounds) / GAPS[1:]).sum() + (1 + np.pi**2 / 3) * GAPS.sum()
    second = [1.0 - found[rounds // 2] / found[last] for found in (thompson, ucb)]
    GOLDEN["ucb1"].check(ucb_bound=ucb[last] / auer, ucb_second=second[1])
    assert second[0] < 0.35  # logarithmic too
    rate = (epsilon[last] - epsilon[rounds // 2]) / (rounds // 2) / (EpsilonGreedy.epsilon * GAPS.mean())
    GOLDEN["epsilon_greedy"].check(epsilon_rate=rate)
    assert rate > 0.9  # linear, at that rate at least
    assert epsilon[last] > thompson[last]


def test_a_linear_bandit_uses_what_it_sees():
    """Rewards linear in observed features: LinUCB's regret flattens, that of UCB1 grows linearly."""
    rounds, n, rng = 2000, 20, np.random.default_rng(0)
    theta = rng.normal(size=(3, 4)) * 0.2
    found = {}
    for bandit in (LinUCB(3, 4), UCB1(3)):
        draws, noise, gaps = np.random.default_rng(1), np.random.default_rng(2), np.zeros(rounds)
        state, allowed = bandit.start(n), np.ones((n, 3), bool)
        for t in range(rounds):
            features = draws.normal(size=(n, 3, 4)) * 0.5
            means = 0.5 + (features * theta).sum(axis=2)
            arms = bandit.choose(state, allowed, features, noise)
            mine = means[np.arange(n), arms]
            state = bandit.learn(state, arms, mine - 0.5 + 0.1 * noise.normal(size=n), features)
            gaps[t] = (means.max(axis=1) - mine).mean()
        found[type(bandit)] = gaps
    flat = found[LinUCB][rounds // 2 :].mean() / found[LinUCB][:20].mean()
    GOLDEN["linucb"].check(flat=flat, to_ucb=found[LinUCB].sum() / found[UCB1].sum())


def test_linucb_keeps_the_inverse():
    bandit, rng = LinUCB(2, 3), np.random.default_rng(0)
    state, sums = bandit.start(1), np.eye(3)
    for _ in range(30):
        x = rng.normal(size=(1, 2, 3))
        state = bandit.learn(state, np.array([1]), np.array([0.3]), x)
        sums += np.outer(x[0, 1], x[0, 1])
    np.testing.assert_allclose(state[0][0, 1], np.linalg.inv(sums), atol=1e-9)
    np.testing.assert_array_equal(state[0][0, 0], np.eye(3))


@pytest.mark.parametrize("bandit", [EpsilonGreedy(3), UCB1(3), Thompson(3), LinUCB(3, 2)])
def test_an_arm_that_is_not_allowed_is_never_chosen_and_nothing_heard_teaches_nothing(bandit):
    rng, allowed, features = np.random.default_rng(0), np.array([[True, False, True]] * 200), np.ones((200, 3, 2))
    state = bandit.start(200)
    assert not np.any(bandit.choose(state, allowed, features, rng) == 1)
    after = bandit.learn(state, np.full(200, -1), np.ones(200), features)
    assert all(np.allclose(a, b) for a, b in zip(state, after, strict=True))


# ------------------------------------------------------------------------------------------------------------ RISE


def test_a_g_optimal_design_meets_kiefer_and_wolfowitz():
    """The largest variance is the dimension; of parabolas on a line it is a third each at both ends and the middle."""
    x = np.linspace(-1, 1, 41)
    actions = np.stack([np.ones_like(x), x, x**2], axis=1)
    weights = g_optimal_design(actions, 20_000)
    spread = np.einsum("ai,ij,aj->a", actions, np.linalg.inv(actions.T * weights @ actions), actions)
    assert spread.max() == pytest.approx(3.0, rel=1e-3)
    np.testing.assert_allclose(weights[[0, 20, 40]], 1 / 3, atol=0.01)


def test_rise_finds_mean_and_variance_and_loses_less_than_who_does_not_mind_risk():
    """The venue that is cheapest has the fattest tail. Regret is of mean less risk aversion times variance."""
    mean, sd = np.array([0.60, 0.55, 0.50, 0.30]), np.array([0.60, 0.15, 0.10, 0.10])
    corners = np.eye(4)
    actions = np.concatenate([corners, [(corners[i] + corners[j]) / 2 for i in range(4) for j in range(i)]])
    value = actions @ mean - (actions**2) @ sd**2
    rounds, n, rng = 4000, 20, np.random.default_rng(0)
    found = {}
    for bandit in (Rise(actions, rounds), LinUCB(10, 4), UCB1(10)):
        state, allowed, lost = bandit.start(n), np.ones((n, 10), bool), 0.0
        features = np.broadcast_to(actions, (n, 10, 4))
        for _ in range(rounds):
            if not isinstance(bandit, Rise):
                arms = bandit.choose(state, allowed, features, rng)
            else:
                arms = bandit.choose(state, allowed, rng)
            drawn = ((mean + sd * rng.normal(size=(n, 4))) * actions[arms]).sum(axis=1)
            lost += (value.max() - value[arms]).mean()
            if isinstance(bandit, Rise):
                state = bandit.learn(state, arms, drawn)
            else:
                state = bandit.learn(state, arms, drawn, features)
        found[type(bandit)] = lost
        if isinstance(bandit, Rise):
            means, variances = bandit.estimates(state)
            np.testing.assert_allclose(means.mean(axis=0), actions @ mean, atol=0.05)
            np.testing.assert_allclose(variances.mean(axis=0), actions**2 @ sd**2, atol=0.05)
            assert np.all(value[arms] > value.max() - 0.05)
    print(found)
    GOLDEN["rise"].check(to_others=found[Rise] / min(found[LinUCB], found[UCB1]))


def test_products_are_linear_in_the_covariance():
    rng = np.random.default_rng(0)
    a, s = rng.normal(size=(5, 3)), rng.normal(size=(3, 3))
    s = s @ s.T
    np.testing.assert_allclose(products(a) @ s[np.triu_indices(3)], np.einsum("ai,ij,aj->a", a, s, a))
