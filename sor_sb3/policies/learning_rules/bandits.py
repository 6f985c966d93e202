"""Bandits that choose one venue a round and hear its reward in [0, 1]: epsilon-greedy, UCB1, Thompson sampling, LinUCB.

Auer, Cesa-Bianchi, Fischer, Machine Learning 47 (2002) 235-256, doi:10.1023/A:1013689704352 (UCB1, epsilon-greedy);
Thompson, Biometrika 25 (1933), and Agrawal and Goyal, AISTATS 2013; Li, Chu, Langford, Schapire, WWW 2010,
doi:10.1145/1772690.1772758 (LinUCB).
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from sor_sb3.policies.learning_rules import State


class Bandit(ABC):
    """Chooses arms by scores: ``argmax`` over those allowed, ties to the first."""

    def __init__(self, n_arms: int, n_features: int = 0) -> None:
        self.n_arms, self.n_features = n_arms, n_features

    def start(self, n: int) -> State:
        """How often each arm was chosen and its sum of rewards, both (n, K)."""
        return np.zeros((n, self.n_arms)), np.zeros((n, self.n_arms))

    @abstractmethod
    def scores(self, state: State, features: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Of every arm (n, K), from `features` (n, K, d) where the bandit asks for some."""

    def choose(
        self, state: State, allowed: np.ndarray, features: np.ndarray, rng: np.random.Generator | None
    ) -> np.ndarray:
        """The arm (n,) of the largest score among those allowed, bool (n, K)."""
        return np.argmax(np.where(allowed, self.scores(state, features, rng), -np.inf), axis=1)

    def learn(self, state: State, arms: np.ndarray, rewards: np.ndarray, features: np.ndarray) -> State:
        """Count rewards (n,) of arms (n,); where an arm is -1 nothing was heard."""
        chosen = arms[:, None] == np.arange(self.n_arms)
        return state[0] + chosen, state[1] + chosen * rewards[:, None]


def _means(state: State) -> np.ndarray:
    """Mean reward (n, K), 1 of an arm that was never chosen: optimism, so that each is tried."""
    return np.divide(state[1], state[0], out=np.ones_like(state[1]), where=state[0] > 0.0)


class EpsilonGreedy(Bandit):
    """The best mean so far, with chance `epsilon` an arm at random: regret is linear, ``epsilon mean(gap) T``."""

    epsilon = 0.1

    def scores(self, state: State, features: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Means, or draws."""
        means = _means(state)
        if rng is None:
            return means
        explores = rng.random((len(means), 1)) < self.epsilon
        return np.where(explores, 2.0 + rng.random(means.shape), means)


class UCB1(Bandit):
    """``mean_k + sqrt(2 ln t / n_k)``. The regret is at most ``8 sum_k ln T / gap_k + (1 + pi^2 / 3) sum_k gap_k``."""

    def scores(self, state: State, features: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Upper confidence bounds; means without a generator."""
        means = _means(state)
        if rng is None:
            return means
        total = np.maximum(state[0].sum(axis=1, keepdims=True), 1.0)
        width = np.sqrt(2.0 * np.log(total) / np.maximum(state[0], 1e-12))
        return np.where(state[0] > 0.0, means + width, np.inf)


class Thompson(Bandit):
    """A draw of each mean from ``Beta(1 + rewards, 1 + n - rewards)``; regret meets Lai and Robbins' bound."""

    def scores(self, state: State, features: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Draws; posterior means without a generator."""
        a, b = 1.0 + state[1], 1.0 + np.maximum(state[0] - state[1], 0.0)
        return a / (a + b) if rng is None else rng.beta(a, b)


class LinUCB(Bandit):
    """``theta_k' x + alpha sqrt(x' A_k^-1 x)`` with ``A_k = I + sum x x'`` and ``theta_k = A_k^-1 sum x reward``."""

    alpha = 0.5

    def start(self, n: int) -> State:
        """Inverses of A_k (n, K, d, d) and sums of rewards times features (n, K, d)."""
        inverse = np.tile(np.eye(self.n_features), (n, self.n_arms, 1, 1))
        return inverse, np.zeros((n, self.n_arms, self.n_features))

    def scores(self, state: State, features: np.ndarray, rng: np.random.Generator | None) -> np.ndarray:
        """Upper confidence bounds; linear means without a generator."""
        theta = np.einsum("nkij,nkj->nki", *state)
        means = (theta * features).sum(axis=2)
        if rng is None:
            return means
        spread = np.einsum("nki,nkij,nkj->nk", features, state[0], features)
        return means + self.alpha * np.sqrt(np.maximum(spread, 0.0))

    def learn(self, state: State, arms: np.ndarray, rewards: np.ndarray, features: np.ndarray) -> State:
        """Add x x' and x reward to the chosen arm, by Sherman and Morrison."""
        chosen = arms[:, None] == np.arange(self.n_arms)
        x = features * chosen[:, :, None]
        ax = np.einsum("nkij,nkj->nki", state[0], x)
        scale = 1.0 / (1.0 + (x * ax).sum(axis=2))
        inverse = state[0] - ax[..., :, None] * ax[..., None, :] * scale[..., None, None]
        return inverse, state[1] + x * rewards[:, None, None]
