"""Ji, Xu, Zhu: a linear bandit under mean and variance, explore then commit (RISE).

An action a earns ``a' theta_t``, theta_t drawn anew each round with mean theta and covariance S. Of all actions the
one of the largest ``a' theta - risk_aversion a' S a`` is sought. RISE explores a fixed number of rounds by a G-optimal
design, which makes the largest variance of the least-squares estimates smallest, and commits to the action that then
looks best. Risk-aware linear bandits: theory and applications in smart order routing, arXiv:2208.02389 (2022, v3
2026). Only the abstract was at hand when this was written: the lengths and the estimate of S below are our own reading
of it.
"""

from __future__ import annotations

import numpy as np

from sor_sb3.policies.learning_rules import State


def g_optimal_design(actions: np.ndarray, rounds: int = 2000) -> np.ndarray:
    """Weights (A,) on actions (A, d) for which ``max_a a' M^-1 a`` is least, ``M = sum_a w_a a a'``.

    Kiefer and Wolfowitz (1960): this least value is d (or the rank, where actions do not span), and the design is the
    one of the largest determinant, which multiplicative steps ``w_a <- w_a a' M^-1 a / d`` reach (Titterington 1976).

    >>> g_optimal_design(np.eye(3)).round(6).tolist()
    [0.333333, 0.333333, 0.333333]
    """
    weights, rank = np.full(len(actions), 1.0 / len(actions)), np.linalg.matrix_rank(actions)
    for _ in range(rounds):
        spread = np.einsum("ai,ij,aj->a", actions, np.linalg.pinv(actions.T * weights @ actions), actions)
        if spread.max() <= rank * (1.0 + 1e-4):
            break
        weights *= spread / rank
        weights /= weights.sum()
    return weights


def products(actions: np.ndarray) -> np.ndarray:
    """Features (A, d (d + 1) / 2) in which ``a' S a`` is linear: squares and double products."""
    i, j = np.triu_indices(actions.shape[1])
    return actions[:, i] * actions[:, j] * np.where(i == j, 1.0, 2.0)


class Rise:
    """Explore by half a design for the mean and half a design for the variance, then commit.

    Of `rounds` T the first ``min(T / 2, A T^(2/3) / d)`` explore, at least each action of the designs twice: of order
    T^(2/3), as the regret is.
    """

    def __init__(self, actions: np.ndarray, rounds: int, risk_aversion: float = 1.0) -> None:
        self.actions, self.rounds, self.risk_aversion = actions, rounds, risk_aversion
        self.features = products(actions)
        self.design = 0.5 * g_optimal_design(actions, 200) + 0.5 * g_optimal_design(self.features, 200)
        wanted = max(rounds ** (2.0 / 3.0) * len(actions) / actions.shape[1], 2.0 * len(actions))
        self.explore_rounds = int(min(wanted, rounds / 2))

    def start(self, n: int) -> State:
        """How often each action was taken, sums of rewards and of their squares, and scores, all (n, A).

        Scores are what the learner commits to, once it has explored.
        """
        return tuple(np.zeros((n, len(self.actions))) for _ in range(4))

    def estimates(self, state: State) -> tuple[np.ndarray, np.ndarray]:
        """Estimated mean and variance (n, A) of every action's reward, by least squares on what was seen."""
        count, total, squares, _ = state
        theta = _least_squares(self.actions, count, total)
        mean = theta @ self.actions.T
        residual = squares - 2.0 * mean * total + count * mean**2
        variance = _least_squares(self.features, count, residual) @ self.features.T
        return mean, np.maximum(variance, 0.0)

    def choose(self, state: State, allowed: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """The action (n,) of those allowed, bool (n, A): by the design, and from `explore_rounds` on the best.

        Without a generator the best.
        """
        seen = state[0].sum(axis=1, keepdims=True)
        explores, scores = seen < self.explore_rounds, state[3]
        if explores.any():
            now = self._scores(state) if rng is None else (seen + 1.0) * self.design - state[0]
            scores = np.where(explores, now, scores)
        return np.argmax(np.where(allowed, scores, -np.inf), axis=1)

    def _scores(self, state: State) -> np.ndarray:
        mean, variance = self.estimates(state)
        return mean - self.risk_aversion * variance

    def learn(self, state: State, chosen: np.ndarray, rewards: np.ndarray) -> State:
        """Count rewards (n,) of actions (n,) while exploring; where an action is -1 nothing was heard."""
        explores = state[0].sum(axis=1, keepdims=True) < self.explore_rounds
        mark = (chosen[:, None] == np.arange(len(self.actions))) & explores
        rewards = rewards[:, None]
        after = (state[0] + mark, state[1] + mark * rewards, state[2] + mark * rewards**2, state[3])
        commits = explores & (after[0].sum(axis=1, keepdims=True) >= self.explore_rounds)
        return (*after[:3], np.where(commits, self._scores(after), state[3])) if commits.any() else after


def _least_squares(features: np.ndarray, count: np.ndarray, total: np.ndarray) -> np.ndarray:
    """Coefficients (n, d) of sums `total` (n, A) over `count` (n, A) observations, the least ones where many fit."""
    moments = np.einsum("na,ai,aj->nij", count, features, features)
    return np.einsum("nij,nj->ni", np.linalg.pinv(moments, rcond=1e-9, hermitian=True), total @ features)
